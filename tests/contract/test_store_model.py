"""The stores and a model of them, as plain as can be, agree whatever is done to them."""

import asyncio
import tempfile
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tailrace.errors import FencedError, FingerprintError, GapError, RunNotFoundError, StoreError
from tailrace.stores.contract import OPEN, Ack, Info, Lease, RunStore, Write
from tailrace.stores.memory import MemoryStore
from tailrace.stores.sqlite import SqliteStore
from tailrace.testing import FakeClock, FaultyStore

RETENTION_SECONDS = 60
MANY = 10_000

T = TypeVar("T")

run_ids = st.sampled_from(["run-1", "run-2", "run-3"])
owners = st.sampled_from([None, "ada", "eve"])
threads = st.sampled_from([None, "t", "u"])
fingerprints = st.sampled_from([b"", b"f"])
finals = st.sampled_from([OPEN, OPEN, OPEN, 1, 2])
reasons = st.sampled_from(["user", "superseded"])


@dataclass
class Log:
    """What the model knows of one run."""

    token: str
    owner: str | None
    thread: str | None
    fingerprint: bytes
    records: list[bytes] = field(default_factory=list[bytes])
    state: int = OPEN
    beat: int = 0
    cancel: str | None = None
    block: bytes | None = None
    ended_at: float = 0.0

    def answer(self, write: Write) -> Ack | StoreError:
        """The rule of the contract, word by word."""
        last, end = len(self.records), write.first + len(write.records) - 1
        if write.lease.token != self.token:
            return FencedError(write.lease.run_id)
        if write.records and end <= last and (write.final == OPEN or write.final == self.state):
            return Ack(last, self.cancel)
        if self.state != OPEN:
            return FencedError(write.lease.run_id)
        if write.first != last + 1:
            return GapError(last)
        return Ack(end, self.cancel)

    def append(self, new: Sequence[bytes], state: int, now: float) -> None:
        self.records += new
        self.beat += 1
        self.state = state
        self.ended_at = now


