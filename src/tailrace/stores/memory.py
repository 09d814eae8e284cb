"""The memory store: logs in this process, gone with it. The default, and the model that other stores are held to."""

import heapq
import itertools
import math
import secrets
from collections.abc import Callable, Sequence
from typing import TypeVar

from tailrace.errors import FencedError, FingerprintError, GapError, RunNotFoundError, StoreError
from tailrace.stores.contract import OPEN, Ack, Batch, Hint, Info, Lease, Page, Stop, Write

__all__ = ["MemoryStore"]

_T = TypeVar("_T")

#: The token of a sealed run, which no lease has.
_SEALED = "sealed"


class _Log:
    """One run."""

    __slots__ = (
        "beat",
        "block",
        "cancel",
        "fingerprint",
        "last",
        "notes",
        "owner",
        "records",
        "size",
        "state",
        "thread",
        "token",
        "wrote_at",
    )

    def __init__(self, lease: Lease, owner: str | None, thread: str | None, fingerprint: bytes) -> None:
        self.token = lease.token
        self.owner = owner
        self.thread = thread
        self.fingerprint = fingerprint
        self.records: list[bytes] = []
        self.last = 0
        self.size = 0
        self.state = OPEN
        self.beat = 0
        self.cancel: str | None = None
        self.block: bytes | None = None
        self.notes: dict[str, tuple[float, bytes]] = {}
        self.wrote_at = 0.0


