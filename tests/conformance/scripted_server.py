"""A server that plays the scripts of `spec/conformance/client.yaml`, and remembers each request and closing.

It speaks HTTP by hand, on plain sockets, because its scripts break it: a body without its end mark, a reset, no answer
at all. It runs on a thread with a loop of its own, on two ports, which are two origins. Many scripts are played at
once, each below a path of its own.
"""

import asyncio
import contextlib
import itertools
import socket
import struct
import threading
import zlib
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from functools import partial
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeVar, cast

import msgspec

from tailrace.wire.sse import encode_event

__all__ = ["Answer", "Crowd", "Flood", "Play", "ScriptedServer", "Seen", "unix_seconds"]

_BOUND_SECONDS = 30
_RESET = struct.pack("ii", 1, 0)
_BACKLOG = 2_048
_LONGEST_WRITE = 65_536

_Result = TypeVar("_Result")


def unix_seconds() -> float:
    """The time, as another process can compare it with its own."""
    return datetime.now(UTC).timestamp()


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """One answer of a script; the keys are explained in `client.yaml`."""

    status: int | None = 200
    headers: dict[str, str] | None = None
    origin: Literal["other"] | None = None
    times: int = 1
    encoding: Literal["gzip", "br"] | None = None
    body: list[Any] | None = None
    ends: Literal["end", "cut", "reset", "hang"] = "end"


class Seen(msgspec.Struct):
    """One request as it arrived.

    Attributes:
        path: Below the path that the script is played under, with its query.
        headers: By names in small letters; several of one name are joined by a comma.
        other: It came to the other origin.
        at: Unix seconds, as all times here.
        answered_at: When its answer had ended, or was left hanging.
        closed_at: When its connection was closed by the client.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    other: bool
    at: float
    answered_at: float | None = None
    closed_at: float | None = None


class Connection(Protocol):
    """What a play does to a connection: see `_Connection`."""

    async def head(self, status: int, headers: Mapping[str, str], *, body: bool = True) -> None: ...
    async def write(self, data: bytes) -> None: ...
    async def finish(self) -> None: ...
    async def gone(self) -> None: ...
    async def cut(self) -> None: ...
    async def reset(self) -> None: ...


class Play:
    """A script while it is played.

    Attributes:
        seen: The requests, in order.
        unexpected: How many came beyond the script, or to the wrong origin.
    """

    def __init__(self, answers: Iterable[Answer], path: str) -> None:
        """Begin a script that is played below `path`."""
        self.path = path
        self.base = self.other = ""
        self.seen: list[Seen] = []
        self.unexpected = 0
        self._answers: Iterator[Answer] = itertools.chain.from_iterable([one] * one.times for one in answers)

    async def answer(self, seen: Seen, connection: Connection) -> None:
        """Answer the next request."""
        self.seen.append(seen)
        answer = next(self._answers, None)
        if answer is None or seen.other != (answer.origin == "other"):
            self.unexpected += 1
            await connection.head(410, {}, body=False)
            seen.answered_at = unix_seconds()
            return
        if answer.status is not None:
            headers = {"content-type": "text/event-stream"} if answer.headers is None else answer.headers
            headers = {name: self._filled(value) for name, value in headers.items()}
            if answer.encoding is not None:
                headers["content-encoding"] = answer.encoding
            has_body = answer.status not in {204, 304}
            await connection.head(answer.status, headers, body=has_body)
            if has_body:
                encode = {"gzip": _gzip, "br": _brotli, None: _identity}[answer.encoding]
                async for data in encode(_writes(answer.body or [])):
                    await connection.write(data)
        await self._end(answer, seen, connection)

    async def _end(self, answer: Answer, seen: Seen, connection: Connection) -> None:
        if answer.ends == "end":
            await connection.finish()
        seen.answered_at = unix_seconds()
        if answer.ends == "hang":
            await connection.gone()
        elif answer.ends == "reset":
            await connection.reset()
        elif answer.ends == "cut":
            await connection.cut()

    def _filled(self, value: str) -> str:
        value = value.replace("{base}", self.base).replace("{other}", self.other).replace("{path}", self.path)
        if value.startswith("{date+"):
            return formatdate(unix_seconds() + float(value[6:-1]), usegmt=True)
        return value


class Flood(Play):
    """One answer with as many events as the reader takes, up to a bound.

    Attributes:
        written: Bytes that the reader's side has taken, or holds.
    """

    def __init__(self, event: bytes, times: int, path: str) -> None:
        """Write `event` again and again, with ids from 1, then the end mark."""
        super().__init__([], path)
        self.written = 0
        self._event = event
        self._times = times

    async def answer(self, seen: Seen, connection: Connection) -> None:
        """See `Play`."""
        self.seen.append(seen)
        await connection.head(200, {"content-type": "text/event-stream"})
        for number in range(1, self._times + 1):
            await connection.write(b"id: %d\n%b" % (number, self._event))
            self.written += len(self._event)
        await connection.write(b": end\n")
        await connection.finish()
        seen.answered_at = unix_seconds()


class Crowd(Play):
    """Many readers of one URL, who are dropped together; whoever comes back with a cursor gets 204.

    Attributes:
        back_at: When each of them was back.
        dropped_at: When all were dropped.
    """

    def __init__(self, retry_ms: int, path: str) -> None:
        """Nobody yet; `retry_ms` is the base of their waits."""
        super().__init__([], path)
        self._event = b"id: 1\nretry: %d\ndata: here\n\n" % retry_ms
        self.back_at: list[float] = []
        self.dropped_at = 0.0
        self.inside = 0
        self._dropped = asyncio.Event()

    def drop(self) -> None:
        """Drop them all; called in the server's loop."""
        self.dropped_at = unix_seconds()
        self._dropped.set()

    async def answer(self, seen: Seen, connection: Connection) -> None:
        """See `Play`."""
        self.seen.append(seen)
        if "last-event-id" in seen.headers:
            self.back_at.append(seen.at)
            await connection.head(204, {}, body=False)
            return
        await connection.head(200, {"content-type": "text/event-stream"})
        await connection.write(self._event)
        self.inside += 1
        await self._dropped.wait()
        await connection.reset()


