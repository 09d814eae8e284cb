"""What a log store promises, in words: the runtime relies on this page and on nothing else of a store.

A store keeps *records* (bytes it never parses) under run ids and numbers, and is a replica of the live producer's
memory: the producer assigns the numbers, so whatever a store loses is sent again under the same numbers. The promises:

1. One write path. `commit` accepts a write iff its token is the run's, the run is open, and `first` is `last + 1`.
   A write is atomic: all its records and its final state, or nothing.
2. A write that is wholly in the log already is acknowledged again, not stored again (also the final one). One that
   overlaps in part, or leaves a hole, is `GapError(last)`. A foreign token, or anything new after the final state, is
   `FencedError`. A run the store does not have is `RunNotFoundError`.
3. `StoreUnavailableError` says that the outcome is unknown; repeating the same write is always right.
4. What `read` returns was acknowledged or is about to be; it never takes back a number except by losing its tail.
5. A hint carries what was appended, or says "look at the log". Hints and signals may be lost, doubled or reordered.
6. A final state never changes. A cancel flag, once set, rides on every later acknowledgement.
7. An open run lives as long as something is written to it, heartbeats included; a final one for the retention time.
8. Any await may be cancelled at any point and leaves the store usable.
9. A note is taken once, by one of all who ask for it in any process, before its time is over; it goes with its run.
   What is unknown after `StoreUnavailableError` may be gone. A store that loses its tail may give a note again.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import msgspec

from tailrace.errors import StoreError

__all__ = ["OPEN", "Ack", "Batch", "Hint", "Info", "Lease", "Page", "RunStore", "Stop", "Write"]

#: The state of a run that has not ended. Every other value is final and opaque to the store.
OPEN = 0


# What follows holds text, numbers and bytes, and there is much of it: nothing for the garbage collector to look at.
class Lease(msgspec.Struct, frozen=True, gc=False):
    """The right to write one run; `token` is random and is compared on every write."""

    run_id: str
    token: str


class Write(msgspec.Struct, frozen=True, gc=False):
    """Records for the end of one run's log.

    Attributes:
        lease: Whose write it is.
        first: The number of the first record.
        records: May be empty: then the write is a heartbeat.
        final: `OPEN`, or the run's final state, 1 to 255.
    """

    lease: Lease
    first: int
    records: Sequence[bytes]
    final: int = OPEN


class Ack(msgspec.Struct, frozen=True, gc=False):
    """The log is whole up to `last`; `cancel` is the reason if somebody asked the run to stop."""

    last: int
    cancel: str | None = None


class Batch(msgspec.Struct, frozen=True, gc=False):
    """What one write appended, as a hint carries it; `state` is the run's after it."""

    first: int
    records: Sequence[bytes]
    state: int


class Info(msgspec.Struct, frozen=True, gc=False):
    """A run at one moment.

    Attributes:
        run_id: The run.
        owner: Whose it is; `None` if runs have no owners.
        thread: The conversation it belongs to, if it was given one.
        state: `OPEN` or the final state.
        last: The number of the last record, 0 if there is none.
        beat: Grows with every accepted write, heartbeats included.
        token: The token of the lease in force.
        cancel: The reason, once a cancel was asked for.
    """

    run_id: str
    owner: str | None
    thread: str | None
    state: int
    last: int
    beat: int
    token: str
    cancel: str | None


class Page(msgspec.Struct, frozen=True, gc=False):
    """What `read` found.

    Attributes:
        records: The records that follow the number that was asked for, in order.
        info: The run, not newer than the records: if it is final, its `last` is the end of the log.
        block: Instead of records, the whole log of a compacted run, as `compact` was given it.
    """

    records: Sequence[bytes]
    info: Info
    block: bytes | None = None


Hint: TypeAlias = Callable[[Batch | None], None]
Stop: TypeAlias = Callable[[], None]


