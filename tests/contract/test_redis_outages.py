"""Whatever becomes of Redis and of the connections to it, what its readers got is the log, each number once."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

import pytest

from tailrace.errors import GapError, RunNotFoundError, StoreError, StoreUnavailableError
from tailrace.stores.contract import OPEN, Ack, Batch, Lease, Write
from tailrace.stores.redis import RedisStore, feed
from tests.redis_server import AskError, RedisServer, wait_until
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.redis

DONE = 1
RUNS = 20
MANY = 100_000
#: Between two writes of all runs, between two attempts, and until a silent log is looked at.
TICK_SECONDS = 0.005
RETRY_SECONDS = 0.05
SILENCE_SECONDS = 0.5
BOUND_SECONDS = 20.0
TIMEOUT_SECONDS = 0.5

Disturb = Callable[["Producer"], Awaitable[None]]


class Producer:
    """Writes some runs until it is told to finish, as a runtime does: what the store has lost is sent again.

    Attributes:
        logs: What it has made, per run.
        unanswered: Writes without an answer.
        resent: Times that the store did not have what it was thought to have.
    """

    def __init__(self, store: RedisStore, leases: Sequence[Lease]) -> None:
        self.logs: dict[str, list[bytes]] = {lease.run_id: [] for lease in leases}
        self.unanswered = 0
        self.resent = 0
        self._store = store
        self._leases = {lease.run_id: lease for lease in leases}
        self._stored = dict.fromkeys(self.logs, 0)
        self._finishing = False
        self._moved = asyncio.Event()

    def finish(self) -> None:
        self._finishing = True

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND_SECONDS):
            while not condition():
                self._moved.clear()
                await self._moved.wait()

    async def advance(self, count: int) -> None:
        """Wait until every run has grown in the store."""
        goals = {run_id: len(log) + count for run_id, log in self.logs.items()}
        await self.until(lambda: all(self._stored[run_id] >= goal for run_id, goal in goals.items()))

    async def run(self) -> None:
        finishing = False
        while not finishing or any(self._stored[run_id] < len(log) for run_id, log in self.logs.items()):
            if not finishing:
                finishing = self._finishing
                for run_id, log in self.logs.items():
                    log.append(f"{run_id} {len(log) + 1}".encode())
            well = await self._write(DONE if finishing else OPEN)
            self._moved.set()
            await asyncio.sleep(TICK_SECONDS if well else RETRY_SECONDS)

    async def _write(self, final: int) -> bool:
        writes = [
            Write(self._leases[run_id], self._stored[run_id] + 1, log[self._stored[run_id] :], final)
            for run_id, log in self.logs.items()
            if self._stored[run_id] < len(log)
        ]
        answers = await self._store.commit(writes)
        settled = [await self._settle(write, answer) for write, answer in zip(writes, answers, strict=True)]
        return all(settled)

    async def _settle(self, write: Write, answer: Ack | StoreError) -> bool:
        lease = write.lease
        match answer:
            case Ack():
                self._stored[lease.run_id] = answer.last
                return True
            case GapError():
                self.resent += 1
                self._stored[lease.run_id] = answer.last
            case RunNotFoundError():
                with contextlib.suppress(StoreUnavailableError):
                    await self._store.restore(lease, owner=None, thread=None, fingerprint=b"")
                    self.resent += 1
                    self._stored[lease.run_id] = 0
            case StoreUnavailableError():
                self.unanswered += 1
            case _:
                raise answer
        return False


async def follow(store: RedisStore, run_id: str) -> list[bytes]:
    """What a reader gets of a run, from its beginning to its end."""
    hints: asyncio.Queue[Batch | None] = asyncio.Queue()
    stop = store.subscribe(run_id, hints.put_nowait)
    records: list[bytes] = []
    while True:
        with contextlib.suppress(RunNotFoundError, StoreUnavailableError):
            page = await store.read(run_id, len(records), limit=MANY)
            records += page.records
            if page.info.state != OPEN and len(records) >= page.info.last:
                stop()
                return records
        state = await _follow_hints(hints, records)
        if state != OPEN:
            stop()
            return records


async def _follow_hints(hints: "asyncio.Queue[Batch | None]", records: list[bytes]) -> int:
    """Take what hints carry until one does not continue the log, or none comes."""
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(SILENCE_SECONDS):
                batch = await hints.get()
            if batch is None or batch.first > len(records) + 1:
                break
            records += batch.records[len(records) + 1 - batch.first :]
            if batch.state != OPEN:
                return batch.state
    return OPEN


@contextlib.asynccontextmanager
async def stores(url: str, count: int) -> AsyncGenerator[list[RedisStore]]:
    """As many stores as there are processes."""
    async with contextlib.AsyncExitStack() as stack:
        made = [RedisStore(url, timeout_seconds=TIMEOUT_SECONDS) for _ in range(count)]
        for store in made:
            await stack.enter_async_context(contextlib.aclosing(store))
            await store.open()
        yield made


async def live_through(url: str, disturb: Disturb) -> Producer:
    """Write and follow runs while something happens; the logs must be exact for every reader."""
    async with stores(url, 2) as (here, there), asyncio.timeout(BOUND_SECONDS * 2), asyncio.TaskGroup() as tasks:
        leases = [
            lease
            for number in range(RUNS)
            if (lease := await here.create(f"run-{number}", owner=None, thread=None, fingerprint=b""))
        ]
        producer = Producer(here, leases)
        followed = {run_id: tasks.create_task(follow(there, run_id)) for run_id in producer.logs}
        writing = tasks.create_task(producer.run())
        await producer.advance(20)

        await disturb(producer)

        await producer.advance(20)
        producer.finish()
        await writing
        for run_id, log in producer.logs.items():
            assert await followed[run_id] == log
            assert await follow(there, run_id) == log
    return producer


@pytest.mark.parametrize("journal", ["no", "yes"])
async def test_a_killed_redis_costs_no_reader_anything(journal: str, start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis(f"appendonly {journal}")

    async def kill_and_restart(producer: Producer) -> None:
        server.kill()
        await producer.until(lambda: producer.unanswered > RUNS)
        await asyncio.to_thread(server.start)

    producer = await live_through(server.url, kill_and_restart)

    # Without a journal everything was gone; with one, what a killed process had written is still there.
    assert (producer.resent >= RUNS) is (journal == "no")


async def test_a_frozen_redis_costs_no_reader_anything(start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis()

    async def freeze(producer: Producer) -> None:
        with server.frozen():
            await asyncio.sleep(3)

    producer = await live_through(server.url, freeze)

    assert producer.unanswered > 0


async def test_cut_connections_cost_no_reader_anything(redis: RedisServer) -> None:
    killed = {"normal": 0, "pubsub": 0}

    async def cut(producer: Producer) -> None:
        for _ in range(10):
            for kind in killed:
                killed[kind] += redis.cut(kind)
            await producer.advance(5)

    producer = await live_through(redis.url, cut)

    # The feed of one store and, each time, the connections for commands of both.
    assert killed["normal"] >= 15
    assert killed["pubsub"] >= 5
    assert producer.resent == 0


async def test_a_failover_to_a_late_replica_costs_no_reader_anything(start_redis: Callable[..., RedisServer]) -> None:
    """What was acknowledged, and read, is not on the server that takes over."""
    old = start_redis("repl-diskless-sync-delay 0")
    new = start_redis(f"replicaof 127.0.0.1 {old.port}")

    async with TcpProxy(old.port) as proxy:

        async def fail_over(producer: Producer) -> None:
            await asyncio.to_thread(wait_for_replica, new)
            await producer.advance(5)
            new.ask("REPLICAOF", "NO", "ONE")
            await producer.advance(20)
            proxy.redirect(new.port)

        producer = await live_through(f"redis://127.0.0.1:{proxy.port}", fail_over)

    assert producer.resent >= RUNS


def wait_for_replica(server: RedisServer) -> None:
    wait_until(lambda: server.info("replication")["master_link_status"] == "up")


# One call ------------------------------------------------------------------------------------------------------------


async def begin(store: RedisStore, run_id: str = "run") -> Lease:
    lease = await store.create(run_id, owner="ada", thread="t", fingerprint=b"f")
    assert lease is not None
    return lease


async def append(store: RedisStore, lease: Lease, first: int, *records: bytes) -> Ack | StoreError:
    (answer,) = await store.commit([Write(lease, first, records)])
    return answer


async def records_of(store: RedisStore) -> list[bytes]:
    return list((await store.read("run", 0, limit=MANY)).records)


async def test_a_lost_answer_is_asked_for_again(redis: RedisServer) -> None:
    async with TcpProxy(redis.port) as proxy, stores(f"redis://127.0.0.1:{proxy.port}", 1) as (store,):
        proxy.lose_next_answer()
        lease = await begin(store)
        proxy.lose_next_answer()
        answer = await append(store, lease, 1, b"a")
        proxy.lose_next_answer()
        read = await records_of(store)
        proxy.lose_next_answer()
        cancelled = await store.cancel("run", "user")
        proxy.lose_next_answer()
        again = await append(store, lease, 2, b"b")

        assert proxy.lost == 5
        assert (answer, read, cancelled, again) == (Ack(1), [b"a"], True, Ack(2, "user"))
        assert await records_of(store) == [b"a", b"b"]


async def test_an_idle_connection_that_the_server_closed_costs_nothing(redis: RedisServer) -> None:
    async with stores(redis.url, 1) as (store,):
        lease = await begin(store)

        for seq in range(1, 6):
            redis.cut("normal")
            assert await append(store, lease, seq, b"a") == Ack(seq)


async def test_a_frozen_server_is_waited_for_no_longer_than_the_timeout(
    start_redis: Callable[..., RedisServer],
) -> None:
    server = start_redis()
    async with stores(server.url, 1) as (store,):
        lease = await begin(store)
        loop = asyncio.get_running_loop()

        with server.frozen():
            started = loop.time()
            answers = await store.commit([Write(lease, 1, [b"a"])])
            for call in (store.info("run"), store.read("run", 0, limit=1), store.active(), store.secret()):
                with pytest.raises(StoreUnavailableError):
                    await call
            elapsed = loop.time() - started

        assert [type(answer) for answer in answers] == [StoreUnavailableError]
        assert elapsed < 5 * (TIMEOUT_SECONDS + 0.2)
        assert await append(store, lease, 1, b"a") == Ack(1)
        assert (await store.info("run")).run_id == "run"
        assert await records_of(store) == [b"a"]


async def test_a_late_answer_is_nobodys(start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis()
    async with stores(server.url, 1) as (store,):
        for number in range(10):
            await begin(store, f"run-{number}")

        with server.frozen():
            given_up = [asyncio.create_task(store.info(f"run-{number}")) for number in range(9)]
            await asyncio.sleep(TIMEOUT_SECONDS / 2)
            for task in given_up:
                task.cancel()
            kept = asyncio.create_task(store.info("run-9"))
            await asyncio.wait(given_up)
        infos = await asyncio.gather(kept, *[store.info(f"run-{number}") for number in range(10)])

        assert [info.run_id for info in infos] == ["run-9", *[f"run-{number}" for number in range(10)]]


async def test_a_half_open_feed_is_noticed(
    start_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "PING_SECONDS", 0.05)
    server = start_redis()
    async with stores(server.url, 1) as (store,):
        lease = await begin(store)
        hints: asyncio.Queue[Batch | None] = asyncio.Queue()
        store.subscribe("run", hints.put_nowait)
        async with asyncio.timeout(BOUND_SECONDS):
            assert await hints.get() is None
            (before,) = server.clients("pubsub")

            with server.frozen():
                await asyncio.sleep(0.4)
            assert await hints.get() is None
            await append(store, lease, 1, b"a")
            assert await hints.get() == Batch(1, [b"a"], OPEN)

        (after,) = server.clients("pubsub")
        assert after != before


def pings_of(server: RedisServer) -> int:
    statistics = server.info("commandstats").get("cmdstat_ping", "calls=0,")
    return int(statistics.removeprefix("calls=").split(",")[0])


async def test_a_quiet_feed_stays(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "PING_SECONDS", 0.02)
    async with stores(redis.url, 1) as (store,):
        hints: asyncio.Queue[Batch | None] = asyncio.Queue()
        store.subscribe("run", hints.put_nowait)
        async with asyncio.timeout(BOUND_SECONDS):
            assert await hints.get() is None
            (before,) = redis.clients("pubsub")
            redis.ask("CONFIG", "RESETSTAT")
            await asyncio.to_thread(wait_until, lambda: pings_of(redis) >= 10)
        (after,) = redis.clients("pubsub")

        assert before == after
        assert hints.empty()


async def test_a_demoted_server_is_left_for_its_successor(
    start_redis: Callable[..., RedisServer],
) -> None:
    old, new = start_redis(), start_redis()
    async with TcpProxy(old.port) as proxy, stores(f"redis://127.0.0.1:{proxy.port}", 1) as (store,):
        lease = await begin(store)
        old.ask("REPLICAOF", "127.0.0.1", new.port)
        proxy.redirect(new.port, cut=False)

        refused = await append(store, lease, 1, b"a")

        assert isinstance(refused, StoreUnavailableError)
        assert isinstance(await append(store, lease, 1, b"a"), RunNotFoundError)
        await store.restore(lease, owner="ada", thread="t", fingerprint=b"f")
        assert await append(store, lease, 1, b"a") == Ack(1)


async def test_a_full_server_is_unavailable_until_there_is_room(start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis()
    async with stores(server.url, 1) as (store,):
        lease = await begin(store)

        server.ask("CONFIG", "SET", "maxmemory", 1)
        refused = await append(store, lease, 1, b"a")
        server.ask("CONFIG", "SET", "maxmemory", 0)

        assert isinstance(refused, StoreUnavailableError)
        assert await append(store, lease, 1, b"a") == Ack(1)


async def test_a_busy_server_is_unavailable_until_it_is_free(start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis("lua-time-limit 1")
    async with stores(server.url, 1) as (store,):
        lease = await begin(store)

        looping = asyncio.create_task(asyncio.to_thread(loop_for_ever, server))
        await asyncio.to_thread(wait_until, lambda: is_busy(server))
        refused = await append(store, lease, 1, b"a")
        server.ask("SCRIPT", "KILL")
        await looping

        assert isinstance(refused, StoreUnavailableError)
        assert "busy" in str(refused)
        assert await append(store, lease, 1, b"a") == Ack(1)


def loop_for_ever(server: RedisServer) -> None:
    with contextlib.suppress(AskError):
        server.ask("EVAL", "while true do end", 0)


def is_busy(server: RedisServer) -> bool:
    try:
        server.ask("GET", "anything")
    except AskError:
        return True
    return False


async def test_a_closed_store_is_unavailable_and_leaves_no_connection(redis: RedisServer) -> None:
    async with stores(redis.url, 1) as (store,):
        await begin(store)
        store.subscribe("run", lambda _: None)

        await store.aclose()
        await store.aclose()

        with pytest.raises(StoreUnavailableError):
            await store.info("run")
    assert redis.clients("normal") == redis.clients("pubsub") == []
