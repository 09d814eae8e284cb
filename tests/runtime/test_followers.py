"""A follower gets the exact log from its place on, wherever and whenever it joins, and only what was acknowledged."""

import asyncio
import random

import pytest

from tailrace import events, fold
from tailrace.errors import RunNotFoundError
from tailrace.events import Entry
from tailrace.runtime import follower as follower_module
from tailrace.runtime import hub
from tailrace.runtime.follower import MERGE_BEHIND, Follower
from tailrace.runtime.run import Run
from tailrace.runtime.runs import Runs
from tailrace.testing import FakeClock, FaultyStore, collect
from tests.runtime.feed import Feed
from tests.runtime.reading import BOUND_SECONDS, finish, read_until

NEVER_SECONDS = 1_000.0


def words(count: int) -> list[str]:
    return [f"w{number} " for number in range(count)]


# The exact log ---------------------------------------------------------------------------------------------------


async def read_with_reconnects(workers: list[Runs], run_id: str, after: int, dice: random.Random) -> list[Entry]:
    """Read like a client on a bad line: a few batches here, then from the same place on somewhere else."""
    entries: list[Entry] = []
    while True:
        follower = dice.choice(workers).follower(run_id, after + len(entries))
        try:
            await follower.place()
            for _ in range(dice.randint(1, 4)):
                batch = await follower.read(dice.randint(1, 20))
                entries += batch
                if follower.ended:
                    return entries
                if not batch:
                    await follower.wait()
        finally:
            follower.close()


