"""Every turn finds its end, whoever is left to see it; in any database."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import date

import pytest
import pytest_asyncio

from tailrace import Tailrace
from tailrace.chat.conversations.refusals import ConversationsUnavailableError
from tailrace.chat.conversations.settling import Settler
from tailrace.chat.conversations.store import Conversations
from tailrace.errors import StoreSetupError
from tailrace.events import Event, TextDelta, Usage
from tailrace.fold import Reduced
from tailrace.runtime.supervisor import Order
from tailrace.stores.memory import MemoryStore
from tailrace.testing import FakeClock
from tests.conversations.conftest import OpenWorker
from tests.conversations.talking import ADA, ask, texts

FIRST_DAY = date(1970, 1, 1)
TURN = "r1-of-this-conversation"
RUN = f"ada-{TURN}"


@pytest.fixture
def gate() -> asyncio.Event:
    """What answers wait for before their last word."""
    return asyncio.Event()


@pytest_asyncio.fixture
async def tail(clock: FakeClock) -> AsyncGenerator[Tailrace]:
    async with Tailrace(clock=clock) as tail:
        yield tail


@pytest_asyncio.fixture
async def settler(tail: Tailrace, store: Conversations) -> AsyncGenerator[Settler]:
    async with contextlib.aclosing(Settler(tail, store)) as settler:
        yield settler


async def begin(tail: Tailrace, store: Conversations, gate: asyncio.Event, run: str = TURN) -> None:
    """A turn whose answer has said "Half " and waits."""
    said = asyncio.Event()

    async def answer() -> AsyncIterator[Event]:
        await ask(store, "Hello", run)
        yield TextDelta("Half ")
        said.set()
        await gate.wait()
        yield TextDelta("done.")
        yield Usage(input_tokens=5, output_tokens=2)

    await tail.start(answer(), run_id=f"ada-{run}")
    await said.wait()


def counted(store: Conversations, monkeypatch: pytest.MonkeyPatch) -> asyncio.Semaphore:
    """Has a place for each turn that was finished."""
    places = asyncio.Semaphore(0)
    finish = store.finish

    async def finishing(run_id: str, reduced: Reduced, *, begun_until_ms: int | None = None) -> bool:
        done = await finish(run_id, reduced, begun_until_ms=begun_until_ms)
        places.release()
        return done

    monkeypatch.setattr(store, "finish", finishing)
    return places


async def status(store: Conversations) -> tuple[str, str]:
    answer = (await store.get(ADA.owner, "c1")).messages[-1]
    return answer.status, answer.text


async def test_who_watches_a_run_finishes_its_turn_at_its_end(
    tail: Tailrace, store: Conversations, settler: Settler, gate: asyncio.Event
) -> None:
    await begin(tail, store, gate)
    watch = settler.watch(RUN)

    assert settler.watch(RUN) is watch
    assert await status(store) == ("running", "")
    gate.set()
    await watch

    assert await status(store) == ("completed", "Half done.")
    assert await store.spent_tokens("acme", FIRST_DAY) == 7


async def test_a_run_that_is_stopped_keeps_what_it_said(
    tail: Tailrace, store: Conversations, settler: Settler, gate: asyncio.Event
) -> None:
    await begin(tail, store, gate)
    watch = settler.watch(RUN)

    await tail.cancel(RUN)
    await watch

    assert await status(store) == ("cancelled", "Half ")


async def test_whoever_looks_finishes_what_has_ended(
    tail: Tailrace, store: Conversations, settler: Settler, gate: asyncio.Event
) -> None:
    await begin(tail, store, gate)
    assert await settler.settle(await store.open_turns(ADA.owner, ["c1"])) == 0
    gate.set()
    await (await tail.attach(RUN)).reduced()

    assert await settler.settle(await store.open_turns(ADA.owner, ["c1", "\0"])) == 1

    assert await status(store) == ("completed", "Half done.")


async def test_two_workers_settle_a_turn_once(
    tail: Tailrace, store: Conversations, open_worker: OpenWorker, gate: asyncio.Event
) -> None:
    other: Conversations = await open_worker()
    workers = [Settler(tail, store), Settler(tail, other)]
    gate.set()
    for n in range(5):
        await begin(tail, store, gate, f"{TURN}{n}")
        await (await tail.attach(f"{RUN}{n}")).reduced()
    turns = await store.open_turns(ADA.owner, ["c1"])
    assert len(turns) == 5

    await asyncio.gather(*(worker.settle(turns) for worker in workers * 2))

    assert await store.spent_tokens("acme", FIRST_DAY) == 5 * 7


async def test_a_dead_workers_turn_keeps_what_it_had_said(
    store: Conversations, clock: FakeClock, gate: asyncio.Event
) -> None:
    logs = MemoryStore(monotonic=clock.monotonic)
    dead = Tailrace(logs, clock=clock)
    await dead.open()
    await begin(dead, store, gate)
    # Its last words: what a worker that sees its silence says for it.
    await dead.drain(0)

    tail = Tailrace(logs, clock=clock)
    settler = Settler(tail, store)
    assert await settler.settle(await store.unsettled(before_ms=2**62)) == 1

    assert await status(store) == ("interrupted", "Half ")
    assert texts(await store.messages("c1", ADA.owner)) == ["Hello", "Half "]
    await dead.aclose()


async def test_a_run_that_nobody_knows_any_more_is_interrupted_after_a_while(
    store: Conversations, settler: Settler, clock: FakeClock
) -> None:
    await ask(store, "Hello", "r1")
    turns = await store.open_turns(ADA.owner, ["c1"])

    assert await settler.settle(turns) == 0
    clock.advance(10)
    assert await settler.settle(turns) == 1

    assert await status(store) == ("interrupted", "")
    failure = (await store.get(ADA.owner, "c1")).messages[-1].failure
    assert failure is not None
    assert failure.code == "worker_lost"


async def test_a_watched_run_that_failed_before_its_first_word_is_failed(
    tail: Tailrace, store: Conversations, settler: Settler
) -> None:
    watches: list[asyncio.Task[None]] = []

    async def answer() -> AsyncIterator[Event]:
        await ask(store, "Hello", TURN)
        watches.append(settler.watch(RUN))
        await asyncio.sleep(0)
        if watches:
            raise RuntimeError("secret")
        yield TextDelta("")

    await tail.order(RUN, Order(source=answer(), fingerprint=b"", early=True))
    live = tail.live(RUN)
    assert live is not None
    assert isinstance(await live.first_event(5), RuntimeError)
    await watches[0]

    answer_row = (await store.get(ADA.owner, "c1")).messages[-1]
    assert answer_row.status == "failed"
    assert answer_row.failure is not None
    assert (answer_row.failure.code, answer_row.failure.message) == ("error", "")


async def test_a_turn_that_begins_again_at_once_is_watched_again(
    tail: Tailrace, store: Conversations, settler: Settler, clock: FakeClock
) -> None:
    watches: list[asyncio.Task[None]] = []

    async def answer() -> AsyncIterator[Event]:
        await ask(store, "Hello", TURN)
        watches.append(settler.watch(RUN))
        if len(watches) == 1:
            raise RuntimeError("secret")
        yield TextDelta("Hi")

    for _ in range(2):
        await tail.order(RUN, Order(source=answer(), early=True))
        live = tail.live(RUN)
        assert live is not None
        await live.first_event(5)
        clock.advance(0.001)
    await asyncio.gather(*watches)

    assert len(set(watches)) == 2
    assert await status(store) == ("completed", "Hi")


async def test_the_sweep_goes_through_all_open_turns(
    tail: Tailrace, store: Conversations, settler: Settler, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.chat.conversations.settling._BATCH", 2)
    finished = counted(store, monkeypatch)
    for n in range(5):
        await ask(store, "Hello", f"r{n}", thread=f"c{n}")
    clock.advance(60)

    await settler.open()
    for _ in range(5):
        await finished.acquire()

    listed = (await store.list(ADA.owner)).conversations
    assert [each.running for each in listed] == [False] * 5


async def test_live_turns_do_not_hide_those_behind_them_from_the_sweep(
    tail: Tailrace,
    store: Conversations,
    settler: Settler,
    gate: asyncio.Event,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tailrace.chat.conversations.settling._BATCH", 1)
    finished = counted(store, monkeypatch)
    await begin(tail, store, gate)
    await ask(store, "Hello", "r2", thread="c2")
    clock.advance(60)

    await settler.open()
    await finished.acquire()

    assert [each.run_id for each in await store.unsettled(before_ms=2**62)] == [RUN]


async def test_a_sweep_outlives_a_database_that_is_away(
    tail: Tailrace, store: Conversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([False, False, True])
    back = asyncio.Event()

    async def unsettled(**_: object) -> list[object]:
        if not next(answers, True):
            raise ConversationsUnavailableError
        back.set()
        return []

    monkeypatch.setattr(store, "unsettled", unsettled)
    async with contextlib.aclosing(Settler(tail, store, sweep_seconds=0)) as settler:
        await settler.open()
        await back.wait()


async def test_when_the_process_stops_turns_are_finished_first(
    store: Conversations, clock: FakeClock, gate: asyncio.Event
) -> None:
    tail = Tailrace(clock=clock)
    settler = Settler(tail, store)
    await tail.open()
    await settler.open()
    await begin(tail, store, gate)
    watch = settler.watch(RUN)

    await tail.drain(0.2)
    await settler.aclose()
    await tail.aclose()

    assert watch.done()
    assert await status(store) == ("interrupted", "Half ")


async def test_stopping_waits_no_longer_than_it_may(
    tail: Tailrace, store: Conversations, settler: Settler, gate: asyncio.Event
) -> None:
    await begin(tail, store, gate)
    watch = settler.watch(RUN)

    await settler.aclose(0)

    assert watch.cancelled()
    assert await status(store) == ("running", "")


async def test_logs_that_are_gone_before_the_second_look_are_refused(tail: Tailrace, store: Conversations) -> None:
    with pytest.raises(StoreSetupError, match="retention_seconds"):
        Settler(tail, store, sweep_seconds=60, retention_seconds=119)

    Settler(tail, store, sweep_seconds=60, retention_seconds=120)


async def test_runs_that_are_gone_are_cancelled_without_an_error(
    tail: Tailrace, store: Conversations, settler: Settler, gate: asyncio.Event
) -> None:
    await begin(tail, store, gate)

    await settler.cancel(["unknown", RUN])

    assert (await (await tail.attach(RUN)).reduced()).status == "cancelled"
