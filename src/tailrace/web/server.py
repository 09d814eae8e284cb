"""Our uvicorn: a server that exits with 0 once it has drained, and protocols that can reset a connection.

Everything else is uvicorn's. The reset is offered to the application as an ASGI extension, because a reader that
takes nothing cannot be got rid of in any other way: a connection that is closed politely waits for it for ever.
"""

import asyncio
import contextlib
import importlib.util
import sys
from collections.abc import Callable, Generator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.supervisors import Multiprocess

from tailrace.web.writer import ABORT_EXTENSION

__all__ = ["HttpProtocol", "ResettingH11Protocol", "Server", "protocol_class", "serve"]


def _offer_reset(scope: Any, transport: asyncio.Transport) -> None:  # noqa: ANN401  uvicorn's own type of scope
    scope.setdefault("extensions", {}).setdefault(ABORT_EXTENSION, _Reset(transport))


class _Reset:
    """Resets one connection."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __call__(self) -> None:
        self._transport.abort()


class ResettingH11Protocol(H11Protocol):
    """uvicorn's protocol on h11; each request carries a way to reset its connection."""

    def handle_events(self) -> None:
        """Parse what has come; the application of a request that this begins runs later, so it sees the offer."""
        super().handle_events()
        cycle: Any = self.cycle
        if cycle is not None:
            _offer_reset(cycle.scope, self.transport)


def protocol_class() -> type[asyncio.Protocol]:
    """The protocol on httptools if that is installed, which is faster, else the one on h11."""
    if importlib.util.find_spec("httptools") is None:
        return ResettingH11Protocol
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class ResettingHttpToolsProtocol(HttpToolsProtocol):
        """uvicorn's protocol on httptools; each request carries a way to reset its connection."""

        def on_headers_complete(self) -> None:
            """Begin the request; its application runs later, so it sees the offer."""
            super().on_headers_complete()
            cycle: Any = self.cycle
            if cycle is not None:
                _offer_reset(cycle.scope, self.transport)

    return ResettingHttpToolsProtocol


class Server(uvicorn.Server):
    """Ends with exit code 0 after a signal, as an orderly stop should."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As uvicorn's, but the signals that were handled are not raised again at the end."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()


#: With this code a worker of uvicorn ends whose application could not start, and a server without workers.
_CANNOT_START = 3
#: For uvicorn's own processes, which import what they need by name.
HttpProtocol = protocol_class()


def serve(
    app: Callable[..., Any],
    *,
    host: str,
    port: int,
    grace_seconds: float,
    workers: int = 1,
    log_level: str = "info",
) -> None:
    """Serve an ASGI application until a signal; returns when all connections are closed.

    Args:
        app: The application; for several workers a function that makes it, in a form that can be pickled.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        grace_seconds: How long connections may last after the application itself has drained.
        workers: Processes, each with the application; one that dies is replaced.
        log_level: Of uvicorn.

    Raises:
        SystemExit: The application could not start; the code is 3.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        factory=workers > 1,
        workers=workers,
        http=f"{__name__}:HttpProtocol",
        log_level=log_level,
        timeout_graceful_shutdown=max(1, round(grace_seconds)),
        access_log=False,
    )
    if workers == 1:
        Server(config).run()
    else:
        supervisor = Multiprocess(config, [config.bind_socket()])
        supervisor.run()
        if any(worker.process.exitcode == _CANNOT_START for worker in supervisor.processes):
            sys.exit(_CANNOT_START)
