"""A live run's log in the process that produces it: the truth that the store is a replica of.

The producer appends; the committer moves `stored`, what the store has now, and `acked`, the most it ever had;
followers see the entries up to `acked` and hold nothing but their place. Only `append` may be called from any thread,
under the producer's lock; all else belongs to the event loop.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from tailrace.events import Entry
from tailrace.stores.contract import OPEN, Lease, Write

__all__ = ["EntryLog", "LiveLog"]


class EntryLog(Protocol):
    """Where a producer puts entries."""

    @property
    def length(self) -> int:
        """How many entries it was given."""
        ...

    @property
    def size(self) -> int:
        """The bytes of their records."""
        ...

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait for whoever takes them."""
        ...

    def append(self, entry: Entry, record: bytes, *, final: int = OPEN) -> None:
        """Add the next entry; called from any thread, one at a time."""
        ...

    async def changed(self) -> None:
        """Wait until something was taken."""
        ...


class LiveLog:
    """Entries and records of one run, from its first event until its last reader has left.

    Attributes:
        lease: The right to write it.
        entries: All entries; `entries[n - 1]` is number n.
        acked: The number up to which followers may read; never goes back.
        final: The run's final state once its terminal event was appended, else `OPEN`.
        parting: What followers are told instead of a terminal event that could not be stored; it has number 0.
        detached: Another process owns the log now: followers must go on in the store.
    """

    def __init__(self, lease: Lease) -> None:
        """Begin an empty log."""
        self.lease = lease
        self.entries: list[Entry] = []
        self.acked = 0
        self.final = OPEN
        self.parting: Entry | None = None
        self.detached = False
        self._withdrawn = False
        self._size = 0
        self._records: list[bytes] = []
        self._stored = 0
        self._acked_size = 0
        self._waiters: set[asyncio.Future[None]] = set()

    def append(self, entry: Entry, record: bytes, *, final: int = OPEN) -> None:
        """Add the next entry. The only method for other threads; they hold the producer's lock."""
        self.entries.append(entry)
        self._records.append(record)
        self._size += len(record)
        self.final = final

    @property
    def length(self) -> int:
        """The number of the last entry."""
        return len(self.entries)

    @property
    def size(self) -> int:
        """The bytes of all records."""
        return self._size

    @property
    def pending_bytes(self) -> int:
        """Bytes that the store has not acknowledged."""
        return self._size - self._acked_size

    @property
    def settled(self) -> bool:
        """Nothing more will come of this log: it is final and stored, or it has been given up."""
        return self.detached or self.parting is not None or (self.final != OPEN and self.acked == len(self.entries))

    def heartbeat(self) -> Write | None:
        """A write that says that the producer lives; `None` if it needs no saying."""
        if self.settled or self._withdrawn or self.final != OPEN:
            return None
        return Write(self.lease, self._stored + 1, ())

    @property
    def records(self) -> Sequence[bytes]:
        """All records, in order."""
        return self._records

    @property
    def behind(self) -> bool:
        """Whether the store should get more."""
        return self._stored < len(self._records) and not self.settled and not self._withdrawn

    def next_write(self, limit: int) -> Write | None:
        """What the store should get next, at most `limit` records; `None` if it has everything."""
        # The state is read before the records are counted: a thread may append in between, never the other way round.
        final, length = self.final, len(self._records)
        end = min(length, self._stored + limit)
        if end == self._stored or self.settled or self._withdrawn:
            return None
        state = final if end == length == len(self.entries) else OPEN
        return Write(self.lease, self._stored + 1, self._records[self._stored : end], state)

    def acknowledge(self, last: int) -> None:
        """The store has everything up to `last`."""
        self._stored = last
        if last > self.acked:
            self._acked_size += sum(map(len, self._records[self.acked : last]))
            self.acked = last
            self.wake()

    def rewind(self, last: int) -> None:
        """The store lost what came after `last`: it is sent again, under the same numbers."""
        self._stored = last

    def withdraw(self) -> None:
        """Write nothing more: the run is being undone."""
        self._withdrawn = True

    def detach(self) -> None:
        """The store refuses this producer: whatever was not stored never was."""
        self.detached = True
        self.wake()

    def part(self, entry: Entry) -> None:
        """Give up on the store; the followers here are told `entry`."""
        self.parting = entry
        self.wake()

    def read(self, after: int, limit: int) -> Sequence[Entry]:
        """At most `limit` acknowledged entries that follow number `after`."""
        return self.entries[after : min(self.acked, after + limit)]

    async def changed(self) -> None:
        """Wait until there may be something new to read, to write or to know."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self.wait_with(future)

    async def wait_with(self, future: asyncio.Future[None]) -> None:
        """As `changed`, on a future that the caller may resolve too."""
        self._waiters.add(future)
        try:
            await future
        finally:
            self._waiters.discard(future)

    def wake(self) -> None:
        """Resolve all waiters."""
        if not self._waiters:
            return
        waiters, self._waiters = self._waiters, set()
        for future in waiters:
            if not future.done():
                future.set_result(None)
