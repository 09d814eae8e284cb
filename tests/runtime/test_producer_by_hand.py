"""A run produced by hand ends as the body of its `async with` does, and the body ends when the run does."""

import asyncio
from collections.abc import AsyncIterator

import pytest

import tailrace
from tailrace import events, fold
from tailrace.errors import DrainingError, FencedError, KeyInvalidError, RunClosedError
from tailrace.events import Entry, Event
from tailrace.runtime.handle import RunProducer
from tailrace.runtime.run import Run
from tailrace.runtime.runs import Runs
from tailrace.testing import FaultyStore, collect
from tests.runtime.feed import Feed
from tests.runtime.reading import BOUND_SECONDS, finish, read_until
from tests.runtime.workers import OpenRuns

RUN_ID = "r" * 26


async def log_of(runs: Runs, run_id: str) -> list[Entry]:
    return await finish(runs, Run(runs, run_id))


async def end_of(runs: Runs, run_id: str) -> Event:
    return (await log_of(runs, run_id))[-1].event


async def turn() -> None:
    """An await in the code after the body, where a cancellation that came too late would be felt."""
    await asyncio.sleep(0)
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


# The body's own ending -------------------------------------------------------------------------------------------


async def test_a_body_that_ends_completes_the_run_and_the_store_has_it_all(runs: Runs) -> None:
    async with runs.producer(owner="ada", thread="t", meta={"model": "m"}) as producer:
        await producer.emit("Hello ")
        await producer.emit(events.Status("Thinking"))
        await producer.emit("world")
        await producer.emit({"event": "weather", "data": {"unit": "C"}})

    info = await runs.info(producer.run_id)
    log = await log_of(runs, producer.run_id)
    started = log[0].event
    assert (info.status, info.owner, info.thread, info.seq) == ("completed", "ada", "t", 6)
    assert isinstance(started, events.RunStarted)
    assert started.meta == {"model": "m"}
    assert fold.reduce(log).text == "Hello world"
    assert not producer.stopped
    await turn()


async def test_a_body_that_says_nothing_completes_the_run(runs: Runs) -> None:
    async with runs.producer() as producer:
        pass

    assert isinstance(await end_of(runs, producer.run_id), events.RunCompleted)


async def test_what_is_said_can_be_read_meanwhile(runs: Runs, remote: Runs) -> None:
    async with runs.producer() as producer:
        await producer.emit("word")

        here, elsewhere = await read_until(runs, producer.run_id, 2), await read_until(remote, producer.run_id, 2)

        assert here == elsewhere
        assert len(here) == 2


class OddError(Exception):
    """Raised by bodies."""


@pytest.mark.parametrize(
    "error", [OddError("secret"), StopAsyncIteration(), StopIteration(), TimeoutError(), SystemExit(3)], ids=repr
)
async def test_a_body_that_raises_fails_the_run_and_the_error_goes_on(runs: Runs, error: BaseException) -> None:
    started: list[RunProducer] = []

    async def body() -> None:
        async with asyncio.timeout(BOUND_SECONDS), runs.producer() as producer:
            started.append(producer)
            await producer.emit("word")
            raise error

    with pytest.raises(RuntimeError if isinstance(error, StopIteration) else type(error)) as raised:
        await body()

    end = await end_of(runs, started[0].run_id)
    # Python itself lets no coroutine raise StopIteration.
    assert error in {raised.value, raised.value.__cause__}
    assert isinstance(end, events.RunFailed)
    assert (end.code, "secret" in end.message) == ("error", False)
    await turn()


async def test_a_terminal_event_said_by_hand_is_the_end_and_the_body_may_tidy_up(runs: Runs) -> None:
    async with runs.producer() as producer:
        await producer.emit("word")
        await producer.emit(events.RunCompleted(finish_reason="length", result={"answer": 42}))
        refused = [await refusal(producer), await refusal(producer)]
        await runs.attach(producer.run_id)
        tidy = True

    log = await log_of(runs, producer.run_id)
    assert (refused, tidy, producer.stopped) == ([producer.run_id, producer.run_id], True, False)
    assert (len(log), log[-1].event) == (3, events.RunCompleted(finish_reason="length", result={"answer": 42}))
    await turn()


