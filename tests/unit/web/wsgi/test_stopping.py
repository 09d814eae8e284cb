"""A process that is told to end."""

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tailrace.web.wsgi.stopping import TerminationHook


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """Put back afterwards."""
    previous = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, previous)


def test_the_drain_begins_and_the_server_is_told_at_once() -> None:
    steps: list[str] = []

    def server(number: int, frame: object) -> None:
        steps.append("server")

    signal.signal(signal.SIGTERM, server)
    hook = TerminationHook(lambda _: steps.append("drain"))
    hook.install()
    hook.install()

    signal.raise_signal(signal.SIGTERM)

    assert steps == ["drain", "server"]


def test_where_nobody_handles_it_the_process_ends_after_the_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []

    def kill(pid: int, number: int) -> None:
        killed.append((pid, number))

    monkeypatch.setattr("os.kill", kill)
    begun: list[Callable[[], object]] = []
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    TerminationHook(begun.append).install()

    signal.raise_signal(signal.SIGTERM)
    killed_before = list(killed)
    begun[0]()

    assert killed_before == []
    assert [number for _, number in killed] == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_another_thread_takes_no_signal_over() -> None:
    before: Any = signal.getsignal(signal.SIGTERM)

    thread = threading.Thread(target=TerminationHook(lambda _: None).install)
    thread.start()
    thread.join()

    assert signal.getsignal(signal.SIGTERM) == before
