"""Which runs are open: sorted sets of run ids by the moment each was made; one of all, one per owner, one per thread.

On a cluster they are not where the runs are, so they are written after them and may be wrong. Whoever reads them looks
at the runs too, and takes out what is open no more. A set lives as long after its last change as an open run after its
last write, and a long run is put into its sets again whenever its own time to live is renewed.

Beside them the newest run of each owner's thread is named, for as long as it is kept.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from tailrace.stores.redis.command import Command, Reply
from tailrace.stores.redis.keys import Keys, unpacked
from tailrace.stores.redis.wire import Wire

__all__ = ["Index", "Place"]

#: A time to live is renewed so many times within it, by what is written anyway.
_RENEWALS: Final = 4
#: Ids looked at in one go, and old ones looked at beside them, only to take out what is gone.
_PAGE: Final = 100
_OLDEST: Final = 8

#: A run's end must not touch the name of a newer one.
#: KEYS name  ARGV run_id ms
_EXPIRE_IF: Final = b"if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end"


class Place(NamedTuple):
    """Whose a run is: that says in which sets it stands."""

    owner: str | None
    thread: str | None


class Index:
    """Keeps the sets, and the time when each run of this process has to be renewed."""

    def __init__(self, wire: Wire, keys: Keys, *, live_seconds: float) -> None:
        """Take how long an open run lives without a write."""
        self._wire = wire
        self._keys = keys
        self._live_ms = b"%d" % round(live_seconds * 1000)
        self._renewal_seconds = live_seconds / _RENEWALS
        self._renew_at: dict[str, float] = {}
        self._sweep_at = 0.0

    def is_due(self, run_id: str, now: float) -> bool:
        """Whether the run should be renewed, here and where it is; `now` is the event loop's time."""
        return self._renew_at.get(run_id, 0.0) <= now

    def put(self, run_id: str, place: Place, made: bytes) -> None:
        """Put a run into its sets, or keep it there. Does not wait: as long as it fails, the run stays due."""
        commands: list[Command] = []
        for key in self._sets(place):
            commands += ((b"ZADD", key, made, run_id.encode()), (b"PEXPIRE", key, self._live_ms))
        if place.thread is not None:
            key = self._keys.latest(place.thread, owner=place.owner)
            # Only when it begins a run takes the place of the one before.
            if run_id in self._renew_at:
                commands.append((b"SET", key, run_id.encode(), b"NX", b"PX", self._live_ms))
                commands.append((b"PEXPIRE", key, self._live_ms))
            else:
                commands.append((b"SET", key, run_id.encode(), b"PX", self._live_ms))
        loop = asyncio.get_running_loop()
        self._renew_at.setdefault(run_id, 0.0)

        def done(answer: "asyncio.Future[list[Reply]]") -> None:
            if answer.cancelled() or any(isinstance(reply, Exception) for reply in answer.result()):
                self.forget(run_id)
            else:
                self._renew_at[run_id] = loop.time() + self._renewal_seconds

        self._wire.post(commands).add_done_callback(done)

    def remove(self, run_id: str, place: Place, *, kept_ms: bytes) -> None:
        """Take a run, which is kept for so long, out of its sets. Does not wait: if it fails, a reader does it."""
        self.forget(run_id)
        commands: list[Command] = [(b"ZREM", key, run_id.encode()) for key in self._sets(place)]
        if place.thread is not None:
            key = self._keys.latest(place.thread, owner=place.owner)
            commands.append((b"EVAL", _EXPIRE_IF, b"1", key, run_id.encode(), kept_ms))
        self._wire.post(commands)

    def forget(self, run_id: str) -> None:
        """The run is not written here any more."""
        self._renew_at.pop(run_id, None)

    def sweep(self, now: float) -> None:
        """Forget, now and then, the runs that have not been written for so long that they are gone."""
        if self._sweep_at <= now:
            self._sweep_at = now + self._renewal_seconds
            oldest = now - self._renewal_seconds * _RENEWALS
            self._renew_at = {run_id: at for run_id, at in self._renew_at.items() if at > oldest}

    async def active(self, owner: str | None, thread: str | None, limit: int) -> Sequence[str]:
        """See `RunStore.active`.

        Raises:
            StoreUnavailableError: No answer.
        """
        key = self._keys.open_runs(owner=owner, thread=thread)
        found: list[str] = []
        start = 0
        while len(found) < limit:
            newest, oldest = await self._wire.ask(
                [
                    (b"ZREVRANGE", key, b"%d" % start, b"%d" % (start + _PAGE - 1)),
                    (b"ZRANGE", key, b"0", b"%d" % (_OLDEST - 1)),
                ]
            )
            if not newest:
                break
            places = await self._open_places(key, {*newest, *oldest})
            kept = [(run_id, places[run_id]) for run_id in newest if run_id in places]
            found += [run_id.decode() for run_id, place in kept if _is_of(place, owner, thread)]
            start += len(kept)
        return found[:limit]

    async def latest(self, thread: str, *, owner: str | None) -> str | None:
        """See `RunStore.latest`.

        Raises:
            StoreUnavailableError: No answer.
        """
        (run_id,) = await self._wire.ask([(b"GET", self._keys.latest(thread, owner=owner))])
        if run_id is None:
            return None
        (state,) = await self._wire.ask([(b"HGET", self._keys.run(run_id.decode()).m, b"state")])
        return None if state is None else run_id.decode()

    async def _open_places(self, key: bytes, run_ids: set[bytes]) -> dict[bytes, Place]:
        """Of those that are open: whose they are. The others are taken out of the set."""
        names = list(run_ids)
        answers = await self._wire.ask(
            [(b"HMGET", self._keys.run(name.decode()).m, b"state", b"owner", b"thread") for name in names]
        )
        places = {
            name: Place(unpacked(owner), unpacked(thread))
            for name, (state, owner, thread) in zip(names, answers, strict=True)
            if state == b"0"
        }
        if gone := run_ids.difference(places):
            self._wire.post([(b"ZREM", key, *gone)])
        return places

    def _sets(self, place: Place) -> set[bytes]:
        keys = self._keys
        return {keys.open_runs(), keys.open_runs(owner=place.owner), keys.open_runs(thread=place.thread)}


def _is_of(place: Place, owner: str | None, thread: str | None) -> bool:
    return owner in {None, place.owner} and thread in {None, place.thread}
