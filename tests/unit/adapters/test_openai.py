"""What chunks of chat completions say, as dicts and as an SDK's objects, from OpenAI and from those that differ."""

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from tailrace import events
from tailrace.adapters import from_openai
from tailrace.events import (
    Event,
    FinishReason,
    ReasoningDelta,
    RunCompleted,
    RunFailed,
    TextDelta,
    ToolArgsDelta,
    ToolError,
    ToolReady,
    ToolStarted,
    Usage,
)
from tests.unit.adapters.streams import STOPPED, as_objects, chunk, cuts, pieces_of, reduced, said, values

STOP = chunk({}, finish_reason="stop")
CALLS = chunk({}, finish_reason="tool_calls")
USED = {"prompt_tokens": 9, "completion_tokens": 4}


def call(
    index: int | None, arguments: str | None = None, *, call_id: str | None = None, name: str | None = None
) -> dict[str, Any]:
    """A chunk with a fragment of a call."""
    function = {"name": name, "arguments": arguments}
    return chunk({"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]})


def typed(value: dict[str, Any]) -> ChatCompletionChunk:
    """As the SDK of OpenAI builds it, with what it has no field for."""
    return ChatCompletionChunk.construct(None, id="c", created=1, **value)


ROWS: dict[str, tuple[list[Any], list[Event]]] = {
    "text": ([chunk({"content": "a"}), chunk({"content": "b"}), STOP], [TextDelta("a"), TextDelta("b"), STOPPED]),
    "text with the finish": ([chunk({"content": "a"}, finish_reason="stop")], [TextDelta("a"), STOPPED]),
    "no text": ([chunk({"content": None}), chunk({"content": ""}), chunk(None), STOP], [STOPPED]),
    "no choices": ([{"choices": []}, {"choices": None}, {}, STOP], [STOPPED]),
    "another choice": ([chunk({"content": "x"}, index=1), chunk({}, index=1, finish_reason="length"), STOP], [STOPPED]),
    "reasoning_content": ([chunk({"reasoning_content": "a"}), STOP], [ReasoningDelta("a"), STOPPED]),
    "reasoning": ([chunk({"reasoning": "a"}), STOP], [ReasoningDelta("a"), STOPPED]),
    "both": ([chunk({"reasoning": "a", "reasoning_content": "a"}), STOP], [ReasoningDelta("a"), STOPPED]),
    "a refusal": (
        [chunk({"refusal": "No."}), STOP],
        [TextDelta("No."), RunCompleted(finish_reason="content_filter")],
    ),
    "usage after the finish": (
        [STOP, {"model": "m", "choices": [], "usage": USED}],
        [Usage(input_tokens=9, output_tokens=4, model="m"), STOPPED],
    ),
    "usage all the time": (
        [chunk({"content": "a"}) | {"usage": {"prompt_tokens": 9, "completion_tokens": 1}}, STOP | {"usage": USED}],
        [TextDelta("a"), Usage(input_tokens=9, output_tokens=4, model="m"), STOPPED],
    ),
    "usage of Groq": (
        [STOP | {"x_groq": {"id": "r", "usage": USED}}],
        [Usage(input_tokens=9, output_tokens=4, model="m"), STOPPED],
    ),
    "usage in parts": (
        [
            STOP,
            {
                "choices": [],
                "usage": {
                    **USED,
                    "completion_tokens_details": {"reasoning_tokens": 2},
                    "prompt_tokens_details": {"cached_tokens": 3},
                },
            },
        ],
        [Usage(input_tokens=9, output_tokens=4, reasoning_tokens=2, cached_input_tokens=3), STOPPED],
    ),
    "a call": (
        [call(0, "", call_id="c1", name="f"), call(0, '{"a"'), call(0, ":1}"), CALLS],
        [
            ToolStarted(call_id="c1", name="f"),
            ToolArgsDelta('{"a"', call_id="c1"),
            ToolArgsDelta(":1}", call_id="c1"),
            ToolReady(call_id="c1", name="f", input={"a": 1}),
            RunCompleted(finish_reason="tool_calls"),
        ],
    ),
    "calls side by side": (
        [
            call(0, call_id="c1", name="f"),
            call(1, call_id="c2", name="g"),
            call(0, "[1"),
            call(1, "2"),
            call(0, "]"),
            CALLS,
        ],
        [
            ToolStarted(call_id="c1", name="f"),
            ToolStarted(call_id="c2", name="g"),
            ToolArgsDelta("[1", call_id="c1"),
            ToolArgsDelta("2", call_id="c2"),
            ToolArgsDelta("]", call_id="c1"),
            ToolReady(call_id="c1", name="f", input=[1]),
            ToolReady(call_id="c2", name="g", input=2),
            RunCompleted(finish_reason="tool_calls"),
        ],
    ),
    "whole calls, numbered alike": (
        [call(0, "1", call_id="c1", name="f"), call(0, "2", call_id="c2", name="f"), CALLS],
        [
            ToolStarted(call_id="c1", name="f"),
            ToolArgsDelta("1", call_id="c1"),
            ToolReady(call_id="c1", name="f", input=1),
            ToolStarted(call_id="c2", name="f"),
            ToolArgsDelta("2", call_id="c2"),
            ToolReady(call_id="c2", name="f", input=2),
            RunCompleted(finish_reason="tool_calls"),
        ],
    ),
    "a call that repeats its name": (
        [call(0, "1", call_id="c1", name="f"), call(0, "2", call_id="c1", name="f"), CALLS],
        [
            ToolStarted(call_id="c1", name="f"),
            ToolArgsDelta("1", call_id="c1"),
            ToolArgsDelta("2", call_id="c1"),
            ToolReady(call_id="c1", name="f", input=12),
            RunCompleted(finish_reason="tool_calls"),
        ],
    ),
    "a call without arguments": (
        [call(0, call_id="c1", name="f"), CALLS],
        [
            ToolStarted(call_id="c1", name="f"),
            ToolReady(call_id="c1", name="f", input={}),
            RunCompleted(finish_reason="tool_calls"),
        ],
    ),
    "text, then a call": (
        [chunk({"content": "a"}), call(0, "{}", call_id="c1", name="f"), CALLS],
        [
            TextDelta("a"),
            ToolStarted(call_id="c1", name="f"),
            ToolArgsDelta("{}", call_id="c1"),
            ToolReady(call_id="c1", name="f", input={}),
            RunCompleted(finish_reason="tool_calls"),
        ],
    ),
}


@pytest.mark.parametrize("form", [msgspec.to_builtins, as_objects, typed], ids=["dicts", "objects", "typed"])
@pytest.mark.parametrize(("chunks", "content"), ROWS.values(), ids=ROWS)
async def test_what_chunks_say(chunks: list[Any], content: list[Event], form: Callable[[Any], object]) -> None:
    assert await said(from_openai, *map(form, chunks)) == content


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("something_new", "other"),
    ],
)
async def test_each_reason_to_finish_has_a_word(reason: str, finish_reason: FinishReason) -> None:
    assert await said(from_openai, chunk({}, finish_reason=reason)) == [RunCompleted(finish_reason=finish_reason)]


