"""Blocks: the whole log of a final run as one compressed value, exact to the byte at every number.

Most of a log is deltas that differ in nothing but their text and time. A block keeps such a stretch as one record
without text, the texts joined, their lengths, and the milliseconds between them; every other record is kept as it is.
What cannot be rebuilt to the byte is kept as it is too, so decoding always gives back what was encoded.
"""

import zlib
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from tailrace import events
from tailrace.errors import EventInvalidError
from tailrace.events import Entry, decode_record, encode_record

__all__ = ["decode_block", "encode_block"]

_LEVEL = 1
_VERSION = 1
#: What is between two times must fit into 64 bits, which is all that MessagePack has for an integer.
_LATEST_MS = 2**62


class _Raw(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """One record, as it is."""

    record: bytes


class _Stretch(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Deltas of one part: `event` is the first one's JSON with no text, `lengths` count characters."""

    event: bytes
    at_ms: int
    text: str
    lengths: list[int]
    waits_ms: list[int]


class _Block(msgspec.Struct, frozen=True, array_like=True):
    version: int
    segments: list[_Raw | _Stretch]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Block)


def encode_block(records: Sequence[bytes]) -> bytes:
    """All records of a run, from number 1 to its terminal event, as one value."""
    segments: list[_Raw | _Stretch] = []
    stretch: list[Entry] = []
    for seq, record in enumerate(records, 1):
        entry = _delta_entry(seq, record)
        if stretch and (entry is None or _key(entry) != _key(stretch[0])):
            segments.append(_pack(stretch))
            stretch = []
        if entry is None:
            segments.append(_Raw(record))
        else:
            stretch.append(entry)
    if stretch:
        segments.append(_pack(stretch))
    return zlib.compress(_encoder.encode(_Block(_VERSION, segments)), _LEVEL)


def decode_block(block: bytes) -> list[bytes]:
    """The records that `encode_block` was given.

    Raises:
        EventInvalidError: The bytes are no block of this version.
    """
    try:
        decoded = _decoder.decode(zlib.decompress(block))
    except (zlib.error, msgspec.DecodeError) as error:
        raise EventInvalidError(f"not a block: {error}") from error
    if decoded.version != _VERSION:
        raise EventInvalidError(f"not a block of version {_VERSION}")
    records: list[bytes] = []
    for segment in decoded.segments:
        if isinstance(segment, _Raw):
            records.append(segment.record)
        else:
            records.extend(_unpack(segment))
    return records


def _delta_entry(seq: int, record: bytes) -> Entry | None:
    """The record as an entry, if it is a delta that can be rebuilt from it to the byte."""
    entry = decode_record(seq, record)
    if not isinstance(entry.event, events.DELTAS) or abs(entry.at_ms) > _LATEST_MS:
        return None
    if encode_record(entry.at_ms, entry.event) == record:
        return entry
    return None


def _key(entry: Entry) -> bytes:
    """What the deltas of one stretch share: everything but the text."""
    return events.encode(msgspec.structs.replace(entry.event, delta=""))


def _pack(entries: list[Entry]) -> _Stretch:
    deltas = [entry.event.delta for entry in entries if isinstance(entry.event, events.DELTAS)]
    times = [entry.at_ms for entry in entries]
    waits = [after - before for before, after in pairwise(times)]
    return _Stretch(_key(entries[0]), times[0], "".join(deltas), list(map(len, deltas)), waits)


def _unpack(stretch: _Stretch) -> list[bytes]:
    template = events.decode(stretch.event)
    parts = (isinstance(template, events.DELTAS), sum(stretch.lengths), len(stretch.waits_ms) + 1)
    if parts != (True, len(stretch.text), len(stretch.lengths)):
        raise EventInvalidError("not a block: a stretch whose parts do not fit together")
    records: list[bytes] = []
    at_ms, start = stretch.at_ms, 0
    for index, length in enumerate(stretch.lengths):
        if index:
            at_ms += stretch.waits_ms[index - 1]
        event = msgspec.structs.replace(template, delta=stretch.text[start : start + length])
        records.append(encode_record(at_ms, event))
        start += length
    return records
