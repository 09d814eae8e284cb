"""A run produced by hand: the body of an `async with` is its source, in a web worker or in any other process.

The run's ending follows the body's: completed when it ends, failed when it raises, cancelled when somebody cancels the
run, which cancels the body's task like a timeout would.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from tailrace.errors import RunClosedError
from tailrace.events import TERMINALS, Event

__all__ = ["Channel", "RunProducer"]


class Channel(AsyncIterator[Any]):
    """Hands items from the body to the run, one at a time; closing it stops the body."""

    def __init__(self, run_id: str) -> None:
        """Made before the run; `enter` tells when the body begins."""
        self.stopped = False
        self._run_id = run_id
        self._body: asyncio.Task[Any] | None = None
        self._turn = asyncio.Lock()
        self._offered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._taken: asyncio.Future[None] | None = None
        self._over = False
        self._end: BaseException | None = None

    def enter(self) -> None:
        """The body begins, in this task; it is cancelled if the run has ended already."""
        self._body = asyncio.current_task()
        if self.stopped and self._body is not None:
            self._body.cancel()

    async def put(self, item: object) -> None:
        """Wait until the run has taken the item.

        Raises:
            RunClosedError: The run has ended.
        """
        async with self._turn:
            if self._taken is not None:
                # Whoever offered the item before may have been cancelled while it waited.
                await asyncio.shield(self._taken)
            # A run that is being stopped has cancelled its side already.
            if self.stopped or self._over or self._offered.done():
                raise RunClosedError(self._run_id)
            if isinstance(item, TERMINALS):
                # The run ends with it and closes this; the body may still tidy up.
                self._over = True
                self._offered.set_result(item)
                return
            self._taken = asyncio.get_running_loop().create_future()
            self._offered.set_result(item)
            await asyncio.shield(self._taken)

    def finish(self, error: BaseException | None) -> None:
        """The body has ended, with this error if it raised; an item that is under way comes before it."""
        self._over = True
        self._end = StopAsyncIteration() if error is None else _contained(error)
        if not self._offered.done():
            self._offer_end(self._end)

    def _offer_end(self, end: BaseException) -> None:
        self._offered.set_exception(end)
        # A run that has ended already does not come back for it.
        self._offered.exception()

    async def __anext__(self) -> object:
        if self._taken is not None and not self._taken.done():
            # Coming back for more says that the item before is in the log.
            self._taken.set_result(None)
        item: object = await self._offered
        self._offered = asyncio.get_running_loop().create_future()
        if self._end is not None:
            self._offer_end(self._end)
        return item

    async def aclose(self) -> None:
        """Called by the run when it needs no more: cancels the body unless it has ended."""
        if self._taken is not None and not self._taken.done():
            self._taken.set_exception(RunClosedError(self._run_id))
            # The body is told by its cancellation; nobody may be waiting here.
            self._taken.exception()
        if self._over or self.stopped:
            return
        self.stopped = True
        if self._body is not None:
            self._body.cancel()


def _contained(error: BaseException) -> BaseException:
    """The error, or one around it if by itself it would only say that the items are at their end."""
    if not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    contained = RuntimeError(f"the body raised {type(error).__name__}")
    contained.__cause__ = error
    return contained


class RunProducer:
    """What the body of `Runs.producer` is given.

    Attributes:
        run_id: The run, to attach to.
    """

    def __init__(self, run_id: str, channel: Channel) -> None:
        """Made by `Runs.producer`, in the task of the body, which begins now."""
        self.run_id = run_id
        self._channel = channel
        channel.enter()

    @property
    def stopped(self) -> bool:
        """Whether the run ended before the body did."""
        return self._channel.stopped

    async def emit(self, event: Event | str | dict[str, Any]) -> None:
        """Add what a source may yield; waits while the store is behind.

        Raises:
            RunClosedError: The run has ended.
        """
        await self._channel.put(event)
