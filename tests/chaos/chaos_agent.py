"""What the workers of these tests serve: an agent that counts, and says on stdout when it is opened and closed.

A message is `label words words_per_second`; the run's text is `w1 w2 w3 …`.
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator

import msgspec

from tailrace import Tailrace
from tailrace.chat.app import create_app

__all__ = ["count", "make_app"]


async def count(message: str) -> AsyncGenerator[str]:
    label, words, words_per_second = message.split()
    _say({"is": "opened", "label": label})
    try:
        for number in range(1, int(words) + 1):
            yield f"w{number} "
            await asyncio.sleep(1 / float(words_per_second))
    finally:
        _say({"is": "closed", "label": label})


def _say(fact: dict[str, str]) -> None:
    # One write for each line, so that processes that share a pipe do not mix theirs.
    os.write(sys.stdout.fileno(), msgspec.json.encode(fact) + b"\n")


def __getattr__(name: str) -> object:
    """The application is made when it is asked for, as the agent alone needs no store."""
    if name == "app":
        return make_app()
    raise AttributeError(name)


def make_app() -> object:
    lease_seconds = float(os.environ["CHAOS_LEASE_SECONDS"])
    return create_app(count, Tailrace(os.environ["CHAOS_STORE"], lease_seconds=lease_seconds))
