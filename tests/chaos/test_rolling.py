"""Workers that are told to stop: nobody who follows a run elsewhere sees it, and every open response ends well."""

import asyncio
import contextlib
import itertools
import signal
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Self

import httpx2
import pytest

from tailrace.events import Entry, RunCancelled, RunCompleted, RunInterrupted, Terminal
from tailrace.testing import HttpFollower, collect
from tailrace.wire.sse import Decoder, ServerSentEvent
from tests.chaos.readings import bystander, start
from tests.chaos.rounds import of_form
from tests.chaos.worker import Worker

pytestmark = [pytest.mark.chaos, pytest.mark.redis, pytest.mark.timeout(180)]

WORKERS = 4
RUNS_PER_WORKER = 5
STREAMS = 100
GRACE_SECONDS = 3.0
#: What a busy machine may take beyond the grace.
SLACK_SECONDS = 10.0
BOUND_SECONDS = 120.0
LEASE_SECONDS = 5.0
#: Five words a second, and more of them than a test has time for.
ENDLESS = "endless 100000 5"
#: Begun just before its worker is told to stop, and over before the worker's grace is.
SHORT = "short 6 4"
SHUTDOWN = RunInterrupted(reason="shutdown")
COMPLETED = RunCompleted(finish_reason="stop")

_STARTED = "Application startup complete"
Figure = Callable[[str, float], None]


