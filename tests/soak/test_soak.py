"""Mixed load for minutes: what it takes while it lasts does not grow, and nothing of it is left when it is over."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx2
import pytest

from tailrace.runtime.runs import Runs
from tests.redis_server import RedisServer
from tests.soak.conftest import SOAK_SECONDS
from tests.soak.figures import MIB, Sample, Samples
from tests.soak.sites import LEASE_SECONDS, RETENTION_SECONDS, Site, SoakWorker, WatchedFile, WatchedRedis
from tests.soak.soak_app import State
from tests.soak.visits import Visitor

pytestmark = [
    pytest.mark.soak,
    pytest.mark.redis,
    pytest.mark.timeout(SOAK_SECONDS + 600),
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc"),
]

#: So many do something at any time: about as many runs are live, and two thirds of a core are busy.
REDIS_VISITORS, SQLITE_VISITORS = 20, 8
SAMPLE_SECONDS = 5.0
#: A worker takes three minutes to have all the memory that it needs. Half of a shorter soak tells nothing of growth.
LONG_SOAK_SECONDS = 400
#: Workers were seen to grow by 0.2 at most in the second half of ten minutes, and by 1.3 and more when they kept 8 KB
#: of each run. A leak that is smaller than the bound is one of objects, which the census counts.
RSS_MIB_PER_MINUTE = 1.0
#: How much more of something the second half of a soak may see than the first. It would be three times as much of
#: what only ever comes, and half as much again is chance: the load is, and what is swept goes in heaps.
FLAT = 2.0
#: Signals in a file are kept for a minute, and swept with everything else every half minute.
SETTLING_SECONDS = RETENTION_SECONDS + 120
TRANSIENT_TASKS = {"tailrace-run", "tailrace-source", "tailrace-receive", "tailrace-presence"}


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    """Of whoever measures."""
    async with _new_client() as made:
        yield made


@pytest.fixture
async def sites(require_program: Callable[..., str], tmp_path: Path) -> AsyncGenerator[list["_Watched"]]:
    """Two workers on a Redis, and a worker on a file that this process follows along."""
    program = require_program("redis-server", "valkey-server")
    async with contextlib.AsyncExitStack() as stack:
        redis = WatchedRedis(stack.enter_context(RedisServer(program, tmp_path / "redis")))
        file = WatchedFile(tmp_path / "runs.db")
        on_redis = [await stack.enter_async_context(SoakWorker(redis.url)) for _ in range(2)]
        on_file = [await stack.enter_async_context(SoakWorker(file.url))]
        runs = await stack.enter_async_context(
            Runs(file.url, lease_seconds=LEASE_SECONDS, retention_seconds=RETENTION_SECONDS)
        )
        yield [
            _Watched(Site("redis", on_redis), REDIS_VISITORS, redis),
            _Watched(Site("sqlite", on_file, runs), SQLITE_VISITORS, file),
        ]


async def test_nothing_grows_under_a_mixed_load_and_nothing_is_left_after_it(
    sites: list["_Watched"], client: httpx2.AsyncClient, report: list[str]
) -> None:
    tally: Counter[str] = Counter()
    async with contextlib.AsyncExitStack() as stack:
        visitors = [
            [
                Visitor(watched.site, await stack.enter_async_context(_new_client()), name=f"{number}", tally=tally)
                for number in range(watched.visitors)
            ]
            for watched in sites
        ]
        # Whatever is made once and kept is there before anything is counted.
        await asyncio.gather(*(first.visit_everything() for first, *_ in visitors))
        for watched in sites:
            await watched.note_base(client)
        tally.clear()

        begun = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for watched, [first, *others] in zip(sites, visitors, strict=True):
                tasks.create_task(watched.sample_until(begun + SOAK_SECONDS, client))
                tasks.create_task(first.stay(SOAK_SECONDS))
                for visitor in others:
                    tasks.create_task(visitor.visit_until(begun + SOAK_SECONDS))
        faults = [fault for several in visitors for visitor in several for fault in visitor.faults]

    left = [line for watched in sites for line in await watched.left_after(client)]
    report += [f"soak: {SOAK_SECONDS:.0f} s, faults {len(faults)}", *(f"  {k}: {n}" for k, n in sorted(tally.items()))]
    for watched in sites:
        report += watched.lines()
    grown = [line for watched in sites for line in watched.grown()] if SOAK_SECONDS >= LONG_SOAK_SECONDS else []
    codes = [await worker.stop() for watched in sites for worker in watched.site.workers]

    assert not faults, "\n".join(faults)
    assert not left, "\n".join(left)
    assert not grown, "\n".join(grown)
    assert codes == [0] * len(codes)
    assert all(tally[f"{watched.site.name} readings"] for watched in sites)


class _Watched:
    """A site, how much is done there, and what was seen of it before, while and after it was done."""

    def __init__(self, site: Site, visitors: int, store: WatchedRedis | WatchedFile) -> None:
        self.site = site
        self.visitors = visitors
        self._store = store
        self._store_samples = Samples(site.name)
        self._samples = [Samples(f"{site.name} worker {number}") for number, _ in enumerate(site.workers, 1)]
        self._base: list[State] = []
        self._census: list[Counter[str]] = []
        self._store_base: Sample = {}
        self._end: list[State] = []
        self._store_end: Sample = {}

    async def note_base(self, client: httpx2.AsyncClient) -> None:
        """Wait until nothing is under way, and note what is there."""

        async def idle() -> list[str]:
            self._base = [await worker.state(client, collect=True) for worker in self.site.workers]
            return [line for state in self._base for line in _under_way(state)]

        assert await _nothing(idle) == []
        self._census = [await worker.census(client) for worker in self.site.workers]
        self._store_base = await asyncio.to_thread(self._store.holdings)

    async def sample_until(self, deadline: float, client: httpx2.AsyncClient) -> None:
        """Look now and then."""
        begun = time.monotonic()
        while (now := time.monotonic()) < deadline:
            for worker, samples in zip(self.site.workers, self._samples, strict=True):
                samples.add(now - begun, _sample(await worker.state(client)))
            self._store_samples.add(now - begun, _in_mib(await asyncio.to_thread(self._store.holdings)))
            # Looking at intervals is what this is for.
            await asyncio.sleep(SAMPLE_SECONDS)

    async def left_after(self, client: httpx2.AsyncClient) -> list[str]:
        """What is left when the retention has passed, beyond what was there at the beginning."""

        async def left() -> list[str]:
            self._end = [await worker.state(client, collect=True) for worker in self.site.workers]
            self._store_end = await asyncio.to_thread(self._store.holdings)
            lines = await asyncio.to_thread(self._store.remains, self._store_base)
            for base, end in zip(self._base, self._end, strict=True):
                lines += _under_way(end)
                lines += _more({"fds": base.fds, "threads": base.threads}, {"fds": end.fds, "threads": end.threads})
                lines += _more(base.tasks, end.tasks)
            for worker, census in zip(self.site.workers, self._census, strict=True):
                lines += _more(census, await worker.census(client))
            return [f"{self.site.name}: {line}" for line in lines]

        return await _nothing(left)

    def grown(self) -> list[str]:
        """What did not stay as it was while the load went on."""
        lines = [
            f"{samples.name}: {growth:.2f} MiB a minute"
            for samples in self._samples
            if (growth := samples.growth_per_minute("RSS MiB")) > RSS_MIB_PER_MINUTE
        ]
        for samples, whats in [
            (self._store_samples, self._store.flat),
            *((s, ("fds", "tasks")) for s in self._samples),
        ]:
            for what in whats:
                earlier, later = samples.halves(what)
                if later > earlier * FLAT:
                    lines.append(f"{samples.name}: {what} from {earlier:.0f} to {later:.0f}")
        return lines

    def lines(self) -> list[str]:
        """The table."""
        lines = self._store_samples.lines(_in_mib(self._store_base), _in_mib(self._store_end))
        for samples, base, end in zip(self._samples, self._base, self._end, strict=True):
            lines += samples.lines(_sample(base), _sample(end))
        return lines


def _new_client() -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx2.AsyncClient(limits=limits, timeout=httpx2.Timeout(30.0), trust_env=False)


async def _nothing(look: Callable[[], Awaitable[list[str]]]) -> list[str]:
    """Look until there is nothing, and return what there is if that takes too long."""
    deadline = time.monotonic() + SETTLING_SECONDS
    while (seen := await look()) and time.monotonic() < deadline:  # noqa: ASYNC110  other processes'
        await asyncio.sleep(1)
    return seen


def _under_way(state: State) -> list[str]:
    counts = {"live runs": state.live_runs, "streams": state.streams, "followers": state.followers}
    tasks = {name: count for name, count in state.tasks.items() if name in TRANSIENT_TASKS}
    return _more({}, {**counts, **tasks, "abandoned": state.abandoned})


def _more(base: dict[str, int] | Counter[str], end: dict[str, int] | Counter[str]) -> list[str]:
    """What there is more of at the end."""
    return [f"{what} from {base.get(what, 0)} to {count}" for what, count in end.items() if count > base.get(what, 0)]


def _sample(state: State) -> Sample:
    return {
        "RSS MiB": state.rss_bytes / MIB,
        "fds": state.fds,
        "threads": state.threads,
        "tasks": sum(state.tasks.values()),
        "live runs": state.live_runs,
        "streams": state.streams,
        "followers": state.followers,
    }


def _in_mib(sample: Sample) -> Sample:
    return {
        what.replace("bytes", "MiB"): number / MIB if "bytes" in what else number for what, number in sample.items()
    }
