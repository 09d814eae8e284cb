"""A source in the hands of a test."""

import asyncio
from collections.abc import AsyncGenerator

__all__ = ["Feed"]


class Feed:
    """A source that says what the test puts in; `None` is its end.

    Attributes:
        closed: Its `finally` has run.
    """

    def __init__(self) -> None:
        """Begin with nothing to say."""
        self.closed = False
        self._items: asyncio.Queue[object] = asyncio.Queue()

    def put(self, *items: object) -> None:
        """Say these, one after the other."""
        for item in items:
            self._items.put_nowait(item)

    async def source(self) -> AsyncGenerator[object]:
        """The source, to be used once."""
        try:
            while (item := await self._items.get()) is not None:
                yield item
        finally:
            self.closed = True
