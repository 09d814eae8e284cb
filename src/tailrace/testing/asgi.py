"""An in-process ASGI client that reads a response while it is being made, for streams that never end by themselves.

It does what a server does around an application: runs its lifespan, makes `send` wait while the reader is behind,
tells of a disconnect by `receive`, and says nothing in `send` after it. Source: the ASGI specification 3.0.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from typing import Any, Self
from urllib.parse import unquote

import msgspec
from starlette.types import ASGIApp, Message, Scope

from tailrace.wire.sse import Decoder, ServerSentEvent

__all__ = ["AsgiClient", "AsgiResponse"]

_ASGI = {"version": "3.0", "spec_version": "2.4"}


class AsgiClient:
    """A client of one ASGI application; within `async with` its lifespan runs.

    Every request runs in a task of its own, as in a server.
    """

    def __init__(self, app: ASGIApp, *, buffer_bytes: int = 64 * 1024, stop_seconds: float = 5.0) -> None:
        """Prepare; nothing is called yet.

        Args:
            app: The application.
            buffer_bytes: How much of a response may wait for its reader before `send` waits: the buffers of a network.
            stop_seconds: How long the application may go on after a disconnect before it is cancelled, and how long
                its lifespan may take to start or to stop.
        """
        self._app = app
        self._buffer_bytes = buffer_bytes
        self._stop_seconds = stop_seconds
        self._lifespan: _Lifespan | None = None

    async def __aenter__(self) -> Self:
        self._lifespan = _Lifespan(self._app, self._stop_seconds)
        await self._lifespan.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        lifespan, self._lifespan = self._lifespan, None
        if lifespan is not None:
            await lifespan.stop()

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        json: object = None,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator["AsgiResponse"]:
        """Send a request and open its response when its headers are there; leaving the block disconnects.

        What the application raises before the headers is raised here, as it is.

        Args:
            method: Such as `GET`.
            url: Path and query, percent-encoded.
            json: Anything msgspec encodes, as the body.
            content: The body as it is, if `json` is not given.
            headers: Beside `host`, and `content-type` with `json`.

        Raises:
            RuntimeError: The application returned without a response.
            TimeoutError: It went on after the disconnect, and was cancelled.
        """
        body = content if json is None else msgspec.json.encode(json)
        kind = {} if json is None else {"content-type": "application/json"}
        scope = self._scope(method, url, {"host": "testserver", **kind, **(headers or {})})
        exchange = _Exchange(body, self._buffer_bytes)
        task = asyncio.get_running_loop().create_task(exchange.run(self._app, scope), name="tailrace-asgi-request")
        try:
            await exchange.started.wait()
            if exchange.error is not None and not exchange.status:
                raise exchange.error
            if not exchange.status:
                raise RuntimeError("the application returned without a response")
            yield AsgiResponse(exchange)
        finally:
            exchange.disconnect()
            await self._settle(task)

    async def _settle(self, task: "asyncio.Task[None]") -> None:
        _, running = await asyncio.wait({task}, timeout=self._stop_seconds)
        if running:
            task.cancel()
            await asyncio.wait({task}, timeout=self._stop_seconds)
            raise TimeoutError(f"the application went on for {self._stop_seconds} s after its client had left")

    def _scope(self, method: str, url: str, headers: Mapping[str, str]) -> Scope:
        path, _, query = url.partition("?")
        return {
            "type": "http",
            "asgi": dict(_ASGI),
            "http_version": "1.1",
            "method": method.upper(),
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "root_path": "",
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 50_000),
            "server": ("testserver", 80),
            "state": {} if self._lifespan is None else dict(self._lifespan.state),
            "extensions": {},
        }


class AsgiResponse:
    """A response that is being received.

    Iterating it gives its body chunk by chunk, as the application sent it, and ends where the body ends. Whoever stops
    half-way may go on later.
    """

    def __init__(self, exchange: "_Exchange") -> None:
        """Made by `AsgiClient.stream`."""
        self._exchange = exchange

    @property
    def status(self) -> int:
        """The status code."""
        return self._exchange.status

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name; values that came more than once are joined by `, `."""
        return self._exchange.headers

    @property
    def error(self) -> Exception | None:
        """What the application raised after the headers, if it did so already."""
        return self._exchange.error

    def disconnect(self) -> None:
        """Leave: the application is told by `receive`, and what it sends from now on goes nowhere."""
        self._exchange.disconnect()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next chunk.

        Raises:
            StopAsyncIteration: The body has ended, or this side has left.
            ConnectionResetError: The application ended without ending the body; what it raised is the cause.
        """
        chunk = await self._exchange.next_chunk()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def read(self) -> bytes:
        """Wait for the end: what is left of the body.

        Raises:
            ConnectionResetError: The application ended without ending the body.
        """
        return b"".join([chunk async for chunk in self])

    def events(self) -> AsyncIterator[ServerSentEvent]:
        """The body as server-sent events, each as soon as it is complete; to be asked for once per response."""
        return _Events(self)


class _Events:
    """Server-sent events out of chunks. No generator: one that is left half-way would have to be closed."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._decoder = Decoder()
        self._ready: deque[ServerSentEvent] = deque()

    def __aiter__(self) -> AsyncIterator[ServerSentEvent]:
        return self

    async def __anext__(self) -> ServerSentEvent:
        while not self._ready:
            self._ready.extend(self._decoder.feed(await anext(self._chunks)))
        return self._ready.popleft()


