"""Driving a source: from its first step to its closing, in the event loop or, for a sync source, on a thread.

Whatever happens, the source is closed here: by the code that stepped it, in the place where it was stepped.
"""

import asyncio
import contextvars
import logging
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any

from tailrace.adapters.closing import close_sources
from tailrace.adapters.failures import failure_of, is_providers
from tailrace.errors import RunClosedError
from tailrace.events import Terminal
from tailrace.runtime.intake import Intake
from tailrace.runtime.limits import Limits
from tailrace.runtime.log import EntryLog
from tailrace.runtime.producer import Producer
from tailrace.runtime.source import open_source

__all__ = ["SourceThreads", "drive"]

_logger = logging.getLogger("tailrace")


class SourceThreads:
    """The bound on threads that sync sources run on, and the count of those that were given up.

    Attributes:
        abandoned: Threads that are still inside a source whose run has ended.
    """

    def __init__(self, limit: int) -> None:
        """Allow `limit` threads at a time, and as many abandoned ones beside them."""
        self.abandoned = 0
        self._limit = limit
        self._free = limit
        self._queue: deque[asyncio.Future[None]] = deque()

    async def start(self, target: Callable[[], None]) -> "_SourceThread":
        """Run `target` on a daemon thread, as soon as one more is allowed.

        Raises:
            CancelledError: This task was cancelled; nothing runs.
            RuntimeError: The machine has no thread left; nothing runs.
        """
        await self._acquire()
        try:
            return _SourceThread(self, target)
        except RuntimeError:
            self.release()
            raise

    async def _acquire(self) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Let the next sync source begin."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    @property
    def may_abandon(self) -> bool:
        """Whether one more stuck thread may be replaced by a fresh one."""
        return self.abandoned <= self._limit


class _SourceThread:
    """A thread and its place among the allowed ones, which it gives back once."""

    def __init__(self, threads: SourceThreads, target: Callable[[], None]) -> None:
        self._threads = threads
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._abandoned = False
        self._has_place = True
        threading.Thread(target=self._run, name="tailrace-source", daemon=True).start()

    async def wait(self, stop: Callable[[], None], patience_seconds: float) -> None:
        """Wait for the thread, and raise what it raised; when cancelled, call `stop` and be patient.

        Raises:
            CancelledError: This task was cancelled. The thread has ended, or is counted as abandoned.
        """
        try:
            await asyncio.shield(self._ended)
        except asyncio.CancelledError:
            stop()
            try:
                await asyncio.wait({self._ended}, timeout=patience_seconds)
            finally:
                if not self._ended.done():
                    self._abandon()
            raise

    def _abandon(self) -> None:
        self._abandoned = True
        self._threads.abandoned += 1
        if self._threads.may_abandon:
            self._give_back()

    def _give_back(self) -> None:
        if self._has_place:
            self._has_place = False
            self._threads.release()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._target()
        except BaseException as caught:  # noqa: BLE001  handed over to the task that waits
            error = caught
        try:
            self._loop.call_soon_threadsafe(self._end, error)
        except RuntimeError:
            _logger.debug("a source's thread outlived its event loop")

    def _end(self, error: BaseException | None) -> None:
        if self._abandoned:
            self._threads.abandoned -= 1
        self._give_back()
        if error is None:
            self._ended.set_result(None)
            return
        if isinstance(error, StopIteration) or not isinstance(error, Exception):
            # In a future these would mean something else, or cannot be set at all.
            contained = RuntimeError(f"the source raised {type(error).__name__}")
            contained.__cause__, error = error, contained
        self._ended.set_exception(error)
        # An abandoned thread's exception has no reader; asking for it once keeps the loop quiet.
        self._ended.exception()


