"""A process that has as many runs as it may have starts no other, and still finds those that there are."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from tailrace.errors import BusyError, TailraceError
from tailrace.runtime.limits import Limits
from tailrace.runtime.run import Run
from tailrace.runtime.runs import Runs
from tailrace.stores.memory import MemoryStore
from tailrace.testing import FakeClock, FaultyStore
from tests.runtime.feed import Feed
from tests.runtime.reading import finish

KEY = "k" * 20


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore(monotonic=FakeClock().monotonic))


@pytest_asyncio.fixture
async def two(store: FaultyStore) -> AsyncGenerator[Runs]:
    """A process that may have two runs at a time."""
    async with Runs(store, limits=Limits(live_runs=2)) as runs:
        yield runs


async def test_one_run_too_many_is_refused_and_its_source_closed(two: Runs) -> None:
    feed, unused = Feed(), Feed()
    generator = unused.source()
    first, _ = await two.start(feed.source, key=KEY), await two.start(feed.source)

    with pytest.raises(BusyError) as refused:
        await two.start(generator)
    again = await two.start(unused.source, key=KEY)

    assert refused.value.limit == 2
    assert (again.id, again.started) == (first.id, False)
    with pytest.raises(StopAsyncIteration):
        await anext(generator)


async def test_a_run_that_has_ended_makes_room(two: Runs) -> None:
    feed = Feed()
    first, second = await two.start(feed.source), await two.start(Feed().source)
    feed.put(None)
    await finish(two, first)
    while two.live_count == 2:  # noqa: ASYNC110  readers know of the end a little sooner than it is over
        await asyncio.sleep(0)

    third = await two.start(["word"])

    assert third.started
    assert second.started


async def test_of_many_starts_at_once_as_many_begin_as_may(two: Runs, store: FaultyStore) -> None:
    gate = asyncio.Event()
    store.delay(gate, operation="create", applied=True)

    async def start(number: int) -> Run | TailraceError:
        try:
            return await two.start(Feed().source, key=f"{KEY}{number}")
        except TailraceError as error:
            return error

    starting = [asyncio.create_task(start(number)) for number in range(5)]
    await store.paused("create")
    gate.set()
    results = await asyncio.gather(*starting)

    assert sum(isinstance(result, Run) for result in results) == 2
    assert sum(isinstance(result, BusyError) for result in results) == 3
    assert two.live_count == 2


async def test_a_refused_start_leaves_nothing_behind(two: Runs, store: FaultyStore) -> None:
    for _ in range(2):
        await two.start(Feed().source)

    with pytest.raises(BusyError):
        await two.start(["word"], key=KEY)

    async with Runs(store) as other:
        assert (await other.start(["word"], key=KEY)).started
