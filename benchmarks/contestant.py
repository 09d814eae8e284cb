"""What a contestant does: bring what sources yield to readers, as SSE frames."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator

from benchmarks.load import Reader

__all__ = ["Contestant"]


class Contestant(ABC):
    """One process's side of it: the process that produces, the one that reads, or one that does both."""

    @abstractmethod
    async def start(self, run_id: str, source: AsyncGenerator[str]) -> None:
        """Start a run; returns when readers may come."""

    @abstractmethod
    async def read(self, run_id: str, reader: Reader) -> None:
        """Read one run live, to its end."""

    @abstractmethod
    async def aclose(self) -> None:
        """Wait until all runs started here have ended and are stored, then close."""
