"""A cancel ends a run because of whoever asked first, from whatever worker, and says whether it did."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from tailrace import events
from tailrace.errors import RunFailedError, RunNotFoundError, StoreUnavailableError
from tailrace.events import CancelReason
from tailrace.runtime.runs import Runs
from tailrace.testing import FakeClock, FaultyStore, collect
from tests.runtime.feed import Feed
from tests.runtime.reading import finish, read_until


@pytest.mark.parametrize("reason", ["user", "superseded", "disconnect", "abandoned"])
async def test_a_run_ends_with_the_reason_of_its_cancel(runs: Runs, feed: Feed, reason: CancelReason) -> None:
    run = await runs.start(feed.source)
    await read_until(runs, run.id, 1)

    cancelled = await runs.cancel(run.id, reason)

    assert cancelled
    assert (await finish(runs, run))[-1].event == events.RunCancelled(reason=reason)
    assert feed.closed
    assert (await runs.info(run.id)).status == "cancelled"


async def test_only_the_first_cancel_ends_the_run(runs: Runs, feed: Feed) -> None:
    run = await runs.start(feed.source)
    await read_until(runs, run.id, 1)

    answers = [await runs.cancel(run.id, "superseded"), await runs.cancel(run.id, "user")]

    assert answers == [True, False]
    assert (await finish(runs, run))[-1].event == events.RunCancelled(reason="superseded")


async def test_a_run_that_has_ended_is_not_cancelled(runs: Runs, remote: Runs) -> None:
    run = await runs.start(["word"])
    log = await finish(runs, run)

    answers = [await runs.cancel(run.id), await remote.cancel(run.id), await run.cancel()]

    assert answers == [False, False, False]
    assert await finish(runs, run) == log


async def test_a_run_whose_end_is_on_its_way_to_the_store_is_not_cancelled(
    runs: Runs, store: FaultyStore, feed: Feed
) -> None:
    run = await runs.start(feed.source)
    await read_until(runs, run.id, 1)
    gate = asyncio.Event()
    store.delay(gate)
    feed.put(None)
    await store.paused()

    cancelled = await run.cancel()
    gate.set()

    assert not cancelled
    assert isinstance((await finish(runs, run))[-1].event, events.RunCompleted)


async def test_an_unknown_run_cannot_be_cancelled(runs: Runs) -> None:
    with pytest.raises(RunNotFoundError):
        await runs.cancel("r" * 26)


async def test_an_expired_run_cannot_be_cancelled(runs: Runs, clock: FakeClock) -> None:
    run = await runs.start(["word"])
    await finish(runs, run)
    await runs.drain(1)
    clock.advance(10_000)

    with pytest.raises(RunNotFoundError):
        await run.cancel()


async def test_what_was_said_before_the_cancel_is_kept(runs: Runs, feed: Feed) -> None:
    run = await runs.start(feed.source)
    feed.put("half an ans")
    await read_until(runs, run.id, 2)

    await run.cancel()

    with pytest.raises(RunFailedError) as failed:
        await run.text()
    assert (failed.value.status, failed.value.failure) == ("cancelled", "user")
    assert (await run.reduced()).text == "half an ans"


async def test_a_cancel_does_not_need_the_store_where_the_run_is_produced(
    runs: Runs, store: FaultyStore, feed: Feed
) -> None:
    run = await runs.start(feed.source)
    await read_until(runs, run.id, 1)
    store.unavailable(1, operation="cancel")
    store.unavailable(1)

    assert await run.cancel()

    assert (await finish(runs, run))[-1].event == events.RunCancelled(reason="user")


# From another worker ---------------------------------------------------------------------------------------------


async def test_another_workers_cancel_reaches_the_producer_with_its_next_write(
    runs: Runs, remote: Runs, feed: Feed
) -> None:
    run = await runs.start(feed.source)
    await read_until(runs, run.id, 1)

    answers = [await remote.cancel(run.id, "superseded"), await remote.cancel(run.id)]
    requested = (await remote.info(run.id)).cancel_requested
    feed.put("word")

    assert answers == [True, True]
    assert requested
    assert (await finish(runs, run))[-1].event == events.RunCancelled(reason="superseded")
    assert feed.closed


async def test_a_cancel_before_the_first_write_is_not_lost(runs: Runs, remote: Runs, store: FaultyStore) -> None:
    gate = asyncio.Event()
    store.delay(gate)

    async def source() -> AsyncGenerator[str]:
        await asyncio.Event().wait()
        yield "never"

    run = await runs.start(source)
    await store.paused()

    await remote.cancel(run.id)
    gate.set()

    assert (await finish(runs, run))[-1].event == events.RunCancelled(reason="user")


async def test_a_reason_of_another_version_counts_as_the_users(runs: Runs, store: FaultyStore, feed: Feed) -> None:
    run = await runs.start(feed.source)
    await read_until(runs, run.id, 1)

    await store.cancel(run.id, "a reason that is not known here")
    feed.put("word")

    assert (await finish(runs, run))[-1].event == events.RunCancelled(reason="user")


async def test_another_worker_without_a_store_cannot_cancel(
    runs: Runs, remote: Runs, store: FaultyStore, feed: Feed
) -> None:
    run = await runs.start(feed.source)
    await read_until(runs, run.id, 1)
    store.unavailable(1, operation="cancel")

    with pytest.raises(StoreUnavailableError):
        await remote.cancel(run.id)

    feed.put(None)
    await finish(runs, run)


async def test_a_reader_elsewhere_sees_the_end_of_a_cancelled_run(runs: Runs, remote: Runs, feed: Feed) -> None:
    run = await runs.start(feed.source)
    reading = asyncio.create_task(collect(remote.follow(run.id)))
    await read_until(remote, run.id, 1)

    await run.cancel()

    assert (await reading)[-1].event == events.RunCancelled(reason="user")
