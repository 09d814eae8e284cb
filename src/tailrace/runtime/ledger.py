"""What the records of a client's stream amount to, and what may follow them. Pure: the same records, the same ledger.

A stream is a log that clients create and append to. Its first record says on what terms; then each append is a record
of its own and the messages that came with it, written together, so that who has appended what is as durable as the
messages are. An append without messages closes the stream, or only says that somebody still wants it.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from tailrace.errors import EventInvalidError
from tailrace.wire.durable import Format

__all__ = [
    "Append",
    "Ledger",
    "Mark",
    "Opening",
    "Outcome",
    "Step",
    "StreamLimits",
    "Verdict",
    "encode_fact",
    "encode_message",
    "message_of",
]

Outcome: TypeAlias = Literal[
    "appended", "duplicate", "closed", "fenced", "gap", "not_first", "mismatch", "regress", "invalid", "full"
]

#: Begins a record that is a message. Every other record is a MessagePack array, which begins otherwise.
_MESSAGE = b"m"
#: A stream's life is prolonged so many times within its time to live, by whoever reads it.
_PROLONGATIONS = 8


class StreamLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the streams that clients create.

    Attributes:
        max_streams: Of one owner.
        max_records: Messages and appends of one stream.
        max_bytes: Bytes of one stream.
        append_bytes: Bytes of one append.
        append_messages: Messages of one append. Stores keep them together, and read them so.
        producers: Producers that one stream remembers.
        lifetime_seconds: The longest time to live. A stream without one goes after so long without a reader or writer.
    """

    max_streams: int = 1_000
    max_records: int = 100_000
    max_bytes: int = 16 * 1024**2
    append_bytes: int = 1024**2
    append_messages: int = 2_000
    producers: int = 1_000
    lifetime_seconds: int = 7 * 24 * 3_600


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """Which append of which producer: a restart raises `epoch`, each append within one raises `seq` from 0."""

    producer: str
    epoch: int
    seq: int


class Opening(msgspec.Struct, frozen=True, array_like=True, tag="o"):
    """The first record: the terms.

    Attributes:
        nonce: Random; no other record in the world has it.
        at_ms: When it was written.
        content_type: Of all messages.
        ttl_seconds: How long it lives after each read or write.
        expires_at: Until when it lives, as the client wrote it.
        expires_ms: The same in Unix milliseconds.
        closed: Whether nothing but what came with it ever follows.
    """

    nonce: str
    at_ms: int
    content_type: str
    ttl_seconds: int | None = None
    expires_at: str | None = None
    expires_ms: int | None = None
    closed: bool = False


