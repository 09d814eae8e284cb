"""The HTTP clients that streams are read with: httpx2 or httpx, sync or async, known by their shape.

None of them is imported here but httpx2, and that only where somebody wants a client and gave none.
"""

import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol, TypeAlias

__all__ = [
    "Answer",
    "AsyncHttpClient",
    "AsyncHttpResponse",
    "HttpClient",
    "HttpResponse",
    "Timeouts",
    "absolute",
    "dropped_by",
    "is_async",
    "is_hopeless",
    "new_async_client",
    "new_client",
    "package_of",
    "shut",
    "socket_of",
]

#: For connecting, reading, writing, and a place in the pool; in seconds.
Timeouts: TypeAlias = tuple[float | None, float | None, float | None, float | None]

_PACKAGES = frozenset({"httpx", "httpx2"})


class Answer(Protocol):
    """What is needed of any response."""

    @property
    def status_code(self) -> int:
        """Its status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers, whose names have no case."""
        ...

    @property
    def extensions(self) -> Mapping[str, Any]:
        """Among other things, `network_stream`."""
        ...


class HttpResponse(Answer, Protocol):
    """What is needed of a response of a sync client."""

    def iter_bytes(self) -> Iterator[bytes]:
        """The body, decoded, as it comes."""
        ...

    def close(self) -> None:
        """Give up the connection, if there is more to come."""
        ...


class AsyncHttpResponse(Answer, Protocol):
    """What is needed of a response of an async client."""

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """The body, decoded, as it comes."""
        ...

    async def aclose(self) -> None:
        """Give up the connection, if there is more to come."""
        ...


class _Client(Protocol):
    def build_request(
        self,
        method: str,
        url: str,
        *,
        content: bytes | None,
        headers: Sequence[tuple[bytes, bytes]],
        timeout: Timeouts,
        extensions: Mapping[str, Any],
    ) -> Any: ...  # noqa: ANN401  of the client's package


class HttpClient(_Client, Protocol):
    """What is needed of a sync client: `Client` of httpx2 and httpx has it."""

    def send(self, request: Any, *, stream: bool, follow_redirects: bool) -> HttpResponse:  # noqa: ANN401
        """Make the request."""
        ...

    def close(self) -> None:
        """Close its connections."""
        ...


class AsyncHttpClient(_Client, Protocol):
    """What is needed of an async client: `AsyncClient` of httpx2 and httpx has it."""

    async def send(self, request: Any, *, stream: bool, follow_redirects: bool) -> AsyncHttpResponse:  # noqa: ANN401
        """Make the request."""
        ...

    async def aclose(self) -> None:
        """Close its connections."""
        ...


def package_of(client: object) -> ModuleType:
    """The package that a client, or the class it was derived from, is of.

    Raises:
        TypeError: Neither httpx2 nor httpx.
    """
    for kind in type(client).__mro__:
        name = kind.__module__.partition(".")[0]
        if name in _PACKAGES:
            return sys.modules[name]
    raise TypeError(f"expected a client of httpx2 or httpx, got {type(client).__name__}")


def is_async(client: HttpClient | AsyncHttpClient) -> bool:
    """Whether a client is for tasks, and not for threads.

    Raises:
        TypeError: Neither of httpx2 nor of httpx.
    """
    return isinstance(client, package_of(client).AsyncClient)


def absolute(url: str, client: HttpClient | AsyncHttpClient | None) -> str:
    """The URL as the client would ask it, with its scheme and host.

    Raises:
        TypeError: The client is neither of httpx2 nor of httpx.
        ValueError: It has none, even so.
    """
    asked = url
    if client is not None:
        package_of(client)
        no_timeouts: Timeouts = (None, None, None, None)
        request = client.build_request("GET", url, content=None, headers=(), timeout=no_timeouts, extensions={})
        asked = str(request.url)
    if not asked.lower().startswith(("http://", "https://")):
        raise ValueError(f"{url!r} is no absolute URL: begin it with https://, or give a base_url")
    return asked


def dropped_by(package: ModuleType) -> tuple[type[Exception], ...]:
    """What clients of the package raise where a connection was lost, or never made."""
    return (package.TransportError, package.DecodingError)


def is_hopeless(error: Exception, package: ModuleType) -> bool:
    """Whether it is the request that is wrong, so that another one would be no better."""
    return isinstance(error, (package.UnsupportedProtocol, package.LocalProtocolError))


def new_client() -> HttpClient:
    """A client for streams, which each take a connection of their own.

    Raises:
        ImportError: httpx2 is not installed.
    """
    httpx2 = _httpx2()
    client: HttpClient = httpx2.Client(limits=_own_connections(httpx2))
    return client


def new_async_client() -> AsyncHttpClient:
    """As `new_client`.

    Raises:
        ImportError: httpx2 is not installed.
    """
    httpx2 = _httpx2()
    client: AsyncHttpClient = httpx2.AsyncClient(limits=_own_connections(httpx2))
    return client


def _httpx2() -> Any:  # noqa: ANN401  optional
    try:
        import httpx2
    except ImportError as error:
        raise ImportError("the client needs httpx2: pip install 'tailrace[client]'") from error
    return httpx2


def _own_connections(httpx2: Any) -> object:  # noqa: ANN401  optional
    # A stream may be as many as an application has; and of a connection that it did not open itself, a thread that
    # waits for the answer's head could not be woken.
    return httpx2.Limits(max_connections=None, max_keepalive_connections=0)


def socket_of(network_stream: object) -> socket.socket | None:
    """The socket under a connection, if it belongs to one request and can be got at."""
    get_extra_info = getattr(network_stream, "get_extra_info", None)
    found: object = get_extra_info("socket") if get_extra_info else None
    return found if isinstance(found, socket.socket) else None


def shut(connection: socket.socket) -> None:
    """Wake whoever reads from the socket, and let the other side know; the reader is the one to close it."""
    # If it is closed already, all is well. Not as TLS would shut it, which is at work on another thread.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
