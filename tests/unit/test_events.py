"""Every event survives its JSON, and nothing else passes for one."""

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tailrace import events
from tailrace.errors import EventInvalidError
from tailrace.events import (
    TERMINAL_TYPES,
    Data,
    Entry,
    Event,
    Opaque,
    Progress,
    RunStarted,
    Status,
    TextDelta,
    ToolProgress,
    decode,
    decode_record,
    encode,
    encode_record,
    event_type,
)
from tests.unit.strategies import ODD_TEXT, STRUCTS, any_event, json_values, structs, text

TYPES: dict[type, str] = {
    events.RunStarted: "run.started",
    events.RunCompleted: "run.completed",
    events.RunFailed: "run.failed",
    events.RunCancelled: "run.cancelled",
    events.RunInterrupted: "run.interrupted",
    events.RunPaused: "run.paused",
    events.StepStarted: "step.started",
    events.StepFinished: "step.finished",
    events.MessageStarted: "message.started",
    events.MessageFinished: "message.finished",
    events.TextDelta: "text.delta",
    events.TextDone: "text.done",
    events.ReasoningDelta: "reasoning.delta",
    events.ReasoningDone: "reasoning.done",
    events.ToolStarted: "tool.started",
    events.ToolArgsDelta: "tool.args.delta",
    events.ToolReady: "tool.ready",
    events.ToolProgress: "tool.progress",
    events.ToolOutput: "tool.output",
    events.ToolError: "tool.error",
    events.Status: "status",
    events.Thought: "thought",
    events.Progress: "progress",
    events.Data: "data",
    events.UIAction: "ui.action",
    events.Suggestions: "suggestions",
    events.Source: "source",
    events.File: "file",
    events.StateSnapshot: "state.snapshot",
    events.StateDelta: "state.delta",
    events.Usage: "usage",
    events.Notice: "notice",
    events.Snapshot: "snapshot",
}

DEEP = b"[" * 100_000 + b"]" * 100_000

at_ms = st.integers(0, 2**53)
unknown_types = st.from_regex(r"later\.[a-z]{1,8}", fullmatch=True)
other_fields = st.dictionaries(text.filter(lambda name: name not in {"type", "at_ms"}), json_values, max_size=3)


@st.composite
def unknown_events(draw: DrawFn) -> bytes:
    """The JSON of events that a later version may know."""
    return msgspec.json.encode({"type": draw(unknown_types), **draw(other_fields)})


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("struct", STRUCTS)
@settings(max_examples=8)
@given(data=st.data())
def test_an_event_reads_back_as_it_was_written(struct: type[msgspec.Struct], data: st.DataObject) -> None:
    event: Event = data.draw(structs(struct))

    assert decode(encode(event)) == event
    assert type(decode(encode(event))) is struct


@pytest.mark.parametrize("piece", ODD_TEXT)
def test_odd_text_reads_back_as_it_was_written(piece: str) -> None:
    assert decode(encode(TextDelta(piece))) == TextDelta(piece)


@settings(max_examples=40)
@given(any_event, st.integers(1, 2**53), at_ms)
def test_an_entry_reads_back_from_its_record(event: Event, seq: int, at_ms: int) -> None:
    assert decode_record(seq, encode_record(at_ms, event)) == Entry(seq, at_ms, event)


@settings(max_examples=40)
@given(any_event, at_ms)
def test_a_record_that_was_read_is_written_as_it_was(event: Event, at_ms: int) -> None:
    record = encode_record(at_ms, event)

    # Readers get entries from the producer's memory or from the store: their frames must be the same bytes.
    assert encode_record(at_ms, decode_record(1, record).event) == record


@settings(max_examples=40)
@given(unknown_events(), at_ms)
def test_a_record_of_a_type_not_known_here_is_written_as_it_was(written: bytes, at_ms: int) -> None:
    record = encode_record(at_ms, decode(written))

    assert encode_record(at_ms, decode_record(1, record).event) == record


@settings(max_examples=40)
@given(any_event)
def test_the_type_comes_first_and_what_is_not_set_is_absent(event: Event) -> None:
    written: dict[str, Any] = msgspec.json.decode(encode(event))
    fields = msgspec.structs.fields(event)

    assert next(iter(written.items())) == ("type", event_type(event))
    assert written.keys() - {"type"} == {
        field.name for field in fields if field.required or getattr(event, field.name) is not None
    }


@settings(max_examples=40)
@given(any_event, at_ms)
def test_a_record_is_the_event_with_its_time_as_the_last_field(event: Event, at_ms: int) -> None:
    written: dict[str, Any] = msgspec.json.decode(encode(event))
    record: dict[str, Any] = msgspec.json.decode(encode_record(at_ms, event))

    assert [*record.items()] == [*written.items(), ("at_ms", at_ms)]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("struct", "field"), [(Progress, "value"), (Progress, "current"), (Progress, "total"), (ToolProgress, "progress")]
)
def test_a_number_that_json_has_not_is_refused_rather_than_written_as_null(
    struct: type[Progress | ToolProgress], field: str, number: float
) -> None:
    fields: dict[str, Any] = {field: number}

    with pytest.raises(EventInvalidError):
        encode(struct(**fields))


