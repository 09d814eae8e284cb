"""The splitter cuts between frames and nowhere else, and no byte is lost, added or moved."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import FrameTooLargeError
from tailrace.wire.sse import Decoder, FrameSplitter, ServerSentEvent

LONG_BYTES = 32 * 1024 * 1024

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

line = st.sampled_from(
    [
        b"data: a",
        b"data",
        b"id: 1",
        b"event: e",
        b"retry: 5",
        b": hb",
        b":",
        b"x",
        b"",
        b"",
        BYTE_ORDER_MARK,
        b"\xef\xbb: a",
        b"data: \xf0\x9f\x98",
    ]
)
line_end = st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"])
mark = st.sampled_from([b"", BYTE_ORDER_MARK, b"\xef", b"\xef\xbb"])
lines = st.lists(st.tuples(line, line_end).map(b"".join), max_size=14).map(b"".join)
stream = st.tuples(mark, lines, line).map(b"".join)


def items_as_described(stream: bytes) -> list[bytes]:
    """The rule line by line over the whole stream: slow and easy to check."""
    items: list[bytes] = []
    frame = b""
    for match in re.finditer(rb"([^\r\n]*)(?:\r\n|\r|\n)", stream):
        text = match[1] if match.start() else match[1].removeprefix(BYTE_ORDER_MARK)
        at_boundary = not frame
        frame += match[0]
        if not text or (at_boundary and text.startswith(b":")):
            items.append(frame)
            frame = b""
    return items


def cuts_between(items: list[bytes], stream: bytes) -> list[int]:
    """Where the items end in the stream; an end between CR and LF counts as the end after the LF."""
    ends = [sum(map(len, items[: index + 1])) for index in range(len(items))]
    return [end + (stream[end - 1 : end + 1] == b"\r\n") for end in ends]


def pieces(stream: bytes, size: int) -> list[bytes]:
    return [stream[start : start + size] for start in range(0, len(stream), size)]


def events_of(items: list[bytes]) -> list[ServerSentEvent]:
    decoder = Decoder()
    return [event for item in items for event in decoder.feed(item)]


@pytest.mark.parametrize(
    ("chunks", "items", "pending"),
    [
        ([], [], b""),
        ([b""], [], b""),
        ([b"data: a\n\n"], [b"data: a\n\n"], b""),
        ([b"data: a\r\n\r\ndata: b\r\n"], [b"data: a\r\n\r\n"], b"data: b\r\n"),
        ([b"data: a\r\rdata: b"], [b"data: a\r\r"], b"data: b"),
        ([b"data: a\n", b"\ndata: b\n", b"\n"], [b"data: a\n\n", b"data: b\n\n"], b""),
        ([b": hb\n"], [b": hb\n"], b""),
        ([b": h", b"b\ndata: a\n: in a frame\n\n"], [b": hb\n", b"data: a\n: in a frame\n\n"], b""),
        ([b": hb\n\n"], [b": hb\n", b"\n"], b""),
        ([b"\n\r\n\r"], [b"\n", b"\r\n", b"\r"], b""),
        ([b"data: a\r\n\r", b"\ndata: b\n\n"], [b"data: a\r\n\r", b"\ndata: b\n\n"], b""),
        ([b"data: a\r\n\r", b"\n"], [b"data: a\r\n\r"], b"\n"),
        ([b": hb\r", b"\n: hb\r", b"\n: hb"], [b": hb\r", b"\n: hb\r"], b"\n: hb"),
        ([b": hb\r", b"data: a\n\n"], [b": hb\r", b"data: a\n\n"], b""),
        ([b": hb\r", b"\n\ndata: a"], [b": hb\r", b"\n\n"], b"data: a"),
        ([BYTE_ORDER_MARK + b": hb\ndata: a\n\n"], [BYTE_ORDER_MARK + b": hb\n", b"data: a\n\n"], b""),
        ([b"\xef", b"\xbb", b"\xbf", b"\n"], [BYTE_ORDER_MARK + b"\n"], b""),
        ([b"\xef\xbb"], [], b"\xef\xbb"),
        ([b"\xef\xbb", b"\n\n"], [b"\xef\xbb\n\n"], b""),
    ],
)
def test_an_item_ends_where_a_frame_does(chunks: list[bytes], items: list[bytes], pending: bytes) -> None:
    splitter = FrameSplitter()

    found = [item for chunk in chunks for item in splitter.feed(chunk)]

    assert found == items
    assert splitter.pending == pending


@given(stream)
def test_a_whole_stream_is_cut_as_described(stream: bytes) -> None:
    splitter = FrameSplitter()

    items = splitter.feed(stream)

    assert items == items_as_described(stream)
    assert b"".join(items) + splitter.pending == stream


@given(stream)
def test_a_cut_at_any_place_loses_no_byte_and_moves_no_end(stream: bytes) -> None:
    expected = cuts_between(items_as_described(stream), stream)

    for cut in range(len(stream) + 1):
        splitter = FrameSplitter()
        items = splitter.feed(stream[:cut]) + splitter.feed(stream[cut:])

        assert b"".join(items) + splitter.pending == stream
        assert cuts_between(items, stream) == expected


@given(stream)
def test_every_item_comes_with_its_last_byte(stream: bytes) -> None:
    splitter = FrameSplitter()
    items: list[bytes] = []

    for end in range(1, len(stream) + 1):
        items += splitter.feed(stream[end - 1 : end])

        assert b"".join(items) + splitter.pending == stream[:end]
        assert len(items) == len(items_as_described(stream[:end]))


@given(stream, st.integers(1, 20))
def test_items_read_as_the_whole_stream_does(stream: bytes, size: int) -> None:
    splitter = FrameSplitter()

    items = [item for chunk in pieces(stream, size) for item in splitter.feed(chunk)]

    assert events_of(items) == events_of([stream])


@given(stream, st.integers(1, 20))
def test_an_item_needs_nothing_of_those_before_it_but_the_id(stream: bytes, size: int) -> None:
    splitter = FrameSplitter()

    items = [item for chunk in pieces(stream, size) for item in splitter.feed(chunk)]

    # A comment in front keeps a byte order mark in the middle of the stream from looking like one at its start.
    alone = [event for item in items for event in events_of([item] if item is items[0] else [b":\n", item])]
    assert [(event.event, event.data) for event in alone] == [
        (event.event, event.data) for event in events_of([stream])
    ]


@pytest.mark.parametrize("size", [1, 7, 5000])
@pytest.mark.parametrize(
    ("stream", "is_too_large"),
    [
        (b"data: " + b"x" * 94, False),
        (b"data: " + b"x" * 95, True),
        (b"data: " + b"x" * 92 + b"\n\n", False),
        (b"data: " + b"x" * 93 + b"\n\n", True),
        (b"data: " + b"x" * 90 + b"\r\n\r\n", False),
        (b"data: " + b"x" * 92 + b"\r\n\r\n", True),
        (BYTE_ORDER_MARK + b": " + b"x" * 97 + b"\n", False),
        (BYTE_ORDER_MARK + b": " + b"x" * 98 + b"\n", True),
        (b"data: a\n" * 12 + b"\n", False),
        (b"data: a\n" * 13, True),
        (b"data: a\n\n" * 1000, False),
    ],
)
def test_the_bound_holds_for_each_item(stream: bytes, is_too_large: bool, size: int) -> None:
    splitter = FrameSplitter(max_frame_bytes=100)

    raised = False
    try:
        for chunk in pieces(stream, size):
            splitter.feed(chunk)
    except FrameTooLargeError:
        raised = True

    assert raised == is_too_large


def test_beyond_the_bound_every_call_raises() -> None:
    splitter = FrameSplitter(max_frame_bytes=10)

    with pytest.raises(FrameTooLargeError) as caught:
        splitter.feed(b"data: too long")

    assert caught.value.limit_bytes == 10
    for chunk in (b"", b"\n\n", b"data: a\n\n"):
        with pytest.raises(FrameTooLargeError):
            splitter.feed(chunk)
    assert splitter.pending == b"data: too long"


# As for the decoder: with work that grows with the square of the length these would not end within the time limit.


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_long_frame_in_small_pieces_is_one_item(end: bytes) -> None:
    frame = (b"data: " + b"x" * 1000 + end) * (LONG_BYTES // 1000) + end
    splitter = FrameSplitter(max_frame_bytes=2 * LONG_BYTES)

    items = [item for piece in pieces(frame, 400) for item in splitter.feed(piece)]

    assert [item + splitter.pending == frame for item in items] == [True]


def test_many_frames_in_one_chunk_are_as_many_items() -> None:
    frame = b"data: " + b"x" * 400 + b"\n\n"
    count = LONG_BYTES // len(frame)

    items = FrameSplitter().feed(frame * count)

    assert len(items) == count
    assert set(items) == {frame}
