"""How a process learns that it ends. WSGI has no lifespan, so SIGTERM and the interpreter's exit have to tell."""

import atexit
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["TerminationHook", "at_exit"]


def at_exit(function: Callable[[], object]) -> None:
    """Call a function when the interpreter exits, while other threads still run.

    The threads of a pool, such as gunicorn's, are waited for before `atexit` has its turn, and they wait for streams.
    """
    register: Callable[[Callable[[], object]], object] = getattr(threading, "_register_atexit", atexit.register)
    register(function)


class TerminationHook:
    """Stands in front of what handles SIGTERM."""

    def __init__(self, begin: Callable[[Callable[[], object]], None]) -> None:
        """Prepare.

        Args:
            begin: Called in the signal's handler: must not wait. Calls its argument when all is done.
        """
        self._begin = begin
        self._previous: Any = None
        self._handler = self._handle

    def install(self) -> None:
        """Take the signal over; only the main thread may, elsewhere this does nothing."""
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGTERM)
            if previous != self._handler:
                self._previous = previous
                signal.signal(signal.SIGTERM, self._handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if callable(self._previous):
            # A server that handles it lets its requests finish, which they do now.
            self._begin(lambda: None)
            self._previous(number, frame)
        elif self._previous == signal.SIG_DFL:
            # A second one ends the process at once.
            signal.signal(number, signal.SIG_DFL)
            self._begin(lambda: os.kill(os.getpid(), number))
