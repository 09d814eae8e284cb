"""What the events of OpenAI's responses say, as dicts and as an SDK's objects."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.adapters import from_responses
from tailrace.events import (
    Event,
    FinishReason,
    ReasoningDelta,
    ReasoningDone,
    RunCompleted,
    RunFailed,
    Source,
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

CALLED = RunCompleted(finish_reason="tool_calls")


def event(name: str, **fields: object) -> dict[str, Any]:
    """An event of a response."""
    return {"type": f"response.{name}", "sequence_number": 1, **fields}


def text(piece: str) -> dict[str, Any]:
    """A piece of the answer."""
    return event("output_text.delta", output_index=0, content_index=0, delta=piece)


def added(place: int, kind: str, **fields: object) -> dict[str, Any]:
    """An item begins."""
    return event("output_item.added", output_index=place, item={"type": kind, "id": f"i{place}", **fields})


def done(place: int, kind: str, **fields: object) -> dict[str, Any]:
    """An item is complete."""
    return event("output_item.done", output_index=place, item={"type": kind, "id": f"i{place}", **fields})


def arguments(place: int, piece: str, kind: str = "function_call") -> dict[str, Any]:
    """A piece of a call's arguments."""
    return event(f"{kind}_arguments.delta", output_index=place, delta=piece)


def ended(status: str = "completed", **fields: object) -> dict[str, Any]:
    """The last event."""
    return event(status, response={"status": status, "model": "m", **fields})


BEGUN = event("created", response={"model": "m", "status": "in_progress"})
TEXT_DONE = event("output_text.done", text="a")
COMPLETED = ended()
URL = {"type": "url_citation", "url": "https://example.org", "title": "Example", "start_index": 1, "end_index": 2}
FILE = {"type": "file_citation", "file_id": "f1", "filename": "a.pdf", "index": 3}

