"""The native dialect shows the log as it is, and no frame of it can be taken for another."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings

from tailrace import events
from tailrace.events import Data, Entry, Event, Opaque, RunCompleted, RunStarted, TextDelta, decode, event_type
from tailrace.fold import merge, reduce
from tailrace.wire.dialects.native import DIALECT, RESET, reconnect
from tailrace.wire.sse import Decoder, ServerSentEvent
from tests.unit.strategies import ODD_TEXT, STRUCTS, any_event, logs, numbered, text

NOT_FOR_APPLICATIONS = [
    *(str(struct.__struct_config__.tag) for struct in STRUCTS),
    "error",
    "open",
    "message",
    "reset",
    "reconnect",
]


def frames_of(entry: Entry) -> list[bytes]:
    return DIALECT.encoder(run_id="run").encode(entry)


def read(event: Event) -> ServerSentEvent:
    """The only event in the only frame."""
    (frame,) = frames_of(Entry(7, 1_000, event))
    (shown,) = Decoder().feed(frame)
    return shown


def test_a_frame_has_the_number_the_type_and_the_record() -> None:
    assert frames_of(Entry(7, 1_000, TextDelta("a", part_id="p1"))) == [
        b'id: 7\nevent: text.delta\ndata: {"type":"text.delta","delta":"a","part_id":"p1","at_ms":1000}\n\n'
    ]


def test_a_merged_frame_says_where_what_it_covers_begins() -> None:
    assert frames_of(Entry(9, 1_000, TextDelta("abc"), first=7)) == [
        b'id: 9\nevent: text.delta\ndata: {"type":"text.delta","delta":"abc","at_ms":1000,"first":7}\n\n'
    ]


@settings(max_examples=50)
@given(any_event.filter(lambda event: not isinstance(event, Data)))
def test_an_event_reads_back_under_its_type(event: Event) -> None:
    shown = read(event)

    assert (shown.event, shown.id) == (event_type(event), "7")
    assert decode(shown.data.encode()) == event


@pytest.mark.parametrize("piece", ODD_TEXT)
def test_odd_text_stays_in_its_frame(piece: str) -> None:
    assert decode(read(TextDelta(piece)).data.encode()) == TextDelta(piece)


@settings(max_examples=40)
@given(logs)
def test_every_entry_is_one_frame(log: list[Entry]) -> None:
    for entries in (log, merge(log)):
        encoder = DIALECT.encoder(run_id="run")

        shown = Decoder().feed(b"".join(frame for entry in entries for frame in encoder.encode(entry)))

        assert [event.id for event in shown] == [str(entry.seq) for entry in entries]


@settings(max_examples=40)
@given(logs)
def test_the_frames_a_reader_accepts_follow_each_other(log: list[Entry]) -> None:
    encoder = DIALECT.encoder(run_id="run")
    cursor = 0

    for entry in merge(log):
        (shown,) = Decoder().feed(encoder.encode(entry)[0])
        fields: dict[str, Any] = msgspec.json.decode(shown.data)

        assert fields.get("first", int(shown.id)) == cursor + 1
        cursor = int(shown.id)

    assert cursor == len(log)


# Names


@pytest.mark.parametrize("name", ["weather", "new-message", "Chart_2", "chunk", "x" * 64])
def test_application_data_goes_by_its_own_name(name: str) -> None:
    shown = read(Data(name, {"a": 1}))

    assert shown.event == name
    assert decode(shown.data.encode()) == Data(name, {"a": 1})


@pytest.mark.parametrize("name", NOT_FOR_APPLICATIONS)
def test_a_name_that_is_taken_falls_back_to_data(name: str) -> None:
    shown = read(Data(name, {"a": 1}))

    assert shown.event == "data"
    assert decode(shown.data.encode()) == Data(name, {"a": 1})


@settings(max_examples=50)
@given(text)
@example("")
@example("a\nid: 99")
@example("a\rdata: b")
@example("a\n\nevent: run.completed\ndata: {}")
@example("a\0b")
@example(" a")
@example("text.delta.mine")
def test_no_name_at_all_can_write_anything_but_a_name(name: str) -> None:
    shown = read(Data(name, 1))

    assert shown.event in {name, "data"}
    assert shown.event not in {"", "message"}
    assert shown.id == "7"
    assert decode(shown.data.encode()) == Data(name, 1)


@settings(max_examples=50)
@given(text)
@example("error")
@example("open")
@example("message")
@example("reset")
@example("reconnect")
@example("later.word")
@example("")
@example("a\nid: 99")
def test_an_event_of_a_type_not_known_here_writes_no_name_that_means_something_else(name: str) -> None:
    shown = read(Opaque(name, msgspec.json.encode({"type": name})))

    assert shown.event in {name, "data"} - {"", "error", "open", "message", "reset", "reconnect"}
    assert shown.id == "7"
    assert msgspec.json.decode(shown.data) == {"type": name, "at_ms": 1_000}


def test_an_event_of_a_type_not_known_here_goes_by_its_type() -> None:
    assert read(decode(b'{"type":"later.word_2","of":"all"}')) == ServerSentEvent(
        "later.word_2", '{"type":"later.word_2","of":"all","at_ms":1000}', "7"
    )


def test_an_event_that_came_on_several_lines_is_one_line_of_data() -> None:
    shown = read(decode(b'{"type":"later.word",\n\n"of":\r\n"all"}'))

    assert msgspec.json.decode(shown.data) == {"type": "later.word", "of": "all", "at_ms": 1_000}


# Control frames


def test_a_reset_has_no_number() -> None:
    assert Decoder(last_event_id="7").feed(RESET) == [ServerSentEvent("reset", "{}", "7")]


def test_a_reconnect_has_no_number_and_a_delay() -> None:
    decoder = Decoder(last_event_id="7")

    assert decoder.feed(reconnect(1_500)) == [ServerSentEvent("reconnect", "{}", "7")]
    assert decoder.retry == 1_500


def test_a_reconnect_may_have_a_reason() -> None:
    assert reconnect(1_500, "expired") == b'retry: 1500\nevent: reconnect\ndata: {"reason":"expired"}\n\n'


# The dialect


def test_its_clients_come_back_and_its_encoder_has_no_memory() -> None:
    assert DIALECT.name == "native"
    assert DIALECT.resumes
    assert not DIALECT.stateful


def test_an_encoder_ignores_options_it_does_not_know() -> None:
    assert DIALECT.encoder(run_id="run", sdk_version=5).encode(Entry(1, 0, TextDelta("a")))


def test_the_document_is_the_reduced_run_with_its_text() -> None:
    log = numbered(
        [
            RunStarted(run_id="run", thread_id="thread"),
            TextDelta("Hel", message_id="m1", part_id="p1"),
            TextDelta("lo", message_id="m1", part_id="p1"),
            events.Suggestions(["Why?"]),
            RunCompleted(finish_reason="stop", result={"a": 1}),
        ]
    )

    assert msgspec.json.decode(DIALECT.document(reduce(log))) == {
        "run_id": "run",
        "thread_id": "thread",
        "seq": 5,
        "started_at_ms": 1001,
        "status": "completed",
        "finish_reason": "stop",
        "result": {"a": 1},
        "text": "Hello",
        "messages": [{"id": "m1", "role": "assistant", "parts": [{"type": "text", "id": "p1", "text": "Hello"}]}],
        "suggestions": ["Why?"],
    }


def test_the_document_of_a_run_that_goes_on_says_so() -> None:
    document: dict[str, Any] = msgspec.json.decode(DIALECT.document(reduce([])))

    assert (document["status"], document["text"]) == ("running", "")