@pytest.mark.parametrize("seed", range(5))
async def test_25_followers_at_random_places_get_the_exact_log(runs: Runs, remote: Runs, feed: Feed, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311  repeatable, not secret
    run = await runs.start(feed.source)
    live = runs.live(run.id)
    assert live is not None
    readers: list[tuple[int, asyncio.Task[list[Entry]]]] = []
    async with asyncio.timeout(BOUND_SECONDS):
        for _ in range(25):
            feed.put(*words(dice.randint(0, 12)), *[events.Status("s")] * dice.randint(0, 2))
            for _ in range(dice.randint(0, 6)):
                await asyncio.sleep(0)
            after = dice.randint(0, live.log.acked)
            read = read_with_reconnects([runs, remote], run.id, after, dice)
            readers.append((after, asyncio.create_task(read)))
        feed.put(None)
        log = await finish(runs, run)

        for after, reader in readers:
            assert await reader == log[after:]


async def test_every_place_gives_the_rest_of_a_finished_log(runs: Runs, remote: Runs) -> None:
    run = await runs.start(words(20))
    log = await finish(runs, run)

    for worker in (runs, remote):
        for after in range(len(log) + 1):
            assert await collect(worker.follow(run.id, after)) == log[after:]


async def test_a_log_longer_than_one_read_comes_whole_and_without_a_pause(
    runs: Runs, remote: Runs, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "SILENCE_SECONDS", NEVER_SECONDS)
    run = await runs.start(feed.source)
    feed.put(*words(5_000))
    await read_until(runs, run.id, 5_001)

    followers = [runs.follower(run.id), remote.follower(run.id)]
    for follower in followers:
        async with asyncio.timeout(BOUND_SECONDS):
            while follower.cursor < 5_001:
                await follower.read()
                await follower.wait() if follower.cursor < 5_001 else None
        follower.close()
    feed.put(None)

    assert len(await finish(runs, run)) == 5_002
    assert len(await collect(remote.follow(run.id))) == 5_002


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_what_happens_while_a_reader_is_busy_is_not_missed(
    runs: Runs, remote: Runs, feed: Feed, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(hub, "SILENCE_SECONDS", NEVER_SECONDS)
    run = await runs.start(feed.source)
    worker = runs if where == "here" else remote
    entries: list[Entry] = []

    async with asyncio.timeout(BOUND_SECONDS):
        async for entry in worker.follow(run.id):
            entries.append(entry)
            if entry.seq == 1:
                feed.put("word", None)
                await finish(runs, run)

    assert [events.event_type(entry.event) for entry in entries] == ["run.started", "text.delta", "run.completed"]


async def test_a_reader_that_is_told_to_wake_up_does(runs: Runs, remote: Runs, feed: Feed) -> None:
    run = await runs.start(feed.source)
    await read_until(runs, run.id, 1)

    for follower in (runs.follower(run.id, 1), remote.follower(run.id, 1)):
        async with asyncio.timeout(BOUND_SECONDS):
            waiting = asyncio.create_task(follower.wait())
            await asyncio.sleep(0)
            follower.wake()
            await waiting
            follower.wake()
            await follower.wait()
        follower.close()
    feed.put(None)

    await finish(runs, run)


async def test_after_the_end_there_is_nothing_to_read(runs: Runs, remote: Runs) -> None:
    run = await runs.start(["word"])
    await finish(runs, run)

    for follower in (runs.follower(run.id), remote.follower(run.id)):
        first = await follower.read()
        assert (len(first), follower.ended, await follower.read()) == (3, True, [])
        follower.close()
        follower.close()


async def test_an_unknown_run_is_not_found(runs: Runs) -> None:
    for after in (0, 5):
        with pytest.raises(RunNotFoundError):
            await collect(runs.follow("r" * 26, after))


async def test_a_run_that_expires_while_it_is_read_is_not_found(
    runs: Runs, remote: Runs, feed: Feed, clock: FakeClock
) -> None:
    run = await runs.start(feed.source)
    await read_until(runs, run.id, 1)
    follower = remote.follower(run.id)
    await follower.read(1)
    feed.put("word", None)
    await finish(runs, run)

    # What was told in time can still be read; what has to be looked up is gone.
    follower.heard(None)
    clock.advance(10_000)

    with pytest.raises(RunNotFoundError):
        await follower.read()
    follower.close()


# Only what was acknowledged --------------------------------------------------------------------------------------


@pytest.mark.parametrize("applied", [False, True], ids=["not written", "written"])
async def test_what_the_store_has_not_acknowledged_is_not_seen(
    runs: Runs, store: FaultyStore, feed: Feed, *, applied: bool
) -> None:
    run = await runs.start(feed.source)
    await read_until(runs, run.id, 1)
    gate = asyncio.Event()
    store.delay(gate, applied=applied)
    follower = runs.follower(run.id)

    feed.put("one", "two")
    await store.paused()
    unseen = await follower.read()
    gate.set()
    feed.put(None)

    assert [entry.seq for entry in unseen] == [1]
    log = await finish(runs, run)
    assert len(log) == 4
    assert unseen + await collect(runs.follow(run.id, 1)) == log
    follower.close()


async def test_a_reader_never_sees_more_than_the_store_has(runs: Runs, store: FaultyStore) -> None:
    """Whatever the reader is shown can be read in the store at that moment."""
    store.delay(0)
    run = await runs.start(words(50))
    follower = runs.follower(run.id)
    ahead: list[int] = []

    async with asyncio.timeout(BOUND_SECONDS):
        while not follower.ended:
            for entry in await follower.read():
                info = await store.inner.info(run.id)
                ahead += [entry.seq] if entry.seq > info.last else []
            if not follower.ended:
                await follower.wait()

    follower.close()
    assert ahead == []


async def test_the_end_is_not_seen_before_it_is_stored(runs: Runs, store: FaultyStore, feed: Feed) -> None:
    run = await runs.start(feed.source)
    await read_until(runs, run.id, 1)
    gate = asyncio.Event()
    store.delay(gate)
    feed.put(None)
    await store.paused()
    follower = runs.follower(run.id)

    before = [*await follower.read(), follower.ended]
    gate.set()

    assert [type(item).__name__ for item in before] == ["Entry", "bool"]
    assert before[-1] is False
    assert len(await finish(runs, run)) == 2
    follower.close()


# Merging ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_reader_far_behind_gets_deltas_joined_and_loses_nothing(runs: Runs, remote: Runs, where: str) -> None:
    run = await runs.start([*words(200), events.Status("between"), *words(200)])
    log = await finish(runs, run)
    worker = runs if where == "here" else remote
    follower = worker.follower(run.id, merging=True)

    merged = await follower.read()

    follower.close()
    assert [(entry.since, entry.seq) for entry in merged] == [(1, 1), (2, 201), (202, 202), (203, 402), (403, 403)]
    assert fold.reduce(merged) == fold.reduce(log)


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_reader_that_is_just_near_enough_gets_every_entry(runs: Runs, remote: Runs, where: str) -> None:
    run = await runs.start(words(MERGE_BEHIND))
    log = await finish(runs, run)
    worker = runs if where == "here" else remote

    near = worker.follower(run.id, 2, merging=True)
    far = worker.follower(run.id, 1, merging=True)

    assert len(log) - 2 == MERGE_BEHIND
    assert await near.read() == log[2:]
    assert len(await far.read()) == 2
    near.close()
    far.close()


async def test_a_reader_that_forbids_it_gets_every_entry(runs: Runs) -> None:
    run = await runs.start(words(400))
    log = await finish(runs, run)

    follower = runs.follower(run.id)

    assert await follower.read() == log
    follower.close()


# A place beyond the log ------------------------------------------------------------------------------------------


async def placed(follower: Follower) -> tuple[int, bool]:
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            await follower.place()
        return follower.cursor, follower.was_reset
    finally:
        follower.close()


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_place_beyond_an_open_log_is_given_up_after_a_while(
    runs: Runs, remote: Runs, feed: Feed, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(follower_module, "_AHEAD_SECONDS", 0.02)
    run = await runs.start(feed.source)
    await read_until(runs, run.id, 1)
    worker = runs if where == "here" else remote
    began = asyncio.get_running_loop().time()

    place = await placed(worker.follower(run.id, 9))

    waited_seconds = asyncio.get_running_loop().time() - began
    feed.put(None)
    assert place == (0, True)
    assert waited_seconds >= 0.02
    assert await collect(worker.follow(run.id, 9)) == await finish(runs, run)


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_place_that_the_log_reaches_in_time_is_kept(
    runs: Runs, remote: Runs, feed: Feed, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(follower_module, "_AHEAD_SECONDS", NEVER_SECONDS)
    run = await runs.start(feed.source)
    await read_until(runs, run.id, 1)
    worker = runs if where == "here" else remote

    placing = asyncio.create_task(placed(worker.follower(run.id, 3)))
    for word in ("one", "two"):
        feed.put(word)
        await asyncio.sleep(0)

    assert await placing == (3, False)
    feed.put(None)
    await finish(runs, run)


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_place_beyond_a_final_log_is_given_up_at_once(
    runs: Runs, remote: Runs, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(follower_module, "_AHEAD_SECONDS", NEVER_SECONDS)
    run = await runs.start(["word"])
    await finish(runs, run)
    worker = runs if where == "here" else remote

    assert await placed(worker.follower(run.id, 4)) == (0, True)
    assert await placed(worker.follower(run.id, 3)) == (3, False)


# Hints -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hints", ["lost", "doubled"])
async def test_lost_and_doubled_hints_change_nothing(
    runs: Runs, remote: Runs, store: FaultyStore, feed: Feed, monkeypatch: pytest.MonkeyPatch, hints: str
) -> None:
    monkeypatch.setattr(hub, "SILENCE_SECONDS", 0.01)
    (store.drop_hints if hints == "lost" else store.double_hints)()
    run = await runs.start(feed.source)
    reading = asyncio.create_task(collect(remote.follow(run.id)))

    for word in words(10):
        feed.put(word)
        await read_until(runs, run.id, 1)
    feed.put(None)

    assert await reading == await finish(runs, run)


# Coming and going ------------------------------------------------------------------------------------------------


async def start_watched(runs: Runs, feed: Feed, grace_seconds: float) -> tuple[Run, Follower]:
    run = await runs.start(feed.source, on_disconnect="cancel", grace_seconds=grace_seconds)
    return run, runs.follower(run.id)


async def test_a_run_goes_on_when_all_its_followers_have_left(runs: Runs, feed: Feed) -> None:
    run = await runs.start(feed.source)
    follower = runs.follower(run.id)
    follower.close()

    feed.put("word", None)

    assert isinstance((await finish(runs, run))[-1].event, events.RunCompleted)


async def test_a_run_that_asks_for_it_ends_when_its_last_follower_has_left(
    runs: Runs, remote: Runs, feed: Feed
) -> None:
    run, first = await start_watched(runs, feed, 0)
    second = runs.follower(run.id)
    first.close()
    feed.put("word")
    await second.read()

    second.close()

    entries = await collect(remote.follow(run.id))
    assert entries[-1].event == events.RunCancelled(reason="disconnect")


async def test_whoever_comes_back_in_time_keeps_the_run(runs: Runs, feed: Feed) -> None:
    run, first = await start_watched(runs, feed, 0.03)
    first.close()
    second = runs.follower(run.id)

    await asyncio.sleep(0.06)
    feed.put(None)

    assert isinstance((await finish(runs, run))[-1].event, events.RunCompleted)
    second.close()


async def test_the_grace_begins_when_the_last_one_leaves(runs: Runs, feed: Feed) -> None:
    loop = asyncio.get_running_loop()
    run, first = await start_watched(runs, feed, 0.05)
    first.close()
    await asyncio.sleep(0.03)
    second = runs.follower(run.id)
    second.close()
    left_at = loop.time()

    await wait_for_end(runs, run)

    assert loop.time() - left_at >= 0.04
    assert (await finish(runs, run))[-1].event == events.RunCancelled(reason="disconnect")


async def test_a_run_that_nobody_ever_followed_goes_on(runs: Runs, feed: Feed) -> None:
    run = await runs.start(feed.source, on_disconnect="cancel")

    feed.put("word", None)
    await wait_for_end(runs, run)

    assert (await runs.info(run.id)).status == "completed"


async def wait_for_end(runs: Runs, run: Run) -> None:
    live = runs.live(run.id)
    async with asyncio.timeout(BOUND_SECONDS):
        while live is not None and not live.log.settled:
            await live.log.changed()
