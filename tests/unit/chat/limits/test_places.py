"""Places in memory: who has one, for how long, and what is left when nobody has."""

import pytest

from tailrace.chat.limits.places import Bound, MemoryPlaces
from tailrace.testing import FakeClock

RATE = Bound(key="minute:u", limit=2, seconds=60)
TENANT_RATE = Bound(key="minute:t", limit=3, seconds=60)
LIVE = Bound(key="live:u", limit=1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def places(clock: FakeClock) -> MemoryPlaces:
    return MemoryPlaces(clock)


async def test_places_of_a_rate_are_free_again_when_their_time_is_over(places: MemoryPlaces, clock: FakeClock) -> None:
    assert await places.take("a", "t", [RATE]) == [0]
    clock.advance(20)
    assert await places.take("b", "t", [RATE]) == [0]
    assert await places.take("c", "t", [RATE]) == [40]
    clock.advance(40)
    assert await places.take("c", "t", [RATE]) == [0]
    assert await places.take("d", "t", [RATE]) == [20]


async def test_the_wait_counts_what_a_lower_limit_has_to_see_off(places: MemoryPlaces, clock: FakeClock) -> None:
    for run_id in "abc":
        await places.take(run_id, "t", [TENANT_RATE])
        clock.advance(10)

    lowered = Bound(key=TENANT_RATE.key, limit=1, seconds=60)

    assert await places.take("d", "t", [lowered]) == [50]


async def test_a_place_without_a_time_is_taken_until_it_is_given_back(places: MemoryPlaces, clock: FakeClock) -> None:
    await places.take("a", "t", [LIVE])
    clock.advance(1_000_000)

    (wait,) = await places.take("b", "t", [LIVE])
    places.give_back("a", "t", [LIVE])

    assert wait > 0
    assert await places.take("b", "t", [LIVE]) == [0]


async def test_a_run_takes_a_place_of_every_bound_or_of_none(places: MemoryPlaces) -> None:
    await places.take("a", "t", [LIVE])

    refused = await places.take("b", "t", [RATE, TENANT_RATE, LIVE])
    for run_id in "cd":
        assert not any(await places.take(run_id, "t", [RATE]))

    assert [bool(wait) for wait in refused] == [False, False, True]


async def test_a_run_that_has_its_places_takes_no_others(places: MemoryPlaces) -> None:
    for _ in range(5):
        assert await places.take("a", "t", [RATE, LIVE]) == [0, 0]

    assert await places.take("b", "t", [RATE]) == [0]


async def test_what_was_given_back_twice_is_free_once(places: MemoryPlaces) -> None:
    await places.take("a", "t", [LIVE])
    places.give_back("a", "t", [LIVE])
    await places.take("b", "t", [LIVE])

    places.give_back("a", "t", [LIVE])

    (wait,) = await places.take("c", "t", [LIVE])
    assert wait > 0


async def test_who_does_not_come_again_is_forgotten(places: MemoryPlaces, clock: FakeClock) -> None:
    for user in range(100):
        await places.take("a", "t", [Bound(key=f"minute:{user}", limit=1, seconds=60)])
    clock.advance(61)

    await places.take("b", "t", [RATE])

    assert len(places) == 1
