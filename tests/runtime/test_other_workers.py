"""Two workers on one store: what one of them produces the other one follows, cancels and keeps alive."""

import asyncio
import gc
import random
import weakref
from collections.abc import Callable

import pytest

from tailrace import events, fold
from tailrace.errors import RunNotFoundError, StoreUnavailableError
from tailrace.events import Entry, Event
from tailrace.runtime import follower as follower_module
from tailrace.runtime import hub, supervisor
from tailrace.runtime.follower import Follower
from tailrace.runtime.keys import new_run_id
from tailrace.runtime.runs import Runs
from tailrace.runtime.topics import FOLLOWING, run_topic, thread_topic
from tailrace.testing import FakeClock, FaultyStore, collect
from tests.runtime.feed import Feed
from tests.runtime.reading import BOUND_SECONDS, read_until
from tests.runtime.shared import SharedMemoryStore, stored_log

NEVER_SECONDS = 1_000.0
#: Others announce themselves so often, and a busy machine is late.
PRESENCE_SECONDS = 0.4
_TURNS = 20


@pytest.fixture
def store(clock: FakeClock) -> FaultyStore:
    return FaultyStore(SharedMemoryStore(monotonic=clock.monotonic))


def store_of(faulty: FaultyStore) -> SharedMemoryStore:
    inner = faulty.inner
    assert isinstance(inner, SharedMemoryStore)
    return inner


def words(count: int) -> list[Event]:
    return [events.TextDelta(f"w{number} ") for number in range(count)]


async def said(runs: Runs, run_id: str, count: int) -> None:
    """Wait until the store has so many entries of a run that `runs` produces."""
    live = runs.live(run_id)
    assert live is not None
    async with asyncio.timeout(BOUND_SECONDS):
        while live.log.acked < count:
            await live.log.changed()


async def compacted(runs: Runs, run_id: str) -> None:
    """Wait until the producer is done with the run and with its block."""
    await runs.drain(BOUND_SECONDS)
    assert runs.live(run_id) is None


# The exact log ---------------------------------------------------------------------------------------------------

Trouble = Callable[[FaultyStore, random.Random], None]


def none(_: FaultyStore, __: random.Random) -> None:
    """Nothing happens."""


def dropped(store: FaultyStore, dice: random.Random) -> None:
    store.drop_hints() if dice.random() < 0.5 else store.heal()


def doubled(store: FaultyStore, _: random.Random) -> None:
    store.double_hints()


def held_back_and_reordered(store: FaultyStore, dice: random.Random) -> None:
    store.hold_hints() if dice.random() < 0.7 else store.heal()


def stripped(store: FaultyStore, _: random.Random) -> None:
    store.strip_hints()


def all_of_it(store: FaultyStore, dice: random.Random) -> None:
    dice.choice([dropped, doubled, held_back_and_reordered, stripped])(store, dice)


@pytest.mark.parametrize("trouble", [none, dropped, doubled, held_back_and_reordered, stripped, all_of_it])
@pytest.mark.parametrize("seed", range(3))
async def test_25_followers_elsewhere_get_the_exact_log_whatever_becomes_of_the_hints(
    runs: Runs,
    remote: Runs,
    store: FaultyStore,
    feed: Feed,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Trouble,
    seed: int,
) -> None:
    dice = random.Random(seed)  # noqa: S311  repeatable, not secret
    # Where hints are carried whole, nobody may have to wait for a look after a silence.
    silence_seconds = NEVER_SECONDS if trouble in {none, doubled, stripped} else 0.005
    monkeypatch.setattr(hub, "SILENCE_SECONDS", silence_seconds)
    run = await runs.start(feed.source)
    live = runs.live(run.id)
    assert live is not None
    readers: list[tuple[int, asyncio.Task[list[Entry]]]] = []

    for _ in range(25):
        trouble(store, dice)
        feed.put(*words(dice.randint(0, 12)), *[events.Status("s")] * dice.randint(0, 2))
        for _ in range(dice.randint(0, 6)):
            await asyncio.sleep(0)
        after = dice.randint(0, live.log.acked)
        readers.append((after, asyncio.create_task(collect(remote.follow(run.id, after)))))
    feed.put(None)

    log = await collect(run)
    for after, reader in readers:
        assert await reader == log[after:]
    assert await stored_log(store.inner, run.id) == log


