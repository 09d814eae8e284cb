"""Which runs are open: sorted sets of run ids, by the moment each was made.

One set of all runs, one per owner, one per thread. They lie on other nodes of a cluster than the runs, so they are
written after them and may be wrong: whoever reads them looks at the runs and takes out what is open no more. A set
lives as long as anything is put into it, so that what nobody takes out goes in the end.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tailrace.stores.redis.address import Command

__all__ = ["Index", "Place"]


class Place(NamedTuple):
    """What decides in which sets a run is."""

    owner: str | None
    thread: str | None


class Index:
    """Builds the commands."""

    def __init__(self, prefix: str, *, live_ms: int) -> None:
        """Take the beginning of all keys and how long a set outlives its last change."""
        self._prefix = prefix
        self._live = b"%d" % live_ms

    def key(self, place: Place) -> bytes:
        """The smallest set that has all open runs of an owner, a thread, or both."""
        if place.thread is not None:
            return f"{self._prefix}:open:thread:{place.thread}".encode()
        if place.owner is not None:
            return f"{self._prefix}:open:owner:{place.owner}".encode()
        return f"{self._prefix}:open".encode()

    def add(self, run_id: str, place: Place, made: bytes) -> list[Command]:
        """Put a run into its sets, or keep it there."""
        commands: list[Command] = []
        for key in self._keys(place):
            commands += ((b"ZADD", key, made, run_id.encode()), (b"PEXPIRE", key, self._live))
        return commands

    def remove(self, run_id: str, place: Place) -> list[Command]:
        """Take a run out of its sets."""
        return [(b"ZREM", key, run_id.encode()) for key in self._keys(place)]

    def _keys(self, place: Place) -> Sequence[bytes]:
        return list(
            {self.key(wanted) for wanted in (Place(None, None), Place(place.owner, None), Place(None, place.thread))}
        )
