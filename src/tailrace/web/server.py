"""Our uvicorn: a server that has drained exits with 0, and a protocol that can reset a connection.

Everything else is uvicorn's. The reset is offered to the application as an ASGI extension, because a reader that
takes nothing cannot be got rid of in any other way: a connection that is closed politely waits for it for ever.
"""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import uvicorn

from tailrace.web.writer import ABORT_EXTENSION

__all__ = ["Server", "serve"]

if TYPE_CHECKING or importlib.util.find_spec("httptools") is not None:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as HttpProtocol
else:
    from uvicorn.protocols.http.h11_impl import H11Protocol as HttpProtocol


class Protocol(HttpProtocol):
    """An HTTP protocol whose requests carry a way to reset their connection."""

    def handle_events(self) -> None:  # h11 reads events in a loop of its own
        """Offer the reset to what h11 is about to parse."""
        super().handle_events()  # type: ignore[misc]
        self._offer()

    def on_headers_complete(self) -> None:
        """Offer the reset to what httptools has parsed."""
        super().on_headers_complete()
        self._offer()

    def _offer(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            extensions: dict[str, Any] = self.cycle.scope.setdefault("extensions", {})
            extensions.setdefault(ABORT_EXTENSION, _abort_of(self))


def _abort_of(protocol: Protocol) -> Callable[[], None]:
    def abort() -> None:
        if protocol.transport is not None:
            protocol.transport.abort()

    return abort


class Server(uvicorn.Server):
    """Ends with exit code 0 after a signal, as an orderly stop should."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but the signals that were handled are not raised again at the end."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def serve(app: Any, *, host: str, port: int, grace_seconds: float, log_level: str = "info") -> None:  # noqa: ANN401
    """Serve an ASGI application until a signal; returns when all connections are closed.

    Args:
        app: The application.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        grace_seconds: How long connections may last after the application itself has drained.
        log_level: Of uvicorn.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Protocol,
        log_level=log_level,
        timeout_graceful_shutdown=max(1, round(grace_seconds)),
        access_log=False,
    )
    Server(config).run()
