"""The decoder reads what the specification says, for every way to cut the bytes."""

import re
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tailrace.errors import FrameTooLargeError
from tailrace.wire.sse import Decoder, ServerSentEvent

LONG_BYTES = 32 * 1024 * 1024

# Pieces of streams: what servers write, what breaks readers, and bytes without sense.
line_end = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r"])
odd_bytes = st.sampled_from(
    [
        b"\xef\xbb\xbf",
        b"\xef",
        b"\xef\xbb",
        b"\xff",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x98",
        b"\xf0\x9f\x98\x80",
        b"\xe2\x80\xa8",
        b"\xc2\x85",
        b"\x0b",
        b"\0",
    ]
)
plain_bytes = st.sampled_from([b" ", b"a", b"bc", b":", b"1", b"23", b"data: "])
value = st.lists(plain_bytes | odd_bytes, max_size=3).map(b"".join)
name = st.sampled_from([b"data", b"data", b"data", b"id", b"event", b"retry", b"", b"Data", b"dat", b" id"])
separator = st.sampled_from([b": ", b": ", b":", b""])
line = st.tuples(name, separator, value, line_end).map(b"".join)
simple_block = st.sampled_from(
    [
        b"data: x\n\n",
        b"id: 5\ndata: x\n\n",
        b"id: 6\nevent: e\ndata: x\n\n",
        b"event: f\ndata:y\n\n",
        b"id: 7\r\ndata: x\r\n\r\n",
        b"data: \xf0\x9f\x98\x80\xff\n\n",
        b": hb\n",
        b"id: 8\n\n",
        b"id: 9\0\ndata: x\n\n",
        b"id: \ndata: x\n\n",
        b"retry: 10\n",
        b"retry: 10 \n",
        b"retry:  10\n",
        b"retry: 12345678901234567\n",
    ]
)
mark = st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf", b"\xef\xbb"])
body = st.lists(line | line_end | simple_block | odd_bytes, max_size=12).map(b"".join)
stream = st.tuples(mark, body).map(b"".join)


@dataclass
class Reading:
    """What a reader has learnt from a stream."""

    events: list[ServerSentEvent] = field(default_factory=list[ServerSentEvent])
    comments: list[str] = field(default_factory=list[str])
    last_event_id: str = ""
    retry: int | None = None


def read_as_specified(stream: bytes) -> Reading:
    """The specification word for word, over the whole text at once: slow, unbounded and easy to check."""
    reading = Reading()
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    data_buffer = event_type_buffer = last_event_id_buffer = ""
    for complete_line in re.split("\r\n|\r|\n", text)[:-1]:
        field_name, _, field_value = complete_line.partition(":")
        field_value = field_value.removeprefix(" ")
        if not complete_line:
            reading.last_event_id = last_event_id_buffer
            if data_buffer:
                data = data_buffer.removesuffix("\n")
                reading.events.append(ServerSentEvent(event_type_buffer or "message", data, last_event_id_buffer))
            data_buffer = event_type_buffer = ""
        elif complete_line.startswith(":"):
            reading.comments.append(field_value)
        elif field_name == "event":
            event_type_buffer = field_value
        elif field_name == "data":
            data_buffer += field_value + "\n"
        elif field_name == "id" and "\0" not in field_value:
            last_event_id_buffer = field_value
        elif field_name == "retry" and re.fullmatch("[0-9]{1,16}", field_value):
            reading.retry = int(field_value)
    return reading


def read(*chunks: bytes) -> Reading:
    comments: list[str] = []
    decoder = Decoder(on_comment=comments.append)
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return Reading(events, comments, decoder.last_event_id, decoder.retry)


def pieces(stream: bytes, size: int) -> list[bytes]:
    return [stream[start : start + size] for start in range(0, len(stream), size)]


@given(stream)
@example(b"id: 1\ndata: a\n\nid: \ndata: b\n\nid: 2\0\nevent: e\ndata: c\n\n")
def test_a_whole_stream_reads_as_specified(stream: bytes) -> None:
    assert read(stream) == read_as_specified(stream)


