"""The fake clock moves when it is told to."""

import pytest

from tailrace.testing import FakeClock


def test_the_clock_stands_still_by_itself() -> None:
    clock = FakeClock(time_ms=5)

    assert [clock.time_ms(), clock.time_ms()] == [5, 5]
    assert [clock.monotonic(), clock.monotonic()] == [0.0, 0.0]


def test_both_times_advance_together() -> None:
    clock = FakeClock(time_ms=5)

    clock.advance(1.5)
    clock.advance(0.25)

    assert clock.time_ms() == 1_755
    assert clock.monotonic() == 1.75


def test_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="back"):
        FakeClock().advance(-1)
