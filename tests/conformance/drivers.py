"""Our clients, each as something that plays the client's part in a case: `run`, the `features` it has, and `close`."""

from typing import TypeAlias

from tests.conformance.node_driver import NodeDriver
from tests.conformance.python_drivers import AsyncDriver, SyncDriver

__all__ = ["DRIVERS", "Driver"]

Driver: TypeAlias = NodeDriver | SyncDriver | AsyncDriver

DRIVERS: dict[str, type[NodeDriver] | type[SyncDriver] | type[AsyncDriver]] = {
    "python": SyncDriver,
    "python-async": AsyncDriver,
    "typescript": NodeDriver,
}
