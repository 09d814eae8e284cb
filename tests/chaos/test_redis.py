"""What becomes of runs when Redis is killed, frozen or cuts its connections: the workers live and have their logs."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx2
import pytest
import redis

from tests.chaos.readings import Reading, assert_exact, bystander, follow, log_of, read, start
from tests.chaos.worker import workers
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.chaos, pytest.mark.redis]

RUNS = 4
WORDS = 300
Figure = Callable[[str, float], None]
Readings = dict[str, list[Reading]]


@contextlib.asynccontextmanager
async def followed_runs(
    server: RedisServer,
    client: httpx2.AsyncClient,
    *,
    lease_seconds: float,
    words: int = WORDS,
    words_per_second: float = 50,
    comes_back: bool = True,
) -> AsyncGenerator[Readings]:
    """Runs of one worker, each read there, elsewhere and here; leaving it waits for all their ends.

    With `comes_back` there is one more reader of each, which comes and goes.
    """
    async with (
        workers(2, store=server.url, lease_seconds=lease_seconds) as [producer, other],
        bystander(server.url, lease_seconds=lease_seconds) as runs,
        asyncio.TaskGroup() as tasks,
    ):
        readings: Readings = {}
        for number in range(RUNS):
            run_id = await start(client, producer.url, f"{number} {words} {words_per_second}")
            own, elsewhere, here = (Reading(f"{kind} of {run_id}") for kind in ("own", "http", "python"))
            tasks.create_task(read(own, client, [producer.url, other.url], run_id))
            tasks.create_task(read(elsewhere, client, [other.url, producer.url], run_id))
            tasks.create_task(follow(here, runs, run_id))
            readings[run_id] = [own, elsewhere, here]
            if comes_back:
                restless = Reading(f"restless of {run_id}")
                tasks.create_task(read(restless, client, [other.url, producer.url], run_id, restless=True))
                readings[run_id].append(restless)
        yield readings
        for reading in everybody(readings):
            await reading.until_ended()


def everybody(readings: Readings) -> list[Reading]:
    return [reading for of_run in readings.values() for reading in of_run]


async def everybody_at(readings: Readings, last: int) -> None:
    for reading in everybody(readings):
        await reading.until_last(last)


async def assert_completed(readings: Readings, server: RedisServer, figure: Figure, words: int = WORDS) -> None:
    for run_id, of_run in readings.items():
        assert_exact([*of_run, await log_of(server.url, run_id)], end="run.completed", words=words)
        figure("events", of_run[0].last)
        figure("resumes", sum(reading.resumes for reading in of_run))


async def test_a_killed_redis_that_comes_back_costs_nobody_an_event(
    redis_server: RedisServer, persistence: str, client: httpx2.AsyncClient, figure: Figure
) -> None:
    keeps = persistence != "off"
    async with followed_runs(redis_server, client, lease_seconds=2, comes_back=keeps) as readings:
        for last in (40, 120, 200):
            await everybody_at(readings, last)
            redis_server.kill()
            await asyncio.to_thread(redis_server.start)
            figure("Redis restarts", 1)

    await assert_completed(readings, redis_server, figure)


async def test_a_redis_that_is_down_for_three_leases_ends_no_run(
    redis_server: RedisServer, persistence: str, client: httpx2.AsyncClient, figure: Figure
) -> None:
    keeps = persistence != "off"
    async with followed_runs(redis_server, client, lease_seconds=1, comes_back=keeps) as readings:
        await everybody_at(readings, 40)
        redis_server.kill()
        # The leases have to pass, and nothing that could be waited for happens meanwhile.
        await asyncio.sleep(3)
        await asyncio.to_thread(redis_server.start)
        figure("Redis restarts", 1)

    await assert_completed(readings, redis_server, figure)


async def test_a_quiet_run_survives_a_redis_that_forgot_it(
    forgetful_redis: RedisServer, client: httpx2.AsyncClient, figure: Figure
) -> None:
    async with followed_runs(
        forgetful_redis, client, lease_seconds=1, words=3, words_per_second=0.4, comes_back=False
    ) as readings:
        await everybody_at(readings, 2)
        forgetful_redis.kill()
        # Two leases have to pass, and nothing that could be waited for happens meanwhile.
        await asyncio.sleep(2)
        await asyncio.to_thread(forgetful_redis.start)
        figure("Redis restarts", 1)

    await assert_completed(readings, forgetful_redis, figure, words=3)


async def test_a_redis_that_is_frozen_for_three_leases_ends_no_run(
    redis_server: RedisServer, client: httpx2.AsyncClient, figure: Figure
) -> None:
    async with followed_runs(redis_server, client, lease_seconds=1) as readings:
        await everybody_at(readings, 40)
        with redis_server.frozen():
            # Three leases have to pass, and nothing that could be waited for happens in them.
            await asyncio.sleep(3)

    await assert_completed(readings, redis_server, figure)


@pytest.mark.xfail(
    raises=AssertionError,
    reason="a run that Redis forgot is 404 to who comes back before its producer has written again",
)
async def test_a_reader_that_comes_back_before_its_run_is_put_back_is_not_sent_away(
    forgetful_redis: RedisServer, client: httpx2.AsyncClient
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

    assert reading.faults == [], reading.faults
    assert_exact([reading, await log_of(forgetful_redis.url, run_id)], end="run.completed", words=100)


@pytest.mark.parametrize("kinds", [("pubsub",), ("normal",), ("pubsub", "normal")])
async def test_cut_connections_to_redis_cost_nobody_an_event(
    forgetful_redis: RedisServer, client: httpx2.AsyncClient, figure: Figure, kinds: tuple[str, ...]
) -> None:
    async with followed_runs(forgetful_redis, client, lease_seconds=2) as readings:
        for last in range(20, WORDS, 20):
            await everybody_at(readings, last)
            for kind in kinds:
                cut = await asyncio.to_thread(_cut, forgetful_redis.port, kind)
                figure("connections cut", cut)

    await assert_completed(readings, forgetful_redis, figure)


def _cut(port: int, kind: str) -> int:
    """Close all connections of a kind but the one that asks for it; how many there were."""
    # redis-py does not say what a command returns.
    admin: Any = redis.Redis(port=port, socket_timeout=5)
    with admin:
        return int(admin.execute_command("CLIENT KILL", "TYPE", kind, "SKIPME", "yes"))
