"""The hub subscribes once to each run that is followed here, and tells its producer that it is followed."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

import pytest

from tailrace import events
from tailrace.events import Entry, encode_record
from tailrace.runtime import hub as hub_module
from tailrace.runtime import topics
from tailrace.runtime.hub import Hub
from tailrace.runtime.observer import Observer
from tailrace.runtime.topics import FOLLOWING, run_topic
from tailrace.stores.contract import Ack, Hint, Lease, RunStore, Stop, Write
from tailrace.stores.memory import MemoryStore
from tailrace.testing import FakeClock, FaultyStore
from tests.runtime.reading import BOUND_SECONDS
from tests.runtime.shared import SharedMemoryStore

RUN_ID, OTHER_ID = "r" * 26, "s" * 26
PRESENCE_SECONDS = 0.01


class Ear:
    """A listener that notes what it heard."""

    def __init__(self) -> None:
        self.told: list[Sequence[Entry] | None] = []

    def heard(self, entries: Sequence[Entry] | None) -> None:
        self.told.append(entries)

    @property
    def seqs(self) -> list[int]:
        return [entry.seq for entries in self.told for entry in entries or ()]


class CountingStore(SharedMemoryStore):
    """Counts subscriptions.

    Attributes:
        subscribed: How many are open now.
        ever: How many there ever were.
    """

    subscribed = 0
    ever = 0

    def subscribe(self, run_id: str, hint: Hint) -> Stop:
        stop_inner = super().subscribe(run_id, hint)
        self.subscribed += 1
        self.ever += 1

        def stop() -> None:
            stop_inner()
            self.subscribed -= 1

        return stop


class ListeningObserver(Observer):
    """Notes of which runs it was told that they live."""

    def __init__(self, store: RunStore, clock: FakeClock) -> None:
        super().__init__(store, clock=clock, lease_seconds=10)
        self.alive: list[str] = []

    def heard(self, run_id: str) -> None:
        self.alive.append(run_id)
        super().heard(run_id)


class Presence:
    """Hears what is announced to a run's producer."""

    def __init__(self, store: RunStore, run_id: str) -> None:
        self.heard: list[str] = []
        self._event = asyncio.Event()
        store.listen(run_topic(run_id), self._hear)

    def _hear(self, text: str) -> None:
        self.heard.append(text)
        self._event.set()

    async def announced(self, times: int) -> None:
        """Wait until it was heard so often."""
        async with asyncio.timeout(BOUND_SECONDS):
            while len(self.heard) < times:
                self._event.clear()
                await self._event.wait()


@pytest.fixture
def inner(clock: FakeClock) -> CountingStore:
    return CountingStore(monotonic=clock.monotonic)


@pytest.fixture
def store(inner: CountingStore) -> FaultyStore:
    return FaultyStore(inner)


@pytest.fixture
async def observer(store: FaultyStore, clock: FakeClock) -> AsyncGenerator[ListeningObserver]:
    observer = ListeningObserver(store, clock)
    yield observer
    await observer.aclose()


@pytest.fixture
async def hub(store: FaultyStore, observer: ListeningObserver) -> AsyncGenerator[Hub]:
    hub = Hub(store, observer)
    yield hub
    await hub.aclose()


@pytest.fixture
async def say(inner: CountingStore) -> Callable[[str], "asyncio.Task[None]"]:
    """Append a word to the run, as its producer elsewhere."""
    lease = await inner.create(RUN_ID, owner=None, thread=None, fingerprint=b"")
    assert lease is not None

    def say(word: str) -> "asyncio.Task[None]":
        return asyncio.create_task(append(inner, lease, word))

    return say


async def append(store: CountingStore, lease: Lease, word: str) -> None:
    last = (await store.info(lease.run_id)).last
    write = Write(lease, last + 1, [encode_record(0, events.TextDelta(word))])
    assert await store.commit([write]) == [Ack(last + 1)]


def tasks(name: str) -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == name]


Say = Callable[[str], "asyncio.Task[None]"]


# Subscriptions ---------------------------------------------------------------------------------------------------


async def test_all_followers_of_a_run_share_one_subscription_and_one_decoding(
    hub: Hub, inner: CountingStore, say: Say
) -> None:
    ears = [Ear() for _ in range(5)]
    for ear in ears:
        hub.join(RUN_ID, ear)

    await say("word")

    assert inner.ever == 1
    assert [ear.seqs for ear in ears] == [[1]] * 5
    assert len({id(entries) for ear in ears for entries in ear.told}) == 1


async def test_whoever_left_hears_nothing_and_the_last_one_ends_the_subscription(
    hub: Hub, inner: CountingStore, say: Say
) -> None:
    first, second = Ear(), Ear()
    leave_first, leave_second = hub.join(RUN_ID, first), hub.join(RUN_ID, second)
    await say("both")
    leave_first()
    await say("one")
    between = inner.subscribed

    leave_second()
    leave_second()
    await say("none")

    assert (first.seqs, second.seqs) == ([1], [1, 2])
    assert (between, inner.subscribed) == (1, 0)


