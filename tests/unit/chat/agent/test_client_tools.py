"""What a client calls a tool becomes one, or nothing."""

from typing import Any

import pytest

from tailrace.chat.agent.client_tools import tool_definitions

SCHEMA = {"type": "object", "properties": {"place": {"type": "string"}}}
TOOL = {"name": "open_map", "description": "Shows it.", "parameters": SCHEMA}


@pytest.mark.parametrize("told", [TOOL, {"type": "function", **TOOL}, {"type": "function", "function": TOOL}])
def test_each_protocol_says_it_its_own_way(told: dict[str, Any]) -> None:
    (tool,) = tool_definitions([told])

    assert (tool.name, tool.description, tool.parameters_json_schema) == ("open_map", "Shows it.", SCHEMA)


def test_a_name_is_enough() -> None:
    (tool,) = tool_definitions([{"name": "beep"}])

    assert tool.parameters_json_schema == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    "told",
    [{}, {"name": ""}, {"name": "a b"}, {"name": "x" * 65}, {"name": 7}, {"type": "web_search"}, {"function": "x"}],
)
def test_what_no_provider_takes_is_left_out(told: dict[str, Any]) -> None:
    assert tool_definitions([told]) == []


def test_a_tool_of_the_server_is_not_replaced() -> None:
    tools = tool_definitions([{"name": "calculator"}, {"name": "beep"}], taken={"calculator"})

    assert [tool.name for tool in tools] == ["beep"]


def test_there_is_one_tool_of_a_name_and_not_too_many() -> None:
    told = [{"name": "beep", "description": "first"}, {"name": "beep"}, *({"name": f"t{n}"} for n in range(1000))]

    tools = tool_definitions(told)

    assert len(tools) == len({tool.name for tool in tools}) == 64
    assert tools[0].description == "first"