class MemoryStore:
    """Keeps every log whole; a final one for `retention_seconds`, or until `max_bytes` of final logs are kept."""

    def __init__(
        self,
        *,
        monotonic: Callable[[], float],
        retention_seconds: float = 900,
        live_seconds: float = math.inf,
        max_bytes: int = 1024**3,
    ) -> None:
        """Make an empty store.

        Args:
            monotonic: Seconds that never go back.
            retention_seconds: How long a final run can be read.
            live_seconds: How long an open run lives, at least, after the last write to it.
            max_bytes: Bound on the bytes of all final runs; beyond it the oldest go first, each as a whole.
        """
        self._monotonic = monotonic
        self._retention_seconds = retention_seconds
        self._live_seconds = live_seconds
        self._max_bytes = max_bytes
        self._logs: dict[str, _Log] = {}
        self._final: list[tuple[float, int, str, _Log]] = []
        self._open: list[tuple[float, int, str, _Log]] = []
        self._order = itertools.count()
        self._final_bytes = 0
        self._hints: dict[str, dict[object, Hint]] = {}
        self._listeners: dict[str, dict[object, Callable[[str], None]]] = {}
        self._secret = secrets.token_bytes(32)

    @property
    def shared(self) -> bool:
        """Nobody else sees these logs."""
        return False

    @property
    def commit_interval_seconds(self) -> float:
        """Appending costs nothing that waiting could save."""
        return 0.0

    async def open(self) -> None:
        """There is nothing to connect to."""

    async def secret(self) -> bytes:
        """The random bytes of this store."""
        return self._secret

    async def create(self, run_id: str, *, owner: str | None, thread: str | None, fingerprint: bytes) -> Lease | None:
        """See `RunStore.create`.

        Raises:
            FingerprintError: The run exists with another fingerprint or owner.
        """
        self._expire()
        log = self._logs.get(run_id)
        if log is None:
            lease = Lease(run_id, secrets.token_hex(8))
            self._begin(_Log(lease, owner, thread, fingerprint), run_id)
            return lease
        if log.fingerprint != fingerprint or log.owner != owner:
            raise FingerprintError(run_id)
        return None

    async def restore(self, lease: Lease, *, owner: str | None, thread: str | None, fingerprint: bytes) -> None:
        """See `RunStore.restore`.

        Raises:
            FencedError: The run exists under another token.
        """
        self._expire()
        if lease.run_id not in self._logs:
            self._begin(_Log(lease, owner, thread, fingerprint), lease.run_id)
        log = self._logs[lease.run_id]
        if log.token != lease.token:
            raise FencedError(lease.run_id)

    async def commit(self, writes: Sequence[Write]) -> Sequence[Ack | StoreError]:
        """See `RunStore.commit`."""
        return [self._commit(write) for write in writes]

    def _commit(self, write: Write) -> Ack | StoreError:
        log = self._logs.get(write.lease.run_id)
        if log is None:
            return RunNotFoundError(write.lease.run_id)
        if log.token != write.lease.token:
            return FencedError(write.lease.run_id)
        last = log.last
        write_last = write.first + len(write.records) - 1
        repeated = write_last <= last and write.final in {OPEN, log.state}
        if log.state != OPEN and not (repeated and write.records):
            return FencedError(write.lease.run_id)
        if repeated and write.records:
            return Ack(last, log.cancel)
        if write.first != last + 1:
            return GapError(last)
        self._append(log, write)
        return Ack(log.last, log.cancel)

    def _append(self, log: _Log, write: Write) -> None:
        log.records.extend(write.records)
        log.last += len(write.records)
        log.size += sum(map(len, write.records))
        log.beat += 1
        log.state = write.final
        log.wrote_at = self._monotonic()
        if log.state != OPEN:
            expires_at = self._monotonic() + self._retention_seconds
            heapq.heappush(self._final, (expires_at, next(self._order), write.lease.run_id, log))
            self._final_bytes += log.size
            self._expire()
        if write.records:
            self._hint(write.lease.run_id, Batch(write.first, write.records, write.final))

    async def seal(self, seen: Info, record: bytes, state: int) -> bool:
        """See `RunStore.seal`."""
        log = self._logs.get(seen.run_id)
        if log is None or log.state != OPEN or (log.token, log.beat, log.last) != (seen.token, seen.beat, seen.last):
            return False
        self._append(log, Write(Lease(seen.run_id, log.token), seen.last + 1, [record], state))
        log.token = _SEALED
        return True

    async def compact(self, run_id: str, block: bytes) -> bool:
        """See `RunStore.compact`."""
        self._expire()
        log = self._logs.get(run_id)
        if log is None or log.state == OPEN:
            return False
        log.block = block
        log.records = []
        self._final_bytes += len(block) - log.size
        log.size = len(block)
        return True

    async def cancel(self, run_id: str, reason: str) -> bool:
        """See `RunStore.cancel`."""
        log = self._log(run_id)
        if log.state != OPEN:
            return False
        log.cancel = log.cancel or reason
        self._hint(run_id, None)
        return True

    async def info(self, run_id: str) -> Info:
        """See `RunStore.info`."""
        return _info(run_id, self._log(run_id))

    async def read(self, run_id: str, after: int, *, limit: int) -> Page:
        """See `RunStore.read`."""
        log = self._log(run_id)
        return Page(log.records[after : after + limit], _info(run_id, log), log.block)

    def subscribe(self, run_id: str, hint: Hint) -> Stop:
        """See `RunStore.subscribe`."""
        return _add(self._hints, run_id, hint)

    async def signal(self, topic: str, text: str) -> None:
        """See `RunStore.signal`."""
        for heard in tuple(self._listeners.get(topic, {}).values()):
            heard(text)

    def listen(self, topic: str, heard: Callable[[str], None]) -> Stop:
        """See `RunStore.listen`."""
        return _add(self._listeners, topic, heard)

    async def active(self, *, owner: str | None = None, thread: str | None = None, limit: int = 100) -> Sequence[str]:
        """See `RunStore.active`."""
        found = [
            run_id
            for run_id, log in self._logs.items()
            if log.state == OPEN and owner in {None, log.owner} and thread in {None, log.thread}
        ]
        return found[: -limit - 1 : -1]

    async def latest(self, thread: str, *, owner: str | None) -> str | None:
        """See `RunStore.latest`."""
        self._expire()
        newest_first = reversed(self._logs.items())
        return next((run_id for run_id, log in newest_first if (log.owner, log.thread) == (owner, thread)), None)

    async def put_note(self, run_id: str, name: str, note: bytes, *, live_seconds: float, most: int) -> bool:
        """See `RunStore.put_note`."""
        log, now = self._log(run_id), self._monotonic()
        log.notes = {name: kept for name, kept in log.notes.items() if kept[0] > now}
        if len(log.notes) >= most:
            return False
        log.notes[name] = (now + live_seconds, note)
        return True

    async def take_note(self, run_id: str, name: str) -> bytes | None:
        """See `RunStore.take_note`."""
        self._expire()
        log = self._logs.get(run_id)
        expires_at, note = (0.0, None) if log is None else log.notes.pop(name, (0.0, None))
        return note if expires_at > self._monotonic() else None

    async def purge(self, run_id: str) -> None:
        """See `RunStore.purge`."""
        self._remove(run_id)

    async def aclose(self) -> None:
        """Forget everything."""
        self._logs.clear()
        self._final.clear()
        self._open.clear()
        self._final_bytes = 0
        self._hints.clear()
        self._listeners.clear()

    def _begin(self, log: _Log, run_id: str) -> None:
        log.wrote_at = self._monotonic()
        self._logs[run_id] = log
        if math.isfinite(self._live_seconds):
            heapq.heappush(self._open, (log.wrote_at + self._live_seconds, next(self._order), run_id, log))

    def _log(self, run_id: str) -> _Log:
        self._expire()
        try:
            return self._logs[run_id]
        except KeyError:
            raise RunNotFoundError(run_id) from None

    def _expire(self) -> None:
        now = self._monotonic()
        while self._final and (self._final[0][0] <= now or self._final_bytes > self._max_bytes):
            _, _, run_id, log = heapq.heappop(self._final)
            # A purged run's id may be in use again: its old place in the heap must not end the new one.
            if self._logs.get(run_id) is log:
                self._remove(run_id)

        while self._open and self._open[0][0] <= now:
            _, _, run_id, log = heapq.heappop(self._open)
            if self._logs.get(run_id) is not log or log.state != OPEN:
                continue
            if (expires_at := log.wrote_at + self._live_seconds) <= now:
                self._remove(run_id)
            else:
                heapq.heappush(self._open, (expires_at, next(self._order), run_id, log))

    def _remove(self, run_id: str) -> None:
        log = self._logs.pop(run_id, None)
        if log is None:
            return
        if log.state != OPEN:
            self._final_bytes -= log.size
        self._hint(run_id, None)

    def _hint(self, run_id: str, batch: Batch | None) -> None:
        for hint in tuple(self._hints.get(run_id, {}).values()):
            hint(batch)


def _add(watchers: dict[str, dict[object, _T]], key: str, watcher: _T) -> Stop:
    place = object()
    watchers.setdefault(key, {})[place] = watcher

    def stop() -> None:
        left = watchers.get(key, {})
        left.pop(place, None)
        if not left:
            watchers.pop(key, None)

    return stop


def _info(run_id: str, log: _Log) -> Info:
    return Info(run_id, log.owner, log.thread, log.state, log.last, log.beat, log.token, log.cancel)
