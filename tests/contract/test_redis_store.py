"""The Redis store keeps the promises of the contract on a real server, and those it makes about its keys."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from tailrace.errors import GapError, RunNotFoundError, StoreError
from tailrace.stores.contract import OPEN, Ack, Batch, Lease, RunStore, Write
from tailrace.stores.redis import RedisStore
from tailrace.testing import FakeClock, StoreSuite
from tailrace.testing.store_suite import AgeingStoreSuite, SharedStoreSuite
from tests.contract.test_store_model import Log, StoreMachine, fingerprints, owners, run_ids, threads
from tests.redis_server import RedisServer, wait_until

pytestmark = pytest.mark.redis

DONE = 1
MANY = 10_000
BOUND_SECONDS = 10.0

T = TypeVar("T")


class TestRedisStore(StoreSuite, SharedStoreSuite):
    @pytest.fixture(autouse=True)
    def server(self, redis: RedisServer) -> None:
        self.url = redis.url

    def make(self) -> RunStore:
        return RedisStore(self.url)

    def again(self, store: RunStore) -> RunStore:
        return RedisStore(self.url)


class TestRedisStoreInTime(AgeingStoreSuite):
    # Redis goes by a clock of its own, so the time really passes.
    live_seconds = 1.5
    retention_seconds = 1.0

    @pytest.fixture(autouse=True)
    def server(self, redis: RedisServer) -> None:
        self.url = redis.url

    def make(self) -> RunStore:
        return RedisStore(self.url, live_seconds=self.live_seconds, retention_seconds=self.retention_seconds)

    async def lapse(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@pytest.fixture
async def store(redis: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(redis.url)
    await store.open()
    yield store
    await store.aclose()


async def begin(store: RunStore, run_id: str = "run") -> Lease:
    lease = await store.create(run_id, owner="ada", thread="t", fingerprint=b"f")
    assert lease is not None
    return lease


async def append(store: RunStore, lease: Lease, first: int, *records: bytes, final: int = OPEN) -> Ack | StoreError:
    (answer,) = await store.commit([Write(lease, first, records, final)])
    return answer


async def records_of(store: RunStore, run_id: str = "run") -> list[bytes]:
    return list((await store.read(run_id, 0, limit=MANY)).records)


def keys_of(server: RedisServer) -> dict[bytes, int]:
    """All keys and the milliseconds they have left; -1 is for ever."""
    keys: list[bytes] = server.ask("KEYS", "*")
    return {key: server.ask("PTTL", key) for key in keys}


async def until_left(server: RedisServer, expected: set[bytes]) -> None:
    await asyncio.to_thread(wait_until, lambda: set(keys_of(server)) == expected)


class Inbox:
    """The hints that came, and a way to wait for the next."""

    def __init__(self) -> None:
        self.items: list[Batch | None] = []
        self._came = asyncio.Event()

    def __call__(self, batch: Batch | None) -> None:
        self.items.append(batch)
        self._came.set()

    async def next(self) -> Batch | None:
        async with asyncio.timeout(BOUND_SECONDS):
            while not self.items:
                self._came.clear()
                await self._came.wait()
        return self.items.pop(0)


# Keys ----------------------------------------------------------------------------------------------------------------


async def test_everything_but_the_secret_has_a_time_to_live(redis: RedisServer, store: RedisStore) -> None:
    for run_id in ("open", "empty", "written", "sealed", "compacted"):
        lease = await begin(store, run_id)
        if run_id != "empty":
            await append(store, lease, 1, b"a", final=OPEN if run_id in {"open", "sealed"} else DONE)
    await store.seal(await store.info("sealed"), b"end", DONE)
    await store.compact("compacted", b"block")

    left = keys_of(redis)

    assert left.pop(b"tr:secret") == -1
    assert {key for key in left if b"{compacted}" in key} == {b"tr:{compacted}:m", b"tr:{compacted}:b"}
    assert {b"tr:open:all", b"tr:open:owner:ada", b"tr:open:thread:t", b"tr:{open}:m", b"tr:{open}:s"} <= set(left)
    for key, milliseconds in left.items():
        final = any(tag in key for tag in (b"{written}", b"{sealed}", b"{compacted}"))
        assert 0 < milliseconds <= (900_000 if final else 3_600_000)


async def test_nothing_is_left_after_the_retention(redis: RedisServer) -> None:
    async with contextlib.aclosing(RedisStore(redis.url, retention_seconds=0.3)) as store:
        await store.open()
        for run_id in ("written", "sealed", "compacted"):
            lease = await begin(store, run_id)
            await append(store, lease, 1, b"a", final=OPEN if run_id == "sealed" else DONE)
        await store.seal(await store.info("sealed"), b"end", DONE)
        await store.compact("compacted", b"block")

    await until_left(redis, {b"tr:secret"})


async def test_a_purge_leaves_nothing(redis: RedisServer, store: RedisStore) -> None:
    lease = await begin(store)
    await append(store, lease, 1, b"a")

    await store.purge("run")
    await store.aclose()

    assert set(keys_of(redis)) == {b"tr:secret"}


async def test_what_a_producer_has_left_without_an_end_expires(redis: RedisServer) -> None:
    store = RedisStore(redis.url, live_seconds=0.3)
    await append(store, await begin(store), 1, b"a")

    await store.aclose()

    await until_left(redis, set())


async def test_the_time_to_live_is_not_renewed_by_every_write(redis: RedisServer, store: RedisStore) -> None:
    lease = await begin(store)
    await append(store, lease, 1, b"a")
    redis.ask("CONFIG", "RESETSTAT")

    for seq in range(2, 52):
        await append(store, lease, seq, b"a")

    assert "cmdstat_pexpire" not in redis.info("commandstats")


async def test_stores_with_different_prefixes_do_not_meet(redis: RedisServer, store: RedisStore) -> None:
    await append(store, await begin(store), 1, b"a")
    async with contextlib.aclosing(RedisStore(redis.url, prefix="other")) as other:
        await other.open()

        lease = await begin(other)
        hints = Inbox()
        other.subscribe("run", hints)
        await hints.next()
        await store.cancel("run", "user")
        await append(other, lease, 1, b"b")

        assert (await hints.next(), await records_of(other), await records_of(store)) == (
            Batch(1, [b"b"], OPEN),
            [b"b"],
            [b"a"],
        )
        assert await other.secret() != await store.secret()


async def test_a_run_whose_index_was_lost_is_in_it_again_when_it_is_renewed(redis: RedisServer) -> None:
    async with contextlib.aclosing(RedisStore(redis.url, live_seconds=0.4)) as store:
        lease = await begin(store)
        await store.secret()
        redis.ask("DEL", "tr:open:all", "tr:open:owner:ada", "tr:open:thread:t")
        assert await store.active() == []

        async with asyncio.timeout(BOUND_SECONDS):
            while await store.active(owner="ada", thread="t") != ["run"]:
                assert await append(store, lease, 1) == Ack(0)
                await asyncio.sleep(0.02)

        assert (await store.active(), await store.active(owner="ada")) == (["run"], ["run"])


async def test_a_reader_of_the_index_takes_out_what_is_gone(redis: RedisServer, store: RedisStore) -> None:
    for number in range(5):
        await begin(store, f"gone-{number}")
        await begin(store, f"open-{number}")
        redis.ask("DEL", f"tr:{{gone-{number}}}:m")

    found = await store.active(limit=3)
    await store.secret()

    assert found == ["open-4", "open-3", "open-2"]
    assert redis.ask("ZCARD", "tr:open:all") == 5


async def test_more_open_runs_than_a_page_are_all_found(store: RedisStore) -> None:
    for number in range(250):
        await store.create(f"run-{number}", owner="ada", thread=str(number % 2), fingerprint=b"")

    assert len(await store.active(limit=1_000)) == 250
    assert len(await store.active(owner="ada", thread="1", limit=1_000)) == 125
    assert await store.active(owner="ada", limit=2) == ["run-249", "run-248"]


# Losses and strangers ------------------------------------------------------------------------------------------------


async def test_a_stream_that_was_taken_away_is_sent_again(redis: RedisServer, store: RedisStore) -> None:
    lease = await begin(store)
    await append(store, lease, 1, b"a", b"b")
    redis.ask("DEL", "tr:{run}:s")

    answer = await append(store, lease, 3, b"c")

    assert isinstance(answer, GapError)
    assert answer.last == 0
    assert (await store.info("run")).last == 0
    assert await append(store, lease, 1, b"a", b"b", b"c", final=DONE) == Ack(3)
    assert await records_of(store) == [b"a", b"b", b"c"]


async def test_a_hole_is_never_skipped(redis: RedisServer, store: RedisStore) -> None:
    lease = await begin(store)
    for seq in range(1, 5):
        await append(store, lease, seq, b"%d" % seq)
    redis.ask("XDEL", "tr:{run}:s", "2-0")

    page = await store.read("run", 0, limit=MANY)
    await append(store, lease, 5, b"end", final=DONE)

    assert page.records == [b"1"]
    with pytest.raises(RunNotFoundError):
        await store.read("run", 0, limit=MANY)
    assert (await store.read("run", 2, limit=MANY)).records == [b"3", b"4", b"end"]


async def test_a_script_that_the_server_forgot_is_sent_again(redis: RedisServer, store: RedisStore) -> None:
    lease = await begin(store)
    for seq in range(1, 4):
        redis.ask("SCRIPT", "FLUSH")
        writes = [Write(lease, 2 * seq - 1, [b"a"]), Write(lease, 2 * seq, [b"b"])]

        assert await store.commit(writes) == [Ack(2 * seq - 1), Ack(2 * seq)]

    redis.ask("SCRIPT", "FLUSH")
    assert await store.cancel("run", "user")


@pytest.mark.parametrize("name", ["m", "s", "b"])
async def test_another_applications_key_is_named_and_not_touched(
    name: str, redis: RedisServer, store: RedisStore
) -> None:
    key = f"tr:{{run}}:{name}"
    redis.ask("RPUSH", key, "theirs")

    with pytest.raises(StoreError, match=r"tr:\{run\}:.*another application") as caught:
        await begin(store)

    assert type(caught.value) is StoreError
    assert redis.ask("LRANGE", key, 0, -1) == [b"theirs"]


async def test_another_applications_key_is_no_answer_to_any_call(redis: RedisServer, store: RedisStore) -> None:
    redis.ask("SET", "tr:{run}:m", "theirs")
    other = await begin(store, "other")

    answers = await store.commit([Write(Lease("run", "token"), 1, [b"a"]), Write(other, 1, [b"b"])])

    assert type(answers[0]) is StoreError
    assert "tr:{run}:m" in str(answers[0])
    assert answers[1] == Ack(1)
    for call in (store.info("run"), store.read("run", 0, limit=1), store.cancel("run", "user"), store.purge("run")):
        with pytest.raises(StoreError, match="another application"):
            await call
    assert redis.ask("GET", "tr:{run}:m") == b"theirs"


async def test_a_stream_with_strange_entries_is_named(redis: RedisServer, store: RedisStore) -> None:
    await begin(store)
    redis.ask("XADD", "tr:{run}:s", "1-0", "theirs", "something")

    with pytest.raises(StoreError, match=r"tr:\{run\}:s is another application"):
        await store.read("run", 0, limit=1)


async def test_a_strange_secret_is_not_used(redis: RedisServer, store: RedisStore) -> None:
    redis.ask("SET", "tr:secret", "short")

    with pytest.raises(StoreError, match="tr:secret"):
        await store.secret()


# Hints ---------------------------------------------------------------------------------------------------------------


async def test_what_others_publish_on_our_channels_is_ignored_with_one_warning(
    redis: RedisServer, store: RedisStore, caplog: pytest.LogCaptureFixture
) -> None:
    lease = await begin(store)
    hints, heard = Inbox(), list[str]()
    store.subscribe("run", hints)
    store.listen("topic", heard.append)
    await hints.next()

    with caplog.at_level(logging.WARNING, logger="tailrace"):
        for strange in (b"hello", b"\xff\xfe", b"\x01" + b"x" * 20):
            redis.ask("PUBLISH", "tr:{run}:s", strange)
        redis.ask("PUBLISH", "tr:{topic}:c", b"\xff\xfe")
        await append(store, lease, 1, b"a")
        carried = await hints.next()

    assert carried == Batch(1, [b"a"], OPEN)
    assert heard == []
    assert [record.getMessage() for record in caplog.records] == [
        "something else publishes on the Redis channel tr:{run}:s: use another prefix"
    ]


async def test_a_write_is_decoded_once_for_all_its_hints(store: RedisStore) -> None:
    lease = await begin(store)
    inboxes = [Inbox() for _ in range(3)]
    stops = [store.subscribe("run", inbox) for inbox in inboxes]
    for inbox in inboxes:
        await inbox.next()

    await append(store, lease, 1, b"a", b"b")

    first, *others = [await inbox.next() for inbox in inboxes]
    assert first == Batch(1, [b"a", b"b"], OPEN)
    assert all(other is first for other in others)
    for stop in stops:
        stop()


async def test_a_hint_that_fails_keeps_nobody_in_the_dark(store: RedisStore, caplog: pytest.LogCaptureFixture) -> None:
    lease = await begin(store)
    hints = Inbox()

    def fail(batch: Batch | None) -> None:
        raise RuntimeError("a bug of a listener")

    store.subscribe("run", fail)
    store.subscribe("run", hints)
    await hints.next()

    await append(store, lease, 1, b"a")

    assert await hints.next() == Batch(1, [b"a"], OPEN)
    assert "a bug of a listener" in caplog.text


async def test_a_channel_is_left_with_its_last_listener_and_joined_again(redis: RedisServer, store: RedisStore) -> None:
    lease = await begin(store)
    first, second = Inbox(), Inbox()
    stops = [store.subscribe("run", first), store.subscribe("run", second)]
    await first.next()

    stops[0]()
    one = redis.ask("PUBSUB", "NUMSUB", "tr:{run}:s")
    stops[1]()
    again = Inbox()
    store.subscribe("run", again)
    await again.next()
    await append(store, lease, 1, b"a")

    assert one == [b"tr:{run}:s", 1]
    assert await again.next() == Batch(1, [b"a"], OPEN)
    assert redis.ask("PUBSUB", "NUMSUB", "tr:{run}:s") == [b"tr:{run}:s", 1]


async def test_a_store_that_only_listens_connects_by_itself(redis: RedisServer, store: RedisStore) -> None:
    lease = await begin(store)
    async with contextlib.aclosing(RedisStore(redis.url)) as listener:
        hints = Inbox()
        listener.subscribe("run", hints)
        await hints.next()

        await append(store, lease, 1, b"a")

        assert await hints.next() == Batch(1, [b"a"], OPEN)


# Round trips and connections -----------------------------------------------------------------------------------------


def reads_of(server: RedisServer) -> int:
    """How often the server has read from a socket."""
    return int(server.info("stats")["total_reads_processed"])


async def test_what_is_committed_together_travels_together(redis: RedisServer, store: RedisStore) -> None:
    leases = [await begin(store, f"run-{number}") for number in range(50)]
    await store.secret()
    before = reads_of(redis)

    answers = await store.commit([Write(lease, 2, [b"b"]) for lease in leases])

    assert [type(answer) for answer in answers] == [GapError] * 50
    # One for asking how many, and a few for what does not fit into one read of the server.
    assert reads_of(redis) - before <= 4


async def test_what_is_asked_at_the_same_time_travels_together(redis: RedisServer, store: RedisStore) -> None:
    for number in range(50):
        await begin(store, f"run-{number}")
    await store.secret()
    before = reads_of(redis)

    infos = await asyncio.gather(*[store.info(f"run-{number}") for number in range(50)])

    assert [info.run_id for info in infos] == [f"run-{number}" for number in range(50)]
    assert reads_of(redis) - before <= 4


async def test_a_store_has_one_connection_for_commands_and_one_for_hints(redis: RedisServer, store: RedisStore) -> None:
    leases = [await begin(store, f"run-{number}") for number in range(20)]
    inboxes = [Inbox() for _ in leases]
    for lease, inbox in zip(leases, inboxes, strict=True):
        store.subscribe(lease.run_id, inbox)

    await asyncio.gather(*[append(store, lease, 1, b"a") for lease in leases], *[inbox.next() for inbox in inboxes])

    assert [len(redis.clients(kind)) for kind in ("normal", "pubsub")] == [1, 1]


async def test_a_long_log_is_read_whole_whatever_its_entries_are(store: RedisStore) -> None:
    for run_id, size in (("one", 1), ("many", 37)):
        lease = await begin(store, run_id)
        log = [b"%d" % number for number in range(1_500)]
        starts = range(0, len(log), size)
        await store.commit([Write(lease, start + 1, log[start : start + size]) for start in starts])

        for after, limit in ((0, MANY), (1, 300), (700, 257), (700, 800), (1_499, 5), (1_500, 5)):
            page = await store.read(run_id, after, limit=limit)

            assert list(page.records) == log[after : after + limit]


async def test_abandoned_awaits_never_give_anybody_anothers_answer(redis: RedisServer, store: RedisStore) -> None:
    for number in range(20):
        lease = await store.create(f"run-{number}", owner=f"owner-{number}", thread=None, fingerprint=b"")
        assert lease is not None
        assert await append(store, lease, 1, b"%d" % number) == Ack(1)
    connections = redis.clients("normal")

    async def look(number: int) -> None:
        info = await store.info(f"run-{number}")
        assert (info.run_id, info.owner) == (f"run-{number}", f"owner-{number}")
        page = await store.read(f"run-{number}", 0, limit=1)
        assert page.records == [b"%d" % number]
        assert page.info == info

    async def give_up(task: asyncio.Task[None], steps: int) -> bool:
        for _ in range(steps):
            await asyncio.sleep(0)
        return task.cancel()

    tasks = [asyncio.create_task(look(number % 20)) for number in range(600)]
    given_up = await asyncio.gather(*[give_up(task, index % 40) for index, task in enumerate(tasks[::2])])
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert True in given_up
    assert {type(outcome) for outcome in outcomes[1::2]} == {type(None)}
    assert {type(outcome) for outcome in outcomes[::2]} <= {type(None), asyncio.CancelledError}
    # And no connection was given up for it.
    assert redis.clients("normal") == connections


# A model -------------------------------------------------------------------------------------------------------------


class CountedLog(Log):
    """A log as Redis counts: each record is a beat, and each heartbeat is one."""

    def append(self, new: Sequence[bytes], state: int, now: float) -> None:
        super().append(new, state, now)
        self.beat += max(0, len(new) - 1)


class RedisStoreMachine(StoreMachine):
    """Does the same to Redis and to the model; no time passes."""

    server: ClassVar[RedisServer]

    def make(self, clock: FakeClock) -> RunStore:
        self.server.ask("FLUSHALL")
        self.runner = asyncio.Runner()
        return RedisStore(self.server.url)

    def now(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    def wait(self, seconds: int) -> None:
        """Not a rule here: Redis goes by a clock of its own."""

    @rule(run_id=run_ids, owner=owners, thread=threads, fingerprint=fingerprints)
    def create(self, run_id: str, owner: str | None, thread: str | None, fingerprint: bytes) -> None:
        super().create(run_id, owner, thread, fingerprint)
        self.count()

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        super().restore(data)
        self.count()

    def count(self) -> None:
        for run_id, log in self.logs.items():
            if not isinstance(log, CountedLog):
                self.logs[run_id] = CountedLog(**vars(log))

    @rule()
    def forget_scripts(self) -> None:
        self.server.ask("SCRIPT", "FLUSH")

    @rule()
    def cut(self) -> None:
        """Close all connections of the store."""
        self.server.cut("normal")

    def teardown(self) -> None:
        self.now(self.store.aclose())
        self.runner.close()


def test_redis_and_a_model_agree(redis: RedisServer) -> None:
    RedisStoreMachine.server = redis

    run_state_machine_as_test(RedisStoreMachine, settings=settings(max_examples=20, stateful_step_count=40))
