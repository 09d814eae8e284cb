"""A stream read by a task."""

import asyncio
import contextlib
import inspect
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType

from tailrace.client.commands import Read, ReadBody, Send, Wait
from tailrace.client.http_clients import AsyncHttpClient, AsyncHttpResponse, new_async_client, package_of
from tailrace.client.machine import Machine
from tailrace.client.reading import Reading, unix_seconds
from tailrace.client.template import RequestTemplate
from tailrace.wire.sse import ServerSentEvent

__all__ = ["AsyncStreamReader"]


class AsyncStreamReader(Reading):
    """Reads one stream. One task reads; `aclose` and `retry_now` may be called by any task of its loop."""

    _package: ModuleType

    def __init__(self, machine: Machine, template: RequestTemplate, client: AsyncHttpClient | None) -> None:
        """Take the parts; nothing is requested yet. Without a client it makes its own, and closes that.

        Raises:
            TypeError: The client is neither of httpx2 nor of httpx.
        """
        super().__init__(machine, template)
        self._client = client
        self._owns_client = client is None
        self._response: AsyncHttpResponse | None = None
        self._chunks: AsyncIterator[bytes] = _nothing()
        self._events = deque[ServerSentEvent]()
        self._bound: asyncio.Timeout | None = None
        self._is_woken = False
        self._loop = asyncio.get_running_loop()
        self._leaving: asyncio.Task[None] | None = None

    async def next(self) -> ServerSentEvent | None:
        """The next event; `None` at the stream's end. Whatever else ends the reading closes the connection.

        Raises:
            TailraceError: The stream cannot be read to its end.
        """
        try:
            while not (self._events or self._is_over):
                self._events.extend(await self._step())
            if self._events and not self.is_closed:
                return self._events.popleft()
            self._raise_failure()
        except BaseException:
            await self._finish()
            raise
        await self._finish()
        return None

    async def connect(self) -> None:
        """Go on until there is something to read.

        Raises:
            TailraceError: There never will be.
        """
        try:
            while self._is_connecting:
                await self._step()
            self._raise_failure()
        except BaseException:
            await self._finish()
            raise

    async def aclose(self) -> None:
        """Close at once, in any state. A task that reads finds that there is nothing more, and then lets go."""
        self.is_closed = True
        if self._bound is None:
            await self._release()
        else:
            self.retry_now()

    def abandon(self) -> None:
        """Close soon, from wherever the last reference to a loop over this stream is dropped."""
        if self.is_closed:
            return
        self.is_closed = True
        # If the loop is closed, so are its connections.
        with contextlib.suppress(RuntimeError):
            if _runs(self._loop):
                # Not later: a program that ends with its loop cancels what has not begun.
                self._leave()
            else:
                self._loop.call_soon_threadsafe(self._leave)

    def _leave(self) -> None:
        self._leaving = self._loop.create_task(self._release(), name="tailrace-leave")

    def __del__(self) -> None:
        """A run that was started and never read has a connection."""
        self.abandon()

    def retry_now(self) -> None:
        """Cut a wait short, also one that is about to begin."""
        self._is_woken = isinstance(self.machine.command, Wait)
        is_idle = self.is_closed or self._is_woken
        if is_idle and self._bound is not None and not self._bound.expired():
            self._bound.reschedule(asyncio.get_running_loop().time())

    async def _step(self) -> list[ServerSentEvent]:
        match self.machine.command:
            case Send() as send:
                await self._send(send)
            case Read():
                return await self._read()
            case ReadBody(limit_bytes=limit_bytes):
                await self._read_body(limit_bytes)
            case Wait(seconds=seconds):
                await self._wait(seconds)
            case _:
                pass
        return []

    async def _send(self, send: Send) -> None:
        await self._release()
        client = self._client
        if client is None:
            # Certificates are read, and much is imported: nothing for the thread of an event loop.
            client = self._client = await asyncio.to_thread(new_async_client)
        self._package = package_of(client)
        if self.is_closed:
            await self._release()
            return
        idle = self.machine.patience(unix_seconds())
        with self._noting_losses(self._package):
            async with self._within(idle):
                given = self._template.asked(send)
                headers = await given if inspect.isawaitable(given) else given
                timeouts = (self._connect_seconds(), None, None, None)
                request, options = self._request(client, self._package, send, headers, timeouts)
                response = await client.send(request, **options)
                self._response, self._chunks = response, response.aiter_bytes()
                self._answered(response, str(request.url))

    async def _read(self) -> list[ServerSentEvent]:
        patience = self.machine.patience(unix_seconds())
        with self._noting_losses(self._package):
            async with self._within(patience):
                chunk = await anext(self._chunks, None)
                if chunk is not None:
                    return self.machine.received(chunk, unix_seconds())
                self.machine.finished(unix_seconds())
        return []

    async def _read_body(self, limit_bytes: int) -> None:
        body = bytearray()
        with self._noting_losses(self._package):
            async with self._within(self.machine.patience(unix_seconds())):
                async for chunk in self._chunks:
                    body += chunk
                    if len(body) >= limit_bytes:
                        break
                self.machine.read_body(bytes(body[:limit_bytes]))

    async def _wait(self, seconds: float) -> None:
        await self._release()
        if self.is_closed:
            return
        if not self._is_woken:
            async with self._within(seconds):
                await asyncio.get_running_loop().create_future()
        self._is_woken = False
        if not self.is_closed:
            self.machine.woke()

    async def _finish(self) -> None:
        self.is_closed = True
        await self._release()

    async def _release(self) -> None:
        response, self._response = self._response, None
        self._chunks = _nothing()
        if self.is_closed:
            self.machine.close()
        try:
            if response is not None:
                await response.aclose()
        finally:
            if self.is_closed and self._owns_client and self._client is not None:
                await self._client.aclose()

    @asynccontextmanager
    async def _within(self, seconds: float | None) -> AsyncGenerator[None]:
        """So long and no longer, or until somebody closes; the machine is told what that means.

        Raises:
            TimeoutError: Of somebody else's.
        """
        bound = asyncio.timeout(seconds)
        try:
            async with bound as self._bound:
                yield
        except TimeoutError:
            if not bound.expired():
                raise
            if not (self.is_closed or isinstance(self.machine.command, Wait)):
                self.machine.broke(f"nothing came for {seconds:g} s", unix_seconds())
        finally:
            self._bound = None


def _runs(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is the loop's thread, and at work for it."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


async def _nothing() -> AsyncGenerator[bytes]:
    nothing: tuple[bytes, ...] = ()
    for chunk in nothing:
        yield chunk
