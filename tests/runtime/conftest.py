"""Runs on a store that can fail, and a check that nothing is left of them: no task, thread, generator or complaint."""

import asyncio
import gc
import threading
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest

from tailrace.runtime import committer
from tailrace.runtime.limits import Limits
from tailrace.runtime.runs import Runs
from tailrace.stores.memory import MemoryStore
from tailrace.testing import FakeClock, FaultyStore
from tests.runtime.feed import Feed
from tests.runtime.reading import BOUND_SECONDS
from tests.runtime.workers import OpenRuns

PATIENCE_SECONDS = 0.05
_TURNS = 20


def _live_generators() -> set[int]:
    """Async generators of the running loop that have begun and not ended."""
    generators = vars(asyncio.get_running_loop())["_asyncgens"]
    return {id(generator) for generator in generators if generator.ag_frame is not None}


def _source_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "tailrace-source"}


async def _settle() -> None:
    """Let what was told to end do so."""
    for thread in _source_threads():
        thread.join(BOUND_SECONDS)
    for _ in range(_TURNS):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncGenerator[None]:
    """Fail a test that leaves a task, a source's thread, a live async generator, or an error that nobody asked for."""
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    tasks, generators, threads = asyncio.all_tasks(), _live_generators(), _source_threads()
    yield
    left = asyncio.all_tasks() - tasks - {asyncio.current_task()}
    await _settle()
    still_left = [task for task in left if not task.done()]
    live = _live_generators() - generators
    del left
    gc.collect(1)
    assert not still_left
    assert not live
    assert not _source_threads() - threads
    assert not complaints


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "_FIRST_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(committer, "_LONGEST_BACKOFF_SECONDS", 0.004)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> FaultyStore:
    return FaultyStore(MemoryStore(monotonic=clock.monotonic))


@pytest.fixture
async def open_runs(store: FaultyStore, clock: FakeClock) -> AsyncGenerator[OpenRuns]:
    """Open a `Runs` on the store, like another worker; bounds are given by name. All are closed after the test."""
    async with AsyncExitStack() as stack:
        opened: list[Runs] = []

        def open_runs(*, max_events: int = 100_000, max_bytes: int = 16 * 1024**2, **bounds: float) -> Runs:
            limits = msgspec.structs.replace(Limits(patience_seconds=PATIENCE_SECONDS), **bounds)
            runs = Runs(store, clock=clock, limits=limits, max_events=max_events, max_bytes=max_bytes)
            stack.push_async_callback(runs.aclose)
            opened.append(runs)
            return runs

        yield open_runs
    await _settle()
    assert [(runs.live_count, runs.abandoned_count) for runs in opened] == [(0, 0)] * len(opened)


@pytest.fixture
def runs(open_runs: OpenRuns) -> Runs:
    return open_runs()


@pytest.fixture
def remote(open_runs: OpenRuns) -> Runs:
    """Another worker: it reads from the store what `runs` produces."""
    return open_runs()


@pytest.fixture
def feed() -> Feed:
    return Feed()
