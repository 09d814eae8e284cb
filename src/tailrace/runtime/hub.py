"""The hub: what other processes append, for the followers here. One subscription and one decoding for each run.

Hints get lost, so they only say what may be there: a follower takes a batch that continues what it has, and looks at
the log for everything else.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

from tailrace.errors import StoreError
from tailrace.events import Entry, decode_record
from tailrace.runtime.observer import Observer
from tailrace.runtime.topics import FOLLOWING, PRESENCE_SECONDS, run_topic
from tailrace.stores.contract import Batch, RunStore, Stop

__all__ = ["Hub", "Listener"]

#: Hints may get lost: after so much silence, or at most twice as much, the log is looked at anyway.
SILENCE_SECONDS = 4.0


class Listener(Protocol):
    """A follower, as the hub sees it."""

    def heard(self, entries: Sequence[Entry] | None) -> None:
        """These entries were appended; `None` means "look at the log"."""
        ...


class Hub:
    """Subscribes to the runs that are followed here but produced elsewhere."""

    def __init__(self, store: RunStore, observer: Observer) -> None:
        """Nothing is subscribed yet."""
        self._store = store
        self._observer = observer
        self._runs: dict[str, _Followed] = {}
        self._joined = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def join(self, run_id: str, listener: Listener) -> Stop:
        """Tell `listener` what is appended from now on, until the returned function is called."""
        followed = self._runs.get(run_id)
        if followed is None:
            followed = self._runs[run_id] = _Followed(run_id, self._store, self._observer)
            self._joined.set()
        followed.listeners.add(listener)
        if self._store.shared and (self._task is None or self._task.done()):
            # The event of an event loop that has ended cannot be waited for in the next.
            self._joined = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._announce(), name="tailrace-presence")
        return lambda: self._leave(run_id, listener)

    async def aclose(self) -> None:
        """Leave all runs."""
        for followed in self._runs.values():
            followed.close()
        self._runs.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _leave(self, run_id: str, listener: Listener) -> None:
        followed = self._runs.get(run_id)
        if followed is None:
            return
        followed.listeners.discard(listener)
        if not followed.listeners:
            followed.close()
            del self._runs[run_id]

    async def _announce(self) -> None:
        """Tell the producers, who may want to end a run that nobody follows; ends when nothing is followed."""
        loop = asyncio.get_running_loop()
        told: set[str] = set()
        due = loop.time()
        while self._runs:
            self._joined.clear()
            if loop.time() >= due:
                told.clear()
                due = loop.time() + PRESENCE_SECONDS
            # All at the same time, so that they travel together.
            untold = self._runs.keys() - told
            await asyncio.gather(*(self._tell_producer(run_id) for run_id in untold))
            told |= untold
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._joined.wait()

    async def _tell_producer(self, run_id: str) -> None:
        # An announcement may get lost in any case; the next one is never far.
        with contextlib.suppress(StoreError):
            await self._store.signal(run_topic(run_id), FOLLOWING)


class _Followed:
    """One run's subscription and its listeners here."""

    def __init__(self, run_id: str, store: RunStore, observer: Observer) -> None:
        self.listeners: set[Listener] = set()
        self._heard: Callable[[], None] = lambda: observer.heard(run_id)
        self._stops = (store.subscribe(run_id, self._hint), observer.watch(run_id))
        self._quiet = False
        self._listen_on()

    def close(self) -> None:
        self._timer.cancel()
        for stop in self._stops:
            stop()

    def _listen_on(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SILENCE_SECONDS, self._after_a_while)

    def _after_a_while(self) -> None:
        if self._quiet:
            self._hint(None)
        self._quiet = True
        self._listen_on()

    def _hint(self, batch: Batch | None) -> None:
        self._quiet = False
        entries: list[Entry] | None = None
        if batch is not None:
            entries = [decode_record(seq, record) for seq, record in enumerate(batch.records, batch.first)]
            self._heard()
        for listener in tuple(self.listeners):
            listener.heard(entries)
