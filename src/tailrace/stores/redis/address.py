"""Where a Redis server is and how to get in. It knows the password and tells it to nobody but the server."""

import asyncio
import contextlib
import ssl
from collections.abc import Iterable, Mapping
from inspect import signature
from typing import Any, Protocol, Self, cast

from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from tailrace.errors import StoreError, StoreSetupError, StoreUnavailableError
from tailrace.stores.redis.command import Reply
from tailrace.stores.redis.refusals import is_passing

__all__ = ["LOST", "Address", "Socket", "drop"]

#: How it shows that a connection is of no more use. redis-py's `ConnectionError` is one of the first.
LOST = (RedisError, OSError, TimeoutError)

_FORM = "redis[s]://[[user]:password@]host[:port][/database]"
#: Newer versions of redis-py read files to tell the server their own version; no older one knows the option.
_UNTOLD = {"driver_info": None} if "driver_info" in signature(AbstractConnection).parameters else {}
#: Options that a URL may carry for a pool, which there is not.
_POOL_OPTIONS = ("connection_class", "max_connections", "timeout")


class Socket(Protocol):
    """The part of a redis-py connection that is used here."""

    async def connect(self) -> None:
        """Connect, authenticate, select the database."""
        ...

    async def disconnect(self, nowait: bool = False) -> None:  # noqa: FBT001, FBT002  redis-py's signature
        """Close."""
        ...

    async def send_packed_command(self, command: Iterable[bytes], /) -> None:
        """Write bytes as they are."""
        ...

    async def read_response(self) -> Reply:
        """The next reply; an error that is one is raised, and leaves the connection usable if it is a refusal."""
        ...


class Address:
    """One server."""

    def __init__(self, kind: type[Any], options: Mapping[str, Any]) -> None:
        """Made by `parse` and `at`."""
        self._kind = kind
        self._options = options

    @classmethod
    def parse(cls, url: str, *, timeout_seconds: float) -> Self:
        """Read a URL.

        Raises:
            StoreSetupError: It is none, or has options that redis-py does not know.
        """
        try:
            given: dict[str, Any] = {**parse_url(url)}
            kind = given.get("connection_class", Connection)
            options = {name: value for name, value in given.items() if name not in _POOL_OPTIONS}
            # Time is kept here and not by redis-py, which would not know what else is under way on the connection.
            options |= {
                **_UNTOLD,
                "protocol": 2,
                "decode_responses": False,
                "socket_timeout": None,
                "socket_connect_timeout": timeout_seconds,
            }
            kind(**options)
        except (RedisError, TypeError, ValueError):
            # What was raised may quote a part of the password.
            raise StoreSetupError(f"the Redis URL cannot be used; its form is {_FORM}") from None
        return cls(kind, options)

    def at(self, host: str, port: int) -> Self:
        """Another server of the same cluster."""
        return type(self)(self._kind, {**self._options, "host": host, "port": port})

    @property
    def name(self) -> str:
        """Host and port, or the path."""
        options = self._options
        return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")

    @property
    def host(self) -> str:
        """The host alone."""
        return str(self._options.get("host", "localhost"))

    async def connect(self, *, timeout_seconds: float) -> Socket:
        """A connection that is ready for commands.

        Raises:
            StoreSetupError: The server is there and does not let us in.
            StoreUnavailableError: It gave no answer, or not yet.
        """
        socket = cast("Socket", self._kind(**self._options))
        try:
            async with asyncio.timeout(timeout_seconds):
                await socket.connect()
        except BaseException as error:
            await drop(socket)
            if isinstance(error, LOST):
                raise self.failure(error) from None
            raise
        return socket

    def failure(self, error: BaseException) -> StoreError:
        """What the failure of a connection means."""
        if isinstance(error, AuthenticationError | NoPermissionError):
            return StoreSetupError(f"Redis at {self.name} refuses the user or the password")
        if isinstance(error, ResponseError) and not is_passing(error):
            return StoreSetupError(f"Redis at {self.name} refuses the connection: {error}")
        tls = _cause(error, ssl.SSLError)
        if tls is not None:
            return StoreSetupError(f"no TLS connection to Redis at {self.name}: {tls}")
        if isinstance(error, TimeoutError):
            return StoreUnavailableError(f"no answer from {self.name}")
        return StoreUnavailableError(str(error))


async def drop(socket: Socket) -> None:
    """Close a connection without waiting for anything."""
    with contextlib.suppress(*LOST):
        await socket.disconnect(nowait=True)


def _cause(error: BaseException | None, kind: type[BaseException]) -> BaseException | None:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error
