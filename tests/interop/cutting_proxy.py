"""A way to a server on which answers break where a client asks for it, so that a script can try every place.

A URL that begins with `/~TOKEN:HOW:K/` goes to the same URL without that; the first answer for the token breaks after
its K-th frame. `K,L` breaks the second one too, after its L-th. Where the URLs are not the client's to choose, the
header `x-cut: TOKEN HOW:K,HOW:L` says the same of all requests that carry it, and each answer breaks in its own way.
Everything else passes whole. HOW is

- `reset`: the connection is reset, as by a network that is gone;
- `half`: so it is, in the middle of the next frame;
- `eof`: the answer ends as if it were whole, as behind a proxy that gives up politely;
- `torn`: so it does, in the middle of the next frame.
"""

import asyncio
import contextlib
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

__all__ = ["CuttingProxy"]

_BOUND_SECONDS = 10.0
_BYTES = 65_536
_HEAD_BYTES = 65_536
_PREFIX = re.compile(rb"^([A-Z]+ )/~([^:/ ]+):(reset|half|eof|torn):([0-9,]+)(/[^ ]* )", re.ASCII)
_HEADER = re.compile(rb"\r\nx-cut: *([^ \r]+) ([^\r]*)", re.IGNORECASE)
_CONNECTION = re.compile(rb"\r\nconnection:[^\r]*", re.IGNORECASE)
_STREAM = re.compile(rb"\r\ncontent-type: *text/event-stream", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
#: The ways that end in the middle of a frame, and those that look like an end.
_MIDST = frozenset({"half", "torn"})
_POLITE = frozenset({"eof", "torn"})


class _Cut(NamedTuple):
    how: str
    frames: int


class CuttingProxy:
    """Runs on a thread of its own from entering to leaving the `with` block.

    Attributes:
        port: Where it listens.
        cuts: How many answers it has broken.
    """

    def __init__(self, port: int) -> None:
        """Take the server's port."""
        self.port = 0
        self.cuts = 0
        self._target = port
        self._seen = Counter[bytes]()
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._tasks = set[asyncio.Task[None]]()
        self._thread = threading.Thread(target=self._run, name="cutting-proxy", daemon=True)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(_BOUND_SECONDS), "the proxy did not start"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_BOUND_SECONDS)
        assert not self._thread.is_alive(), "the proxy did not stop"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_HEAD_BYTES))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        to_server: asyncio.StreamWriter | None = None
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                head, cut = self._asked(await reader.readuntil(b"\r\n\r\n"))
                from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
                to_server.write(head)
                asking = asyncio.create_task(_pass_on(reader, to_server))
                try:
                    await self._answer(from_server, writer, cut)
                finally:
                    asking.cancel()
        finally:
            for each in (writer, to_server):
                if each is not None:
                    each.close()
            self._tasks.discard(task)

    def _asked(self, head: bytes) -> tuple[bytes, _Cut | None]:
        """The request as the server shall see it, one to a connection; and where its answer breaks."""
        cut: _Cut | None = None
        if match := _PREFIX.match(head):
            method, token, how, places, rest = match.groups()
            cut = self._next(token, [(how, place) for place in places.split(b",")])
            head = method + rest + head[match.end() :]
        elif match := _HEADER.search(head):
            token, cuts = match.groups()
            cut = self._next(token, [each.split(b":") for each in cuts.split(b",")])
        return _CONNECTION.sub(b"", head).replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1), cut

    def _next(self, token: bytes, cuts: Sequence[Sequence[bytes]]) -> _Cut | None:
        """Where the next answer for the token breaks, if it does."""
        turn = self._seen[token]
        self._seen[token] += 1
        if turn >= len(cuts):
            return None
        how, frames = cuts[turn]
        return _Cut(how.decode(), int(frames))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: _Cut | None) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        if cut is None or not (_STREAM.search(head) and _CHUNKED.search(head)):
            await _pass_on(reader, writer)
            return
        waiting, left = b"", cut.frames
        while True:
            if not left and (cut.how not in _MIDST or waiting):
                await self._break(writer, cut.how, waiting)
                return
            chunk = await _chunk(reader)
            if not chunk:
                writer.write(_chunked(waiting) + b"0\r\n\r\n")
                await writer.drain()
                return
            *frames, waiting = (waiting + chunk).split(b"\n\n")
            passed = frames[:left]
            waiting = b"\n\n".join([*frames[left:], waiting])
            left -= len(passed)
            writer.write(_chunked(b"".join(frame + b"\n\n" for frame in passed)))
            await writer.drain()

    async def _break(self, writer: asyncio.StreamWriter, how: str, waiting: bytes) -> None:
        self.cuts += 1
        if how in _MIDST:
            frame = waiting.partition(b"\n\n")[0]
            writer.write(_chunked(frame[: len(frame) // 2 + 1]))
        if how in _POLITE:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        if how not in _POLITE:
            sock: socket.socket = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_BYTES):
            writer.write(data)
            await writer.drain()


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    """The next chunk of an answer; nothing at its end."""
    size = int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)
    data = await reader.readexactly(size + 2)
    return data[:-2]


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
