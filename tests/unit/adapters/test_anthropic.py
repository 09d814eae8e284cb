"""What the raw events of Anthropic's messages say, as dicts and as an SDK's objects."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.adapters import from_anthropic
from tailrace.events import (
    Event,
    FinishReason,
    ReasoningDelta,
    ReasoningDone,
    RunCompleted,
    RunFailed,
    TextDelta,
    TextDone,
    ToolArgsDelta,
    ToolError,
    ToolOutput,
    ToolReady,
    ToolStarted,
    Usage,
)
from tests.unit.adapters.streams import STOPPED, as_objects, cuts, pieces_of, reduced, said, values

STOP = {"type": "message_stop"}


def begin(kind: str, index: int = 0, **fields: object) -> dict[str, Any]:
    """A block begins."""
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **fields}}


def delta(kind: str, index: int = 0, **fields: object) -> dict[str, Any]:
    """A block goes on."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def end(index: int = 0) -> dict[str, Any]:
    """A block is complete."""
    return {"type": "content_block_stop", "index": index}


def finish(reason: str, **usage: int) -> list[dict[str, Any]]:
    """The message is complete."""
    return [{"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}, STOP]


def start(**usage: int) -> dict[str, Any]:
    """The message begins."""
    return {"type": "message_start", "message": {"model": "m", "usage": usage, "content": []}}


TEXT = [begin("text", text=""), delta("text_delta", text="a"), end()]
CITATION = {"type": "char_location", "cited_text": "x"}
CALL = begin("tool_use", id="t1", name="f", input={})

ROWS: dict[str, tuple[list[Any], list[Event]]] = {
    "text": ([*TEXT, *finish("end_turn")], [TextDelta("a"), TextDone(), STOPPED]),
    "text in the start of its block": (
        [begin("text", text="a"), delta("text_delta", text="b"), end(), *finish("end_turn")],
        [TextDelta("a"), TextDelta("b"), TextDone(), STOPPED],
    ),
    "a block without text": ([begin("text", text=""), end(), *finish("end_turn")], [STOPPED]),
    "pings": ([{"type": "ping"}, *TEXT, {"type": "ping"}, *finish("end_turn")], [TextDelta("a"), TextDone(), STOPPED]),
    "what is new": (
        [{"type": "text", "text": "a"}, delta("new_delta", new="x"), *TEXT, *finish("end_turn")],
        [TextDelta("a"), TextDone(), STOPPED],
    ),
    "citations": (
        [*TEXT[:2], delta("citations_delta", citation=CITATION), end(), *finish("end_turn")],
        [TextDelta("a"), TextDone(citations=[CITATION]), STOPPED],
    ),
    "thinking": (
        [
            begin("thinking", thinking="", signature=""),
            delta("thinking_delta", thinking="hm"),
            delta("signature_delta", signature="s"),
            end(),
            *finish("end_turn"),
        ],
        [ReasoningDelta("hm"), ReasoningDone(signature="s"), STOPPED],
    ),
    "thinking that is not shown": (
        [begin("thinking", thinking=""), delta("signature_delta", signature="s"), end(), *finish("end_turn")],
        [ReasoningDone(signature="s"), STOPPED],
    ),
    "thinking that is redacted": (
        [begin("redacted_thinking", data="x"), end(), *finish("end_turn")],
        [ReasoningDone(signature="x", redacted=True), STOPPED],
    ),
    "a call": (
        [
            CALL,
            delta("input_json_delta", partial_json=""),
            delta("input_json_delta", partial_json='{"a"'),
            delta("input_json_delta", partial_json=":1}"),
            end(),
            *finish("tool_use"),
        ],
        [
            ToolStarted(call_id="t1", name="f"),
            ToolArgsDelta('{"a"', call_id="t1"),
            ToolArgsDelta(":1}", call_id="t1"),
            ToolReady(call_id="t1", name="f", input={"a": 1}),
            RunCompleted(finish_reason="tool_calls"),
        ],
    ),
    "a call without arguments": (
        [CALL, end(), *finish("tool_use")],
        [
            ToolStarted(call_id="t1", name="f"),
            ToolReady(call_id="t1", name="f", input={}),
            RunCompleted(finish_reason="tool_calls"),
        ],
    ),
    "a call that the provider executes": (
        [
            begin("server_tool_use", id="s1", name="web_search", input={}),
            delta("input_json_delta", partial_json='{"query":"x"}'),
            end(),
            begin("web_search_tool_result", 1, tool_use_id="s1", content=[{"url": "https://example.org"}]),
            end(1),
            *finish("end_turn"),
        ],
        [
            ToolStarted(call_id="s1", name="web_search", executor="provider"),
            ToolArgsDelta('{"query":"x"}', call_id="s1"),
            ToolReady(call_id="s1", name="web_search", input={"query": "x"}),
            ToolOutput(call_id="s1", output=[{"url": "https://example.org"}]),
            STOPPED,
        ],
    ),
    "usage": (
        [
            start(input_tokens=5, cache_read_input_tokens=3, cache_creation_input_tokens=2, output_tokens=1),
            *finish("end_turn", output_tokens=8),
        ],
        [
            Usage(
                input_tokens=10,
                output_tokens=1,
                cached_input_tokens=3,
                cache_write_input_tokens=2,
                provider="anthropic",
                model="m",
                estimated=True,
            ),
            Usage(
                input_tokens=10,
                output_tokens=8,
                cached_input_tokens=3,
                cache_write_input_tokens=2,
                provider="anthropic",
                model="m",
            ),
            STOPPED,
        ],
    ),
    "only the last event": ([*TEXT, STOP], [TextDelta("a"), TextDone(), RunCompleted()]),
    "all but the last event": ([*TEXT, finish("end_turn")[0]], [TextDelta("a"), TextDone(), STOPPED]),
}


def as_it_is(value: object) -> object:
    """JSON objects as they are."""
    return value


@pytest.mark.parametrize("form", [as_it_is, as_objects], ids=["dicts", "objects"])
@pytest.mark.parametrize(("raw", "content"), ROWS.values(), ids=ROWS)
async def test_what_events_say(raw: list[Any], content: list[Event], form: Callable[[object], object]) -> None:
    got = await said(from_anthropic, *map(form, raw))

    # Values that pass as they are stay in the form in which they came.
    assert [as_objects(msgspec.to_builtins(event, enc_hook=vars)) for event in got] == [
        as_objects(msgspec.to_builtins(event)) for event in content
    ]


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "other"),
    ],
)
async def test_each_reason_to_stop_has_a_word(reason: str, finish_reason: FinishReason) -> None:
    assert await said(from_anthropic, *finish(reason)) == [RunCompleted(finish_reason=finish_reason)]


