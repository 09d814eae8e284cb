"""However a source behaves, its run ends once, as defined, and its source is closed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest

from tailrace import events, fold
from tailrace.events import Entry
from tailrace.runtime.run import Run
from tailrace.runtime.runs import Runs
from tailrace.runtime.source import SourceLike
from tests.runtime.reading import BOUND_SECONDS, finish
from tests.runtime.workers import OpenRuns


class Probe:
    """An async source in the hands of the test.

    Attributes:
        steps: What happened to it, in order.
        begun: Set when it has said its first word and waits.
        released: Lets it go on.
    """

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.begun = asyncio.Event()
        self.released = asyncio.Event()

    async def obedient(self) -> AsyncGenerator[Any]:
        """Waits until it is cancelled."""
        try:
            yield "word"
            self.begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.steps.append("cancelled")
            raise
        finally:
            self.steps.append("closed")

    async def deaf(self) -> AsyncGenerator[Any]:
        """Ignores every cancellation until it is released."""
        try:
            yield "word"
            self.begun.set()
            while not self.released.is_set():
                try:
                    await self.released.wait()
                except asyncio.CancelledError:
                    self.steps.append("ignored")
            yield "after the end"
            self.steps.append("went on")
        finally:
            self.steps.append("closed")

    async def stubborn(self) -> AsyncGenerator[Any]:
        """Swallows the cancellation and goes on talking."""
        try:
            yield "word"
            self.begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.steps.append("ignored")
            yield "after the end"
            self.steps.append("went on")
        finally:
            self.steps.append("closed")

    async def slow_to_close(self) -> AsyncGenerator[Any]:
        """Hangs in its `finally`."""
        try:
            yield "word"
            self.begun.set()
            await asyncio.Event().wait()
        finally:
            try:
                await asyncio.Event().wait()
            finally:
                self.steps.append("closed")

    async def failing_to_close(self) -> AsyncGenerator[Any]:
        """Raises when it is cancelled."""
        try:
            yield "word"
            self.begun.set()
            await asyncio.Event().wait()
        finally:
            self.steps.append("closed")
            raise LookupError("in finally")


@pytest.fixture
def probe() -> Probe:
    return Probe()


def last_of(entries: list[Entry]) -> events.Event:
    return entries[-1].event


async def start_and_wait(runs: Runs, source: SourceLike, begun: asyncio.Event) -> Run:
    run = await runs.start(source)
    async with asyncio.timeout(BOUND_SECONDS):
        await begun.wait()
    return run


# It raises -------------------------------------------------------------------------------------------------------

ERRORS: dict[str, Callable[[], BaseException]] = {
    "an error": lambda: ValueError("secret"),
    "a group": lambda: ExceptionGroup("secret", [ValueError("secret")]),
    "a group of exits": lambda: BaseExceptionGroup("secret", [SystemExit(1), ValueError("secret")]),
    "an exit": lambda: SystemExit("secret"),
    "an interrupt": lambda: KeyboardInterrupt("secret"),
    "the exit of a generator": lambda: GeneratorExit("secret"),
    "the end of an iteration": lambda: StopIteration("secret"),
    "the end of an async iteration": lambda: StopAsyncIteration("secret"),
    "a cancellation of its own": lambda: asyncio.CancelledError("secret"),
    "a timeout": lambda: TimeoutError("secret"),
}


@pytest.mark.parametrize("words", [0, 1, 3])
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
async def test_whatever_a_source_raises_fails_its_run_and_gives_nothing_away(
    runs: Runs, caplog: pytest.LogCaptureFixture, error: Callable[[], BaseException], words: int
) -> None:
    steps: list[str] = []

    async def source() -> AsyncGenerator[str]:
        try:
            for _ in range(words):
                yield "word "
            raise error()
        finally:
            steps.append("closed")

    entries = await finish(runs, await runs.start(source))

    failed = last_of(entries)
    assert isinstance(failed, events.RunFailed)
    assert (failed.code, failed.message, failed.retryable) == ("error", "Something went wrong.", None)
    assert failed.correlation_id is not None
    assert failed.correlation_id in caplog.text
    assert fold.reduce(entries).text == "word " * words
    assert steps == ["closed"]


class Raising:
    """An async iterator, no generator, that raises as it likes."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> object:
        raise self._error


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
async def test_an_iterator_that_is_no_generator_may_raise_the_same(
    runs: Runs, error: Callable[[], BaseException]
) -> None:
    raised = error()

    entries = await finish(runs, await runs.start(Raising(raised)))

    if isinstance(raised, StopAsyncIteration):
        assert isinstance(last_of(entries), events.RunCompleted)
    else:
        failed = last_of(entries)
        assert isinstance(failed, events.RunFailed)
        assert failed.code == "error"


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
async def test_a_callable_may_raise_the_same(runs: Runs, error: Callable[[], BaseException]) -> None:
    def source() -> list[str]:
        raise error()

    entries = await finish(runs, await runs.start(source))

    failed = last_of(entries)
    assert isinstance(failed, events.RunFailed)
    assert failed.code == "error"


