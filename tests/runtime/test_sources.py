"""Whatever a source is and whatever it yields becomes one log, or a failure that names what was wrong."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from functools import partial
from typing import Any, cast

import pytest

from tailrace import events, fold
from tailrace.errors import SourceInvalidError
from tailrace.events import Entry, Event
from tailrace.runtime.runs import Runs
from tailrace.runtime.source import SourceLike
from tailrace.testing import collect
from tests.runtime.reading import finish, read_until
from tests.runtime.workers import OpenRuns

ITEMS = ["Hel", "", "lo", events.Status("thinking"), {"event": "chart", "data": [1]}, events.ReasoningDelta("hm")]


def events_of(entries: list[Entry]) -> list[Event]:
    """All but the first and the last."""
    return [entry.event for entry in entries[1:-1]]


def failure_of(entries: list[Entry]) -> events.RunFailed:
    failed = entries[-1].event
    assert isinstance(failed, events.RunFailed)
    return failed


# What a source is ------------------------------------------------------------------------------------------------


async def async_generator() -> AsyncGenerator[Any]:
    for item in ITEMS:
        yield item


def sync_generator() -> Generator[Any]:
    yield from ITEMS


async def coroutine_function() -> AsyncIterator[Any]:
    return async_generator()


async def steps_of(items: list[Any]) -> AsyncGenerator[Any]:
    for item in items:
        yield item


class AsyncStream:
    """As providers' streams are: no iterator itself."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return async_generator()


class AsyncSteps:
    """An async iterator that is no generator."""

    def __init__(self) -> None:
        self._items = iter(ITEMS)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> object:
        for item in self._items:
            return item
        raise StopAsyncIteration