class Step(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """Begins an append.

    Attributes:
        nonce: Random.
        at_ms: When it was written.
        closes: Whether nothing follows its messages.
        mark: Which append of its producer it is.
        seq: What its writer numbers appends by, across producers.
    """

    nonce: str
    at_ms: int
    closes: bool = False
    mark: Mark | None = None
    seq: str | None = None


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """What a client wants appended: `body` in `media_type`, a JSON array being as many messages as it has elements."""

    body: bytes = b""
    media_type: str | None = None
    closes: bool = False
    mark: Mark | None = None
    seq: str | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of an append.

    Attributes:
        outcome: `appended` if it may be; else why not.
        messages: What is to be appended.
        mark: Where its producer stands, or what it should have sent.
    """

    outcome: Outcome
    messages: Sequence[bytes] = ()
    mark: Mark | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Opening | Step).decode


def encode_message(message: bytes) -> bytes:
    """A message as a record."""
    return _MESSAGE + message


def encode_fact(fact: Opening | Step) -> bytes:
    """What is no message as a record."""
    return _encode(fact)


def message_of(record: bytes) -> bytes | None:
    """The message that a record is, if it is one."""
    return record[len(_MESSAGE) :] if record.startswith(_MESSAGE) else None


class Ledger:
    """A stream, as far as its records were read.

    Attributes:
        opening: Its terms; nothing before the first record.
        length: How many records were read.
        last: The number of the last message, 0 if there is none.
        closed: Whether nothing may follow.
    """

    def __init__(self) -> None:
        """Nothing was read."""
        self.opening: Opening | None = None
        self.length = 0
        self.last = 0
        self.closed = False
        self._size = 0
        self._touched_ms = 0
        self._closer: Mark | None = None
        self._seq: str | None = None
        self._marks: dict[str, Mark] = {}

    def take(self, record: bytes) -> bytes | None:
        """Read the next record; the message, if it is one."""
        self.length += 1
        self._size += len(record)
        message = message_of(record)
        if message is not None:
            self.last = self.length
            return message
        self._note(_decode(record))
        return None

    def _note(self, fact: Opening | Step) -> None:
        self._touched_ms = max(self._touched_ms, fact.at_ms)
        if isinstance(fact, Opening):
            self.opening = fact
            self.closed = fact.closed
            return
        if fact.closes:
            self.closed, self._closer = True, fact.mark
        if fact.mark is not None:
            self._marks[fact.mark.producer] = fact.mark
        self._seq = self._seq if fact.seq is None else fact.seq

    @property
    def format(self) -> Format:
        """How its messages stand together."""
        return Format("" if self.opening is None else self.opening.content_type)

    def lifetime_ms(self, limits: StreamLimits) -> int | None:
        """How long the stream lives after each read or write; `None` if its end is fixed."""
        opening = self.opening
        if opening is None or opening.expires_ms is not None:
            return None
        return 1_000 * (limits.lifetime_seconds if opening.ttl_seconds is None else opening.ttl_seconds)

    def is_expired(self, now_ms: int, limits: StreamLimits) -> bool:
        """Whether the stream has outlived its terms.

        Not every read is written down, so a time to live may be exceeded by an eighth; it is never cut short.
        """
        lifetime_ms = self.lifetime_ms(limits)
        if lifetime_ms is None:
            return self.opening is not None and now_ms >= (self.opening.expires_ms or 0)
        return now_ms >= self._touched_ms + lifetime_ms + lifetime_ms // _PROLONGATIONS

    def wants_touch(self, now_ms: int, limits: StreamLimits) -> bool:
        """Whether a read should be written down, so that the stream lives on."""
        lifetime_ms = self.lifetime_ms(limits)
        if lifetime_ms is None or self.length >= limits.max_records:
            return False
        return now_ms - self._touched_ms > lifetime_ms // _PROLONGATIONS

    def judge(self, append: Append, limits: StreamLimits) -> Verdict:
        """What becomes of an append that comes now."""
        mark = append.mark
        known = None if mark is None else self._marks.get(mark.producer)
        if mark is not None and known is not None and mark.epoch < known.epoch:
            return Verdict("fenced", mark=known)
        if self.closed:
            # A close that comes again is none that failed, and so is the append that came with it.
            repeated = self._closer == mark if mark is not None else append.closes and not append.body
            return Verdict("duplicate" if repeated else "closed", mark=mark if repeated else None)
        if append.body and append.media_type != self.format.media_type:
            return Verdict("mismatch")
        return (
            self._out_of_turn(mark, known)
            or self._regress(append.seq)
            or self._fitting(append, limits, is_new=mark is not None and known is None)
        )

    @staticmethod
    def _out_of_turn(mark: Mark | None, known: Mark | None) -> Verdict | None:
        if mark is None:
            return None
        if known is None or mark.epoch > known.epoch:
            expected = Mark(mark.producer, mark.epoch, 0)
            return None if mark.seq == 0 else Verdict("gap" if known is None else "not_first", mark=expected)
        if mark.seq <= known.seq:
            return Verdict("duplicate", mark=known)
        if mark.seq > known.seq + 1:
            return Verdict("gap", mark=Mark(mark.producer, mark.epoch, known.seq + 1))
        return None

    def _regress(self, seq: str | None) -> Verdict | None:
        last = self._seq
        return Verdict("regress") if seq is not None and last is not None and seq.encode() <= last.encode() else None

    def _fitting(self, append: Append, limits: StreamLimits, *, is_new: bool) -> Verdict:
        try:
            messages = self.format.split(append.body)
        except EventInvalidError:
            return Verdict("invalid")
        if append.body and not messages:
            return Verdict("invalid")
        # What only closes leaves no room for more in any case.
        fits = not append.body or (
            len(messages) <= limits.append_messages
            and self.length + len(messages) < limits.max_records
            and self._size + len(append.body) <= limits.max_bytes
            and not (is_new and len(self._marks) >= limits.producers)
        )
        return Verdict("appended", messages, append.mark) if fits else Verdict("full")
