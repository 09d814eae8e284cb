"""The observer: notices that the producer of a run is gone, and ends the run in its place.

A run is sealed only if the same token, beat and last number were seen for a whole lease on this process's own clock,
with looks in between never further apart than half a lease. No clock of another machine and no expiring key is
believed, so neither a slow store nor a store that was down makes a live run look dead.
"""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from tailrace.errors import RunNotFoundError, StoreError
from tailrace.events import RunInterrupted, encode_record
from tailrace.runtime.clock import Clock
from tailrace.runtime.producer import FINAL_STATES
from tailrace.stores.contract import OPEN, Info, RunStore, Stop

__all__ = ["Observer"]

_logger = logging.getLogger("tailrace")
#: Of the open runs that nobody follows, so many are looked after by each process at a time.
_SAMPLE = 50
#: A follower of a dead run is told within the lease and three looks; a look costs the store next to nothing.
_LOOKS_PER_LEASE = 5
_LONGEST_LOOK_SECONDS = 0.3
_LOOKS_AT_ONCE = 256


class _Observation(msgspec.Struct):
    """What was seen of one run: `seen` since `since`, last looked at `looked_at`, on the monotonic clock."""

    quiet_since: float
    seen: tuple[str, int, int] | None = None
    since: float = 0.0
    looked_at: float = 0.0


class Observer:
    """Looks at open runs that are produced elsewhere: those that are followed here, and a sample of all."""

    def __init__(self, store: RunStore, *, clock: Clock, lease_seconds: float) -> None:
        """Prepare; looking begins with the first run to watch, or with `start`."""
        self._store = store
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._look_seconds = min(lease_seconds / _LOOKS_PER_LEASE, _LONGEST_LOOK_SECONDS)
        self._watched: dict[str, int] = {}
        self._own: Counter[str] = Counter()
        self._observations: dict[str, _Observation] = {}
        self._sampled: set[str] = set()
        self._sample_at = 0.0
        self._sampling = False
        self._task: asyncio.Task[None] | None = None

    def watch(self, run_id: str) -> Stop:
        """Look after a run until the returned function is called."""
        self._watched[run_id] = self._watched.get(run_id, 0) + 1
        self._begin()
        return lambda: self._unwatch(run_id)

    def heard(self, run_id: str) -> None:
        """The run has just said something: it is alive."""
        observation = self._observations.get(run_id)
        if observation is not None:
            observation.quiet_since = self._clock.monotonic()

    def disown(self, run_id: str) -> None:
        """This process no longer produces the run."""
        # A run that was undone may leave after the next one of its id has begun.
        self._own[run_id] -= 1
        if self._own[run_id] <= 0:
            del self._own[run_id]

    def own(self, run_id: str) -> None:
        """This process produces the run, and needs no looking after."""
        self._own[run_id] += 1

    def start(self) -> None:
        """Look after runs that nobody follows, too."""
        self._sampling = True
        self._begin()

    async def aclose(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    def _begin(self) -> None:
        if self._store.shared and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run(), name="tailrace-observer")

    def _unwatch(self, run_id: str) -> None:
        count = self._watched.get(run_id, 0) - 1
        if count > 0:
            self._watched[run_id] = count
        else:
            self._watched.pop(run_id, None)

    async def _run(self) -> None:
        while self._watched or self._sampling:
            try:
                with contextlib.suppress(StoreError):
                    await self._sample()
                await self._look()
            except Exception:
                # A bug in a store must not end the task that all runs count on; nor fill the log.
                _logger.exception("the log store raised what its contract does not allow")
                await asyncio.sleep(self._lease_seconds)
            await asyncio.sleep(self._look_seconds)

    async def _sample(self) -> None:
        now = self._clock.monotonic()
        if not self._sampling or now < self._sample_at:
            return
        # A sampled run is observed for two leases, which is enough to seal it; then others get their turn.
        self._sample_at = now + 2 * self._lease_seconds
        others = [run_id for run_id in await self._store.active(limit=1_000) if run_id not in self._own]
        self._sampled = set(random.sample(others, min(_SAMPLE, len(others))))

    async def _look(self) -> None:
        now = self._clock.monotonic()
        watched = self._watched.keys() | self._sampled
        self._observations = {
            run_id: self._observations.get(run_id) or _Observation(quiet_since=now) for run_id in watched
        }
        await self._look_at(
            run_id
            for run_id, observation in tuple(self._observations.items())
            if run_id in self._sampled or now - observation.quiet_since >= self._look_seconds
        )

    async def _look_at(self, run_ids: Iterable[str]) -> None:
        """Look at many at the same time, so that what is asked of the store travels together."""
        for some in _chunks(list(run_ids), _LOOKS_AT_ONCE):
            await asyncio.gather(*(self._look_at_one(run_id) for run_id in some))

    async def _look_at_one(self, run_id: str) -> None:
        try:
            info = await self._store.info(run_id)
        except RunNotFoundError:
            self._sampled.discard(run_id)
        except StoreError:
            # A store that does not answer says nothing about the run: the observation begins again.
            self._observations[run_id].seen = None
        else:
            await self._judge(info, self._observations[run_id])

    async def _judge(self, info: Info, observation: _Observation) -> None:
        now = self._clock.monotonic()
        if info.state != OPEN or info.run_id in self._own:
            self._sampled.discard(info.run_id)
            return
        seen = (info.token, info.beat, info.last)
        if seen != observation.seen or now - observation.looked_at > self._lease_seconds / 2:
            observation.seen, observation.since = seen, now
        observation.looked_at = now
        if now - observation.since < self._lease_seconds:
            return
        terminal = RunInterrupted(reason="worker_lost")
        record = encode_record(self._clock.time_ms(), terminal)
        observation.seen = None
        with contextlib.suppress(StoreError):
            if await self._store.seal(info, record, FINAL_STATES[RunInterrupted]):
                _logger.warning("a run was ended because its producer is gone")


def _chunks(run_ids: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(run_ids), size):
        yield run_ids[start : start + size]