async def test_a_run_that_is_followed_again_is_subscribed_to_again(hub: Hub, inner: CountingStore, say: Say) -> None:
    hub.join(RUN_ID, Ear())()
    ear = Ear()
    hub.join(RUN_ID, ear)

    await say("word")

    assert (inner.ever, inner.subscribed, ear.seqs) == (2, 1, [1])


async def test_a_hint_without_records_says_look(hub: Hub, store: FaultyStore, say: Say) -> None:
    ear = Ear()
    hub.join(RUN_ID, ear)
    store.strip_hints()

    await say("word")

    assert ear.told == [None]


async def test_what_is_appended_shows_the_observer_that_the_run_lives(
    hub: Hub, observer: ListeningObserver, store: FaultyStore, say: Say
) -> None:
    hub.join(RUN_ID, Ear())
    await say("word")
    alive = list(observer.alive)

    store.strip_hints()
    await say("word")

    # A hint without records may come from anybody, such as from whoever cancels the run.
    assert (alive, observer.alive) == ([RUN_ID], [RUN_ID])


async def test_a_listener_may_leave_while_it_is_told(hub: Hub, say: Say) -> None:
    class Leaver(Ear):
        def heard(self, entries: Sequence[Entry] | None) -> None:
            super().heard(entries)
            leave()

    leaver, other = Leaver(), Ear()
    leave = hub.join(RUN_ID, leaver)
    hub.join(RUN_ID, other)

    await say("one")
    await say("two")

    assert (leaver.seqs, other.seqs) == ([1], [1, 2])


async def test_closing_leaves_all_runs_and_leaving_after_it_is_harmless(
    hub: Hub, inner: CountingStore, say: Say
) -> None:
    ear = Ear()
    leave = hub.join(RUN_ID, ear)
    hub.join(OTHER_ID, Ear())

    await hub.aclose()
    leave()
    await say("word")

    assert (inner.subscribed, ear.told) == (0, [])
    assert tasks("tailrace-presence") == []


# Presence --------------------------------------------------------------------------------------------------------


async def test_a_producer_hears_at_once_and_again_and_again_that_its_run_is_followed(
    hub: Hub, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "PRESENCE_SECONDS", PRESENCE_SECONDS)
    presence = Presence(store, RUN_ID)
    began = asyncio.get_running_loop().time()

    hub.join(RUN_ID, Ear())
    await presence.announced(4)

    assert set(presence.heard) == {FOLLOWING}
    assert asyncio.get_running_loop().time() - began >= 2 * PRESENCE_SECONDS


async def test_the_producer_of_a_second_run_does_not_wait_for_the_next_round_of_the_first(
    hub: Hub, store: FaultyStore
) -> None:
    first, second = Presence(store, RUN_ID), Presence(store, OTHER_ID)
    hub.join(RUN_ID, Ear())
    await first.announced(1)

    async with asyncio.timeout(topics.PRESENCE_SECONDS / 2):
        hub.join(OTHER_ID, Ear())
        await second.announced(1)

    assert len(first.heard) == 1


async def test_runs_that_join_all_the_time_do_not_keep_others_from_their_turn(
    hub: Hub, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "PRESENCE_SECONDS", PRESENCE_SECONDS)
    presence = Presence(store, RUN_ID)
    hub.join(RUN_ID, Ear())

    async with asyncio.timeout(BOUND_SECONDS):
        number = 0
        while len(presence.heard) < 3:
            hub.join(f"run-{number}", Ear())
            number += 1
            await asyncio.sleep(PRESENCE_SECONDS / 4)

    assert number >= 3


async def test_an_outage_does_not_end_the_announcements(
    hub: Hub, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "PRESENCE_SECONDS", PRESENCE_SECONDS)
    presence = Presence(store, RUN_ID)
    store.unavailable(2, operation="signal")

    hub.join(RUN_ID, Ear())
    await presence.announced(2)

    assert presence.heard == [FOLLOWING] * 2


async def test_when_nobody_follows_any_more_nothing_is_announced_any_more(
    hub: Hub, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "PRESENCE_SECONDS", PRESENCE_SECONDS)
    presence = Presence(store, RUN_ID)
    leave = hub.join(RUN_ID, Ear())
    await presence.announced(1)
    (task,) = tasks("tailrace-presence")

    leave()
    await asyncio.wait_for(task, BOUND_SECONDS)
    known = len(presence.heard)
    hub.join(RUN_ID, Ear())
    await presence.announced(known + 1)

    assert len(tasks("tailrace-presence")) == 1


async def test_a_store_of_one_process_announces_nothing(clock: FakeClock) -> None:
    store = MemoryStore(monotonic=clock.monotonic)
    hub = Hub(store, Observer(store, clock=clock, lease_seconds=10))

    leave = hub.join(RUN_ID, Ear())

    assert tasks("tailrace-presence") == []
    leave()
    await hub.aclose()