async def test_a_follower_elsewhere_lives_on_hints_alone(
    runs: Runs, remote: Runs, store: FaultyStore, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "SILENCE_SECONDS", NEVER_SECONDS)
    run = await runs.start(feed.source)
    await said(runs, run.id, 1)
    reading = asyncio.create_task(collect(remote.follow(run.id)))
    await read_until(remote, run.id, 1)
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    store.unavailable(1_000, operation="read")

    feed.put(*words(10), None)

    entries = await reading
    store.heal()
    assert entries == await collect(run)


async def test_a_slow_follower_elsewhere_keeps_few_batches_and_misses_nothing(
    runs: Runs, remote: Runs, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "_WAITING_BATCHES", 8)
    monkeypatch.setattr(hub, "SILENCE_SECONDS", NEVER_SECONDS)
    run = await runs.start(feed.source)
    await said(runs, run.id, 1)
    follower = remote.follower(run.id)
    entries = await follower.read()
    waiting: list[int] = []

    for number in range(200):
        feed.put(events.Status(f"{number}"))
        await said(runs, run.id, number + 2)
        waiting.append(len(vars(follower)["_heard"]))
        if number % 60 == 59:
            entries += await follower.read()
    feed.put(None)
    async with asyncio.timeout(BOUND_SECONDS):
        while not follower.ended:
            await follower.wait()
            entries += await follower.read()
    follower.close()

    assert max(waiting) == 8
    assert entries == await collect(run)


# A run that is over ----------------------------------------------------------------------------------------------


def long_answer() -> list[Event]:
    """With `run.started` and the end, 2,000 events."""
    parts: list[list[Event]] = [[*words(198), events.Status(f"step {number}")] for number in range(10)]
    return [event for part in parts for event in part] + words(8)


async def test_who_comes_late_to_a_long_run_gets_it_in_few_entries(runs: Runs, remote: Runs) -> None:
    run = await runs.start(long_answer())
    log = await collect(run)
    await compacted(runs, run.id)

    follower = remote.follower(run.id, merging=True)
    merged: list[Entry] = []
    while not follower.ended:
        merged += await follower.read()
    follower.close()

    assert len(log) == 2_000
    assert (await runs.store.read(run.id, 0, limit=1)).block is not None
    assert len(merged) <= 50
    assert (merged[0].since, merged[-1].seq) == (1, 2_000)
    assert fold.reduce(merged) == fold.reduce(log)


async def test_a_compacted_run_is_exact_from_every_place_on(runs: Runs, remote: Runs) -> None:
    run = await runs.start(long_answer())
    log = await collect(run)
    await compacted(runs, run.id)

    for after in [*range(0, len(log), 37), len(log) - 1, len(log)]:
        for worker in (runs, remote):
            assert await collect(worker.follow(run.id, after)) == log[after:]


