"""Where the soak happens: workers on one store, how they are asked what they hold, and what the store holds."""

import asyncio
import contextlib
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import httpx2
import msgspec

from tailrace.runtime.runs import Runs
from tests.chaos.worker import Worker
from tests.redis_server import RedisServer
from tests.soak.soak_app import CENSUS, STATE, State

__all__ = ["LEASE_SECONDS", "RETENTION_SECONDS", "Site", "SoakWorker", "WatchedFile", "WatchedRedis"]

#: Other programs may keep this machine busy, and no worker of a soak dies.
LEASE_SECONDS = 10.0
#: Short, so that a soak sees many runs through to their end.
RETENTION_SECONDS = 20.0
_STOP_SECONDS = 20.0
_LASTING_KEYS = {"tr:secret"}
#: Tables that grew once, and what the allocator keeps.
_SPARE_BYTES = 1024**2

#: What a store holds, by what it is called in the table at the end.
Holdings: TypeAlias = Mapping[str, float]


class SoakWorker(Worker):
    """Serves the application of the soak."""

    def __init__(self, store: str) -> None:
        """Describe it."""
        super().__init__("soak_app:app", store=store, lease_seconds=LEASE_SECONDS)
        paths = (self._environment["PYTHONPATH"], str(Path(__file__).parent))
        self._environment["PYTHONPATH"] = os.pathsep.join(paths)
        self._environment["SOAK_RETENTION_SECONDS"] = str(RETENTION_SECONDS)

    async def state(self, client: httpx2.AsyncClient, *, collect: bool = False) -> State:
        """What it holds; with `collect`, after its garbage was collected."""
        response = await client.get(f"{self.url}{STATE}", params={"collect": "1"} if collect else {})
        return msgspec.json.decode(response.raise_for_status().content, type=State)

    async def census(self, client: httpx2.AsyncClient) -> Counter[str]:
        """How many objects of tailrace it holds, and how much is in them."""
        response = await client.get(f"{self.url}{CENSUS}")
        return Counter(msgspec.json.decode(response.raise_for_status().content, type=dict[str, int]))

    async def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(_STOP_SECONDS):
            return await self._process.wait()


class WatchedRedis:
    """A Redis server as something that could grow.

    Attributes:
        flat: Which of its holdings have no reason to grow as long as the load is the same.
    """

    flat = ("keys", "used MiB", "channels", "clients")

    def __init__(self, server: RedisServer) -> None:
        """Look at this one."""
        self._server = server
        self.url = server.url

    def holdings(self) -> Holdings:
        """Its keys, its memory, its channels and who is connected, but for whoever asks."""
        ask = self._server.ask
        return {
            "keys": ask("DBSIZE"),
            "used bytes": int(self._server.info("memory")["used_memory"]),
            "channels": len(ask("PUBSUB", "CHANNELS")),
            "clients": int(self._server.info("clients")["connected_clients"]) - 1,
        }

    def remains(self, base: Holdings) -> list[str]:
        """What is there that should not be when every run has expired."""
        keys = [name.decode() for name in self._server.ask("KEYS", "*")]
        now = self.holdings()
        return [
            *(f"key {name}" for name in keys if name not in _LASTING_KEYS),
            *(f"{what} {now[what]}" for what in ("channels", "clients") if now[what] > base[what]),
            *(["used bytes"] if now["used bytes"] > base["used bytes"] + _SPARE_BYTES else []),
        ]


class WatchedFile:
    """A file of the SQLite store as something that could grow.

    Attributes:
        flat: As of `WatchedRedis`.
    """

    flat = ("run rows", "log rows", "block rows", "signal rows", "file MiB", "journal MiB")

    def __init__(self, path: Path) -> None:
        """Look at this one."""
        self._path = path
        self.url = f"sqlite:///{path}"

    def holdings(self) -> Holdings:
        """Its size, that of its journal, and its rows."""
        with contextlib.closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True)) as db:
            rows = {
                "run rows": "SELECT count(*) FROM run",
                "log rows": "SELECT count(*) FROM log",
                "block rows": "SELECT count(*) FROM block",
                "signal rows": "SELECT count(*) FROM signal",
            }
            counted = {name: int(db.execute(query).fetchone()[0]) for name, query in rows.items()}
        journal = self._path.with_name(f"{self._path.name}-wal")
        return {**counted, "file bytes": self._path.stat().st_size, "journal bytes": journal.stat().st_size}

    def remains(self, base: Holdings) -> list[str]:
        """What is there that should not be when every run has expired; the file itself does not shrink."""
        return [f"{what} {count}" for what, count in self.holdings().items() if what.endswith("rows") and count]


class Site:
    """Workers that share a store.

    Attributes:
        name: Of the store.
        workers: Which are running.
        runs: The runtime of this process on the same store, if that is to follow along.
    """

    def __init__(self, name: str, workers: list[SoakWorker], runs: Runs | None = None) -> None:
        """Bring them together."""
        self.name = name
        self.workers = workers
        self.runs = runs

    @property
    def urls(self) -> list[str]:
        """Of all workers."""
        return [worker.url for worker in self.workers]