class StoreMachine(RuleBasedStateMachine):
    """Does the same to both and compares every answer."""

    def make(self, clock: FakeClock) -> RunStore:
        return MemoryStore(monotonic=clock.monotonic, retention_seconds=RETENTION_SECONDS)

    def now(self, call: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine that never has to wait."""
        try:
            call.send(None)
        except StopIteration as stop:
            result: T = stop.value
            return result
        call.close()
        raise AssertionError("a store in memory has nothing to wait for")

    def refused(self, call: Coroutine[Any, Any, object], kind: type[StoreError]) -> bool:
        try:
            self.now(call)
        except kind:
            return True
        return False

    @initialize()
    def begin(self) -> None:
        self.clock = FakeClock()
        self.store = self.make(self.clock)
        self.logs: dict[str, Log] = {}
        self.leases: list[Lease] = []
        self.seen: list[Info] = []
        self.now(self.store.open())

    @rule(run_id=run_ids, owner=owners, thread=threads, fingerprint=fingerprints)
    def create(self, run_id: str, owner: str | None, thread: str | None, fingerprint: bytes) -> None:
        log = self.logs.get(run_id)
        call = self.store.create(run_id, owner=owner, thread=thread, fingerprint=fingerprint)

        if log is None:
            lease = self.now(call)
            assert lease is not None
            self.leases.append(lease)
            self.logs[run_id] = Log(lease.token, owner, thread, fingerprint)
        elif (log.owner, log.fingerprint) == (owner, fingerprint):
            assert self.now(call) is None
        else:
            assert self.refused(call, FingerprintError)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), count=st.integers(0, 4), ahead=st.integers(-3, 2), final=finals)
    def commit(self, data: st.DataObject, count: int, ahead: int, final: int) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        log = self.logs.get(lease.run_id)
        first = max(1, (len(log.records) if log else 0) + 1 + ahead)
        new = [record_of(lease, seq) for seq in range(first, first + count)]
        # A final state comes with the record that says so.
        write = Write(lease, first, new, final if new else OPEN)
        expected = log.answer(write) if log else RunNotFoundError(lease.run_id)

        (answer,) = self.now(self.store.commit([write]))

        assert outline(answer) == outline(expected)
        if log and isinstance(expected, Ack) and first == len(log.records) + 1:
            log.append(new, write.final, self.clock.monotonic())

    @rule(run_id=run_ids)
    def look(self, run_id: str) -> None:
        if run_id in self.logs:
            self.seen.append(self.now(self.store.info(run_id)))

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), state=st.sampled_from([1, 2]))
    def seal(self, data: st.DataObject, state: int) -> None:
        seen = data.draw(st.sampled_from(self.seen))
        log = self.logs.get(seen.run_id)
        silent = log is not None and log.state == OPEN
        same = log is not None and (log.token, log.beat, len(log.records)) == (seen.token, seen.beat, seen.last)

        sealed = self.now(self.store.seal(seen, b"sealed", state))

        assert sealed is (silent and same)
        if log is not None and sealed:
            log.append([b"sealed"], state, self.clock.monotonic())
            log.token = self.now(self.store.info(seen.run_id)).token
            assert log.token not in {lease.token for lease in self.leases}

    @rule(run_id=run_ids, block=st.binary(max_size=3))
    def compact(self, run_id: str, block: bytes) -> None:
        log = self.logs.get(run_id)

        compacted = self.now(self.store.compact(run_id, block))

        assert compacted is (log is not None and log.state != OPEN)
        if log is not None and compacted:
            log.block = block

    @rule(run_id=run_ids, reason=reasons)
    def cancel(self, run_id: str, reason: str) -> None:
        log = self.logs.get(run_id)
        call = self.store.cancel(run_id, reason)

        if log is None:
            assert self.refused(call, RunNotFoundError)
        else:
            assert self.now(call) is (log.state == OPEN)
            log.cancel = log.cancel or (reason if log.state == OPEN else None)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        log = self.logs.get(lease.run_id)
        call = self.store.restore(lease, owner="ada", thread="t", fingerprint=b"r")

        if log is not None and log.token != lease.token:
            assert self.refused(call, FencedError)
            return
        self.now(call)
        self.logs.setdefault(lease.run_id, Log(lease.token, "ada", "t", b"r"))

    @rule(run_id=run_ids)
    def purge(self, run_id: str) -> None:
        self.now(self.store.purge(run_id))

        self.logs.pop(run_id, None)

    @rule(seconds=st.sampled_from([1, RETENTION_SECONDS - 1, RETENTION_SECONDS]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

        end = self.clock.monotonic() - RETENTION_SECONDS
        self.logs = {run_id: log for run_id, log in self.logs.items() if log.state == OPEN or log.ended_at > end}
        # Expiry is noticed by whoever looks at a run.
        assert self.refused(self.store.info("nowhere"), RunNotFoundError)

    @rule(run_id=run_ids, after=st.integers(0, 12), limit=st.integers(1, 6))
    def read(self, run_id: str, after: int, limit: int) -> None:
        log = self.logs.get(run_id)
        call = self.store.read(run_id, after, limit=limit)

        if log is None:
            assert self.refused(call, RunNotFoundError)
        else:
            page = self.now(call)
            assert list(page.records) == ([] if log.block is not None else log.records[after : after + limit])
            assert (page.block, page.info) == (log.block, info_of(run_id, log))

    @rule(owner=owners, thread=threads, limit=st.integers(1, 4))
    def active(self, owner: str | None, thread: str | None, limit: int) -> None:
        found = self.now(self.store.active(owner=owner, thread=thread, limit=limit))

        expected = [
            run_id
            for run_id, log in reversed(self.logs.items())
            if log.state == OPEN and owner in {None, log.owner} and thread in {None, log.thread}
        ]
        assert list(found) == expected[:limit]

    @rule(owner=owners, thread=threads)
    def latest(self, owner: str | None, thread: str | None) -> None:
        found = self.now(self.store.latest(thread or "", owner=owner))

        expected = [run_id for run_id, log in self.logs.items() if (log.owner, log.thread) == (owner, thread or "")]
        assert found == (expected[-1] if expected else None)

    @invariant()
    def every_run_is_as_the_model_says(self) -> None:
        for run_id, log in self.logs.items():
            page = self.now(self.store.read(run_id, 0, limit=MANY))
            assert list(page.records) == ([] if log.block is not None else log.records)
            assert (page.block, page.info) == (log.block, info_of(run_id, log))


class FaultyStoreMachine(StoreMachine):
    """The same around a store that could fail and does not."""

    def make(self, clock: FakeClock) -> RunStore:
        return FaultyStore(super().make(clock))


class SqliteStoreMachine(StoreMachine):
    """The same on a disk."""

    def make(self, clock: FakeClock) -> RunStore:
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        return self.runner.run(self.make_in_loop(clock))

    async def make_in_loop(self, clock: FakeClock) -> RunStore:
        return SqliteStore(
            Path(self.folder.name, "runs.db"), retention_seconds=RETENTION_SECONDS, time_ms=clock.time_ms
        )

    def now(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    @rule()
    def restart(self) -> None:
        self.now(self.store.aclose())
        self.store = self.runner.run(self.make_in_loop(self.clock))
        self.now(self.store.open())

    def teardown(self) -> None:
        self.now(self.store.aclose())
        self.runner.close()
        self.folder.cleanup()


def record_of(lease: Lease, seq: int) -> bytes:
    """What a producer sends under a number, however often it sends it; sometimes nothing."""
    return f"{lease.token} {seq}".encode() * (seq % 3)


def outline(answer: Ack | StoreError) -> Sequence[object]:
    match answer:
        case Ack():
            return (Ack, answer.last, answer.cancel)
        case GapError():
            return (GapError, answer.last)
        case _:
            return (type(answer),)


def info_of(run_id: str, log: Log) -> Info:
    return Info(run_id, log.owner, log.thread, log.state, len(log.records), log.beat, log.token, log.cancel)


TestMemoryStoreAgainstAModel = StoreMachine.TestCase
TestMemoryStoreAgainstAModel.settings = settings(max_examples=60, stateful_step_count=40)
TestFaultyStoreAgainstAModel = FaultyStoreMachine.TestCase
TestFaultyStoreAgainstAModel.settings = settings(max_examples=30, stateful_step_count=40)
TestSqliteStoreAgainstAModel = SqliteStoreMachine.TestCase
TestSqliteStoreAgainstAModel.settings = settings(max_examples=20, stateful_step_count=40)
