"""Admission: what is refused, with which code, and when to come again."""

import logging
import math
from datetime import UTC, datetime

import pytest

from tailrace.chat.identity.contract import LOCAL, Identity
from tailrace.chat.limits.admission import (
    Admissions,
    BudgetExceededError,
    Quotas,
    RateLimitedError,
    TooManyRunsError,
)
from tailrace.chat.limits.places import MemoryPlaces
from tailrace.chat.settings import Settings
from tailrace.errors import NoRunError, StoreUnavailableError
from tailrace.testing import FakeClock
from tailrace.web.errors import error_response
from tailrace.wire.dialects.native import DIALECT

ANN = Identity(tenant="acme", subject="ann")
BOB = Identity(tenant="acme", subject="bob")
EVE = Identity(tenant="other", subject="ann")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def test_a_user_who_starts_too_much_is_told_when_to_come_again(clock: FakeClock) -> None:
    limits = Admissions(Quotas(user_runs_per_minute=2), clock=clock)
    await limits.admit(ANN, "1")
    clock.advance(15)
    await limits.admit(ANN, "2")

    with pytest.raises(RateLimitedError, match="Too many runs began within a minute: 2 may") as refused:
        await limits.admit(ANN, "3")

    assert (refused.value.code, refused.value.status, refused.value.retry_after_seconds) == ("rate_limited", 429, 45)
    await limits.admit(BOB, "4")
    clock.advance(45)
    await limits.admit(ANN, "3")


async def test_what_one_tenant_has_started_does_not_count_for_another(clock: FakeClock) -> None:
    limits = Admissions(Quotas(tenant_runs_per_minute=2), clock=clock)
    await limits.admit(ANN, "1")
    await limits.admit(BOB, "2")

    with pytest.raises(RateLimitedError):
        await limits.admit(ANN, "3")

    await limits.admit(EVE, "4")


async def test_users_of_one_name_in_different_tenants_are_different(clock: FakeClock) -> None:
    limits = Admissions(Quotas(user_runs_per_minute=1, user_live_runs=1), clock=clock)

    await limits.admit(ANN, "1")
    await limits.admit(EVE, "2")


@pytest.mark.parametrize("quotas", [Quotas(user_live_runs=2), Quotas(tenant_live_runs=2)])
async def test_a_run_that_ends_makes_room_for_another(quotas: Quotas) -> None:
    limits = Admissions(quotas)
    first = await limits.admit(ANN, "1")
    await limits.admit(ANN, "2")

    with pytest.raises(TooManyRunsError, match="Too many runs are under way: 2 may be") as refused:
        await limits.admit(ANN, "3")
    await first.release()
    await first.release()
    await limits.admit(ANN, "3")

    assert (refused.value.code, refused.value.status, refused.value.retry_after_seconds) == ("too_many_runs", 429, 2)
    with pytest.raises(TooManyRunsError):
        await limits.admit(ANN, "4")


async def test_a_refused_run_counts_for_nothing(clock: FakeClock) -> None:
    limits = Admissions(Quotas(user_runs_per_minute=3, user_live_runs=1), clock=clock)
    first = await limits.admit(ANN, "1")
    for number in range(10):
        with pytest.raises(TooManyRunsError):
            await limits.admit(ANN, f"refused {number}")
    await first.release()

    for run_id in ("2", "3"):
        await (await limits.admit(ANN, run_id)).release()

    with pytest.raises(RateLimitedError):
        await limits.admit(ANN, "4")


async def test_without_quotas_everything_is_admitted() -> None:
    limits = Admissions(Quotas())

    for number in range(1_000):
        await limits.admit(LOCAL, str(number))


async def test_the_retry_of_a_refusal_stands_in_the_answers_header(clock: FakeClock) -> None:
    limits = Admissions(Quotas(user_runs_per_minute=1), clock=clock)
    await limits.admit(ANN, "1")
    clock.advance(0.5)

    with pytest.raises(RateLimitedError) as refused:
        await limits.admit(ANN, "2")
    answer = error_response(refused.value, DIALECT)

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")


