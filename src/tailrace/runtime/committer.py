"""The committer: brings the live logs of this process into the store, many runs in one write.

One write is in flight at a time; what is appended meanwhile goes with the next. What the store lost is sent again
under the same numbers, so a loss there is never a loss for a reader.
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


class Committer:
    """Flushes the logs it was told of, in the order in which they were marked."""

    def __init__(self, store: RunStore, *, clock: Clock, limits: Limits) -> None:
        """Prepare; the task starts with the first mark."""
        self._store = store
        self._clock = clock
        self._limits = limits
        self._dirty: dict[str, Committed] = {}
        self._wake: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._failing_since: dict[str, float] = {}
        self._idle = asyncio.Event()

    def mark(self, run: Committed) -> None:
        """The run's log has grown. Called in the event loop."""
        self._dirty[run.log.lease.run_id] = run
        self._idle.clear()
        if self._task is None or self._task.done():
            self._wake = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run(self._wake), name="tailrace-committer")
        if self._wake is not None:
            self._wake.set()

    async def aclose(self, seconds: float) -> None:
        """Bring what is there into the store for at most `seconds`, and stop; the rest stays out of it."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        self._task.cancel()
        await asyncio.wait({self._task})
        self._task = None

    async def _run(self, wake: asyncio.Event) -> None:
        backoff_seconds = 0.0
        while True:
            if backoff_seconds:
                await asyncio.sleep(backoff_seconds)
            elif not self._dirty:
                self._idle.set()
                wake.clear()
                await wake.wait()
            answered = await self._flush()
            longer = min(_LONGEST_BACKOFF_SECONDS, backoff_seconds * 2 or _FIRST_BACKOFF_SECONDS)
            backoff_seconds = 0.0 if answered else longer

    async def _flush(self) -> bool:
        """Send what is due; False if the store is not well and the next write had better wait a little."""
        due, self._dirty = self._dirty, {}
        pairs = [
            (run, write)
            for run in due.values()
            if (write := run.log.next_write(self._limits.write_records)) is not None
        ]
        if not pairs:
            return True
        answers = await self._commit([write for _, write in pairs])
        answered = True
        for (run, _), answer in zip(pairs, answers, strict=True):
            answered = await self._settle(run, answer) and answered
            if not run.log.settled:
                self._dirty.setdefault(run.log.lease.run_id, run)
        self._drop_idle()
        return answered

    async def _commit(self, writes: Sequence[Write]) -> Sequence[Ack | StoreError]:
        try:
            return await self._store.commit(writes)
        except StoreUnavailableError as error:
            return [error] * len(writes)
        except Exception:
            # A bug in a store must not end the task that all runs of the process depend on.
            _logger.exception(_BROKEN_STORE)
            return [StoreUnavailableError("the store failed")] * len(writes)

    async def _settle(self, run: Committed, answer: Ack | StoreError) -> bool:
        """Act on one answer; False if the next write had better wait a little."""
        if isinstance(answer, RunNotFoundError):
            answer = await self._restore(run)
        if isinstance(answer, Ack):
            run.log.acknowledge(answer.last)
            if answer.cancel is not None:
                run.cancel_requested(answer.cancel)
        elif isinstance(answer, GapError):
            run.log.rewind(answer.last)
        elif isinstance(answer, FencedError):
            run.fenced()
        else:
            self._unanswered(run)
            return False
        self._failing_since.pop(run.log.lease.run_id, None)
        return not isinstance(answer, GapError)

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

    def _drop_idle(self) -> None:
        """Forget the runs that have nothing to send."""
        self._dirty = {run_id: run for run_id, run in self._dirty.items() if run.log.next_write(1) is not None}
