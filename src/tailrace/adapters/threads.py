"""A blocking iterator in the event loop: stepped and closed on one daemon thread, one step at a time."""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from queue import SimpleQueue
from typing import Any

from tailrace.adapters.closing import close_method

__all__ = ["ThreadedIterator"]

_END = object()


class ThreadedIterator(AsyncIterator[Any]):
    """Steps a blocking iterable when asked; whoever makes one has to close it, which ends the thread."""

    def __init__(self, iterable: Iterable[Any]) -> None:
        """Start the thread, in a copy of the current context; the first step is still to be asked for.

        Raises:
            RuntimeError: The machine has no thread left.
        """
        self._iterable = iterable
        self._loop = asyncio.get_running_loop()
        self._steps: SimpleQueue[asyncio.Future[Any] | None] = SimpleQueue()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._work,), name="tailrace-provider", daemon=True).start()

    async def __anext__(self) -> Any:  # noqa: ANN401  whatever the iterable gives
        """The next item. Cancelled, the step goes on in its thread and what it gives is dropped.

        Raises:
            StopAsyncIteration: There is none.
        """
        step: asyncio.Future[Any] = self._loop.create_future()
        self._steps.put(step)
        item = await step
        if item is _END:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """Let the thread close the iterable, after the step it is at, and wait for that."""
        self._steps.put(None)
        await self._closed

    def _work(self) -> None:
        closables: list[object] = [self._iterable]
        error: BaseException | None = None
        try:
            iterator: Iterator[Any] | None = None
            while (step := self._steps.get()) is not None:
                item: object = _END
                error = None
                try:
                    if iterator is None:
                        iterator = iter(self._iterable)
                        if iterator is not self._iterable:
                            closables.insert(0, iterator)
                    item = next(iterator, _END)
                except BaseException as caught:  # noqa: BLE001  handed over to the task that waits
                    error = caught
                self._tell(step, item, error)
            error = None
            for closable in closables:
                if (close := close_method(closable)) is not None:
                    close()
        except BaseException as caught:  # noqa: BLE001  as above
            error = caught
        self._tell(self._closed, None, error)

    def _tell(self, future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
        def settle() -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        # There is nobody to tell once the loop is closed.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(settle)
