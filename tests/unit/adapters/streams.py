"""Providers' streams, scripted: what they give, and how they end."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import strategies as st

from tailrace import events
from tailrace.adapters import ProviderStream
from tailrace.events import Entry, Event
from tailrace.fold import Reduced, reduce

__all__ = [
    "STOPPED",
    "ProviderScript",
    "as_objects",
    "chunk",
    "cuts",
    "forever",
    "pieces_of",
    "read",
    "reduced",
    "said",
    "values",
]


class ProviderScript:
    """Gives its items one by one, as the streams of SDKs do: an exception is raised, and a function is called.

    `closed` counts how often it was closed, by a coroutine function `close`, which is how SDKs call it.
    """

    def __init__(self, *items: object) -> None:
        self._items = iter(items)
        self.closed = 0
        self.is_closed = asyncio.Event()

    def __aiter__(self) -> "ProviderScript":
        return self

    async def __anext__(self) -> object:
        for item in self._items:
            if isinstance(item, BaseException):
                raise item
            if callable(item) and not isinstance(item, SimpleNamespace):
                waiting = cast("Callable[[], object]", item)()
                if isinstance(waiting, Awaitable):
                    await cast("Awaitable[object]", waiting)
                continue
            return item
        raise StopAsyncIteration

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1
        self.is_closed.set()


async def read(stream: AsyncIterable[Event]) -> list[Event]:
    """All events, of a stream that ends."""
    return [event async for event in stream]


async def said(adapter: Callable[..., ProviderStream], *items: object) -> list[Event]:
    """What an adapter makes of a stream of these items."""
    return await read(adapter(ProviderScript(*items)))


def reduced(content: Iterable[Event]) -> Reduced:
    """What the events amount to."""
    return reduce(Entry(seq, 0, event) for seq, event in enumerate(content, 1))


def as_objects(value: object) -> object:
    """JSON objects as an SDK gives them, by attributes."""
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return SimpleNamespace(**{name: as_objects(item) for name, item in fields.items()})
    return [as_objects(item) for item in cast("list[object]", value)] if isinstance(value, list) else value


def chunk(delta: dict[str, Any] | None = None, **choice: object) -> dict[str, Any]:
    """A chunk of a chat completion."""
    return {"object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": delta, **choice}]}


async def forever(item: object) -> AsyncGenerator[object]:
    """The same again and again, as pings are sent."""
    while True:
        await asyncio.sleep(0)
        yield item


#: The end of most answers.
STOPPED = events.RunCompleted(finish_reason="stop")

cuts = st.sets(st.integers(0, 60), max_size=8)
values = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5) | st.none(), max_size=3)


def pieces_of(text: str, places: set[int]) -> list[str]:
    """The text cut at these places, some of which may be beyond it."""
    within = [0, *sorted(place for place in places if place < len(text)), len(text)]
    return [text[start:end] for start, end in pairwise(within)]