@given(stream)
def test_a_cut_at_any_place_changes_nothing(stream: bytes) -> None:
    expected = read_as_specified(stream)

    for cut in range(len(stream) + 1):
        assert read(stream[:cut], stream[cut:]) == expected


@given(stream, st.lists(st.integers(0, 20)))
@example(b"data: a\r\ndata: b\r\n\r\n", [8, 0])
def test_cuts_at_many_places_change_nothing(stream: bytes, sizes: list[int]) -> None:
    chunks: list[bytes] = []
    rest = stream
    for size in sizes:
        chunks.append(rest[:size])
        rest = rest[size:]

    assert read(*chunks, rest) == read_as_specified(stream)


@given(stream)
@example(b"\xef\xbb\xbfid: 1\rdata: a\r\r\nretry: 5\r\n: c\r")
def test_every_byte_acts_as_soon_as_it_can(stream: bytes) -> None:
    reading = Reading()
    decoder = Decoder(on_comment=reading.comments.append)

    for end in range(len(stream)):
        reading.events += decoder.feed(stream[end : end + 1])
        reading.last_event_id, reading.retry = decoder.last_event_id, decoder.retry

        assert reading == read_as_specified(stream[: end + 1])


@given(st.lists(st.lists(line | simple_block, min_size=1, max_size=3).map(b"".join), max_size=6))
@example([b"data: a\n", b": hb\nid: 5\ndata: b\n", b"id: 6\ndata: c\n"])
@example([b"data: a\n", b"id: 5\n", b"data: b\n"])
def test_chunks_of_whole_blocks_read_as_specified(blocks: list[bytes]) -> None:
    chunks = [block + b"\n" for block in blocks]

    assert read(*chunks) == read_as_specified(b"".join(chunks))


@given(st.binary(max_size=200))
def test_any_bytes_at_all_read_as_specified(stream: bytes) -> None:
    assert read(stream) == read(*pieces(stream, 1)) == read_as_specified(stream)


def test_blocks_around_the_length_where_the_way_of_reading_changes_read_alike() -> None:
    stream = b"".join(b"id: %d\ndata: %s\n\n" % (length, b"x" * length) for length in range(900, 1200, 7))

    for size in (1000, 1024, 4096, len(stream)):
        assert read(*pieces(stream, size)) == read_as_specified(stream)


def test_an_event_is_a_value() -> None:
    event = ServerSentEvent("message", "a", "1")

    assert event == ServerSentEvent(event="message", data="a", id="1")
    assert event != ServerSentEvent("message", "a", "2")
    assert repr(event) == "ServerSentEvent(event='message', data='a', id='1')"
    with pytest.raises(AttributeError):
        event.data = "b"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_the_id_a_stream_was_asked_for_with_is_in_force_until_the_stream_sets_another() -> None:
    decoder = Decoder(last_event_id="7")

    before = decoder.last_event_id
    events = decoder.feed(b"data: a\n\nid: 8\ndata: b\n\n")

    assert before == "7"
    assert [event.id for event in events] == ["7", "8"]
    assert decoder.last_event_id == "8"


def test_the_id_of_an_event_that_was_cut_is_not_the_last_one() -> None:
    decoder = Decoder()

    decoder.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")

    assert decoder.last_event_id == "1"


@pytest.mark.parametrize(
    ("stream", "is_too_large"),
    [
        (b"data: " + b"x" * 94, False),
        (b"data: " + b"x" * 95, True),
        (b"data: " + b"x" * 94 + b"\n\n", False),
        (b"data: " + b"x" * 95 + b"\n\n", True),
        (b"event: e\n" + b"data: " + b"x" * 94 + b"\r\n\r\n", False),
        (b"data: " + b"x" * 95 + b"\r\n\r\n", True),
        (b"data: 3456789\n" * 12, False),
        (b"data: 3456789\n" * 13, True),
        (b"data: 3456789\n" * 12 + b"\n", False),
        (b"data: 3456789\n" * 13 + b"\n", True),
        (b"data\n" * 100, False),
        (b"data\n" * 101, True),
        (b"data: a\n\n: " + b"x" * 98 + b"\n", False),
        (b"data: a\n\n: " + b"x" * 99 + b"\n", True),
        (b"data: a\n\nid: " + b"x" * 97 + b"\n\n", True),
        (b"data: a\n" + b": hb\n" * 1000 + b"\n", False),
        (b"data: a\n\n" * 1000, False),
        (b"\n" * 1000, False),
        (b"\xff: a\n" + b"\xff" * 100 + b"\n\n", False),
        (b"data: a\n\ndata: " + b"\xff" * 80 + b"\nid: 1\n\n", False),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 5000])