class _Exchange:
    """One request and its response: the application's side, and what has come of it so far."""

    def __init__(self, body: bytes, buffer_bytes: int) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.error: Exception | None = None
        self.started = asyncio.Event()
        self._unread = [body]
        self._buffer_bytes = buffer_bytes
        self._chunks: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._changed = asyncio.Event()
        self._gone = asyncio.Event()
        self._whole = False
        self._over = False

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001  given to whoever reads the response
            self.error = error
        finally:
            self._over = True
            self.started.set()
            self._changed.set()

    def disconnect(self) -> None:
        self._gone.set()
        self._changed.set()

    async def next_chunk(self) -> bytes | None:
        """The next chunk; `None` where the body ends.

        Raises:
            ConnectionResetError: It was cut.
        """
        while not self._chunks:
            if self._whole or self._gone.is_set():
                return None
            if self._over:
                raise ConnectionResetError("the application did not end the body") from self.error
            await self._change()
        chunk = self._chunks.popleft()
        self._waiting_bytes -= len(chunk)
        self._changed.set()
        return chunk

    async def _receive(self) -> Message:
        if self._unread:
            return {"type": "http.request", "body": self._unread.pop(), "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = _joined(message.get("headers", ()))
            self.started.set()
        elif message["type"] == "http.response.body":
            await self._take(message.get("body", b""))
            if not message.get("more_body", False):
                self._whole = True
                self.disconnect()

    async def _take(self, chunk: bytes) -> None:
        """Keep a chunk as soon as the reader has made room for it."""
        while self._waiting_bytes >= self._buffer_bytes and not self._gone.is_set():
            await self._change()
        if chunk and not self._gone.is_set():
            self._chunks.append(chunk)
            self._waiting_bytes += len(chunk)
            self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class _Lifespan:
    """The lifespan protocol, in a task of its own."""

    def __init__(self, app: ASGIApp, turn_seconds: float) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._turn_seconds = turn_seconds
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Have the application start up; one without a lifespan is left alone.

        Raises:
            RuntimeError: It said that it cannot start.
            TimeoutError: It said nothing, and was cancelled.
        """
        scope: Scope = {"type": "lifespan", "asgi": dict(_ASGI), "state": self.state}
        self._task = asyncio.get_running_loop().create_task(self._run(scope), name="tailrace-asgi-lifespan")
        await self._turn(self._task, "startup")

    async def stop(self) -> None:
        """Have it shut down.

        Raises:
            RuntimeError: It said that it could not.
            TimeoutError: It said nothing, and was cancelled.
        """
        if self._task is not None and not self._task.done():
            await self._turn(self._task, "shutdown")
            await asyncio.wait({self._task}, timeout=self._turn_seconds)

    async def _turn(self, task: "asyncio.Task[None]", phase: str) -> None:
        self._inbox.put_nowait({"type": f"lifespan.{phase}"})
        try:
            async with asyncio.timeout(self._turn_seconds):
                answer = await self._outbox.get()
        except TimeoutError:
            task.cancel()
            raise
        if answer["type"] == f"lifespan.{phase}.failed":
            raise RuntimeError(f"{phase} failed: {answer.get('message', '')}")

    async def _run(self, scope: Scope) -> None:
        try:
            await self._app(scope, self._inbox.get, self._outbox.put)
        except Exception as error:  # noqa: BLE001  as servers do: an application may have no lifespan
            self._outbox.put_nowait({"type": "lifespan.unsupported", "message": repr(error)})


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        joined[key] = f"{joined[key]}, {text}" if key in joined else text
    return joined
