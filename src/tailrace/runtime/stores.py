"""From a URL to a log store. What a store needs beyond the core is imported only when its URL is given."""

import importlib.util
from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from tailrace.errors import StoreSetupError
from tailrace.runtime.clock import Clock
from tailrace.stores.contract import RunStore
from tailrace.stores.memory import MemoryStore

__all__ = ["open_store"]

_Opener: TypeAlias = Callable[[str, Clock, float], RunStore]


def open_store(url: str, *, clock: Clock, retention_seconds: float) -> RunStore:
    """The store that `url` names: `memory://`, `sqlite:///path`, or `redis://…`, `rediss://…` for TLS.

    Raises:
        StoreSetupError: There is no such kind, or its extra is not installed.
    """
    scheme, separator, _ = url.partition("://")
    opener = _OPENERS.get(scheme) if separator else None
    if opener is None:
        # The rest of the URL may hold a password.
        raise StoreSetupError(
            f"no log store for {scheme[:32]!r} (known: {', '.join(f'{name}://' for name in _OPENERS)})"
        )
    return opener(url, clock, retention_seconds)


def _memory(_: str, clock: Clock, retention_seconds: float) -> RunStore:
    return MemoryStore(monotonic=clock.monotonic, retention_seconds=retention_seconds)


def _sqlite(url: str, clock: Clock, retention_seconds: float) -> RunStore:
    from tailrace.stores.sqlite import SqliteStore

    path = unquote(urlsplit(url).path)
    if not path.strip("/"):
        raise StoreSetupError("a SQLite store needs a path, such as sqlite:////var/lib/app/runs.db")
    # Three slashes are a path from here, four one from the root, as elsewhere.
    return SqliteStore(path[1:], retention_seconds=retention_seconds, time_ms=clock.time_ms)


def _redis(url: str, _: Clock, retention_seconds: float) -> RunStore:
    if importlib.util.find_spec("redis") is None:
        raise StoreSetupError("a Redis store needs its extra: pip install 'tailrace[redis]'")
    from tailrace.stores.redis import RedisStore

    return RedisStore(url, retention_seconds=retention_seconds)


_OPENERS: dict[str, _Opener] = {"memory": _memory, "sqlite": _sqlite, "redis": _redis, "rediss": _redis}
