"""Tailrace on a store, and the bare sources, which show what the load itself costs."""

import asyncio
from collections.abc import AsyncGenerator

from benchmarks.contestant import Contestant
from benchmarks.load import Reader
from tailrace.errors import StoreUnavailableError
from tailrace.events import TextDelta
from tailrace.runtime.runs import Runs
from tailrace.wire.dialects.native import DIALECT

__all__ = ["Bare", "Tailrace"]

_END_SECONDS = 30.0
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
