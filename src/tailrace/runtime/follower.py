"""A follower: a cursor into one run's log. It holds no queue that could grow, so a slow one costs no memory.

While this process produces the run, entries come from its memory. Otherwise the hub tells what is appended, and the
store is read whenever that does not continue what the follower has: at the beginning, after a lost hint, after too
many unread ones, and after a silence. Only acknowledged entries are shown, in either case.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence

from tailrace.errors import RunNotFoundError
from tailrace.events import TERMINALS, Entry, decode_record
from tailrace.fold import merge
from tailrace.runtime.blocks import decode_block
from tailrace.runtime.hub import Hub
from tailrace.runtime.log import LiveLog
from tailrace.runtime.supervisor import LiveRun
from tailrace.stores.contract import OPEN, RunStore, Stop

__all__ = ["MERGE_BEHIND", "MISSING_SECONDS", "Follower"]

#: A follower that is further behind than this many entries gets consecutive deltas of a part as one.
MERGE_BEHIND = 256
_READ_ENTRIES = 4_096
#: Batches that wait for a slow follower; beyond it they are thrown away and the log is read instead.
_WAITING_BATCHES = 256
#: How long a cursor may be ahead of an open run, whose store may be healing, before it is given up.
_AHEAD_SECONDS = 2.0
#: How long an open run may be missing: a store that lost it gets it back with its producer's next write.
MISSING_SECONDS = 4.0


class Follower:
    """Reads one run from a place on. Closed by whoever opened it.

    Attributes:
        cursor: Number of the last entry given out.
        ended: The terminal event was given out, or told; nothing follows.
        was_reset: The place to start from was beyond the log: the reading began again at 1. Cleared by the reader.
    """

    def __init__(
        self,
        run_id: str,
        *,
        store: RunStore,
        hub: Hub,
        live: LiveRun | None,
        after: int = 0,
        merging: bool = False,
    ) -> None:
        """Join; call `close` when done.

        Args:
            run_id: The run.
            store: Where it is kept.
            hub: Tells what other processes append.
            live: The run, if this process produces it.
            after: The number after which to begin.
            merging: Whether deltas may be merged when this follower is far behind.
        """
        self.cursor = after
        self.ended = False
        self.was_reset = False
        self._run_id = run_id
        self._store = store
        self._hub = hub
        self._live = live
        self._merging = merging
        self._news: asyncio.Future[None] | None = None
        self._woken = False
        self._closed = False
        self._look = True
        self._heard: deque[Sequence[Entry]] = deque()
        self._leave_hub: Stop | None = None
        self._was_open = False
        self._missing_since: float | None = None
        if live is not None:
            live.follower_joined()
        else:
            self._join_hub()

    @property
    def live(self) -> LiveRun | None:
        """The run, if this process produced it when the follower joined."""
        return self._live

    def close(self) -> None:
        """Leave the run; it goes on."""
        if self._closed:
            return
        self._closed = True
        if self._leave_hub is not None:
            self._leave_hub()
            # It holds this follower: only the garbage collector would find the two.
            self._leave_hub = None
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
            remaining = deadline - loop.time()
            try:
                last, final = await self._end()
            except RunNotFoundError:
                if remaining <= 0:
                    raise
                last, final = 0, False
            if self.cursor <= last:
                return
            if final or remaining <= 0:
                self.cursor = 0
                self.was_reset = True
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._wait_for_news()

    async def read(self, limit: int = _READ_ENTRIES) -> list[Entry]:
        """What is there after the cursor, in order; nothing if nothing is. Check `ended` after it.

        Raises:
            RunNotFoundError: The run expired while it was read.
            StoreUnavailableError: The store gave no answer; nothing was skipped, a later call goes on.
        """
        if self.ended:
            return []
        log = self._own_log()
        if log is None:
            entries, behind = await self._read_elsewhere(limit)
        else:
            entries, behind = log.read(self.cursor, limit), log.acked - self.cursor
            if not entries and log.parting is not None:
                self.ended = True
                return [log.parting]
            self.ended = log.final != OPEN and self.cursor == log.length
        if entries:
            self.cursor = entries[-1].seq
            self.ended = isinstance(entries[-1].event, TERMINALS)
        if self._merging and behind > MERGE_BEHIND:
            return merge(entries)
        return list(entries)

    async def wait(self) -> None:
        """Wait until there may be something new, or `wake` was called."""
        if not self._is_ready():
            await self._wait_for_news()
        self._woken = False

    def _is_ready(self) -> bool:
        log = self._own_log()
        if log is None:
            return bool(self._heard) or self._look
        return log.acked > self.cursor or log.settled

    async def _wait_for_news(self) -> None:
        if self._woken:
            self._woken = False
            return
        self._news = asyncio.get_running_loop().create_future()
        log = self._own_log()
        if log is not None:
            await log.wait_with(self._news)
        else:
            await self._news
        self._news = None
        self._woken = False

    def wake(self) -> None:
        """Let `wait` return."""
        self._woken = True
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def heard(self, entries: Sequence[Entry] | None) -> None:
        """Called by the hub with what was appended; `None` says that the log has to be looked at."""
        if entries and isinstance(entries[-1].event, TERMINALS):
            self._was_open = False
        if entries is None or len(self._heard) >= _WAITING_BATCHES:
            self._heard.clear()
            self._look = True
        else:
            self._heard.append(entries)
        self.wake()

    def _own_log(self) -> LiveLog | None:
        """The log in this process, as long as it is the truth."""
        if self._live is None or self._live.log.detached:
            return None
        return self._live.log

    async def _end(self) -> tuple[int, bool]:
        """The number of the last readable entry, and whether the run is final."""
        log = self._own_log()
        if log is not None:
            return log.acked, log.settled
        self._join_hub()
        info = await self._store.info(self._run_id)
        return info.last, info.state != OPEN

    def _join_hub(self) -> None:
        """Needed once the run is produced elsewhere, or was produced here until the store refused its producer."""
        if self._leave_hub is None and not self._closed:
            self._leave_hub = self._hub.join(self._run_id, self)

    async def _read_elsewhere(self, limit: int) -> tuple[Sequence[Entry], int]:
        self._join_hub()
        entries = self._take_heard()
        if entries or not self._look:
            return entries, len(entries)
        return await self._read_store(limit)

    def _take_heard(self) -> Sequence[Entry]:
        """The next batch of what was told, from the cursor on; nothing if there is a gap before it."""
        while self._heard and not self._look:
            entries = self._heard.popleft()
            last = entries[-1].seq if entries else 0
            if last <= self.cursor:
                continue
            if entries[0].seq > self.cursor + 1:
                self._look = True
                break
            return entries[self.cursor + 1 - entries[0].seq :]
        return ()

    def _is_given_up(self) -> bool:
        """Whether nobody will put a run back: it was never seen open, or has been missing for too long."""
        now = asyncio.get_running_loop().time()
        if self._missing_since is None:
            self._missing_since = now
        return not self._was_open or now - self._missing_since >= MISSING_SECONDS

    async def _read_store(self, limit: int) -> tuple[list[Entry], int]:
        # What is told from here on is kept: it follows what this read will find.
        self._look = False
        try:
            page = await self._store.read(self._run_id, self.cursor, limit=limit)
        except RunNotFoundError:
            if self._is_given_up():
                self._look = True
                raise
            # Whoever puts it back tells; if that gets lost, the next look is after the silence.
            return [], 0
        except BaseException:
            self._look = True
            raise
        self._was_open, self._missing_since = page.info.state == OPEN, None
        records = page.records
        if page.block is not None:
            records = decode_block(page.block)[self.cursor : self.cursor + limit]
        entries = [decode_record(self.cursor + index, record) for index, record in enumerate(records, 1)]
        read_to = self.cursor + len(entries)
        # A reader that has seen all of a final run already gets no terminal event any more.
        self.ended = page.info.state != OPEN and read_to >= page.info.last
        self._look = self._look or (bool(entries) and read_to < page.info.last)
        return entries, page.info.last - self.cursor
