"""What an adapter costs beside the bare loop of its SDK. `python -m benchmarks.adapters --help`; see METHOD.md.

The fake provider has a process of its own, on another core. Here one stream at a time is read as fast as it comes, or
many are read at the pace of a model. Ways take turns, each without its adapter and with it.
"""

import argparse
import asyncio
import gc
import os
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Literal

import msgspec

from benchmarks.frameworks import PACKAGES, WAYS, Ask, Way
from benchmarks.machine import machine
from benchmarks.telling import spread, table
from tailrace.events import TextDelta

__all__ = ["main"]

_ROOT = Path(__file__).parents[1]
_WARMUP_TOKENS = 100
_PACE_SECONDS = 0.02


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass has shown: CPU of the reading process in microseconds per token, and how long it took."""

    way: str
    speed: Literal["full", "paced"]
    adapter: bool
    repeat: int
    tokens: int
    cpu_us: float
    seconds: float


@contextmanager
def _provider() -> Generator[str]:
    """A provider in a process of its own, and this process and that on a core each, if there are two."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    command = [sys.executable, "-m", "benchmarks.provider"]
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[0]})
        command += ["--core", str(cores[1])]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


async def _bare(way: Way, stream: Any) -> int:  # noqa: ANN401  of any SDK
    return sum([1 async for _ in way.loop(stream)])


async def _adapted(way: Way, stream: Any) -> int:  # noqa: ANN401  as above
    # One that fails has too few tokens, which is noticed.
    return sum([isinstance(event, TextDelta) async for event in way.adapter(stream)])


async def _measured(way: Way, ask: Ask, model: str, *, streams: int, adapter: bool) -> tuple[int, float, float]:
    """Tokens, CPU seconds and seconds."""
    read: Callable[[Way, Any], Any] = _adapted if adapter else _bare
    gc.collect()
    began, used = perf_counter(), process_time()
    counted = await asyncio.gather(*(read(way, ask(model)) for _ in range(streams)))
    return sum(counted), process_time() - used, perf_counter() - began


async def _passes(url: str, options: argparse.Namespace) -> AsyncIterator[Pass]:
    ways = {name: way for name, way in WAYS.items() if not options.only or name.startswith(tuple(options.only))}
    asks = {name: way.asking(url) for name, way in ways.items()}
    speeds: dict[Literal["full", "paced"], tuple[int, int, str]] = {
        "full": (1, options.tokens, ""),
        "paced": (options.streams, options.paced_tokens, f";delay={_PACE_SECONDS}"),
    }
    for name, way in ways.items():
        for adapter in (False, True):
            await _measured(way, asks[name], f"text;n={_WARMUP_TOKENS}", streams=1, adapter=adapter)
    for repeat in range(1, options.repeats + 1):
        for speed in options.speed:
            streams, tokens, pace = speeds[speed]
            for name, way in ways.items():
                # Who comes first changes, in case it matters.
                for adapter in (False, True) if repeat % 2 else (True, False):
                    model = f"text;n={tokens}{pace}"
                    counted, cpu, seconds = await _measured(way, asks[name], model, streams=streams, adapter=adapter)
                    if counted != streams * tokens:
                        raise RuntimeError(f"{name}: {counted} tokens of {streams * tokens}")
                    yield Pass(
                        way=name,
                        speed=speed,
                        adapter=adapter,
                        repeat=repeat,
                        tokens=counted,
                        cpu_us=cpu / counted * 1e6,
                        seconds=seconds,
                    )


def _table_of(passes: Sequence[Pass]) -> str:
    rows = [["speed", "way", "bare us", "adapter us", "difference us", "share"]]
    for speed, way in dict.fromkeys((one.speed, one.way) for one in passes):
        bare, adapted = (
            [one.cpu_us for one in passes if (one.speed, one.way, one.adapter) == (speed, way, adapter)]
            for adapter in (False, True)
        )
        added = statistics.median(adapted) - statistics.median(bare)
        share = f"{added / statistics.median(bare):+.0%}"
        rows.append([speed, way, spread(bare, ".1f"), spread(adapted, ".1f"), f"{added:+.1f}", share])
    return table(rows)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapters", description=__doc__)
    parser.add_argument("--tokens", type=int, default=3_000, help="of a stream at full speed (%(default)s)")
    parser.add_argument("--streams", type=int, default=40, help="at once, if they are paced (%(default)s)")
    parser.add_argument("--paced-tokens", type=int, default=100, help="of each of those, 50 a second (%(default)s)")
    parser.add_argument(
        "--speed", nargs="+", choices=["full", "paced"], default=["full", "paced"], help="which to measure (both)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="of everything (%(default)s)")
    parser.add_argument("--only", nargs="+", default=[], help="ways whose names begin so")
    parser.add_argument("--output", type=Path, help="a JSON file for everything that was measured")
    return parser.parse_args(arguments)


async def _measure(options: argparse.Namespace) -> list[Pass]:
    found: list[Pass] = []
    with _provider() as url:
        async for one in _passes(url, options):
            found.append(one)
            print(
                f"{one.speed} {one.way} {'adapter' if one.adapter else 'bare'} {one.cpu_us:.1f} us",
                file=sys.stderr,
                flush=True,
            )
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print what it shows."""
    options = _options(arguments)
    passes = asyncio.run(_measure(options))
    facts = machine(PACKAGES)
    print("; ".join(f"{name} {fact}" for name, fact in facts.items()))
    print(_table_of(passes))
    if options.output is not None:
        settings = {name: value for name, value in vars(options).items() if name != "output"}
        found = {"machine": facts, "settings": settings, "passes": passes}
        options.output.write_bytes(msgspec.json.format(msgspec.json.encode(found)))


if __name__ == "__main__":
    main()
