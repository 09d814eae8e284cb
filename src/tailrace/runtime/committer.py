"""The committer: brings the live logs of this process into the store, many runs in one write.

One write is in flight at a time; what is appended meanwhile goes with the next. What the store lost is sent again
under the same numbers, so a loss there is never a loss for a reader.
"""

import asyncio
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
        self._failing_since: float | None = None

    def mark(self, run: Committed) -> None:
        """The run's log has grown. Called in the event loop."""
        self._dirty[run.log.lease.run_id] = run
        if self._task is None or self._task.done():
            self._wake = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run(self._wake), name="tailrace-committer")
        if self._wake is not None:
            self._wake.set()

    async def aclose(self) -> None:
        """Stop; what is not in the store yet stays out of it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def _run(self, wake: asyncio.Event) -> None:
        backoff_seconds = 0.0
        while True:
            if backoff_seconds:
                await asyncio.sleep(backoff_seconds)
            elif not self._dirty:
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
        if answered:
            self._failing_since = None
        self._drop_idle()
        return answered

    async def _commit(self, writes: Sequence[Write]) -> Sequence[Ack | StoreError]:
        try:
            return await self._store.commit(writes)
        except StoreUnavailableError as error:
            return [error] * len(writes)
        except Exception:
            # A bug in a store must not end the task that all runs of the process depend on.
            _logger.exception("the log store raised what its contract does not allow")
            return [StoreUnavailableError("the store failed")] * len(writes)

    async def _settle(self, run: Committed, answer: Ack | StoreError) -> bool:
        """Act on one answer; False if the next write had better wait a little."""
        if isinstance(answer, Ack):
            run.log.acknowledge(answer.last)
            if answer.cancel is not None:
                run.cancel_requested(answer.cancel)
            return True
        if isinstance(answer, GapError):
            run.log.rewind(answer.last)
            return False
        if isinstance(answer, FencedError):
            run.fenced()
            return True
        if isinstance(answer, RunNotFoundError):
            return await self._restore(run)
        return self._unanswered(run)

    async def _restore(self, run: Committed) -> bool:
        try:
            await run.restore(self._store)
        except FencedError:
            run.fenced()
        except StoreUnavailableError:
            return self._unanswered(run)
        else:
            run.log.rewind(0)
        return True

    def _unanswered(self, run: Committed) -> bool:
        now = self._clock.monotonic()
        if self._failing_since is None:
            self._failing_since = now
            _logger.warning("the log store is unavailable; runs go on and will be sent again")
        if now - self._failing_since >= self._limits.outage_seconds:
            run.store_lost()
        return False

    def _drop_idle(self) -> None:
        """Forget the runs that have nothing to send."""
        self._dirty = {run_id: run for run_id, run in self._dirty.items() if run.log.next_write(1) is not None}
