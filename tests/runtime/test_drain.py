"""A process that goes down ends its runs within the time it has, tells their readers, and leaves nothing."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator

import pytest

from tailrace import events
from tailrace.errors import DrainingError, RunNotFoundError
from tailrace.events import Event
from tailrace.runtime import runs as runs_module
from tailrace.runtime.limits import Limits
from tailrace.runtime.run import Run
from tailrace.runtime.runs import Runs
from tailrace.stores.contract import OPEN
from tailrace.stores.memory import MemoryStore
from tailrace.testing import FakeClock, FaultyStore, collect
from tests.runtime.feed import Feed
from tests.runtime.reading import BOUND_SECONDS, finish, read_until
from tests.runtime.workers import OpenRuns

KEY = "k" * 20
INTERRUPTED = events.RunInterrupted(reason="shutdown")
FOR_EVER = 1_000_000


async def deaf(released: asyncio.Event, ignored: asyncio.Event | None = None) -> AsyncGenerator[str]:
    """Ignores every cancellation until it is released."""
    yield "word"
    while not released.is_set():
        try:
            await released.wait()
        except asyncio.CancelledError:
            if ignored is not None:
                ignored.set()


def blocking(released: threading.Event) -> Generator[str]:
    yield "word"
    released.wait(BOUND_SECONDS)


async def last_of(run: Run) -> Event:
    return (await collect(run))[-1].event


# Draining --------------------------------------------------------------------------------------------------------


async def test_a_drain_lets_runs_finish_and_then_returns_at_once(runs: Runs, feed: Feed) -> None:
    run = await runs.start(feed.source)
    draining = asyncio.create_task(runs.drain(BOUND_SECONDS * 10))
    await read_until(runs, run.id, 1)

    feed.put("word", None)

    async with asyncio.timeout(BOUND_SECONDS):
        await draining
    assert isinstance((await finish(runs, run))[-1].event, events.RunCompleted)
    assert runs.live_count == 0


async def test_a_drain_without_runs_returns_at_once(runs: Runs) -> None:
    async with asyncio.timeout(1):
        await runs.drain(BOUND_SECONDS)

    assert runs.draining


async def test_what_did_not_finish_in_time_is_interrupted_and_closed(runs: Runs, remote: Runs, feed: Feed) -> None:
    run = await runs.start(feed.source)
    await read_until(runs, run.id, 1)

    await runs.drain(0.05)

    assert (await finish(runs, run))[-1].event == INTERRUPTED
    assert (await collect(remote.follow(run.id)))[-1].event == INTERRUPTED
    assert feed.closed
    assert (await runs.info(run.id)).status == "interrupted"


async def test_a_drain_ends_sources_that_do_not_stop_within_its_time(open_runs: OpenRuns) -> None:
    """However patient the runs are with their sources otherwise."""
    runs = open_runs(patience_seconds=BOUND_SECONDS)
    released, thread_released = asyncio.Event(), threading.Event()
    stubborn = [await runs.start(deaf(released)), await runs.start(blocking(thread_released))]
    for run in stubborn:
        await read_until(runs, run.id, 2)
    began = asyncio.get_running_loop().time()

    await runs.drain(0.4)

    took_seconds = asyncio.get_running_loop().time() - began
    states = [(await runs.info(run.id)).status for run in stubborn]
    released.set()
    thread_released.set()
    assert states == ["interrupted", "interrupted"]
    assert took_seconds < 0.6
    assert [(await finish(runs, run))[-1].event for run in stubborn] == [INTERRUPTED, INTERRUPTED]


async def test_a_drain_returns_in_time_without_a_store(runs: Runs, store: FaultyStore, feed: Feed) -> None:
    run = await runs.start(feed.source)
    await read_until(runs, run.id, 1)
    store.unavailable(FOR_EVER)
    feed.put("word")

    async with asyncio.timeout(BOUND_SECONDS):
        await runs.drain(0.05)

    store.heal()
    assert (await finish(runs, run))[-1].event == INTERRUPTED


async def test_a_drain_with_no_time_interrupts_everything(runs: Runs, feed: Feed) -> None:
    run = await runs.start(feed.source)
    await read_until(runs, run.id, 1)

    await runs.drain(0)

    assert (await finish(runs, run))[-1].event == INTERRUPTED


async def test_a_draining_process_starts_nothing_and_closes_what_it_was_given(runs: Runs) -> None:
    feed = Feed()
    generator = feed.source()
    await runs.drain(0)

    with pytest.raises(DrainingError):
        await runs.start(generator)
    with pytest.raises(DrainingError):
        await runs.start(["word"], key=KEY)

    with pytest.raises(StopAsyncIteration):
        await anext(generator)
    assert runs.live_count == 0


async def test_a_draining_process_still_finds_the_run_of_a_known_key(runs: Runs, feed: Feed) -> None:
    run = await runs.start(feed.source, key=KEY)
    draining = asyncio.create_task(runs.drain(BOUND_SECONDS))
    await read_until(runs, run.id, 1)

    again = await runs.start(["other"], key=KEY)
    feed.put(None)

    await draining
    assert (again.id, again.started) == (run.id, False)
    assert isinstance((await finish(runs, again))[-1].event, events.RunCompleted)


async def test_a_start_that_was_under_way_when_the_drain_began_is_refused(
    runs: Runs, store: FaultyStore, remote: Runs
) -> None:
    gate = asyncio.Event()
    store.delay(gate, operation="create", applied=True)
    starting = asyncio.create_task(runs.start(["word"], key=KEY))
    await store.paused("create")

    await runs.drain(0)
    gate.set()

    with pytest.raises(DrainingError):
        await starting
    assert runs.live_count == 0
    assert (await remote.start(["word"], key=KEY)).started


async def test_runs_may_begin_again_after_a_drain(runs: Runs) -> None:
    await runs.drain(0)

    await runs.open()

    assert await (await runs.start(["word"])).text() == "word"


# Closing ---------------------------------------------------------------------------------------------------------


class KeptStore(FaultyStore):
    """Can still be looked at when it was closed."""

    async def aclose(self) -> None:
        """Keep everything."""


@pytest.fixture
def kept_store(clock: FakeClock) -> KeptStore:
    return KeptStore(MemoryStore(monotonic=clock.monotonic))


async def test_leaving_the_block_ends_what_still_runs_and_tells_its_readers(
    kept_store: KeptStore, clock: FakeClock, feed: Feed
) -> None:
    async with Runs(kept_store, clock=clock) as runs:
        run = await runs.start(feed.source)
        reading = asyncio.create_task(collect(run))
        await read_until(runs, run.id, 1)

    assert (await reading)[-1].event == INTERRUPTED
    assert feed.closed
    assert (await finish(runs, run))[-1].event == INTERRUPTED


async def test_a_run_that_was_only_just_started_is_ended_and_closed(kept_store: KeptStore, clock: FakeClock) -> None:
    steps: list[str] = []

    async def source() -> AsyncGenerator[str]:
        try:
            steps.append("began")
            yield "word"
            await asyncio.Event().wait()
        finally:
            steps.append("closed")

    async with Runs(kept_store, clock=clock) as runs:
        run = await runs.start(source)

    assert (await finish(runs, run))[-1].event == INTERRUPTED
    assert steps in ([], ["began", "closed"])


async def test_a_source_that_never_stops_does_not_keep_the_process_and_its_end_is_stored(
    kept_store: KeptStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run is ended by the closing itself, in the last moment there is."""
    monkeypatch.setattr(runs_module, "_SEALING_SECONDS", 0.02)
    released, ignored, thread_released = asyncio.Event(), asyncio.Event(), threading.Event()
    runs = Runs(kept_store, clock=clock, limits=Limits(patience_seconds=BOUND_SECONDS))
    stubborn = [await runs.start(deaf(released, ignored)), await runs.start(blocking(thread_released))]
    for run in stubborn:
        await read_until(runs, run.id, 2)
    cancelled = await stubborn[0].cancel()
    readings = [asyncio.create_task(collect(run)) for run in stubborn]
    kept_store.delay(0.01)

    async with asyncio.timeout(1):
        await ignored.wait()
        await runs.aclose()

    endings = [(await reading)[-1].event for reading in readings]
    stored = [(await kept_store.info(run.id)).state for run in stubborn]
    released.set()
    thread_released.set()
    assert cancelled
    assert endings == [events.RunCancelled(reason="user"), INTERRUPTED]
    assert OPEN not in stored


