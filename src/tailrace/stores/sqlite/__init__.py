"""The SQLite store: logs in one file, which survive a restart and are shared by the processes of one host.

One thread writes and one reads, each with its own connection; the event loop only hands over and is told. What waits
for the writer goes together in one transaction. What other processes commit is noticed by asking for the file's
version, every few milliseconds while somebody here follows or listens.
"""

import asyncio
import contextlib
import functools
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from tailrace.errors import FencedError, FingerprintError, GapError, RunNotFoundError, StoreError
from tailrace.stores.contract import OPEN, Ack, Batch, Hint, Info, Lease, Page, Stop, Write
from tailrace.stores.sqlite import table
from tailrace.stores.sqlite.file import open_reader, open_writer, transaction
from tailrace.stores.sqlite.lane import Lane
from tailrace.stores.sqlite.sweep import sweep
from tailrace.stores.sqlite.table import RunRow
from tailrace.stores.sqlite.tail import News, Tail

__all__ = ["SqliteStore"]

_T = TypeVar("_T")

#: How soon to look for what other processes have committed: shortly after they did, and otherwise.
_EAGER_LOOK_SECONDS = 0.005
_IDLE_LOOK_SECONDS = 0.020
_EAGER_FOR_SECONDS = 1.0
#: The token of a sealed run, which no lease has.
_SEALED = "sealed"


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


