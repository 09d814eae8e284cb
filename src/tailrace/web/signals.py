"""SIGTERM and SIGINT: drain first, then whatever handled them before. A second signal ends the drain at once.

Servers stop listening to their streams the moment they are told to stop, or wait for streams that nobody ends; so the
drain has to come before the server's own handler, whichever server it is.
"""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

__all__ = ["SignalChain"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_logger = logging.getLogger("tailrace")


class SignalChain:
    """Stands in front of the handlers that were there."""

    def __init__(self, drain: Callable[[], Awaitable[None]], hurry: Callable[[], Awaitable[None]]) -> None:
        """Prepare; each is awaited in the event loop, at most once.

        Args:
            drain: For the first signal, which is passed on when it has returned.
            hurry: For a second signal meanwhile: the drain is cancelled, and the first signal passed on, before it.
        """
        self._drain = drain
        self._hurry = hurry
        self._hurrying: asyncio.Task[None] | None = None
        self._previous: dict[int, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._handler = self._handle

    def install(self) -> None:
        """Take the signals over; only the main thread may, elsewhere this does nothing."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            self._previous[number] = signal.getsignal(number)
            signal.signal(number, self._handler)

    def restore(self) -> None:
        """Put the handlers back that were there, unless somebody has put others in place since."""
        for number, previous in self._previous.items():
            if signal.getsignal(number) == self._handler and previous is not None:
                signal.signal(number, previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        drained = self._task is not None and self._task.done()
        if self._loop is None or drained or self._hurrying is not None:
            self._pass_on(number, frame)
            return
        # The handler runs between two steps of whatever the loop is doing: only a note is left here.
        self._loop.call_soon_threadsafe(self._begin, number, frame)

    def _begin(self, number: int, frame: FrameType | None) -> None:
        if self._loop is None:
            return
        if self._task is None:
            _logger.info("draining on %s", signal.Signals(number).name)
            self._task = self._loop.create_task(self._drain_and_pass_on(number, frame), name="tailrace-drain")
        elif self._hurrying is None:
            self._task.cancel()
            self._hurrying = self._loop.create_task(self._hurried(), name="tailrace-drain")

    async def _hurried(self) -> None:
        await self._hurry()

    async def _drain_and_pass_on(self, number: int, frame: FrameType | None) -> None:
        try:
            await self._drain()
        finally:
            self._pass_on(number, frame)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous.get(number)
        if callable(previous):
            previous(number, frame)
        elif previous == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
