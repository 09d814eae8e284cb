"""The chunks dialect is named frames, text as it is, and `end` without data at the end of everything."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace import events
from tailrace.events import Data, Entry, Event, RunStarted, Terminal, TextDelta
from tailrace.fold import merge, reduce
from tailrace.wire.dialects.chunks import DIALECT
from tailrace.wire.sse import Decoder
from tests.unit.strategies import ODD_TEXT, TERMINALS, filled, logs, merged_variants, numbered

END = ("end", "")
INTERRUPTED = "The answer was interrupted."

WEATHER = filled(
    numbered(
        [
            RunStarted(run_id="run", thread_id="thread"),
            TextDelta("Let me "),
            TextDelta("look."),
            events.ToolStarted(call_id="c1", name="get_weather"),
            events.ToolArgsDelta('{"city"'),
            events.ToolReady(call_id="c1", name="get_weather", input={"city": "Rome"}),
            events.ToolOutput(call_id="c1", output={"temperature": 21, "conditions": "dry", "city": "Rome"}),
            TextDelta("It is\n21 °C."),
            events.RunCompleted(),
        ]
    )
)


def stream_of(log: list[Entry]) -> bytes:
    encoder = DIALECT.encoder(run_id="run")
    return b"".join(frame for entry in log for frame in encoder.encode(entry))


def read(log: list[Entry]) -> list[tuple[str, Any]]:
    """Name and data of each frame, read as JSON where the vocabulary says so."""
    return [
        (
            event.event,
            msgspec.json.decode(event.data) if event.event in {"tool_output", "failure", "paused"} else event.data,
        )
        for event in Decoder().feed(stream_of(log))
    ]


def said_by(*content: Event) -> list[tuple[str, Any]]:
    return read(filled(numbered([RunStarted(run_id="run", thread_id="thread"), *content])))


def text_in(said: list[tuple[str, Any]]) -> str:
    """What a reader has that appends each chunk."""
    return "".join(data for name, data in said if name == "chunk")


def document_of(*content: Event) -> dict[str, Any]:
    log = filled(numbered([RunStarted(run_id="run"), *content]))
    document: dict[str, Any] = msgspec.json.decode(DIALECT.document(reduce(log)))
    return document


def test_an_answer_with_a_tool_is_told_in_order() -> None:
    output = {"temperature": 21, "conditions": "dry", "city": "Rome"}

    assert read(WEATHER) == [
        ("chunk", "Let me "),
        ("chunk", "look."),
        ("tool_use", "get_weather"),
        ("tool_output", {"name": "get_weather", "output": output, "call_id": "c1"}),
        ("chunk", "It is\n21 °C."),
        END,
    ]


def test_the_frames_are_spelled_as_their_readers_expect() -> None:
    stream = stream_of(numbered([TextDelta("a\n b"), events.RunCompleted()]))

    assert stream == b"id: 1\nevent: chunk\ndata: a\ndata:  b\n\nid: 2\nevent: end\ndata: \n\n"


def test_merged_deltas_are_one_chunk() -> None:
    assert ("chunk", "Let me look.") in read(merge(WEATHER))


@settings(max_examples=60)
@given(st.data(), logs)
def test_a_reader_that_appends_has_the_text_of_any_run(data: st.DataObject, log: list[Entry]) -> None:
    *before, _ = log
    text = "".join(entry.event.delta for entry in before if isinstance(entry.event, TextDelta))

    said = read(data.draw(merged_variants(before)))

    assert text_in(said) == text.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize("piece", ODD_TEXT)
def test_what_is_read_does_not_depend_on_where_the_bytes_are_cut(piece: str) -> None:
    log = numbered([TextDelta(piece), events.ToolStarted(name=f"x{piece}"), Data("x", piece), events.RunCompleted()])
    stream = stream_of(log)
    decoder = Decoder()

    bytewise = [event for at in range(len(stream)) for event in decoder.feed(stream[at : at + 1])]

    assert bytewise == Decoder().feed(stream)
    assert [event.event for event in bytewise] == ["chunk", "tool_use", "x", "end"]


@settings(max_examples=40)
@given(logs)
def test_the_end_comes_once_and_last_and_is_empty(log: list[Entry]) -> None:
    said = read(log)

    assert said[-1] == END
    assert [name for name, _ in said].count("end") == 1


# Tools


def test_a_tool_is_told_as_soon_as_its_call_begins_and_once() -> None:
    assert said_by(
        events.ToolStarted(call_id="c1", name="add"), events.ToolReady(call_id="c1", name="add", input=1)
    ) == [("tool_use", "add")]


def test_a_tool_that_is_only_reported_complete_is_told_then() -> None:
    assert said_by(
        events.ToolReady(call_id="c1", name="add", input=1),
        events.ToolOutput(call_id="c1", output=None),
    ) == [("tool_use", "add"), ("tool_output", {"name": "add", "output": None, "call_id": "c1"})]


def test_calls_side_by_side_can_be_told_apart() -> None:
    said = said_by(
        events.ToolStarted(call_id="c1", name="add"),
        events.ToolStarted(call_id="c2", name="add"),
        events.ToolOutput(call_id="c2", output=2),
        events.ToolError(call_id="c1", code="error", message="Too large."),
    )

    assert said == [
        ("tool_use", "add"),
        ("tool_use", "add"),
        ("tool_output", {"name": "add", "output": 2, "call_id": "c2"}),
        ("tool_output", {"name": "add", "output": {"error": "Too large."}, "call_id": "c1"}),
    ]


def test_what_nobody_named_and_nobody_began_has_a_name_all_the_same() -> None:
    nameless: list[Event] = [events.ToolReady(input=1), events.ToolOutput(output=2), events.ToolOutput(output=3)]

    assert read(numbered(nameless)) == [
        ("tool_output", {"name": "tool", "output": 2}),
        ("tool_output", {"name": "tool", "output": 3}),
    ]


# Data


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Data("note", "a\nb"), [("note", "a\nb")]),
        (Data("note", {"a": 1}), [("note", '{"a":1}')]),
        (Data("message", "a"), [("message", "a")]),
        (Data("chunk", "a"), [("chunk", "a")]),
        (Data("end", ""), []),
        (Data("x\nevent: end", 1), [("data", "1")]),
    ],
)
def test_data_goes_by_its_own_name_and_never_by_that_of_the_end(event: Event, said: list[tuple[str, Any]]) -> None:
    assert said_by(event) == said


def test_nothing_else_is_shown() -> None:
    assert said_by(events.Status("Thinking"), events.ReasoningDelta("hm"), events.Suggestions(["Why?"])) == []


# Endings


@pytest.mark.parametrize(
    ("terminal", "code", "message"),
    [
        (events.RunFailed(code="timeout", message="Too\nslow."), "timeout", "Too\nslow."),
        (events.RunInterrupted(reason="worker_lost"), "worker_lost", INTERRUPTED),
        (events.RunInterrupted(reason="shutdown"), "shutdown", INTERRUPTED),
    ],
)
def test_a_failure_is_told_as_text_and_under_a_name_of_its_own(terminal: Terminal, code: str, message: str) -> None:
    failure = ("failure", {"code": code, "message": message})

    assert said_by(terminal) == [("chunk", message), failure, END]
    assert said_by(TextDelta("so far"), terminal)[1:] == [("chunk", f"\n\n{message}"), failure, END]


@pytest.mark.parametrize("terminal", [events.RunCompleted(result={"a": 1}), events.RunCancelled(reason="user")])
def test_an_answer_that_is_complete_or_not_wanted_just_ends(terminal: Terminal) -> None:
    assert said_by(terminal) == [END]


def test_a_pause_says_what_it_waits_for() -> None:
    interrupt = events.Interrupt(id="i1", kind="approval", message="May I?")

    assert said_by(events.RunPaused(interrupts=[interrupt])) == [
        ("paused", {"interrupts": [{"id": "i1", "kind": "approval", "message": "May I?"}]}),
        END,
    ]


def test_no_ending_uses_a_name_of_event_source() -> None:
    names = {name for terminal in TERMINALS for name, _ in said_by(TextDelta("a"), terminal)}

    assert names.isdisjoint({"error", "open", "message"})


# The document


def test_the_document_is_the_answer_as_a_whole() -> None:
    output = {"temperature": 21, "conditions": "dry", "city": "Rome"}

    assert msgspec.json.decode(DIALECT.document(reduce(WEATHER))) == {
        "response": "Let me look.It is\n21 °C.",
        "tool_outputs": [{"name": "get_weather", "output": output, "call_id": "c1"}],
        "status": "completed",
    }


def test_the_document_has_the_outputs_that_the_stream_would_tell() -> None:
    calls: list[Event] = [
        events.ToolStarted(call_id="c1", name="add"),
        events.ToolOutput(call_id="c1", output=1),
        events.ToolOutput(call_id="c2", output=2),
        events.ToolStarted(call_id="c3", name="look_up"),
        events.ToolError(call_id="c3", code="error", message="Sorry."),
        events.ToolStarted(call_id="c4", name="never_done"),
    ]

    assert document_of(*calls)["tool_outputs"] == [data for name, data in said_by(*calls) if name == "tool_output"]


def test_the_document_of_a_pause_says_what_it_waits_for() -> None:
    paused = events.RunPaused(interrupts=[events.Interrupt(id="i1", kind="approval")])

    assert document_of(paused)["interrupts"] == [{"id": "i1", "kind": "approval"}]


@pytest.mark.parametrize("terminal", TERMINALS, ids=lambda terminal: type(terminal).__name__)
def test_the_document_has_the_error_that_the_stream_would_tell(terminal: Terminal) -> None:
    told = [data for name, data in said_by(terminal) if name == "failure"]

    assert [error for key, error in document_of(terminal).items() if key == "error"] == told


def test_its_clients_do_not_come_back_and_its_encoder_has_a_memory() -> None:
    assert DIALECT.name == "chunks"
    assert not DIALECT.resumes
    assert DIALECT.stateful
