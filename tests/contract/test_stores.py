"""Every log store keeps the promises of the contract."""

from pathlib import Path

import pytest

from tailrace.stores.contract import RunStore
from tailrace.stores.memory import MemoryStore
from tailrace.stores.sqlite import SqliteStore
from tailrace.testing import FakeClock, FaultyStore, StoreSuite, store_suite
from tailrace.testing.store_suite import AgeingStoreSuite, SharedStoreSuite

LIVE_SECONDS = 60.0
RETENTION_SECONDS = 20.0

clock = FakeClock()


async def lapse(seconds: float) -> None:
    clock.advance(seconds)


def memory_store() -> MemoryStore:
    return MemoryStore(monotonic=clock.monotonic, retention_seconds=RETENTION_SECONDS, live_seconds=LIVE_SECONDS)


TestMemoryStore = store_suite(memory_store, lapse=lapse, retention_seconds=RETENTION_SECONDS, live_seconds=LIVE_SECONDS)
TestFaultyStoreWithoutFaults = store_suite(lambda: FaultyStore(memory_store()))


class TestSqliteStore(StoreSuite, SharedStoreSuite, AgeingStoreSuite):
    live_seconds = LIVE_SECONDS
    retention_seconds = RETENTION_SECONDS

    @pytest.fixture(autouse=True)
    def file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "runs.db"

    def make(self) -> RunStore:
        return SqliteStore(
            self.path, retention_seconds=RETENTION_SECONDS, live_seconds=LIVE_SECONDS, time_ms=clock.time_ms
        )

    def again(self, store: RunStore) -> RunStore:
        return self.make()

    async def lapse(self, seconds: float) -> None:
        await lapse(seconds)
