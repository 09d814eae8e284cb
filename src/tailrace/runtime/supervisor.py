"""The supervisor of one run: drives its source, ends it in time, and always writes its terminal event.

The terminal event is never written by the task that runs the source: that task may be cancelled, may hang, may never
have taken its first step.
"""

import asyncio
import contextlib
import contextvars
import logging
import secrets
import threading
from typing import Any, get_args

import msgspec

from tailrace import events
from tailrace.errors import (
    EventInvalidError,
    FencedError,
    RunClosedError,
    RunLimitError,
    StoreError,
    StoreUnavailableError,
)
from tailrace.events import Entry, Event, Terminal
from tailrace.runtime.blocks import encode_block
from tailrace.runtime.clock import Clock
from tailrace.runtime.committer import Committer
from tailrace.runtime.drive import SourceThreads, drive
from tailrace.runtime.limits import Limits
from tailrace.runtime.log import LiveLog
from tailrace.runtime.observer import Observer
from tailrace.runtime.outcome import failed, failure, outcome
from tailrace.runtime.producer import Producer, producing
from tailrace.runtime.source import discard
from tailrace.runtime.topics import CANCEL_PREFIX, FOLLOWING, PRESENCE_SECONDS, run_topic
from tailrace.stores.contract import OPEN, Lease, RunStore, Stop

__all__ = ["LiveRun", "Order", "Parts"]

_logger = logging.getLogger("tailrace")
_REPORT_SECONDS = 0.2
_UNMARKED, _MARKED, _URGENT = range(3)
#: A store keeps the reason of a cancel as text.
_REASONS: dict[str, events.CancelReason] = {reason: reason for reason in get_args(events.CancelReason)}


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What was ordered: one run's source and its terms.

    Attributes:
        source: Anything `open_source` takes.
        owner: Whose run it is.
        thread: The conversation.
        fingerprint: What the store compares when the same key comes again.
        cancel_on_disconnect: End the run when nobody has followed it for `grace_seconds`.
        timeout_seconds: Bound on the whole run; `None` is no bound.
        early: Somebody waits for the first event and wants a failure before it as an exception.
        model: Kept in `run.started`, as is the rest.
        parent_run_id: The run that this one continues.
        message_id: The id of the first message, where a client has one for it already.
        meta: Whatever the application wants.
    """

    source: Any
    owner: str | None = None
    thread: str | None = None
    fingerprint: bytes = b""
    cancel_on_disconnect: bool = False
    grace_seconds: float = 0.0
    timeout_seconds: float | None = None
    early: bool = False
    model: str | None = None
    parent_run_id: str | None = None
    message_id: str | None = None
    meta: dict[str, Any] | None = None


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What all runs of a process share.

    Attributes:
        abandoned: Sources that did not stop when their run ended; each leaves when it ends after all.
    """

    abandoned: set["asyncio.Task[Any]"]
    store: RunStore
    observer: Observer
    committer: Committer
    threads: SourceThreads
    clock: Clock
    limits: Limits