async def test_one_failure_leaves_the_other_runs_alone(runs: Runs, probe: Probe) -> None:
    other = await start_and_wait(runs, probe.obedient, probe.begun)

    await finish(runs, await runs.start(Raising(SystemExit(1))))

    assert (await runs.info(other.id)).status == "running"
    await other.cancel()
    await finish(runs, other)


# It is cancelled -------------------------------------------------------------------------------------------------


async def test_a_cancelled_source_is_told_closed_and_over(runs: Runs, probe: Probe) -> None:
    run = await start_and_wait(runs, probe.obedient, probe.begun)

    await run.cancel()

    entries = await finish(runs, run)
    assert last_of(entries) == events.RunCancelled(reason="user")
    assert probe.steps == ["cancelled", "closed"]


async def test_a_source_that_ignores_the_cancellation_is_abandoned_and_counted_until_it_ends(
    runs: Runs, probe: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    run = await start_and_wait(runs, probe.deaf, probe.begun)

    await run.cancel()

    entries = await finish(runs, run)
    counted = runs.abandoned_count
    (abandoned,) = [task for task in asyncio.all_tasks() if task.get_name() == "tailrace-source"]
    probe.released.set()
    await asyncio.wait({abandoned}, timeout=BOUND_SECONDS)
    assert last_of(entries) == events.RunCancelled(reason="user")
    assert fold.reduce(entries).text == "word"
    assert counted == 1
    assert "was abandoned" in caplog.text
    assert probe.steps[-1] == "closed"
    assert "went on" not in probe.steps


async def test_what_a_source_yields_after_the_cancellation_is_not_taken_and_closes_it(runs: Runs, probe: Probe) -> None:
    run = await start_and_wait(runs, probe.stubborn, probe.begun)

    await run.cancel()

    entries = await finish(runs, run)
    assert last_of(entries) == events.RunCancelled(reason="user")
    assert fold.reduce(entries).text == "word"
    assert probe.steps == ["ignored", "closed"]


async def test_a_source_that_hangs_while_it_is_closed_does_not_hold_its_run(runs: Runs, probe: Probe) -> None:
    run = await start_and_wait(runs, probe.slow_to_close, probe.begun)

    await run.cancel()

    entries = await finish(runs, run)
    assert last_of(entries) == events.RunCancelled(reason="user")
    assert probe.steps == ["closed"]


async def test_what_a_source_raises_when_it_is_cancelled_is_logged_and_changes_nothing(
    runs: Runs, probe: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    run = await start_and_wait(runs, probe.failing_to_close, probe.begun)

    await run.cancel()

    entries = await finish(runs, run)
    assert last_of(entries) == events.RunCancelled(reason="user")
    assert probe.steps == ["closed"]
    assert "in finally" in caplog.text


async def test_a_source_that_is_cancelled_before_its_first_step_is_closed_and_never_runs(runs: Runs) -> None:
    steps: list[str] = []

    class Stream:
        def __aiter__(self) -> AsyncIterator[Any]:
            steps.append("began")
            return self

        async def __anext__(self) -> object:
            raise StopAsyncIteration

        async def close(self) -> None:
            await asyncio.sleep(0)
            steps.append("closed")

    run = await runs.start(Stream())

    cancelled = await run.cancel()

    entries = await finish(runs, run)
    assert cancelled
    assert len(entries) == 2
    assert last_of(entries) == events.RunCancelled(reason="user")
    assert steps == ["closed"]


async def test_a_source_cancelled_before_its_first_step_that_hangs_in_its_close_does_not_hold_its_run(
    runs: Runs,
) -> None:
    class Stream(Raising):
        async def aclose(self) -> None:
            await asyncio.Event().wait()

    run = await runs.start(Stream(LookupError()))

    await run.cancel()

    assert last_of(await finish(runs, run)) == events.RunCancelled(reason="user")


async def test_a_callable_that_is_cancelled_while_it_is_awaited_ends(runs: Runs) -> None:
    steps: list[str] = []
    begun = asyncio.Event()

    async def source() -> AsyncIterator[Any]:
        try:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError("unreachable")
        finally:
            steps.append("closed")

    run = await start_and_wait(runs, source, begun)

    await run.cancel()

    assert last_of(await finish(runs, run)) == events.RunCancelled(reason="user")
    assert steps == ["closed"]


# It takes too long -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["obedient", "stubborn", "slow_to_close"])
async def test_a_run_that_takes_too_long_fails_and_is_stopped(runs: Runs, probe: Probe, kind: str) -> None:
    run = await runs.start(getattr(probe, kind), timeout=0.01)

    entries = await finish(runs, run)

    failed = last_of(entries)
    assert isinstance(failed, events.RunFailed)
    assert (failed.code, failed.message) == ("timeout", "The answer took too long.")
    assert probe.steps[-1] == "closed"


async def test_a_source_that_never_says_a_word_times_out(runs: Runs) -> None:
    closed: list[str] = []

    async def source() -> AsyncGenerator[str]:
        try:
            await asyncio.Event().wait()
            yield "never"
        finally:
            closed.append("closed")

    entries = await finish(runs, await runs.start(source, timeout=0.01))

    failed = last_of(entries)
    assert isinstance(failed, events.RunFailed)
    assert failed.code == "timeout"
    assert len(entries) == 2
    assert closed == ["closed"]


async def test_a_source_that_never_waits_can_still_be_cancelled(runs: Runs) -> None:
    closed: list[str] = []
    begun = asyncio.Event()

    async def source() -> AsyncGenerator[str]:
        try:
            # Not for ever: if nobody gets a turn, the test shall fail and not hang.
            for _ in range(100_000):
                begun.set()
                yield ""
            closed.append("came to its end")
        finally:
            closed.append("closed")

    run = await start_and_wait(runs, source, begun)

    await run.cancel()

    assert last_of(await finish(runs, run)) == events.RunCancelled(reason="user")
    assert closed == ["closed"]


# It says too much ------------------------------------------------------------------------------------------------


async def endless(steps: list[str]) -> AsyncGenerator[str]:
    try:
        while True:
            yield "word"
    finally:
        steps.append("closed")


async def test_too_many_events_fail_the_run_with_what_there_is(open_runs: OpenRuns) -> None:
    runs = open_runs(max_events=10)
    steps: list[str] = []

    entries = await finish(runs, await runs.start(endless(steps)))

    failed = last_of(entries)
    assert isinstance(failed, events.RunFailed)
    assert (failed.code, failed.details) == ("limit", {"bound": "max_events", "limit": 10})
    assert len(entries) == 11
    assert steps == ["closed"]


async def test_too_many_bytes_fail_the_run_with_what_there_is(open_runs: OpenRuns) -> None:
    runs = open_runs(max_bytes=5_000)
    steps: list[str] = []

    run = await runs.start(endless(steps))
    entries = await finish(runs, run)

    failed = last_of(entries)
    records = (await runs.store.read(run.id, 0, limit=1_000)).records
    assert isinstance(failed, events.RunFailed)
    assert (failed.code, failed.details) == ("limit", {"bound": "max_bytes", "limit": 5_000})
    assert 4_800 < sum(map(len, records[:-1])) <= 5_000
    assert steps == ["closed"]


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_an_event_that_is_too_large_fails_the_run(open_runs: OpenRuns, *, sync: bool) -> None:
    runs = open_runs(event_bytes=1_000)
    items = ["word", events.Status("x" * 1_000), "never"]

    async def source() -> AsyncGenerator[Any]:
        for item in items:
            yield item

    entries = await finish(runs, await runs.start(list(items) if sync else source))

    failed = last_of(entries)
    assert isinstance(failed, events.RunFailed)
    assert (failed.code, failed.details) == ("limit", {"bound": "event_bytes", "limit": 1_000})
    assert len(entries) == 3


@pytest.mark.parametrize(
    "terminal",
    [
        events.RunCompleted(result="x" * 1_000),
        events.RunFailed(code="provider_error", message="x" * 1_000),
        events.RunPaused(interrupts=[events.Interrupt(id="i", kind="input", message="x" * 1_000)]),
    ],
    ids=["completed", "failed", "paused"],
)
async def test_an_ending_that_is_too_large_is_a_failure_itself(open_runs: OpenRuns, terminal: events.Terminal) -> None:
    runs = open_runs(event_bytes=1_000)

    entries = await finish(runs, await runs.start([terminal]))

    failed = last_of(entries)
    assert isinstance(failed, events.RunFailed)
    assert (failed.code, failed.details) == ("limit", {"bound": "event_bytes", "limit": 1_000})


@pytest.mark.parametrize("result", [object(), {1: {2}}, float], ids=["object", "nested", "type"])
async def test_a_result_without_a_json_form_fails_the_run(runs: Runs, result: object) -> None:
    if isinstance(result, dict):
        result["self"] = object()

    entries = await finish(runs, await runs.start(["word", events.RunCompleted(result=result)]))

    failed = last_of(entries)
    assert isinstance(failed, events.RunFailed)
    assert failed.code == "error"
    assert fold.reduce(entries).text == "word"


async def test_the_bound_itself_is_allowed(open_runs: OpenRuns) -> None:
    runs = open_runs(max_events=4)

    entries = await finish(runs, await runs.start(["a", "b", "c"]))

    assert isinstance(last_of(entries), events.RunCompleted)


async def test_a_run_that_has_ended_takes_no_other_ending(runs: Runs) -> None:
    run = await runs.start(["word"])
    live = runs.live(run.id)
    assert live is not None
    log = await finish(runs, run)

    taken = [live.producer.finish(events.RunCompleted()), live.stop(events.RunCancelled(reason="user"))]

    assert taken == [False, False]
    assert live.log.length == len(log)


# What it amounts to ----------------------------------------------------------------------------------------------


async def test_a_run_gives_its_text_and_its_result(runs: Runs) -> None:
    run = await runs.start(["Hel", "lo", events.RunCompleted(result=[1])])

    result = await run.result()

    assert await run.text() == "Hello"
    assert (result.status, result.result, result.text) == ("completed", [1], "Hello")
