"""One timer for all open streams: it tells idle ones to send a heartbeat and gives up on readers that take nothing.

A timer per stream would cost a heap entry and two calls for every event; looking at every stream a few times per
heartbeat costs less than one event.
"""

import asyncio
from typing import Protocol

__all__ = ["Ticking", "Wheel"]

_TICKS_PER_PERIOD = 8
_SHORTEST_TICK_SECONDS = 0.01


class Ticking(Protocol):
    """Something that is looked at on every tick."""

    def tick(self, now: float) -> None:
        """Called with the loop's time; must not raise or block."""
        ...


class Wheel:
    """Ticks while there is something to look at."""

    def __init__(self, period_seconds: float) -> None:
        """Tick eight times per `period_seconds`."""
        self.tick_seconds = max(_SHORTEST_TICK_SECONDS, period_seconds / _TICKS_PER_PERIOD)
        self._members: set[Ticking] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, member: Ticking) -> None:
        """Begin to look at `member`."""
        self._members.add(member)
        if self._timer is None:
            self._arm()

    def discard(self, member: Ticking) -> None:
        """Stop looking at it; the timer stops with the last one."""
        self._members.discard(member)
        if not self._members and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.tick_seconds, self._turn)

    def _turn(self) -> None:
        self._arm()
        now = asyncio.get_running_loop().time()
        for member in tuple(self._members):
            member.tick(now)