class LiveRun:
    """A run that this process produces.

    Attributes:
        order: Its terms.
        log: Its log.
        early_error: Why it failed before its first event while somebody waited for that; the run never was.
        correlation_id: Under which a failure was logged.
    """

    def __init__(self, lease: Lease, order: Order, parts: Parts) -> None:
        """Prepare a run whose lease was won; `begin` sets it going. Belongs to the running event loop."""
        self.id = lease.run_id
        self.order = order
        self.log = LiveLog(lease)
        self.early_error: BaseException | None = None
        self.correlation_id = secrets.token_hex(6)
        self._parts = parts
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._marked = _UNMARKED
        self._followers = 0
        self._followed_elsewhere_at: float | None = None
        self._stop_listening: Stop | None = None
        self._early = order.early
        self._began = False
        self._halted = False
        self._stop: asyncio.Future[Terminal] = self._loop.create_future()
        self._source_open = asyncio.Event()
        # The source's own patience is spent inside its task; a little more lets it report that.
        self._halt_seconds = parts.limits.patience_seconds + _REPORT_SECONDS
        self._leaving: asyncio.TimerHandle | None = None
        self.producer = Producer(
            self.id,
            self.log,
            clock=parts.clock,
            limits=parts.limits,
            on_append=self._appended,
            message_id=order.message_id,
        )
        self._context = contextvars.copy_context()
        producing(self._context, self.producer)

    def begin(self) -> asyncio.Task[None]:
        """Write `run.started` and start the supervisor; the caller owns the task."""
        self.producer.append(
            events.RunStarted(
                run_id=self.id,
                thread_id=self.order.thread,
                message_id=self.producer.first_message_id,
                parent_run_id=self.order.parent_run_id,
                model=self.order.model,
                meta=self.order.meta,
            )
        )
        self._stop_listening = self._parts.store.listen(run_topic(self.id), self._heard)
        self._parts.observer.own(self.id)
        task = self._loop.create_task(self._supervise(), name="tailrace-run")
        task.add_done_callback(self._ensure_final)
        return task

    def stop(self, terminal: Terminal, *, patience_seconds: float | None = None) -> bool:
        """End the run with `terminal`; False if it is ending already."""
        if patience_seconds is not None:
            self._halt_seconds = min(self._halt_seconds, patience_seconds)
        if self._stop.done() or self.log.final != OPEN:
            return False
        self._stop.set_result(terminal)
        return True

    async def first_event(self, seconds: float, *, opening_seconds: float = 0.0) -> BaseException | None:
        """Wait at most `seconds` for the first event after `run.started`, or for the end.

        From then on a failure is the run's own.

        Args:
            seconds: From the moment at which the source is open.
            opening_seconds: How long to wait for that moment; then the time runs anyway.

        Returns:
            What the source raised instead of a first event, if the run was undone for it and its key is free again.
        """
        log = self.log
        if opening_seconds:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._source_open.wait(), opening_seconds)
        try:
            async with asyncio.timeout(seconds):
                while log.acked <= 1 and not log.settled:
                    await log.changed()
        except TimeoutError:
            pass
        finally:
            self._early = False
        return self.early_error

    async def ended(self) -> None:
        """Wait until the run has its end and the store has it, or nobody can have it any more."""
        while not self.log.settled:
            await self.log.changed()

    # Followers -------------------------------------------------------------------------------------------------------

    def follower_joined(self) -> None:
        """Somebody reads along."""
        self._followers += 1
        self._stay()

    def follower_left(self) -> None:
        """Somebody stopped reading; if it was the last one, the run may have to end."""
        self._followers -= 1
        if self.order.cancel_on_disconnect and not self._followers and self.log.final == OPEN:
            self._leaving = self._loop.call_later(self.order.grace_seconds, self._cancel_alone)

    def _stay(self) -> None:
        """Whoever left before, the time begins anew when the last one leaves."""
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def _cancel_alone(self) -> None:
        elsewhere_at = self._followed_elsewhere_at
        if elsewhere_at is not None and self._loop.time() - elsewhere_at < 2 * PRESENCE_SECONDS:
            # Followers in other processes announce themselves; the last announcement has to grow old first.
            self._leaving = self._loop.call_later(PRESENCE_SECONDS, self._cancel_alone)
            return
        self.stop(events.RunCancelled(reason="disconnect"))

    def _heard(self, text: str) -> None:
        """A signal from another process: somebody follows there, or asks for the run's end."""
        if text == FOLLOWING:
            self._followed_elsewhere_at = self._loop.time()
            if self.order.cancel_on_disconnect and not self._followers and self._leaving is None:
                # Nobody was here yet, so nobody's leaving has begun to count.
                self._leaving = self._loop.call_later(self.order.grace_seconds, self._cancel_alone)
        elif text.startswith(CANCEL_PREFIX):
            self.cancel_requested(text.removeprefix(CANCEL_PREFIX))

    # What the committer tells ----------------------------------------------------------------------------------------

    async def restore(self, store: RunStore) -> None:
        """Put the run back into a store that has lost it.

        Raises:
            FencedError: The store has it under another token, or it was undone.
        """
        if self.early_error is not None:
            raise FencedError(self.id)
        order = self.order
        await store.restore(self.log.lease, owner=order.owner, thread=order.thread, fingerprint=order.fingerprint)

    def cancel_requested(self, reason: str) -> None:
        """Somebody, maybe in another process, asked for the run's end."""
        self.stop(events.RunCancelled(reason=_REASONS.get(reason, "user")))

    def fenced(self) -> None:
        """The log belongs to somebody else now, who also ends it."""
        if self.early_error is None:
            self.log.detach()
            self.stop(events.RunInterrupted(reason="worker_lost"))

    def store_lost(self) -> None:
        """The store cannot be reached: followers here are told so, followers elsewhere find out by the lease."""
        self.log.part(self._told(failure("store_unavailable", self.correlation_id)))
        self.stop(events.RunInterrupted(reason="worker_lost"))

    # Supervision -----------------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        task = self._loop.create_task(self._drive(), context=self._context, name="tailrace-source")
        task.add_done_callback(self._source_ended)
        # Also if it never opened.
        task.add_done_callback(lambda _: self._source_open.set())
        try:
            ends: set[asyncio.Future[Any]] = {task, self._stop}
            # What is to end before its first step shall not make it.
            if not self._stop.done():
                await asyncio.wait(ends, timeout=self.order.timeout_seconds, return_when="FIRST_COMPLETED")
            terminal = self._requested(task)
            if terminal is not None:
                await self._halt(task)
            elif (error := self._early_failure(task)) is not None:
                await self._undo(error)
                return
            else:
                terminal = outcome(task, self.producer, self.correlation_id)
        except asyncio.CancelledError:
            self._abandon(task)
            self._finish(self._stop.result() if self._stop.done() else events.RunInterrupted(reason="shutdown"))
            raise
        if not self._began:
            await discard(self.order.source, patience_seconds=self._halt_seconds)
        self._finish(terminal)
        await self.ended()
        await self._compact()

    async def _compact(self) -> None:
        """Give the store the whole log as one block, which takes a thirtieth of the room."""
        store = self._parts.store
        if not store.shared or self.log.acked != self.log.length:
            return
        block = encode_block(self.log.records)
        with contextlib.suppress(StoreError):
            await store.compact(self.id, block)

    async def _drive(self) -> Terminal | None:
        self._began = True
        parts = self._parts
        return await drive(
            self.order.source,
            self.producer,
            self.log,
            threads=parts.threads,
            limits=parts.limits,
            on_open=self._source_open.set,
        )

    def _requested(self, task: "asyncio.Task[Terminal | None]") -> Terminal | None:
        """The ending somebody asked for, or time asked for; `None` if the source came to its end by itself."""
        if self._stop.done():
            return self._stop.result()
        if not task.done():
            return failure("timeout", self.correlation_id)
        return None

    async def _halt(self, task: "asyncio.Task[Terminal | None]") -> None:
        """Stop the source and wait until it is closed, but not for ever."""
        self._halted = True
        self.producer.stop()
        task.cancel()
        _, pending = await asyncio.wait({task}, timeout=self._halt_seconds)
        if pending:
            _logger.warning("a source did not stop and was abandoned (correlation id %s)", self.correlation_id)
            self._abandon(task)

    def _abandon(self, task: "asyncio.Task[Terminal | None]") -> None:
        self._parts.abandoned.add(task)
        task.add_done_callback(self._parts.abandoned.discard)
        task.cancel()

    def _source_ended(self, task: "asyncio.Task[Terminal | None]") -> None:
        """Ask for its error here, as a run that has an ending already does not."""
        error = None if task.cancelled() else task.exception()
        if self._halted and error is not None and not isinstance(error, RunClosedError):
            _logger.warning("a source failed when it was stopped (%s)", self.correlation_id, exc_info=error)

    def _early_failure(self, task: "asyncio.Task[Terminal | None]") -> BaseException | None:
        """What the source raised before its first event while its starter still waits for that event."""
        if not self._early or len(self.log.entries) > 1 or task.cancelled():
            return None
        return task.exception()

    async def _undo(self, error: BaseException) -> None:
        """The run never was: its key is free before anybody is told, so that whoever is told may try again at once."""
        self.early_error = error
        self.log.withdraw()
        with contextlib.suppress(StoreUnavailableError):
            await self._parts.store.purge(self.id)
        self.log.part(self._told(failure("error", self.correlation_id)))

    def _told(self, event: Event) -> Entry:
        return Entry(0, self._parts.clock.time_ms(), event)

    def _finish(self, terminal: Terminal) -> None:
        try:
            self.producer.finish(terminal)
        except (EventInvalidError, RunLimitError) as error:
            # Its `result` has no JSON form, or is too large.
            self.producer.finish(failed(error, self.correlation_id))

    def _ensure_final(self, task: asyncio.Task[None]) -> None:
        """Whatever became of the supervisor itself, the log gets its end."""
        self._stay()
        if self._stop_listening is not None:
            self._stop_listening()
        self._parts.observer.disown(self.id)
        if self.log.final == OPEN and self.log.parting is None:
            self._finish(events.RunInterrupted(reason="shutdown"))
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("a supervisor failed (correlation id %s)", self.correlation_id, exc_info=error)

    def _appended(self, urgent: bool) -> None:  # noqa: FBT001  a callback's only argument
        """Tell the committer, from whatever thread, once until it has looked; what is urgent may be told again."""
        mark = _URGENT if urgent else _MARKED
        if self._marked >= mark:
            return
        self._marked = mark
        if threading.get_ident() == self._thread:
            self._mark()
        else:
            self._loop.call_soon_threadsafe(self._mark)

    def _mark(self) -> None:
        urgent = self._marked == _URGENT
        self._marked = _UNMARKED
        self._parts.committer.mark(self, urgent=urgent)