async def refusal(producer: RunProducer) -> str:
    """The run that says that it has ended."""
    with pytest.raises(RunClosedError) as closed:
        await producer.emit("too late")
    return closed.value.run_id


async def test_an_error_after_the_end_goes_on_and_leaves_the_end_as_it_is(runs: Runs) -> None:
    run_ids: list[str] = []

    async def body() -> None:
        async with runs.producer() as producer:
            run_ids.append(producer.run_id)
            await producer.emit(events.RunPaused(interrupts=[]))
            raise OddError

    with pytest.raises(OddError):
        await body()

    assert await end_of(runs, run_ids[0]) == events.RunPaused(interrupts=[])


# The run ends first ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_cancel_stops_the_body_and_the_code_after_it_goes_on(runs: Runs, remote: Runs, where: str) -> None:
    reached: list[str] = []
    async with asyncio.timeout(BOUND_SECONDS), runs.producer() as producer:
        await producer.emit("half an ans")
        assert await (runs if where == "here" else remote).cancel(producer.run_id)
        try:
            await asyncio.Event().wait()
            reached.append("the end of the body")
        finally:
            reached.append("its finally")

    assert reached == ["its finally"]
    assert producer.stopped
    assert await end_of(runs, producer.run_id) == events.RunCancelled(reason="user")
    await turn()


async def test_a_body_that_never_pauses_is_stopped_by_its_next_emit(runs: Runs) -> None:
    said: list[int] = []
    async with asyncio.timeout(BOUND_SECONDS), runs.producer() as producer:
        assert await runs.cancel(producer.run_id)
        for number in range(100):
            await producer.emit("word ")
            said.append(number)

    assert len(said) <= 2
    assert await end_of(runs, producer.run_id) == events.RunCancelled(reason="user")
    await turn()


async def test_a_body_that_takes_too_long_is_stopped(runs: Runs) -> None:
    async with asyncio.timeout(BOUND_SECONDS), runs.producer(timeout=0.02) as producer:
        await producer.emit("word")
        await asyncio.Event().wait()

    end = await end_of(runs, producer.run_id)
    assert isinstance(end, events.RunFailed)
    assert end.code == "timeout"
    await turn()


async def test_a_run_that_reaches_its_bound_stops_the_body(open_runs: OpenRuns) -> None:
    runs = open_runs(max_events=3)

    async with asyncio.timeout(BOUND_SECONDS), runs.producer() as producer:
        for _ in range(10):
            await producer.emit("word")

    end = await end_of(runs, producer.run_id)
    assert isinstance(end, events.RunFailed)
    assert end.code == "limit"
    await turn()


async def test_something_that_is_no_event_fails_the_run(runs: Runs) -> None:
    async with asyncio.timeout(BOUND_SECONDS), runs.producer() as producer:
        await producer.emit({"neither": "event", "nor": "data"})
        await producer.emit("never said")

    end = await end_of(runs, producer.run_id)
    assert isinstance(end, events.RunFailed)
    assert end.code == "error"


async def test_a_drain_stops_the_body_when_its_time_is_over(runs: Runs) -> None:
    async with asyncio.timeout(BOUND_SECONDS), runs.producer() as producer:
        draining = asyncio.create_task(runs.drain(0.02))
        await asyncio.Event().wait()

    await draining
    assert await end_of(runs, producer.run_id) == events.RunInterrupted(reason="shutdown")
    await turn()


# The body's task is cancelled ------------------------------------------------------------------------------------


async def test_a_body_whose_task_is_cancelled_interrupts_the_run_and_the_cancellation_goes_on(runs: Runs) -> None:
    inside = asyncio.Event()

    async def body() -> None:
        async with runs.producer(RUN_ID) as producer:
            await producer.emit("word")
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await inside.wait()
    task.cancel()
    await asyncio.wait({task}, timeout=BOUND_SECONDS)

    assert task.cancelled()
    assert await end_of(runs, RUN_ID) == events.RunInterrupted(reason="shutdown")


