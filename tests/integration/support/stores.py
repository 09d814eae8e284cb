"""The URL of a store of each kind, with what it needs to run."""

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from tests.redis_server import RedisServer

__all__ = ["SHARED_STORES", "STORES", "a_store"]

SHARED_STORES = ["sqlite", pytest.param("redis", marks=pytest.mark.redis)]
STORES = ["memory", *SHARED_STORES]


@contextlib.contextmanager
def a_store(kind: str, folder: Path, require_program: Callable[..., str]) -> Generator[str]:
    """An empty store of this kind, which is gone with the block."""
    match kind:
        case "redis":
            with RedisServer(require_program("redis-server", "valkey-server"), folder / "redis") as server:
                yield server.url
        case "sqlite":
            yield f"sqlite:///{folder / 'runs.db'}"
        case _:
            yield f"{kind}://"
