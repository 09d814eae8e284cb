"""Runs: start one, attach to one, cancel one. What outlives a request; knows no HTTP.

A start with a key that was used before finds the run of the first start, and its source is closed unused. An attach
never starts anything. Whoever calls these methods is trusted; `authorize` is the one place where a stranger is not.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Literal, Self

import msgspec

from tailrace import events, fold
from tailrace.errors import (
    BusyError,
    DrainingError,
    FencedError,
    FingerprintError,
    RunNotFoundError,
    StoreError,
    TailraceError,
)
from tailrace.events import CancelReason, Entry
from tailrace.fold import Reduced
from tailrace.runtime.clock import Clock, SystemClock
from tailrace.runtime.committer import Committer
from tailrace.runtime.drive import SourceThreads
from tailrace.runtime.follower import MISSING_SECONDS, Follower
from tailrace.runtime.handle import Channel, RunProducer
from tailrace.runtime.hub import Hub
from tailrace.runtime.keys import check_run_id, derive_run_id, fingerprint_of, new_run_id
from tailrace.runtime.limits import Limits
from tailrace.runtime.observer import Observer
from tailrace.runtime.producer import producing_here
from tailrace.runtime.run import Run, RunInfo, run_info
from tailrace.runtime.source import SourceLike, check_source, discard
from tailrace.runtime.stores import open_store
from tailrace.runtime.supervisor import LiveRun, Order, Parts
from tailrace.runtime.topics import CANCEL_PREFIX, run_topic, thread_topic
from tailrace.stores.contract import Info, RunStore

__all__ = ["Runs"]

#: Between losing a start and reading its winner, the winner may have failed early and released the key: start again.
_START_ATTEMPTS = 8
#: Between two looks for a run that is not there yet.
_LOOK_AGAIN_SECONDS = 0.1
#: The part of a drain that is kept for ending what did not end by itself, and for telling its readers.
_SEALING_SHARE = 0.25
_SEALING_SECONDS = 2.0
_LAST_WRITES_SECONDS = 0.5


class Runs:
    """The runs of one store. Used from one event loop; closed by `aclose`, or by leaving `async with`."""

    def __init__(  # noqa: PLR0913  the fixed constructor of the product
        self,
        store: str | RunStore = "memory://",
        *,
        secret: bytes | str | None = None,
        lease_seconds: float = 10,
        retention_seconds: float = 900,
        max_events: int = 100_000,
        max_bytes: int = 16 * 1024**2,
        clock: Clock | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Describe the runs; nothing is opened before the first use.

        Args:
            store: A URL, or a store.
            secret: From which run ids are derived; by default the store makes one, which its users share.
            lease_seconds: After so much silence of its producer a run counts as lost.
            retention_seconds: How long a final run can be read.
            max_events: Entries of one run.
            max_bytes: Bytes of one run.
            clock: Tells the time.
            limits: The lesser bounds; `max_events` and `max_bytes` are taken from the arguments above.

        Raises:
            StoreSetupError: The URL names no known kind of store, or its extra is missing.
        """
        self._clock = clock or SystemClock()
        self._store = (
            open_store(store, clock=self._clock, retention_seconds=retention_seconds)
            if isinstance(store, str)
            else store
        )
        self._given_secret = secret.encode() if isinstance(secret, str) else secret
        self.lease_seconds = lease_seconds
        self._limits = msgspec.structs.replace(limits or Limits(), max_events=max_events, max_bytes=max_bytes)
        self._threads = SourceThreads(self._limits.source_threads)
        self._committer = Committer(self._store, clock=self._clock, limits=self._limits, lease_seconds=lease_seconds)
        self._observer = Observer(self._store, clock=self._clock, lease_seconds=lease_seconds)
        self._hub = Hub(self._store, self._observer)
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._parts = Parts(
            abandoned=self._abandoned,
            observer=self._observer,
            store=self._store,
            committer=self._committer,
            threads=self._threads,
            clock=self._clock,
            limits=self._limits,
        )
        self._live: dict[str, LiveRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def store(self) -> RunStore:
        """Where the logs are."""
        return self._store

    @property
    def clock(self) -> Clock:
        """Tells the time."""
        return self._clock

    @property
    def draining(self) -> bool:
        """Whether new runs are refused because the process is going down."""
        return self._draining

    @property
    def live_count(self) -> int:
        """Runs that this process produces now."""
        return len(self._live)

    @property
    def abandoned_count(self) -> int:
        """Sources, on threads and in the event loop, that did not stop when their run ended and still go on."""
        return self._threads.abandoned + len(self._abandoned)

    def url_of(self, run_id: str) -> str:
        """The path of a run's log, relative to where the routes are mounted."""
        return f"/{run_id}/events"

    # Starting --------------------------------------------------------------------------------------------------------

    async def start(  # noqa: PLR0913  the fixed signature of the product
        self,
        source: SourceLike,
        *,
        key: str | None = None,
        fingerprint: object = None,
        run_id: str | None = None,
        owner: str | None = None,
        thread: str | None = None,
        on_disconnect: Literal["detach", "cancel"] = "detach",
        grace_seconds: float = 0,
        timeout: float | None = None,  # noqa: ASYNC109  bounds the run, not this call
        model: str | None = None,
        parent_run_id: str | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Run:
        """Start a run, or find the one that was started with the same key.

        Args:
            source: What is produced: an (async) iterator, or a callable without arguments that returns one, which is
                called only if this call wins the start. A source that loses is closed.
            key: An idempotency key; lives as long as its run.
            fingerprint: Anything msgspec encodes; the same key with another fingerprint is refused.
            run_id: An id that the server made, by `new_run_id` or `derive_run_id`; never one that a client chose.
            owner: Whose run it is; opaque.
            thread: The conversation it belongs to.
            on_disconnect: Whether the run ends when nobody has followed it for `grace_seconds`.
            grace_seconds: See `on_disconnect`.
            timeout: Seconds after which the run fails with code `timeout`.
            model: The model that answers; kept in `run.started`.
            parent_run_id: The run that this one continues; kept as well.
            meta: A JSON object, kept as well.

        Returns:
            The run; `started` tells whether this call began it.

        Raises:
            SourceInvalidError: The source can never be one.
            KeyInvalidError: The key, run id or fingerprint cannot be used.
            FingerprintError: The key was used for a different request.
            RunNotFoundError: The run id is another owner's.
            DrainingError: The process is shutting down.
            BusyError: The process has as many runs as it may have.
            EventInvalidError: `meta` has no JSON form.
            RunLimitError: `meta` is larger than an event may be.
            StoreUnavailableError: The store gave no answer.
        """
        check_source(source)
        try:
            order = Order(
                source=source,
                owner=owner,
                thread=thread,
                fingerprint=fingerprint_of(fingerprint),
                cancel_on_disconnect=on_disconnect == "cancel",
                grace_seconds=grace_seconds,
                timeout_seconds=timeout,
                model=model,
                parent_run_id=parent_run_id,
                meta=meta,
            )
            if run_id is None:
                run_id = new_run_id() if key is None else await self.derive_run_id(key, owner=owner)
            check_run_id(run_id)
        except BaseException:
            await discard(source, patience_seconds=self._limits.patience_seconds)
            raise
        return await self.order(run_id, order)

    async def derive_run_id(self, key: str, *, owner: str | None = None, kind: str = "key") -> str:
        """The id of the run that a client's key stands for, whether or not it exists.

        Raises:
            KeyInvalidError: The key is empty, too long or, without an owner, shorter than 20 characters.
            StoreUnavailableError: The store, which keeps the secret, gave no answer.
        """
        if self._given_secret is None:
            self._given_secret = await self._store.secret()
        return derive_run_id(self._given_secret, owner=owner, kind=kind, key=key)

    async def order(self, run_id: str, order: Order) -> Run:
        """Start the ordered run under `run_id`, or find it; the source that is not used is closed.

        Raises:
            FingerprintError: The run exists with another fingerprint.
            RunNotFoundError: The run is another owner's.
            DrainingError: The process is shutting down, and there is no such run.
            BusyError: The process has as many runs as it may have, and there is no such run.
            StoreUnavailableError: The store gave no answer.
        """
        used = False
        try:
            for _ in range(_START_ATTEMPTS):
                if await self._create(run_id, order):
                    used = True
                    return Run(self, run_id, started=True)
                with contextlib.suppress(RunNotFoundError):
                    await self._store.info(run_id)
                    return Run(self, run_id)
            raise RunNotFoundError(run_id)
        finally:
            if not used:
                await discard(order.source, patience_seconds=self._limits.patience_seconds)

    async def _create(self, run_id: str, order: Order) -> bool:
        if (refusal := self._refusal()) is not None:
            await self._refuse_new(run_id, order.owner, refusal)
            return False
        try:
            lease = await self._store.create(
                run_id, owner=order.owner, thread=order.thread, fingerprint=order.fingerprint
            )
        except FingerprintError:
            await self.authorize(run_id, order.owner)
            raise
        if lease is None:
            return False
        if (refusal := self._refusal()) is not None:
            # While the store was asked a drain began, which has taken stock of the runs already, or others were faster.
            await self._store.purge(run_id)
            raise refusal
        live = LiveRun(lease, order, self._parts)
        try:
            task = live.begin()
        except TailraceError:
            # What cannot even be begun, for the `meta` it was given, never was.
            await self._store.purge(run_id)
            raise
        self._live[run_id] = live
        self._tasks.add(task)
        if order.thread is not None:
            await self._tell_thread(order.owner, order.thread, run_id)
        task.add_done_callback(lambda done: self._ended(run_id, live, done))
        return True

    async def _tell_thread(self, owner: str | None, thread: str, run_id: str) -> None:
        """Let whoever has the conversation open elsewhere know; if they miss it they see it on their next look."""
        with contextlib.suppress(StoreError):
            await self._store.signal(thread_topic(owner, thread), run_id)

    def _refusal(self) -> TailraceError | None:
        """Why there can be no new run now."""
        if self._draining:
            return DrainingError()
        if len(self._live) >= self._limits.live_runs:
            return BusyError(self._limits.live_runs)
        return None

    async def _refuse_new(self, run_id: str, owner: str | None, refusal: TailraceError) -> None:
        try:
            await self.authorize(run_id, owner)
        except RunNotFoundError:
            raise refusal from None

    def _ended(self, run_id: str, live: LiveRun, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._live.get(run_id) is live:
            del self._live[run_id]

    @contextlib.asynccontextmanager
    async def producer(  # noqa: PLR0913  the terms of a run
        self,
        run_id: str | None = None,
        *,
        owner: str | None = None,
        thread: str | None = None,
        on_disconnect: Literal["detach", "cancel"] = "detach",
        grace_seconds: float = 0,
        timeout: float | None = None,  # noqa: ASYNC109  bounds the run
        meta: dict[str, Any] | None = None,
    ) -> AsyncGenerator[RunProducer]:
        """Be a run's source by hand, in a task of a job queue, a script, or wherever no request is.

        The run completes when the body ends, and fails when the body raises, which goes on to the caller. If somebody
        cancels the run, or its time is over, the body is cancelled, and the code after it goes on. If the body's own
        task is cancelled, the run is interrupted. On leaving, the store has the terminal event.

        Args:
            run_id: An id that the server made, so that others can know it before the run begins; else a new one.
            owner: See `start`; so are the others.
            thread: See `start`.
            on_disconnect: See `start`.
            grace_seconds: See `start`.
            timeout: See `start`.
            meta: See `start`.

        Raises:
            FencedError: The run exists already.
            KeyInvalidError: The run id cannot be used.
            DrainingError: The process is shutting down.
            BusyError: The process has as many runs as it may have.
            StoreUnavailableError: The store gave no answer.
            CancelledError: The task was cancelled, and not because of the run.
        """
        channel = Channel(run_id := run_id or new_run_id())
        run = await self.start(
            channel,
            run_id=run_id,
            owner=owner,
            thread=thread,
            on_disconnect=on_disconnect,
            grace_seconds=grace_seconds,
            timeout=timeout,
            meta=meta,
        )
        live = self._live.get(run_id)
        if not run.started or live is None:
            raise FencedError(run_id)
        with producing_here(live.producer):
            try:
                yield RunProducer(run_id, channel)
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if not channel.stopped or task is None or task.uncancel():
                    live.stop(events.RunInterrupted(reason="shutdown"))
                    channel.finish(error)
                    raise
            except BaseException as error:
                channel.finish(error)
                raise
            else:
                channel.finish(None)
            finally:
                await live.ended()

    # Reading ---------------------------------------------------------------------------------------------------------

    async def authorize(self, run_id: str, owner: str | None, *, after: int = 0) -> Info:
        """The one check of a stranger's right to a run: it must be the run of this owner, `None` included.

        Whoever has a place in the run, `after`, has read it before: if it is missing in a store that others write to,
        it may be on its way back there from its producer's memory, and is waited for.

        Raises:
            RunNotFoundError: Unknown, expired, or another's; which of them is not told, nor can it be timed.
            StoreUnavailableError: The store gave no answer.
        """
        wait_seconds = MISSING_SECONDS if after and self._store.shared else 0.0
        return await self._find(run_id, lambda info: info.owner == owner, wait_seconds)

    async def attach(self, run_id: str, after: int = 0, *, wait_seconds: float = 0) -> Run:
        """A handle on a run that exists; iterating it begins after number `after`.

        Args:
            run_id: The run.
            after: The number of the last entry that is not wanted.
            wait_seconds: How long to wait for a run that another process is about to begin.

        Raises:
            RunNotFoundError: Unknown or expired, or not there in time.
            StoreUnavailableError: The store gave no answer.
        """
        await self._find(run_id, lambda _: True, wait_seconds)
        return Run(self, run_id, after=after)

    async def _find(self, run_id: str, wanted: Callable[[Info], bool], wait_seconds: float) -> Info:
        """Look at a run, again and again if it is not there, as nobody announces a run that begins.

        Raises:
            RunNotFoundError: There was no such run all the while.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        while True:
            with contextlib.suppress(RunNotFoundError):
                info = await self._store.info(run_id)
                if wanted(info):
                    return info
            remaining = deadline - loop.time()
            if remaining <= 0:
                raise RunNotFoundError(run_id)
            await asyncio.sleep(min(_LOOK_AGAIN_SECONDS, remaining))

    def follower(self, run_id: str, after: int = 0, *, merging: bool = False) -> Follower:
        """Join a run as a reader; the caller closes the follower."""
        return Follower(
            run_id, store=self._store, hub=self._hub, live=self._live.get(run_id), after=after, merging=merging
        )

    async def follow(self, run_id: str, after: int = 0) -> AsyncIterator[Entry]:
        """The entries after number `after`: those that are there, then those to come, to the terminal one.

        Each number comes once, in order. A place beyond the log's end begins again at 1. An entry with number 0 is
        the end of a run whose store was lost.

        Raises:
            RunNotFoundError: Unknown, or expired meanwhile.
            StoreUnavailableError: The store gave no answer.
        """
        follower = self.follower(run_id, after)
        try:
            await follower.place()
            while True:
                for entry in await follower.read():
                    yield entry
                if follower.ended:
                    return
                await follower.wait()
        finally:
            follower.close()

    async def cancel(self, run_id: str, reason: CancelReason = "user") -> bool:
        """Ask a run to stop, wherever it is produced.

        Returns:
            True if the run will end because of this call, False if it is final or ending already.

        Raises:
            RunNotFoundError: Unknown or expired.
            StoreUnavailableError: The store gave no answer.
        """
        live = self._live.get(run_id)
        if live is None:
            accepted = await self._store.cancel(run_id, reason)
            if accepted:
                # Only a hurry-up: the flag reaches the producer with its next acknowledgement anyway.
                with contextlib.suppress(StoreError):
                    await self._store.signal(run_topic(run_id), f"{CANCEL_PREFIX}{reason}")
            return accepted
        return live.stop(events.RunCancelled(reason=reason))

    async def info(self, run_id: str) -> RunInfo:
        """A run as it is now.

        Raises:
            RunNotFoundError: Unknown or expired.
            StoreUnavailableError: The store gave no answer.
        """
        return run_info(await self._store.info(run_id))

    async def reduced(self, run_id: str) -> Reduced:
        """A run's log so far, reduced.

        Raises:
            RunNotFoundError: Unknown or expired.
            StoreUnavailableError: The store gave no answer.
        """
        follower = self.follower(run_id)
        try:
            entries: list[Entry] = []
            while batch := await follower.read():
                entries.extend(batch)
            return fold.reduce(entries)
        finally:
            follower.close()

    async def active(self, *, owner: str | None = None, thread: str | None = None, limit: int = 100) -> list[RunInfo]:
        """Running runs of an owner, a thread, or an owner's thread; newest first.

        Raises:
            StoreUnavailableError: The store gave no answer.
        """
        found: list[RunInfo] = []
        for run_id in await self._store.active(owner=owner, thread=thread, limit=limit):
            with contextlib.suppress(RunNotFoundError):
                found.append(await self.info(run_id))
        return [info for info in found if info.status == "running"]

    async def latest(self, thread: str, *, owner: str | None = None) -> str | None:
        """The id of the run that began last in an owner's thread, running or not; nothing if it is not kept any more.

        Raises:
            StoreUnavailableError: The store gave no answer.
        """
        return await self._store.latest(thread, owner=owner)

    def live(self, run_id: str) -> LiveRun | None:
        """The run, if this process produces it."""
        return self._live.get(run_id)

    # The end ---------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect to the store, and look after runs whose producers are gone.

        Leaving it to `async with` or to the lifespan is enough. Some stores connect on demand, others, such as SQLite,
        answer nothing before it. Also starts runs again after a drain: a server may stop and start within one process.

        Raises:
            StoreSetupError: The store cannot be used as it is set up.
            StoreUnavailableError: The store gave no answer.
        """
        await self._store.open()
        self._draining = False
        self._observer.start()

    async def drain(self, seconds: float) -> None:
        """Refuse new runs, let the live ones finish for a while, then end the rest as interrupted.

        Returns when every run has its terminal event or `seconds` have passed. Runs stay readable.
        """
        self._draining = True
        sealing_seconds = min(_SEALING_SECONDS, seconds * _SEALING_SHARE)
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=max(0.0, seconds - sealing_seconds))
        await self._seal(sealing_seconds / 2)

    async def _seal(self, seconds: float) -> None:
        """End the live runs as interrupted; their sources get half of the time to close."""
        for live in list(self._live.values()):
            live.stop(events.RunInterrupted(reason="shutdown"), patience_seconds=seconds / 2)
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)

    async def aclose(self) -> None:
        """End what is still running as interrupted, and close the store.

        Followers of a run whose end the store does not take are told that it is unavailable.
        """
        self._draining = True
        live_runs = list(self._live.values())
        await self._seal(_SEALING_SECONDS)
        for task in set(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        await self._hub.aclose()
        await self._observer.aclose()
        await self._committer.aclose(_LAST_WRITES_SECONDS)
        for live in live_runs:
            if not live.log.settled:
                live.store_lost()
        await self._store.aclose()
