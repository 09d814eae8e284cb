"""What a dialect is: a pure, deterministic translation of a run's events into SSE frames.

The rule that everything rests on: what is written for event n depends only on the run's constants, the encoder's
options and the events 1 … n. It never depends on time, on the connection, or on whether earlier deltas came merged.
So an encoding can be shared by all readers, and a reader that attaches at n gets an encoder that was fed 1 … n and
whose output for them was thrown away. The second rule: each of the terminal events yields at least one frame.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import msgspec

from tailrace.events import Entry, RunFailed, RunInterrupted
from tailrace.fold import Reduced
from tailrace.wire.schema import FrameKind
from tailrace.wire.sse import encode_event

__all__ = [
    "Dialect",
    "Encoder",
    "IdForm",
    "TextPieces",
    "error_document",
    "failure_in",
    "failure_of",
    "frame",
    "frame_name",
    "json_frame",
    "value_frame",
]

#: `seq`: the URL names the run, ids are bare numbers. `run`: ids name the run. `none`: there is no log to come back to.
IdForm = Literal["seq", "run", "none"]

_INTERRUPTED = "The answer was interrupted."

_json = msgspec.json.Encoder()
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}", re.ASCII)


class Encoder(ABC):
    """Turns the entries of one run, in order, into frames. Subclasses write `bodies`; the ids are written here."""

    def __init__(self, *, run_id: str, thread_id: str | None = None, ids: IdForm = "seq") -> None:
        """Start an encoder for one run.

        Args:
            run_id: The run.
            thread_id: The conversation, if the run has one.
            ids: How ids are written.
        """
        self.run_id = run_id
        self.thread_id = thread_id
        self._ids = ids
        self._id_prefix = f"{run_id}:".encode() if ids == "run" else b""

    def encode(self, entry: Entry) -> list[bytes]:
        """The whole frames of one entry, possibly none.

        The last one carries the entry's number as its id, the ones before it `<n-1>.<k>`: n is the first number the
        entry covers and k counts the frames of the entry so far. An entry outside the log (number 0) carries none.
        """
        bodies = self.bodies(entry)
        if not entry.seq or self._ids == "none":
            return bodies
        if not bodies:
            return bodies
        *earlier, last = bodies
        frames = [b"id: %b%d.%d\n%b" % (self._id_prefix, entry.since - 1, k, body) for k, body in enumerate(earlier, 1)]
        frames.append(b"id: %b%d\n%b" % (self._id_prefix, entry.seq, last))
        return frames

    @abstractmethod
    def bodies(self, entry: Entry) -> list[bytes]:
        """The frames of an entry without their `id` lines, each ending in its blank line."""


class Dialect(ABC):
    """One wire vocabulary. Instances are stateless and shared; the state is in the encoders.

    Attributes:
        name: As in `?dialect=`.
        headers: Response headers beyond those that every stream has.
        resumes: Whether its usual clients come back with their cursor when a stream ends early.
        stateful: Whether an encoder that attaches in mid-run must be fed the events before.
        merges: Whether its clients take merged deltas; false where frames are counted.
        options: Names of the options of its encoder; a URL carries them as query parameters, so a value may be text.
    """

    name: ClassVar[str]
    headers: ClassVar[Mapping[str, str]] = {}
    resumes: ClassVar[bool] = False
    stateful: ClassVar[bool] = True
    merges: ClassVar[bool] = True
    options: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def encoder(
        self,
        *,
        run_id: str,
        thread_id: str | None = None,
        ids: IdForm = "seq",
        **options: object,
    ) -> Encoder:
        """A fresh encoder for one run; options that the dialect does not know are ignored.

        Raises:
            OptionInvalidError: The value of an option is none it can have.
        """

    def frame_kinds(self) -> Sequence[FrameKind]:
        """What its frames can be, for documentation."""
        return [FrameKind(None, None)]

    @abstractmethod
    def document(self, reduced: Reduced) -> bytes:
        """The whole run as one JSON document, for a client that does not stream."""

    def error(self, status: int, code: str, message: str) -> bytes:
        """The JSON body of a failure before the stream began; `status` is the HTTP status it is sent with."""
        return error_document(status, code, message)


def json_frame(value: object, *, event: str | None = None) -> bytes:
    """A frame without id whose data is one line of JSON."""
    return frame(_json.encode(value), event=event)


def frame(line: bytes, *, event: str | None = None) -> bytes:
    """A frame without id; `line` has no line break, `event` is a name known to have none."""
    return b"event: %b\ndata: %b\n\n" % (event.encode(), line) if event else b"data: %b\n\n" % line


def value_frame(value: object, *, event: str | None = None) -> bytes:
    """A frame without id whose data is the text itself, over as many lines as it has; JSON of what is no text."""
    return encode_event(value, event=event) if isinstance(value, str) else json_frame(value, event=event)


def frame_name(name: str) -> str:
    """The name under which a frame shows what the application named so; `data` for one that no source may use."""
    return name if _NAME.fullmatch(name) else "data"


class TextPieces:
    """Text as raw data, piece by piece: whoever joins the data of its frames has the text, its line ends as LF.

    Empty pieces are no frames, and a CRLF that was cut in two is one line end, as it would be in one piece.
    """

    def __init__(self, *, event: str | None = None) -> None:
        """Begin a text; `event` is the name of its frames."""
        self._event = event
        self._after_cr = False

    def frames(self, piece: str) -> list[bytes]:
        """The frame of the next piece, or none."""
        rest = piece.removeprefix("\n") if self._after_cr else piece
        if piece:
            self._after_cr = piece.endswith("\r")
        return [encode_event(rest, event=self._event)] if rest else []


def failure_of(ending: RunFailed | RunInterrupted) -> dict[str, str]:
    """`{"code", "message"}` of an ending that is a failure; the message may be shown to anyone."""
    if isinstance(ending, RunFailed):
        return {"code": ending.code, "message": ending.message}
    return {"code": ending.reason, "message": _INTERRUPTED}


def failure_in(reduced: Reduced) -> dict[str, str] | None:
    """What `failure_of` says of the run's ending; `None` if it did not fail."""
    failure = reduced.failure
    if failure is None or reduced.status == "cancelled":
        return None
    return {"code": failure.code, "message": _INTERRUPTED if reduced.status == "interrupted" else failure.message}


def error_document(status: int, code: str, message: str) -> bytes:
    """`{"error": {"code", "message", "status"}}`, the shape of every error that is not a stream."""
    return _json.encode({"error": {"code": code, "message": message, "status": status}})
