"""Whatever the store does, a follower gets the exact log, once each, or the end that is defined for it."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

import pytest

from tailrace import events, fold
from tailrace.errors import RunNotFoundError, StoreError, StoreUnavailableError
from tailrace.events import Entry, encode_record
from tailrace.runtime.runs import Runs
from tailrace.stores.contract import Ack, Lease, Write
from tailrace.stores.memory import MemoryStore
from tailrace.testing import FakeClock, FaultyStore, collect
from tests.runtime.feed import Feed
from tests.runtime.reading import BOUND_SECONDS, finish, read_until

OUTAGE_SECONDS = 30.0
FOR_EVER = 1_000_000


def text_of(entries: list[Entry]) -> str:
    return fold.reduce(entries).text


# What is healed --------------------------------------------------------------------------------------------------

Fault = Callable[[FaultyStore, str], Awaitable[None]]


async def unavailable_before(store: FaultyStore, _: str) -> None:
    store.unavailable(3)


async def unavailable_after(store: FaultyStore, _: str) -> None:
    store.unavailable(3, applied=True)


async def forget_one(store: FaultyStore, run_id: str) -> None:
    await store.forget(run_id, 1)


async def forget_all(store: FaultyStore, run_id: str) -> None:
    await store.forget(run_id, 1_000)


async def forget_twice(store: FaultyStore, run_id: str) -> None:
    await store.forget(run_id, 1)
    store.unavailable(1, applied=True)
    await store.forget(run_id, 2)


async def lose(store: FaultyStore, run_id: str) -> None:
    await store.lose(run_id)


async def lose_and_be_unavailable(store: FaultyStore, run_id: str) -> None:
    store.unavailable(2, operation="restore")
    await store.lose(run_id)


async def lose_the_answer_of_the_restore(store: FaultyStore, run_id: str) -> None:
    store.unavailable(2, applied=True, operation="restore")
    await store.lose(run_id)


FAULTS: list[Fault] = [
    unavailable_before,
    unavailable_after,
    forget_one,
    forget_all,
    forget_twice,
    lose,
    lose_and_be_unavailable,
    lose_the_answer_of_the_restore,
]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_in_the_middle_is_healed_and_not_noticed(
    runs: Runs, store: FaultyStore, feed: Feed, fault: Fault
) -> None:
    run = await runs.start(feed.source, owner="ada", thread="t", fingerprint="f")
    reading = asyncio.create_task(collect(run))
    feed.put("a", "b", "c")
    await read_until(runs, run.id, 4)

    await fault(store, run.id)
    feed.put("d", "e", None)

    log = await finish(runs, run)
    info = await runs.info(run.id)
    assert text_of(log) == "abcde"
    assert await reading == log
    assert (info.owner, info.thread, info.status) == ("ada", "t", "completed")


@pytest.mark.parametrize("fault", [unavailable_before, unavailable_after, forget_one, forget_all, forget_twice])
async def test_a_fault_is_not_noticed_by_a_reader_elsewhere(
    runs: Runs, remote: Runs, store: FaultyStore, feed: Feed, fault: Fault
) -> None:
    run = await runs.start(feed.source)
    reading = asyncio.create_task(collect(remote.follow(run.id)))
    feed.put("a", "b", "c")
    await read_until(remote, run.id, 4)

    await fault(store, run.id)
    feed.put("d", "e", None)

    assert await reading == await finish(runs, run)


@pytest.mark.parametrize("count", [1, 2, 4])
async def test_a_final_state_that_is_lost_with_its_answer_is_written_again(
    runs: Runs, store: FaultyStore, feed: Feed, count: int
) -> None:
    run = await runs.start(feed.source)
    feed.put("a", "b")
    await read_until(runs, run.id, 3)
    gate = asyncio.Event()
    store.delay(gate, applied=True)
    store.unavailable(1, applied=True)
    feed.put(None)
    await store.paused()

    await store.forget(run.id, count)
    gate.set()

    assert text_of(await finish(runs, run)) == "ab"


async def test_a_reader_keeps_what_the_store_forgot(runs: Runs, store: FaultyStore, feed: Feed) -> None:
    """Ids that were given out stay true: who comes back with one goes on from there."""
    run = await runs.start(feed.source)
    feed.put("a", "b", "c")
    seen = await read_until(runs, run.id, 4)

    await store.forget(run.id, 3)
    again = await read_until(runs, run.id, 4)
    feed.put("d", None)

    rest = await collect(runs.follow(run.id, after=4))
    assert again == seen
    assert seen + rest == await finish(runs, run)


async def test_one_run_that_is_lost_does_not_hold_the_others(runs: Runs, store: FaultyStore, feed: Feed) -> None:
    lost = await runs.start(feed.source)
    feed.put("a")
    await read_until(runs, lost.id, 2)
    store.delay(asyncio.Event(), operation="create")
    store.heal()
    await store.lose(lost.id)
    feed.put("b")

    other = await finish(runs, await runs.start(["other"]))
    feed.put(None)

    assert text_of(other) == "other"
    assert text_of(await finish(runs, lost)) == "ab"


@pytest.mark.parametrize("seed", range(10))
async def test_any_mixture_of_faults_is_healed(runs: Runs, store: FaultyStore, feed: Feed, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311  repeatable, not secret
    run = await runs.start(feed.source)
    reading = asyncio.create_task(collect(run))
    said: list[str] = []

    async with asyncio.timeout(BOUND_SECONDS):
        for _ in range(40):
            new = [f"w{len(said) + number} " for number in range(dice.randint(1, 5))]
            said += new
            feed.put(*new)
            for _ in range(dice.randint(0, 5)):
                await asyncio.sleep(0)
            try:
                if dice.random() < 0.7:
                    await dice.choice(FAULTS)(store, run.id)
            except RunNotFoundError:
                # It is lost at this moment.
                continue
        feed.put(None)
        log = await finish(runs, run)

        assert text_of(log) == "".join(said)
        assert await reading == log


# What is not healed ----------------------------------------------------------------------------------------------


async def test_an_outage_that_lasts_ends_the_run_here_with_what_was_saved(
    runs: Runs, store: FaultyStore, clock: FakeClock, feed: Feed
) -> None:
    run = await runs.start(feed.source)
    reading = asyncio.create_task(collect(run))
    feed.put("saved")
    await read_until(runs, run.id, 2)
    gate = asyncio.Event()
    store.delay(gate)
    store.unavailable(FOR_EVER)
    feed.put("unsaved")
    await store.paused()
    gate.set()

    async with asyncio.timeout(BOUND_SECONDS):
        while not reading.done():
            clock.advance(OUTAGE_SECONDS / 4)
            await asyncio.wait({reading}, timeout=0.005)

    entries = await reading
    failed = entries[-1]
    assert [entry.seq for entry in entries] == [1, 2, 0]
    assert isinstance(failed.event, events.RunFailed)
    assert (failed.event.code, failed.event.retryable) == ("store_unavailable", True)
    assert text_of(entries) == "saved"


async def test_an_outage_shorter_than_the_bound_is_not_noticed(
    runs: Runs, store: FaultyStore, clock: FakeClock, feed: Feed
) -> None:
    run = await runs.start(feed.source)
    await read_until(runs, run.id, 1)
    gate = asyncio.Event()
    store.delay(gate)
    store.unavailable(2)
    feed.put("word", None)
    await store.paused()
    gate.set()
    clock.advance(OUTAGE_SECONDS - 1)

    assert text_of(await finish(runs, run)) == "word"


async def test_the_outage_of_yesterday_does_not_shorten_that_of_today(
    runs: Runs, store: FaultyStore, clock: FakeClock, feed: Feed
) -> None:
    store.unavailable(FOR_EVER)
    lost = await runs.start(["lost"])
    reading = asyncio.create_task(collect(lost))
    async with asyncio.timeout(BOUND_SECONDS):
        while not reading.done():
            clock.advance(OUTAGE_SECONDS)
            await asyncio.wait({reading}, timeout=0.005)
    store.heal()
    clock.advance(86_400)

    store.unavailable(2)
    feed.put("word", None)

    assert text_of(await finish(runs, await runs.start(feed.source))) == "word"


async def test_every_outage_of_a_run_has_its_own_time(
    runs: Runs, store: FaultyStore, clock: FakeClock, feed: Feed
) -> None:
    run = await runs.start(feed.source)
    for word in ("a", "b"):
        store.unavailable(2)
        feed.put(word)
        await read_until(runs, run.id, "ab".index(word) + 2)
        clock.advance(86_400)

    feed.put(None)

    assert text_of(await finish(runs, run)) == "ab"


async def test_a_source_whose_store_is_lost_is_stopped(
    runs: Runs, store: FaultyStore, clock: FakeClock, feed: Feed
) -> None:
    store.unavailable(FOR_EVER)
    run = await runs.start(feed.source)
    reading = asyncio.create_task(collect(run))

    async with asyncio.timeout(BOUND_SECONDS):
        while not (reading.done() and feed.closed):
            clock.advance(OUTAGE_SECONDS)
            await asyncio.wait({reading}, timeout=0.005)
            await asyncio.sleep(0)

    assert [entry.seq for entry in await reading] == [0]


async def test_a_run_whose_store_is_lost_can_be_reduced_at_any_moment(
    runs: Runs, store: FaultyStore, clock: FakeClock
) -> None:
    """Its source does not stop at once, so the run is still here when its readers have been told."""
    released = asyncio.Event()

    async def source() -> AsyncGenerator[str]:
        yield "word"
        try:
            await asyncio.Event().wait()
        finally:
            await released.wait()

    store.unavailable(FOR_EVER)
    run = await runs.start(source)
    reading = asyncio.create_task(collect(run))
    async with asyncio.timeout(BOUND_SECONDS):
        while not reading.done():
            clock.advance(OUTAGE_SECONDS)
            await asyncio.wait({reading}, timeout=0.005)

    reduced = await runs.reduced(run.id)

    released.set()
    assert (reduced.status, reduced.text) == ("failed", "")


# Another producer ------------------------------------------------------------------------------------------------


async def take_over(store: FaultyStore, run_id: str, *said: events.Event) -> None:
    """Be the producer that owns the run now: write after its end, and end it."""
    info = await store.inner.info(run_id)
    records = [encode_record(0, event) for event in said]
    write = Write(Lease(run_id, info.token), info.last + 1, records, 1)
    assert await store.inner.commit([write]) == [Ack(info.last + len(records))]


async def test_followers_of_a_fenced_producer_go_on_where_the_other_one_writes(
    runs: Runs, store: FaultyStore, feed: Feed
) -> None:
    run = await runs.start(feed.source)
    reading = asyncio.create_task(collect(run))
    feed.put("mine ")
    await read_until(runs, run.id, 2)

    store.fence(run.id)
    await take_over(store, run.id, events.TextDelta("theirs"), events.RunCompleted())
    feed.put("never seen")

    entries = await reading
    assert [entry.seq for entry in entries] == [1, 2, 3, 4]
    assert text_of(entries) == "mine theirs"
    assert await finish(runs, run) == entries
    assert (await runs.info(run.id)).status == "completed"


async def test_a_fenced_source_is_stopped(runs: Runs, store: FaultyStore, feed: Feed) -> None:
    run = await runs.start(feed.source)
    await read_until(runs, run.id, 1)
    store.fence(run.id)
    await take_over(store, run.id, events.RunInterrupted(reason="worker_lost"))

    feed.put("never seen")

    assert len(await finish(runs, run)) == 2
    await runs.drain(1)
    assert feed.closed
    assert runs.live_count == 0


async def test_a_run_that_was_lost_and_taken_over_is_not_restored(runs: Runs, store: FaultyStore, feed: Feed) -> None:
    run = await runs.start(feed.source, fingerprint="f")
    feed.put("mine")
    await read_until(runs, run.id, 2)
    await store.lose(run.id)
    lease = await store.inner.create(run.id, owner=None, thread=None, fingerprint=b"")
    assert lease is not None
    other = Write(lease, 1, [encode_record(0, events.RunStarted(run_id=run.id))])
    assert await store.inner.commit([other]) == [Ack(1)]

    feed.put("zombie")
    await runs.drain(1)

    page = await store.inner.read(run.id, 0, limit=10)
    records, info = page.records, page.info
    assert (len(records), info.token) == (1, lease.token)
    assert feed.closed


# A store that breaks its promises --------------------------------------------------------------------------------


class BrokenStore(MemoryStore):
    """Raises what no store may raise, now and then."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(monotonic=clock.monotonic)
        self.commit_errors = 0
        self.restore_errors = 0

    async def commit(self, writes: Sequence[Write]) -> Sequence[Ack | StoreError]:
        if self.commit_errors:
            self.commit_errors -= 1
            raise ZeroDivisionError
        return await super().commit(writes)

    async def restore(self, lease: Lease, *, owner: str | None, thread: str | None, fingerprint: bytes) -> None:
        if self.restore_errors:
            self.restore_errors -= 1
            raise ZeroDivisionError
        await super().restore(lease, owner=owner, thread=thread, fingerprint=fingerprint)


