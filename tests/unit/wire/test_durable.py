"""The Durable Streams protocol as bytes: what stands in URLs, bodies and event streams."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import CursorInvalidError, EventInvalidError
from tailrace.wire.durable import Format, control_frame, etag, format_offset, next_cursor, parse_offset
from tailrace.wire.sse import Decoder

#: One interval begins here: a hundred of them after the epoch.
NOW_SECONDS = 1_728_432_000 + 100 * 20

JSON = Format("application/json; charset=utf-8")
TEXT = Format("Text/Plain")
BYTES = Format("application/octet-stream")


@given(st.integers(0, 10**15))
def test_an_offset_is_read_back(seq: int) -> None:
    assert parse_offset(format_offset(seq)) == seq


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_offsets_sort_as_their_numbers_do(one: int, other: int) -> None:
    assert (format_offset(one) < format_offset(other)) == (one < other)


def test_the_beginning_and_the_end_have_names() -> None:
    assert parse_offset("-1") == 0
    assert parse_offset("now") is None


@pytest.mark.parametrize(
    "text", ["", "0", "-2", "1" * 15, "1" * 17, "0000000000000001\n", "\N{ARABIC-INDIC DIGIT ZERO}" * 16, "0,1", "../x"]
)
def test_what_this_server_did_not_give_out_is_no_offset(text: str) -> None:
    with pytest.raises(CursorInvalidError):
        parse_offset(text)


@pytest.mark.parametrize(
    ("sent", "jitter_seconds", "expected"),
    [
        (None, 3_600, 100),
        ("99", 3_600, 100),
        ("not a number", 3_600, 100),
        ("9" * 16, 3_600, 100),
        ("100", 1, 101),
        ("100", 3_600, 280),
        ("5000", 40, 5_002),
    ],
)
def test_a_cursor_counts_intervals_and_never_comes_twice(sent: str | None, jitter_seconds: int, expected: int) -> None:
    assert next_cursor(NOW_SECONDS + 19.9, sent, jitter_seconds=jitter_seconds) == str(expected)


def test_an_entity_tag_changes_when_a_log_is_closed() -> None:
    assert etag("log", 1, 2, closed=False) == '"log:1:2"'
    assert etag("log", 1, 2, closed=True) == '"log:1:2:c"'


def test_a_content_type_says_how_messages_stand_together() -> None:
    messages = [b'{"a":1}', b"2"]

    assert (JSON.media_type, JSON.is_json, JSON.is_binary) == ("application/json", True, False)
    assert (TEXT.media_type, TEXT.is_json, TEXT.is_binary) == ("text/plain", False, False)
    assert (BYTES.is_json, BYTES.is_binary) == (False, True)
    assert JSON.body(messages) == b'[{"a":1},2]'
    assert JSON.body([]) == b"[]"
    assert TEXT.body(messages) == b'{"a":1}2'


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        (b"", []),
        (b"[]", []),
        (b' {"a": 1} ', [b'{"a": 1}']),
        (b"[1, [2, 3], null]", [b"1", b"[2, 3]", b"null"]),
        (b"[[1,2]]", [b"[1,2]"]),
        (b'"[1]"', [b'"[1]"']),
        (b"[0.10000000000000000001]", [b"0.10000000000000000001"]),
    ],
)
def test_a_json_array_is_as_many_messages_as_it_has_elements(body: bytes, messages: list[bytes]) -> None:
    assert JSON.split(body) == messages


@pytest.mark.parametrize("body", [b"{", b"[1,]", b"01", b'"\xff"', b"[" * 10_000, b"NaN", b'["\\x"]', b"1 2"])
def test_what_is_no_json_is_no_message(body: bytes) -> None:
    with pytest.raises(EventInvalidError):
        JSON.split(body)


@pytest.mark.parametrize("body", [b"{", b"\xff", b" "])
def test_bytes_are_one_message_whatever_they_are(body: bytes) -> None:
    assert BYTES.split(body) == [body]


def test_data_has_no_space_after_the_colon() -> None:
    assert JSON.data_frame([b"1", b"2"]) == b"event: data\ndata:[1,2]\n\n"


@given(st.lists(st.text()))
def test_text_arrives_with_every_line_end_as_a_line_feed(texts: list[str]) -> None:
    text = "".join(texts)

    events = Decoder().feed(TEXT.data_frame([part.encode() for part in texts]))

    assert [event.data for event in events] == [text.replace("\r\n", "\n").replace("\r", "\n")]


def test_a_line_that_begins_with_a_space_keeps_it() -> None:
    (event,) = Decoder().feed(TEXT.data_frame([b" a\n b"]))

    assert event.data == " a\n b"


def test_text_that_is_no_utf8_does_not_break_the_event_stream() -> None:
    (event,) = Decoder().feed(TEXT.data_frame([b"a\xffb"]))

    assert event.data == "a\N{REPLACEMENT CHARACTER}b"


def test_bytes_arrive_as_base64() -> None:
    assert BYTES.data_frame([b"\0\1", b"\2"]) == b"event: data\ndata:AAEC\n\n"


def test_a_control_event_says_where_the_reader_stands() -> None:
    frames = [
        control_frame(7, cursor="100", up_to_date=False, closed=False),
        control_frame(7, cursor="100", up_to_date=True, closed=False),
        control_frame(7, cursor="100", up_to_date=True, closed=True),
    ]

    said = [msgspec.json.decode(event.data) for event in Decoder().feed(b"".join(frames))]

    offset = {"streamNextOffset": "0000000000000007"}
    assert said == [
        {**offset, "streamCursor": "100"},
        {**offset, "streamCursor": "100", "upToDate": True},
        {**offset, "streamClosed": True, "upToDate": True},
    ]
