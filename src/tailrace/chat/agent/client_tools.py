"""Tools of the page that asks: the model may call them, and the page runs them.

https://docs.ag-ui.com/concepts/tools · https://platform.openai.com/docs/guides/function-calling
"""

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import ExternalToolset

from tailrace.chat.agent.tools.contract import ToolContext

__all__ = ["client_toolset", "tool_definitions"]

#: What every provider takes as a name.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MOST = 64
_DESCRIPTION_CHARACTERS = 4_000
_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


class _Tool(msgspec.Struct):
    """A tool as AG-UI and OpenAI's Responses have it; chat completions have the same in `function`."""

    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    function: "_Tool | None" = None


def client_toolset(
    tools: Iterable[dict[str, Any]], *, taken: AbstractSet[str] = frozenset()
) -> ExternalToolset[ToolContext]:
    """The tools as a toolset that nobody here executes; see `tool_definitions`."""
    return ExternalToolset(tool_definitions(tools, taken=taken))


def tool_definitions(tools: Iterable[dict[str, Any]], *, taken: AbstractSet[str] = frozenset()) -> list[ToolDefinition]:
    """What a client describes as tools, without what no provider takes, and each name once.

    Args:
        tools: As the client's protocol has them.
        taken: Names of the server's own tools, which are not for a client to replace.
    """
    found: dict[str, ToolDefinition] = {}
    for raw in tools:
        try:
            told = msgspec.convert(raw, _Tool)
        except (msgspec.ValidationError, RecursionError):
            continue
        tool = told.function or told
        if _NAME.fullmatch(tool.name) and tool.name not in taken and len(found) < _MOST:
            found.setdefault(
                tool.name,
                ToolDefinition(
                    name=tool.name,
                    description=(tool.description or "")[:_DESCRIPTION_CHARACTERS],
                    parameters_json_schema=tool.parameters or _NO_PARAMETERS,
                ),
            )
    return list(found.values())
