"""A store that several workers share, without another process."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from tailrace.errors import StoreError
from tailrace.events import Entry, decode_record
from tailrace.runtime.blocks import decode_block
from tailrace.stores.contract import Ack, Info, RunStore, Write
from tailrace.stores.memory import MemoryStore
from tests.runtime.reading import BOUND_SECONDS

__all__ = ["SharedMemoryStore", "stored_log"]


async def stored_log(store: RunStore, run_id: str) -> list[Entry]:
    """The run as the store has it, whether or not it was compacted."""
    page = await store.read(run_id, 0, limit=1_000_000)
    records = page.records if page.block is None else decode_block(page.block)
    return [decode_record(seq, record) for seq, record in enumerate(records, 1)]


class SharedMemoryStore(MemoryStore):
    """A memory store whose runs may be produced elsewhere.

    Attributes:
        writes: What was given to each `commit`, in order.
        looks: How often each run was looked at by `info`.
        seals: The runs that `seal` has ended, in order.
    """

    def __init__(self, *, monotonic: Callable[[], float], commit_interval_seconds: float = 0.0) -> None:
        super().__init__(monotonic=monotonic)
        self.writes: list[list[Write]] = []
        self.looks: Counter[str] = Counter()
        self.seals: list[str] = []
        self._commit_interval_seconds = commit_interval_seconds
        self._committed = asyncio.Condition()
        self._looked = asyncio.Condition()

    @property
    def shared(self) -> bool:
        """Others see these logs."""
        return True

    @property
    def commit_interval_seconds(self) -> float:
        """As it was made."""
        return self._commit_interval_seconds

    async def commit(self, writes: Sequence[Write]) -> Sequence[Ack | StoreError]:
        """Take note, and see `RunStore.commit`."""
        self.writes.append(list(writes))
        answers = await super().commit(writes)
        async with self._committed:
            self._committed.notify_all()
        return answers

    async def written(self, commits: int) -> None:
        """Wait until there were so many calls of `commit`."""
        async with asyncio.timeout(BOUND_SECONDS), self._committed:
            await self._committed.wait_for(lambda: len(self.writes) >= commits)

    async def info(self, run_id: str) -> Info:
        """Take note, and see `RunStore.info`."""
        self.looks[run_id] += 1
        async with self._looked:
            self._looked.notify_all()
        return await super().info(run_id)

    async def looked_at(self, run_id: str) -> None:
        """Wait until the run is looked at once more."""
        looks = self.looks[run_id]
        async with asyncio.timeout(BOUND_SECONDS), self._looked:
            await self._looked.wait_for(lambda: self.looks[run_id] > looks)

    async def seal(self, seen: Info, record: bytes, state: int) -> bool:
        """Take note, and see `RunStore.seal`."""
        sealed = await super().seal(seen, record, state)
        if sealed:
            self.seals.append(seen.run_id)
        return sealed