@pytest.mark.parametrize("arguments", ['{"a":', "{'a':1}", "{} {}", '{"a":NaN}', '"\\ud800"', "[" * 5_000])
async def test_arguments_that_are_no_json_are_an_error_of_the_call_and_not_of_the_run(arguments: str) -> None:
    content = await said(from_openai, call(0, arguments, call_id="c1", name="f"), CALLS)

    (error,) = [event for event in content if isinstance(event, ToolError)]
    assert (error.call_id, error.phase) == ("c1", "input")
    assert arguments not in error.message
    assert content[-1] == RunCompleted(finish_reason="tool_calls")


async def test_a_call_without_an_id_gets_one_of_its_own() -> None:
    content = await said(from_openai, call(0, "1", name="f"), call(1, "2", name="g"), call(0, "3"), CALLS)

    tools = reduced(content).tools
    assert [(tool.name, tool.input) for tool in tools] == [("f", 13), ("g", 2)]
    assert len({tool.call_id for tool in tools} - {None}) == 2


async def test_a_call_that_was_broken_off_is_not_ready() -> None:
    content = await said(from_openai, call(0, "{}", call_id="c1", name="f"))

    assert not [event for event in content if isinstance(event, ToolReady)]
    assert isinstance(content[-1], RunFailed)


REPORTED: list[tuple[dict[str, object], str]] = [
    ({"error": {"type": "server_error", "message": "secret"}}, "provider_unavailable"),
    ({"error": {"code": 429, "message": "secret"}, "choices": []}, "provider_rate_limited"),
    ({"error": {"code": "401", "message": "secret"}}, "provider_auth"),
    ({"error": "secret"}, "provider_error"),
    (chunk({}, finish_reason="error"), "provider_error"),
    ({**chunk({}, finish_reason="error"), "error": {"code": 502, "message": "secret"}}, "provider_unavailable"),
]


@pytest.mark.parametrize(("last", "code"), REPORTED)
async def test_an_error_in_the_stream_is_a_failed_run_in_other_words(last: dict[str, object], code: str) -> None:
    content = await said(from_openai, chunk({"content": "a"}), last)

    failure = content[-1]
    assert isinstance(failure, RunFailed)
    assert (content[0], failure.code) == (TextDelta("a"), code)
    assert "secret" not in str(failure)


@pytest.mark.parametrize(
    "odd", [5, "text", None, ["a"], {"choices": "x"}, {"choices": [5, None, "x"]}, chunk({"tool_calls": [7]})]
)
async def test_what_it_does_not_know_breaks_nothing(odd: object) -> None:
    content = await said(from_openai, odd, chunk({"content": "a"}), STOP)

    assert TextDelta("a") in content
    assert content[-1] == STOPPED


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), cuts)
async def test_any_fragments_are_the_same_text(text: str, places: set[int]) -> None:
    content = await said(from_openai, *(chunk({"content": piece}) for piece in pieces_of(text, places)), STOP)

    assert reduced([*content[:-1], events.RunCompleted()]).text == text


@given(st.lists(st.tuples(values, cuts), min_size=1, max_size=3), st.randoms(use_true_random=False))
async def test_any_fragments_are_the_same_arguments(
    calls: list[tuple[dict[str, Any], set[int]]], chance: Random
) -> None:
    fragments = [
        [call(place, piece) for piece in pieces_of(msgspec.json.encode(value).decode(), places)]
        for place, (value, places) in enumerate(calls)
    ]
    order = [place for place, own in enumerate(fragments) for _ in own]
    chance.shuffle(order)
    begun = [call(place, call_id=f"c{place}", name="f") for place in range(len(calls))]

    content = await said(from_openai, *begun, *(fragments[place].pop(0) for place in order), CALLS)

    assert [tool.input for tool in reduced(content).tools] == [value for value, _ in calls]
