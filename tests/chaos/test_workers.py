"""What becomes of runs when workers are killed or frozen, and whether it matters which worker one asks."""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import httpx2
import pytest

from tests.chaos.readings import Reading, assert_exact, bystander, follow, log_of, read, start, tell
from tests.chaos.rounds import of_form
from tests.chaos.worker import workers

pytestmark = pytest.mark.chaos

LEASE_SECONDS = 2.0
#: A look, a whole lease of looking, a look that comes late, and the news: what a reader may have to wait.
SEALED_SECONDS = LEASE_SECONDS + 1
KINDS = ("own", "http", "python", "restless")
KEYS = 50
#: For what differs less from store to store than the end of a killed worker does.
STORES = pytest.mark.parametrize("store_url", of_form(short=["redis"], long=["redis", "sqlite"]), indirect=True)
Figure = Callable[[str, float], None]
_WAKE_SECONDS = 0.02


@STORES
async def test_every_worker_can_do_everything_with_a_run(
    store_url: str, client: httpx2.AsyncClient, figure: Figure
) -> None:
    async with workers(4, store=store_url, lease_seconds=LEASE_SECONDS) as [a, b, c, d]:
        run_id = await start(client, a.url, "one 2000 50")
        followed = Reading("b, and then c")
        reading = asyncio.create_task(read(followed, client, [b.url], run_id))
        await followed.until_last(20)
        reading.cancel()
        resumed = asyncio.create_task(read(followed, client, [c.url], run_id))
        await followed.until_last(followed.last + 20)

        cancelled_at = time.monotonic()
        reply = await client.post(f"{d.url}/runs/{run_id}/cancel")
        await a.until_closed("one")
        closed_seconds = time.monotonic() - cancelled_at
        await followed.until_ended()
        await resumed

        assert reply.json()["accepted"]
        assert closed_seconds < 1
        assert followed.ended_at - cancelled_at < 1
        log = await log_of(store_url, run_id)
        tell(figure, [followed], log)
        assert_exact([followed, log], end="run.cancelled")
        figure("seconds to cancel", closed_seconds)


async def test_a_run_of_a_killed_worker_ends_once_at_what_everybody_has_seen(
    store_url: str, client: httpx2.AsyncClient, figure: Figure, tmp_path: Path
) -> None:
    async with (
        workers(3, store=store_url, lease_seconds=LEASE_SECONDS) as [killed, *others],
        bystander(store_url, lease_seconds=LEASE_SECONDS) as runs,
        asyncio.TaskGroup() as tasks,
    ):
        run_ids = [await start(client, killed.url, f"{number} 5000 50") for number in range(4)]
        readings = {run_id: [Reading(f"{kind} of {run_id}") for kind in KINDS] for run_id in run_ids}
        for run_id, (own, elsewhere, here, restless) in readings.items():
            urls = [other.url for other in others]
            tasks.create_task(read(own, client, [killed.url, *urls], run_id))
            tasks.create_task(read(elsewhere, client, urls, run_id))
            tasks.create_task(follow(here, runs, run_id))
            tasks.create_task(read(restless, client, [*urls, killed.url], run_id, restless=True))
        everybody = [reading for of_run in readings.values() for reading in of_run]
        for reading in everybody:
            await reading.until_last(40)

        with lateness() as late:
            killed_at = time.monotonic()
            await killed.kill()
            for reading in everybody:
                await reading.until_ended()

    for run_id, of_run in readings.items():
        log = await log_of(store_url, run_id)
        tell(figure, of_run, log)
        assert_exact([*of_run, log], end="run.interrupted")
        assert_interrupted_in_time(of_run, killed_at, late, figure)
    _check_integrity(tmp_path / "runs.db")


@STORES
async def test_a_worker_that_wakes_after_its_lease_adds_nothing(
    store_url: str, client: httpx2.AsyncClient, figure: Figure
) -> None:
    async with (
        workers(2, store=store_url, lease_seconds=LEASE_SECONDS) as [zombie, other],
        bystander(store_url, lease_seconds=LEASE_SECONDS) as runs,
        asyncio.TaskGroup() as tasks,
    ):
        labels = ["0", "1", "2"]
        run_ids = [await start(client, zombie.url, f"{label} 5000 50") for label in labels]
        readings = {run_id: [Reading(f"{kind} of {run_id}") for kind in KINDS[:3]] for run_id in run_ids}
        for run_id, (own, elsewhere, here) in readings.items():
            tasks.create_task(read(own, client, [zombie.url], run_id))
            tasks.create_task(read(elsewhere, client, [other.url], run_id))
            tasks.create_task(follow(here, runs, run_id))
        for three in readings.values():
            for reading in three:
                await reading.until_last(40)

        with lateness() as late:
            frozen_at = time.monotonic()
            zombie.freeze()
            for _, elsewhere, here in readings.values():
                for reading in (elsewhere, here):
                    await reading.until_ended()
        zombie.thaw()
        for label in labels:
            await zombie.until_closed(label)

    for run_id, three in readings.items():
        log = await log_of(store_url, run_id)
        tell(figure, three, log)
        assert_exact([*three, log], end="run.interrupted")
        # Who reads from the frozen worker itself has to wait for it.
        assert_interrupted_in_time(three[1:], frozen_at, late, figure)


@STORES
async def test_a_key_posted_to_all_workers_at_once_starts_one_run(
    store_url: str, client: httpx2.AsyncClient, figure: Figure
) -> None:
    keys = [f"a key that nobody else has {number}" for number in range(KEYS)]
    async with workers(4, "chaos_agent:count", "--store", store_url, store=store_url) as servers:
        urls = [server.url for server in servers]
        run_ids = list[list[str]]()
        for number, key in enumerate(keys):
            posts = (start(client, urls[post % 4], f"{number} 3 100", key=key) for post in range(20))
            run_ids.append(await asyncio.gather(*posts))
        opened = [label for server in servers for label in server.opened]

    assert sorted(opened, key=int) == [str(number) for number in range(KEYS)]
    assert [len(set(ids)) for ids in run_ids] == [1] * KEYS
    figure("posts with a key", len(keys) * 20)


def assert_interrupted_in_time(readings: Sequence[Reading], since: float, late: list[float], figure: Figure) -> None:
    """The end came no earlier than a dead producer can be told from a slow one, and within the lease and a second."""
    figure("seconds late", sum(late))
    for reading in readings:
        seconds = reading.ended_at - since
        figure("seconds to interrupted", seconds)
        assert LEASE_SECONDS * 0.7 < seconds < SEALED_SECONDS + sum(late), (seconds, late)


@contextlib.contextmanager
def lateness() -> Generator[list[float]]:
    """How late a thread was woken that wanted to be woken often, each time that it matters.

    A machine that has no time for this thread has none for the workers either; with time for all, the list is empty.
    """
    late: list[float] = []
    stop = threading.Event()

    def watch() -> None:
        asked_at = time.monotonic()
        while not stop.wait(_WAKE_SECONDS):
            overslept = time.monotonic() - asked_at - _WAKE_SECONDS
            if overslept > _WAKE_SECONDS:
                late.append(overslept)
            asked_at = time.monotonic()

    thread = threading.Thread(target=watch, name="lateness")
    thread.start()
    try:
        yield late
    finally:
        stop.set()
        thread.join()


def _check_integrity(path: Path) -> None:
    if path.exists():
        connection = sqlite3.connect(path)
        try:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        finally:
            connection.close()
