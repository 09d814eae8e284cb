"""Several workers on one store."""

from typing import Protocol

from tailrace.runtime.runs import Runs

__all__ = ["OpenRuns"]


class OpenRuns(Protocol):
    """Opens a `Runs` on the store of the test; the fixture of the same name closes it."""

    def __call__(self, *, max_events: int = ..., max_bytes: int = ..., **bounds: float) -> Runs:
        """Open it with these bounds; `bounds` are fields of `Limits`."""
        ...
