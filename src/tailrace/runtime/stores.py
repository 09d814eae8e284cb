"""From a URL to a log store. What a store needs beyond the core is imported only when its URL is given."""

import importlib.util
import math
import re
from collections.abc import Callable
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

from tailrace.errors import StoreSetupError
from tailrace.runtime.clock import Clock
from tailrace.stores.contract import RunStore
from tailrace.stores.memory import MemoryStore

__all__ = ["open_store"]


class _Terms(NamedTuple):
    """What is not in the URL; see `open_store`."""

    clock: Clock
    retention_seconds: float
    live_seconds: float | None
    prefix: str


#: Of a store whose writers may be gone without a word.
_LIVE_SECONDS = 3_600.0

_Opener: TypeAlias = Callable[[str, _Terms], RunStore]

#: Anything else before `://` is no scheme, and may be a password.
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,31}", re.IGNORECASE)
_SQLITE_FORM = "sqlite:///runs.db is a path from here, sqlite:////var/lib/app/runs.db one from the root"


def open_store(
    url: str, *, clock: Clock, retention_seconds: float, live_seconds: float | None = None, prefix: str = "tr"
) -> RunStore:
    """The store that `url` names: `memory://`, `sqlite:///path`, or `redis://…`, `rediss://…` for TLS.

    Args:
        url: Such a URL.
        clock: Tells the time.
        retention_seconds: How long a final log can be read.
        live_seconds: How long an open log is kept to which nothing is written. By default an hour where many write, as
            heartbeats are writes; in memory, for ever.
        prefix: What tells logs of one kind from others that are kept in the same place, where that can be.

    Raises:
        StoreSetupError: There is no such kind, its extra is not installed, or the rest of the URL cannot be used.
    """
    scheme, separator, _ = url.partition("://")
    opener = _OPENERS.get(scheme) if separator else None
    if opener is None:
        known = ", ".join(f"{name}://" for name in _OPENERS)
        if not separator or _SCHEME.fullmatch(scheme) is None:
            raise StoreSetupError(f"the URL of a log store begins with one of {known}")
        # The rest of the URL may hold a password.
        raise StoreSetupError(f"no log store for {scheme!r} (known: {known})")
    return opener(url, _Terms(clock, retention_seconds, live_seconds, prefix))


def _memory(_: str, terms: _Terms) -> RunStore:
    return MemoryStore(
        monotonic=terms.clock.monotonic,
        retention_seconds=terms.retention_seconds,
        live_seconds=math.inf if terms.live_seconds is None else terms.live_seconds,
    )


def _sqlite(url: str, terms: _Terms) -> RunStore:
    from tailrace.stores.sqlite import SqliteStore

    return SqliteStore(
        _sqlite_path(url),
        retention_seconds=terms.retention_seconds,
        live_seconds=terms.live_seconds or _LIVE_SECONDS,
        time_ms=terms.clock.time_ms,
    )


def _sqlite_path(url: str) -> str:
    """The path in a URL. Three slashes are a path from here, four one from the root, as elsewhere.

    Raises:
        StoreSetupError: There is none, or more than a path.
    """
    rest = url.partition("://")[2]
    if not rest.strip("/"):
        raise StoreSetupError(f"a SQLite store needs a path: {_SQLITE_FORM}")
    if not rest.startswith("/"):
        # What follows two slashes is a host; to drop it would be to write elsewhere than was meant.
        raise StoreSetupError(f"a SQLite store has no host: {_SQLITE_FORM}")
    if "?" in rest or "#" in rest:
        raise StoreSetupError("the URL of a SQLite store has no options; in a path, ? is written %3F and # %23")
    path = unquote(rest)[1:]
    if "\0" in path:
        raise StoreSetupError("the path of a SQLite store has a null character in it")
    return path


def _redis(url: str, terms: _Terms) -> RunStore:
    if importlib.util.find_spec("redis") is None:
        raise StoreSetupError("a Redis store needs its extra: pip install 'tailrace[redis]'")
    from tailrace.stores.redis import RedisStore

    return RedisStore(
        url,
        retention_seconds=terms.retention_seconds,
        live_seconds=terms.live_seconds or _LIVE_SECONDS,
        prefix=terms.prefix,
    )


_OPENERS: dict[str, _Opener] = {"memory": _memory, "sqlite": _sqlite, "redis": _redis, "rediss": _redis}
