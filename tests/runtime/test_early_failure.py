"""A run that fails before its first event while its starter waits for that never was: its key is free again."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from tailrace import emit, events
from tailrace.errors import RunNotFoundError, SourceInvalidError
from tailrace.runtime.run import Run
from tailrace.runtime.runs import Runs
from tailrace.runtime.supervisor import LiveRun, Order
from tailrace.testing import FaultyStore, collect
from tests.runtime.reading import BOUND_SECONDS, finish

RUN_ID = "r" * 26


async def begin(runs: Runs, source: Any) -> tuple[Run, LiveRun]:  # noqa: ANN401  good and bad sources
    run = await runs.order(RUN_ID, Order(source=source, early=True))
    live = runs.live(RUN_ID)
    assert live is not None
    return run, live


def ask_the_model() -> None:
    raise LookupError("no model")


async def raising() -> AsyncGenerator[str]:
    ask_the_model()
    yield "never"


async def test_the_starter_gets_what_the_source_raised_and_the_key_is_free(runs: Runs) -> None:
    _, live = await begin(runs, raising)

    error = await live.first_event(BOUND_SECONDS)

    assert isinstance(error, LookupError)
    with pytest.raises(RunNotFoundError):
        await runs.info(RUN_ID)
    again, _ = await begin(runs, ["word"])
    assert again.started
    assert await again.text() == "word"


async def test_garbage_instead_of_a_first_event_is_an_early_failure(runs: Runs) -> None:
    _, live = await begin(runs, [5])

    assert isinstance(await live.first_event(BOUND_SECONDS), SourceInvalidError)


async def test_the_source_is_closed_before_the_starter_is_told(runs: Runs) -> None:
    steps: list[str] = []

    async def source() -> AsyncGenerator[str]:
        try:
            ask_the_model()
            yield "never"
        finally:
            await asyncio.sleep(0)
            steps.append("closed")

    _, live = await begin(runs, source)

    await live.first_event(BOUND_SECONDS)

    assert steps == ["closed"]


async def test_a_failure_after_the_first_event_is_the_runs_own(runs: Runs) -> None:
    async def source() -> AsyncGenerator[str]:
        yield "word"
        raise LookupError("later")

    run, live = await begin(runs, source)

    assert await live.first_event(BOUND_SECONDS) is None
    entries = await finish(runs, run)
    assert isinstance(entries[-1].event, events.RunFailed)


async def test_an_emitted_event_is_a_first_event_too(runs: Runs) -> None:
    async def source() -> AsyncGenerator[str]:
        emit(events.Status("on it"))
        ask_the_model()
        yield "never"

    run, live = await begin(runs, source)

    assert await live.first_event(BOUND_SECONDS) is None
    assert isinstance((await finish(runs, run))[-1].event, events.RunFailed)


async def test_a_failure_after_a_first_event_that_is_not_stored_yet_is_the_runs_own(
    runs: Runs, store: FaultyStore
) -> None:
    gate = asyncio.Event()
    store.delay(gate)

    async def source() -> AsyncGenerator[str]:
        yield "word"
        raise LookupError("later")

    run, live = await begin(runs, source)
    waiting = asyncio.create_task(live.first_event(BOUND_SECONDS))
    await store.paused()
    async with asyncio.timeout(BOUND_SECONDS):
        # Its failure is in the log, if it is the run's own.
        while live.log.length < 3:  # noqa: ASYNC110
            await asyncio.sleep(0)
    gate.set()

    assert await waiting is None
    assert isinstance((await finish(runs, run))[-1].event, events.RunFailed)


async def test_a_failure_after_the_waiting_is_the_runs_own(runs: Runs) -> None:
    released = asyncio.Event()

    async def source() -> AsyncGenerator[str]:
        await released.wait()
        ask_the_model()
        yield "never"

    run, live = await begin(runs, source)

    early = await live.first_event(0.01)
    released.set()

    assert early is None
    assert isinstance((await finish(runs, run))[-1].event, events.RunFailed)


@pytest.mark.parametrize("source", [list[str](), [events.RunCompleted()]], ids=["nothing", "only its end"])
async def test_a_source_that_ends_without_an_event_has_not_failed(runs: Runs, source: list[Any]) -> None:
    run, live = await begin(runs, source)

    assert await live.first_event(BOUND_SECONDS) is None
    assert isinstance((await finish(runs, run))[-1].event, events.RunCompleted)


async def test_a_failure_that_the_source_reports_is_the_runs_own(runs: Runs) -> None:
    run, live = await begin(runs, [events.RunFailed(code="provider_down", message="Later.")])

    assert await live.first_event(BOUND_SECONDS) is None
    assert isinstance((await finish(runs, run))[-1].event, events.RunFailed)


async def test_a_cancelled_run_has_not_failed(runs: Runs) -> None:
    async def source() -> AsyncGenerator[str]:
        await asyncio.Event().wait()
        yield "never"

    run, live = await begin(runs, source)

    await run.cancel()

    assert await live.first_event(BOUND_SECONDS) is None
    assert (await finish(runs, run))[-1].event == events.RunCancelled(reason="user")


async def test_without_a_waiting_starter_the_failure_is_the_runs_own(runs: Runs) -> None:
    run = await runs.start(raising)

    assert isinstance((await finish(runs, run))[-1].event, events.RunFailed)


async def test_whoever_attached_meanwhile_is_told_of_the_failure(runs: Runs) -> None:
    released = asyncio.Event()

    async def source() -> AsyncGenerator[str]:
        await released.wait()
        ask_the_model()
        yield "never"

    run, live = await begin(runs, source)
    reading = asyncio.create_task(collect(run))
    waiting = asyncio.create_task(live.first_event(BOUND_SECONDS))
    released.set()

    error, entries = await waiting, await reading

    assert isinstance(error, LookupError)
    assert [entry.seq for entry in entries] == [1, 0]
    failed = entries[-1].event
    assert isinstance(failed, events.RunFailed)
    assert failed.code == "error"


async def test_whoever_attached_is_told_even_if_a_write_is_refused_while_the_key_is_released(
    runs: Runs, store: FaultyStore
) -> None:
    commit, purge = asyncio.Event(), asyncio.Event()
    store.delay(commit)
    store.delay(purge, operation="purge", applied=True)
    run, live = await begin(runs, raising)
    reading = asyncio.create_task(collect(run))
    await store.paused("commit")
    await store.paused("purge")

    # The write that was under way finds no run; the other run's comes after it.
    commit.set()
    await finish(runs, await runs.start(["word"]))
    purge.set()

    assert isinstance(await live.first_event(BOUND_SECONDS), LookupError)
    entries = await reading
    assert [entry.seq for entry in entries] == [0]
    assert isinstance(entries[-1].event, events.RunFailed)
    with pytest.raises(RunNotFoundError):
        await runs.info(RUN_ID)


async def test_a_key_that_cannot_be_released_is_told_all_the_same(runs: Runs, store: FaultyStore) -> None:
    store.unavailable(1, operation="purge")
    _, live = await begin(runs, raising)

    assert isinstance(await live.first_event(BOUND_SECONDS), LookupError)


async def test_a_second_start_at_the_moment_of_the_failure_begins_anew(runs: Runs, store: FaultyStore) -> None:
    """It lost to the first start, which then failed before the second could look at its run."""
    gate = asyncio.Event()
    released = asyncio.Event()

    async def source() -> AsyncGenerator[str]:
        await released.wait()
        ask_the_model()
        yield "never"

    _, live = await begin(runs, source)
    store.delay(gate, operation="info")
    second = asyncio.create_task(runs.order(RUN_ID, Order(source=["word"])))
    await store.paused("info")
    released.set()
    await live.first_event(BOUND_SECONDS)
    gate.set()

    run = await second

    assert run.started
    assert await run.text() == "word"


async def test_an_early_failure_does_not_write_into_the_next_run_of_its_key(runs: Runs, store: FaultyStore) -> None:
    commit = asyncio.Event()
    store.delay(commit)
    _, live = await begin(runs, raising)
    await store.paused()
    error = await live.first_event(BOUND_SECONDS)

    again, _ = await begin(runs, ["word"])
    commit.set()

    assert isinstance(error, LookupError)
    assert len(await finish(runs, again)) == 3


CALLABLES: dict[str, Callable[[], Any]] = {"a callable": lambda: 1 / 0, "a generator": raising}


@pytest.mark.parametrize("source", CALLABLES.values(), ids=CALLABLES)
async def test_nothing_is_left_of_an_early_failure(runs: Runs, source: Callable[[], Any]) -> None:
    _, live = await begin(runs, source)

    await live.first_event(BOUND_SECONDS)

    assert await runs.active() == []
    assert runs.abandoned_count == 0