async def test_arguments_that_were_cut_off_are_an_error_of_the_call() -> None:
    cut = delta("input_json_delta", partial_json='{"a":')

    content = await said(from_anthropic, CALL, cut, end(), *finish("max_tokens"))

    error = content[-2]
    assert isinstance(error, ToolError)
    assert (error.call_id, error.phase) == ("t1", "input")
    assert content[-1] == RunCompleted(finish_reason="length")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("overloaded_error", "provider_rate_limited"),
        ("authentication_error", "provider_auth"),
        ("invalid_request_error", "provider_bad_request"),
        ("api_error", "provider_unavailable"),
        ("a_new_one", "provider_error"),
    ],
)
async def test_an_error_in_the_stream_is_a_failed_run_in_other_words(kind: str, code: str) -> None:
    content = await said(from_anthropic, *TEXT, {"type": "error", "error": {"type": kind, "message": "secret"}})

    failure = content[-1]
    assert isinstance(failure, RunFailed)
    assert (content[0], failure.code) == (TextDelta("a"), code)
    assert "secret" not in str(failure)


async def test_an_answer_without_its_end_is_truncated() -> None:
    failure = (await said(from_anthropic, start(input_tokens=5), *TEXT))[-1]

    assert isinstance(failure, RunFailed)
    assert failure.code == "provider_truncated"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), cuts, values, cuts)
async def test_any_fragments_are_the_same_text_and_arguments(
    text: str, text_cuts: set[int], value: dict[str, Any], value_cuts: set[int]
) -> None:
    arguments = pieces_of(msgspec.json.encode(value).decode(), value_cuts)
    raw = [
        begin("text", text=""),
        *(delta("text_delta", text=piece) for piece in pieces_of(text, text_cuts)),
        end(),
        begin("tool_use", 1, id="t1", name="f", input={}),
        *(delta("input_json_delta", 1, partial_json=piece) for piece in arguments),
        end(1),
    ]

    found = reduced(await said(from_anthropic, *raw, *finish("tool_use")))

    assert found.text == text
    assert [tool.input for tool in found.tools] == [value]
