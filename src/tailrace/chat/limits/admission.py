"""Admission: whether a run may start, by what its user and its tenant have started and used before.

Asked from inside a run's source, before its first event: so a request that only finds a run is never refused, and one
that is refused gets an HTTP status and leaves no run behind.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Self, TypeAlias

import msgspec

from tailrace import current_run
from tailrace.chat.identity.contract import Identity
from tailrace.chat.limits.places import Bound, MemoryPlaces, Places
from tailrace.chat.settings import Settings
from tailrace.errors import StoreError
from tailrace.runtime.clock import Clock, SystemClock
from tailrace.web.errors import RefusedError

__all__ = [
    "Admission",
    "Admissions",
    "BudgetExceededError",
    "Quotas",
    "RateLimitedError",
    "Spent",
    "TooManyRunsError",
]

_logger = logging.getLogger("tailrace")

#: The tokens that a tenant has used since the month began, in UTC.
Spent: TypeAlias = Callable[[str], Awaitable[int]]

_MINUTE_SECONDS = 60.0
#: When a run ends is not known; whoever asks again so soon costs little.
_LIVE_RETRY_SECONDS = 2.0
_LONGEST_RETRY_SECONDS = 86_400.0
#: For so long a month's tokens are not counted again, and of so many tenants at most.
_COUNT_SECONDS = 5.0
_COUNTED_TENANTS = 1_000
#: A run that cannot be counted waits no longer than this for its start.
_TIMEOUT_SECONDS = 1.0


class RateLimitedError(RefusedError):
    """Too many runs were started lately; free again in `retry_after_seconds`."""

    code: ClassVar[str] = "rate_limited"
    retryable: ClassVar[bool] = True


class TooManyRunsError(RefusedError):
    """Too many runs are under way."""

    code: ClassVar[str] = "too_many_runs"
    retryable: ClassVar[bool] = True


class BudgetExceededError(RefusedError):
    """The tenant's tokens of this month are used up."""

    code: ClassVar[str] = "budget_exceeded"


class Quotas(msgspec.Struct, frozen=True, kw_only=True):
    """How much is allowed; 0 is any number. The settings have the same names."""

    user_runs_per_minute: int = 0
    tenant_runs_per_minute: int = 0
    user_live_runs: int = 0
    tenant_live_runs: int = 0
    tenant_monthly_tokens: int = 0


class Admission:
    """A run that was admitted."""

    def __init__(self, free: Callable[[], None]) -> None:
        """Take what gives its places back."""
        self._free = free

    async def release(self) -> None:
        """Give the run's places back; it has ended, or never began. Once more does nothing."""
        self._free()


