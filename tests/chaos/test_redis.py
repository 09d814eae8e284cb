"""What becomes of runs when Redis is killed, frozen or cuts its connections: the workers live and have their logs."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable

import httpx2
import pytest

from tests.chaos.readings import Reading, assert_exact, bystander, follow, last_in, log_of, read, start, tell
from tests.chaos.rounds import of_form
from tests.chaos.worker import workers
from tests.redis_server import RedisServer, wait_until
from tests.tcp_proxy import TcpProxy

pytestmark = [pytest.mark.chaos, pytest.mark.redis]

RUNS = of_form(short=2, long=4)
WORDS = of_form(short=150, long=300)
#: Of an outage that no lease outlives, where a lease is one second.
DOWN_SECONDS = 3
FROZEN_SECONDS = of_form(short=3, long=10)
#: With so many words a second some are said before such an outage, in it, and after it.
SLOW = of_form(short=40, long=25)
#: That Redis comes back with nothing is harder than that it comes back with all.
HARDER = pytest.mark.parametrize("persistence", of_form(short=["off"], long=["off", "everysec"]))
CUTS: list[tuple[str, ...]] = of_form(
    short=[("pubsub", "normal")], long=[("pubsub",), ("normal",), ("pubsub", "normal")]
)
Figure = Callable[[str, float], None]
Readings = dict[str, list[Reading]]


@contextlib.asynccontextmanager
async def followed_runs(
    store_url: str,
    client: httpx2.AsyncClient,
    *,
    lease_seconds: float,
    words: int = WORDS,
    words_per_second: float = 75,
) -> AsyncGenerator[Readings]:
    """Runs of one worker, each read there, elsewhere, here and by one who comes and goes; leaving waits for the end."""
    async with (
        workers(2, store=store_url, lease_seconds=lease_seconds) as [producer, other],
        bystander(store_url, lease_seconds=lease_seconds) as runs,
        asyncio.TaskGroup() as tasks,
    ):
        readings: Readings = {}
        starts = (start(client, producer.url, f"{number} {words} {words_per_second}") for number in range(RUNS))
        for run_id in await asyncio.gather(*starts):
            own, elsewhere, here, restless = (
                Reading(f"{kind} of {run_id}") for kind in ("own", "http", "python", "restless")
            )
            tasks.create_task(read(own, client, [producer.url, other.url], run_id))
            tasks.create_task(read(elsewhere, client, [other.url, producer.url], run_id))
            tasks.create_task(follow(here, runs, run_id))
            tasks.create_task(read(restless, client, [other.url, producer.url], run_id, restless=True))
            readings[run_id] = [own, elsewhere, here, restless]
        yield readings
        for reading in everybody(readings):
            await reading.until_ended()


def everybody(readings: Readings) -> list[Reading]:
    return [reading for of_run in readings.values() for reading in of_run]


async def everybody_at(readings: Readings, last: int) -> None:
    for reading in everybody(readings):
        await reading.until_last(last)


async def everybody_beyond(store_url: str, readings: Readings) -> None:
    """Wait until every reader was shown well more than a store has at this moment."""
    lasts = {run_id: await last_in(store_url, run_id) for run_id in readings}
    for run_id, last in lasts.items():
        for reading in readings[run_id]:
            await reading.until_last(last + WORDS // 6)


async def events_missing_in(store_url: str, readings: Readings) -> int:
    """How many events that every reader was shown a store lacks; of each run it lacks some."""
    missing = 0
    for run_id, of_run in readings.items():
        shown = min(reading.last for reading in of_run)
        kept = await last_in(store_url, run_id)
        assert kept < shown, (kept, shown)
        missing += shown - kept
    return missing


async def assert_completed(readings: Readings, store_url: str, figure: Figure, words: int = WORDS) -> None:
    for run_id, of_run in readings.items():
        log = await log_of(store_url, run_id)
        tell(figure, of_run, log)
        assert_exact([*of_run, log], end="run.completed", words=words)


@HARDER
async def test_a_killed_redis_that_comes_back_costs_nobody_an_event(
    redis_server: RedisServer, client: httpx2.AsyncClient, figure: Figure
) -> None:
    async with followed_runs(redis_server.url, client, lease_seconds=2) as readings:
        for eighths in (1, 3, 5):
            await everybody_at(readings, WORDS * eighths // 8)
            redis_server.kill()
            await asyncio.to_thread(redis_server.start)
            figure("kills of Redis", 1)

    await assert_completed(readings, redis_server.url, figure)


async def test_a_redis_whose_journal_lost_its_end_costs_nobody_an_event(
    start_redis: Callable[..., RedisServer], client: httpx2.AsyncClient, figure: Figure
) -> None:
    server = start_redis("appendonly yes", "appendfsync everysec")
    async with followed_runs(server.url, client, lease_seconds=2) as readings:
        for eighths in (1, 3):
            await everybody_at(readings, WORDS * eighths // 8)
            written_bytes = server.journal.stat().st_size
            await everybody_beyond(server.url, readings)
            server.kill()
            # As after a power cut: the last second is gone, and of the last command there a part.
            os.truncate(server.journal, written_bytes - 5)
            with server.twin() as twin:
                figure("shown events cut off", await events_missing_in(twin.url, readings))
            await asyncio.to_thread(server.start)
            figure("kills of Redis", 1)

    await assert_completed(readings, server.url, figure)


async def test_a_failover_to_a_replica_that_lags_costs_nobody_an_event(
    start_redis: Callable[..., RedisServer], client: httpx2.AsyncClient, figure: Figure
) -> None:
    primary = start_redis("repl-diskless-sync-delay 0")
    replica = start_redis(f"replicaof 127.0.0.1 {primary.port}")
    await asyncio.to_thread(wait_until, lambda: replica.info("replication")["master_link_status"] == "up")
    async with TcpProxy(primary.port) as proxy:
        store_url = f"redis://127.0.0.1:{proxy.port}/0"
        async with followed_runs(store_url, client, lease_seconds=2) as readings:
            await everybody_at(readings, WORDS // 4)
            replica.ask("REPLICAOF", "NO", "ONE")
            await everybody_beyond(replica.url, readings)
            figure("shown events the replica lacked", await events_missing_in(replica.url, readings))
            proxy.redirect(replica.port)
            primary.kill()
            figure("failovers", 1)

        await assert_completed(readings, store_url, figure)


@pytest.mark.long
@HARDER
async def test_a_redis_that_is_down_for_three_leases_ends_no_run(
    redis_server: RedisServer, client: httpx2.AsyncClient, figure: Figure
) -> None:
    async with followed_runs(redis_server.url, client, lease_seconds=1, words_per_second=SLOW) as readings:
        await everybody_at(readings, 20)
        redis_server.kill()
        # The leases have to pass, and nothing that could be waited for happens meanwhile.
        await asyncio.sleep(DOWN_SECONDS)
        await asyncio.to_thread(redis_server.start)
        figure("kills of Redis", 1)

    await assert_completed(readings, redis_server.url, figure)


@pytest.mark.long
async def test_a_quiet_run_survives_a_redis_that_forgot_it(
    forgetful_redis: RedisServer, client: httpx2.AsyncClient, figure: Figure
) -> None:
    async with followed_runs(forgetful_redis.url, client, lease_seconds=1, words=2, words_per_second=0.5) as readings:
        await everybody_at(readings, 2)
        forgetful_redis.kill()
        # Two leases have to pass, and nothing that could be waited for happens meanwhile.
        await asyncio.sleep(2)
        await asyncio.to_thread(forgetful_redis.start)
        figure("kills of Redis", 1)

    await assert_completed(readings, forgetful_redis.url, figure, words=2)


@HARDER
async def test_a_redis_that_is_frozen_for_leases_ends_no_run(
    redis_server: RedisServer, client: httpx2.AsyncClient, figure: Figure
) -> None:
    async with followed_runs(redis_server.url, client, lease_seconds=1, words_per_second=SLOW) as readings:
        await everybody_at(readings, 20)
        with redis_server.frozen():
            # The leases have to pass, and nothing that could be waited for happens in them.
            await asyncio.sleep(FROZEN_SECONDS)
        figure("freezes of Redis", 1)

    await assert_completed(readings, redis_server.url, figure)


async def test_a_reader_that_comes_back_before_its_run_is_put_back_is_not_sent_away(
    forgetful_redis: RedisServer, client: httpx2.AsyncClient, figure: Figure
) -> None:
    reading = Reading("back too early")
    async with workers(2, store=forgetful_redis.url, lease_seconds=2) as [producer, other]:
        run_id = await start(client, producer.url, "0 100 50")
        before = asyncio.create_task(read(reading, client, [other.url], run_id))
        await reading.until_last(20)
        before.cancel()
        await asyncio.wait({before})
        producer.freeze()
        forgetful_redis.kill()
        await asyncio.to_thread(forgetful_redis.start)

        after = asyncio.create_task(read(reading, client, [other.url], run_id))
        # Time for the request to arrive, or to be refused.
        await asyncio.wait({after}, timeout=0.5)
        producer.thaw()
        await asyncio.wait({after})

    log = await log_of(forgetful_redis.url, run_id)
    tell(figure, [reading], log)
    assert_exact([reading, log], end="run.completed", words=100)


@pytest.mark.parametrize("kinds", CUTS, ids=" and ".join)
async def test_cut_connections_to_redis_cost_nobody_an_event(
    forgetful_redis: RedisServer, client: httpx2.AsyncClient, figure: Figure, kinds: tuple[str, ...]
) -> None:
    cut = dict.fromkeys(kinds, 0)
    async with followed_runs(forgetful_redis.url, client, lease_seconds=2) as readings:
        for last in range(20, WORDS, 20):
            await everybody_at(readings, last)
            for kind in kinds:
                cut[kind] += forgetful_redis.cut(kind)

    # Each of the three processes has had one of each kind, more than once.
    assert min(cut.values()) > 3, cut
    figure("connections cut", sum(cut.values()))
    await assert_completed(readings, forgetful_redis.url, figure)