def test_the_bound_holds_for_a_line_and_for_the_data_of_an_event_and_for_nothing_else(
    stream: bytes, is_too_large: bool, size: int
) -> None:
    decoder = Decoder(max_event_bytes=100)

    raised = False
    try:
        for chunk in pieces(stream, size):
            decoder.feed(chunk)
    except FrameTooLargeError:
        raised = True

    assert raised == is_too_large


def test_beyond_the_bound_every_call_raises() -> None:
    decoder = Decoder(max_event_bytes=10)

    with pytest.raises(FrameTooLargeError) as caught:
        decoder.feed(b"data: too long")

    assert caught.value.limit_bytes == 10
    for chunk in (b"", b"\n\n", b"data: a\n\n"):
        with pytest.raises(FrameTooLargeError):
            decoder.feed(chunk)


def test_the_bound_holds_after_events_that_came_one_by_one() -> None:
    decoder = Decoder(max_event_bytes=20)
    read_before = [decoder.feed(b"data: a\n\n") for _ in range(3)]

    with pytest.raises(FrameTooLargeError):
        decoder.feed(b"data: 345678901234567\n\n")

    assert [len(events) for events in read_before] == [1, 1, 1]


def test_events_that_were_not_returned_are_not_counted_as_seen() -> None:
    decoder = Decoder(max_event_bytes=20)
    decoder.feed(b"id: 1\ndata: a\n\n")

    with pytest.raises(FrameTooLargeError):
        decoder.feed(b"id: 2\ndata: b\n\n" + b"data: 3456789\n" * 3)

    assert decoder.last_event_id == "1"


# The streams below are long and come in small pieces. Work that grows with the square of the length would be some
# thousand gigabytes of copying or searching, which no machine does within the time limit of a test.


def test_a_long_line_in_small_pieces_is_one_event() -> None:
    text = "x" * LONG_BYTES
    decoder = Decoder(max_event_bytes=2 * LONG_BYTES)

    events = [event for piece in pieces(f"data: {text}\n\n".encode(), 400) for event in decoder.feed(piece)]

    assert [event.data == text for event in events] == [True]


def test_a_long_comment_in_small_pieces_is_one_comment() -> None:
    text = "x" * LONG_BYTES
    comments: list[str] = []
    decoder = Decoder(max_event_bytes=2 * LONG_BYTES, on_comment=comments.append)

    for piece in pieces(f": {text}\n".encode(), 400):
        decoder.feed(piece)

    assert [comment == text for comment in comments] == [True]


def test_many_data_lines_in_small_pieces_are_one_event() -> None:
    lines = ["x" * 300] * (LONG_BYTES // 300)
    stream = "".join(f"data: {text}\r\n" for text in lines) + "\r\n"
    decoder = Decoder(max_event_bytes=2 * LONG_BYTES)

    events = [event for piece in pieces(stream.encode(), 400) for event in decoder.feed(piece)]

    assert [event.data == "\n".join(lines) for event in events] == [True]


def test_many_blank_lines_are_nothing() -> None:
    assert read(b"\n" * (LONG_BYTES // 32)) == Reading()


def test_many_events_of_changing_shape_in_one_chunk_are_all_read() -> None:
    text = b"x" * 400
    blocks = b"data: %b\n\n: hb\nevent: e\nid: 1\ndata: %b\n\ndata\ndata: %b\n\n" % (text, text, text)
    count = LONG_BYTES // len(blocks)
    decoder = Decoder(max_event_bytes=2 * LONG_BYTES)

    events = decoder.feed(blocks * count)

    assert len(events) == 3 * count