class RunStore(Protocol):
    """Keeps run logs. See the module's page for the promises; every method may raise `StoreUnavailableError`."""

    @property
    def shared(self) -> bool:
        """Whether other processes see the same logs, so that a run can be followed elsewhere."""
        ...

    @property
    def commit_interval_seconds(self) -> float:
        """How long a process should wait between two commits, so that what is not urgent goes together."""
        ...

    async def open(self) -> None:
        """Connect and check; called at start so that a store that cannot be used is known before the first run.

        Raises:
            StoreSetupError: The store is there but cannot be used as it is set up.
        """
        ...

    async def secret(self) -> bytes:
        """The 32 random bytes that all users of this store share; made once, by whoever asks first."""
        ...

    async def create(self, run_id: str, *, owner: str | None, thread: str | None, fingerprint: bytes) -> Lease | None:
        """Begin a run, atomically: of many callers one gets the lease.

        Returns:
            The lease, or `None` if the run exists, with the same owner and fingerprint.

        Raises:
            FingerprintError: The run exists with another fingerprint or owner.
        """
        ...

    async def restore(self, lease: Lease, *, owner: str | None, thread: str | None, fingerprint: bytes) -> None:
        """Put back a run that the store has lost, empty, under its producer's own lease.

        Raises:
            FencedError: The run exists under another token.
        """
        ...

    async def commit(self, writes: Sequence[Write]) -> Sequence[Ack | StoreError]:
        """Append to many runs in one round trip; the answers stand in the order of `writes`."""
        ...

    async def seal(self, seen: Info, record: bytes, state: int) -> bool:
        """End a run whose producer is gone: append `record` with the final `state`, atomically.

        Returns:
            False if the run is final, or its token, beat or last number is not what was seen: it lives.
        """
        ...

    async def compact(self, run_id: str, block: bytes) -> bool:
        """Replace the records of a final run by one block; False if the run is not final or gone."""
        ...

    async def cancel(self, run_id: str, reason: str) -> bool:
        """Ask the producer to stop, wherever it is. The first reason stays.

        Returns:
            False if the run is already final.

        Raises:
            RunNotFoundError: No such run.
        """
        ...

    async def info(self, run_id: str) -> Info:
        """Look at a run.

        Raises:
            RunNotFoundError: No such run.
        """
        ...

    async def read(self, run_id: str, after: int, *, limit: int) -> Page:
        """Read at most `limit` records that follow number `after`; none if the log ends before.

        Raises:
            RunNotFoundError: No such run.
        """
        ...

    def subscribe(self, run_id: str, hint: Hint) -> Stop:
        """Have `hint` called, in the event loop, with what is appended to the run, or with `None` for "look".

        Returns:
            A function that ends the subscription; calling it twice is harmless.
        """
        ...

    async def signal(self, topic: str, text: str) -> None:
        """Tell whoever listens to `topic` now, in any process; at most once and maybe never."""
        ...

    def listen(self, topic: str, heard: Callable[[str], None]) -> Stop:
        """Have `heard` called, in the event loop, with each signal of a topic. Ends as `subscribe`."""
        ...

    async def active(self, *, owner: str | None = None, thread: str | None = None, limit: int = 100) -> Sequence[str]:
        """Ids of open runs of one owner, one thread, one owner's thread, or anybody; newest first.

        The index may lag behind: an id may be of a run that has just ended or gone.
        """
        ...

    async def latest(self, thread: str, *, owner: str | None) -> str | None:
        """The id of the run that began last in an owner's thread (`None`: in one of nobody's), open or final.

        Nothing if that run is gone; an older one may be found then, and need not be.
        """
        ...

    async def put_note(self, run_id: str, name: str, note: bytes, *, live_seconds: float, most: int) -> bool:
        """Keep a few bytes with a run for a while, for whoever asks for them by name, once.

        Args:
            run_id: The run, open or final.
            name: New among the run's notes.
            note: Of no meaning to the store.
            live_seconds: How long it can be taken.
            most: How many notes the run may have at a time, this one among them.

        Returns:
            False if the run has so many already.

        Raises:
            RunNotFoundError: No such run.
        """
        ...

    async def take_note(self, run_id: str, name: str) -> bytes | None:
        """Take a note away, atomically: of many callers one gets it; `None` for all others, and without one."""
        ...

    async def purge(self, run_id: str) -> None:
        """Remove a run and everything that points to it; unknown runs are no error."""
        ...

    async def aclose(self) -> None:
        """Release connections. The store is not used afterwards."""
        ...
