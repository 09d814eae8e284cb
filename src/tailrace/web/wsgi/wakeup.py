"""How the event loop's thread wakes a server's thread that waits for it; under gevent, a greenlet."""

import importlib
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Wakeup", "new_wakeup", "start_thread"]


class Wakeup(Protocol):
    """Made by the one who waits; whatever it waits for is true before it is woken, and looked at after every wait."""

    def wake(self) -> None:
        """Let `wait` return, now or when it is called; from any thread."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait until woken, at most so long."""
        ...


class _ThreadWakeup:
    def __init__(self) -> None:
        self._event = threading.Event()

    def wake(self) -> None:
        self._event.set()

    def wait(self, seconds: float) -> None:
        self._event.wait(seconds)
        self._event.clear()


class _GreenletWakeup:
    """A greenlet belongs to the loop of its thread, so it is woken through that loop."""

    def __init__(self) -> None:
        gevent: Any = importlib.import_module("gevent")
        self._event: Any = importlib.import_module("gevent.event").Event()
        self._loop: Any = gevent.get_hub().loop

    def wake(self) -> None:
        self._loop.run_callback_threadsafe(self._event.set)

    def wait(self, seconds: float) -> None:
        self._event.wait(seconds)
        self._event.clear()


def new_wakeup() -> Wakeup:
    """A wakeup for the caller."""
    return _ThreadWakeup() if _patches_of_gevent() is None else _GreenletWakeup()


def start_thread(target: Callable[[], None]) -> None:
    """Run `target` on a daemon thread of the system, also where `threading` makes greenlets.

    As a greenlet among those of the requests, an event loop with a lot to do would keep them all from their turn.
    """
    patches = _patches_of_gevent()
    if patches is None:
        threading.Thread(target=target, name="tailrace-loop", daemon=True).start()
    else:
        patches.get_original("_thread", "start_new_thread")(target, ())


def _patches_of_gevent() -> Any:  # noqa: ANN401  a module of a package that need not be there
    """What gevent has put in place of Python's own; `None` if threads are threads."""
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey if monkey is not None and monkey.is_module_patched("threading") else None