def test_the_type_names_are_those_of_the_vocabulary() -> None:
    assert {struct: struct.__struct_config__.tag for struct in STRUCTS} == TYPES


@settings(max_examples=40)
@given(any_event)
def test_an_event_knows_the_name_of_its_type(event: Event) -> None:
    assert event_type(event) == TYPES[type(event)]


def test_five_types_end_a_run() -> None:
    assert (
        frozenset({"run.completed", "run.failed", "run.cancelled", "run.interrupted", "run.paused"}) == TERMINAL_TYPES
    )


def test_every_struct_of_the_vocabulary_is_public() -> None:
    assert {struct.__name__ for struct in get_args(Event)} <= set(events.__all__)


def test_the_piece_is_the_only_field_of_a_delta_that_goes_by_position() -> None:
    for struct in (events.TextDelta, events.ReasoningDelta, events.ToolArgsDelta):
        make: Any = struct

        assert make("x").delta == "x"
        with pytest.raises(TypeError):
            make("x", "y")


def test_an_event_cannot_be_changed() -> None:
    delta: Any = TextDelta("x")

    with pytest.raises(AttributeError):
        delta.delta = "y"


@settings(max_examples=40)
@given(unknown_events())
def test_an_event_of_a_type_not_known_here_is_kept_as_it_came(written: bytes) -> None:
    event = decode(written)

    assert isinstance(event, Opaque)
    assert event_type(event) == msgspec.json.decode(written)["type"]
    assert encode(event) == written


@pytest.mark.parametrize(
    "written", [b'{"type":"later.word","a":1}\n', b' {"type": "later.word",\r\n "a": 1}', b'{"type":"later.word"} ']
)
def test_an_event_of_a_type_not_known_here_becomes_a_record_of_one_line(written: bytes) -> None:
    record = encode_record(5, decode(written))

    assert msgspec.json.decode(record) == {**msgspec.json.decode(written), "at_ms": 5}
    assert len(record.splitlines()) == 1


@settings(max_examples=40)
@given(any_event, unknown_types, json_values)
def test_a_field_not_known_here_is_ignored(event: Event, name: str, value: object) -> None:
    written: dict[str, Any] = msgspec.json.decode(encode(event))

    assert decode(msgspec.json.encode({**written, name: value})) == event


def test_the_type_may_stand_anywhere() -> None:
    assert decode(b'{"text":"a","type":"status"}') == Status("a")


@pytest.mark.parametrize(
    "written",
    [
        b'{"type":"text.delta"}',
        b'{"type":"text.delta","delta":1}',
        b'{"type":"text.delta","delta":null}',
        b'{"type":"text.delta","delta":"a","part_id":1}',
        b'{"type":"run.started"}',
        b'{"type":"run.cancelled","reason":"boredom"}',
        b'{"type":"run.paused","interrupts":[{"id":"i"}]}',
        b'{"type":"progress","value":"half"}',
        b'{"type":"suggestions","items":["a",1]}',
        b'{"type":"ui.action","action":[]}',
    ],
)
def test_a_field_that_is_missing_or_of_another_type_is_an_error_that_names_the_event(written: bytes) -> None:
    with pytest.raises(EventInvalidError) as caught:
        decode(written)

    assert caught.value.reason.startswith(f"{msgspec.json.decode(written)['type']}: ")


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(written, id=name)
        for name, written in {
            "nothing": b"",
            "no JSON": b"text.delta",
            "a list": b'["text.delta"]',
            "cut": b'{"type":"text.delta","delta":"a',
            "no type": b'{"delta":"a"}',
            "a type that is no text": b'{"type":1}',
            "two events": b'{"type":"status","text":"a"}{"type":"status","text":"b"}',
            "a line break in a text": b'{"type":"later.word","a":"b\nc"}',
            "half a surrogate pair": b'{"type":"status","text":"\\ud800."}',
            "no UTF-8": b'{"type":"status","text":"\xff"}',
            "no UTF-8 in a type not known here": b'{"type":"later.word","text":"\xff"}',
            "too deep": b'{"type":"data","name":"a","data":%b}' % DEEP,
            "too deep in a type not known here": b'{"type":"later.word","data":%b}' % DEEP,
        }.items()
    ],
)
def test_bytes_that_are_no_event_are_refused(written: bytes) -> None:
    with pytest.raises(EventInvalidError):
        decode(written)
    with pytest.raises(EventInvalidError):
        decode_record(1, written)


@pytest.mark.parametrize(
    "event",
    [
        TextDelta("\ud800"),
        Data("a", object()),
        Data("a", {("a", "b"): 1}),
        Data("a", cyclic()),
        RunStarted(run_id="r", meta={"a": object()}),
    ],
)
def test_what_has_no_json_form_is_refused(event: Event) -> None:
    with pytest.raises(EventInvalidError, match=event_type(event)):
        encode(event)
    with pytest.raises(EventInvalidError):
        encode_record(1, event)


def test_an_entry_tells_where_what_it_covers_begins() -> None:
    assert Entry(7, 0, TextDelta("a")).since == 7
    assert Entry(7, 0, TextDelta("a"), first=3).since == 3
