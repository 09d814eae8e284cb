"""Places: a bound is a number of them, and a run takes one of each bound, or none at all.

A place of a bound on a rate is free again when its time is over. A place of a bound on what goes on at the same time
is free when its run gives it back.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from tailrace.runtime.clock import Clock

__all__ = ["Bound", "MemoryPlaces", "Places"]

_SWEEP_SECONDS = 60.0


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """So many places.

    Attributes:
        key: Whose places they are; those of one run have the same tenant.
        limit: How many there are.
        seconds: How long one is taken; `None` is until it is given back.
    """

    key: str
    limit: int
    seconds: float | None = None


class Places(Protocol):
    """Who has which place."""

    async def take(self, run_id: str, tenant: str, bounds: Sequence[Bound]) -> Sequence[float]:
        """Take a place of each bound, or, if one has none left, of none. A run that has a place keeps that one.

        Returns:
            For each bound the seconds until it has a place; nothing but zeros means that they are taken.

        Raises:
            StoreError: Nobody can say.
        """
        ...

    def give_back(self, run_id: str, tenant: str, bounds: Sequence[Bound]) -> None:
        """Free the run's places of these bounds."""
        ...

    async def aclose(self) -> None:
        """End; nobody comes any more."""
        ...


class MemoryPlaces:
    """The places of one process; they are gone with it."""

    def __init__(self, clock: Clock) -> None:
        """All are free."""
        self._clock = clock
        #: By key, then by run: when the place is free again. In the order of that time, as all of a bound last equally.
        self._taken: dict[str, dict[str, float]] = {}
        self._swept_at = clock.monotonic()

    def __len__(self) -> int:
        """Of how many bounds places are taken, or were until lately."""
        return len(self._taken)

    async def take(self, run_id: str, tenant: str, bounds: Sequence[Bound]) -> Sequence[float]:  # noqa: ARG002
        """See `Places.take`."""
        now = self._clock.monotonic()
        self._sweep(now)
        waits = [self._wait(run_id, bound, now) for bound in bounds]
        if not any(waits):
            for bound in bounds:
                free_at = float("inf") if bound.seconds is None else now + bound.seconds
                self._taken.setdefault(bound.key, {}).setdefault(run_id, free_at)
        return waits

    def give_back(self, run_id: str, tenant: str, bounds: Sequence[Bound]) -> None:  # noqa: ARG002
        """See `Places.give_back`."""
        for bound in bounds:
            taken = self._taken.get(bound.key, {})
            taken.pop(run_id, None)
            if not taken:
                self._taken.pop(bound.key, None)

    async def aclose(self) -> None:
        """See `Places.aclose`."""

    def _wait(self, run_id: str, bound: Bound, now: float) -> float:
        taken = self._taken.get(bound.key, {})
        free = [run for run, free_at in taken.items() if free_at <= now]
        for run in free:
            del taken[run]
        if run_id in taken or len(taken) < bound.limit:
            return 0.0
        return sorted(taken.values())[len(taken) - bound.limit] - now

    def _sweep(self, now: float) -> None:
        """Forget those who have not come for long."""
        if now - self._swept_at >= _SWEEP_SECONDS:
            self._swept_at = now
            self._taken = {
                key: taken for key, taken in self._taken.items() if any(free_at > now for free_at in taken.values())
            }
