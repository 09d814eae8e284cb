"""Reading a run, or any stream of entries, to its end."""

import asyncio
from collections.abc import AsyncIterable

from tailrace.events import Entry

__all__ = ["collect"]


async def collect(entries: AsyncIterable[Entry], *, timeout_seconds: float = 10.0) -> list[Entry]:
    """All entries of a `Run`, a `follow(…)` or another iterable, in the order in which they came.

    Raises:
        TimeoutError: The end did not come within `timeout_seconds`: a test that hangs says so.
    """
    async with asyncio.timeout(timeout_seconds):
        return [entry async for entry in entries]
