"""A frame says to every reader what the caller said, and nothing that the caller did not."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import FrameInvalidError
from tailrace.wire.sse import Decoder, ServerSentEvent, encode_event

# Every code point there is, surrogates included, with those that end lines somewhere drawn more often.
any_text = st.text(
    st.one_of(
        st.sampled_from("\r\n\0 :\ufeff\v\f\x1c\x1d\x1e\x85\u2028\u2029\ud800\udc00\U0001f600"),
        st.characters(exclude_categories=()),
    ),
)
one_line = any_text.filter(lambda text: not re.search("[\r\n\0]", text))


def as_scalar_values(text: str) -> str:
    """What UTF-8 can carry of a text: surrogate pairs as the character they stand for, and U+FFFD for the others."""

    def joined(pair: re.Match[str]) -> str:
        high, low = map(ord, pair[0])
        return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))

    return re.sub("[\ud800-\udfff]", "\ufffd", re.sub("[\ud800-\udbff][\udc00-\udfff]", joined, text))


def as_read(text: str) -> str:
    return as_scalar_values(re.sub("\r\n?", "\n", text))


@pytest.mark.parametrize(
    ("arguments", "frame"),
    [
        ({"data": "hello"}, b"data: hello\n\n"),
        ({"data": ""}, b"data: \n\n"),
        ({"data": None}, b"\n"),
        ({"data": " a "}, b"data:  a \n\n"),
        ({"data": "a\nb"}, b"data: a\ndata: b\n\n"),
        ({"data": "a\r\nb\rc\n"}, b"data: a\ndata: b\ndata: c\ndata: \n\n"),
        ({"data": "\n\r"}, b"data: \ndata: \ndata: \n\n"),
        ({"data": "a\v\f\x1c\x1d\x1e\x85\u2028\u2029b\0"}, "data: a\v\f\x1c\x1d\x1e\x85\u2028\u2029b\0\n\n".encode()),
        ({"data": "a", "event": "text.delta", "id": "7"}, b"id: 7\nevent: text.delta\ndata: a\n\n"),
        ({"data": "a", "event": "", "id": ""}, b"id: \ndata: a\n\n"),
        ({"data": "a", "event": " e\t\x85", "id": " 1\u2028"}, "id:  1\u2028\nevent:  e\t\x85\ndata: a\n\n".encode()),
        ({"data": None, "id": "7"}, b"id: 7\n\n"),
        ({"data": "a", "retry": 0}, b"retry: 0\ndata: a\n\n"),
        ({"data": None, "retry": 3000}, b"retry: 3000\n\n"),
        ({"data": None, "retry": 10**16 - 1}, b"retry: 9999999999999999\n\n"),
        ({"data": None, "comment": "hb"}, b": hb\n\n"),
        ({"data": None, "comment": ""}, b": \n\n"),
        ({"data": None, "comment": "a\nid: 1\r\rdata: b"}, b": a\n: id: 1\n: \n: data: b\n\n"),
        (
            {"data": "a", "event": "e", "id": "7", "retry": 5, "comment": "c"},
            b": c\nretry: 5\nid: 7\nevent: e\ndata: a\n\n",
        ),
    ],
)
def test_a_frame_is_written_in_one_way(arguments: dict[str, Any], frame: bytes) -> None:
    assert encode_event(**arguments) == frame


@pytest.mark.parametrize("field", ["event", "id"])
@pytest.mark.parametrize("value", ["a\nb", "a\rdata: b", "a\0", "\n", "\r\n", "\0", "\ud800\n"])
def test_a_field_of_one_line_refuses_what_would_break_it(field: str, value: str) -> None:
    arguments: dict[str, Any] = {field: value}

    with pytest.raises(FrameInvalidError, match=field):
        encode_event("a", **arguments)


@pytest.mark.parametrize("retry", [-1, 10**16, pytest.param(10**5000, id="5001 digits"), True, False, 1.0, "10", b"10"])
def test_retry_refuses_what_is_no_delay(retry: object) -> None:
    arguments: dict[str, Any] = {"retry": retry}

    with pytest.raises(FrameInvalidError, match="retry"):
        encode_event("a", **arguments)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("\ud800", "\ufffd"),
        ("a\udc00b", "a\ufffdb"),
        ("\ud800\ud800\udc00", "\ufffd\U00010000"),
        ("\udc00\ud800", "\ufffd\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ud800\n\udc00", "\ufffd\n\ufffd"),
    ],
)
def test_surrogates_become_what_utf_8_can_carry(text: str, read: str) -> None:
    frame = encode_event(text)

    assert Decoder().feed(frame) == [ServerSentEvent("message", read, "")]


@given(any_text)
def test_any_text_reads_back_as_itself_with_lf_line_ends(text: str) -> None:
    frame = encode_event(text)

    assert Decoder().feed(frame) == [ServerSentEvent("message", as_read(text), "")]


@given(data=any_text, event=one_line, event_id=one_line, retry=st.integers(0, 10**16 - 1), comment=any_text)
def test_every_field_reads_back_from_a_frame_of_all(
    data: str, event: str, event_id: str, retry: int, comment: str
) -> None:
    comments: list[str] = []
    decoder = Decoder(on_comment=comments.append)

    events = decoder.feed(encode_event(data, event=event, id=event_id, retry=retry, comment=comment))

    assert events == [ServerSentEvent(as_read(event) or "message", as_read(data), as_read(event_id))]
    assert decoder.retry == retry
    assert comments == as_read(comment).split("\n")


@given(st.lists(st.tuples(any_text | st.none(), one_line | st.none(), one_line | st.none())))
def test_frames_one_after_another_keep_their_meaning(frames: list[tuple[str | None, str | None, str | None]]) -> None:
    stream = b"".join(encode_event(data, event=event, id=event_id) for data, event, event_id in frames)

    events = Decoder().feed(stream)

    expected: list[ServerSentEvent] = []
    id_in_force = ""
    for data, event, event_id in frames:
        id_in_force = id_in_force if event_id is None else as_read(event_id)
        if data is not None:
            expected.append(ServerSentEvent(as_read(event or "") or "message", as_read(data), id_in_force))
    assert events == expected


@given(data=any_text | st.none(), event=one_line | st.none(), event_id=one_line | st.none(), comment=any_text)
def test_a_frame_is_utf_8_with_lf_and_one_blank_line_at_its_end(
    data: str | None, event: str | None, event_id: str | None, comment: str
) -> None:
    frame = encode_event(data, event=event, id=event_id, comment=comment)

    lines = frame.decode("utf-8", "strict").split("\n")
    assert lines[-2:] == ["", ""]
    assert all(line.startswith((": ", "id: ", "event: ", "data: ")) for line in lines[:-2])
    assert b"\r" not in frame
