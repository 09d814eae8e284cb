"""What every protocol of a provider tells: how an answer, a refusal and each fault look on its wire."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

from tests.fake_provider.turn import Turn

__all__ = ["Asked", "EventStreamProtocol", "Frame", "JsonObject", "ProviderProtocol", "compact", "sse"]

JsonObject: TypeAlias = dict[str, Any]


class Asked(NamedTuple):
    """A request: the number of it makes the ids of its answer, so that they are the same each time."""

    model: str
    body: Mapping[str, Any]
    number: int

    @property
    def id(self) -> str:
        """What the provider's own ids end with."""
        return f"{self.number:06d}"


class Frame(NamedTuple):
    """What is on the wire between two places where a stream may break.

    `mark` tells the last two: `finish` says why the answer ends, `terminal` that it has ended, or both where a protocol
    says both at once.
    """

    data: bytes
    tokens: int = 0
    mark: Literal["", "finish", "terminal"] = ""


class ProviderProtocol(ABC):
    """One wire format.

    Attributes:
        path: Where it is asked by POST.
        media_type: Of its streams.
        streams_unasked: Whether a request that says nothing of streaming gets a stream.
        error_frame: How it says, in the middle of a stream, that it has failed.
        keep_alive: What a client reads over.
        garbage: A line that should be JSON.
    """

    path: ClassVar[str]
    media_type: ClassVar[str]
    streams_unasked: ClassVar[bool] = False
    error_frame: ClassVar[bytes]
    keep_alive: ClassVar[bytes]
    garbage: ClassVar[bytes]

    @abstractmethod
    def frames(self, turn: Turn, asked: Asked) -> Iterator[Frame]:
        """The answer as a stream."""

    @abstractmethod
    def document(self, turn: Turn, asked: Asked) -> JsonObject:
        """The answer in one piece."""

    @abstractmethod
    def refusal(self, status: int, reason: str) -> JsonObject:
        """The body of an answer with an error status."""


class EventStreamProtocol(ProviderProtocol):
    """A protocol whose streams are Server-Sent Events."""

    media_type = "text/event-stream"
    keep_alive = b": keep-alive\n\n"
    garbage = b'data: {"this is": not json\n\n'


def compact(value: object) -> bytes:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":")).encode()


def sse(value: object, event: str = "") -> bytes:
    """An event; not written by the code that the tests are about."""
    name = f"event: {event}\n".encode() if event else b""
    return b"%sdata: %s\n\n" % (name, compact(value))
