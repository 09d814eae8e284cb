"""A stream that has to be entered before it can be read, `async with … as events`, read as a plain one."""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

from tailrace.errors import SourceInvalidError

__all__ = ["Entered"]


class Entered(AsyncIterator[Any]):
    """Entered with the first item, left when it is closed: whoever makes one has to close it.

    Attributes:
        handle: What entering gave; `None` before.
    """

    def __init__(self, manager: AbstractAsyncContextManager[Any]) -> None:
        """Enter nothing yet."""
        self.handle: Any = None
        self._manager = manager
        self._items: AsyncIterator[Any] | None = None

    async def __anext__(self) -> Any:  # noqa: ANN401  whatever the stream gives
        """The next item.

        Raises:
            StopAsyncIteration: There is none.
            SourceInvalidError: What was entered is no stream.
        """
        if self._items is None:
            self.handle = await self._manager.__aenter__()
            stream: object = self.handle
            if not isinstance(stream, AsyncIterable):
                raise SourceInvalidError(type(self._manager).__name__, "a stream, or what gives one when it is entered")
            self._items = aiter(cast("AsyncIterable[object]", stream))
        return await anext(self._items)

    async def aclose(self) -> None:
        """Leave it, if it was entered."""
        if self.handle is not None:
            await self._manager.__aexit__(None, None, None)
