"""A start with a key happens once: whoever repeats it gets the run of the first, and its source is closed unused."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from tailrace.errors import (
    EventInvalidError,
    FingerprintError,
    KeyInvalidError,
    RunNotFoundError,
    SourceInvalidError,
    StoreUnavailableError,
)
from tailrace.runtime.runs import Runs
from tailrace.testing import FakeClock, FaultyStore
from tests.runtime.reading import BOUND_SECONDS, finish, read_until
from tests.runtime.workers import OpenRuns

KEY = "k" * 20
RETENTION_SECONDS = 900


class Stream:
    """A provider's stream that counts what is done to it."""

    def __init__(self) -> None:
        self.begun = 0
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[str]:
        self.begun += 1
        yield "word"

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1


class Counted:
    """A callable that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> list[str]:
        self.calls += 1
        return ["word"]


# One run per key -------------------------------------------------------------------------------------------------


async def test_of_many_starts_with_one_key_one_produces(runs: Runs) -> None:
    source = Counted()

    started = await asyncio.gather(*[runs.start(source, key=KEY) for _ in range(20)])

    logs = await asyncio.gather(*[finish(runs, run) for run in started])
    assert source.calls == 1
    assert [run.started for run in started].count(True) == 1
    assert len({run.id for run in started}) == 1
    assert all(log == logs[0] for log in logs)


async def test_of_many_streams_with_one_key_one_is_used_and_all_are_closed(runs: Runs) -> None:
    streams = [Stream() for _ in range(20)]

    started = await asyncio.gather(*[runs.start(stream, key=KEY) for stream in streams])

    await finish(runs, started[0])
    assert sum(stream.begun for stream in streams) == 1
    assert [stream.closed for stream in streams] == [1] * 20


async def test_starts_on_several_workers_with_one_key_produce_once(open_runs: OpenRuns) -> None:
    workers = [open_runs() for _ in range(4)]
    source = Counted()

    started = await asyncio.gather(*[workers[number % 4].start(source, key=KEY) for number in range(20)])

    logs = [await finish(workers[number % 4], run) for number, run in enumerate(started)]
    assert source.calls == 1
    assert all(log == logs[0] for log in logs)


async def test_many_starts_while_the_store_is_slow_produce_once(runs: Runs, store: FaultyStore) -> None:
    source, gate = Counted(), asyncio.Event()
    store.delay(gate, operation="create", applied=True)

    starts = [asyncio.create_task(runs.start(source, key=KEY)) for _ in range(20)]
    await store.paused("create")
    gate.set()

    started = await asyncio.gather(*starts)
    await finish(runs, started[0])
    assert source.calls == 1
    assert [run.started for run in started].count(True) == 1


async def test_a_key_finds_its_run_after_the_end_too(runs: Runs) -> None:
    first = await runs.start(["word"], key=KEY)
    log = await finish(runs, first)

    second = await runs.start(["other"], key=KEY)

    assert (first.started, second.started, second.id) == (True, False, first.id)
    assert await finish(runs, second) == log


async def test_a_key_lives_as_long_as_its_run_is_kept(runs: Runs, clock: FakeClock) -> None:
    first = await runs.start(["first"], key=KEY)
    await finish(runs, first)

    clock.advance(RETENTION_SECONDS - 1)
    kept = await runs.start(["second"], key=KEY)
    clock.advance(1)
    fresh = await runs.start(["third"], key=KEY)

    assert (kept.started, fresh.started) == (False, True)
    assert fresh.id == first.id
    assert await fresh.text() == "third"


async def test_a_running_run_keeps_its_key_however_long_it_takes(runs: Runs, clock: FakeClock) -> None:
    released = asyncio.Event()

    async def source() -> AsyncGenerator[str]:
        await released.wait()
        yield "word"

    await runs.start(source, key=KEY)

    clock.advance(RETENTION_SECONDS * 100)
    again = await runs.start(["other"], key=KEY)
    released.set()

    assert not again.started
    assert await again.text() == "word"


async def test_starts_without_a_key_are_all_different(runs: Runs) -> None:
    started = [await runs.start(["word"]) for _ in range(5)]

    assert all(run.started for run in started)
    assert len({run.id for run in started}) == 5
    for run in started:
        await finish(runs, run)


async def test_the_same_key_of_another_owner_is_another_run(runs: Runs) -> None:
    started = [await runs.start([str(owner)], key=KEY, owner=owner) for owner in ("ada", "eve", "", None)]

    assert len({run.id for run in started}) == 4
    assert [await run.text() for run in started] == ["ada", "eve", "", "None"]


async def test_every_worker_derives_the_same_id_from_a_key(open_runs: OpenRuns) -> None:
    one, two = open_runs(), open_runs()

    assert await one.derive_run_id(KEY, owner="ada") == await two.derive_run_id(KEY, owner="ada")


# What is refused -------------------------------------------------------------------------------------------------


async def test_another_fingerprint_is_refused_and_its_source_closed(runs: Runs) -> None:
    stream = Stream()
    run = await runs.start(["word"], key=KEY, fingerprint={"question": 1})
    same = await runs.start(["word"], key=KEY, fingerprint={"question": 1})

    with pytest.raises(FingerprintError):
        await runs.start(stream, key=KEY, fingerprint={"question": 2})
    with pytest.raises(FingerprintError):
        await runs.start(["word"], key=KEY)

    assert (same.id, same.started) == (run.id, False)
    assert (stream.begun, stream.closed) == (0, 1)
    await finish(runs, run)


async def test_the_order_of_a_fingerprints_keys_does_not_matter(runs: Runs) -> None:
    run = await runs.start(["word"], key=KEY, fingerprint={"a": 1, "b": [2]})

    again = await runs.start(["word"], key=KEY, fingerprint={"b": [2], "a": 1})

    assert not again.started
    await finish(runs, run)


@pytest.mark.parametrize("fingerprint", [None, "f"])
async def test_a_run_id_that_is_anothers_is_not_found(runs: Runs, fingerprint: str | None) -> None:
    stream = Stream()
    run = await runs.start(["word"], run_id="r" * 26, owner="ada", fingerprint="f")

    with pytest.raises(RunNotFoundError):
        await runs.start(stream, run_id="r" * 26, owner="eve", fingerprint=fingerprint)

    assert (stream.begun, stream.closed) == (0, 1)
    await finish(runs, run)


@pytest.mark.parametrize("key", ["", "k" * 19, "k" * 257], ids=["empty", "short", "long"])
async def test_a_key_that_protects_nothing_is_refused_and_the_source_closed(runs: Runs, key: str) -> None:
    stream = Stream()

    with pytest.raises(KeyInvalidError):
        await runs.start(stream, key=key)

    assert (stream.begun, stream.closed) == (0, 1)


async def test_a_short_key_is_enough_where_there_is_an_owner(runs: Runs) -> None:
    run = await runs.start(["word"], key="k", owner="ada")

    assert await run.text() == "word"


@pytest.mark.parametrize("run_id", ["short", "x" * 65, "r" * 25 + "!", "r" * 25 + "\n"])
async def test_a_run_id_that_cannot_be_one_is_refused_and_the_source_closed(runs: Runs, run_id: str) -> None:
    stream = Stream()

    with pytest.raises(KeyInvalidError):
        await runs.start(stream, run_id=run_id)

    assert (stream.begun, stream.closed) == (0, 1)


async def test_a_fingerprint_without_a_json_form_is_refused_and_the_source_closed(runs: Runs) -> None:
    stream = Stream()

    with pytest.raises(KeyInvalidError):
        await runs.start(stream, key=KEY, fingerprint=object())

    assert (stream.begun, stream.closed) == (0, 1)


async def test_meta_without_a_json_form_is_refused_and_the_key_is_free(runs: Runs) -> None:
    stream = Stream()

    with pytest.raises(EventInvalidError):
        await runs.start(stream, key=KEY, meta={"a": object()})

    assert (stream.begun, stream.closed) == (0, 1)
    assert (await runs.start(["word"], key=KEY)).started


@pytest.mark.parametrize("operation", ["secret", "create"])
async def test_a_start_without_a_store_is_refused_and_the_source_closed(
    runs: Runs, store: FaultyStore, operation: str
) -> None:
    stream = Stream()
    store.unavailable(1, operation="secret" if operation == "secret" else "create")

    with pytest.raises(StoreUnavailableError):
        await runs.start(stream, key=KEY)

    assert (stream.begun, stream.closed) == (0, 1)
    assert await (await runs.start(["word"], key=KEY)).text() == "word"


async def test_a_loser_whose_close_fails_or_hangs_gets_its_run_all_the_same(
    runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Stream):
        async def close(self) -> None:
            raise OSError("already gone")

    class Hanging(Stream):
        async def close(self) -> None:
            await asyncio.Event().wait()

    first = await runs.start(["word"], key=KEY)

    async with asyncio.timeout(BOUND_SECONDS):
        others = [await runs.start(source(), key=KEY) for source in (Failing, Hanging)]

    assert [run.id for run in others] == [first.id] * 2
    assert "failed while it was being closed" in caplog.text
    assert "to close and was left to itself" in caplog.text
    await finish(runs, first)


async def test_a_loser_that_is_cancelled_still_waits_until_its_source_is_closed(open_runs: OpenRuns) -> None:
    runs = open_runs(patience_seconds=BOUND_SECONDS)
    closing, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Stream):
        async def close(self) -> None:
            closing.set()
            await go_on.wait()
            self.closed += 1

    stream = Slow()
    first = await runs.start(["word"], key=KEY)
    losing = asyncio.create_task(runs.start(stream, key=KEY))
    await closing.wait()

    losing.cancel()
    await asyncio.wait({losing}, timeout=0.01)
    still_closing = not losing.done()
    go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await losing
    assert still_closing
    assert stream.closed == 1
    await finish(runs, first)


async def test_a_start_that_is_cancelled_closes_its_source(runs: Runs, store: FaultyStore) -> None:
    stream = Stream()
    store.delay(asyncio.Event(), operation="create")
    start = asyncio.create_task(runs.start(stream, key=KEY))
    await store.paused("create")

    start.cancel()

    with pytest.raises(asyncio.CancelledError):
        await start
    assert (stream.begun, stream.closed) == (0, 1)


# Finding ---------------------------------------------------------------------------------------------------------


async def test_an_attach_finds_a_run_and_never_starts_one(runs: Runs) -> None:
    run = await runs.start(["word"])
    log = await finish(runs, run)

    attached = await runs.attach(run.id, after=1)

    assert [entry async for entry in attached] == log[1:]
    assert not attached.started
    with pytest.raises(RunNotFoundError):
        await runs.attach("r" * 26)
    assert runs.live("r" * 26) is None


async def test_only_the_owner_is_authorized(runs: Runs) -> None:
    run = await runs.start(["word"], owner="ada")

    assert (await runs.authorize(run.id, "ada")).run_id == run.id
    for stranger in ("eve", "", None):
        with pytest.raises(RunNotFoundError):
            await runs.authorize(run.id, stranger)
    await finish(runs, run)


async def test_running_runs_are_found_by_owner_and_thread(runs: Runs) -> None:
    released = asyncio.Event()

    async def source() -> AsyncGenerator[str]:
        await released.wait()
        yield "word"

    done = await runs.start(["word"], owner="ada", thread="t")
    await finish(runs, done)
    first = await runs.start(source, owner="ada", thread="t")
    second = await runs.start(source, owner="ada", thread="u")
    other = await runs.start(source, owner="eve", thread="t")

    assert [info.id for info in await runs.active(owner="ada")] == [second.id, first.id]
    assert [info.id for info in await runs.active(owner="ada", thread="t")] == [first.id]
    assert [(info.id, info.status) for info in await runs.active(thread="t", limit=1)] == [(other.id, "running")]
    released.set()
    for run in (first, second, other):
        await finish(runs, run)


async def test_a_run_so_far_is_reduced_without_waiting_for_its_end(runs: Runs) -> None:
    released = asyncio.Event()

    async def source() -> AsyncGenerator[str]:
        yield "so far"
        await released.wait()

    run = await runs.start(source)
    await read_until(runs, run.id, 2)

    so_far = await runs.reduced(run.id)
    released.set()
    await finish(runs, run)
    whole = await runs.reduced(run.id)

    assert (so_far.text, so_far.status) == ("so far", "running")
    assert (whole.text, whole.status) == ("so far", "completed")


@pytest.mark.parametrize("source", [5, "text"])
async def test_what_is_no_source_does_not_take_the_key(runs: Runs, source: Any) -> None:  # noqa: ANN401  bad on purpose
    with pytest.raises(SourceInvalidError):
        await runs.start(source, key=KEY)

    assert (await runs.start(["word"], key=KEY)).started
