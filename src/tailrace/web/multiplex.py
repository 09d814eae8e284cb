"""Several runs on one stream, so that a browser with many tabs needs one connection: `GET /feed`.

The ids name their run, so each event says where it belongs. With threads, runs that begin there later are joined as
they begin, which is how an idle tab learns of them.
"""

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from typing import NamedTuple

from tailrace.errors import RunNotFoundError, StoreError
from tailrace.events import TERMINALS, Entry
from tailrace.runtime.follower import Follower
from tailrace.runtime.runs import Runs
from tailrace.runtime.topics import thread_topic
from tailrace.wire.dialects import native
from tailrace.wire.dialects.contract import Encoder

__all__ = ["FEED_RUNS", "FEED_THREADS", "RunsEncoder", "RunsFeed", "Tagged"]

#: How many runs one stream may carry at a time.
FEED_RUNS = 32
#: How many threads one stream may listen to.
FEED_THREADS = 32


class Tagged(NamedTuple):
    """An entry and the run it is of."""

    run_id: str
    entry: Entry


class RunsEncoder:
    """The native dialect for entries of many runs."""

    def __init__(self) -> None:
        """No run yet."""
        self._encoders: dict[str, Encoder] = {}

    def encode(self, tagged: Tagged) -> list[bytes]:
        """The frames of an entry; their ids are `<run_id>:<seq>`."""
        encoder = self._encoders.get(tagged.run_id)
        if encoder is None:
            encoder = self._encoders[tagged.run_id] = native.DIALECT.encoder(run_id=tagged.run_id, ids="run")
        if isinstance(tagged.entry.event, TERMINALS):
            # A thread may be listened to for days, and its runs are many.
            del self._encoders[tagged.run_id]
        return encoder.encode(tagged.entry)


class RunsFeed:
    """Follows several runs for one reader; closed by whoever opened it.

    Attributes:
        ended: Every run has ended, and no thread is listened to.
        was_reset: Never; a cursor that is ahead of its run begins that run again.
    """

    def __init__(
        self, runs: Runs, cursors: Mapping[str, int], *, owner: str, threads: Collection[str] = (), merging: bool = True
    ) -> None:
        """Join the runs, each after its cursor; they were authorized."""
        self.ended = False
        self.was_reset = False
        self._runs = runs
        self._owner = owner
        self._threads = threads
        self._merging = merging
        self._followers: dict[str, Follower] = {
            run_id: runs.follower(run_id, after, merging=merging) for run_id, after in cursors.items()
        }
        self._begun: list[str] = []
        self._news = asyncio.Event()
        self._stop_listening = [runs.store.listen(thread_topic(owner, thread), self._heard) for thread in threads]

    def close(self) -> None:
        """Leave all runs."""
        for stop_listening in self._stop_listening:
            stop_listening()
        for follower in self._followers.values():
            follower.close()
        self._followers.clear()

    async def place(self) -> None:
        """Find the places to read from, and the runs of the threads that are running already.

        Raises:
            RunNotFoundError: One of the runs is gone.
            StoreUnavailableError: The store gave no answer.
        """
        for follower in self._followers.values():
            await follower.place()
        for thread in self._threads:
            active = await self._runs.active(owner=self._owner, thread=thread)
            self._begun.extend(info.id for info in active)

    async def read(self, limit: int = 1_024) -> list[Tagged]:
        """What is ready, run by run, each in order."""
        self._news.clear()
        await self._join_begun()
        ready: list[Tagged] = []
        for run_id, follower in tuple(self._followers.items()):
            with contextlib.suppress(RunNotFoundError):
                ready += [Tagged(run_id, entry) for entry in await follower.read(limit)]
                if not follower.ended:
                    continue
            follower.close()
            del self._followers[run_id]
        self.ended = not self._followers and not self._threads
        return ready

    async def wait(self) -> None:
        """Wait until one of the runs has more, another begins, or `wake` was called."""
        waits = [asyncio.create_task(follower.wait()) for follower in self._followers.values()]
        waits.append(asyncio.create_task(self._wait_for_news()))
        try:
            await asyncio.wait(waits, return_when="FIRST_COMPLETED")
        finally:
            for task in waits:
                task.cancel()
            await asyncio.wait(waits)

    def wake(self) -> None:
        """Let `wait` return."""
        self._news.set()

    async def _wait_for_news(self) -> None:
        await self._news.wait()

    def _heard(self, run_id: str) -> None:
        """A run has begun in one of the threads."""
        if len(self._begun) < FEED_RUNS:
            self._begun.append(run_id)
        self._news.set()

    async def _join_begun(self) -> None:
        begun, self._begun = self._begun, []
        for run_id in begun:
            if run_id in self._followers or len(self._followers) >= FEED_RUNS:
                continue
            with contextlib.suppress(StoreError):
                await self._runs.authorize(run_id, self._owner)
                self._followers[run_id] = self._runs.follower(run_id, merging=self._merging)
