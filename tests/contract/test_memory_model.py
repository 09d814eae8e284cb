"""The memory store and a model of it, as plain as can be, agree whatever is done to them."""

from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tailrace.errors import FencedError, FingerprintError, GapError, RunNotFoundError, StoreError
from tailrace.stores.contract import OPEN, Ack, Info, Lease, RunStore, Write
from tailrace.stores.memory import MemoryStore
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


def now(call: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never has to wait."""
    try:
        call.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    call.close()
    raise AssertionError("a store in memory has nothing to wait for")


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


class StoreMachine(RuleBasedStateMachine):
    """Does the same to both and compares every answer."""

    def make(self, clock: FakeClock) -> RunStore:
        return MemoryStore(monotonic=clock.monotonic, retention_seconds=RETENTION_SECONDS)

    @initialize()
    def begin(self) -> None:
        self.clock = FakeClock()
        self.store = self.make(self.clock)
        self.logs: dict[str, Log] = {}
        self.leases: list[Lease] = []
        self.hints: list[str] = []

    @rule(run_id=run_ids, owner=owners, thread=threads, fingerprint=fingerprints)
    def create(self, run_id: str, owner: str | None, thread: str | None, fingerprint: bytes) -> None:
        log = self.logs.get(run_id)
        call = self.store.create(run_id, owner=owner, thread=thread, fingerprint=fingerprint)

        if log is None:
            lease = now(call)
            assert lease is not None
            self.leases.append(lease)
            self.logs[run_id] = Log(lease.token, owner, thread, fingerprint)
        elif (log.owner, log.fingerprint) == (owner, fingerprint):
            assert now(call) is None
        else:
            assert refused(call, FingerprintError)

    @rule(data=st.data(), count=st.integers(0, 4), ahead=st.integers(-3, 2), final=finals)
    def commit(self, data: st.DataObject, count: int, ahead: int, final: int) -> None:
        if not self.leases:
            return
        lease = data.draw(st.sampled_from(self.leases))
        log = self.logs.get(lease.run_id)
        first = max(1, (len(log.records) if log else 0) + 1 + ahead)
        # A producer sends the same bytes under the same number, and a final state with the record that says so.
        new = [f"{lease.token} {seq}".encode() for seq in range(first, first + count)]
        write = Write(lease, first, new, final if new else OPEN)
        expected = log.answer(write) if log else RunNotFoundError(lease.run_id)

        (answer,) = now(self.store.commit([write]))

        assert outline(answer) == outline(expected)
        if log and isinstance(expected, Ack) and first == len(log.records) + 1:
            log.records += new
            log.beat += 1
            log.state = write.final
            log.ended_at = self.clock.monotonic()

    @rule(run_id=run_ids, reason=reasons)
    def cancel(self, run_id: str, reason: str) -> None:
        log = self.logs.get(run_id)
        call = self.store.cancel(run_id, reason)

        if log is None:
            assert refused(call, RunNotFoundError)
        else:
            assert now(call) is (log.state == OPEN)
            log.cancel = log.cancel or (reason if log.state == OPEN else None)

    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        if not self.leases:
            return
        lease = data.draw(st.sampled_from(self.leases))
        log = self.logs.get(lease.run_id)
        call = self.store.restore(lease, owner="ada", thread="t", fingerprint=b"r")

        if log is not None and log.token != lease.token:
            assert refused(call, FencedError)
            return
        now(call)
        self.logs.setdefault(lease.run_id, Log(lease.token, "ada", "t", b"r"))

    @rule(run_id=run_ids)
    def purge(self, run_id: str) -> None:
        now(self.store.purge(run_id))

        self.logs.pop(run_id, None)

    @rule(seconds=st.sampled_from([1, RETENTION_SECONDS - 1, RETENTION_SECONDS]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

        end = self.clock.monotonic() - RETENTION_SECONDS
        self.logs = {run_id: log for run_id, log in self.logs.items() if log.state == OPEN or log.ended_at > end}
        # Expiry is noticed by whoever looks at a run.
        assert refused(self.store.info("nowhere"), RunNotFoundError)

    @rule(run_id=run_ids, after=st.integers(0, 12), limit=st.integers(1, 6))
    def read(self, run_id: str, after: int, limit: int) -> None:
        log = self.logs.get(run_id)
        call = self.store.read(run_id, after, limit=limit)

        if log is None:
            assert refused(call, RunNotFoundError)
        else:
            found, info = now(call)
            assert list(found) == log.records[after : after + limit]
            assert info == info_of(run_id, log)

    @rule(owner=owners, thread=threads, limit=st.integers(1, 4))
    def active(self, owner: str | None, thread: str | None, limit: int) -> None:
        found = now(self.store.active(owner=owner, thread=thread, limit=limit))

        expected = [
            run_id
            for run_id, log in reversed(self.logs.items())
            if log.state == OPEN and owner in {None, log.owner} and thread in {None, log.thread}
        ]
        assert list(found) == expected[:limit]

    @invariant()
    def every_run_is_as_the_model_says(self) -> None:
        for run_id, log in self.logs.items():
            found, info = now(self.store.read(run_id, 0, limit=MANY))
            assert list(found) == log.records
            assert info == info_of(run_id, log)


class FaultyStoreMachine(StoreMachine):
    """The same around a store that could fail and does not."""

    def make(self, clock: FakeClock) -> RunStore:
        return FaultyStore(super().make(clock))


def refused(call: Coroutine[Any, Any, object], kind: type[StoreError]) -> bool:
    try:
        now(call)
    except kind:
        return True
    return False


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
