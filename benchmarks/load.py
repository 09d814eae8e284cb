"""The load: paced sources, the same for all contestants, and the table of when what happened to each event.

The table is a file that the processes of one pass share, so that nothing has to be written into the events, and so that
a source and a reader pay the same for it whoever is between them. The clock is the machine's monotonic one.
"""

import asyncio
import math
import mmap
import random
from collections.abc import AsyncGenerator
from pathlib import Path
from time import monotonic

import msgspec

__all__ = ["Load", "Plan", "Reader", "Table"]

_WORDS = ("the ", "answer ", "comes ", "in ", "small ", "pieces ", "of ", "text ")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass does.

    Attributes:
        runs: How many, all at once.
        rate: Events per second of each.
        warmup_seconds: What goes on before anything is measured.
        seconds: What is measured.
        seed: Spreads the runs' phases.
    """

    runs: int
    rate: float
    warmup_seconds: float
    seconds: float
    seed: int = 7

    @property
    def events_per_run(self) -> int:
        """At least as many as a run has until the end of what is measured."""
        return math.ceil((self.warmup_seconds + self.seconds) * self.rate)

    @property
    def phases(self) -> list[float]:
        """When each run says its first word, in seconds from the start."""
        spread = random.Random(self.seed)
        return [spread.random() / self.rate for _ in range(self.runs)]

    @property
    def window(self) -> tuple[float, float]:
        """Begin and end of what is measured, in seconds from the start."""
        return self.warmup_seconds, self.warmup_seconds + self.seconds


class Table:
    """Two times for each event of each run, 0 if it did not happen; event `n` of run `r` is at `r * per_run + n`.

    Attributes:
        yielded: When the source said it.
        ready: When a reader had its frame.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        """Open the file, which `create` has made."""
        size = plan.runs * plan.events_per_run
        with path.open("r+b") as file:
            cells = memoryview(mmap.mmap(file.fileno(), 0)).cast("d")
        self.yielded = cells[:size]
        self.ready = cells[size:]

    @classmethod
    def create(cls, path: Path, plan: Plan) -> "Table":
        """Make the file, in which nothing has happened."""
        path.write_bytes(bytes(2 * 8 * plan.runs * plan.events_per_run))
        return cls(path, plan)


class Load:
    """Makes the sources of a pass. They begin when `begin` is called."""

    def __init__(self, plan: Plan, table: Table) -> None:
        """Prepare; needs a running event loop."""
        self._plan = plan
        self._table = table
        self._phases = plan.phases
        self._begun: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def begin(self, start_at: float) -> None:
        """Let the sources go on at a time of the monotonic clock."""
        self._begun.set_result(start_at)

    async def source(self, run: int) -> AsyncGenerator[str]:
        """A word at each deadline. Deadlines are absolute: a source that is late hurries, and ends in time anyway."""
        start_at = await self._begun
        first_at = start_at + self._phases[run]
        stop_at = start_at + self._plan.window[1]
        interval = 1 / self._plan.rate
        per_run = self._plan.events_per_run
        offset = run * per_run
        yielded = self._table.yielded
        for number in range(per_run):
            delay = first_at + number * interval - monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            now = monotonic()
            if now > stop_at:
                return
            yielded[offset + number] = now
            yield _WORDS[number & 7]


class Reader:
    """Takes the frames of one run, in place of a socket.

    Attributes:
        attached: Set once the reader is where it gets what is new.
        bytes_taken: Of all frames.
    """

    def __init__(self, run: int, plan: Plan, table: Table) -> None:
        """Nothing was taken yet."""
        self.attached = asyncio.Event()
        self.bytes_taken = 0
        self._ready = table.ready
        self._next = run * plan.events_per_run
        self._end = self._next + plan.events_per_run

    def take(self, data: bytes, events: int) -> None:
        """Frames that hold the next `events` words of the source, or none of them.

        Raises:
            ValueError: The source has not said as many.
        """
        self.bytes_taken += len(data)
        now = monotonic()
        first, self._next = self._next, self._next + events
        if self._next > self._end:
            raise ValueError("more events than there are: some came twice")
        for cell in range(first, self._next):
            self._ready[cell] = now
