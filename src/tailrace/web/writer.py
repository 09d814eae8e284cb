"""Where frames leave for the network. A writer is bound to one response; more kinds than ASGI may come.

`send` of an ASGI server returns once the bytes are buffered and waits only while the reader is behind, so how long it
waits is how long the reader took nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from starlette.types import Message, Scope, Send

from tailrace.errors import SendTimeoutError, TailraceError

__all__ = ["ABORT_EXTENSION", "AsgiWriter", "StreamAbortedError", "Writer"]

#: A server that can reset a connection puts a function without arguments under this name in `scope["extensions"]`.
ABORT_EXTENSION = "tailrace.abort"


class StreamAbortedError(TailraceError):
    """Leaves the application to tell the server that the response is not whole; the connection is cut."""

    code = "stream_aborted"


class Writer(Protocol):
    """Writes one streaming response."""

    async def start(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send the status line and headers."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the reader is behind.

        Raises:
            SendTimeoutError: The reader took nothing for too long.
        """
        ...

    async def finish(self) -> None:
        """End the response as whole."""
        ...

    async def abort(self) -> None:
        """End the response as broken.

        Raises:
            StreamAbortedError: The server can only be told so by an exception.
        """
        ...

    def tick(self, now: float) -> None:
        """Give up on a write that has waited too long."""
        ...

    def interrupt(self) -> None:
        """Give up on a write that waits now."""
        ...


class AsgiWriter:
    """Writes through an ASGI `send`, with a bound on how long one write may wait."""

    def __init__(self, scope: Scope, send: Send, *, timeout_seconds: float) -> None:
        """Bind to one request; used by the task that created it."""
        self._send = send
        self._timeout_seconds = timeout_seconds
        extensions = cast("dict[str, Any]", scope.get("extensions") or {})
        self._reset: Callable[[], None] | None = extensions.get(ABORT_EXTENSION)
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._waiting_since: float | None = None
        self._timed_out = False

    async def start(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send the status line and headers."""
        await self._deliver({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the reader is behind.

        Raises:
            SendTimeoutError: The reader took nothing for too long.
        """
        await self._deliver({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self) -> None:
        """End the response as whole."""
        await self._deliver({"type": "http.response.body", "body": b"", "more_body": False})

    async def abort(self) -> None:
        """End the response as broken.

        Raises:
            StreamAbortedError: The server can only be told so by an exception.
        """
        if self._reset is None:
            raise StreamAbortedError("the stream ended before its run")
        self._reset()
        # The server notices the reset in the next turn of the loop; returning earlier would look like a mistake to it.
        await asyncio.sleep(0)

    def tick(self, now: float) -> None:
        """Cancel a write that has waited too long. Called by the wheel, which is cheaper than a timer per write."""
        if self._waiting_since is not None and now - self._waiting_since >= self._timeout_seconds:
            self.interrupt()

    def interrupt(self) -> None:
        """Give up on a write that waits now; it raises `SendTimeoutError`."""
        if self._waiting_since is not None and not self._timed_out and self._task is not None:
            self._timed_out = True
            self._task.cancel()

    async def _deliver(self, message: Message) -> None:
        self._waiting_since = self._loop.time()
        try:
            await self._send(message)
        except asyncio.CancelledError:
            # Ours and only ours: a cancel from outside beside it must go on.
            if self._timed_out and self._task is not None and not self._task.uncancel():
                raise SendTimeoutError(self._timeout_seconds) from None
            raise
        finally:
            self._waiting_since = None
