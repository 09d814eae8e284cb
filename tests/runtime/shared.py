"""A store that several workers share, without another process."""

from collections import Counter
from collections.abc import Callable, Sequence

from tailrace.errors import StoreError
from tailrace.stores.contract import Ack, Info, Write
from tailrace.stores.memory import MemoryStore

__all__ = ["SharedMemoryStore"]


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
        return await super().commit(writes)

    async def info(self, run_id: str) -> Info:
        """Take note, and see `RunStore.info`."""
        self.looks[run_id] += 1
        return await super().info(run_id)

    async def seal(self, seen: Info, record: bytes, state: int) -> bool:
        """Take note, and see `RunStore.seal`."""
        sealed = await super().seal(seen, record, state)
        if sealed:
            self.seals.append(seen.run_id)
        return sealed
