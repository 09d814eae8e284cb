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
5. A hint says "look at the log". Hints may be lost, doubled or reordered; they carry no data here.
6. A final state never changes. A cancel flag, once set, rides on every later acknowledgement.
7. Any await may be cancelled at any point and leaves the store usable.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from tailrace.errors import StoreError

__all__ = ["OPEN", "Ack", "Info", "Lease", "RunStore", "Write"]

#: The state of a run that has not ended. Every other value is final and opaque to the store.
OPEN = 0


class Lease(msgspec.Struct, frozen=True):
    """The right to write one run; `token` is random and is compared on every write."""

    run_id: str
    token: str


class Write(msgspec.Struct, frozen=True):
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


class Ack(msgspec.Struct, frozen=True):
    """The log is whole up to `last`; `cancel` is the reason if somebody asked the run to stop."""

    last: int
    cancel: str | None = None


class Info(msgspec.Struct, frozen=True):
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


class RunStore(Protocol):
    """Keeps run logs. See the module's page for the promises; every method may raise `StoreUnavailableError`."""

    @property
    def shared(self) -> bool:
        """Whether other processes see the same logs, so that a run can be followed elsewhere."""
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

    async def read(self, run_id: str, after: int, *, limit: int) -> tuple[Sequence[bytes], Info]:
        """Read at most `limit` records that follow number `after`; none if the log ends before.

        The info is not newer than the records: if it shows a final state, its `last` is the end of the log.

        Raises:
            RunNotFoundError: No such run.
        """
        ...

    def subscribe(self, run_id: str, hint: Callable[[], None]) -> Callable[[], None]:
        """Have `hint` called, in the event loop, when the run's log or flags may have changed.

        Returns:
            A function that ends the subscription; calling it twice is harmless.
        """
        ...

    async def active(self, *, owner: str | None = None, thread: str | None = None, limit: int = 100) -> Sequence[str]:
        """Ids of open runs of one owner, one thread, or one owner's thread; newest first."""
        ...

    async def purge(self, run_id: str) -> None:
        """Remove a run and everything that points to it; unknown runs are no error."""
        ...

    async def aclose(self) -> None:
        """Release connections. The store is not used afterwards."""
        ...
