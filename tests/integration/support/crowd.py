"""A thousand runs at once, for a process that has done nothing else, so that what it takes is what they take."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from tailrace.events import Entry, RunCompleted
from tailrace.runtime.runs import Runs
from tailrace.testing import collect
from tests.integration.support.client import BOUND_SECONDS

__all__ = ["RUNS", "Crowd", "crowd"]

RUNS = 1_000
_WORDS = 20
_HALF = _WORDS // 2
_STATUS = Path("/proc/self/status")


class Crowd(msgspec.Struct):
    """What became of the runs; sizes are 0 where the system tells none.

    Attributes:
        live: How many runs were there at the same time.
        exact: Runs whose log has each number, each of their words, and one end.
        late_exact: Runs that were followed just so from their middle on.
        kept_exact: Runs that were found just so afterwards.
        seconds: From the first start to the last end that was read.
        live_bytes: How much the process had grown when all were half-way.
        peak_bytes: How much it had grown at the most, until all were ended and read.
    """

    live: int
    exact: int
    late_exact: int
    kept_exact: int
    seconds: float
    live_bytes: int
    peak_bytes: int


def crowd(store_url: str) -> Crowd:
    """Start the runs, let all of them wait for each other half-way, and follow each of them twice."""
    return asyncio.run(_crowd(store_url))


async def _crowd(store_url: str) -> Crowd:
    gate = _Gate()
    async with Runs(store_url) as runs:
        await runs.open()
        began_at, before_bytes = time.monotonic(), _memory_bytes("VmRSS")
        started = [await runs.start(gate.source(number)) for number in range(RUNS)]
        early = [asyncio.create_task(collect(run, timeout_seconds=BOUND_SECONDS)) for run in started]
        await gate.all_here()
        live = sum(runs.live(run.id) is not None for run in started)
        live_bytes = _memory_bytes("VmRSS") - before_bytes
        middles = [runs.follow(run.id, _HALF) for run in started]
        late = [asyncio.create_task(collect(middle, timeout_seconds=BOUND_SECONDS)) for middle in middles]
        gate.open()
        logs = await asyncio.gather(*early)
        ends = await asyncio.gather(*late)
        seconds, peak_bytes = time.monotonic() - began_at, _memory_bytes("VmHWM") - before_bytes
        kept = [await collect(runs.follow(run.id)) for run in started]
    return Crowd(
        live=live,
        exact=sum(_is_exact(number, log) for number, log in enumerate(logs)),
        late_exact=sum(end == log[_HALF:] for end, log in zip(ends, logs, strict=True)),
        kept_exact=sum(found == log for found, log in zip(kept, logs, strict=True)),
        seconds=seconds,
        live_bytes=live_bytes,
        peak_bytes=peak_bytes,
    )


class _Gate:
    """Holds every source half-way until all of them are there and it is opened."""

    def __init__(self) -> None:
        self._here = 0
        self._all_here = asyncio.Event()
        self._opened = asyncio.Event()

    async def source(self, number: int) -> AsyncIterator[str]:
        for index in range(_WORDS):
            if index == _HALF:
                await self._passed()
            yield _word(number, index)

    async def all_here(self) -> None:
        async with asyncio.timeout(BOUND_SECONDS):
            await self._all_here.wait()

    def open(self) -> None:
        self._opened.set()

    async def _passed(self) -> None:
        self._here += 1
        if self._here == RUNS:
            self._all_here.set()
        await self._opened.wait()


def _word(number: int, index: int) -> str:
    """A word that no other run says, nor this one again."""
    return f"run-{number}-word-{index} "


def _is_exact(number: int, log: list[Entry]) -> bool:
    numbers = [entry.seq for entry in log]
    said = [getattr(entry.event, "delta", None) for entry in log[1:-1]]
    return (
        numbers == list(range(1, _WORDS + 3))
        and said == [_word(number, index) for index in range(_WORDS)]
        and isinstance(log[-1].event, RunCompleted)
    )


def _memory_bytes(name: str) -> int:
    """A line of what Linux knows of this process."""
    if not _STATUS.exists():
        return 0
    (kilobytes,) = re.findall(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    return int(kilobytes) * 1024
