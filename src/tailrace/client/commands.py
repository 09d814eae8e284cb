"""What a client is told to do, how patient it is, and what it may say of itself."""

from typing import Literal, TypeAlias

import msgspec

from tailrace.errors import TailraceError

__all__ = ["Attempt", "Command", "Connection", "Fail", "Policy", "Read", "ReadBody", "Send", "State", "Stop", "Wait"]

State: TypeAlias = Literal["connecting", "open", "waiting", "closed"]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How patient a client is.

    Attributes:
        base_seconds: The window of the first reconnect; it doubles with each failure. A stream's own `retry` replaces
            it, between 0.1 s and `max_seconds`.
        max_seconds: The longest window.
        max_attempts: So many requests in a row without a new event, and the stream is broken; `None` is no bound.
        idle_seconds: So long without a byte, and the connection counts as lost; `None` is for ever. By default 2.4
            heartbeats.
        progress_seconds: So long without an event, heartbeats or not, and the connection is given up; `None`, the
            default, is for ever. A stream that is read by a thread notices at the next byte.
        max_event_bytes: The largest event.
    """

    base_seconds: float = 1.0
    max_seconds: float = 15.0
    max_attempts: int | None = 10
    idle_seconds: float | None = 36.0
    progress_seconds: float | None = None
    max_event_bytes: int = 8 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in ("base_seconds", "max_seconds", "max_attempts", "idle_seconds", "progress_seconds"):
            value: float | None = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be more than 0, not {value!r}")


class Attempt(msgspec.Struct, frozen=True):
    """What a function for headers is told.

    Attributes:
        number: Counts the requests of a stream from 1; a redirect is no request of its own.
        status: The status of the refusal that led here: 401 asks for a fresh token. `None` otherwise.
    """

    number: int
    status: int | None = None


class Connection(msgspec.Struct, frozen=True):
    """How a stream is doing.

    Attributes:
        state: `waiting` is between two attempts.
        attempt: Counts requests from 1; 0 before the first.
        retry_at: While waiting, when the next request is made, in Unix seconds.
        error: Why the last connection was lost, in English; `None` if none was, or since an event has come again.
    """

    state: State
    attempt: int = 0
    retry_at: float | None = None
    error: str | None = None


class Send(msgspec.Struct, frozen=True):
    """Make a request.

    Attributes:
        method: As in HTTP.
        url: As it was given, or absolute.
        headers: Ours. Those of the application go beside them and win over `accept`, but not over `last-event-id`.
        with_body: Whether the body of the first request goes along.
        with_credentials: Whether headers of the application that prove who it is may go to this origin.
        is_redirected: The same attempt, elsewhere: headers are not asked for anew.
        attempt: Which request this is.
    """

    method: str
    url: str
    headers: dict[str, bytes]
    with_body: bool
    with_credentials: bool
    is_redirected: bool
    attempt: Attempt


class Read(msgspec.Struct, frozen=True):
    """Read on."""


class ReadBody(msgspec.Struct, frozen=True):
    """Read the answer whole, or its first `limit_bytes`."""

    limit_bytes: int


class Wait(msgspec.Struct, frozen=True):
    """Do nothing for `seconds`."""

    seconds: float


class Stop(msgspec.Struct, frozen=True):
    """The stream has come to its end."""


class Fail(msgspec.Struct, frozen=True):
    """It never will."""

    error: TailraceError


Command: TypeAlias = Send | Read | ReadBody | Wait | Stop | Fail
