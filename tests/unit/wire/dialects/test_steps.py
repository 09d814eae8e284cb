"""The steps dialect is named frames of JSON: what goes on, how far it is, what was found, and how it ended."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace import events
from tailrace.errors import OptionInvalidError
from tailrace.events import Data, Entry, Event, RunStarted, TextDelta
from tailrace.fold import merge, reduce
from tailrace.wire.dialects.steps import DIALECT
from tailrace.wire.sse import Decoder
from tests.unit.strategies import ODD_TEXT, TERMINALS, any_event, filled, logs, merged_variants, numbered

INTERRUPTED = "The answer was interrupted."
TIMED = {"status", "progress"}

Said = list[tuple[str, Any]]


def stream_of(log: list[Entry], *, task_id: str | None = None) -> bytes:
    encoder = DIALECT.encoder(run_id="run", task_id=task_id)
    return b"".join(frame for entry in log for frame in encoder.encode(entry))


def read(log: list[Entry], *, task_id: str | None = None) -> Said:
    """Name and data of each frame; the times are looked at and taken out."""
    said = [(event.event, msgspec.json.decode(event.data)) for event in Decoder().feed(stream_of(log, task_id=task_id))]
    return [(name, _untimed(data) if name in TIMED else data) for name, data in said]


def _untimed(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != "timestamp"}


def said_by(*content: Event, task_id: str | None = None) -> Said:
    """What the events say after the start of their run."""
    return read(filled(numbered([RunStarted(run_id="run", thread_id="thread"), *content])), task_id=task_id)[1:]


def document_of(*content: Event) -> dict[str, Any]:
    log = filled(numbered([RunStarted(run_id="run"), *content]))
    document: dict[str, Any] = msgspec.json.decode(DIALECT.document(reduce(log)))
    return document


RESEARCH = filled(
    numbered(
        [
            RunStarted(run_id="run", thread_id="thread"),
            events.Status("Looking around", state="searching"),
            events.Thought("First the weather", step=1, total=2, kind="plan"),
            events.ToolStarted(call_id="c1", name="search"),
            events.ToolReady(call_id="c1", name="search", input={"q": "Rome"}),
            events.ToolOutput(call_id="c1", output=["a", "b"]),
            events.Progress(value=0.5, label="reading"),
            Data("result", {"step": 1, "result": "found", "progress": 50}),
            TextDelta("It is "),
            TextDelta("dry."),
            events.RunCompleted(result={"result": "dry", "tokens": 2}),
        ]
    )
)


def test_a_run_is_told_in_order() -> None:
    assert read(RESEARCH) == [
        ("status", {"status": "started"}),
        ("status", {"status": "searching", "message": "Looking around"}),
        (
            "thought",
            {"thought": "First the weather", "message": "First the weather", "step": 1, "total": 2, "type": "plan"},
        ),
        ("tool", {"tool": "search", "status": "calling", "call_id": "c1"}),
        ("tool", {"tool": "search", "status": "complete", "call_id": "c1", "result": ["a", "b"]}),
        ("progress", {"progress": 50.0, "step": "reading"}),
        ("result", {"step": 1, "result": "found", "progress": 50}),
        ("token", {"token": "It is "}),
        ("token", {"token": "dry."}),
        ("complete", {"status": "completed", "result": "dry", "tokens": 2}),
    ]


def test_a_frame_has_its_name_and_one_line_of_json() -> None:
    assert stream_of(numbered([TextDelta("a\r\nb")])) == b'id: 1\nevent: token\ndata: {"token":"a\\r\\nb"}\n\n'


def test_merged_deltas_are_one_token() -> None:
    assert ("token", {"token": "It is dry."}) in read(merge(RESEARCH))


@settings(max_examples=60)
@given(st.data(), logs)
def test_a_reader_that_appends_has_text_and_thinking_of_any_run(data: st.DataObject, log: list[Entry]) -> None:
    said = read(data.draw(merged_variants(log)))

    for kind, name, key in ((TextDelta, "token", "token"), (events.ReasoningDelta, "thinking", "message")):
        deltas = [entry.event.delta for entry in log if isinstance(entry.event, kind)]
        assert "".join(fields[key] for told, fields in said if told == name) == "".join(deltas)


@settings(max_examples=40)
@given(logs)
def test_the_ending_comes_once_and_last(log: list[Entry]) -> None:
    names = [name for name, _ in read(log)]

    assert names[-1] in {"complete", "error"}
    assert names.count("complete") + names.count("error") == 1


@settings(max_examples=100)
@given(any_event)
def test_no_event_makes_a_frame_that_says_null_by_itself_or_is_no_frame(event: Event) -> None:
    stream = stream_of(numbered([event]))
    shown = Decoder().feed(stream)

    assert stream.count(b"\n\n") == len(shown)
    if isinstance(event, events.Status | events.Progress | events.ToolProgress | events.StepStarted):
        assert all(value is not None for said in shown for value in msgspec.json.decode(said.data).values())


@pytest.mark.parametrize("piece", ODD_TEXT)
def test_what_is_read_does_not_depend_on_where_the_bytes_are_cut(piece: str) -> None:
    stream = stream_of(numbered([TextDelta(piece), Data("x", {"a": piece}), events.RunCompleted(result=piece)]))
    decoder = Decoder()

    bytewise = [event for at in range(len(stream)) for event in decoder.feed(stream[at : at + 1])]

    assert bytewise == Decoder().feed(stream)
    assert msgspec.json.decode(bytewise[-1].data) == {"status": "completed", "result": piece}


# What goes on


def test_the_time_is_that_of_the_event_in_utc() -> None:
    entries = [Entry(1, 1_795_173_052_468, events.Status("a")), Entry(2, 0, events.Progress(value=1))]

    times = [msgspec.json.decode(event.data)["timestamp"] for event in Decoder().feed(stream_of(entries))]

    assert times == ["2026-11-20T11:10:52.468+00:00", "1970-01-01T00:00:00.000+00:00"]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (events.StepStarted(name="plan"), {"status": "running", "step": "plan"}),
        (events.StepStarted(), {"status": "running", "step": 1}),
        (events.Status("Busy"), {"status": "running", "message": "Busy"}),
        (events.Status("Hm", state="odd", level="danger"), {"status": "odd", "message": "Hm", "level": "danger"}),
        (events.Notice(code="slow", message="Slow."), {"status": "running", "message": "Slow.", "level": "warning"}),
    ],
)
def test_what_goes_on_is_a_status(event: Event, said: dict[str, Any]) -> None:
    assert said_by(event) == [("status", said)]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (events.Progress(value=0.333333), {"progress": 33.3}),
        (events.Progress(value=1.5), {"progress": 100}),
        (events.Progress(value=-1), {"progress": 0}),
        (events.Progress(value=1e308), {"progress": 100}),
        (
            events.Progress(id="p", current=3, total=4),
            {"progress": 75.0, "step": 3, "current": 3, "total": 4, "id": "p"},
        ),
        (events.Progress(current=3, total=0), {"step": 3, "current": 3, "total": 0}),
        (
            events.Progress(current=1e308, total=1e-308),
            {"progress": 100, "step": 1e308, "current": 1e308, "total": 1e-308},
        ),
        (events.Progress(label="warming up"), {"step": "warming up"}),
    ],
)
def test_progress_is_in_percent(event: Event, said: dict[str, Any]) -> None:
    assert said_by(event) == [("progress", said)]


def test_reasoning_is_thinking() -> None:
    assert said_by(events.ReasoningDelta("hm, ")) == [("thinking", {"message": "hm, "})]


# Tools


def test_a_call_is_told_as_soon_as_it_begins_and_all_the_way() -> None:
    said = said_by(
        events.ToolStarted(call_id="c1", name="add"),
        events.ToolReady(call_id="c1", name="add", input=1),
        events.ToolReady(call_id="c2", name="look_up", input=2),
        events.ToolProgress(call_id="c1", progress=0.5, output="half"),
        events.ToolOutput(call_id="c1", output=2),
        events.ToolError(call_id="c2", code="error", message="Not found."),
    )

    assert said == [
        ("tool", {"tool": "add", "status": "calling", "call_id": "c1"}),
        ("tool", {"tool": "look_up", "status": "calling", "call_id": "c2"}),
        ("tool", {"tool": "add", "status": "running", "call_id": "c1", "progress": 50.0, "result": "half"}),
        ("tool", {"tool": "add", "status": "complete", "call_id": "c1", "result": 2}),
        ("tool", {"tool": "look_up", "status": "error", "call_id": "c2", "error": "Not found."}),
    ]


def test_what_nobody_named_and_nobody_began_has_a_name_all_the_same() -> None:
    assert read(numbered([events.ToolReady(input=1), events.ToolOutput(output=2)])) == [
        ("tool", {"tool": "tool", "status": "complete", "result": 2})
    ]


# Data


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Data("countdown", {"remaining": 3}), ("countdown", {"remaining": 3})),
        (Data("message", {"text": "a"}), ("message", {"text": "a"})),
        (Data("status", {"status": "odd"}), ("status", {"status": "odd"})),
        (Data("error", {"error": "Sorry."}), ("error", {"error": "Sorry."})),
        (Data("note", "a\nb"), ("note", "a\nb")),
        (Data("x\nid: 9", None), ("data", None)),
        (events.UIAction({"type": "x", "value": None}), ("action", {"type": "x", "value": None})),
        (events.Suggestions(["Why?"]), ("suggestions", {"suggestions": ["Why?"]})),
    ],
)
def test_data_goes_by_its_own_name_as_json(event: Event, said: tuple[str, Any]) -> None:
    assert said_by(event) == [said]


def test_a_complete_of_the_source_is_kept_for_the_end() -> None:
    completes: list[Event] = [
        Data("complete", {"tokens": 2, "done": True}),
        TextDelta("a"),
        Data("complete", {"tokens": 3}),
    ]

    assert said_by(*completes, events.RunCompleted()) == [
        ("token", {"token": "a"}),
        ("complete", {"status": "completed", "tokens": 3, "done": True}),
    ]
    assert said_by(*completes, events.RunFailed(code="error", message="Sorry."))[-1][0] == "error"


# Endings


ENDINGS: list[tuple[Event, Said]] = [
    (events.RunCompleted(), [("complete", {"status": "completed"})]),
    (events.RunCompleted(result="dry"), [("complete", {"status": "completed", "result": "dry"})]),
    (
        events.RunCompleted(result={"status": "done", "note": None}),
        [("complete", {"status": "done", "note": None})],
    ),
    (events.RunCancelled(reason="user"), [("complete", {"status": "cancelled"})]),
    (
        events.RunFailed(code="timeout", message="Too slow.", details={"timeout_seconds": 30, "error": "x"}),
        [("error", {"timeout_seconds": 30, "error": "Too slow.", "type": "timeout"})],
    ),
    (
        events.RunInterrupted(reason="shutdown"),
        [("error", {"error": INTERRUPTED, "type": "interrupted", "reason": "shutdown"})],
    ),
    (
        events.RunPaused(interrupts=[events.Interrupt(id="i1", kind="approval", message="May I?")]),
        [
            ("status", {"status": "paused", "message": "May I?"}),
            (
                "complete",
                {"status": "paused", "interrupts": [{"id": "i1", "kind": "approval", "message": "May I?"}]},
            ),
        ],
    ),
    (
        events.RunPaused(interrupts=[]),
        [("status", {"status": "paused"}), ("complete", {"status": "paused", "interrupts": []})],
    ),
]


@pytest.mark.parametrize(("terminal", "said"), ENDINGS)
def test_each_ending_says_what_it_is(terminal: Event, said: Said) -> None:
    assert said_by(terminal) == said


# The task


def test_the_task_is_named_where_pages_look_for_it() -> None:
    content: list[Event] = [
        events.Status("a"),
        events.Progress(value=0),
        TextDelta("a"),
        Data("status", {"status": "x"}),
    ]

    said = said_by(*content, events.RunFailed(code="error", message="Sorry."), task_id="t1")

    assert [name for name, fields in said if fields.get("task_id") == "t1"] == ["status", "progress", "error"]
    assert said_by(events.RunCompleted(), task_id="t1") == [("complete", {"task_id": "t1", "status": "completed"})]


@pytest.mark.parametrize("task_id", [5, "x" * 129, ["t1"]])
def test_a_task_id_that_is_none_is_refused(task_id: object) -> None:
    with pytest.raises(OptionInvalidError, match="task_id cannot be"):
        DIALECT.encoder(run_id="run", task_id=task_id)


# The document


def test_the_document_is_what_the_run_returned_and_the_text() -> None:
    assert msgspec.json.decode(DIALECT.document(reduce(RESEARCH))) == {
        "response": "It is dry.",
        "status": "completed",
        "result": "dry",
        "tokens": 2,
    }


@pytest.mark.parametrize("terminal", TERMINALS, ids=lambda terminal: type(terminal).__name__)
def test_the_document_ends_as_the_stream_would(terminal: Event) -> None:
    content: list[Event] = [Data("complete", {"done": True}), terminal]
    _, fields = said_by(*content)[-1]

    document = document_of(*content)

    assert document | fields == document


def test_an_error_before_the_stream_has_the_shape_of_one_in_it() -> None:
    assert msgspec.json.decode(DIALECT.error(409, "conflict", "Used before.")) == {
        "error": "Used before.",
        "type": "conflict",
        "status": 409,
    }


def test_its_clients_come_back_and_its_encoder_has_a_memory() -> None:
    assert DIALECT.name == "steps"
    assert DIALECT.resumes
    assert DIALECT.stateful
    assert set(DIALECT.options) == {"task_id"}
