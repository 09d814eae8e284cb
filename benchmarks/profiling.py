"""Where a process spends its time: cProfile, and beside it the garbage collector, which cProfile does not see."""

import cProfile
import gc
import io
import pstats
from time import perf_counter
from typing import Any

__all__ = ["Profile"]

_LINES = 45


class Profile:
    """From `start` to `stop`. The garbage collector's time is within that of the functions that it interrupts."""

    def __init__(self) -> None:
        """Nothing is watched yet."""
        self._profile = cProfile.Profile()
        self._collecting_since = 0.0
        self._collections = [0, 0, 0]
        self._seconds = [0.0, 0.0, 0.0]

    def start(self) -> None:
        """Watch."""
        gc.callbacks.append(self._collecting)
        self._profile.enable()

    def stop(self) -> None:
        """Watch no more."""
        self._profile.disable()
        gc.callbacks.remove(self._collecting)

    def told(self) -> str:
        """The functions that took longest by themselves, and what the garbage collector took."""
        text = io.StringIO()
        for generation, (count, seconds) in enumerate(zip(self._collections, self._seconds, strict=True)):
            text.write(f"garbage collector, generation {generation}: {count} times, {seconds:.2f} s\n")
        pstats.Stats(self._profile, stream=text).strip_dirs().sort_stats("tottime").print_stats(_LINES)
        return text.getvalue()

    def _collecting(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._collecting_since = perf_counter()
            return
        self._collections[info["generation"]] += 1
        self._seconds[info["generation"]] += perf_counter() - self._collecting_since
