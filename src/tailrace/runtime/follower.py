"""A follower: a cursor into one run's log. It holds no queue, so a slow one costs no memory and a late one nothing.

While this process produces the run, entries come from its memory; otherwise from the store, by reading whatever is
there and waiting for a hint. Only acknowledged entries are shown, in either case.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from tailrace.events import Entry, decode_record
from tailrace.fold import merge
from tailrace.runtime.supervisor import LiveRun
from tailrace.stores.contract import OPEN, RunStore

__all__ = ["MERGE_BEHIND", "Follower"]

#: A follower that is further behind than this many entries gets consecutive deltas of a part as one.
MERGE_BEHIND = 256
_READ_ENTRIES = 4_096
#: How long a cursor may be ahead of an open run, whose store may be healing, before it is given up.
_AHEAD_SECONDS = 2.0
#: Hints may get lost: after so much silence the log is looked at anyway.
_SILENCE_SECONDS = 5.0


class Follower:
    """Reads one run from a place on. Closed by whoever opened it.

    Attributes:
        cursor: Number of the last entry given out.
        ended: The terminal event was given out, or told; nothing follows.
        was_reset: The place to start from was beyond the log: the reading began again at 1. Cleared by the reader.
    """

    def __init__(
        self, run_id: str, *, store: RunStore, live: LiveRun | None, after: int = 0, merging: bool = False
    ) -> None:
        """Join; call `close` when done.

        Args:
            run_id: The run.
            store: Where it is kept.
            live: The run, if this process produces it.
            after: The number after which to begin.
            merging: Whether deltas may be merged when this follower is far behind.
        """
        self.cursor = after
        self.ended = False
        self.was_reset = False
        self._run_id = run_id
        self._store = store
        self._live = live
        self._merging = merging
        self._news: asyncio.Future[None] | None = None
        self._hinted = False
        self._unsubscribe: Callable[[], None] | None = None
        self._closed = False
        if live is not None:
            live.follower_joined()

    @property
    def live(self) -> LiveRun | None:
        """The run, if this process produced it when the follower joined."""
        return self._live

    def close(self) -> None:
        """Leave the run; it goes on."""
        if self._closed:
            return
        self._closed = True
        if self._unsubscribe is not None:
            self._unsubscribe()
        if self._live is not None:
            self._live.follower_left()

    async def place(self) -> None:
        """Make sure the cursor is in the log: wait for an open run that may be healing, else begin again at 1.

        Raises:
            RunNotFoundError: The run is gone.
            StoreUnavailableError: The store gave no answer.
        """
        if not self.cursor:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _AHEAD_SECONDS
        while True:
            last, final = await self._end()
            if self.cursor <= last:
                return
            remaining = deadline - loop.time()
            if final or remaining <= 0:
                self.cursor = 0
                self.was_reset = True
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._wait(remaining)

    async def read(self, limit: int = _READ_ENTRIES) -> list[Entry]:
        """What is there after the cursor, in order; nothing if nothing is. Check `ended` after it.

        Raises:
            RunNotFoundError: The run expired while it was read.
            StoreUnavailableError: The store gave no answer; nothing was skipped, a later call goes on.
        """
        if self.ended:
            return []
        behind = 0
        if self._live is not None and not self._live.log.detached:
            log = self._live.log
            behind = log.acked - self.cursor
            entries: Sequence[Entry] = log.read(self.cursor, limit)
            if not entries and log.parting is not None:
                self.ended = True
                return [log.parting]
            self.ended = log.final != OPEN and self.cursor + len(entries) == len(log.entries)
        else:
            entries, behind = await self._read_store(limit)
        if entries:
            self.cursor = entries[-1].seq
        if self._merging and behind > MERGE_BEHIND:
            return merge(entries)
        return list(entries)

    async def wait(self) -> None:
        """Wait until there may be something new, or `wake` was called."""
        await self._wait(_SILENCE_SECONDS)

    def wake(self) -> None:
        """Let `wait` return."""
        self._hint()

    async def _wait(self, seconds: float) -> None:
        if self._hinted:
            self._hinted = False
            return
        self._news = asyncio.get_running_loop().create_future()
        if self._live is not None and not self._live.log.detached:
            if self._live.log.acked > self.cursor or self._live.log.settled:
                return
            await self._live.log.wait_with(self._news)
        else:
            await asyncio.wait({self._news}, timeout=seconds)
        self._news = None
        self._hinted = False

    def _hint(self) -> None:
        self._hinted = True
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _end(self) -> tuple[int, bool]:
        """The number of the last readable entry, and whether the run is final."""
        if self._live is not None and not self._live.log.detached:
            return self._live.log.acked, self._live.log.settled
        self._subscribe()
        info = await self._store.info(self._run_id)
        return info.last, info.state != OPEN

    async def _read_store(self, limit: int) -> tuple[list[Entry], int]:
        self._subscribe()
        records, info = await self._store.read(self._run_id, self.cursor, limit=limit)
        entries = [decode_record(self.cursor + index, record) for index, record in enumerate(records, 1)]
        last = self.cursor + len(entries)
        self.ended = info.state != OPEN and last >= info.last
        # What was left out by the limit is there already: nobody will hint at it.
        self._hinted = self._hinted or last < info.last
        return entries, info.last - self.cursor

    def _subscribe(self) -> None:
        if self._unsubscribe is None:
            self._unsubscribe = self._store.subscribe(self._run_id, self._hint)