SOURCES: dict[str, Callable[[], Any]] = {
    "an async generator": async_generator,
    "an async generator function": lambda: async_generator,
    "a coroutine function": lambda: coroutine_function,
    "a partial": lambda: partial(steps_of, ITEMS),
    "a provider's stream": AsyncStream,
    "a class of streams": lambda: AsyncStream,
    "an async iterator": AsyncSteps,
    "a sync generator": sync_generator,
    "a sync generator function": lambda: sync_generator,
    "a sync iterator": lambda: iter(ITEMS),
    "a list": lambda: list(ITEMS),
    "a function that returns a tuple": lambda: lambda: tuple(ITEMS),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
async def test_every_kind_of_source_gives_the_same_log(runs: Runs, make: Callable[[], SourceLike]) -> None:
    run = await runs.start(make())

    entries = await finish(runs, run)

    started = entries[0].event
    assert isinstance(started, events.RunStarted)
    message_id = started.message_id
    assert run.started
    assert started.run_id == run.id
    assert events_of(entries) == [
        events.TextDelta("Hel", message_id=message_id, part_id="p1"),
        events.TextDelta("lo", message_id=message_id, part_id="p1"),
        events.Status("thinking"),
        events.Data("chart", [1]),
        events.ReasoningDelta("hm", message_id=message_id, part_id="p2"),
    ]
    assert entries[-1].event == events.RunCompleted(finish_reason="stop")


def nothing() -> list[str]:
    return []


@pytest.mark.parametrize("source", [nothing(), nothing], ids=["a list", "a callable"])
async def test_a_source_that_says_nothing_completes(runs: Runs, source: SourceLike) -> None:
    entries = await finish(runs, await runs.start(source))

    assert events_of(entries) == []
    assert isinstance(entries[-1].event, events.RunCompleted)


async def test_the_run_says_what_it_was_started_with(runs: Runs) -> None:
    run = await runs.start(["a"], owner="ada", thread="t", meta={"model": "m"})

    entries = await finish(runs, run)

    started, info = entries[0].event, await runs.info(run.id)
    assert isinstance(started, events.RunStarted)
    assert (started.thread_id, started.meta) == ("t", {"model": "m"})
    assert (info.owner, info.thread, info.status, info.seq) == ("ada", "t", "completed", 3)


NO_SOURCES: dict[str, Any] = {
    "text": "text",
    "bytes": b"bytes",
    "a mapping": {"a": 1},
    "a number": 5,
    "nothing": None,
    "an event": events.TextDelta("a"),
}


@pytest.mark.parametrize("source", NO_SOURCES.values(), ids=NO_SOURCES)
async def test_what_can_never_be_a_source_is_refused_at_once(runs: Runs, source: SourceLike) -> None:
    with pytest.raises(SourceInvalidError):
        await runs.start(source)

    assert runs.live_count == 0


async def test_a_coroutine_is_refused_with_advice_and_is_not_left_unawaited(runs: Runs) -> None:
    source: Any = coroutine_function()

    with pytest.raises(SourceInvalidError, match="lambda"):
        await runs.start(source)


async def nonsense() -> int:
    return 5


BAD_CALLABLES: dict[str, tuple[Callable[[], Any], str]] = {
    "nothing": (lambda: None, "NoneType"),
    "a number": (lambda: 5, "int"),
    "text": (lambda: "text", "str"),
    "a mapping": (lambda: {"a": 1}, "dict"),
    "an awaitable of nonsense": (nonsense, "int"),
    "another callable": (lambda: async_generator, "function"),
}


@pytest.mark.parametrize(("source", "type_name"), BAD_CALLABLES.values(), ids=BAD_CALLABLES)
async def test_a_callable_that_returns_nonsense_fails_and_names_it(
    runs: Runs, source: Callable[[], Any], type_name: str
) -> None:
    entries = await finish(runs, await runs.start(source))

    failed = failure_of(entries)
    assert failed.code == "error"
    assert f"got {type_name}, expected" in failed.message


# What it yields --------------------------------------------------------------------------------------------------

GARBAGE: dict[str, tuple[Any, str]] = {
    "a number": (5, "int"),
    "nothing": (None, "NoneType"),
    "bytes": (b"text", "bytes"),
    "a list": (["text"], "list"),
    "an object": (object(), "object"),
    "an entry": (Entry(1, 0, events.TextDelta("a")), "Entry"),
    "an empty mapping": ({}, "dict"),
    "a mapping of something else": ({"text": "a"}, "dict"),
    "a mapping with more": ({"event": "x", "data": 1, "sep": "a"}, "dict"),
    "a mapping with a name that is none": ({"event": 5, "data": 1}, "dict"),
    "a mapping whose name breaks the line": ({"event": "x\ny", "data": 1}, "an event name"),
    "data whose name breaks the line": (events.Data("x\ny", 1), "an event name"),
    "data without a name": (events.Data("", 1), "an event name"),
    "run.started": (events.RunStarted(run_id="other"), "RunStarted"),
    "run.cancelled": (events.RunCancelled(reason="user"), "RunCancelled"),
    "run.interrupted": (events.RunInterrupted(reason="shutdown"), "RunInterrupted"),
}


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize(("item", "type_name"), GARBAGE.values(), ids=GARBAGE)
async def test_garbage_fails_the_run_names_the_type_and_keeps_what_was_said(
    runs: Runs, item: object, type_name: str, *, sync: bool
) -> None:
    steps: list[str] = []

    async def async_source() -> AsyncGenerator[Any]:
        try:
            yield "before"
            yield item
            steps.append("went on")
        finally:
            steps.append("closed")

    def sync_source() -> Generator[Any]:
        try:
            yield "before"
            yield item
            steps.append("went on")
        finally:
            steps.append("closed")

    entries = await finish(runs, await runs.start(sync_source if sync else async_source))

    failed = failure_of(entries)
    assert failed.code == "error"
    assert failed.message.startswith(f"got {type_name}, expected ")
    assert fold.reduce(entries).text == "before"
    assert steps == ["closed"]


ILL_TYPED: dict[str, Any] = {
    "text that is a number": events.Status(cast("str", 5)),
    "a delta that is nothing": events.TextDelta(cast("str", None)),
    "a delta of no message": events.TextDelta("a", message_id=cast("str", 5)),
    "a tool without a name": events.ToolStarted(name=cast("str", None)),
    "run.started in disguise": events.Opaque("run.started", b'{"type":"run.started","run_id":"x"}'),
    "run.completed in disguise": events.Opaque("new.thing", b'{"type":"run.completed"}'),
    "a type that it does not have": events.Opaque("new.thing", b'{"type":"other.thing"}'),
    "no JSON": events.Opaque("new.thing", b"hello"),
    "more than one JSON value": events.Opaque("new.thing", b'{"type":"new.thing"}{}'),
    "no JSON form": events.Data("x", object()),
}


@pytest.mark.parametrize("item", ILL_TYPED.values(), ids=ILL_TYPED)
async def test_an_event_that_no_reader_could_read_fails_the_run_instead(runs: Runs, item: object) -> None:
    steps: list[str] = []

    async def source() -> AsyncGenerator[Any]:
        try:
            yield "before"
            yield item
            steps.append("went on")
        finally:
            steps.append("closed")

    entries = await finish(runs, await runs.start(source))

    assert failure_of(entries).code == "error"
    assert len(entries) == 3
    assert steps == ["closed"]


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_what_was_said_does_not_change_with_what_the_source_goes_on_to_fill(runs: Runs, *, sync: bool) -> None:
    found: list[int] = []

    def sync_source() -> Generator[events.Data]:
        for number in range(3):
            found.append(number)
            yield events.Data("found", found)

    async def async_source() -> AsyncGenerator[events.Data]:
        for item in sync_source():
            yield item

    entries = await finish(runs, await runs.start(sync_source if sync else async_source))

    assert [event.data for event in events_of(entries) if isinstance(event, events.Data)] == [[0], [0, 1], [0, 1, 2]]


async def test_an_event_of_a_type_that_is_not_known_yet_is_kept_as_it_is(runs: Runs) -> None:
    entries = await collect(await runs.start([events.Opaque("new.thing", b'{"type": "new.thing", "a": 1}')]))

    (event,) = events_of(entries)
    assert isinstance(event, events.Opaque)
    assert event.type == "new.thing"
    assert isinstance(entries[-1].event, events.RunCompleted)


TERMINALS: dict[str, events.Terminal] = {
    "completed": events.RunCompleted(result={"a": [1]}, finish_reason="length"),
    "failed": events.RunFailed(code="provider_overloaded", message="Try again.", retryable=True),
    "paused": events.RunPaused(interrupts=[events.Interrupt(id="i", kind="approval", message="May I?")]),
}


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize("terminal", TERMINALS.values(), ids=TERMINALS)
async def test_a_terminal_event_of_the_source_ends_the_run_and_the_source(
    runs: Runs, terminal: events.Terminal, *, sync: bool
) -> None:
    steps: list[str] = []

    async def async_source() -> AsyncGenerator[Any]:
        try:
            yield "before"
            yield terminal
            steps.append("went on")
            yield "after"
        finally:
            steps.append("closed")

    def sync_source() -> Generator[Any]:
        try:
            yield "before"
            yield terminal
            steps.append("went on")
            yield "after"
        finally:
            steps.append("closed")

    entries = await finish(runs, await runs.start(sync_source if sync else async_source))

    assert len(entries) == 3
    assert entries[-1].event == terminal
    assert steps == ["closed"]


async def test_a_source_that_yields_while_it_is_closed_ends_as_it_said(
    runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    async def source() -> AsyncGenerator[Any]:
        try:
            yield events.RunCompleted(result=1)
        finally:
            yield "after"

    entries = await finish(runs, await runs.start(source))

    assert len(entries) == 2
    assert entries[-1].event == events.RunCompleted(result=1, finish_reason="stop")
    assert "failed while it was being closed" in caplog.text
    # Python cannot close such a generator; it is gone with the last traceback that has it.
    caplog.clear()


# Text that is hard to write --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_a_lone_surrogate_becomes_a_replacement_character(runs: Runs, *, sync: bool) -> None:
    items = ["a\ud83dz", "\ud83d\ude00", events.Data("x", {"\udc00": ["\ud800"]})]

    async def async_source() -> AsyncGenerator[Any]:
        for item in items:
            yield item

    entries = await finish(runs, await runs.start(list(items) if sync else async_source))

    assert fold.reduce(entries).text == "a\ufffdz😀"
    assert events_of(entries)[-1] == events.Data("x", {"\ufffd": ["\ufffd"]})


async def test_huge_text_is_cut_into_deltas_of_one_part(open_runs: OpenRuns) -> None:
    runs = open_runs(delta_characters=10)
    text = "0123456789" * 10 + "tail"

    entries = await finish(runs, await runs.start([text, events.ReasoningDelta(text), events.Status(text)]))

    said = events_of(entries)
    deltas = [event for event in said if isinstance(event, events.TextDelta)]
    assert [event.delta for event in deltas] == ["0123456789"] * 10 + ["tail"]
    assert len({(event.message_id, event.part_id) for event in deltas}) == 1
    assert len([event for event in said if isinstance(event, events.ReasoningDelta)]) == 11
    assert said[-1] == events.Status(text)


@pytest.mark.parametrize("character", ["a", "\0", "☃", "😀", "\ud800"], ids=ascii)
async def test_every_record_of_a_huge_text_stays_below_the_bound(runs: Runs, character: str) -> None:
    run = await runs.start([character * 300_000])

    await finish(runs, run)

    records = (await runs.store.read(run.id, 0, limit=1_000)).records
    assert len(records) == 2 + 5
    assert max(map(len, records)) < 1_000 * 1_024


# Closing ---------------------------------------------------------------------------------------------------------


class Stream:
    """Counts how often it is closed, and whether whoever closed it waited."""

    def __init__(self, *items: object, ends: bool = True) -> None:
        self.items = items
        self.ends = ends
        self.closed = 0
        self.waited = 0
        self.inner_closed = 0

    async def _close(self) -> None:
        self.closed += 1
        await asyncio.sleep(0)
        self.waited += 1

    async def _iterate(self) -> AsyncGenerator[Any]:
        try:
            for item in self.items:
                yield item
            if not self.ends:
                await asyncio.Event().wait()
        finally:
            self.inner_closed += 1


class CloseStream(Stream):
    """Closed by `close`, a coroutine function, as most SDKs have it."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._iterate()

    async def close(self) -> None:
        await self._close()


class AcloseStream(Stream):
    """Closed by `aclose`, and an iterator itself."""

    def __init__(self, *items: object, ends: bool = True) -> None:
        super().__init__(*items, ends=ends)
        self._iteration = self._iterate()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> object:
        return await anext(self._iteration)

    async def aclose(self) -> None:
        await self._iteration.aclose()
        await self._close()


@pytest.mark.parametrize("kind", [CloseStream, AcloseStream])
@pytest.mark.parametrize("item", ["text", 5, events.RunCompleted()], ids=["end", "failure", "terminal"])
async def test_a_stream_is_closed_once_and_waited_for(
    runs: Runs, kind: type[CloseStream | AcloseStream], item: object
) -> None:
    stream = kind(item)

    await finish(runs, await runs.start(stream))

    assert (stream.closed, stream.waited, stream.inner_closed) == (1, 1, 1)


@pytest.mark.parametrize("kind", [CloseStream, AcloseStream])
async def test_a_cancelled_stream_is_closed_once_and_waited_for(
    runs: Runs,
    kind: type[CloseStream | AcloseStream],
) -> None:
    stream = kind("text", ends=False)
    run = await runs.start(stream)
    await read_until(runs, run.id, 2)

    await run.cancel()
    await finish(runs, run)

    assert (stream.closed, stream.waited, stream.inner_closed) == (1, 1, 1)


class BadStream(CloseStream):
    """Cannot even be iterated."""

    def __aiter__(self) -> AsyncIterator[Any]:
        raise OSError("no connection")


async def test_a_stream_that_cannot_be_iterated_is_closed(runs: Runs) -> None:
    stream = BadStream()

    entries = await finish(runs, await runs.start(lambda: stream))

    assert failure_of(entries).code == "error"
    assert (stream.closed, stream.waited) == (1, 1)


class SyncSteps:
    """A sync iterator with a `close`."""

    def __init__(self, *items: object) -> None:
        self._items = iter(items)
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> object:
        return next(self._items)

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("item", ["text", 5, events.RunCompleted()], ids=["end", "failure", "terminal"])
async def test_a_sync_iterator_is_closed_once(runs: Runs, item: object) -> None:
    steps = SyncSteps(item)

    await finish(runs, await runs.start(steps))

    assert steps.closed == 1


async def test_a_failure_to_close_is_logged_and_changes_nothing(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(CloseStream):
        async def close(self) -> None:
            raise OSError("already gone")

    entries = await finish(runs, await runs.start(Broken("text")))

    assert isinstance(entries[-1].event, events.RunCompleted)
    assert "failed while it was being closed" in caplog.text


async def test_a_close_that_hangs_is_given_up(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    class Hanging(CloseStream):
        async def close(self) -> None:
            await asyncio.Event().wait()

    entries = await finish(runs, await runs.start(Hanging("text")))

    assert isinstance(entries[-1].event, events.RunCompleted)
    assert "to close and was left to itself" in caplog.text


async def test_a_close_that_would_end_the_process_ends_only_the_source(runs: Runs) -> None:
    class Exiting(CloseStream):
        async def close(self) -> None:
            raise SystemExit(1)

    entries = await finish(runs, await runs.start(Exiting("text")))

    assert isinstance(entries[-1].event, events.RunCompleted)