_AnyPlay = TypeVar("_AnyPlay", bound=Play)


class ScriptedServer:
    """Serves from entering to leaving the `with` block."""

    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        """Nothing listens yet."""
        self._plays: dict[str, Play] = {}
        self._numbers = itertools.count(1)
        self._ports: list[int] = []
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scripted-server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(_BOUND_SECONDS), "the server did not start"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_BOUND_SECONDS)
        assert not self._thread.is_alive(), "the server did not stop"

    def play(self, answers: Iterable[Answer]) -> Play:
        """Begin a script."""
        return self._add(Play(answers, self._path()))

    def flood(self, event: bytes, times: int) -> Flood:
        """Begin an answer that has more events than a reader can hold."""
        return self._add(Flood(event, times, self._path()))

    def crowd(self, *, retry_ms: int) -> Crowd:
        """Begin to count who comes back."""
        return self._add(Crowd(retry_ms, self._path()))

    def call(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Run a coroutine in the server's loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(_BOUND_SECONDS)

    def _path(self) -> str:
        return f"/play{next(self._numbers)}"

    def _add(self, play: _AnyPlay) -> _AnyPlay:
        play.base, play.other = (f"http://127.0.0.1:{port}{play.path}" for port in self._ports)
        self._plays[play.path] = play
        return play

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            for other in (False, True):
                server = await asyncio.start_server(partial(self._exchange, other=other), "127.0.0.1", backlog=_BACKLOG)
                stack.callback(server.close)
                self._ports.append(server.sockets[0].getsockname()[1])
            self._started.set()
            await self._stopping.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, other: bool) -> None:
        """The requests of one connection, one after the other."""
        connection = _Connection(reader, writer)
        last: Seen | None = None
        try:
            while (request := await _request(reader, other=other)) is not None:
                prefix, seen = request
                last = seen
                await self._plays[prefix].answer(seen, connection)
                if connection.closed:
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            if last is not None:
                last.closed_at = unix_seconds()
                # A client may close before it was sent all, as it may do with the body of a refusal.
                last.answered_at = last.answered_at or last.closed_at
            writer.transport.abort()


