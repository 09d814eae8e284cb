"""A source as a feed for one reader, without a log: what was read is gone, and the source waits for the reader."""

import asyncio
import contextvars
import secrets
from collections import deque
from weakref import WeakSet

from tailrace import events
from tailrace.errors import EventInvalidError, RunClosedError
from tailrace.events import Entry, Terminal
from tailrace.runtime.clock import SystemClock
from tailrace.runtime.drive import SourceThreads, drive
from tailrace.runtime.keys import new_run_id
from tailrace.runtime.limits import Limits
from tailrace.runtime.outcome import failed, outcome
from tailrace.runtime.producer import Producer, producing
from tailrace.runtime.source import discard
from tailrace.stores.contract import OPEN

__all__ = ["SourceFeed", "interrupt_feeds"]

_UNBOUNDED = 2**62
#: The whole stream may be endless; what waits for the reader may not.
_LIMITS = Limits(max_events=_UNBOUNDED, max_bytes=_UNBOUNDED, pending_bytes=256 * 1024)
_threads = SourceThreads(_LIMITS.source_threads)
_open: "WeakSet[SourceFeed]" = WeakSet()


def interrupt_feeds() -> None:
    """The process is going down: end every stream without a log, as interrupted."""
    for feed in tuple(_open):
        feed.interrupt()


class _Pipe:
    """Entries on their way from a producer to the reader; the producer may be on a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.length = 0
        self.size = 0
        self.final = OPEN
        self._loop = loop
        self._waiting: deque[tuple[Entry, int]] = deque()
        self._read_bytes = 0
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def pending_bytes(self) -> int:
        return self.size - self._read_bytes

    def append(self, entry: Entry, record: bytes, *, final: int = OPEN) -> None:
        self.length += 1
        self.size += len(record)
        self._waiting.append((entry, len(record)))
        self.final = final

    def appended(self, _: bool) -> None:  # noqa: FBT001  a callback's only argument
        """Called from the thread that appended."""
        self._loop.call_soon_threadsafe(self.wake)

    def take(self, limit: int) -> list[Entry]:
        entries: list[Entry] = []
        while self._waiting and len(entries) < limit:
            entry, size = self._waiting.popleft()
            self._read_bytes += size
            entries.append(entry)
        if entries:
            self.wake()
        return entries

    @property
    def empty(self) -> bool:
        return not self._waiting

    async def changed(self) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiters.add(future)
        try:
            await future
        finally:
            self._waiters.discard(future)

    def wake(self) -> None:
        for future in self._waiters:
            if not future.done():
                future.set_result(None)


class SourceFeed:
    """Drives one source for one reader; `close` stops it.

    Attributes:
        run_id: A name for the frames; there is nothing to attach to under it.
        ended: The terminal event was read.
        was_reset: Never; there is no place to come back to.
        failure: How it failed, if it has.
    """

    def __init__(self, source: object) -> None:
        """Start the source in the running event loop."""
        loop = asyncio.get_running_loop()
        self.run_id = new_run_id()
        self.ended = False
        self.was_reset = False
        self.failure: events.RunFailed | None = None
        self._correlation_id = secrets.token_hex(6)
        self._source = source
        self._pipe = _Pipe(loop)
        self._woken = False
        self._began = False
        self._ending: Terminal = events.RunCancelled(reason="disconnect")
        self._producer = Producer(
            self.run_id, self._pipe, clock=SystemClock(), limits=_LIMITS, on_append=self._pipe.appended
        )
        context = contextvars.copy_context()
        producing(context, self._producer)
        self._producer.append(events.RunStarted(run_id=self.run_id, message_id=self._producer.first_message_id))
        self._task = loop.create_task(self._drive(), context=context, name="tailrace-source")
        self._task.add_done_callback(self._finish)
        _open.add(self)

    async def first_event(self, seconds: float) -> BaseException | None:
        """Wait at most `seconds` for the first event; what the source raised instead of one, if it did."""
        try:
            async with asyncio.timeout(seconds):
                while self._pipe.length <= 1:
                    await self._pipe.changed()
        except TimeoutError:
            return None
        if self._task.done() and not self._task.cancelled() and self._pipe.length == 2:
            return self._task.exception()
        return None

    async def read(self, limit: int = 4_096) -> list[Entry]:
        """What the source has produced and the reader has not taken."""
        entries = self._pipe.take(limit)
        self.ended = self._pipe.final != OPEN and self._pipe.empty
        return entries

    async def wait(self) -> None:
        """Wait until there may be more, or `wake` was called."""
        if self._pipe.empty and not self._woken:
            await self._pipe.changed()
        self._woken = False

    def wake(self) -> None:
        """Let `wait` return."""
        self._woken = True
        self._pipe.wake()

    def interrupt(self) -> None:
        """Stop the source; the reader gets `run.interrupted`."""
        self._ending = events.RunInterrupted(reason="shutdown")
        self._producer.stop()
        self._task.cancel()

    async def close(self) -> None:
        """Stop the source if it still runs, and wait until it is closed, but not for ever."""
        self._producer.stop()
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_LIMITS.patience_seconds + 0.2)
        if not self._began:
            await discard(self._source)

    async def _drive(self) -> Terminal | None:
        self._began = True
        return await drive(self._source, self._producer, self._pipe, threads=_threads, limits=_LIMITS)

    def _finish(self, task: "asyncio.Task[Terminal | None]") -> None:
        stopped = task.cancelled() or isinstance(task.exception(), RunClosedError)
        terminal = self._ending if stopped else outcome(task, self._producer, self._correlation_id)
        self.failure = terminal if isinstance(terminal, events.RunFailed) else None
        try:
            self._producer.finish(terminal)
        except EventInvalidError as error:
            self._producer.finish(failed(error, self._correlation_id))
