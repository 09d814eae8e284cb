"""Places in Redis, which all processes share; those of a process that dies are free again a little later.

Places are sorted sets of run ids, scored with the time at which each is free, by the server's clock. All of a tenant
are in one slot of a cluster, so that one script looks at all of a run's bounds before it takes any.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from tailrace.chat.limits.places import Bound
from tailrace.errors import StoreError, StoreUnavailableError
from tailrace.stores.redis.address import Address
from tailrace.stores.redis.command import Command
from tailrace.stores.redis.wire import Wire

__all__ = ["RedisPlaces"]

#: A place that has to be given back is taken for so long, and kept for as long again while its process lives.
_LEASE_SECONDS: Final = 30.0
_RENEWALS: Final = 3

#: -> for each bound the milliseconds until it has a place. A limit of -1 is none: so a place is kept.
#: A repeated command finds the run in its places.
#: KEYS one of each bound  ARGV run_id limit lasts_ms …
_TAKE: Final = b"""
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local waits, full = {}, false
for i, key in ipairs(KEYS) do
  local limit = tonumber(ARGV[i * 2])
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  local taken = redis.call('ZCARD', key)
  waits[i] = 0
  if limit >= 0 and taken >= limit and not redis.call('ZSCORE', key, ARGV[1]) then
    local last = redis.call('ZRANGE', key, taken - limit, taken - limit, 'WITHSCORES')
    waits[i] = math.max(1, tonumber(last[2]) - now)
    full = true
  end
end
if full then return waits end
for i, key in ipairs(KEYS) do
  local lasts = tonumber(ARGV[i * 2 + 1])
  redis.call('ZADD', key, now + lasts, ARGV[1])
  if redis.call('PTTL', key) < lasts then redis.call('PEXPIRE', key, lasts) end
end
return waits
"""


class _Held(NamedTuple):
    """What a run has to give back."""

    tenant: str
    bounds: Sequence[Bound]


class RedisPlaces:
    """The places of all processes that use one Redis, or one cluster."""

    def __init__(
        self, url: str, *, timeout_seconds: float, prefix: str = "tr", lease_seconds: float = _LEASE_SECONDS
    ) -> None:
        """Prepare; nothing is connected yet.

        Args:
            url: As of the store.
            timeout_seconds: Bound on every wait for an answer.
            prefix: Of all keys.
            lease_seconds: How long a place outlives the process that took it.

        Raises:
            StoreSetupError: The URL cannot be used.
        """
        address = Address.parse(url, timeout_seconds=timeout_seconds)
        self._wire = Wire(address, _hear_nothing, timeout_seconds=timeout_seconds)
        self._timeout_seconds = timeout_seconds
        self._prefix = prefix
        self._lease_seconds = lease_seconds
        self._held: dict[str, _Held] = {}
        self._keeping: asyncio.Task[None] | None = None

    async def take(self, run_id: str, tenant: str, bounds: Sequence[Bound]) -> Sequence[float]:
        """See `Places.take`.

        Raises:
            StoreUnavailableError: No answer in time.
            StoreError: A refusal.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                (waits,) = await self._wire.ask([self._command(run_id, tenant, bounds)])
        except TimeoutError:
            raise StoreUnavailableError from None
        if not any(waits):
            self._hold(run_id, _Held(tenant, [bound for bound in bounds if bound.seconds is None]))
        return [wait / 1000 for wait in waits]

    def give_back(self, run_id: str, tenant: str, bounds: Sequence[Bound]) -> None:
        """See `Places.give_back`. Nobody waits for it: what gets lost is free when its lease is over."""
        if self._held.pop(run_id, None) is not None:
            self._wire.post([(b"ZREM", self._key(tenant, bound), run_id.encode()) for bound in bounds])

    async def aclose(self) -> None:
        """Close the connection."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        await self._wire.aclose()

    def _hold(self, run_id: str, held: _Held) -> None:
        if held.bounds:
            self._held[run_id] = held
            if self._keeping is None or self._keeping.done():
                self._keeping = asyncio.get_running_loop().create_task(self._keep(), name="tailrace-limits")

    async def _keep(self) -> None:
        """Keep the places of runs that go on."""
        while self._held:
            await asyncio.sleep(self._lease_seconds / _RENEWALS)
            # Those that are given back meanwhile are not taken again: commands keep their order.
            kept = [
                self._command(run_id, held.tenant, [Bound(key=bound.key, limit=-1) for bound in held.bounds])
                for run_id, held in self._held.items()
            ]
            with contextlib.suppress(StoreError):
                await self._wire.ask(kept)

    def _command(self, run_id: str, tenant: str, bounds: Sequence[Bound]) -> Command:
        arguments: list[bytes] = []
        for bound in bounds:
            lasts_ms = round((self._lease_seconds if bound.seconds is None else bound.seconds) * 1000)
            arguments += (b"%d" % bound.limit, b"%d" % lasts_ms)
        keys = [self._key(tenant, bound) for bound in bounds]
        return (b"EVAL", _TAKE, b"%d" % len(keys), *keys, run_id.encode(), *arguments)

    def _key(self, tenant: str, bound: Bound) -> bytes:
        return f"{self._prefix}:limits:{{{_digest(tenant)}}}:{_digest(bound.key)}".encode()


def _hear_nothing(_channel: bytes, _payload: bytes | None) -> None:
    """Nothing is subscribed to."""


def _digest(name: str) -> str:
    """A name of any length and with any characters in it, as a part of a key."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]
