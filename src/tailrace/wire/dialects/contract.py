"""What a dialect is: a pure, deterministic translation of a run's events into SSE frames.

The rule that everything rests on: what is written for event n depends only on the run's constants, the encoder's
options and the events 1 … n. It never depends on time, on the connection, or on whether earlier deltas came merged.
So an encoding can be shared by all readers, and a reader that attaches at n gets an encoder that was fed 1 … n and
whose output for them was thrown away. The second rule: each of the terminal events yields at least one frame.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NotRequired, TypeAlias, TypedDict, TypeVar

import msgspec

from tailrace.errors import OptionInvalidError
from tailrace.events import Entry
from tailrace.fold import Reduced
from tailrace.wire.schema import FrameKind

__all__ = ["Dialect", "Encoder", "IdForm", "Option", "RunConstants", "choice"]

#: `seq`: the URL names the run, ids are bare numbers. `run`: ids name the run. `none`: there is no log to come back to.
IdForm = Literal["seq", "run", "none"]

#: What a value means that was given for an option; it raises ValueError or KeyError if that is nothing.
Option: TypeAlias = Callable[[object], object]

_T = TypeVar("_T")


class RunConstants(TypedDict):
    """What an encoder knows of its run before the first event: the keywords that every encoder takes."""

    run_id: str
    thread_id: NotRequired[str | None]
    ids: NotRequired[IdForm]


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
        if not bodies or not entry.seq or self._ids == "none":
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
        encodes_with: The class of its encoders; it takes what `Encoder` takes, and the options by their names.
        headers: Response headers beyond those that every stream has.
        resumes: Whether its usual clients come back with their cursor when a stream ends early.
        stateful: Whether an encoder that attaches in mid-run must be fed the events before.
        merges: Whether its clients take merged deltas; false where frames are counted.
        options: What its encoders can be told; a URL carries options as query parameters, so a value may be text.
    """

    name: ClassVar[str]
    encodes_with: ClassVar[type[Encoder]]
    headers: ClassVar[Mapping[str, str]] = {}
    resumes: ClassVar[bool] = False
    stateful: ClassVar[bool] = True
    merges: ClassVar[bool] = True
    options: ClassVar[Mapping[str, Option]] = {}

    def encoder(self, *, run_id: str, thread_id: str | None = None, ids: IdForm = "seq", **options: object) -> Encoder:
        """A fresh encoder for one run; options that the dialect does not know are ignored.

        Raises:
            OptionInvalidError: The value of an option is none it can have.
        """
        told: dict[str, Any] = {}
        for name in self.options.keys() & options:
            try:
                told[name] = self.options[name](options[name])
            except (KeyError, ValueError):
                raise OptionInvalidError(name, options[name]) from None
        return self.encodes_with(run_id=run_id, thread_id=thread_id, ids=ids, **told)

    def frame_kinds(self) -> Sequence[FrameKind]:
        """What its frames can be, for documentation."""
        return [FrameKind(None, None)]

    @abstractmethod
    def document(self, reduced: Reduced) -> bytes:
        """The whole run as one JSON document, for a client that does not stream."""

    def error(self, status: int, code: str, message: str) -> bytes:
        """The JSON body of a failure before the stream began; `status` is the HTTP status it is sent with."""
        return msgspec.json.encode({"error": {"code": code, "message": message, "status": status}})


def choice(meanings: Mapping[str | None, _T]) -> Callable[[object], _T]:
    """An option of few values, here as text in small letters; `None` stands for itself, if it may be given."""
    return lambda value: meanings[None if value is None else str(value).lower()]