async def test_readers_are_told_when_the_store_does_not_take_the_end(
    kept_store: KeptStore, clock: FakeClock, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "_SEALING_SECONDS", 0.02)
    monkeypatch.setattr(runs_module, "_LAST_WRITES_SECONDS", 0.02)
    runs = Runs(kept_store, clock=clock)
    run = await runs.start(feed.source)
    reading = asyncio.create_task(collect(run))
    await read_until(runs, run.id, 1)
    kept_store.unavailable(FOR_EVER)

    async with asyncio.timeout(1):
        await runs.aclose()

    entries = await reading
    failed = entries[-1].event
    assert [entry.seq for entry in entries] == [1, 0]
    assert isinstance(failed, events.RunFailed)
    assert failed.code == "store_unavailable"


async def test_closing_twice_is_harmless(runs: Runs) -> None:
    await finish(runs, await runs.start(["word"]))

    await runs.aclose()
    await runs.aclose()

    assert runs.live_count == 0


async def test_a_process_that_never_started_anything_closes(runs: Runs) -> None:
    await runs.aclose()

    with pytest.raises(DrainingError):
        await runs.start(["word"])
    with pytest.raises(RunNotFoundError):
        await runs.attach("r" * 26)


async def test_a_reopened_process_works_like_a_new_one(runs: Runs) -> None:
    await finish(runs, await runs.start(["word"]))
    await runs.aclose()

    await runs.open()

    assert await (await runs.start(["again"])).text() == "again"
