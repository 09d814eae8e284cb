"""Bytes of a stream as frames, ids and entries, by the library's own readers."""

import msgspec

from tailrace import events
from tailrace.events import Entry
from tailrace.wire.sse import Decoder, FrameSplitter, ServerSentEvent

__all__ = ["accepted", "entry_of", "events_of", "frames_of", "last_id_of"]


class _Extra(msgspec.Struct):
    """What a native frame's data has beside the event."""

    at_ms: int
    first: int | None = None


def frames_of(stream: bytes) -> list[bytes]:
    """The whole frames of a stream, cut off anywhere; comments are no frames."""
    return [item for item in FrameSplitter().feed(stream) if not item.startswith(b":")]


def events_of(stream: bytes) -> list[ServerSentEvent]:
    """The whole events of a stream, cut off anywhere."""
    return Decoder().feed(stream)


def last_id_of(stream: bytes) -> str:
    """Where a reader stands that has seen so much of a stream."""
    decoder = Decoder()
    decoder.feed(stream)
    return decoder.last_event_id


def entry_of(event: ServerSentEvent) -> Entry:
    """A native event as the log entry that it is."""
    data = event.data.encode()
    extra = msgspec.json.decode(data, type=_Extra)
    return Entry(int(event.id.rpartition(":")[2]), extra.at_ms, events.decode(data), extra.first)


def accepted(entries: list[Entry], received: list[ServerSentEvent]) -> None:
    """Add to `entries` what a reader takes who holds the rule: a frame counts iff it continues what was read."""
    for event in received:
        entry = entry_of(event)
        if entry.since == (entries[-1].seq if entries else 0) + 1:
            entries.append(entry)