ROWS: dict[str, tuple[list[Any], list[Event]]] = {
    "text": (
        [BEGUN, added(0, "message"), text("a"), text(""), text("b"), TEXT_DONE, done(0, "message"), COMPLETED],
        [TextDelta("a"), TextDelta("b"), TextDone(), STOPPED],
    ),
    "what is new": ([event("something.new", delta="x"), {"type": "response."}, {}, COMPLETED], [STOPPED]),
    "no text": ([added(0, "message"), event("output_text.done", text=""), COMPLETED], [STOPPED]),
    "a refusal": (
        [event("refusal.delta", delta="No."), event("refusal.done", refusal="No."), COMPLETED],
        [TextDelta("No."), TextDone(), RunCompleted(finish_reason="content_filter")],
    ),
    "citations": (
        [
            text("a"),
            event("output_text.annotation.added", annotation=URL),
            event("output_text.annotation.added", annotation=FILE),
            event("output_text.annotation.added", annotation=None),
            TEXT_DONE,
            text("b"),
            TEXT_DONE,
            COMPLETED,
        ],
        [
            TextDelta("a"),
            Source(kind="url", url="https://example.org", title="Example", span=[1, 2]),
            Source(kind="document", title="a.pdf", filename="a.pdf"),
            TextDone(citations=[URL, FILE]),
            TextDelta("b"),
            TextDone(),
            STOPPED,
        ],
    ),
    "a summary of the reasoning, in parts": (
        [
            added(0, "reasoning"),
            event("reasoning_summary_part.added", summary_index=0),
            event("reasoning_summary_text.delta", delta="a"),
            event("reasoning_summary_part.added", summary_index=1),
            event("reasoning_summary_text.delta", delta="b"),
            done(0, "reasoning", encrypted_content="s"),
            COMPLETED,
        ],
        [ReasoningDelta("a"), ReasoningDone(), ReasoningDelta("b"), ReasoningDone(signature="s"), STOPPED],
    ),
    "reasoning as it is": (
        [event("reasoning_text.delta", delta="a"), done(0, "reasoning"), COMPLETED],
        [ReasoningDelta("a"), ReasoningDone(), STOPPED],
    ),
    "reasoning that is not shown": (
        [added(0, "reasoning"), done(0, "reasoning", encrypted_content="s"), done(1, "reasoning"), COMPLETED],
        [ReasoningDone(signature="s"), STOPPED],
    ),
    "a call": (
        [
            added(0, "function_call", call_id="c1", name="f"),
            arguments(0, '{"a"'),
            arguments(0, ":1}"),
            event("function_call_arguments.done", output_index=0, arguments='{"a":1}'),
            done(0, "function_call", call_id="c1", name="f", arguments='{"a":1}'),
            COMPLETED,
        ],
        [
            ToolStarted(call_id="c1", name="f"),
            ToolArgsDelta('{"a"', call_id="c1"),
            ToolArgsDelta(":1}", call_id="c1"),
            ToolReady(call_id="c1", name="f", input={"a": 1}),
            CALLED,
        ],
    ),
    "a call that is told only as a whole": (
        [
            added(0, "function_call", call_id="c1", name="f"),
            done(0, "function_call", call_id="c1", name="f", arguments='{"a":1}'),
            COMPLETED,
        ],
        [ToolStarted(call_id="c1", name="f"), ToolReady(call_id="c1", name="f", input={"a": 1}), CALLED],
    ),
    "a call in text": (
        [
            added(0, "custom_tool_call", call_id="c1", name="f"),
            done(0, "custom_tool_call", call_id="c1", name="f", input="print(1)"),
            COMPLETED,
        ],
        [ToolStarted(call_id="c1", name="f"), ToolReady(call_id="c1", name="f", input="print(1)"), CALLED],
    ),
    "a search": (
        [
            added(0, "web_search_call"),
            done(0, "web_search_call", status="completed", action={"type": "search", "query": "x"}),
            COMPLETED,
        ],
        [
            ToolStarted(call_id="i0", name="web_search", executor="provider"),
            ToolReady(call_id="i0", name="web_search", input={"action": {"type": "search", "query": "x"}}),
            ToolOutput(call_id="i0", output=None),
            STOPPED,
        ],
    ),
    "a search in files": (
        [
            added(0, "file_search_call"),
            done(0, "file_search_call", status="completed", queries=["x"], results=[{"file_id": "f1"}]),
            COMPLETED,
        ],
        [
            ToolStarted(call_id="i0", name="file_search", executor="provider"),
            ToolReady(call_id="i0", name="file_search", input={"queries": ["x"]}),
            ToolOutput(call_id="i0", output=[{"file_id": "f1"}]),
            STOPPED,
        ],
    ),
    "code that failed": (
        [
            added(0, "code_interpreter_call"),
            done(0, "code_interpreter_call", status="failed", code="1/0", outputs=None),
            COMPLETED,
        ],
        [
            ToolStarted(call_id="i0", name="code_interpreter", executor="provider"),
            ToolReady(call_id="i0", name="code_interpreter", input={"code": "1/0"}),
            ToolError(call_id="i0", code="tool_failed", message="The tool failed.", phase="execution"),
            STOPPED,
        ],
    ),
    "a tool of a server": (
        [
            added(0, "mcp_call", name="roll", server_label="dice"),
            arguments(0, "[6]", "mcp_call"),
            event("mcp_call_arguments.done", output_index=0, arguments="[6]"),
            done(0, "mcp_call", name="roll", status="completed", arguments="[6]", output="4"),
            COMPLETED,
        ],
        [
            ToolStarted(call_id="i0", name="roll", executor="provider"),
            ToolArgsDelta("[6]", call_id="i0"),
            ToolReady(call_id="i0", name="roll", input=[6]),
            ToolOutput(call_id="i0", output="4"),
            STOPPED,
        ],
    ),
    "a picture, which is too large": (
        [
            added(0, "image_generation_call"),
            done(0, "image_generation_call", status="completed", result="iVBOR", revised_prompt="a cat"),
            COMPLETED,
        ],
        [
            ToolStarted(call_id="i0", name="image_generation", executor="provider"),
            ToolReady(call_id="i0", name="image_generation", input={"revised_prompt": "a cat"}),
            ToolOutput(call_id="i0", output=None),
            STOPPED,
        ],
    ),
    "items that nobody is told of": ([added(0, "mcp_list_tools"), done(0, "mcp_list_tools"), COMPLETED], [STOPPED]),
    "usage": (
        [
            ended(
                usage={
                    "input_tokens": 9,
                    "output_tokens": 4,
                    "input_tokens_details": {"cached_tokens": 3},
                    "output_tokens_details": {"reasoning_tokens": 2},
                }
            )
        ],
        [
            Usage(
                input_tokens=9,
                output_tokens=4,
                reasoning_tokens=2,
                cached_input_tokens=3,
                provider="openai",
                model="m",
            ),
            STOPPED,
        ],
    ),
}


