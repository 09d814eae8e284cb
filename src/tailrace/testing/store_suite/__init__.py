"""The promises of `tailrace.stores.contract` as tests, for any log store.

    TestMyStore = store_suite(lambda: MyStore(…))

in a module that pytest collects, with pytest-asyncio in auto mode. Calling
`pytest.register_assert_rewrite("tailrace.testing.store_suite")` before the import makes failures tell their values.
A store that needs more than a lambda subclasses `StoreSuite`, and with it `SharedStoreSuite` and `AgeingStoreSuite`.
"""

from collections.abc import Awaitable, Callable
from typing import TypeAlias, cast

from tailrace.stores.contract import RunStore
from tailrace.testing.store_suite.ageing import AgeingStoreSuite
from tailrace.testing.store_suite.ending import EndingSuite
from tailrace.testing.store_suite.noting import NotingSuite
from tailrace.testing.store_suite.reading import ReadingSuite
from tailrace.testing.store_suite.shared import SharedStoreSuite
from tailrace.testing.store_suite.telling import TellingSuite
from tailrace.testing.store_suite.writing import WritingSuite

__all__ = ["AgeingStoreSuite", "Lapse", "SharedStoreSuite", "StoreSuite", "store_suite"]

#: Lets so many seconds pass for the stores of a suite: moves their clock, or waits.
Lapse: TypeAlias = Callable[[float], Awaitable[None]]


class StoreSuite(WritingSuite, ReadingSuite, EndingSuite, TellingSuite, NotingSuite):
    """One test per promise, for one store object; a subclass says how it is made."""


def store_suite(
    factory: Callable[[], RunStore],
    again: Callable[[RunStore], RunStore] | None = None,
    *,
    lapse: Lapse | None = None,
    live_seconds: float = 3_600,
    retention_seconds: float = 900,
) -> type[StoreSuite]:
    """The suite for a store.

    Args:
        factory: Makes a store with a new and empty backend; the suite opens and closes it.
        again: For a shared store: makes another one on the backend of the given one.
        lapse: Lets time pass for the stores that `factory` makes; without it nothing is tested that takes time.
        live_seconds: How long these stores keep a quiet open run.
        retention_seconds: How long they keep a final run.
    """
    suites: list[type] = [StoreSuite]
    members: dict[str, object] = {"make": staticmethod(factory)}
    if again is not None:
        suites.append(SharedStoreSuite)
        members["again"] = staticmethod(again)
    if lapse is not None:
        suites.append(AgeingStoreSuite)
        members |= {
            "lapse": staticmethod(lapse),
            "live_seconds": live_seconds,
            "retention_seconds": retention_seconds,
        }
    return cast("type[StoreSuite]", type("Suite", tuple(suites), members))
