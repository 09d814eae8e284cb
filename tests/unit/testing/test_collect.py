"""Entries are collected to the end, which has to come."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tailrace.events import Entry, TextDelta
from tailrace.testing import collect


async def test_entries_are_collected_in_their_order() -> None:
    entries = [Entry(1, 0, TextDelta("a")), Entry(2, 0, TextDelta("b"))]

    async def stream() -> AsyncIterator[Entry]:
        for entry in entries:
            yield entry

    assert await collect(stream()) == entries


async def test_a_stream_that_hangs_is_an_error() -> None:
    async def stream() -> AsyncIterator[Entry]:
        yield Entry(1, 0, TextDelta("a"))
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await collect(stream(), timeout_seconds=0.01)