class _Connection:
    """One connection of a client, in the middle of one answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.closed = False
        self._reader = reader
        self._writer = writer
        self._chunked = False
        self._socket = cast("socket.socket", writer.get_extra_info("socket"))
        writer.transport.set_write_buffer_limits(_LONGEST_WRITE)

    async def head(self, status: int, headers: Mapping[str, str], *, body: bool = True) -> None:
        """The status line and headers; without a body that is the whole answer."""
        self._chunked = body
        framing = {"transfer-encoding": "chunked"} if body else {} if status == 204 else {"content-length": "0"}
        lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in {**headers, **framing}.items())]
        await self._send("\r\n".join([*lines, "", ""]).encode())

    async def write(self, data: bytes) -> None:
        """A piece of the body, as one chunk."""
        if data:
            await self._send(b"%x\r\n%b\r\n" % (len(data), data))

    async def finish(self) -> None:
        """The end mark of HTTP."""
        if self._chunked:
            await self._send(b"0\r\n\r\n")

    async def gone(self) -> None:
        """Wait until the client has closed."""
        while await self._reader.read(_LONGEST_WRITE):
            pass
        self.closed = True

    async def cut(self) -> None:
        """Close as if the body had ended."""
        self.closed = True
        self._writer.close()
        await self._writer.wait_closed()

    async def reset(self) -> None:
        """Reset the connection, so that the client's next read fails."""
        self.closed = True
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()

    async def _send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


async def _request(reader: asyncio.StreamReader, *, other: bool) -> tuple[str, Seen] | None:
    """The next request, and the prefix of its path; `None` if there is none."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip().split("\r\n")
    method, target, _ = first.split(" ")
    headers: dict[str, str] = {}
    for name, _, value in (line.partition(":") for line in lines):
        text = value.strip().encode("latin-1").decode(errors="replace")
        headers[name.lower()] = ", ".join(filter(None, [headers.get(name.lower()), text]))
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    prefix, path = target[: target.find("/", 1)], target[target.find("/", 1) :]
    return prefix, Seen(method, path, headers, body, other, unix_seconds())


async def _writes(items: list[Any]) -> AsyncIterator[bytes]:
    for item in items:
        if isinstance(item, dict) and "pause_ms" in item:
            await asyncio.sleep(cast("float", item["pause_ms"]) / 1_000)
        else:
            yield b"".join(map(_bytes_of, cast("list[dict[str, Any]]", item if isinstance(item, list) else [item])))


def _bytes_of(item: dict[str, Any]) -> bytes:
    if "raw" in item:
        return cast("str", item["raw"]).encode()
    if "bytes" in item:
        return cast("str", item["bytes"]).encode("latin-1")
    if "comment" in item:
        return f": {item['comment']}\n".encode()
    if "seq" in item:
        fields = {name: value for name, value in item.items() if name not in {"seq", "first"}}
        record = {**fields, "at_ms": 1000, **({"first": item["first"]} if "first" in item else {})}
        return encode_event(_text(record), event=item["type"], id=str(item["seq"]))
    text = _text(item["data"]) if "data" in item else None
    retry = b"retry: %d\n" % item["retry"] if "retry" in item else b""
    return retry + encode_event(text, event=item.get("event"), id=item.get("id"))


def _text(data: object) -> str:
    return data if isinstance(data, str) else msgspec.json.encode(data).decode()


async def _identity(writes: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for data in writes:
        yield data


async def _gzip(writes: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    packer = zlib.compressobj(wbits=31)
    async for data in writes:
        yield packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.flush()


async def _brotli(writes: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """RFC 7932 with nothing compressed: each write is a block of its own, which is stored as it is."""
    window_bits = 1
    async for data in writes:
        # After the window's size, which is one zero bit: not the last block, four nibbles of length, stored.
        header = (len(data) - 1) << 3 | 1 << 19
        yield (header << window_bits).to_bytes(3, "little") + data
        window_bits = 0
    yield b"\x03"
