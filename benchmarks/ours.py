"""Tailrace on a store, its Redis store alone, and the bare sources, which show what the load itself costs."""

import asyncio
from collections.abc import AsyncGenerator

import msgspec

from benchmarks.contestant import Contestant
from benchmarks.load import Reader
from tailrace.errors import StoreUnavailableError
from tailrace.events import TextDelta
from tailrace.runtime.runs import Runs
from tailrace.stores.contract import OPEN, Ack, Batch, Lease, Write
from tailrace.stores.redis import RedisStore
from tailrace.wire.dialects.native import DIALECT

__all__ = ["Bare", "StoreAlone", "Tailrace"]

_END_SECONDS = 30.0
_COMPLETED = 1
_encode = msgspec.json.Encoder().encode
_RETRY_SECONDS = 1.0


class Tailrace(Contestant):
    """Runs as an application starts them; readers as the web layer reads, up to the bytes of a write."""

    def __init__(self, url: str) -> None:
        """Prepare; all settings are the defaults."""
        self._runs = Runs(url)
        self._opened = False

    async def start(self, run_id: str, source: AsyncGenerator[str]) -> None:
        """See `Contestant`."""
        await self._open()
        await self._runs.start(source, run_id=run_id)

    async def read(self, run_id: str, reader: Reader) -> None:
        """See `Contestant`."""
        await self._open()
        follower = self._runs.follower(run_id, merging=True)
        encoder = DIALECT.encoder(run_id=run_id)
        try:
            while not follower.ended:
                try:
                    entries = await follower.read()
                except StoreUnavailableError:
                    # As the web layer: a later read goes on where this one was.
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                if entries:
                    frames = [frame for entry in entries for frame in encoder.encode(entry)]
                    words = sum(type(entry.event) is TextDelta for entry in entries)
                    reader.take(b"".join(frames), words)
                    reader.attached.set()
                elif not follower.ended:
                    await follower.wait()
        finally:
            follower.close()

    async def aclose(self) -> None:
        """See `Contestant`."""
        await self._runs.drain(_END_SECONDS)
        await self._runs.aclose()

    async def _open(self) -> None:
        if not self._opened:
            self._opened = True
            await self._runs.open()


class StoreAlone(Contestant):
    """The store without the runtime above it: around it stands as little as around the naive way, and the same JSON."""

    def __init__(self, url: str) -> None:
        """Prepare; what is said is written as often as the runtime writes."""
        self._store = RedisStore(url)
        self._runs: list[asyncio.Task[None]] = []
        self._dirty: dict[str, _Said] = {}
        self._flushing: asyncio.Task[None] | None = None

    async def start(self, run_id: str, source: AsyncGenerator[str]) -> None:
        """See `Contestant`."""
        lease = await self._store.create(run_id, owner=None, thread=None, fingerprint=b"")
        assert lease is not None
        self._runs.append(asyncio.create_task(self._produce(_Said(lease), source), name=f"run-{run_id}"))
        self._flushing = self._flushing or asyncio.create_task(self._flush(), name="flush")

    async def _produce(self, said: "_Said", source: AsyncGenerator[str]) -> None:
        async for word in source:
            said.records.append(_encode({"type": "text.delta", "delta": word}))
            self._dirty[said.lease.run_id] = said
        said.records.append(_encode({"type": "run.completed"}))
        said.final = _COMPLETED
        self._dirty[said.lease.run_id] = said

    async def _flush(self) -> None:
        while self._dirty or not all(run.done() for run in self._runs):
            await asyncio.sleep(self._store.commit_interval_seconds)
            dirty, self._dirty = self._dirty, {}
            for answer in await self._store.commit([said.write() for said in dirty.values()]):
                assert isinstance(answer, Ack)

    async def read(self, run_id: str, reader: Reader) -> None:
        """See `Contestant`."""
        ended = asyncio.Event()
        last = 0

        def heard(batch: Batch | None) -> None:
            nonlocal last
            if batch is None:
                # From here on nothing is missed.
                reader.attached.set()
                return
            assert batch.first == last + 1
            last += len(batch.records)
            frames = [b"id: %d\ndata: %b\n\n" % numbered for numbered in enumerate(batch.records, batch.first)]
            reader.take(b"".join(frames), len(frames) - (batch.state != OPEN))
            if batch.state != OPEN:
                ended.set()

        stop = self._store.subscribe(run_id, heard)
        try:
            await ended.wait()
        finally:
            stop()

    async def aclose(self) -> None:
        """See `Contestant`."""
        await asyncio.gather(*self._runs)
        if self._flushing is not None:
            await self._flushing
        await self._store.aclose()


class _Said:
    """What a run has said and the store has not got yet."""

    __slots__ = ("final", "first", "lease", "records")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.first = 1
        self.records: list[bytes] = []
        self.final = OPEN

    def write(self) -> Write:
        write = Write(self.lease, self.first, self.records, self.final)
        self.first += len(self.records)
        self.records = []
        return write


class Bare(Contestant):
    """The sources run, and nobody keeps or reads what they say."""

    def __init__(self) -> None:
        """Prepare."""
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, run_id: str, source: AsyncGenerator[str]) -> None:
        """See `Contestant`."""
        self._tasks.append(asyncio.create_task(_exhaust(source), name=f"bare-{run_id}"))

    async def read(self, run_id: str, reader: Reader) -> None:
        """See `Contestant`.

        Raises:
            NotImplementedError: There is nothing to read.
        """
        raise NotImplementedError

    async def aclose(self) -> None:
        """See `Contestant`."""
        await asyncio.gather(*self._tasks)


async def _exhaust(source: AsyncGenerator[str]) -> None:
    async for _ in source:
        pass
