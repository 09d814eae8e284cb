"""A block gives back, byte for byte, the records it was made of, and takes far less room than they did."""

import random
import zlib
from itertools import accumulate

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import events
from tailrace.errors import EventInvalidError
from tailrace.events import Entry, Event, encode_record
from tailrace.runtime.blocks import decode_block, encode_block
from tailrace.stores import contract
from tests.unit.strategies import any_event, logs, loose_logs

RAW, STRETCH = 0, 1
DELTA = b'{"type":"text.delta","delta":""}'

times = st.integers(0, 2**53) | st.integers(-(2**70), 2**70)


def records_of(log: list[Entry]) -> list[bytes]:
    return [encode_record(entry.at_ms, entry.event) for entry in log]


def packed(version: int, *segments: object) -> bytes:
    """A block with these segments, whatever they are."""
    return zlib.compress(msgspec.msgpack.encode([version, segments]))


# Exact -----------------------------------------------------------------------------------------------------------


@given(logs | loose_logs())
def test_any_log_comes_back_to_the_byte(log: list[Entry]) -> None:
    records = records_of(log)

    assert decode_block(encode_block(records)) == records


@given(st.lists(st.tuples(times, any_event), max_size=8))
def test_any_events_at_any_times_come_back_to_the_byte(content: list[tuple[int, Event]]) -> None:
    records = [encode_record(at_ms, event) for at_ms, event in content]

    assert decode_block(encode_block(records)) == records


@given(st.lists(times, max_size=8))
def test_deltas_whose_clock_jumps_come_back_to_the_byte(clock: list[int]) -> None:
    records = [encode_record(at_ms, events.TextDelta("w", message_id="m", part_id="p")) for at_ms in clock]

    assert decode_block(encode_block(records)) == records


@given(st.lists(st.text(), max_size=8))
def test_deltas_of_any_text_come_back_to_the_byte(texts: list[str]) -> None:
    records = [encode_record(5, events.ReasoningDelta(text)) for text in texts]

    assert decode_block(encode_block(records)) == records


@pytest.mark.parametrize(
    "record",
    [
        b'{"type": "text.delta", "delta": "spaced", "at_ms": 5}',
        b'{"at_ms":5,"delta":"another order","type":"text.delta"}',
        b'{"type":"text.delta","delta":"\\u0061n escape","at_ms":5}',
        b'{"type":"text.delta","delta":"twice","delta":"told","at_ms":5}',
        b'{"type":"text.delta","delta":"a field of later","later":[1],"at_ms":5}',
        b'{"type":"text.delta","delta":"an extension","ext":{"b":1.50,"a":null},"at_ms":5}',
        b'{"type":"text.delta","delta":"no time"}',
        b'{"type":"text.delta","delta":"far","at_ms":99999999999999999999}',
        b'{"type":"later.word","of" : "all","at_ms":5}',
    ],
)
def test_records_that_others_wrote_stay_as_they_are_among_our_own(record: bytes) -> None:
    ours = [encode_record(at_ms, events.TextDelta("w")) for at_ms in (4, 3)]

    for records in ([record], [*ours, record, *ours], [record, record]):
        assert decode_block(encode_block(records)) == records


def test_a_run_without_records_is_a_block_without_records() -> None:
    assert decode_block(encode_block([])) == []


# Small -----------------------------------------------------------------------------------------------------------


def chat_like_log() -> list[bytes]:
    """A question answered in 2,000 events: a little thinking, a tool, and much text, some milliseconds apart."""
    dice = random.Random(5)  # noqa: S311  repeatable, not secret
    words = [f" {word}" for word in dice.choices((contract.__doc__ or "").split(), k=1_989)]
    content: list[Event] = [
        events.RunStarted(run_id="r" * 26, message_id="m1"),
        *(events.ReasoningDelta(word, message_id="m1", part_id="p0") for word in words[:190]),
        events.ReasoningDone(message_id="m1", part_id="p0"),
        events.ToolStarted(call_id="c1", name="look_up", message_id="m1"),
        events.ToolReady(call_id="c1", name="look_up", input={"term": "log"}),
        events.ToolOutput(call_id="c1", output={"found": 3}),
        *(events.TextDelta(word, message_id="m1", part_id="p1") for word in words[190:]),
        events.TextDone(message_id="m1", part_id="p1"),
        events.Usage(input_tokens=50, output_tokens=2_000),
        events.Status("Done"),
        events.Status("Done"),
        events.MessageFinished(finish_reason="stop", message_id="m1"),
        events.RunCompleted(),
    ]
    clock = accumulate((dice.randint(10, 30) for _ in content), initial=1_700_000_000_000)
    return [encode_record(at_ms, event) for at_ms, event in zip(clock, content, strict=False)]


def test_a_chat_takes_at_most_four_bytes_for_each_event() -> None:
    records = chat_like_log()

    block = encode_block(records)

    assert len(records) == 2_000
    assert decode_block(block) == records
    assert len(block) <= 4 * len(records)


# What is no block ------------------------------------------------------------------------------------------------


@given(st.binary(max_size=64))
def test_garbage_is_no_block(garbage: bytes) -> None:
    with pytest.raises(EventInvalidError):
        decode_block(garbage)


@given(st.binary(max_size=64).map(zlib.compress))
def test_compressed_garbage_is_no_block(garbage: bytes) -> None:
    with pytest.raises(EventInvalidError):
        decode_block(garbage)


def test_a_block_that_was_cut_is_no_block() -> None:
    block = encode_block(chat_like_log()[:20])

    for length in range(len(block)):
        with pytest.raises(EventInvalidError):
            decode_block(block[:length])


@pytest.mark.parametrize(
    "block",
    [
        packed(2),
        packed(0, [RAW, b"{}"]),
        packed(2, [2, "a segment of later"]),
        packed(1, [2, "a segment of later"]),
        packed(1, [STRETCH, DELTA, 5, "text", [1, 1], [1]]),
        packed(1, [STRETCH, DELTA, 5, "text", [2, 2], []]),
        packed(1, [STRETCH, DELTA, 5, "text", [4], [1]]),
        packed(1, [STRETCH, b'{"type":"status","text":"no delta"}', 5, "text", [4], []]),
        packed(1, [STRETCH, b"no event", 5, "text", [4], []]),
    ],
)
def test_what_this_version_cannot_read_is_no_block(block: bytes) -> None:
    with pytest.raises(EventInvalidError):
        decode_block(block)


def test_a_stretch_that_fits_together_is_read() -> None:
    """The cases above differ from this one in one point each."""
    block = packed(1, [STRETCH, DELTA, 5, "text", [1, 3], [2]])

    assert decode_block(block) == [encode_record(5, events.TextDelta("t")), encode_record(7, events.TextDelta("ext"))]
