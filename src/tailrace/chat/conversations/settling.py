"""Turns find their end: each row that says `running` is finished from its run's log, by whoever sees it first.

Three look for it, as any of them may be gone: the worker that began the turn waits for its run; whoever is asked for a
conversation looks at its runs before answering; and every worker looks through all open turns now and then. Only a run
that is not known any more leaves its answer without an end of its own; so logs are kept longer than that takes.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

from tailrace.chat.conversations.records import OpenTurn
from tailrace.chat.conversations.refusals import ConversationsUnavailableError
from tailrace.chat.conversations.store import Conversations
from tailrace.errors import RunNotFoundError, StoreError, StoreSetupError, TailraceError
from tailrace.events import CancelReason
from tailrace.fold import Failure, Message, Reduced
from tailrace.runtime.clock import Clock
from tailrace.runtime.run import Run, RunInfo
from tailrace.runtime.supervisor import LiveRun
from tailrace.web.errors import RefusedError

__all__ = ["RunsToSettle", "Settler"]

_logger = logging.getLogger("tailrace")

#: Open turns that are looked at in one go.
_BATCH = 100
_NOT_READ = "an answer could not be read from its log (%s); another attempt follows"


class RunsToSettle(Protocol):
    """What is needed of `Runs`, thus of `Tailrace`."""

    lease_seconds: float

    @property
    def clock(self) -> Clock:
        """Tells the time."""
        ...

    def live(self, run_id: str) -> LiveRun | None:
        """See `Runs.live`."""
        ...

    async def attach(self, run_id: str, after: int = 0, *, wait_seconds: float = 0) -> Run:
        """See `Runs.attach`."""
        ...

    async def info(self, run_id: str) -> RunInfo:
        """See `Runs.info`."""
        ...

    async def reduced(self, run_id: str) -> Reduced:
        """See `Runs.reduced`."""
        ...

    async def cancel(self, run_id: str, reason: CancelReason = "user") -> bool:
        """See `Runs.cancel`."""
        ...


class Settler:
    """Finishes turns. Its tasks are its own: `aclose` ends them."""

    def __init__(
        self,
        tail: RunsToSettle,
        conversations: Conversations,
        *,
        sweep_seconds: float = 60.0,
        retention_seconds: float = 900.0,
    ) -> None:
        """Bring both together.

        Args:
            tail: The runs.
            conversations: Where the turns are written down.
            sweep_seconds: Between two looks through all open turns.
            retention_seconds: How long the runs' store keeps a final log, as the runs were given it.

        Raises:
            StoreSetupError: Logs would be gone before the second look.
        """
        if retention_seconds < 2 * sweep_seconds:
            raise StoreSetupError(
                f"runs are kept for {retention_seconds:g} s (retention_seconds), and conversations need them for "
                f"{2 * sweep_seconds:g} s: keep runs longer, or look more often (sweep_seconds)"
            )
        self._tail = tail
        self._conversations = conversations
        self._sweep_seconds = sweep_seconds
        self._watches: dict[LiveRun | str, asyncio.Task[None]] = {}
        self._sweep: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to look through open turns, those of workers that are gone too. The runs and the database are open."""
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().create_task(self._sweep_for_ever(), name="tailrace-sweep")

    async def drain(self, seconds: float) -> None:
        """Wait until the turns whose runs have ended are finished, at most so long."""
        if self._watches:
            await asyncio.wait(self._watches.values(), timeout=seconds)

    async def aclose(self, seconds: float = 2.0) -> None:
        """Drain for a while and end all tasks; called when the runs have ended, and before their store is closed.

        What is not finished by then is finished by another worker, or by the next one.
        """
        await self.drain(seconds)
        tasks = [*self._watches.values(), *([self._sweep] if self._sweep is not None else [])]
        self._sweep = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def watch(self, run_id: str) -> "asyncio.Task[None]":
        """Finish a turn as soon as its run has ended.

        Returns:
            The task that waits for it, which is this object's; it never fails.
        """
        # A run that was undone may be started again under its id, while the first one is still seen to its end.
        key = self._tail.live(run_id) or run_id
        task = self._watches.get(key)
        if task is None:
            watching = self._watch(run_id, self._tail.live(run_id), self._tail.clock.time_ms())
            task = self._watches[key] = asyncio.get_running_loop().create_task(watching, name="tailrace-watch")
            task.add_done_callback(lambda _: self._watches.pop(key, None))
        return task

    async def catch_up(self, owner: str, conversation_id: str) -> None:
        """Finish what has ended in a conversation, before it is shown or goes on.

        A run's end is read before its row is finished, and who has read it may ask more at once, at another worker.

        Raises:
            ConversationsUnavailableError: The database gave no answer.
        """
        await self.settle(await self._conversations.open_turns(owner, [conversation_id]))

    async def messages(self, thread: str, owner: str | None) -> Sequence[Message]:
        """See `tailrace.web.mounts.contract.History`: with what has ended in it until now.

        Raises:
            ConversationsUnavailableError: The database gave no answer.
        """
        if owner is not None:
            await self.catch_up(owner, thread)
        return await self._conversations.messages(thread, owner)

    async def settle(self, rows: Iterable[OpenTurn]) -> int:
        """Finish those of the turns whose runs have ended or are gone; those that go on are left alone.

        Returns:
            How many turns are open no more.

        Raises:
            ConversationsUnavailableError: The database gave no answer.
        """
        settled = 0
        for turn in rows:
            try:
                settled += await self._settle(turn)
            except ConversationsUnavailableError:
                raise
            except TailraceError as error:
                # What cannot be known now is looked at again later.
                _logger.warning(_NOT_READ, error.code)
        return settled

    async def cancel(self, run_ids: Sequence[str]) -> None:
        """Ask runs to stop; those that are gone already are fine."""
        for run_id in run_ids:
            with contextlib.suppress(StoreError):
                await self._tail.cancel(run_id)

    async def _settle(self, turn: OpenTurn) -> bool:
        try:
            if (await self._tail.info(turn.run_id)).status == "running":
                return False
            reduced = await self._tail.reduced(turn.run_id)
        except RunNotFoundError:
            # A turn is written down while its run begins, maybe by a worker whose store is behind.
            if self._tail.clock.time_ms() - turn.begun_at_ms < self._tail.lease_seconds * 1000:
                return False
            return await self._conversations.interrupt(turn.run_id, begun_until_ms=turn.begun_at_ms)
        if reduced.status == "running":
            return False
        await self._conversations.finish(turn.run_id, reduced)
        return True

    async def _watch(self, run_id: str, live: LiveRun | None, since_ms: int) -> None:
        try:
            if live is not None:
                await live.ended()
            if live is not None and live.early_error is not None:
                # It said nothing, and there is no log of it.
                undone = Reduced(run_id=run_id, status="failed", failure=_failure(live.early_error))
                await self._conversations.finish(run_id, undone, begun_until_ms=since_ms)
            else:
                run = await self._tail.attach(run_id)
                await self._conversations.finish(run_id, await run.reduced())
        except ConversationsUnavailableError:
            _logger.warning("an answer could not be written down; another attempt follows")
        except TailraceError as error:
            _logger.warning(_NOT_READ, error.code)

    async def _sweep_for_ever(self) -> None:
        while True:
            with contextlib.suppress(ConversationsUnavailableError):
                await self._look_through()
            await asyncio.sleep(self._sweep_seconds)

    async def _look_through(self) -> None:
        """Settle all open turns, some at a time."""
        before_ms = self._tail.clock.time_ms()
        last: OpenTurn | None = None
        while True:
            page = await self._conversations.unsettled(before_ms=before_ms, after=last, limit=_BATCH)
            await self.settle(page)
            if len(page) < _BATCH:
                return
            last = page[-1]


def _failure(error: BaseException) -> Failure:
    """What may be shown of it: a refusal is written for users."""
    if isinstance(error, RefusedError):
        return Failure(code=error.code, message=str(error))
    return Failure(code=error.code if isinstance(error, TailraceError) else "error")
