"""Frames as dialects write them: a line of JSON, or text over as many lines as it has."""

import pytest

from tailrace.wire.frames import TextPieces, frame, frame_name, json_frame, value_frame


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
