"""From a URL to a log store."""

from tailrace.errors import StoreError
from tailrace.runtime.clock import Clock
from tailrace.stores.contract import RunStore
from tailrace.stores.memory import MemoryStore

__all__ = ["StoreUrlError", "open_store"]


class StoreUrlError(StoreError):
    """No store goes by the scheme of the URL; `scheme` is what was asked for."""

    code = "store_url"

    def __init__(self, scheme: str) -> None:
        """Name the scheme; the rest of the URL may hold a password."""
        self.scheme = scheme
        super().__init__(f"no log store for {scheme}:// (known: memory://)")


def open_store(url: str, *, clock: Clock, retention_seconds: float) -> RunStore:
    """The store that `url` names; `memory://` is the only kind so far.

    Raises:
        StoreUrlError: There is no such kind.
    """
    scheme, separator, _ = url.partition("://")
    if scheme == "memory" and separator:
        return MemoryStore(monotonic=clock.monotonic, retention_seconds=retention_seconds)
    raise StoreUrlError(scheme[:32])
