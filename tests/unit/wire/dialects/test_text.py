"""The text dialect is what pages read that append every message, and what other SSE libraries would have sent."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace import events
from tailrace.events import Data, Entry, Event, RunStarted, Terminal, TextDelta
from tailrace.fold import merge, reduce
from tailrace.wire.dialects.text import DIALECT
from tailrace.wire.sse import Decoder
from tests.unit.strategies import ODD_TEXT, TERMINALS, filled, logs, merged_variants, numbered

INTERRUPTED = {"code": "worker_lost", "message": "The answer was interrupted."}

#: How the end of each way to end reads.
ENDINGS: dict[str, dict[str, Any]] = {
    "RunCompleted": {"status": "completed"},
    "RunFailed": {"status": "failed", "error": {"code": "timeout", "message": "The answer took too long."}},
    "RunCancelled": {"status": "cancelled"},
    "RunInterrupted": {"status": "interrupted", "error": INTERRUPTED},
    "RunPaused": {"status": "paused"},
}


def stream_of(log: list[Entry]) -> bytes:
    encoder = DIALECT.encoder(run_id="run")
    return b"".join(frame for entry in log for frame in encoder.encode(entry))


def read(log: list[Entry]) -> list[tuple[str, str]]:
    """Name and data of each frame."""
    return [(event.event, event.data) for event in Decoder().feed(stream_of(log))]


def said_by(*content: Event) -> list[tuple[str, str]]:
    return read(filled(numbered([RunStarted(run_id="run", thread_id="thread"), *content])))


def appended(log: list[Entry]) -> str:
    """What a page shows that appends the data of every message, of a log without data of that name."""
    return "".join(data for name, data in read(log) if name == "message")


def line_feeds(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def document_of(*content: Event) -> dict[str, Any]:
    log = filled(numbered([RunStarted(run_id="run"), *content]))
    document: dict[str, Any] = msgspec.json.decode(DIALECT.document(reduce(log)))
    return document


def test_text_comes_without_a_name_and_the_end_under_one() -> None:
    log = numbered([RunStarted(run_id="run"), TextDelta("Hel"), TextDelta(" lo"), events.RunCompleted()])

    assert stream_of(log) == (
        b'id: 2\ndata: Hel\n\nid: 3\ndata:  lo\n\nid: 4\nevent: run.ended\ndata: {"status":"completed"}\n\n'
    )


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["a\nb\n", "\n", "c"], "a\nb\n\nc"),
        (["  a", " ", "\tb "], "  a \tb "),
        (["", "a", ""], "a"),
        (["a\r", "\nb"], "a\nb"),
        (["a\r", "", "\n", "\nb"], "a\n\nb"),
        (["a\r\n", "\nb\rc"], "a\n\nb\nc"),
        (["data: a\n\nid: 9\n", ": no\nevent: x"], "data: a\n\nid: 9\n: no\nevent: x"),
        (["\ufeffa", "\u2028b\x85c\0"], "\ufeffa\u2028b\x85c\0"),
    ],
)
def test_a_page_that_appends_has_the_text_merged_or_not(pieces: list[str], shown: str) -> None:
    log = numbered([RunStarted(run_id="run"), *map(TextDelta, pieces)])

    assert appended(log) == appended(merge(log)) == shown


@settings(max_examples=60)
@given(st.data(), logs)
def test_a_page_that_appends_has_the_text_of_any_run(data: st.DataObject, log: list[Entry]) -> None:
    text = "".join(entry.event.delta for entry in log if isinstance(entry.event, TextDelta))

    assert appended(data.draw(merged_variants(log))) == line_feeds(text)


@pytest.mark.parametrize("piece", ODD_TEXT)
def test_what_is_read_does_not_depend_on_where_the_bytes_are_cut(piece: str) -> None:
    stream = stream_of(numbered([RunStarted(run_id="run"), TextDelta(piece), Data("x", f"{piece}\ry")]))
    decoder = Decoder()

    bytewise = [event for at in range(len(stream)) for event in decoder.feed(stream[at : at + 1])]

    assert bytewise == Decoder().feed(stream)
    assert bytewise[-1].data == line_feeds(f"{piece}\ry")


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (Data("note", "a\r\nb"), ("note", "a\nb")),
        (Data("note", ""), ("note", "")),
        (Data("note", {"a": ["ä\n"]}), ("note", '{"a":["ä\\n"]}')),
        (Data("note", None), ("note", "null")),
        (Data("message", "a"), ("message", "a")),
        (Data("message", 5), ("message", "5")),
        (Data("error", "a", id="1", transient=True), ("error", "a")),
        (Data("a b\nid: 7", 1), ("data", "1")),
        (Data("", 1), ("data", "1")),
    ],
)
def test_data_goes_by_its_own_name(event: Event, shown: tuple[str, str]) -> None:
    assert said_by(event) == [shown]


def test_data_named_message_has_no_name_on_the_wire() -> None:
    assert stream_of(numbered([Data("message", "a")])) == b"id: 1\ndata: a\n\n"


def test_data_cannot_pretend_to_be_the_end() -> None:
    assert said_by(Data("run.ended", {"status": "completed"})) == []


@settings(max_examples=40)
@given(logs)
def test_the_end_comes_once_and_last_and_is_no_message(log: list[Entry]) -> None:
    names = [name for name, _ in read(log)]

    assert names.count("run.ended") == 1
    assert names[-1] == "run.ended"


@pytest.mark.parametrize("terminal", TERMINALS, ids=lambda terminal: type(terminal).__name__)
def test_the_end_says_how_it_ended(terminal: Terminal) -> None:
    ((name, data),) = said_by(terminal)

    assert (name, msgspec.json.decode(data)) == ("run.ended", ENDINGS[type(terminal).__name__])


def test_nothing_else_is_shown() -> None:
    assert (
        said_by(
            events.Status("Thinking"),
            events.ReasoningDelta("hm"),
            events.ToolStarted(name="add"),
            events.ToolOutput(output=1),
            events.Suggestions(["Why?"]),
            events.UIAction({"type": "x"}),
        )
        == []
    )


# The document


def test_the_document_is_the_text_the_data_and_the_status() -> None:
    assert document_of(TextDelta("a\r\n"), Data("x", 1), TextDelta("b"), events.RunCompleted()) == {
        "text": "a\r\nb",
        "status": "completed",
        "data": {"x": [1]},
    }


@pytest.mark.parametrize("terminal", TERMINALS, ids=lambda terminal: type(terminal).__name__)
def test_the_document_ends_as_the_stream_would(terminal: Terminal) -> None:
    assert document_of(terminal) == {"text": "", **ENDINGS[type(terminal).__name__]}


def test_its_clients_come_back_and_its_encoder_has_a_memory() -> None:
    assert DIALECT.name == "text"
    assert DIALECT.resumes
    assert DIALECT.stateful
