"""A sync source runs on a thread of its own: it may block, raise and hang without holding anybody else."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Generator, Iterator

import pytest

from tailrace import emit, events, fold
from tailrace.runtime.run import Run
from tailrace.runtime.runs import Runs
from tests.runtime.feed import Feed
from tests.runtime.reading import BOUND_SECONDS, finish, read_until
from tests.runtime.workers import OpenRuns

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Blocking:
    """A sync source that blocks after its first word.

    Attributes:
        steps: What happened to it.
        blocked: Set when it is about to block.
        released: Lets it go on.
    """

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.blocked = asyncio.Event()
        self.released = threading.Event()
        self._loop = asyncio.get_running_loop()

    def source(self) -> Generator[str]:
        try:
            yield "word"
            self.steps.append("blocked")
            self._loop.call_soon_threadsafe(self.blocked.set)
            self.released.wait(BOUND_SECONDS)
            yield "after"
            self.steps.append("went on")
        finally:
            self.steps.append("closed")


@pytest.fixture
async def blocking() -> Blocking:
    return Blocking()


async def start_and_wait(runs: Runs, blocking: Blocking) -> Run:
    run = await runs.start(blocking.source)
    async with asyncio.timeout(BOUND_SECONDS):
        await blocking.blocked.wait()
    return run


async def join_threads() -> None:
    for thread in threading.enumerate():
        if thread.name == "tailrace-source":
            await asyncio.to_thread(thread.join, BOUND_SECONDS)


async def test_a_source_that_blocks_holds_nobody_else(runs: Runs, blocking: Blocking) -> None:
    run = await start_and_wait(runs, blocking)

    other = await finish(runs, await runs.start(["quick"]))
    blocking.released.set()

    assert fold.reduce(other).text == "quick"
    assert fold.reduce(await finish(runs, run)).text == "wordafter"
    assert blocking.steps == ["blocked", "went on", "closed"]


async def test_a_blocked_source_that_wakes_up_in_time_is_closed_and_not_abandoned(
    open_runs: OpenRuns, blocking: Blocking
) -> None:
    runs = open_runs(patience_seconds=BOUND_SECONDS)
    run = await start_and_wait(runs, blocking)

    await run.cancel()
    blocking.released.set()

    assert (await finish(runs, run))[-1].event == events.RunCancelled(reason="user")
    assert blocking.steps[-1] == "closed"
    assert runs.abandoned_count == 0


async def test_a_blocked_source_is_abandoned_and_counted_until_it_wakes_up(runs: Runs, blocking: Blocking) -> None:
    run = await start_and_wait(runs, blocking)

    await run.cancel()

    entries = await finish(runs, run)
    counted = runs.abandoned_count
    blocking.released.set()
    await join_threads()
    assert entries[-1].event == events.RunCancelled(reason="user")
    assert fold.reduce(entries).text == "word"
    assert counted == 1
    assert blocking.steps == ["blocked", "closed"]


async def test_a_blocked_source_that_takes_too_long_times_out(runs: Runs, blocking: Blocking) -> None:
    run = await runs.start(blocking.source, timeout=0.01)

    entries = await finish(runs, run)
    blocking.released.set()

    failed = entries[-1].event
    assert isinstance(failed, events.RunFailed)
    assert failed.code == "timeout"


async def test_an_abandoned_thread_makes_room_for_another_source(open_runs: OpenRuns, blocking: Blocking) -> None:
    runs = open_runs(source_threads=1)
    run = await start_and_wait(runs, blocking)
    await run.cancel()
    await finish(runs, run)

    entries = await finish(runs, await runs.start(["next"]))
    blocking.released.set()

    assert fold.reduce(entries).text == "next"


async def test_abandoned_threads_are_not_replaced_without_end(open_runs: OpenRuns, feed: Feed) -> None:
    runs = open_runs(source_threads=1)
    stuck = [Blocking(), Blocking()]
    for blocking in stuck:
        run = await start_and_wait(runs, blocking)
        await run.cancel()
        await finish(runs, run)

    third = Blocking()
    waiting = await runs.start(third.source)
    feed.put("word", None)
    await finish(runs, await runs.start(feed.source))
    waited = await read_until(runs, waiting.id, 1)
    threads = [thread for thread in threading.enumerate() if thread.name == "tailrace-source"]
    for blocking in [*stuck, third]:
        blocking.released.set()

    assert len(threads) == 2
    assert len(waited) == 1
    assert fold.reduce(await finish(runs, waiting)).text == "wordafter"


async def test_no_more_sources_run_at_a_time_than_threads_are_allowed(open_runs: OpenRuns, blocking: Blocking) -> None:
    runs = open_runs(source_threads=1)
    first = await start_and_wait(runs, blocking)
    steps: list[str] = []

    def second() -> Generator[str]:
        steps.append("second")
        yield "second"

    run = await runs.start(second)
    await read_until(runs, run.id, 1)
    before = list(steps)
    blocking.released.set()

    await finish(runs, first)
    assert fold.reduce(await finish(runs, run)).text == "second"
    assert (before, steps) == ([], ["second"])


class Steps:
    """A sync iterator that counts how often it is closed."""

    def __init__(self) -> None:
        self.taken = 0
        self.closed = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.taken += 1
        return "step"

    def close(self) -> None:
        self.closed += 1


async def test_a_source_that_is_cancelled_while_it_waits_for_a_thread_is_closed(
    open_runs: OpenRuns, blocking: Blocking
) -> None:
    runs = open_runs(source_threads=1)
    first = await start_and_wait(runs, blocking)
    steps = Steps()
    waiting = await runs.start(steps)
    await read_until(runs, waiting.id, 1)

    await waiting.cancel()

    assert (await finish(runs, waiting))[-1].event == events.RunCancelled(reason="user")
    assert (steps.taken, steps.closed) == (0, 1)
    blocking.released.set()
    await finish(runs, first)
    assert fold.reduce(await finish(runs, await runs.start(["next"]))).text == "next"


async def test_an_endless_source_that_never_blocks_is_stopped(open_runs: OpenRuns) -> None:
    class Endless(Steps):
        def __next__(self) -> str:
            word = "" if self.taken else "word"
            self.taken += 1
            return word

    runs = open_runs(patience_seconds=BOUND_SECONDS)
    steps = Endless()
    run = await runs.start(steps)
    await read_until(runs, run.id, 2)

    await run.cancel()

    assert (await finish(runs, run))[-1].event == events.RunCancelled(reason="user")
    assert steps.closed == 1


ERRORS: dict[str, Callable[[], BaseException]] = {
    "an error": lambda: ValueError("secret"),
    "a group of exits": lambda: BaseExceptionGroup("secret", [SystemExit(1)]),
    "an exit": lambda: SystemExit("secret"),
    "an interrupt": lambda: KeyboardInterrupt("secret"),
    "the exit of a generator": lambda: GeneratorExit("secret"),
    "the end of an iteration": lambda: StopIteration("secret"),
    "a cancellation": lambda: asyncio.CancelledError("secret"),
}


@pytest.mark.parametrize("words", [0, 2])
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
async def test_whatever_a_sync_source_raises_fails_its_run(
    runs: Runs, caplog: pytest.LogCaptureFixture, error: Callable[[], BaseException], words: int
) -> None:
    steps: list[str] = []

    def source() -> Generator[str]:
        try:
            for _ in range(words):
                yield "word "
            raise error()
        finally:
            steps.append("closed")

    entries = await finish(runs, await runs.start(source))

    failed = entries[-1].event
    assert isinstance(failed, events.RunFailed)
    assert (failed.code, failed.message) == ("error", "Something went wrong.")
    assert "secret" in caplog.text
    assert fold.reduce(entries).text == "word " * words
    assert steps == ["closed"]


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
async def test_an_iterable_that_raises_before_it_can_be_stepped_fails_its_run(
    runs: Runs, error: Callable[[], BaseException]
) -> None:
    class Iterable(Steps):
        def __iter__(self) -> Iterator[str]:
            raise error()

    iterable = Iterable()

    entries = await finish(runs, await runs.start(iterable))

    failed = entries[-1].event
    assert isinstance(failed, events.RunFailed)
    assert failed.code == "error"
    assert iterable.closed == 1


async def test_a_failure_to_close_is_logged_and_changes_nothing(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Steps):
        def __next__(self) -> str:
            raise StopIteration

        def close(self) -> None:
            raise OSError("already gone")

    entries = await finish(runs, await runs.start(Broken()))

    assert isinstance(entries[-1].event, events.RunCompleted)
    assert "failed while it was being closed" in caplog.text


async def test_a_machine_without_threads_fails_the_run_and_keeps_the_place(
    open_runs: OpenRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = open_runs(source_threads=1)

    steps = Steps()

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        failed = await finish(runs, await runs.start(steps))

    assert isinstance(failed[-1].event, events.RunFailed)
    assert (steps.taken, steps.closed) == (0, 1)
    assert fold.reduce(await finish(runs, await runs.start(["word"]))).text == "word"


async def test_a_thread_sees_the_context_of_its_start_and_keeps_its_own(runs: Runs) -> None:
    seen: list[str] = []
    VARIABLE.set("starter")

    def source() -> Generator[str]:
        seen.append(VARIABLE.get())
        VARIABLE.set("source")
        emit(events.Status("emitted"))
        yield "word"
        seen.append(VARIABLE.get())

    entries = await finish(runs, await runs.start(source))

    assert seen == ["starter", "source"]
    assert VARIABLE.get() == "starter"
    assert [events.event_type(entry.event) for entry in entries[1:3]] == ["status", "text.delta"]
