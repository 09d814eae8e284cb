"""Many live runs through Redis, beside what is written by hand. `python -m benchmarks.durable --help`; see METHOD.md.

Each pass has a Redis server, a process that produces and a process that reads of its own, all of them fresh. The
contestants take turns, so that whatever else the machine does hits all of them.
"""

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.load import Plan
from benchmarks.machine import machine
from benchmarks.measuring import CONTESTS, Figures, measure, redis_program
from benchmarks.telling import line_of, ratios_of, tables_of, told

__all__ = ["main"]

_PACKAGES = ("redis", "hiredis", "uvloop", "msgspec")


def _server_version() -> str:
    told = subprocess.run([redis_program(), "--version"], check=True, capture_output=True, text=True).stdout
    return next((word[2:] for word in told.split() if word.startswith("v=")), told.strip())


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durable", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000, help="live at once (%(default)s)")
    parser.add_argument(
        "--rate",
        type=float,
        nargs="+",
        default=[20.0, 5.0],
        help="events per second of each run; of several, each is measured (20 5)",
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="that are measured (%(default)s)")
    parser.add_argument("--warmup", type=float, default=3.0, help="seconds before that (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of everything (%(default)s)")
    parser.add_argument("--only", nargs="+", default=[], help="contestants whose names begin so")
    parser.add_argument("--output", type=Path, help="a JSON file for everything that was measured")
    parser.add_argument(
        "--profile", action="store_true", help="run only the first contestant, under cProfile, and say where time goes"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print what it shows."""
    options = _options(arguments)
    # Told to end, it still ends what it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    contests = [
        contest
        for contest in CONTESTS
        if not options.only or any(contest.name.startswith(name) for name in options.only)
    ]
    if options.profile:
        plan = Plan(runs=options.runs, rate=options.rate[0], warmup_seconds=options.warmup, seconds=options.seconds)
        for title, text in zip(("producer", "reader"), measure(contests[0], plan, 0, profiles=True)[1], strict=False):
            print(f"{contests[0].name}, {title}:\n{text}")
        return
    passes: list[Figures] = []
    for repeat in range(1, options.repeats + 1):
        for rate in options.rate:
            plan = Plan(runs=options.runs, rate=rate, warmup_seconds=options.warmup, seconds=options.seconds)
            for contest in contests:
                figures, _ = measure(contest, plan, repeat)
                passes.append(figures)
                print(line_of(figures), file=sys.stderr, flush=True)
    facts = {**machine(_PACKAGES), "redis-server": _server_version()}
    print("; ".join(f"{name} {fact}" for name, fact in facts.items()))
    print(tables_of(passes, options.runs))
    ratios = ratios_of(passes)
    for ratio in ratios:
        print(told(ratio))
    if options.output is not None:
        settings = {name: value for name, value in vars(options).items() if name != "output"}
        found = {"machine": facts, "settings": settings, "passes": passes, "ratios": ratios}
        options.output.write_bytes(msgspec.json.format(msgspec.json.encode(found)))


if __name__ == "__main__":
    main()
