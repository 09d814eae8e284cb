"""What a message asks for, in many wordings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.chat.agent.planner import Result, next_prompts, plan
from tailrace.chat.agent.texts import NOT_UNDERSTOOD, PROMPTS


@pytest.mark.parametrize(
    ("message", "calls"),
    [
        ("What is 17% of 2,340?", [("calculator", {"expression": "17% of 2,340"})]),
        ("time in Oslo, please", [("clock", {"city": "Oslo"})]),
        ("What's the weather like in New York?", [("get_weather", {"city": "New York"})]),
        ("weather in Paris and in Tokyo", [("get_weather", {"city": "Paris"}), ("clock", {"city": "Tokyo"})]),
        (
            "What is 17% of 2,340, and what time is it in Tokyo?",
            [("calculator", {"expression": "17% of 2,340"}), ("clock", {"city": "Tokyo"})],
        ),
        ("switch to dark", [("set_theme", {"theme": "dark"})]),
        ("slow", [("long_job", {"parts": 10})]),
        ("How can I test my stream?", [("search_docs", {"query": "How can I test my stream?"})]),
        ("what is a run?", [("search_docs", {"query": "what is a run?"})]),
        ("hello", []),
        ("How much is the fish?", []),
    ],
)
def test_a_message_asks_for_tools(message: str, calls: list[tuple[str, dict[str, str]]]) -> None:
    assert [(call.tool, call.arguments) for call in plan(message).calls] == calls


@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_prompt_is_understood(prompt: str) -> None:
    script = plan(prompt)

    assert script.calls or script.answer([]) != NOT_UNDERSTOOD


def test_a_long_message_is_not_searched() -> None:
    assert plan("What is 2+2? " + "x" * 500).answer([]) == NOT_UNDERSTOOD


def test_a_call_that_failed_is_admitted() -> None:
    script = plan("What is 1/0 and what is 1+1?")
    results = [Result(script.calls[0], "No.", failed=True), Result(script.calls[1], {"result": 2})]

    assert script.answer(results) == "The calculator has no answer. No. `1+1` = **2**."


@given(st.text(max_size=600))
def test_the_same_message_has_the_same_plan(message: str) -> None:
    assert plan(message).calls == plan(message).calls
    assert len(set(next_prompts(message))) == 3