# The budget ----------------------------------------------------------------------------------------------------------


class Meter:
    """Has counted so many tokens; remembers who asked."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.asked: list[str] = []

    async def spent(self, tenant: str) -> int:
        self.asked.append(tenant)
        return self.tokens


@pytest.mark.parametrize(
    ("now", "seconds"),
    [
        (datetime(2026, 2, 28, 23, 59, 0, tzinfo=UTC), 60),
        (datetime(2026, 12, 31, 12, 0, 0, tzinfo=UTC), 12 * 3_600),
        (datetime(2026, 1, 1, 0, 0, 0, tzinfo=UTC), 24 * 3_600),
    ],
)
async def test_a_tenant_without_tokens_is_refused_until_the_month_ends(now: datetime, seconds: int) -> None:
    clock = FakeClock(time_ms=round(now.timestamp() * 1000))
    limits = Admissions(Quotas(tenant_monthly_tokens=100), spent=Meter(100).spent, clock=clock)

    with pytest.raises(BudgetExceededError) as refused:
        await limits.admit(ANN, "1")

    assert (refused.value.code, refused.value.status) == ("budget_exceeded", 429)
    assert refused.value.retry_after_seconds is not None
    assert math.isclose(refused.value.retry_after_seconds, seconds)


async def test_tokens_are_counted_again_after_a_few_seconds(clock: FakeClock) -> None:
    meter = Meter(99)
    limits = Admissions(Quotas(tenant_monthly_tokens=100), spent=meter.spent, clock=clock)
    for run_id in "123":
        await limits.admit(ANN, run_id)
    await limits.admit(EVE, "4")
    meter.tokens = 100
    clock.advance(5)

    with pytest.raises(BudgetExceededError):
        await limits.admit(ANN, "5")

    assert meter.asked == ["acme", "other", "acme"]


async def test_a_run_without_budget_takes_no_place(clock: FakeClock) -> None:
    meter = Meter(100)
    limits = Admissions(Quotas(user_runs_per_minute=1, tenant_monthly_tokens=100), spent=meter.spent, clock=clock)
    with pytest.raises(BudgetExceededError):
        await limits.admit(ANN, "1")
    meter.tokens = 0
    clock.advance(5)

    await limits.admit(ANN, "2")


async def test_nobody_is_asked_for_tokens_where_there_is_no_budget() -> None:
    meter = Meter(100)

    await Admissions(Quotas(), spent=meter.spent).admit(ANN, "1")

    assert meter.asked == []


# What is around it ---------------------------------------------------------------------------------------------------


class LostPlaces(MemoryPlaces):
    """Nobody can say."""

    async def take(self, run_id: str, tenant: str, bounds: object) -> list[float]:
        raise StoreUnavailableError("gone")


async def test_where_nobody_can_count_runs_are_admitted_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = Admissions(Quotas(user_live_runs=1), places=LostPlaces(FakeClock()))

    with caplog.at_level(logging.WARNING, "tailrace"):
        for run_id in "123":
            await (await limits.admit(ANN, run_id)).release()

    assert [record.message for record in caplog.records] == [
        "runs start without being counted: the log store is unavailable: gone"
    ]


async def test_it_is_asked_from_inside_a_run() -> None:
    with pytest.raises(NoRunError):
        await Admissions(Quotas()).admit(ANN)


async def test_the_quotas_are_those_of_the_settings() -> None:
    limits = Admissions.of(
        Settings(user_live_runs=1, tenant_live_runs=0, user_runs_per_minute=0, tenant_runs_per_minute=0)
    )
    await limits.admit(LOCAL, "1")

    with pytest.raises(TooManyRunsError):
        await limits.admit(LOCAL, "2")
    await limits.aclose()


def test_every_quota_is_a_setting() -> None:
    assert set(Quotas.__struct_fields__) <= Settings.model_fields.keys()