class StoppableWorker(Worker):
    """A worker that can be told to stop in good order; it may consist of several processes."""

    def __init__(self, *arguments: str, store: str, processes: int = 1) -> None:
        """Describe it; `arguments` are those of `tailrace serve`."""
        options = ("--grace-seconds", str(GRACE_SECONDS), "--workers", str(processes))
        super().__init__(*arguments, *options, store=store, lease_seconds=LEASE_SECONDS)
        self._processes = processes

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        # The address is told before anybody listens there.
        await self._until(lambda: self.log.count(_STARTED) == self._processes)
        return self

    async def kill(self) -> None:
        """End it at once if that leaves nobody behind, else in good order."""
        if self._processes > 1 and self._process.returncode is None:
            with contextlib.suppress(TimeoutError):
                await self._end()
        await super().kill()

    async def stop(self) -> float:
        """Tell it to stop, and wait for its end, which must be a good one; how many seconds that took."""
        told_at = time.monotonic()
        code = await self._end()
        assert (code, "Traceback" in self.log) == (0, False), self.log
        return time.monotonic() - told_at

    async def _end(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(GRACE_SECONDS + SLACK_SECONDS):
            return await self._process.wait()


# A rolling restart ---------------------------------------------------------------------------------------------------


class Fleet:
    """The workers that readers are sent to in turn. One that is about to stop is left out, as a load balancer does."""

    def __init__(self, store: str, stack: contextlib.AsyncExitStack) -> None:
        """Begin without any; those that are added end with `stack`."""
        self.workers: list[StoppableWorker] = []
        self._store = store
        self._stack = stack
        self._turns = itertools.count()

    async def add(self) -> StoppableWorker:
        """Start one more."""
        worker = await self._stack.enter_async_context(StoppableWorker("chaos_agent:app", store=self._store))
        self.workers.append(worker)
        return worker

    def next(self) -> StoppableWorker:
        """The one whose turn it is."""
        return self.workers[next(self._turns) % len(self.workers)]


class Reader:
    """Follows a run at whatever worker it is sent to.

    Attributes:
        at: The worker that it was sent to last.
        leaves: How often it was there when a worker was told to stop.
    """

    def __init__(self, client: httpx2.AsyncClient, fleet: Fleet, run_id: str) -> None:
        """Begin at the worker whose turn it is."""
        self.at = fleet.next()
        self.leaves = 0
        self.follower = HttpFollower(client, self._urls(fleet, run_id), dropped=(httpx2.TransportError,))

    def _urls(self, fleet: Fleet, run_id: str) -> Iterator[str]:
        while True:
            yield f"{self.at.url}/runs/{run_id}/events?merge=0"
            self.at = fleet.next()


class WatchedRun:
    """A run with its readers.

    Attributes:
        id: The run.
        worker: Who produces it.
        readers: Who reads it.
        end: How it has to end.
    """

    def __init__(self, run_id: str, worker: StoppableWorker, readers: Sequence[Reader], end: Terminal) -> None:
        """Watch it."""
        self.id = run_id
        self.worker = worker
        self.readers = readers
        self.end = end

    async def all_reading(self) -> None:
        """Wait until every reader has read more than any of them has now: then each has a connection."""
        news = max(reader.follower.last for reader in self.readers) + 1
        await asyncio.gather(*(reader.follower.reached(news, timeout_seconds=BOUND_SECONDS) for reader in self.readers))


class Roll:
    """The runs while workers come and go."""

    def __init__(
        self, client: httpx2.AsyncClient, fleet: Fleet, tasks: asyncio.TaskGroup, readers_per_run: int
    ) -> None:
        """Begin without any; the readers are tasks of the group."""
        self.runs: list[WatchedRun] = []
        self._client = client
        self._fleet = fleet
        self._tasks = tasks
        self._readers_per_run = readers_per_run

    @property
    def live(self) -> list[WatchedRun]:
        """The runs that go on."""
        return [run for run in self.runs if run.worker in self._fleet.workers]

    @property
    def streams(self) -> int:
        """How many readers they have."""
        return sum(len(run.readers) for run in self.live)

    async def begin(self, worker: StoppableWorker, message: str, end: Terminal) -> None:
        """Start a run at a worker; returns when its readers, which are everywhere, have read something."""
        run_id = await start(self._client, worker.url, message)
        readers = [Reader(self._client, self._fleet, run_id) for _ in range(self._readers_per_run)]
        for reader in readers:
            self._tasks.create_task(reader.follower.follow(timeout_seconds=BOUND_SECONDS))
        run = WatchedRun(run_id, worker, readers, end)
        self.runs.append(run)
        await run.all_reading()

    async def fill(self, worker: StoppableWorker) -> None:
        """Start as many endless runs at a worker as each has."""
        await asyncio.gather(*(self.begin(worker, ENDLESS, SHUTDOWN) for _ in range(RUNS_PER_WORKER)))

    async def replace(self, worker: StoppableWorker) -> float:
        """Stop a worker, start and fill another one; how many seconds the old one took to go."""
        await asyncio.gather(*(run.all_reading() for run in self.live))
        leaving = [reader for run in self.live for reader in run.readers if reader.at is worker]
        for reader in leaving:
            reader.leaves += 1
        await self.begin(worker, SHORT, COMPLETED)

        self._fleet.workers.remove(worker)
        seconds = await worker.stop()
        await self.fill(await self._fleet.add())
        return seconds

    async def cancel(self) -> None:
        """End what goes on, from any worker."""
        for run in self.live:
            run.end = RunCancelled(reason="user")
            await self._client.post(f"{self._fleet.next().url}/runs/{run.id}/cancel")


@contextlib.asynccontextmanager
async def rolling(
    store_url: str, client: httpx2.AsyncClient, readers_per_run: int
) -> AsyncGenerator[tuple[Fleet, Roll]]:
    """Workers with their runs; on leaving, what goes on is cancelled, and the readers read to the end."""
    async with contextlib.AsyncExitStack() as stack:
        fleet = Fleet(store_url, stack)
        await asyncio.gather(*(fleet.add() for _ in range(WORKERS)))
        async with asyncio.TaskGroup() as tasks:
            roll = Roll(client, fleet, tasks, readers_per_run)
            await asyncio.gather(*(roll.fill(worker) for worker in fleet.workers))
            yield fleet, roll
            await roll.cancel()


async def logs_of(store_url: str, run_ids: Sequence[str]) -> list[list[Entry]]:
    """The logs as somebody finds them who comes when all is over."""
    async with bystander(store_url, lease_seconds=60) as runs:
        return [await collect(runs.follow(run_id)) for run_id in run_ids]


def assert_seen_whole(run: WatchedRun, log: list[Entry]) -> None:
    """The run has one end and nothing is missing before it; its readers saw just that, and none was cut off."""
    said = "".join(getattr(entry.event, "delta", "") for entry in log).split()
    assert [entry.seq for entry in log] == list(range(1, len(log) + 1))
    assert said == [f"w{number}" for number in range(1, len(log) - 1)]
    assert log[-1].event == run.end
    for reader in run.readers:
        follower = reader.follower
        assert (follower.faults, follower.refusals) == ([], [])
        assert follower.entries == log, (follower.last, len(log))
        assert follower.resumes == len(follower.reconnects)
        assert all(1_000 <= retry_ms <= 10_000 for retry_ms in follower.reconnects)
        # A short run may be over before its worker is told to stop.
        assert run.end == COMPLETED or len(follower.reconnects) == reader.leaves


@pytest.mark.parametrize(
    ("store_url", "readers_per_run"),
    of_form(short=[("redis", 10)], long=[("redis", 10), ("sqlite", 2)]),
    indirect=["store_url"],
)
async def test_nobody_sees_anything_of_a_rolling_restart(
    store_url: str, readers_per_run: int, client: httpx2.AsyncClient, figure: Figure
) -> None:
    streams: list[int] = []

    async with rolling(store_url, client, readers_per_run) as (fleet, roll):
        for worker in tuple(fleet.workers):
            streams.append(roll.streams)
            figure("seconds to go", await roll.replace(worker))
    logs = await logs_of(store_url, [run.id for run in roll.runs])

    assert streams == [WORKERS * RUNS_PER_WORKER * readers_per_run] * WORKERS
    for run, log in zip(roll.runs, logs, strict=True):
        assert_seen_whole(run, log)
    followers = [reader.follower for run in roll.runs for reader in run.readers]
    assert sum(reader.leaves for run in roll.runs for reader in run.readers) >= streams[0]
    figure("readers", len(followers))
    figure("events read", sum(len(follower.entries) for follower in followers))
    figure("resumes", sum(follower.resumes for follower in followers))
    figure("gaps", sum(len(follower.faults) for follower in followers))


# All workers at once -------------------------------------------------------------------------------------------------


class Response:
    """One response that starts a run, read to its end and no further.

    Attributes:
        run_id: The run.
        events: What came.
        comments: The comments that came.
        retry_ms: When to come back.
        ended: The response has ended as HTTP says; a broken one raises.
    """

    def __init__(self) -> None:
        """Before it was asked for."""
        self.run_id = ""
        self.events: list[ServerSentEvent] = []
        self.comments: list[str] = []
        self.retry_ms: int | None = None
        self.ended = False
        self._said_something = asyncio.Event()

    async def read(self, client: httpx2.AsyncClient, url: str, dialect: str) -> None:
        """Ask for it, and read it."""
        decoder = Decoder(on_comment=self.comments.append)
        parameters = {"dialect": dialect}
        body = {"message": ENDLESS}
        async with client.stream("POST", f"{url}/chat", params=parameters, json=body) as response:
            self.run_id = response.headers["location"].split("/")[2]
            async for chunk in response.aiter_raw():
                self.events += decoder.feed(chunk)
                if len(self.events) > 1:
                    self._said_something.set()
        self.retry_ms = decoder.retry
        self.ended = True

    async def said_something(self) -> None:
        """Wait until the run has said a word."""
        async with asyncio.timeout(BOUND_SECONDS):
            await self._said_something.wait()


@pytest.mark.parametrize("store_url", of_form(short=["redis"], long=["redis", "sqlite"]), indirect=True)
@pytest.mark.parametrize(("servers", "processes"), [(2, 1), (1, 2)], ids=["two servers", "one server of two processes"])
async def test_when_all_workers_stop_at_once_every_response_ends_well(
    store_url: str, client: httpx2.AsyncClient, figure: Figure, servers: int, processes: int
) -> None:
    responses = {
        "native": [Response() for _ in range(STREAMS // 2)],
        "tokens": [Response() for _ in range(STREAMS // 2)],
    }
    everybody = [response for of_dialect in responses.values() for response in of_dialect]
    arguments = ("chaos_agent:count", "--store", store_url)
    async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        workers = [
            await stack.enter_async_context(StoppableWorker(*arguments, store=store_url, processes=processes))
            for _ in range(servers)
        ]
        turns = itertools.cycle(workers)
        for dialect, of_dialect in responses.items():
            for response in of_dialect:
                tasks.create_task(response.read(client, next(turns).url, dialect))
        await asyncio.gather(*(response.said_something() for response in everybody))

        for seconds in await asyncio.gather(*(worker.stop() for worker in workers)):
            figure("seconds to go", seconds)
    logs = await logs_of(store_url, [response.run_id for response in everybody])

    assert all(response.ended for response in everybody)
    for response in responses["native"]:
        *entries, last = response.events
        assert (last.event, last.data, last.id) == ("reconnect", "{}", str(len(entries)))
        assert response.comments == []
        assert response.retry_ms is not None
        assert 1_000 <= response.retry_ms <= 10_000
    for response in responses["tokens"]:
        *_, why, last = response.events
        assert ('"code":"shutdown"' in why.data, last.data, response.comments) == (True, "[DONE]", ["end"])
    assert [log[-1].event for log in logs] == [SHUTDOWN] * STREAMS
    figure("responses that ended well", STREAMS)
