"""`emit` reaches the run it is called from, from anywhere, in the order of the calls, and never waits."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, cast

import pytest

from tailrace import emit, events
from tailrace.errors import (
    BufferFullError,
    EventInvalidError,
    NoRunError,
    RunClosedError,
    RunLimitError,
    TailraceError,
)
from tailrace.events import Entry, Event
from tailrace.runtime.runs import Runs
from tailrace.testing import FaultyStore
from tests.runtime.reading import BOUND_SECONDS, finish, read_until
from tests.runtime.workers import OpenRuns

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def said(entries: list[Entry]) -> list[str]:
    """The texts of deltas and status lines, in order."""
    texts: list[str] = []
    for entry in entries:
        if isinstance(entry.event, events.TextDelta):
            texts.append(entry.event.delta)
        elif isinstance(entry.event, events.Status):
            texts.append(entry.event.text)
    return texts


async def in_loop(text: str) -> None:
    await asyncio.sleep(0)
    emit(events.Status(text))


async def in_task(text: str) -> None:
    await asyncio.create_task(in_loop(text))


async def in_to_thread(text: str) -> None:
    await asyncio.to_thread(emit, events.Status(text))


async def in_own_thread(text: str) -> None:
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(emit, events.Status(text)))
    thread.start()
    await asyncio.to_thread(thread.join)


# Where and in which order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", [in_loop, in_task, in_to_thread, in_own_thread])
async def test_yields_and_emits_stand_in_the_order_of_the_calls(runs: Runs, tool: Callable[[str], Any]) -> None:
    async def source() -> AsyncGenerator[str]:
        for number in range(5):
            yield f"yield {number}"
            await tool(f"emit {number}")

    entries = await finish(runs, await runs.start(source))

    assert said(entries) == [f"{way} {number}" for number in range(5) for way in ("yield", "emit")]


async def test_a_sync_source_and_its_tools_emit_in_the_order_of_the_calls(runs: Runs) -> None:
    def tool(text: str) -> None:
        emit(events.Status(text))

    def source() -> Generator[str]:
        for number in range(5):
            tool(f"emit {number}")
            yield f"yield {number}"

    entries = await finish(runs, await runs.start(source))

    assert said(entries) == [f"{way} {number}" for number in range(5) for way in ("emit", "yield")]


async def test_many_threads_may_emit_at_once(runs: Runs) -> None:
    def emit_all(name: int) -> None:
        for number in range(50):
            emit(events.Status(f"{name}:{number}"))

    async def source() -> AsyncGenerator[str]:
        yield "begin"
        await asyncio.gather(*[asyncio.to_thread(emit_all, name) for name in range(4)])
        yield "end"

    entries = await finish(runs, await runs.start(source))

    texts = said(entries)
    assert (texts[0], texts[-1], len(texts)) == ("begin", "end", 202)
    for name in range(4):
        own = [text for text in texts if text.startswith(f"{name}:")]
        assert own == [f"{name}:{number}" for number in range(50)]


async def test_what_is_emitted_before_the_first_yield_comes_first(runs: Runs) -> None:
    async def source() -> AsyncGenerator[str]:
        emit(events.Status("first"))
        yield "second"

    assert said(await finish(runs, await runs.start(source))) == ["first", "second"]


async def test_a_callable_may_emit_before_it_returns_its_source(runs: Runs) -> None:
    def source() -> list[str]:
        emit(events.Status("first"))
        return ["second"]

    assert said(await finish(runs, await runs.start(source))) == ["first", "second"]


async def test_what_a_cancelled_tool_emits_in_its_finally_is_still_taken(runs: Runs) -> None:
    begun = asyncio.Event()

    async def source() -> AsyncGenerator[str]:
        try:
            begun.set()
            await asyncio.Event().wait()
            yield "never"
        finally:
            emit(events.Status("cleaning up"))

    run = await runs.start(source)
    async with asyncio.timeout(BOUND_SECONDS):
        await begun.wait()

    await run.cancel()

    entries = await finish(runs, run)
    assert said(entries) == ["cleaning up"]
    assert isinstance(entries[-1].event, events.RunCancelled)


async def test_an_emitted_event_is_seen_at_once_while_the_source_waits(runs: Runs) -> None:
    released = asyncio.Event()

    async def source() -> AsyncGenerator[str]:
        await asyncio.to_thread(emit, events.Status("now"))
        await released.wait()
        yield "later"

    run = await runs.start(source)

    seen = await read_until(runs, run.id, 2)
    released.set()

    assert said(seen) == ["now"]
    assert said(await finish(runs, run)) == ["now", "later"]


# Runs do not see each other --------------------------------------------------------------------------------------


async def test_every_run_has_a_context_of_its_own(runs: Runs) -> None:
    """Both runs are in the middle of their work at the same time."""
    VARIABLE.set("starter")
    barrier = asyncio.Barrier(2)
    seen: dict[str, list[str]] = {}

    async def source(name: str) -> AsyncGenerator[str]:
        seen[name] = [VARIABLE.get()]
        VARIABLE.set(name)
        await barrier.wait()
        emit(events.Status(name))
        yield name
        await barrier.wait()
        seen[name].append(VARIABLE.get())

    one = await runs.start(lambda: source("one"))
    two = await runs.start(lambda: source("two"))

    assert said(await finish(runs, one)) == ["one", "one"]
    assert said(await finish(runs, two)) == ["two", "two"]
    assert seen == {"one": ["starter", "one"], "two": ["starter", "two"]}
    assert VARIABLE.get() == "starter"


async def test_a_run_that_is_started_within_a_run_gets_its_own_events(runs: Runs) -> None:
    inner_ids: list[str] = []

    async def inner() -> AsyncGenerator[str]:
        emit(events.Status("inner"))
        yield "inner"

    async def outer() -> AsyncGenerator[str]:
        run = await runs.start(inner)
        inner_ids.append(run.id)
        assert await run.text() == "inner"
        emit(events.Status("outer"))
        yield "outer"

    assert said(await finish(runs, await runs.start(outer))) == ["outer", "outer"]
    assert said(await finish(runs, await runs.attach(inner_ids[0]))) == ["inner", "inner"]


async def test_the_starter_is_not_inside_the_run(runs: Runs) -> None:
    run = await runs.start(["word"])

    with pytest.raises(NoRunError):
        emit(events.Status("outside"))

    await finish(runs, run)


def test_outside_of_everything_there_is_no_run() -> None:
    with pytest.raises(NoRunError):
        emit(events.Status("outside"))


# What is refused -------------------------------------------------------------------------------------------------

REFUSED: dict[str, object] = {
    "text": "text",
    "a number": 5,
    "a mapping": {"event": "x", "data": 1},
    "run.started": events.RunStarted(run_id="x"),
    "run.completed": events.RunCompleted(),
    "run.failed": events.RunFailed(code="error", message="x"),
    "run.cancelled": events.RunCancelled(reason="user"),
    "run.interrupted": events.RunInterrupted(reason="shutdown"),
    "run.paused": events.RunPaused(interrupts=[]),
    "a name that breaks the line": events.Data("x\ny", 1),
    "no JSON form": events.Data("x", object()),
    "an ill-typed field": events.Status(cast("str", 5)),
    "an ending in disguise": events.Opaque("x", b'{"type":"run.completed"}'),
}


@pytest.mark.parametrize("event", REFUSED.values(), ids=REFUSED)
async def test_what_may_not_be_emitted_is_refused_and_the_run_goes_on(runs: Runs, event: object) -> None:
    raised: list[TailraceError] = []

    async def source() -> AsyncGenerator[str]:
        yield "before"
        try:
            emit(cast("Event", event))
        except TailraceError as error:
            raised.append(error)
        yield "after"

    entries = await finish(runs, await runs.start(source))

    assert [type(error) for error in raised] == [EventInvalidError]
    assert said(entries) == ["before", "after"]
    assert isinstance(entries[-1].event, events.RunCompleted)


async def test_after_the_end_the_run_is_closed(runs: Runs) -> None:
    contexts: list[contextvars.Context] = []

    async def source() -> AsyncGenerator[str]:
        contexts.append(contextvars.copy_context())
        yield "word"

    entries = await finish(runs, await runs.start(source))

    with pytest.raises(RunClosedError):
        contexts[0].run(emit, events.Status("late"))
    with pytest.raises(RunClosedError):
        await asyncio.to_thread(contexts[0].run, emit, events.Status("late"))
    assert said(entries) == ["word"]


@pytest.mark.parametrize(
    ("bounds", "bound"),
    [({"max_events": 3}, "max_events"), ({"max_bytes": 300}, "max_bytes"), ({"event_bytes": 300}, "event_bytes")],
)
async def test_an_emit_beyond_a_bound_is_told_and_fails_the_run(
    open_runs: OpenRuns, bounds: dict[str, int], bound: str
) -> None:
    runs = open_runs(**bounds)
    raised: list[RunLimitError] = []

    async def source() -> AsyncGenerator[str]:
        yield "word"
        try:
            emit(events.Status("a"))
            emit(events.Status("x" * 300))
        except RunLimitError as error:
            raised.append(error)

    entries = await finish(runs, await runs.start(source))

    failed = entries[-1].event
    assert [error.bound for error in raised] == [bound]
    assert isinstance(failed, events.RunFailed)
    assert failed.code == "limit"
    assert failed.details == {"bound": bound, "limit": bounds[bound]}


# A store that is behind ------------------------------------------------------------------------------------------


async def test_a_full_buffer_refuses_an_emit_and_takes_it_again_when_the_store_has_caught_up(
    open_runs: OpenRuns, store: FaultyStore
) -> None:
    runs = open_runs(pending_bytes=1_000)
    gate, filled, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
    refused: list[int] = []
    bounds: list[int] = []
    store.delay(gate)

    async def source() -> AsyncGenerator[str]:
        for number in range(100):
            try:
                emit(events.Status(f"status {number}"))
            except BufferFullError as error:
                refused.append(number)
                bounds.append(error.limit_bytes)
                break
        filled.set()
        await go_on.wait()
        emit(events.Status("caught up"))
        yield "word"

    run = await runs.start(source)
    async with asyncio.timeout(BOUND_SECONDS):
        await filled.wait()
        gate.set()
        await read_until(runs, run.id, refused[0] + 1)
        go_on.set()

    entries = await finish(runs, run)
    assert said(entries) == [*(f"status {number}" for number in range(refused[0])), "caught up", "word"]
    records = (await store.read(run.id, 0, limit=refused[0])).records
    assert sum(map(len, records)) <= 1_000
    assert bounds == [1_000]


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_a_source_has_to_wait_while_the_store_is_behind(
    open_runs: OpenRuns, store: FaultyStore, *, sync: bool
) -> None:
    runs = open_runs(pending_bytes=1_000, turn_events=1)
    gate = asyncio.Event()
    store.delay(gate)
    taken: list[int] = []

    def sync_source() -> Generator[str]:
        for number in range(100):
            taken.append(number)
            yield f"word {number:3}"

    async def async_source() -> AsyncGenerator[str]:
        for word in sync_source():
            yield word

    run = await runs.start(sync_source if sync else async_source)
    live = runs.live(run.id)
    assert live is not None
    async with asyncio.timeout(BOUND_SECONDS):
        await store.paused()
        # The source comes to rest by itself, which nothing else tells.
        while not live.producer.full:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    waiting = len(taken)
    pending = live.log.pending_bytes
    gate.set()

    entries = await finish(runs, run)
    largest = max(map(len, (await store.read(run.id, 0, limit=200)).records))
    assert 1 < waiting < 20
    assert 1_000 < pending <= 1_000 + largest
    assert said(entries) == [f"word {number:3}" for number in range(100)]


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_a_source_that_waits_for_the_store_can_be_cancelled(
    open_runs: OpenRuns, store: FaultyStore, *, sync: bool
) -> None:
    runs = open_runs(pending_bytes=0)
    gate, closed = asyncio.Event(), threading.Event()
    store.delay(gate)

    def sync_source() -> Generator[str]:
        try:
            yield "word"
            yield "never"
        finally:
            closed.set()

    async def async_source() -> AsyncGenerator[str]:
        try:
            yield "word"
            yield "never"
        finally:
            closed.set()

    run = await runs.start(sync_source if sync else async_source)
    async with asyncio.timeout(BOUND_SECONDS):
        await store.paused()

        await run.cancel()
        await asyncio.to_thread(closed.wait, BOUND_SECONDS)
        gate.set()

    entries = await finish(runs, run)
    assert entries[-1].event == events.RunCancelled(reason="user")
    assert said(entries) in ([], ["word"])