async def test_a_block_longer_than_one_read_comes_whole(
    runs: Runs, remote: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await runs.start(words(300))
    log = await collect(run)
    await compacted(runs, run.id)
    follower = remote.follower(run.id)
    entries: list[Entry] = []

    async with asyncio.timeout(BOUND_SECONDS):
        while not follower.ended:
            await follower.wait()
            entries += await follower.read(limit=100)
    follower.close()

    assert entries == log


@pytest.mark.parametrize("after", [0, 50])
async def test_a_run_that_is_compacted_while_it_is_read_is_read_to_its_end(
    runs: Runs, remote: Runs, feed: Feed, after: int
) -> None:
    run = await runs.start(feed.source)
    feed.put(*words(100))
    await said(runs, run.id, 101)
    follower = remote.follower(run.id, after)
    entries = await follower.read(limit=20)

    feed.put(None)
    log = await collect(run)
    await compacted(runs, run.id)
    async with asyncio.timeout(BOUND_SECONDS):
        while not follower.ended:
            await follower.wait()
            entries += await follower.read(limit=20)
    follower.close()

    assert entries == log[after:]


async def test_a_store_that_cannot_compact_keeps_the_records(runs: Runs, remote: Runs, store: FaultyStore) -> None:
    store.unavailable(1, operation="compact")

    run = await runs.start(words(10))
    log = await collect(run)
    await compacted(runs, run.id)

    page = await store.read(run.id, 0, limit=100)
    assert (page.block, len(page.records)) == (None, 12)
    assert await collect(remote.follow(run.id)) == log


# Cancel ----------------------------------------------------------------------------------------------------------


async def test_a_cancel_from_elsewhere_ends_a_silent_run_by_its_signal(runs: Runs, remote: Runs, feed: Feed) -> None:
    """Time stands still, so there is no heartbeat that could bring the flag."""
    run = await runs.start(feed.source)
    await said(runs, run.id, 1)

    assert await remote.cancel(run.id)

    assert (await collect(run))[-1].event == events.RunCancelled(reason="user")
    assert feed.closed


async def test_a_cancel_from_elsewhere_ends_a_silent_run_by_the_flag_alone(
    store: FaultyStore, clock: FakeClock, feed: Feed
) -> None:
    lease_seconds = 0.05
    async with (
        Runs(store, clock=clock, lease_seconds=lease_seconds) as runs,
        Runs(store, clock=clock, lease_seconds=lease_seconds) as remote,
    ):
        run = await runs.start(feed.source)
        await said(runs, run.id, 1)
        store.drop_hints()

        accepted = await remote.cancel(run.id)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        feed_was_closed = feed.closed
        # Long enough for a heartbeat, too short for anybody to think that the producer is gone.
        clock.advance(lease_seconds / 2)

        assert (await collect(run))[-1].event == events.RunCancelled(reason="user")
        assert (accepted, feed_was_closed, feed.closed) == (True, False, True)


@pytest.mark.parametrize("trouble", [doubled, held_back_and_reordered])
async def test_a_cancel_that_is_told_twice_or_late_counts_once(
    runs: Runs, remote: Runs, store: FaultyStore, feed: Feed, trouble: Trouble
) -> None:
    trouble(store, random.Random(1))  # noqa: S311  repeatable, not secret
    run = await runs.start(feed.source)
    await said(runs, run.id, 1)

    assert await remote.cancel(run.id, "superseded")
    assert await remote.cancel(run.id, "superseded")
    feed.put("word")
    store.heal()

    log = await collect(run)
    assert log[-1].event == events.RunCancelled(reason="superseded")
    assert [entry for entry in log if isinstance(entry.event, events.RunCancelled)] == log[-1:]


# Who keeps a run alive -------------------------------------------------------------------------------------------


async def followed_elsewhere(runs: Runs, remote: Runs, run_id: str) -> Follower:
    """A follower at the other worker, of which the producer has heard."""
    heard = asyncio.Event()
    stop = runs.store.listen(run_topic(run_id), lambda text: heard.set() if text == FOLLOWING else None)
    follower = remote.follower(run_id)
    async with asyncio.timeout(BOUND_SECONDS):
        await heard.wait()
    stop()
    return follower


async def test_a_run_that_is_followed_elsewhere_only_goes_on_until_that_follower_has_left(
    runs: Runs, remote: Runs, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (hub, supervisor):
        monkeypatch.setattr(module, "PRESENCE_SECONDS", PRESENCE_SECONDS)
    run = await runs.start(feed.source, on_disconnect="cancel")
    here = runs.follower(run.id)
    elsewhere = await followed_elsewhere(runs, remote, run.id)

    here.close()
    await asyncio.sleep(4 * PRESENCE_SECONDS)
    status_while_followed = (await remote.info(run.id)).status
    live = runs.live(run.id)
    elsewhere.close()

    assert status_while_followed == "running"
    assert live is not None
    async with asyncio.timeout(BOUND_SECONDS):
        await live.ended()
    assert (await stored_log(runs.store, run.id))[-1].event == events.RunCancelled(reason="disconnect")


async def test_a_run_that_is_followed_nowhere_ends_at_once(runs: Runs, remote: Runs, feed: Feed) -> None:
    run = await runs.start(feed.source, on_disconnect="cancel")
    live = runs.live(run.id)
    assert live is not None

    runs.follower(run.id).close()
    async with asyncio.timeout(BOUND_SECONDS):
        await live.ended()

    assert (await collect(remote.follow(run.id)))[-1].event == events.RunCancelled(reason="disconnect")


# Threads ---------------------------------------------------------------------------------------------------------


async def test_a_threads_readers_elsewhere_are_told_when_a_run_begins_there(
    runs: Runs, remote: Runs, feed: Feed
) -> None:
    told: dict[tuple[str | None, str], list[str]] = {
        ("ada", "t"): [],
        ("ada", "u"): [],
        ("bob", "t"): [],
        (None, "t"): [],
    }
    for (owner, thread), heard in told.items():
        remote.store.listen(thread_topic(owner, thread), heard.append)

    run = await runs.start(feed.source, owner="ada", thread="t")
    alone = await runs.start(feed.source, owner="ada")

    assert told.pop(("ada", "t")) == [run.id]
    assert not any(told.values())
    feed.put(None, None)
    await collect(run)
    await collect(alone)


async def test_a_run_begins_although_its_thread_cannot_be_told(runs: Runs, remote: Runs, store: FaultyStore) -> None:
    store.unavailable(1, operation="signal")

    run = await runs.start(["word"], owner="ada", thread="t")

    assert fold.reduce(await collect(remote.follow(run.id))).text == "word"


# A start that two make at once -----------------------------------------------------------------------------------


async def test_of_two_workers_that_start_the_same_run_one_does_and_both_follow_it(runs: Runs, remote: Runs) -> None:
    key = "k" * 20
    first, second = await asyncio.gather(
        runs.start(["of the first"], key=key), remote.start(["of the second"], key=key)
    )

    logs = await asyncio.gather(collect(first), collect(second))

    assert first.id == second.id
    assert {first.started, second.started} == {True, False}
    assert logs[0] == logs[1]


async def test_a_reader_elsewhere_is_told_of_an_outage_of_a_compacted_run_and_may_come_back(
    runs: Runs, remote: Runs, store: FaultyStore
) -> None:
    run = await runs.start(words(10))
    log = await collect(run)
    await compacted(runs, run.id)
    store.unavailable(1, operation="read")

    with pytest.raises(StoreUnavailableError):
        await collect(remote.follow(run.id))

    assert await collect(remote.follow(run.id)) == log


async def test_a_follower_that_has_left_leaves_nothing_to_the_garbage_collector(
    runs: Runs, remote: Runs, feed: Feed
) -> None:
    run = await runs.start(feed.source)
    follower = remote.follower(run.id)
    await follower.read()
    left = weakref.ref(follower)
    gc.disable()
    try:
        follower.close()
        del follower

        assert left() is None
    finally:
        gc.enable()


# A run that is not there yet -------------------------------------------------------------------------------------


async def test_who_has_a_place_in_a_run_that_the_store_lost_is_waited_for(
    runs: Runs, remote: Runs, store: FaultyStore, feed: Feed
) -> None:
    run = await runs.start(feed.source, owner="ada")
    feed.put("before")
    await said(runs, run.id, 2)
    await store.lose(run.id)

    with pytest.raises(RunNotFoundError):
        await remote.authorize(run.id, "ada")
    returning = asyncio.create_task(remote.authorize(run.id, "ada", after=2))
    stranger = asyncio.create_task(remote.authorize(run.id, "eve", after=2))
    await store_of(store).looked_at(run.id)
    assert not returning.done()
    feed.put("puts it back")
    info = await asyncio.wait_for(returning, BOUND_SECONDS)

    assert info.run_id == run.id
    # Neither is told sooner than the other that there is nothing for them.
    assert not stranger.done()
    with pytest.raises(RunNotFoundError):
        await stranger
    feed.put(None)


async def test_a_place_in_a_run_of_a_store_of_one_process_is_not_waited_for() -> None:
    async with Runs() as alone, asyncio.timeout(BOUND_SECONDS):
        started = asyncio.get_running_loop().time()
        with pytest.raises(RunNotFoundError):
            await alone.authorize("r" * 26, None, after=7)

        assert asyncio.get_running_loop().time() - started < follower_module.MISSING_SECONDS / 2


async def test_a_run_can_be_attached_to_before_it_begins(runs: Runs, remote: Runs, store: FaultyStore) -> None:
    run_id = new_run_id()
    attaching = asyncio.create_task(remote.attach(run_id, wait_seconds=BOUND_SECONDS))
    await store_of(store).looked_at(run_id)
    run = await runs.start(["a word"], run_id=run_id)

    assert await collect(await attaching) == await collect(run)
    with pytest.raises(RunNotFoundError):
        await remote.attach(new_run_id(), wait_seconds=0.01)
