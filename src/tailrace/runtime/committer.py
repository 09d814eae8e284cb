"""The committer: brings the live logs of this process into the store, many runs in one write.

One write is in flight at a time; what is appended meanwhile goes with the next. Between two writes it leaves the store
a pause, so that more goes together, but what is urgent does not wait. What the store lost is sent again under the same
numbers, so a loss there is never a loss for a reader. A run that says nothing sends heartbeats.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Protocol

from tailrace.errors import FencedError, GapError, RunNotFoundError, StoreError, StoreUnavailableError
from tailrace.runtime.clock import Clock
from tailrace.runtime.limits import Limits
from tailrace.runtime.log import LiveLog
from tailrace.stores.contract import Ack, RunStore, Write

__all__ = ["Committed", "Committer"]

_logger = logging.getLogger("tailrace")
_BROKEN_STORE = "the log store raised what its contract does not allow"
_FIRST_BACKOFF_SECONDS = 0.05
_LONGEST_BACKOFF_SECONDS = 1.0
#: A producer says so often per lease that it lives; one lost heartbeat is no lost run.
_BEATS_PER_LEASE = 3.3


class Committed(Protocol):
    """What the committer needs to know of a run, and whom it tells."""

    log: LiveLog

    async def restore(self, store: RunStore) -> None:
        """Put the run back into a store that has lost it."""
        ...

    def cancel_requested(self, reason: str) -> None:
        """The store carries a cancel for this run."""
        ...

    def fenced(self) -> None:
        """The store refuses this producer for good."""
        ...

    def store_lost(self) -> None:
        """The store was unavailable for longer than a run may wait."""
        ...


class _Live:
    """A run and when the store last had something of it."""

    __slots__ = ("run", "wrote_at")

    def __init__(self, run: Committed, now: float) -> None:
        self.run = run
        self.wrote_at = now


class Committer:
    """Flushes the logs it was told of, in the order in which they were marked."""

    def __init__(self, store: RunStore, *, clock: Clock, limits: Limits, lease_seconds: float) -> None:
        """Prepare; the task starts with the first mark."""
        self._store = store
        self._clock = clock
        self._limits = limits
        self._beat_seconds = lease_seconds / _BEATS_PER_LEASE if store.shared else None
        #: In the order of the times, so that whose heartbeat is due stands at the front.
        self._live: dict[str, _Live] = {}
        self._dirty: dict[str, Committed] = {}
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()
        self._flushed_at = 0.0
        self._failing_since: dict[str, float] = {}
        self._saved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def mark(self, run: Committed, *, urgent: bool) -> None:
        """The run's log has grown. Called in the event loop."""
        run_id = run.log.lease.run_id
        self._dirty[run_id] = run
        self._saved.clear()
        if self._beat_seconds is not None:
            known = self._live.get(run_id)
            # An id whose first run was undone may be in use again.
            if (known is None or known.run is not run) and not run.log.settled:
                self._live[run_id] = _Live(run, self._clock.monotonic())
        if self._task is None or self._task.done():
            # Events of an event loop that has ended cannot be waited for in the next.
            self._wake, self._urgent, self._saved = asyncio.Event(), asyncio.Event(), asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run(), name="tailrace-committer")
        self._wake.set()
        if urgent:
            self._urgent.set()

    async def aclose(self, seconds: float) -> None:
        """Bring what is there into the store for at most `seconds`, and stop; the rest stays out of it."""
        if self._task is None:
            return
        self._urgent.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._saved.wait()
        self._task.cancel()
        await asyncio.wait({self._task})
        self._task = None
        self._live.clear()
        self._dirty.clear()

    async def _run(self) -> None:
        backoff_seconds = 0.0
        while True:
            if backoff_seconds:
                await asyncio.sleep(backoff_seconds)
            elif not self._dirty:
                await self._idle()
            if not backoff_seconds:
                await self._pause()
            well = await self._flush()
            longer = min(_LONGEST_BACKOFF_SECONDS, backoff_seconds * 2 or _FIRST_BACKOFF_SECONDS)
            backoff_seconds = 0.0 if well else longer

    async def _idle(self) -> None:
        """Wait for something to write, or until a heartbeat is due."""
        self._saved.set()
        self._wake.clear()
        if self._beat_seconds is None or not self._live:
            await self._wake.wait()
            return
        oldest = next(iter(self._live.values()))
        seconds = max(0.0, oldest.wrote_at + self._beat_seconds - self._clock.monotonic())
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _pause(self) -> None:
        """Let more come together, unless something urgent waits; after a silence nothing has to wait."""
        remaining = self._flushed_at + self._store.commit_interval_seconds - self._clock.monotonic()
        if remaining > 0 and not self._urgent.is_set():
            try:
                async with asyncio.timeout(remaining):
                    await self._urgent.wait()
            except TimeoutError:
                pass
        self._urgent.clear()

    async def _flush(self) -> bool:
        """Send what is due; False if the store is not well and the next write had better wait a little."""
        self._flushed_at = self._clock.monotonic()
        due, self._dirty = self._dirty, {}
        pairs = [
            (run, write)
            for run in due.values()
            if (write := run.log.next_write(self._limits.write_records)) is not None
        ]
        pairs += self._heartbeats({run.log.lease.run_id for run, _ in pairs})
        if not pairs:
            return True
        answers = await self._commit([write for _, write in pairs])
        well = True
        for (run, _), answer in zip(pairs, answers, strict=True):
            if isinstance(answer, Ack):
                self._acknowledge(run, answer)
            else:
                well = await self._settle(run, answer) and well
            if run.log.behind:
                self._dirty.setdefault(run.log.lease.run_id, run)
        return well

    def _heartbeats(self, writing: set[str]) -> list[tuple[Committed, Write]]:
        """Heartbeats of the runs that were silent for long enough; runs that are settled are forgotten."""
        if self._beat_seconds is None:
            return []
        # Those that are almost due go along, so that many quiet runs beat together.
        due_before = self._clock.monotonic() - self._beat_seconds * 0.75
        beats: list[tuple[Committed, Write]] = []
        settled: list[str] = []
        for run_id, live in self._live.items():
            if live.run.log.settled:
                settled.append(run_id)
            elif live.wrote_at > due_before:
                break
            elif run_id not in writing and (write := live.run.log.heartbeat()) is not None:
                beats.append((live.run, write))
        for run_id in settled:
            del self._live[run_id]
        return beats

    async def _commit(self, writes: Sequence[Write]) -> Sequence[Ack | StoreError]:
        try:
            return await self._store.commit(writes)
        except StoreUnavailableError as error:
            return [error] * len(writes)
        except Exception:
            # A bug in a store must not end the task that all runs of the process depend on.
            _logger.exception(_BROKEN_STORE)
            return [StoreUnavailableError("the store failed")] * len(writes)

    def _acknowledge(self, run: Committed, ack: Ack) -> None:
        run_id = run.log.lease.run_id
        run.log.acknowledge(ack.last)
        live = self._live.pop(run_id, None)
        if live is not None and not live.run.log.settled:
            live.wrote_at = self._flushed_at
            self._live[run_id] = live
        self._failing_since.pop(run_id, None)
        if ack.cancel is not None:
            run.cancel_requested(ack.cancel)

    async def _settle(self, run: Committed, error: StoreError) -> bool:
        """Act on a refusal; False if the next write had better wait a little."""
        if isinstance(error, RunNotFoundError):
            error = await self._restore(run)
        if isinstance(error, GapError):
            run.log.rewind(error.last)
        elif isinstance(error, FencedError):
            run.fenced()
        else:
            self._unanswered(run)
            return False
        self._failing_since.pop(run.log.lease.run_id, None)
        return isinstance(error, FencedError)

    async def _restore(self, run: Committed) -> StoreError:
        """Put a lost run back: then its log ends at 0."""
        try:
            await run.restore(self._store)
        except StoreError as error:
            return error
        except Exception:
            _logger.exception(_BROKEN_STORE)
            return StoreUnavailableError("the store failed")
        return GapError(0)

    def _unanswered(self, run: Committed) -> None:
        now = self._clock.monotonic()
        if not self._failing_since:
            _logger.warning("the log store is unavailable; runs go on and will be sent again")
        since = self._failing_since.setdefault(run.log.lease.run_id, now)
        if now - since >= self._limits.outage_seconds:
            del self._failing_since[run.log.lease.run_id]
            run.store_lost()
