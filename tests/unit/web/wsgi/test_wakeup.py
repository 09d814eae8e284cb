"""One thread wakes another."""

import threading
import time

import pytest

from tailrace.web.wsgi.wakeup import new_wakeup, start_thread

BOUND_SECONDS = 20.0


@pytest.mark.parametrize("times", [1, 3])
def test_a_wake_that_comes_before_the_wait_is_not_lost_and_many_are_as_one(times: int) -> None:
    wakeup = new_wakeup()
    for _ in range(times):
        wakeup.wake()

    began = time.monotonic()
    wakeup.wait(BOUND_SECONDS)
    first_seconds = time.monotonic() - began
    wakeup.wait(0.01)
    second_seconds = time.monotonic() - began - first_seconds

    assert first_seconds < BOUND_SECONDS / 2
    assert second_seconds >= 0.01


def test_a_wake_comes_from_another_thread() -> None:
    wakeup = new_wakeup()
    woken: list[str] = []

    def work() -> None:
        woken.append(threading.current_thread().name)
        wakeup.wake()

    start_thread(work)
    while not woken:
        wakeup.wait(BOUND_SECONDS)

    assert woken == ["tailrace-loop"]