async def test_a_body_that_is_cancelled_by_both_lets_the_strangers_cancellation_go_on(runs: Runs) -> None:
    inside = asyncio.Event()

    async def body() -> None:
        async with runs.producer(RUN_ID) as producer:
            inside.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                current = asyncio.current_task()
                assert current is not None
                assert producer.stopped
                current.cancel()
                raise

    task = asyncio.create_task(body())
    await inside.wait()
    assert await runs.cancel(RUN_ID)
    await asyncio.wait({task}, timeout=BOUND_SECONDS)

    assert task.cancelled()
    assert await end_of(runs, RUN_ID) == events.RunCancelled(reason="user")


async def test_a_timeout_around_the_whole_interrupts_the_run_and_is_a_timeout(runs: Runs) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02), runs.producer(RUN_ID):
            await asyncio.Event().wait()

    assert await end_of(runs, RUN_ID) == events.RunInterrupted(reason="shutdown")
    await turn()


# Waiting for the store -------------------------------------------------------------------------------------------


async def test_a_store_that_is_behind_makes_the_body_wait(open_runs: OpenRuns, store: FaultyStore) -> None:
    runs = open_runs(pending_bytes=200)
    gate = asyncio.Event()
    said: list[int] = []

    async def body() -> None:
        async with runs.producer(RUN_ID) as producer:
            store.delay(gate)
            for number in range(50):
                await producer.emit("word " * 10)
                said.append(number)

    task = asyncio.create_task(body())
    await store.paused()
    for _ in range(200):
        await asyncio.sleep(0)
    waiting = len(said)
    gate.set()
    await asyncio.wait_for(task, BOUND_SECONDS)

    assert 0 < waiting < 5
    assert len(await log_of(runs, RUN_ID)) == 52


async def test_an_emit_that_is_given_up_is_in_the_log_once_and_the_next_comes_after_it(
    open_runs: OpenRuns, store: FaultyStore
) -> None:
    runs = open_runs(pending_bytes=1)
    gate = asyncio.Event()
    said = ""
    async with asyncio.timeout(BOUND_SECONDS), runs.producer() as producer:
        store.delay(gate)
        while await in_time(producer, "a"):
            said += "a"
        gate.set()
        await producer.emit("b")

    assert fold.reduce(await log_of(runs, producer.run_id)).text == f"{said}ab"


async def in_time(producer: RunProducer, word: str) -> bool:
    """Whether the run took the word in a hundredth of a second."""
    try:
        async with asyncio.timeout(0.01):
            await producer.emit(word)
    except TimeoutError:
        return False
    return True


async def test_a_body_that_fails_while_its_emit_waits_fails_the_run_after_what_it_said(
    open_runs: OpenRuns, store: FaultyStore
) -> None:
    runs = open_runs(pending_bytes=1)
    gate = asyncio.Event()

    async def body() -> None:
        async with runs.producer(RUN_ID) as producer:
            store.delay(gate)
            async with asyncio.timeout(0.01):
                await producer.emit("word")
                await producer.emit("waits")

    task = asyncio.create_task(body())
    await store.paused()
    await asyncio.sleep(0.02)
    gate.set()
    await asyncio.wait({task}, timeout=BOUND_SECONDS)

    log = await log_of(runs, RUN_ID)
    assert isinstance(task.exception(), TimeoutError)
    assert isinstance(log[-1].event, events.RunFailed)
    assert fold.reduce(log).text.startswith("word")


async def test_tasks_of_the_body_may_emit_side_by_side(runs: Runs) -> None:
    async with asyncio.timeout(BOUND_SECONDS), runs.producer() as producer, asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(producer.emit(events.Data("part", number)))

    log = await log_of(runs, producer.run_id)
    assert [entry.event.data for entry in log if isinstance(entry.event, events.Data)] == list(range(20))