async def drive(
    source: object,
    producer: Producer,
    log: EntryLog,
    *,
    threads: SourceThreads,
    limits: Limits,
    on_open: Callable[[], None] | None = None,
) -> Terminal | None:
    """Run a source to its end and close it; `on_open` is called when a callable has returned what is iterated.

    Returns:
        The terminal event it yielded, or that its completions amount to; `None` if it just ended.

    Raises:
        CancelledError: The run was told to stop.
        SourceInvalidError: The source is, or yielded, something that is no event.
        RuntimeError: The source tried to end the process. Beside it, whatever else the source raised.
    """
    intake, opened = Intake(producer), None
    try:
        opened = await open_source(source)
        if on_open is not None:
            on_open()
        if isinstance(opened, AsyncIterable):
            return await _drive_async(opened, intake, producer, log, limits)
        return await _drive_sync(opened, intake, producer, threads, limits)
    except (SystemExit, KeyboardInterrupt) as error:
        # Let through, it would end the server's loop and every other run with it.
        raise RuntimeError(f"the source raised {type(error).__name__}") from error
    except Exception as error:
        if opened is None and is_providers(error):
            # The request for a provider's stream; an adapter that makes it tells its failure as an event too.
            return failure_of(error)
        if (terminal := intake.failed(error)) is None:
            raise
        return terminal


async def _drive_async(
    iterable: AsyncIterable[Any], intake: Intake, producer: Producer, log: EntryLog, limits: Limits
) -> Terminal | None:
    closables: list[object] = [iterable]
    try:
        iteration = aiter(iterable)
        if iteration is not iterable:
            closables.insert(0, iteration)
        return await _step(iteration, intake, producer, log, limits)
    finally:
        await close_sources(closables, limits.patience_seconds)


async def _step(
    iteration: AsyncIterator[Any], intake: Intake, producer: Producer, log: EntryLog, limits: Limits
) -> Terminal | None:
    taken = 0
    async for item in iteration:
        if (terminal := intake.take(item)) is not None:
            return terminal
        taken += 1
        # The first event goes out at once; after that a source that never waits must let others run.
        if taken == 1 or taken % limits.turn_events == 0:
            await asyncio.sleep(0)
        while producer.full:
            await log.changed()
    return intake.end()


async def _drive_sync(
    iterable: Iterable[Any], intake: Intake, producer: Producer, threads: SourceThreads, limits: Limits
) -> Terminal | None:
    steps = _SyncSteps(iterable, intake, producer)
    # A context of its own: the task's is entered by the loop whenever it likes, which a thread must not collide with.
    context = contextvars.copy_context()
    try:
        thread = await threads.start(lambda: context.run(steps.run))
    except (asyncio.CancelledError, RuntimeError):
        await close_sources([iterable], limits.patience_seconds)
        raise
    await thread.wait(steps.stop, limits.patience_seconds)
    return steps.terminal


class _SyncSteps:
    """Steps a sync source on one thread until it ends, raises, or is told to stop."""

    def __init__(self, iterable: Iterable[Any], intake: Intake, producer: Producer) -> None:
        self.terminal: Terminal | None = None
        self._iterable = iterable
        self._intake = intake
        self._producer = producer
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        closables: list[object] = [self._iterable]
        try:
            iteration = iter(self._iterable)
            if iteration is not self._iterable:
                closables.insert(0, iteration)
            for item in iteration:
                if self._stopped.is_set():
                    return
                self.terminal = self._intake.take(item)
                if self.terminal is not None or not self._room():
                    return
            self.terminal = self._intake.end()
        except RunClosedError:
            _logger.debug("a source went on after its run had ended")
        finally:
            for closable in closables:
                _close_in_place(closable)

    def _room(self) -> bool:
        """Wait while the store is behind; False if the run was stopped meanwhile."""
        while self._producer.full and not self._stopped.wait(0.01):
            continue
        return not self._stopped.is_set()


def _close_in_place(source: object) -> None:
    close = getattr(source, "close", None)
    try:
        if callable(close):
            close()
    except Exception:
        _logger.exception("a source failed while it was being closed")
