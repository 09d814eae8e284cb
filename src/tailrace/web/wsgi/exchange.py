"""One request on its way through: an ASGI application on the loop's side, a sync iterator of bytes on the server's.

WSGI tells of a disconnect only by failing to write, so whoever is idle must be written to: the heartbeats of streams do
that. A server needs two of them, as the first goes into the buffer of a connection that is already closed.
"""

import asyncio
import errno
import logging
from collections import deque
from collections.abc import Callable
from typing import Self

import msgspec
from starlette.types import ASGIApp, Message, Scope

from tailrace.web.headers import RawHeaders
from tailrace.web.stream import HEARTBEAT
from tailrace.web.writer import StreamAbortedError
from tailrace.web.wsgi.loop import LoopThread
from tailrace.web.wsgi.wakeup import new_wakeup

__all__ = ["Body", "Exchange", "Head"]

_logger = logging.getLogger("tailrace")
#: What may wait for the server; beyond, the application waits, and drops a reader that takes nothing for too long.
_BUFFER_BYTES = 64 * 1024
#: Between two looks at what is told at once; in case the loop has ended without telling.
_LOOK_SECONDS = 5.0
#: Until a response begins. A document is waited for 50 s, a store less.
_HEAD_SECONDS = 90.0


class Head(msgspec.Struct, frozen=True):
    """How a response begins."""

    status: int
    headers: RawHeaders

    def get(self, name: bytes) -> bytes | None:
        """The first value of a header, by its name in lower case."""
        return next((value for key, value in self.headers if key.lower() == name), None)


class Exchange:
    """The loop's side.

    Each attribute is written on one side and only read on the other, so none needs a lock.

    Attributes:
        head: The response's head, once it has begun.
        chunks: Of its body; taken by the server's side.
        taken_bytes: How much the server's side has taken.
        full: The loop's side waits for room.
        whole: All of the body was put.
        over: Nothing more will be put.
        error: What the application raised.
    """

    def __init__(self, body: bytes, cut: Callable[[], None]) -> None:
        """Prepare; belongs to the thread that will wait for the response.

        Args:
            body: Of the request.
            cut: Shuts the connection down, to free a thread that is stuck writing to it.
        """
        self.wakeup = new_wakeup()
        self.head: Head | None = None
        self.chunks: deque[bytes] = deque()
        self.taken_bytes = 0
        self.full = False
        self.whole = False
        self.over = False
        self.error: BaseException | None = None
        self._cut = cut
        self._unread = [body]
        self._put_bytes = 0
        self._gone = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Call the application."""
        try:
            await app(scope, self._receive, self._send)
        except StreamAbortedError:
            self._cut()
        except Exception as error:
            self.error = error
            if self.head is not None:
                _logger.exception("a response failed")
        finally:
            self.over = True
            self.wakeup.wake()

    def abort(self) -> None:
        """End the response as broken."""
        self.over = True
        self.wakeup.wake()
        self._cut()

    def leave(self) -> None:
        """The client is gone, or has it all."""
        self._gone.set()
        self._room.set()

    def make_room(self) -> None:
        """Something was taken."""
        self._room.set()

    async def _receive(self) -> Message:
        if self._unread:
            return {"type": "http.request", "body": self._unread.pop(), "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.head = Head(message["status"], list(message.get("headers", ())))
        elif chunk := message.get("body", b""):
            await self._await_room()
            self._put_bytes += len(chunk)
            self.chunks.append(chunk)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.whole = True
        self.wakeup.wake()

    async def _await_room(self) -> None:
        while not self._gone.is_set():
            self._room.clear()
            # Raised before the look, so that whoever takes something after it sees the flag.
            self.full = True
            if self._put_bytes - self.taken_bytes < _BUFFER_BYTES:
                break
            await self._room.wait()
        self.full = False


class Body:
    """The server's side: iterate for the body once `head` has been asked for; closed by the server."""

    def __init__(self, exchange: Exchange, loop: LoopThread, left: Callable[[], None]) -> None:
        """Take an exchange that runs on the loop; `left` is called when this is closed."""
        self._exchange = exchange
        self._loop = loop
        self._left: Callable[[], None] | None = left
        self._says_hello = False

    def head(self) -> Head:
        """Wait for the response to begin. What the application raises before that is raised here.

        Raises:
            BaseException: Whatever the application raises.
            RuntimeError: It, or the loop, ended without a response.
            TimeoutError: It did not begin in time.
        """
        exchange = self._exchange
        waited_seconds = 0.0
        while exchange.head is None:
            over = self._over
            if over and exchange.error is not None:
                raise exchange.error
            if over and exchange.head is None:
                raise RuntimeError("there was no response")
            if waited_seconds > _HEAD_SECONDS:
                raise TimeoutError("the response did not begin")
            exchange.wakeup.wait(_LOOK_SECONDS)
            waited_seconds += _LOOK_SECONDS
        # A server sends the head with the first bytes, which may be long in coming.
        self._says_hello = exchange.head.get(b"content-type") == b"text/event-stream"
        return exchange.head

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        """All that is there, as soon as there is something.

        Raises:
            StopIteration: The body is whole.
            ConnectionResetError: It is not, and the server shall cut the connection.
        """
        exchange = self._exchange
        while True:
            # Looked at before the chunks, as the last of them come first.
            whole, over = exchange.whole, self._over
            if exchange.chunks:
                return self._take()
            if whole:
                raise StopIteration
            if over:
                # With this number servers close the connection and say no more about it.
                raise ConnectionResetError(errno.ECONNRESET, "the response is not whole")
            if self._says_hello:
                self._says_hello = False
                return HEARTBEAT
            exchange.wakeup.wait(_LOOK_SECONDS)

    def close(self) -> None:
        """Tell the application that the client is gone, unless it has it all."""
        left, self._left = self._left, None
        if left is not None:
            self._loop.soon(self._exchange.leave)
            left()

    def __del__(self) -> None:
        # A response that never reached the server.
        self.close()

    @property
    def _over(self) -> bool:
        return self._exchange.over or not self._loop.running

    def _take(self) -> bytes:
        exchange = self._exchange
        self._says_hello = False
        taken = b"".join([exchange.chunks.popleft() for _ in range(len(exchange.chunks))])
        exchange.taken_bytes += len(taken)
        if exchange.full:
            self._loop.soon(exchange.make_room)
        return taken