async def test_a_task_that_is_left_waiting_is_told_that_the_run_has_ended(
    open_runs: OpenRuns, store: FaultyStore
) -> None:
    runs = open_runs(pending_bytes=1)
    gate = asyncio.Event()
    async with asyncio.timeout(BOUND_SECONDS), runs.producer() as producer:
        store.delay(gate)
        emits = [asyncio.create_task(producer.emit(word)) for word in ("a", "b", "c")]
        await store.paused()
        await runs.cancel(producer.run_id)
        gate.set()
        await asyncio.Event().wait()

    results = await asyncio.gather(*emits, return_exceptions=True)
    assert [type(result) for result in results if result is not None][-1] is RunClosedError
    await turn()


# The context -----------------------------------------------------------------------------------------------------


async def test_emit_of_the_module_works_within_the_body_and_not_after_it(runs: Runs) -> None:
    async with runs.producer() as producer:
        tailrace.emit(events.Status("here"))
        await asyncio.to_thread(tailrace.emit, events.Status("in a thread"))
        await asyncio.create_task(emit_later(events.Status("in a task")))

    with pytest.raises(tailrace.NoRunError):
        tailrace.emit(events.Status("after"))
    assert statuses(await log_of(runs, producer.run_id)) == ["here", "in a thread", "in a task"]


def statuses(log: list[Entry]) -> list[str]:
    return [entry.event.text for entry in log if isinstance(entry.event, events.Status)]


async def emit_later(event: Event) -> None:
    await asyncio.sleep(0)
    tailrace.emit(event)


async def test_a_source_within_the_body_belongs_to_its_own_run(runs: Runs) -> None:
    async def inner() -> AsyncIterator[str]:
        tailrace.emit(events.Status("inner"))
        yield "word"

    async with runs.producer() as producer:
        run = await runs.start(inner)
        inner_log = await finish(runs, run)
        tailrace.emit(events.Status("outer"))

    outer_log = await log_of(runs, producer.run_id)
    assert statuses(inner_log) == ["inner"]
    assert statuses(outer_log) == ["outer"]


# What is refused -------------------------------------------------------------------------------------------------


async def test_a_run_that_exists_is_refused_and_goes_on(runs: Runs, remote: Runs, feed: Feed) -> None:
    run = await runs.start(feed.source, run_id=RUN_ID)
    entered = False

    for worker in (runs, remote):
        with pytest.raises(FencedError):
            async with worker.producer(RUN_ID):
                entered = True
        await turn()

    feed.put("word", None)
    assert not entered
    assert isinstance((await finish(runs, run))[-1].event, events.RunCompleted)


async def test_a_process_that_shuts_down_begins_no_run(runs: Runs) -> None:
    await runs.drain(0)

    with pytest.raises(DrainingError):
        async with runs.producer():
            pytest.fail("the body was entered")

    await turn()


async def test_an_id_that_can_be_guessed_is_refused(runs: Runs) -> None:
    with pytest.raises(KeyInvalidError):
        async with runs.producer("short"):
            pytest.fail("the body was entered")

    await turn()


async def test_a_run_that_ends_before_its_body_begins_stops_the_body(runs: Runs, store: FaultyStore) -> None:
    """Its start tells the thread's readers, which may take as long as a cancel needs."""
    gate = asyncio.Event()
    store.delay(gate, operation="signal")
    reached: list[str] = []

    async def body() -> None:
        async with runs.producer(RUN_ID, thread="t"):
            reached.append("the body")
            await asyncio.Event().wait()
            reached.append("its end")
        reached.append("the code after it")

    task = asyncio.create_task(body())
    await store.paused("signal")
    assert await runs.cancel(RUN_ID)
    reading = asyncio.create_task(collect(runs.follow(RUN_ID)))
    entries = await reading
    gate.set()
    await asyncio.wait({task}, timeout=BOUND_SECONDS)

    assert entries[-1].event == events.RunCancelled(reason="user")
    assert "its end" not in reached
    assert task.done()
    assert not task.cancelled()
