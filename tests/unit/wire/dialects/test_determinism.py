"""What every dialect keeps: where a reader attaches, and what was merged before, changes no byte of what follows."""

import msgspec
import pytest
from hypothesis import given, settings

from tailrace.events import Entry, Event, RunStarted, Terminal, TextDelta
from tailrace.fold import MERGED_CHARACTERS, merge, reduce
from tailrace.wire.cursor import Cursor
from tailrace.wire.dialects.contract import Encoder, IdForm
from tailrace.wire.dialects.registry import DIALECTS
from tailrace.wire.sse import Decoder
from tests.unit.strategies import TERMINALS, logs, numbered

MAX_FRAME_BYTES = 1024 * 1024

every_dialect = pytest.mark.parametrize("name", DIALECTS)


def fresh(name: str, ids: IdForm = "seq") -> Encoder:
    return DIALECTS[name].encoder(run_id="run", thread_id="thread", ids=ids)


def fed(name: str, entries: list[Entry]) -> Encoder:
    """An encoder that has seen the entries."""
    encoder = fresh(name)
    for entry in entries:
        encoder.encode(entry)
    return encoder


def encoded(encoder: Encoder, entries: list[Entry]) -> list[list[bytes]]:
    return [encoder.encode(entry) for entry in entries]


@every_dialect
@settings(max_examples=25)
@given(log=logs)
def test_attaching_anywhere_gives_the_bytes_that_a_reader_from_the_start_gets(name: str, log: list[Entry]) -> None:
    expected = encoded(fresh(name), log)

    for seen in range(len(log) + 1):
        assert encoded(fed(name, log[:seen]), log[seen:]) == expected[seen:]


@every_dialect
@settings(max_examples=25)
@given(log=logs)
def test_what_was_merged_before_changes_nothing_that_follows(name: str, log: list[Entry]) -> None:
    expected = encoded(fresh(name), log)

    for seen in range(len(log) + 1):
        assert encoded(fed(name, merge(log[:seen])), log[seen:]) == expected[seen:]


@every_dialect
@settings(max_examples=25)
@given(log=logs)
def test_a_cut_within_an_entry_goes_on_with_its_next_frame(name: str, log: list[Entry]) -> None:
    for entry, frames in zip(log, encoded(fresh(name), log), strict=True):
        for sent in range(1, len(frames)):
            cursor = Cursor.parse(Decoder().feed(frames[sent - 1])[0].id)

            rest = fed(name, log[: cursor.seq]).encode(log[cursor.seq])[cursor.frames :]

            assert cursor == Cursor(entry.seq - 1, sent)
            assert rest == frames[sent:]


@every_dialect
@settings(max_examples=25)
@given(log=logs)
def test_the_ids_lead_from_one_entry_to_the_next(name: str, log: list[Entry]) -> None:
    entries = merge(log)
    bare = encoded(fresh(name), entries)
    naming = encoded(fresh(name, "run"), entries)
    without = encoded(fresh(name, "none"), entries)

    for entry, frames, named, plain in zip(entries, bare, naming, without, strict=True):
        before = entry.since - 1
        ids = [f"{before}.{count}" for count in range(1, len(frames))] + [str(entry.seq)] * bool(frames)

        assert frames == [f"id: {id_}\n".encode() + frame for id_, frame in zip(ids, plain, strict=True)]
        assert named == [f"id: run:{id_}\n".encode() + frame for id_, frame in zip(ids, plain, strict=True)]


@every_dialect
@settings(max_examples=25)
@given(log=logs)
def test_every_frame_is_one_event_in_plain_line_feeds(name: str, log: list[Entry]) -> None:
    for frames in encoded(fresh(name), log) + encoded(fresh(name), merge(log)):
        for frame in frames:
            assert b"\r" not in frame
            assert frame.endswith(b"\n\n")
            assert len(Decoder().feed(frame)) == 1


@every_dialect
@pytest.mark.parametrize("content", [[], [TextDelta("so far", message_id="m1", part_id="p1")]])
@pytest.mark.parametrize("terminal", TERMINALS, ids=lambda terminal: type(terminal).__name__)
def test_the_end_of_a_run_is_always_told(name: str, content: list[Event], terminal: Terminal) -> None:
    *before, last = numbered([RunStarted(run_id="run"), *content, terminal])

    assert fed(name, before).encode(last)


@every_dialect
@pytest.mark.parametrize("character", ["a", "\0", "\u2028", "\U0001f469"])
def test_the_longest_merged_delta_fits_into_a_frame(name: str, character: str) -> None:
    piece = TextDelta(character * (MERGED_CHARACTERS // 2), message_id="m1", part_id="p1")
    started, *merged = merge(numbered([RunStarted(run_id="run"), piece, piece]))

    frames = fed(name, [started]).encode(merged[0])

    assert len(merged) == 1
    assert all(len(frame) < MAX_FRAME_BYTES for frame in frames)


@every_dialect
@settings(max_examples=25)
@given(log=logs)
def test_the_whole_run_is_one_json_document(name: str, log: list[Entry]) -> None:
    assert msgspec.json.decode(DIALECTS[name].document(reduce(log)))


@every_dialect
def test_a_failure_before_the_stream_is_json(name: str) -> None:
    assert msgspec.json.decode(DIALECTS[name].error(503, "draining", "the server is restarting"))
