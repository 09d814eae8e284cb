"""The committer writes at once what is urgent, together what is not, and speaks for runs that say nothing."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest

from tailrace import events
from tailrace.errors import StoreError
from tailrace.events import Entry, Event, Terminal, encode_record
from tailrace.runtime.clock import SystemClock
from tailrace.runtime.committer import Committer
from tailrace.runtime.limits import Limits
from tailrace.runtime.log import LiveLog
from tailrace.runtime.producer import FINAL_STATES
from tailrace.runtime.runs import Runs
from tailrace.stores.contract import OPEN, Ack, Lease, RunStore, Write
from tailrace.stores.memory import MemoryStore
from tailrace.testing import FakeClock, FaultyStore, collect
from tests.runtime.feed import Feed
from tests.runtime.reading import BOUND_SECONDS, read_until
from tests.runtime.shared import SharedMemoryStore

RUN_ID = "r" * 26
#: The committer wakes up every few real milliseconds, but time only passes when a test says so.
LEASE_SECONDS = 0.01
OUTAGE_SECONDS = 1.0
NEVER_SECONDS = 1_000.0
FOR_EVER = 1_000_000
_TURNS = 20


class Speaker:
    """A run whose log the test writes by itself; it notes what the committer tells it."""

    def __init__(self, lease: Lease) -> None:
        self.log = LiveLog(lease)
        self.told: list[str] = []

    def say(self, *said: Event) -> None:
        for event in said:
            final = FINAL_STATES[type(event)] if isinstance(event, Terminal) else OPEN
            self.log.append(Entry(self.log.length + 1, 0, event), encode_record(0, event), final=final)

    async def restore(self, store: RunStore) -> None:
        self.told.append("restore")
        await store.restore(self.log.lease, owner=None, thread=None, fingerprint=b"")

    def cancel_requested(self, reason: str) -> None:
        self.told.append(reason)

    def fenced(self) -> None:
        self.told.append("fenced")
        self.log.detach()

    def store_lost(self) -> None:
        self.told.append("store_lost")
        self.log.part(Entry(0, 0, events.RunFailed(code="store_unavailable", message="Lost.")))


class RoundedCommitter(Committer):
    """A committer that a test can wait for."""

    def __init__(self, store: RunStore, clock: FakeClock) -> None:
        limits = Limits(outage_seconds=OUTAGE_SECONDS)
        super().__init__(store, clock=clock, limits=limits, lease_seconds=LEASE_SECONDS)
        self._rounds = asyncio.Condition()

    async def _flush(self) -> bool:
        well = await super()._flush()
        async with self._rounds:
            self._rounds.notify_all()
        return well

    async def flushed(self) -> None:
        """Wait until it has sent what is due as the time is now."""
        async with asyncio.timeout(BOUND_SECONDS), self._rounds:
            await self._rounds.wait()


@pytest.fixture
def interval_seconds() -> float:
    return 0.0


@pytest.fixture
def inner(clock: FakeClock, interval_seconds: float) -> SharedMemoryStore:
    return SharedMemoryStore(monotonic=clock.monotonic, commit_interval_seconds=interval_seconds)


@pytest.fixture
def store(inner: SharedMemoryStore) -> FaultyStore:
    return FaultyStore(inner)


@pytest.fixture
async def committer(store: FaultyStore, clock: FakeClock) -> AsyncGenerator[RoundedCommitter]:
    committer = RoundedCommitter(store, clock)
    yield committer
    await committer.aclose(0)


async def begin(store: RunStore, committer: Committer, run_id: str = RUN_ID) -> Speaker:
    """A run that has said that it began."""
    lease = await store.create(run_id, owner=None, thread=None, fingerprint=b"")
    assert lease is not None
    speaker = Speaker(lease)
    speaker.say(events.RunStarted(run_id=run_id))
    committer.mark(speaker, urgent=True)
    return speaker


async def turns() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)


def counts(writes: Sequence[Sequence[Write]]) -> list[list[int]]:
    """How many records each write of each commit has; 0 is a heartbeat."""
    return [[len(write.records) for write in commit] for commit in writes]


def words(count: int) -> list[events.TextDelta]:
    return [events.TextDelta(f"w{number} ") for number in range(count)]


# When ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval_seconds", [NEVER_SECONDS])
class TestAPauseThatDoesNotEnd:
    """The store wants so long a pause that only what is urgent gets through."""

    async def test_the_first_write_does_not_wait(self, inner: SharedMemoryStore, committer: RoundedCommitter) -> None:
        speaker = await begin(inner, committer)

        await inner.written(1)
        await turns()

        assert counts(inner.writes) == [[1]]
        assert speaker.log.acked == 1

    async def test_deltas_wait_and_go_with_what_is_urgent_in_one_write(
        self, inner: SharedMemoryStore, committer: RoundedCommitter
    ) -> None:
        speaker = await begin(inner, committer)
        await inner.written(1)
        for word in words(5):
            speaker.say(word)
            committer.mark(speaker, urgent=False)
        await turns()
        waiting = counts(inner.writes)

        speaker.say(events.ToolStarted(call_id="c1", name="look_up"))
        committer.mark(speaker, urgent=True)
        await inner.written(2)

        assert waiting == [[1]]
        assert counts(inner.writes) == [[1], [6]]

    async def test_what_is_urgent_takes_other_runs_along(
        self, inner: SharedMemoryStore, committer: RoundedCommitter
    ) -> None:
        first, second = await begin(inner, committer), await begin(inner, committer, "s" * 26)
        await inner.written(1)
        first.say(*words(3))
        committer.mark(first, urgent=False)
        await turns()

        second.say(events.RunCompleted())
        committer.mark(second, urgent=True)
        await inner.written(2)

        assert counts(inner.writes) == [[1, 1], [3, 1]]
        assert (await inner.info(second.log.lease.run_id)).state == FINAL_STATES[events.RunCompleted]

    async def test_what_becomes_urgent_during_a_write_goes_with_the_next(
        self, inner: SharedMemoryStore, store: FaultyStore, committer: RoundedCommitter
    ) -> None:
        gate = asyncio.Event()
        store.delay(gate)
        speaker = await begin(inner, committer)
        await store.paused()
        speaker.say(*words(2), events.Status("Thinking"))
        committer.mark(speaker, urgent=True)

        gate.set()
        await inner.written(2)

        assert counts(inner.writes) == [[1], [3]]

    async def test_closing_brings_what_waits_into_the_store(
        self, inner: SharedMemoryStore, committer: RoundedCommitter
    ) -> None:
        speaker = await begin(inner, committer)
        await inner.written(1)
        speaker.say(*words(4))
        committer.mark(speaker, urgent=False)
        await turns()

        await committer.aclose(BOUND_SECONDS)

        assert counts(inner.writes) == [[1], [4]]
        assert speaker.log.acked == 5

    async def test_a_source_whose_tools_speak_is_heard_at_once_and_its_text_a_little_later(
        self, inner: SharedMemoryStore, clock: FakeClock, feed: Feed
    ) -> None:
        async with Runs(inner, clock=clock) as runs, Runs(inner, clock=clock) as remote:
            run = await runs.start(feed.source)
            feed.put("first")
            await read_until(remote, run.id, 2)
            feed.put(*words(3))
            await turns()
            unheard = (await inner.info(run.id)).last
            feed.put(events.ToolStarted(call_id="c1", name="look_up"))
            await read_until(remote, run.id, 6)
            feed.put(events.TextDelta("last"), None)

            log = await collect(remote.follow(run.id))

        assert unheard == 2
        assert [event for event in counts(inner.writes) if event != [0]][-2:] == [[4], [2]]
        assert len(log) == 8


@pytest.mark.parametrize("interval_seconds", [0.03])
async def test_deltas_wait_no_longer_than_the_store_wants(
    inner: SharedMemoryStore, committer: RoundedCommitter
) -> None:
    loop = asyncio.get_running_loop()
    speaker = await begin(inner, committer)
    await inner.written(1)
    wrote_at = loop.time()

    for word in words(5):
        speaker.say(word)
        committer.mark(speaker, urgent=False)
        await turns()
    await inner.written(2)

    assert loop.time() - wrote_at >= 0.02
    assert counts(inner.writes) == [[1], [5]]


@pytest.mark.parametrize("interval_seconds", [NEVER_SECONDS])
async def test_after_a_silence_a_delta_does_not_wait(
    inner: SharedMemoryStore, committer: RoundedCommitter, clock: FakeClock
) -> None:
    speaker = await begin(inner, committer)
    await inner.written(1)
    await turns()
    clock.advance(NEVER_SECONDS)

    speaker.say(*words(1))
    committer.mark(speaker, urgent=False)
    await committer.flushed()

    assert speaker.log.acked == 2


async def test_closing_a_committer_that_never_wrote_does_nothing(
    inner: SharedMemoryStore, committer: RoundedCommitter
) -> None:
    await committer.aclose(BOUND_SECONDS)

    assert inner.writes == []


async def test_closing_waits_for_a_store_that_is_away_no_longer_than_told(
    inner: SharedMemoryStore, store: FaultyStore, committer: RoundedCommitter
) -> None:
    store.unavailable(FOR_EVER)
    speaker = await begin(inner, committer)

    await committer.aclose(0.01)

    assert (speaker.log.acked, inner.writes) == (0, [])


async def test_closing_outlasts_a_short_outage(
    inner: SharedMemoryStore, store: FaultyStore, committer: RoundedCommitter
) -> None:
    store.unavailable(3)
    speaker = await begin(inner, committer)
    speaker.say(*words(2), events.RunCompleted())

    await committer.aclose(BOUND_SECONDS)

    assert speaker.log.settled


# Heartbeats ------------------------------------------------------------------------------------------------------


async def beat(clock: FakeClock, committer: RoundedCommitter, leases: float) -> None:
    """Let time pass, in steps that are short enough for the committer to see it pass."""
    for _ in range(round(leases * 50)):
        clock.advance(LEASE_SECONDS / 50)
        await committer.flushed()


async def test_a_silent_run_says_about_three_times_a_lease_that_it_lives(
    inner: SharedMemoryStore, committer: RoundedCommitter, clock: FakeClock
) -> None:
    await begin(inner, committer)
    await inner.written(1)
    beats_at: list[float] = [clock.monotonic()]

    for _ in range(200):
        known = len(inner.writes)
        await beat(clock, committer, 0.02)
        beats_at += [clock.monotonic()] * (len(inner.writes) - known)

    gaps = [(after - before) / LEASE_SECONDS for before, after in pairwise(beats_at)]
    assert counts(inner.writes) == [[1], *[[0]] * len(gaps)]
    assert len(gaps) >= 12
    assert min(gaps) > 1 / 5
    assert max(gaps) < 1 / 3 + 1 / 50


async def test_a_run_that_speaks_sends_no_heartbeats(
    inner: SharedMemoryStore, committer: RoundedCommitter, clock: FakeClock
) -> None:
    speaker = await begin(inner, committer)
    await inner.written(1)

    for word in words(20):
        clock.advance(LEASE_SECONDS / 6)
        speaker.say(word)
        committer.mark(speaker, urgent=False)
        await committer.flushed()
        await turns()

    assert [0] not in counts(inner.writes)
    assert speaker.log.acked == 21


async def test_many_silent_runs_beat_together(
    inner: SharedMemoryStore, committer: RoundedCommitter, clock: FakeClock
) -> None:
    for number in range(10):
        await begin(inner, committer, f"{number}" * 26)
        clock.advance(LEASE_SECONDS / 200)
    await inner.written(1)
    known = len(inner.writes)

    await beat(clock, committer, 1)

    beats = counts(inner.writes[known:])
    assert 3 <= len(beats) <= 5
    assert max(map(len, beats)) == 10


@pytest.mark.parametrize("end", ["completed", "fenced", "lost"])
async def test_a_run_that_has_ended_sends_no_heartbeats(
    inner: SharedMemoryStore, committer: RoundedCommitter, clock: FakeClock, end: str
) -> None:
    ended, other = await begin(inner, committer), await begin(inner, committer, "s" * 26)
    await inner.written(1)
    if end == "completed":
        ended.say(events.RunCompleted())
        committer.mark(ended, urgent=True)
        await inner.written(2)
    elif end == "fenced":
        ended.fenced()
    else:
        ended.store_lost()
    known = len(inner.writes)

    await beat(clock, committer, 2)

    beating = {write.lease.run_id for commit in inner.writes[known:] for write in commit}
    assert beating == {other.log.lease.run_id}


async def test_a_run_under_an_id_whose_first_run_was_undone_beats_too(
    inner: SharedMemoryStore, committer: RoundedCommitter, clock: FakeClock
) -> None:
    undone = await begin(inner, committer)
    await inner.written(1)
    undone.log.part(Entry(0, 0, events.RunFailed(code="error", message="Undone.")))
    await inner.purge(RUN_ID)

    again = await begin(inner, committer)
    await inner.written(2)
    await beat(clock, committer, 2)

    beats = [write for commit in inner.writes[2:] for write in commit]
    assert len(beats) >= 5
    assert {(write.lease, len(write.records)) for write in beats} == {(again.log.lease, 0)}


async def test_a_silent_run_does_not_wait_for_others_to_be_written_with() -> None:
    """On a clock that moves by itself; a busy machine makes gaps longer, but hardly all of them."""
    lease_seconds, clock = 0.4, SystemClock()
    store = SharedMemoryStore(monotonic=clock.monotonic)
    committer = Committer(store, clock=clock, limits=Limits(), lease_seconds=lease_seconds)
    await begin(store, committer)
    beats_at: list[float] = []

    for commits in range(1, 6):
        await store.written(commits)
        beats_at.append(clock.monotonic())
    await committer.aclose(0)

    shortest = min(after - before for before, after in pairwise(beats_at))
    assert lease_seconds / 5 < shortest < lease_seconds * 0.36


async def test_a_store_of_one_process_gets_no_heartbeats(clock: FakeClock) -> None:
    class Noting(MemoryStore):
        written: tuple[str, ...] = ()

        async def commit(self, writes: Sequence[Write]) -> Sequence[Ack | StoreError]:
            self.written += tuple(write.lease.run_id for write in writes)
            return await super().commit(writes)

    store = Noting(monotonic=clock.monotonic)
    async with AsyncExitStack() as stack:
        committer = RoundedCommitter(store, clock)
        stack.push_async_callback(committer.aclose, 0)
        await begin(store, committer)
        await committer.flushed()
        clock.advance(LEASE_SECONDS * 100)
        await begin(store, committer, "s" * 26)
        await committer.flushed()

    assert store.written == (RUN_ID, "s" * 26)


# What a heartbeat finds out --------------------------------------------------------------------------------------


async def test_a_heartbeat_finds_that_the_store_lost_the_end_of_the_log_and_sends_it_again(
    inner: SharedMemoryStore, store: FaultyStore, committer: RoundedCommitter, clock: FakeClock
) -> None:
    speaker = await begin(inner, committer)
    speaker.say(*words(3))
    committer.mark(speaker, urgent=True)
    await inner.written(1)
    await store.forget(RUN_ID, 2)
    lost = (await store.info(RUN_ID)).last

    await beat(clock, committer, 1)

    assert (lost, (await store.info(RUN_ID)).last) == (2, 4)
    assert speaker.told == []


async def test_a_heartbeat_finds_that_the_store_lost_the_run_and_puts_it_back(
    inner: SharedMemoryStore, store: FaultyStore, committer: RoundedCommitter, clock: FakeClock
) -> None:
    speaker = await begin(inner, committer)
    speaker.say(*words(3))
    committer.mark(speaker, urgent=True)
    await inner.written(1)
    await store.lose(RUN_ID)

    await beat(clock, committer, 1)

    page = await inner.read(RUN_ID, 0, limit=10)
    assert list(page.records) == list(speaker.log.records)
    assert speaker.told == ["restore"]


async def test_a_heartbeat_without_an_answer_is_followed_by_another_at_once(
    inner: SharedMemoryStore, store: FaultyStore, committer: RoundedCommitter, clock: FakeClock
) -> None:
    speaker = await begin(inner, committer)
    await inner.written(1)
    store.unavailable(2)
    clock.advance(LEASE_SECONDS / 3)

    # No more time passes: the store gets the beat that is due now, not the next one.
    await inner.written(2)

    assert counts(inner.writes) == [[1], [0]]
    assert speaker.told == []


async def test_heartbeats_that_stay_without_an_answer_end_the_run_when_its_patience_is_over(
    inner: SharedMemoryStore, store: FaultyStore, committer: RoundedCommitter, clock: FakeClock
) -> None:
    speaker = await begin(inner, committer)
    await inner.written(1)
    store.unavailable(FOR_EVER)
    await beat(clock, committer, 1)
    early = list(speaker.told)

    clock.advance(OUTAGE_SECONDS)
    await committer.flushed()

    assert (early, speaker.told) == ([], ["store_lost"])


async def test_a_heartbeat_finds_that_another_owns_the_run(
    inner: SharedMemoryStore, store: FaultyStore, committer: RoundedCommitter, clock: FakeClock
) -> None:
    speaker = await begin(inner, committer)
    await inner.written(1)
    store.fence(RUN_ID)

    clock.advance(LEASE_SECONDS)
    await committer.flushed()

    assert speaker.told == ["fenced"]


async def test_a_heartbeat_brings_a_cancel(
    inner: SharedMemoryStore, committer: RoundedCommitter, clock: FakeClock
) -> None:
    speaker = await begin(inner, committer)
    await inner.written(1)
    await inner.cancel(RUN_ID, "superseded")

    clock.advance(LEASE_SECONDS)
    await committer.flushed()

    assert speaker.told == ["superseded"]
