"""Every log store keeps the promises of the contract."""

from tailrace.stores.memory import MemoryStore
from tailrace.testing import FakeClock, FaultyStore, store_suite


def memory_store() -> MemoryStore:
    return MemoryStore(monotonic=FakeClock().monotonic)


TestMemoryStore = store_suite(memory_store)
TestFaultyStoreWithoutFaults = store_suite(lambda: FaultyStore(memory_store()))