class SqliteStore:
    """Keeps logs in one file on a local disk; network file systems cannot share it.

    What was acknowledged survives the end of the process. With `synchronous="NORMAL"` a power failure may take the last
    commits with it, never the file; with `"FULL"` not even these, for a disk flush at every commit. The file is made
    with the process's umask; it holds the runs, and the secret that their ids come from. It does not shrink: what has
    expired makes room for what comes. A process that forks opens its store afterwards.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        retention_seconds: float = 900,
        live_seconds: float = 3_600,
        synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
        sweep_seconds: float = 30,
        time_ms: Callable[[], int] = _unix_ms,
    ) -> None:
        """Describe the store; `open` makes the file if there is none, in a directory that exists.

        Args:
            path: The file; SQLite keeps two more beside it while it is in use.
            retention_seconds: How long a final run can be read.
            live_seconds: How long an open run is kept to which nothing is written.
            synchronous: When SQLite waits for the disk.
            sweep_seconds: How often what has expired is removed from the file, by one of its users.
            time_ms: Unix milliseconds, the same for all users of the file; read in two threads.
        """
        self._path = Path(path)
        self._retention_ms = round(retention_seconds * 1_000)
        self._live_ms = round(live_seconds * 1_000)
        self._synchronous = synchronous
        self._sweep_seconds = sweep_seconds
        self._time_ms = time_ms
        self._opening = asyncio.Lock()
        self._opened = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer = Lane("tailrace-sqlite-writer", begin="BEGIN IMMEDIATE", between=self._sweep)
        self._reader = Lane("tailrace-sqlite-reader", begin="BEGIN", between=self._look)
        self._origin = 0
        self._secret = b""
        self._hints: dict[str, dict[object, Hint]] = {}
        self._listeners: dict[str, dict[object, Callable[[str], None]]] = {}
        # The rest belongs to the two threads.
        self._sweeping: Iterator[None] | None = None
        self._sweep_at = 0.0
        self._tail = Tail()
        self._eager_until = 0.0

    @property
    def shared(self) -> bool:
        """Every process of this host that opens the file sees the same logs."""
        return True

    @property
    def commit_interval_seconds(self) -> float:
        """A transaction costs as much as a dozen of the writes in it."""
        return 0.010

    async def open(self) -> None:
        """See `RunStore.open`.

        Raises:
            StoreSetupError: The file cannot be used, or is somebody else's.
            StoreUnavailableError: Another process keeps it locked.
        """
        async with self._opening:
            if self._opened:
                return
            self._loop = asyncio.get_running_loop()
            try:
                await self._writer.start(self._connect)
                await self._reader.start(functools.partial(open_reader, self._path))
            except BaseException:
                await self._stop_lanes()
                raise
            self._opened = True
            if self._hints or self._listeners:
                self._seek()

    def _connect(self) -> sqlite3.Connection:
        """Called in the writer's thread."""
        db, identity = open_writer(self._path, synchronous=self._synchronous)
        self._origin, self._secret = identity.origin, identity.secret
        return db

    async def secret(self) -> bytes:
        """See `RunStore.secret`."""
        return await self._reader.do(lambda _: self._secret)

    # Writing ---------------------------------------------------------------------------------------------------------

    async def create(self, run_id: str, *, owner: str | None, thread: str | None, fingerprint: bytes) -> Lease | None:
        """See `RunStore.create`.

        Raises:
            FingerprintError: The run exists with another fingerprint or owner.
        """

        def create(db: sqlite3.Connection) -> Lease | None:
            lease = Lease(run_id, secrets.token_hex(8))
            found = self._begin(db, lease, owner, thread, fingerprint)
            if found is None:
                return lease
            if (found.owner, found.fingerprint) != (owner, fingerprint):
                raise FingerprintError(run_id)
            return None

        return await self._writer.do(create)

    async def restore(self, lease: Lease, *, owner: str | None, thread: str | None, fingerprint: bytes) -> None:
        """See `RunStore.restore`.

        Raises:
            FencedError: The run exists under another token.
        """

        def restore(db: sqlite3.Connection) -> None:
            found = self._begin(db, lease, owner, thread, fingerprint)
            if found is not None and found.token != lease.token:
                raise FencedError(lease.run_id)

        await self._writer.do(restore)

    def _begin(
        self, db: sqlite3.Connection, lease: Lease, owner: str | None, thread: str | None, fingerprint: bytes
    ) -> RunRow | None:
        """Begin a run, or find the one that has its id."""
        now_ms = self._time_ms()
        table.drop_expired(db, lease.run_id, now_ms=now_ms)
        found = table.find(db, lease.run_id)
        if found is None:
            table.begin(
                db,
                lease.run_id,
                lease.token,
                owner=owner,
                thread=thread,
                fingerprint=fingerprint,
                expires_ms=now_ms + self._live_ms,
            )
        return found

    async def commit(self, writes: Sequence[Write]) -> Sequence[Ack | StoreError]:
        """See `RunStore.commit`."""

        def commit(db: sqlite3.Connection) -> tuple[list[Ack | StoreError], list[Write]]:
            appended: list[Write] = []
            return [self._commit(db, write, appended) for write in writes], appended

        answers, _ = await self._writer.do(commit, then=lambda done: self._hint_appended(done[1]))
        return answers

    def _commit(self, db: sqlite3.Connection, write: Write, appended: list[Write]) -> Ack | StoreError:
        run = table.find(db, write.lease.run_id)
        # An open run that was quiet for too long lives again, unless it has been swept.
        if run is None or (run.state != OPEN and run.expires_ms <= self._time_ms()):
            return RunNotFoundError(write.lease.run_id)
        answer = _answer_without_appending(run, write)
        if answer is None:
            self._append(db, run, write)
            appended.append(write)
            answer = Ack(run.last + len(write.records), run.cancel)
        return answer

    def _append(self, db: sqlite3.Connection, run: RunRow, write: Write, *, token: str | None = None) -> None:
        kept_ms = self._live_ms if write.final == OPEN else self._retention_ms
        expires_ms = self._time_ms() + kept_ms
        table.append(db, run, write.records, origin=self._origin, state=write.final, expires_ms=expires_ms)
        if write.final != OPEN:
            table.end(db, run, state=write.final, token=token or run.token)

    async def seal(self, seen: Info, record: bytes, state: int) -> bool:
        """See `RunStore.seal`."""
        write = Write(Lease(seen.run_id, seen.token), seen.last + 1, [record], state)

        def seal(db: sqlite3.Connection) -> list[Write]:
            run = table.find(db, seen.run_id)
            if run is None or run.state != OPEN:
                return []
            if (run.token, run.beat, run.last) != (seen.token, seen.beat, seen.last):
                return []
            self._append(db, run, write, token=_SEALED)
            return [write]

        sealed = await self._writer.do(seal, then=self._hint_appended)
        return bool(sealed)

    async def compact(self, run_id: str, block: bytes) -> bool:
        """See `RunStore.compact`."""

        def compact(db: sqlite3.Connection) -> bool:
            run = self._alive(db, run_id)
            if run is None or run.state == OPEN:
                return False
            table.compact(db, run, block)
            return True

        return await self._writer.do(compact)

    async def cancel(self, run_id: str, reason: str) -> bool:
        """See `RunStore.cancel`.

        Raises:
            RunNotFoundError: No such run.
        """

        def cancel(db: sqlite3.Connection) -> bool:
            run = self._existing(db, run_id)
            if run.state != OPEN:
                return False
            if run.cancel is None:
                table.cancel(db, run, reason)
                self._notify(db, run_id=run_id)
            return True

        return await self._writer.do(cancel, then=lambda _: self._hint(run_id, None))

    async def signal(self, topic: str, text: str) -> None:
        """See `RunStore.signal`."""
        await self._writer.do(
            lambda db: self._notify(db, topic=topic, text=text), then=lambda _: self._tell(topic, text)
        )

    async def put_note(self, run_id: str, name: str, note: bytes, *, live_seconds: float, most: int) -> bool:
        """See `RunStore.put_note`.

        Raises:
            RunNotFoundError: No such run.
        """

        def put_note(db: sqlite3.Connection) -> bool:
            now_ms = self._time_ms()
            expires_ms = now_ms + round(live_seconds * 1_000)
            run = self._existing(db, run_id)
            return table.put_note(db, run, name, note, expires_ms=expires_ms, now_ms=now_ms, most=most)

        return await self._writer.do(put_note)

    async def take_note(self, run_id: str, name: str) -> bytes | None:
        """See `RunStore.take_note`."""

        def take_note(db: sqlite3.Connection) -> bytes | None:
            run = self._alive(db, run_id)
            return None if run is None else table.take_note(db, run, name, now_ms=self._time_ms())

        return await self._writer.do(take_note)

    async def purge(self, run_id: str) -> None:
        """See `RunStore.purge`."""

        def purge(db: sqlite3.Connection) -> None:
            if table.purge(db, run_id):
                self._notify(db, run_id=run_id)

        await self._writer.do(purge, then=lambda _: self._hint(run_id, None))

    def _notify(
        self, db: sqlite3.Connection, *, topic: str | None = None, run_id: str | None = None, text: str = ""
    ) -> None:
        table.notify(db, origin=self._origin, at_ms=self._time_ms(), topic=topic, run_id=run_id, text=text)

    # Reading ---------------------------------------------------------------------------------------------------------

    async def info(self, run_id: str) -> Info:
        """See `RunStore.info`.

        Raises:
            RunNotFoundError: No such run.
        """
        return await self._reader.do(lambda db: _info(self._existing(db, run_id)))

    async def read(self, run_id: str, after: int, *, limit: int) -> Page:
        """See `RunStore.read`.

        Raises:
            RunNotFoundError: No such run.
        """

        def read(db: sqlite3.Connection) -> Page:
            run = self._existing(db, run_id)
            block = None if run.state == OPEN else table.block(db, run)
            records = table.records(db, run, after=after, limit=limit) if block is None else []
            return Page(records, _info(run), block)

        return await self._reader.do(read)

    async def active(self, *, owner: str | None = None, thread: str | None = None, limit: int = 100) -> Sequence[str]:
        """See `RunStore.active`."""
        return await self._reader.do(
            lambda db: table.active(db, owner=owner, thread=thread, limit=limit, now_ms=self._time_ms())
        )

    async def latest(self, thread: str, *, owner: str | None) -> str | None:
        """See `RunStore.latest`."""
        return await self._reader.do(lambda db: table.latest(db, owner=owner, thread=thread, now_ms=self._time_ms()))

    def _alive(self, db: sqlite3.Connection, run_id: str) -> RunRow | None:
        run = table.find(db, run_id)
        return None if run is None or run.expires_ms <= self._time_ms() else run

    def _existing(self, db: sqlite3.Connection, run_id: str) -> RunRow:
        run = self._alive(db, run_id)
        if run is None:
            raise RunNotFoundError(run_id)
        return run

    # Hints and signals -----------------------------------------------------------------------------------------------

    def subscribe(self, run_id: str, hint: Hint) -> Stop:
        """See `RunStore.subscribe`."""
        return self._watch(self._hints, run_id, hint)

    def listen(self, topic: str, heard: Callable[[str], None]) -> Stop:
        """See `RunStore.listen`."""
        return self._watch(self._listeners, topic, heard)

    def _watch(self, watchers: dict[str, dict[object, _T]], key: str, watcher: _T) -> Stop:
        if not self._hints and not self._listeners:
            self._seek()
        place = object()
        watchers.setdefault(key, {})[place] = watcher

        def stop() -> None:
            left = watchers.get(key, {})
            left.pop(place, None)
            if not left:
                watchers.pop(key, None)

        return stop

    def _seek(self) -> None:
        """Begin to look for what others commit, before whatever the first watcher reads next: it misses nothing."""
        self._reader.post(functools.partial(self._tail.seek, since_ms=self._time_ms()))

    def _hint(self, run_id: str, batch: Batch | None) -> None:
        for hint in tuple(self._hints.get(run_id, {}).values()):
            hint(batch)

    def _hint_appended(self, writes: Sequence[Write]) -> None:
        for write in writes:
            if write.records and write.lease.run_id in self._hints:
                self._hint(write.lease.run_id, Batch(write.first, write.records, write.final))

    def _tell(self, topic: str, text: str) -> None:
        for heard in tuple(self._listeners.get(topic, {}).values()):
            heard(text)

    async def aclose(self) -> None:
        """See `RunStore.aclose`. What was handed over before is still written."""
        async with self._opening:
            self._opened = False
            self._hints.clear()
            self._listeners.clear()
            await self._stop_lanes()

    async def _stop_lanes(self) -> None:
        await self._writer.stop()
        await self._reader.stop()

    # In the two threads, between their jobs --------------------------------------------------------------------------

    def _sweep(self, db: sqlite3.Connection) -> float:
        """Do a piece of the sweep, if it is time; how long until the next."""
        now = time.monotonic()
        if self._sweeping is None:
            if now < self._sweep_at:
                return self._sweep_at - now
            every_ms = round(self._sweep_seconds * 1_000)
            self._sweeping = sweep(db, now_ms=self._time_ms(), every_ms=every_ms)
        # What keeps the sweep from a file is told to whoever writes; the sweep itself can wait.
        with contextlib.suppress(sqlite3.Error):
            if next(self._sweeping, False) is None:
                return 0.0
        self._sweeping = None
        self._sweep_at = now + self._sweep_seconds
        return self._sweep_seconds

    def _look(self, db: sqlite3.Connection) -> float | None:
        """Pass on what other processes have committed; how long until the next look."""
        if self._loop is None or not (self._hints or self._listeners):
            return None
        with contextlib.suppress(sqlite3.Error):
            if self._tail.moved(db):
                with transaction(db, "BEGIN"):
                    news = self._tail.read(db, origin=self._origin, wanted=self._hints)
                if any(news):
                    self._eager_until = time.monotonic() + _EAGER_FOR_SECONDS
                    self._pass_on(self._loop, news)
        return _EAGER_LOOK_SECONDS if time.monotonic() < self._eager_until else _IDLE_LOOK_SECONDS

    def _pass_on(self, loop: asyncio.AbstractEventLoop, news: News) -> None:
        batches = [(run_id, Batch(first, table.unpack(data), state)) for run_id, first, state, data in news.rows]

        def pass_on() -> None:
            for run_id, batch in batches:
                self._hint(run_id, batch)
            for run_id in news.looks:
                self._hint(run_id, None)
            for topic, text in news.signals:
                self._tell(topic, text)

        # A loop that was closed before the store has nobody left who listens.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(pass_on)


def _answer_without_appending(run: RunRow, write: Write) -> Ack | StoreError | None:
    """What is said to a write that appends nothing; `None` if it is to be appended."""
    if write.lease.token != run.token:
        return FencedError(run.run_id)
    write_last = write.first + len(write.records) - 1
    if write.records and write_last <= run.last and write.final in {OPEN, run.state}:
        return Ack(run.last, run.cancel)
    if run.state != OPEN:
        return FencedError(run.run_id)
    if write.first != run.last + 1:
        return GapError(run.last)
    return None


def _info(run: RunRow) -> Info:
    return Info(run.run_id, run.owner, run.thread, run.state, run.last, run.beat, run.token, run.cancel)
