"""An observer ends a run whose producer has been silent for a whole lease, and no other."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack

import pytest

from tailrace import events
from tailrace.errors import StoreUnavailableError
from tailrace.events import encode_record
from tailrace.runtime import observer as observer_module
from tailrace.runtime.observer import Observer
from tailrace.runtime.producer import FINAL_STATES
from tailrace.runtime.runs import Runs
from tailrace.stores.contract import OPEN, Ack, Info, Lease, Write
from tailrace.stores.memory import MemoryStore
from tailrace.testing import FakeClock, FaultyStore, collect
from tests.runtime.feed import Feed
from tests.runtime.reading import BOUND_SECONDS, read_until
from tests.runtime.shared import SharedMemoryStore

#: The observers look every two real milliseconds, but time only passes when a test says so.
LEASE_SECONDS = 0.01
RUN_ID = "r" * 26


class LookingObserver(Observer):
    """An observer that a test can wait for."""

    def __init__(self, store: MemoryStore | FaultyStore, clock: FakeClock) -> None:
        super().__init__(store, clock=clock, lease_seconds=LEASE_SECONDS)
        self._rounds = asyncio.Condition()

    async def _look(self) -> None:
        await super()._look()
        async with self._rounds:
            self._rounds.notify_all()

    async def looked(self) -> None:
        """Wait until it has looked with the time as it is now."""
        async with asyncio.timeout(BOUND_SECONDS), self._rounds:
            await self._rounds.wait()


@pytest.fixture
def inner(clock: FakeClock) -> SharedMemoryStore:
    return SharedMemoryStore(monotonic=clock.monotonic)


@pytest.fixture
def store(inner: SharedMemoryStore) -> FaultyStore:
    return FaultyStore(inner)


MakeObserver = Callable[[], LookingObserver]


@pytest.fixture
async def make_observer(store: FaultyStore, clock: FakeClock) -> AsyncGenerator[MakeObserver]:
    async with AsyncExitStack() as stack:

        def make() -> LookingObserver:
            made = LookingObserver(store, clock)
            stack.push_async_callback(made.aclose)
            return made

        yield make


@pytest.fixture
def observer(make_observer: MakeObserver) -> LookingObserver:
    return make_observer()


@pytest.fixture
async def lease(inner: SharedMemoryStore) -> Lease:
    """A run of another process, which has said that it began, and nothing since."""
    lease = await inner.create(RUN_ID, owner=None, thread=None, fingerprint=b"")
    assert lease is not None
    write = Write(lease, 1, [encode_record(0, events.RunStarted(run_id=RUN_ID))])
    assert await inner.commit([write]) == [Ack(1)]
    return lease


async def pass_time(clock: FakeClock, leases: float, *observers: LookingObserver) -> None:
    """Let time pass, in steps that are short enough for every observer to see it pass."""
    for _ in range(round(leases * 10)):
        clock.advance(LEASE_SECONDS / 10)
        for observer in observers:
            await observer.looked()


async def state_of(inner: SharedMemoryStore) -> int:
    return (await MemoryStore.info(inner, RUN_ID)).state


# A producer that is gone -----------------------------------------------------------------------------------------


async def test_a_silent_run_that_is_followed_is_ended_after_one_lease_of_looking(
    inner: SharedMemoryStore, observer: LookingObserver, clock: FakeClock, lease: Lease
) -> None:
    observer.watch(RUN_ID)
    # It is looked at only after it was silent for a fifth of a lease, and then for a lease.
    await pass_time(clock, 1.1, observer)
    before = await state_of(inner)

    await pass_time(clock, 0.3, observer)

    page = await inner.read(RUN_ID, 1, limit=10)
    record = encode_record(clock.time_ms(), events.RunInterrupted(reason="worker_lost"))
    assert before == OPEN
    assert page.info.state == FINAL_STATES[events.RunInterrupted]
    assert [bytes(found).split(b',"at_ms"')[0] for found in page.records] == [record.split(b',"at_ms"')[0]]


async def test_a_silent_run_that_nobody_follows_is_ended_after_one_lease_of_looking(
    inner: SharedMemoryStore, observer: LookingObserver, clock: FakeClock, lease: Lease
) -> None:
    observer.start()
    await observer.looked()
    await pass_time(clock, 0.9, observer)
    before = await state_of(inner)

    await pass_time(clock, 0.2, observer)

    assert before == OPEN
    assert inner.seals == [RUN_ID]


async def test_the_end_of_a_lost_run_is_logged_without_its_id(
    observer: LookingObserver, clock: FakeClock, lease: Lease, caplog: pytest.LogCaptureFixture
) -> None:
    observer.start()
    await observer.looked()

    await pass_time(clock, 1.2, observer)

    assert caplog.messages == ["a run was ended because its producer is gone"]


async def test_two_observers_end_a_run_once(
    inner: SharedMemoryStore, make_observer: MakeObserver, clock: FakeClock, lease: Lease
) -> None:
    first, second = make_observer(), make_observer()
    first.watch(RUN_ID)
    second.start()

    await pass_time(clock, 3, first, second)

    page = await inner.read(RUN_ID, 0, limit=10)
    assert (len(page.records), page.info.last, inner.seals) == (2, 2, [RUN_ID])


async def test_two_observers_that_want_to_end_a_run_at_the_same_moment_end_it_once(
    inner: SharedMemoryStore, store: FaultyStore, make_observer: MakeObserver, clock: FakeClock, lease: Lease
) -> None:
    gate = asyncio.Event()
    store.delay(gate, operation="seal")
    observers = [make_observer(), make_observer()]
    for observer in observers:
        observer.start()
        await observer.looked()
    for _ in range(10):
        clock.advance(LEASE_SECONDS / 10)
        for observer in observers:
            await (store.paused("seal") if clock.monotonic() > LEASE_SECONDS * 0.95 else observer.looked())

    gate.set()
    for observer in observers:
        await observer.looked()

    assert (inner.seals, (await inner.info(RUN_ID)).last) == ([RUN_ID], 2)


async def test_a_producer_that_speaks_while_its_run_is_being_ended_keeps_it(
    inner: SharedMemoryStore, store: FaultyStore, observer: LookingObserver, clock: FakeClock, lease: Lease
) -> None:
    gate = asyncio.Event()
    store.delay(gate, operation="seal")
    observer.start()
    await observer.looked()
    await pass_time(clock, 0.9, observer)
    clock.advance(LEASE_SECONDS * 0.11)
    await store.paused("seal")

    assert await inner.commit([Write(lease, 2, ())]) == [Ack(1)]
    gate.set()
    await observer.looked()

    assert await state_of(inner) == OPEN


# A producer that lives -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("followed", [True, False], ids=["followed", "sampled"])
async def test_a_run_that_sends_heartbeats_is_never_ended(
    inner: SharedMemoryStore, observer: LookingObserver, clock: FakeClock, lease: Lease, *, followed: bool
) -> None:
    observer.watch(RUN_ID) if followed else observer.start()

    for _ in range(6):
        await pass_time(clock, 0.8, observer)
        assert await inner.commit([Write(lease, 2, ())]) == [Ack(1)]

    assert inner.looks[RUN_ID] > 6
    assert inner.seals == []


async def test_a_run_that_was_heard_lately_is_not_even_looked_at(
    inner: SharedMemoryStore, observer: LookingObserver, clock: FakeClock, lease: Lease
) -> None:
    observer.watch(RUN_ID)

    for _ in range(20):
        await pass_time(clock, 0.1, observer)
        observer.heard(RUN_ID)

    assert inner.looks[RUN_ID] == 0


async def test_our_own_runs_are_never_ended(
    inner: SharedMemoryStore, observer: LookingObserver, clock: FakeClock, lease: Lease
) -> None:
    observer.own(RUN_ID)
    observer.watch(RUN_ID)
    observer.start()

    await pass_time(clock, 4, observer)
    own = list(inner.seals)
    observer.disown(RUN_ID)
    await pass_time(clock, 4, observer)

    assert (own, inner.seals) == ([], [RUN_ID])


async def test_an_id_that_is_ours_again_stays_ours_when_its_first_run_goes(
    inner: SharedMemoryStore, observer: LookingObserver, clock: FakeClock, lease: Lease
) -> None:
    observer.own(RUN_ID)
    observer.own(RUN_ID)
    observer.disown(RUN_ID)
    observer.start()

    await pass_time(clock, 4, observer)

    assert inner.seals == []


async def test_a_process_that_stood_still_does_not_blame_the_producer(
    inner: SharedMemoryStore, observer: LookingObserver, clock: FakeClock, lease: Lease
) -> None:
    """Between two looks that are far apart nothing was seen, so nothing was silent."""
    observer.start()
    await observer.looked()

    for _ in range(5):
        clock.advance(LEASE_SECONDS * 1.5)
        await observer.looked()

    assert inner.seals == []


# A store that does not answer ------------------------------------------------------------------------------------


async def test_after_an_outage_of_the_store_the_looking_begins_again(
    inner: SharedMemoryStore, store: FaultyStore, observer: LookingObserver, clock: FakeClock, lease: Lease
) -> None:
    observer.watch(RUN_ID)
    await pass_time(clock, 1.1, observer)
    store.unavailable(1, operation="info")
    await pass_time(clock, 0.1, observer)

    await pass_time(clock, 0.9, observer)
    before = list(inner.seals)
    await pass_time(clock, 0.3, observer)

    assert (before, inner.seals) == ([], [RUN_ID])


@pytest.mark.parametrize("applied", [False, True])
async def test_a_seal_without_an_answer_is_tried_again_after_another_lease(
    inner: SharedMemoryStore,
    store: FaultyStore,
    observer: LookingObserver,
    clock: FakeClock,
    lease: Lease,
    *,
    applied: bool,
) -> None:
    observer.watch(RUN_ID)
    store.unavailable(1, operation="seal", applied=applied)

    await pass_time(clock, 1.7, observer)
    first = list(inner.seals)
    await pass_time(clock, 1.3, observer)

    assert first == ([RUN_ID] if applied else [])
    assert inner.seals == [RUN_ID]
    assert (await inner.info(RUN_ID)).last == 2


async def test_a_store_that_cannot_name_its_runs_is_asked_again(
    inner: SharedMemoryStore, store: FaultyStore, observer: LookingObserver, clock: FakeClock, lease: Lease
) -> None:
    store.unavailable(1, operation="active")
    observer.start()
    await observer.looked()

    await pass_time(clock, 4, observer)

    assert inner.seals == [RUN_ID]


async def test_a_run_that_is_gone_is_looked_at_no_more(
    inner: SharedMemoryStore, observer: LookingObserver, clock: FakeClock, lease: Lease
) -> None:
    observer.start()
    await observer.looked()
    await inner.purge(RUN_ID)

    await observer.looked()
    looks = inner.looks[RUN_ID]
    await pass_time(clock, 1, observer)

    assert inner.looks[RUN_ID] == looks


# Whom it looks after ---------------------------------------------------------------------------------------------


async def test_an_observer_with_nothing_to_watch_comes_to_its_end_and_begins_again(
    inner: SharedMemoryStore, observer: LookingObserver, clock: FakeClock, lease: Lease
) -> None:
    stops = [observer.watch(RUN_ID), observer.watch(RUN_ID)]
    await observer.looked()
    stops[0]()
    await observer.looked()
    task = next(task for task in asyncio.all_tasks() if task.get_name() == "tailrace-observer")

    stops[1]()
    await asyncio.wait_for(task, BOUND_SECONDS)
    observer.watch(RUN_ID)
    await pass_time(clock, 2, observer)

    assert inner.seals == [RUN_ID]


async def test_a_store_of_one_process_needs_no_observer(clock: FakeClock) -> None:
    observer = LookingObserver(MemoryStore(monotonic=clock.monotonic), clock)

    observer.start()
    observer.watch(RUN_ID)

    assert [task for task in asyncio.all_tasks() if task.get_name() == "tailrace-observer"] == []
    await observer.aclose()


async def test_of_many_runs_a_sample_is_looked_after_and_then_another(
    inner: SharedMemoryStore, observer: LookingObserver, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer_module, "_SAMPLE", 2)
    for number in range(5):
        await inner.create(f"run-{number}", owner=None, thread=None, fingerprint=b"")
    observer.start()
    await observer.looked()

    await pass_time(clock, 1.2, observer)
    first = list(inner.seals)
    await pass_time(clock, 6, observer)

    assert len(first) == 2
    assert sorted(inner.seals) == [f"run-{number}" for number in range(5)]


# Through Runs ----------------------------------------------------------------------------------------------------


async def test_runs_that_were_opened_end_what_another_worker_left_behind(
    inner: SharedMemoryStore, clock: FakeClock, lease: Lease
) -> None:
    async with Runs(inner, clock=clock, lease_seconds=LEASE_SECONDS) as runs:
        await runs.open()
        await inner.looked_at(RUN_ID)
        while not inner.seals:
            clock.advance(LEASE_SECONDS / 10)
            await inner.looked_at(RUN_ID)

        entries = await collect(runs.follow(RUN_ID))

    assert [entry.event for entry in entries[1:]] == [events.RunInterrupted(reason="worker_lost")]


async def test_a_follower_sees_the_end_of_a_run_whose_producer_is_gone(
    inner: SharedMemoryStore, clock: FakeClock, lease: Lease
) -> None:
    async with Runs(inner, clock=clock, lease_seconds=LEASE_SECONDS) as runs:
        reading = asyncio.create_task(collect(runs.follow(RUN_ID)))
        async with asyncio.timeout(BOUND_SECONDS):
            while not reading.done():
                clock.advance(LEASE_SECONDS / 20)
                await asyncio.wait({reading}, timeout=0.003)

        entries = await reading

    assert [entry.event for entry in entries[1:]] == [events.RunInterrupted(reason="worker_lost")]


async def test_a_producer_whose_run_was_ended_by_another_worker_stops_and_its_readers_see_that_end(
    inner: SharedMemoryStore, clock: FakeClock, feed: Feed
) -> None:
    """It was out of reach for too long: whatever it has to say now, the run has its end."""
    async with Runs(inner, clock=clock) as runs:
        run = await runs.start(feed.source)
        reading = asyncio.create_task(collect(run))
        feed.put("word")
        await read_until(runs, run.id, 2)

        assert await inner.seal(await inner.info(run.id), *worker_lost())
        feed.put("too late")
        entries = await reading

    assert [events.event_type(entry.event) for entry in entries] == ["run.started", "text.delta", "run.interrupted"]
    assert feed.closed


def worker_lost() -> tuple[bytes, int]:
    terminal = events.RunInterrupted(reason="worker_lost")
    return encode_record(0, terminal), FINAL_STATES[type(terminal)]


async def test_a_store_that_is_out_of_reach_ends_no_run(
    inner: SharedMemoryStore, observer: LookingObserver, clock: FakeClock, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(_: str) -> Info:
        raise StoreUnavailableError

    observer.start()
    await observer.looked()
    with monkeypatch.context() as broken:
        broken.setattr(inner, "info", unreachable)
        await pass_time(clock, 5, observer)
    await pass_time(clock, 0.9, observer)

    assert inner.seals == []


async def test_a_bug_in_a_store_does_not_end_the_looking(
    inner: SharedMemoryStore,
    observer: LookingObserver,
    clock: FakeClock,
    lease: Lease,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hit = asyncio.Event()

    async def broken(_: str) -> Info:
        hit.set()
        raise KeyError("a bug")

    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR, logger="tailrace"):
        patched.setattr(inner, "info", broken)
        observer.watch(RUN_ID)
        while not hit.is_set():
            clock.advance(LEASE_SECONDS)
            await asyncio.sleep(0)
    await pass_time(clock, 1.5, observer)

    assert inner.seals == [RUN_ID]
    assert sum(record.exc_info is not None for record in caplog.records) == 1
