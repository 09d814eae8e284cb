"""The native dialect: the log as it is. The frame's event name is the event's type, its data the event's JSON.

Beside the event's own fields the JSON has `at_ms`, when the producer took it, and on a merged frame `first`: a reader
at c accepts a frame iff its `first` (without it, its id) is c + 1. Application data goes by its own name, unless the
name would shadow one of the protocol's or of EventSource's.
"""

from typing import ClassVar

import msgspec

from tailrace.errors import EventInvalidError
from tailrace.events import EVENT_TYPES, Data, Entry, Event, Opaque, decode_record, encode_record, event_type
from tailrace.fold import Reduced
from tailrace.wire.cursor import Cursor
from tailrace.wire.dialects.contract import Dialect, Encoder
from tailrace.wire.frames import frame, frame_name
from tailrace.wire.schema import FrameKind, event_kinds
from tailrace.wire.sse import ServerSentEvent

__all__ = ["DIALECT", "RESET", "first_of", "read_entry", "reconnect"]

#: Tells a reader to forget the run so far: the whole log follows. Has no id.
RESET = b"event: reset\ndata: {}\n\n"

_RECONNECT = {"type": "object", "properties": {"reason": {"enum": ["expired"]}}}

#: Names that what the protocol does not know may not go by: EventSource's own, and the protocol's.
_RESERVED = frozenset({"error", "open", "message", "reset", "reconnect"}) | EVENT_TYPES


def reconnect(retry_ms: int, reason: str | None = None) -> bytes:
    """Tells a reader to come back after `retry_ms`; the stream ends after it. Has no id.

    Args:
        retry_ms: At least 1000, so that not everybody comes at once.
        reason: What the reader has to do before: `expired` asks for a new proof of who it is.
    """
    data = {} if reason is None else {"reason": reason}
    return b"retry: %d\nevent: reconnect\ndata: %b\n\n" % (retry_ms, msgspec.json.encode(data))


def read_entry(event: ServerSentEvent) -> Entry:
    """A frame read back, as the entry that it was; without an id, as a fact that is in no log.

    Raises:
        CursorInvalidError: Its id is none of ours.
        EventInvalidError: Its data is no event, or does not say when.
    """
    seq = Cursor.parse(event.id).seq if event.id else 0
    entry = decode_record(seq, event.data.encode())
    if '"at_ms"' not in event.data:
        raise EventInvalidError("a frame without at_ms")
    return Entry(seq, entry.at_ms, entry.event, first_of(event.data))


class _Merged(msgspec.Struct):
    first: int | None = None


def first_of(data: str) -> int | None:
    """What a frame's data says of the first number that it covers; `None` if it covers one event only."""
    if '"first"' not in data:
        return None
    try:
        return msgspec.json.decode(data, type=_Merged).first
    except (msgspec.DecodeError, RecursionError):
        return None


class NativeEncoder(Encoder):
    """One frame for every entry."""

    def bodies(self, entry: Entry) -> list[bytes]:
        """The event's JSON under its type."""
        record = encode_record(entry.at_ms, entry.event)
        if entry.first is not None:
            record = b'%b,"first":%d}' % (record[:-1], entry.first)
        return [frame(record, event=_frame_name(entry.event))]


def _frame_name(event: Event) -> str:
    if isinstance(event, Data):
        name = event.name
    elif isinstance(event, Opaque):
        name = event.type
    else:
        return event_type(event)
    return "data" if name in _RESERVED else frame_name(name)


class Native(Dialect):
    """See the module."""

    name: ClassVar[str] = "native"
    encodes_with: ClassVar[type[Encoder]] = NativeEncoder
    resumes: ClassVar[bool] = True
    stateful: ClassVar[bool] = False

    def frame_kinds(self) -> list[FrameKind]:
        """Every event of the vocabulary, and the two that are in no log. An application's own data has its own name."""
        return [*event_kinds(), FrameKind("reset", {}), FrameKind("reconnect", _RECONNECT)]

    def document(self, reduced: Reduced) -> bytes:
        """The reduced run: `run_id`, `status`, `text`, `messages` and whatever else the run has."""
        return msgspec.json.encode({"status": reduced.status, "text": reduced.text, **msgspec.to_builtins(reduced)})


DIALECT = Native()
