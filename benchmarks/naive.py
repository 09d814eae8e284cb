"""The peer: what is written by hand with redis-py. `XADD` for each event, blocking `XREAD` for each reader.

It is given the best of what it would have in practice: the hiredis parser, uvloop, msgspec for JSON, connections as
many as it asks for, and no work that tailrace does and it does not: no numbers, leases, bounds, replay or heartbeats.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, TypeAlias, cast

import msgspec
from redis.asyncio import Redis

from benchmarks.contestant import Contestant
from benchmarks.load import Reader

__all__ = ["Naive"]

_Entry: TypeAlias = tuple[bytes, dict[bytes, bytes]]
_BLOCK_MS = 15_000
_CONNECT_SECONDS = 30
_KEEP_SECONDS = 900
_encode = msgspec.json.Encoder().encode


class Naive(Contestant):
    """A stream for each run, an entry for each event, a connection for each reader."""

    def __init__(self, url: str, *, connections: int) -> None:
        """Prepare; connections are made when they are needed."""
        # Without a socket timeout, as it would be a timer more for each command, and a blocking read sets its own time;
        # and patient while all readers connect at once. `Any`: no annotation says what the commands return.
        self._redis: Any = cast("Any", Redis).from_url(
            url, max_connections=connections, socket_timeout=None, socket_connect_timeout=_CONNECT_SECONDS
        )
        self._runs = asyncio.TaskGroup()
        self._entered = False

    async def start(self, run_id: str, source: AsyncGenerator[str]) -> None:
        """See `Contestant`."""
        if not self._entered:
            self._entered = True
            await self._runs.__aenter__()
        self._runs.create_task(self._produce(f"run:{run_id}", source))

    async def _produce(self, key: str, source: AsyncGenerator[str]) -> None:
        async for word in source:
            await self._redis.xadd(key, {"data": _encode({"type": "text.delta", "delta": word})})
        await self._redis.xadd(key, {"data": _encode({"type": "run.completed"}), "end": "1"})
        await self._redis.expire(key, _KEEP_SECONDS)

    async def read(self, run_id: str, reader: Reader) -> None:
        """See `Contestant`."""
        key, last, ended = f"run:{run_id}", b"0", False
        reader.attached.set()
        while not ended:
            streams = await self._redis.xread({key: last}, block=_BLOCK_MS)
            frames: list[bytes] = []
            for last, fields in _entries(streams):
                ended = b"end" in fields
                frames.append(b"id: %b\ndata: %b\n\n" % (last, fields[b"data"]))
            if frames:
                reader.take(b"".join(frames), len(frames) - ended)

    async def aclose(self) -> None:
        """See `Contestant`."""
        if self._entered:
            await self._runs.__aexit__(None, None, None)
        await self._redis.aclose()


def _entries(streams: object) -> list[_Entry]:
    """The entries of the only stream, in the shape of either version of the protocol; nothing if the time was over."""
    if not streams:
        return []
    if isinstance(streams, dict):
        (chunks,) = cast("dict[bytes, list[list[_Entry]]]", streams).values()
        return [entry for chunk in chunks for entry in chunk]
    ((_, entries),) = cast("list[tuple[bytes, list[_Entry]]]", streams)
    return entries