class Admissions:
    """Admits runs. Processes that share a Redis count together, others each for itself."""

    def __init__(
        self, quotas: Quotas, *, places: Places | None = None, spent: Spent | None = None, clock: Clock | None = None
    ) -> None:
        """Bring the parts together.

        Args:
            quotas: How much is allowed.
            places: Where runs are counted; by default in this process.
            spent: Counts tokens; without it there is no budget.
            clock: Tells the time.
        """
        self._quotas = quotas
        self._clock = clock or SystemClock()
        self._places = MemoryPlaces(self._clock) if places is None else places
        self._spent = spent
        self._counts: dict[str, tuple[float, int]] = {}
        self._uncounted = False

    @classmethod
    def of(cls, settings: Settings, *, spent: Spent | None = None) -> Self:
        """The limits that are set, counted in the Redis that keeps the runs if one does.

        Raises:
            StoreSetupError: The URL of that Redis cannot be used.
        """
        quotas = Quotas(**{name: getattr(settings, name) for name in Quotas.__struct_fields__})
        if settings.store_scheme not in {"redis", "rediss"}:
            return cls(quotas, spent=spent)
        from tailrace.chat.limits.redis import RedisPlaces

        places = RedisPlaces(settings.store.get_secret_value(), timeout_seconds=_TIMEOUT_SECONDS)
        return cls(quotas, places=places, spent=spent)

    async def admit(self, identity: Identity, run_id: str | None = None) -> Admission:
        """Admit a run, which has to be released when it has ended.

        If nobody can say how many there are, it is admitted: that is so only while the store is away, which refuses
        new runs by itself before anybody asks here.

        Args:
            identity: Whose run it is.
            run_id: The run; by default the one that this is called from.

        Raises:
            RateLimitedError: Too many were started in the last minute.
            TooManyRunsError: Too many are under way.
            BudgetExceededError: The month's tokens are used up.
            NoRunError: No run id was given, and this is called outside a run.
        """
        run_id = current_run().run_id if run_id is None else run_id
        await self._check_budget(identity.tenant)
        rates, live = self._bounds(identity)
        try:
            waits = await self._places.take(run_id, identity.tenant, [*rates, *live])
        except StoreError as error:
            self._tell_uncounted(error)
            return Admission(lambda: None)
        self._uncounted = False
        _refuse(rates, waits[: len(rates)], live, waits[len(rates) :])
        return Admission(lambda: self._places.give_back(run_id, identity.tenant, live))

    async def aclose(self) -> None:
        """End; runs have ended before."""
        await self._places.aclose()

    def _bounds(self, identity: Identity) -> tuple[list[Bound], list[Bound]]:
        """On what a run starts, and on what goes on."""
        quotas = self._quotas
        who = {"user": identity.owner, "tenant": identity.tenant}
        rates = {"user": quotas.user_runs_per_minute, "tenant": quotas.tenant_runs_per_minute}
        live = {"user": quotas.user_live_runs, "tenant": quotas.tenant_live_runs}
        return (
            [
                Bound(key=f"minute:{kind}:{who[kind]}", limit=limit, seconds=_MINUTE_SECONDS)
                for kind, limit in rates.items()
                if limit
            ],
            [Bound(key=f"live:{kind}:{who[kind]}", limit=limit) for kind, limit in live.items() if limit],
        )

    async def _check_budget(self, tenant: str) -> None:
        budget = self._quotas.tenant_monthly_tokens
        if budget and self._spent is not None and await self._count(tenant, self._spent) >= budget:
            raise BudgetExceededError(
                "The tokens of this month are used up.",
                status=429,
                retry_after_seconds=min(_LONGEST_RETRY_SECONDS, self._rest_of_month_seconds()),
            )

    async def _count(self, tenant: str, spent: Spent) -> int:
        now = self._clock.monotonic()
        counted_at, tokens = self._counts.get(tenant, (-_COUNT_SECONDS, 0))
        if now - counted_at >= _COUNT_SECONDS:
            tokens = await spent(tenant)
            if len(self._counts) >= _COUNTED_TENANTS:
                self._counts.clear()
            self._counts[tenant] = (now, tokens)
        return tokens

    def _rest_of_month_seconds(self) -> float:
        now = datetime.fromtimestamp(self._clock.time_ms() / 1000, UTC)
        begun = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        # 32 days on is always in the next month, whose first day is what is looked for.
        return ((begun + timedelta(days=32)).replace(day=1) - now).total_seconds()

    def _tell_uncounted(self, error: StoreError) -> None:
        if not self._uncounted:
            _logger.warning("runs start without being counted: %s", error)
        self._uncounted = True


def _refuse(
    rates: Sequence[Bound], rate_waits: Sequence[float], live: Sequence[Bound], live_waits: Sequence[float]
) -> None:
    """Refuse by the bound that is full for the longest time.

    Raises:
        RateLimitedError: One on what starts.
        TooManyRunsError: One on what goes on.
    """
    wait, rate = max(zip(rate_waits, rates, strict=True), key=lambda found: found[0], default=(0.0, None))
    if wait and rate is not None:
        reason = f"Too many runs began within a minute: {rate.limit} may."
        raise RateLimitedError(reason, status=429, retry_after_seconds=wait)
    full = [bound.limit for bound, wait in zip(live, live_waits, strict=True) if wait]
    if full:
        reason = f"Too many runs are under way: {min(full)} may be."
        raise TooManyRunsError(reason, status=429, retry_after_seconds=_LIVE_RETRY_SECONDS)