def as_it_is(value: object) -> object:
    """JSON objects as they are."""
    return value


@pytest.mark.parametrize("form", [as_it_is, as_objects], ids=["dicts", "objects"])
@pytest.mark.parametrize(("raw", "content"), ROWS.values(), ids=ROWS)
async def test_what_events_say(raw: list[Any], content: list[Event], form: Callable[[object], object]) -> None:
    got = await said(from_responses, *map(form, raw))

    # Values that pass as they are stay in the form in which they came.
    assert [as_objects(msgspec.to_builtins(item, enc_hook=vars)) for item in got] == [
        as_objects(msgspec.to_builtins(item)) for item in content
    ]


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("something_new", "other")],
)
async def test_each_reason_to_be_incomplete_has_a_word(reason: str, finish_reason: FinishReason) -> None:
    incomplete = ended("incomplete", incomplete_details={"reason": reason})

    assert await said(from_responses, incomplete) == [RunCompleted(finish_reason=finish_reason)]


REPORTED: list[tuple[dict[str, Any], str]] = [
    (ended("failed", error={"code": "server_error", "message": "secret"}), "provider_unavailable"),
    (ended("failed", error={"code": "rate_limit_exceeded", "message": "secret"}), "provider_rate_limited"),
    (ended("failed", error={"code": "image_too_large", "message": "secret"}), "provider_error"),
    (ended("failed", error=None), "provider_error"),
    ({"type": "error", "sequence_number": 2, "code": "server_error", "message": "secret"}, "provider_unavailable"),
    ({"type": "error", "sequence_number": 2, "code": None, "message": "secret"}, "provider_error"),
]


@pytest.mark.parametrize("form", [as_it_is, as_objects], ids=["dicts", "objects"])
@pytest.mark.parametrize(("last", "code"), REPORTED)
async def test_an_error_in_the_stream_is_a_failed_run_in_other_words(
    last: dict[str, Any], code: str, form: Callable[[object], object]
) -> None:
    content = await said(from_responses, form(text("a")), form(last))

    failure = content[-1]
    assert isinstance(failure, RunFailed)
    assert (content[0], failure.code) == (TextDelta("a"), code)
    assert "secret" not in str(failure)


async def test_what_a_failed_response_has_used_is_an_estimate() -> None:
    failed = ended("failed", error={"code": "server_error"}, usage={"input_tokens": 9, "output_tokens": 4})

    used = (await said(from_responses, failed))[0]

    assert used == Usage(input_tokens=9, output_tokens=4, provider="openai", model="m", estimated=True)


async def test_a_response_without_its_end_is_truncated() -> None:
    failure = (await said(from_responses, BEGUN, text("a"), TEXT_DONE, done(0, "message")))[-1]

    assert isinstance(failure, RunFailed)
    assert failure.code == "provider_truncated"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), cuts, values, cuts)
async def test_any_fragments_are_the_same_text_and_arguments(
    words: str, word_cuts: set[int], value: dict[str, Any], value_cuts: set[int]
) -> None:
    pieces = pieces_of(msgspec.json.encode(value).decode(), value_cuts)
    raw = [
        *(text(piece) for piece in pieces_of(words, word_cuts)),
        added(1, "function_call", call_id="c1", name="f"),
        *(arguments(1, piece) for piece in pieces),
        done(1, "function_call", call_id="c1", name="f"),
    ]

    found = reduced(await said(from_responses, *raw, COMPLETED))

    assert found.text == words
    assert [tool.input for tool in found.tools] == [value]