async def test_a_bug_in_a_store_is_logged_and_treated_as_an_outage(
    clock: FakeClock, feed: Feed, caplog: pytest.LogCaptureFixture
) -> None:
    store = BrokenStore(clock)
    async with Runs(store, clock=clock) as runs:
        run = await runs.start(feed.source)
        feed.put("a")
        await read_until(runs, run.id, 2)
        store.commit_errors = 2
        feed.put("b")
        await read_until(runs, run.id, 3)
        store.restore_errors = 2
        await store.purge(run.id)
        feed.put("c", None)

        assert text_of(await finish(runs, run)) == "abc"

    assert caplog.text.count("the log store raised what its contract does not allow") == 4


# Reading while it is away ----------------------------------------------------------------------------------------


async def test_a_reader_elsewhere_is_told_of_an_outage_and_may_come_back(
    runs: Runs, remote: Runs, store: FaultyStore
) -> None:
    run = await runs.start(["word"])
    log = await finish(runs, run)
    store.unavailable(1, operation="read")

    with pytest.raises(StoreUnavailableError):
        await collect(remote.follow(run.id))

    assert await collect(remote.follow(run.id)) == log


async def test_a_reader_here_does_not_need_the_store(runs: Runs, store: FaultyStore, feed: Feed) -> None:
    run = await runs.start(feed.source)
    feed.put("word")
    await read_until(runs, run.id, 2)
    store.unavailable(FOR_EVER, operation="read")
    store.unavailable(FOR_EVER, operation="info")

    entries = await read_until(runs, run.id, 2)
    store.heal()
    feed.put(None)

    assert text_of(entries) == "word"
    await finish(runs, run)
