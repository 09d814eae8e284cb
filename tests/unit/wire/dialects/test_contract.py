"""The numbers that every encoder writes, whatever its frames say."""

from typing import Any

import msgspec
import pytest

from tailrace.events import Data, Entry, TextDelta
from tailrace.fold import Reduced
from tailrace.wire.dialects.contract import (
    Dialect,
    Encoder,
    IdForm,
    TextPieces,
    error_document,
    frame,
    frame_name,
    json_frame,
    value_frame,
)


class Counting(Encoder):
    """Writes as many frames as the entry's data says."""

    def bodies(self, entry: Entry) -> list[bytes]:
        count = entry.event.data if isinstance(entry.event, Data) else 1
        return [b"data: %d\n\n" % number for number in range(count)]


class CountingDialect(Dialect):
    name = "counting"

    def encoder(
        self, *, run_id: str, thread_id: str | None = None, ids: IdForm = "seq", **_options: object
    ) -> Counting:
        return Counting(run_id=run_id, thread_id=thread_id, ids=ids)

    def document(self, reduced: Reduced) -> bytes:
        return b"{}"


def ids_of(frames: list[bytes]) -> list[str | None]:
    """The `id` line of each frame."""
    return [
        first.removeprefix("id: ") if first.startswith("id: ") else None
        for first in (frame.decode().splitlines()[0] for frame in frames)
    ]


def frames_of(entry: Entry, ids: IdForm = "seq") -> list[bytes]:
    return Counting(run_id="run", ids=ids).encode(entry)


@pytest.mark.parametrize(("count", "ids"), [(0, []), (1, ["7"]), (2, ["6.1", "7"]), (4, ["6.1", "6.2", "6.3", "7"])])
def test_the_last_frame_has_the_number_and_those_before_it_count_towards_it(count: int, ids: list[str]) -> None:
    assert ids_of(frames_of(Entry(7, 0, Data("a", count)))) == ids


def test_the_frames_of_a_merged_entry_count_from_the_first_number_it_covers() -> None:
    assert ids_of(frames_of(Entry(9, 0, Data("a", 3), first=5))) == ["4.1", "4.2", "9"]


def test_an_id_may_name_the_run() -> None:
    assert ids_of(frames_of(Entry(7, 0, Data("a", 2)), "run")) == ["run:6.1", "run:7"]


def test_without_a_log_there_are_no_ids() -> None:
    entry = Entry(7, 0, Data("a", 2))

    assert frames_of(entry, "none") == Counting(run_id="run").bodies(entry)


@pytest.mark.parametrize("ids", ["seq", "run", "none"])
def test_what_is_in_no_log_has_no_id(ids: IdForm) -> None:
    assert ids_of(frames_of(Entry(0, 0, Data("a", 2)), ids)) == [None, None]


def test_the_id_line_stands_before_the_frame_and_changes_nothing_in_it() -> None:
    assert frames_of(Entry(7, 0, TextDelta("a"))) == [b"id: 7\ndata: 0\n\n"]


def test_an_encoder_knows_its_run_and_thread() -> None:
    encoder = CountingDialect().encoder(run_id="run", thread_id="thread", include_usage=True)

    assert (encoder.run_id, encoder.thread_id) == ("run", "thread")


def test_a_dialect_promises_nothing_it_does_not_say() -> None:
    dialect = CountingDialect()

    assert dict(dialect.headers) == {}
    assert dialect.resumes is False
    assert dialect.stateful is True


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (frame(b"a"), b"data: a\n\n"),
        (frame(b"", event="end"), b"event: end\ndata: \n\n"),
        (json_frame({"a": "b\nc\u2028"}), 'data: {"a":"b\\nc\u2028"}\n\n'.encode()),
        (json_frame([1], event="e"), b"event: e\ndata: [1]\n\n"),
    ],
)
def test_a_frame_is_one_line_of_data(made: bytes, expected: bytes) -> None:
    assert made == expected


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (value_frame("a\r\nb\rc\n"), b"data: a\ndata: b\ndata: c\ndata: \n\n"),
        (value_frame(" a", event="e"), b"event: e\ndata:  a\n\n"),
        (value_frame(""), b"data: \n\n"),
        (value_frame({"a": "b\n"}, event="e"), b'event: e\ndata: {"a":"b\\n"}\n\n'),
        (value_frame(None), b"data: null\n\n"),
    ],
)
def test_a_value_is_its_text_or_its_json(made: bytes, expected: bytes) -> None:
    assert made == expected


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a-b.c:d_9", "a-b.c:d_9"),
        ("x" * 64, "x" * 64),
        ("", "data"),
        ("9", "data"),
        ("x" * 65, "data"),
        ("a b", "data"),
        ("a\n", "data"),
        ("ä", "data"),
    ],
)
def test_a_name_that_no_source_may_use_is_not_shown(name: str, shown: str) -> None:
    assert frame_name(name) == shown


@pytest.mark.parametrize(
    ("pieces", "frames"),
    [
        (["a", "", "b"], [b"event: e\ndata: a\n\n", b"event: e\ndata: b\n\n"]),
        (["a\r", "\n", "\n"], [b"event: e\ndata: a\ndata: \n\n", b"event: e\ndata: \ndata: \n\n"]),
        (["\r", "", "\nb"], [b"event: e\ndata: \ndata: \n\n", b"event: e\ndata: b\n\n"]),
    ],
)
def test_a_line_end_cut_in_two_is_one(pieces: list[str], frames: list[bytes]) -> None:
    text = TextPieces(event="e")

    assert [frame for piece in pieces for frame in text.frames(piece)] == frames


def test_an_error_is_a_document_of_one_shape() -> None:
    document: dict[str, Any] = msgspec.json.decode(error_document(404, "run_not_found", "no such run"))

    assert document == {"error": {"code": "run_not_found", "message": "no such run", "status": 404}}
    assert CountingDialect().error(404, "run_not_found", "no such run") == error_document(
        404, "run_not_found", "no such run"
    )
