"""One process of a pass. It is told what to do by lines of JSON on stdin, and answers on stdout.

in: its `Task`. out: `ready`, once runs are started or readers attached. in: the time at which the sources begin.
out: its `Report`, when everything has ended.
"""

import asyncio
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import msgspec

from benchmarks.contestant import Contestant
from benchmarks.load import Load, Plan, Reader, Table
from benchmarks.naive import Naive
from benchmarks.ours import Bare, StoreAlone, Tailrace
from benchmarks.profiling import Profile

__all__ = ["Report", "Task", "Usage"]

_SPARE_CONNECTIONS = 16
#: How long readers may be behind when the sources have ended; what they do not get until then is lost.
_DRAIN_SECONDS = 15.0


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a process does.

    Attributes:
        contestant: `tailrace`, `store`, `naive` or `bare`.
        store: The URL of the store, for those who have one.
        produces: It has the sources.
        reads: It has the readers.
        run_ids: The runs.
        plan: See `Plan`.
        table: The file of the table.
        profiles: Whether to run under cProfile, which makes everything slower.
    """

    contestant: str
    store: str
    produces: bool
    reads: bool
    run_ids: list[str]
    plan: Plan
    table: str
    profiles: bool = False


class Usage(msgspec.Struct, frozen=True):
    """CPU seconds used up to a time."""

    at: float
    cpu_seconds: float

    @classmethod
    def now(cls) -> "Usage":
        """Of this process."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return cls(monotonic(), used.ru_utime + used.ru_stime)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a process has used, between about the begin and the end of the window."""

    before: Usage
    after: Usage
    peak_rss_mib: float
    bytes_taken: int
    profile: str | None = None


class _Process:
    """The runs of one process, or their readers, or both."""

    def __init__(self, task: Task) -> None:
        self._task = task
        table = Table(Path(task.table), task.plan)
        self._load = Load(task.plan, table)
        self._readers = [Reader(run, task.plan, table) for run in range(task.plan.runs)] if task.reads else []
        self._contestant = _CONTESTANTS[task.contestant](task)

    async def run(self) -> Report:
        task = self._task
        if task.produces:
            for run, run_id in enumerate(task.run_ids):
                await self._contestant.start(run_id, self._load.source(run))
        reading = [
            asyncio.create_task(self._contestant.read(run_id, reader), name=f"reader-{run_id}")
            for run_id, reader in zip(task.run_ids, self._readers, strict=False)
        ]
        await asyncio.gather(*(reader.attached.wait() for reader in self._readers))
        _say(b"ready")
        start_at = float(await asyncio.to_thread(sys.stdin.readline))
        self._load.begin(start_at)
        profile = Profile() if task.profiles else None
        before, after = await self._watch(start_at, profile)
        if reading:
            await asyncio.wait(reading, timeout=_DRAIN_SECONDS)
            await _end(reading)
        await self._contestant.aclose()
        return Report(
            before=before,
            after=after,
            peak_rss_mib=_peak_rss_mib(),
            bytes_taken=sum(reader.bytes_taken for reader in self._readers),
            profile=None if profile is None else profile.told(),
        )

    async def _watch(self, start_at: float, profile: Profile | None) -> tuple[Usage, Usage]:
        """What is used in the window, or, by a process that is too busy to look in time, between its looks."""
        begin, end = self._task.plan.window
        await asyncio.sleep(start_at + begin - monotonic())
        before = Usage.now()
        if profile is not None:
            profile.start()
        await asyncio.sleep(start_at + end - monotonic())
        if profile is not None:
            profile.stop()
        return before, Usage.now()


_CONTESTANTS: dict[str, Callable[[Task], Contestant]] = {
    "tailrace": lambda task: Tailrace(task.store),
    "store": lambda task: StoreAlone(task.store),
    "naive": lambda task: Naive(task.store, connections=task.plan.runs + _SPARE_CONNECTIONS),
    "bare": lambda _: Bare(),
}


async def _end(reading: list[asyncio.Task[None]]) -> None:
    """Give up readers that are not done.

    Raises:
        Exception: One of the others failed.
    """
    for reader in reading:
        reader.cancel()
    for outcome in await asyncio.gather(*reading, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


def _peak_rss_mib() -> float:
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def _allow_files() -> None:
    """Let the process have a connection for each reader."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _main(task: Task) -> Report:
    return await _Process(task).run()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


if __name__ == "__main__":
    _allow_files()
    given = msgspec.json.decode(sys.stdin.readline(), type=Task)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        _say(msgspec.json.encode(runner.run(_main(given))))
