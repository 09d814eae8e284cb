"""The fake provider in a process of its own. It says where it listens, and ends with its standard input."""

import argparse
import os
import sys

from tests.fake_provider.provider import FakeProvider


def _serve() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.provider", description=__doc__)
    parser.add_argument("--core", type=int, help="the only core that it runs on")
    core: int | None = parser.parse_args().core
    if core is not None:
        os.sched_setaffinity(0, {core})
    with FakeProvider() as provider:
        print(provider.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _serve()
