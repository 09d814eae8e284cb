"""A lane: one thread with one SQLite connection, which does the jobs of one event loop in the order they came.

Jobs that wait are done in one transaction and answered by one call into the loop. What a job may not do (`StoreError`)
is told to its caller and leaves the others alone.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from tailrace.errors import StoreError, StoreUnavailableError
from tailrace.stores.sqlite.file import transaction

__all__ = ["Act", "Between", "Lane"]

_T = TypeVar("_T")

#: What a job does, inside a transaction. It raises `StoreError` before it has changed anything or not at all, and it
#: changes nothing but the database, because it is done again if another job has spoiled the transaction.
Act: TypeAlias = Callable[[sqlite3.Connection], _T]
#: Called in the thread after every transaction, and again when the seconds it returned have passed without a job.
Between: TypeAlias = Callable[[sqlite3.Connection], float | None]

#: More than this many jobs are not done in one transaction, so that the first of them need not wait for long.
_JOBS_TOGETHER = 64
_NOT_OPEN = "the store is not open"


class _Job(NamedTuple):
    """What to do, whom to answer, and what to call in the loop with the result, whether or not anybody still waits."""

    act: Act[Any]
    future: asyncio.Future[Any] | None
    then: Callable[[Any], None] | None


class _Outcome(NamedTuple):
    job: _Job
    result: Any
    error: Exception | None


class Lane:
    """Does jobs. All methods are called in the event loop in which it was started."""

    def __init__(self, name: str, *, begin: str, between: Between) -> None:
        """Prepare; `start` opens the connection.

        Args:
            name: Of the thread.
            begin: The statement that begins a transaction.
            between: What the thread does when it has no job.
        """
        self._name = name
        self._begin = begin
        self._between = between
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopping = False

    async def start(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """Start the thread and connect in it; passes on what `connect` raises."""
        self._stopping = False
        self._jobs = queue.SimpleQueue()
        connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._thread = threading.Thread(target=self._run, args=(connect, connected), name=self._name, daemon=True)
        self._thread.start()
        await connected

    async def do(self, act: Act[_T], then: Callable[[_T], None] | None = None) -> _T:
        """Do a job; `then` is called in the loop with its result, even if this await is cancelled meanwhile.

        Raises:
            StoreUnavailableError: The lane is not running, or the transaction failed.
        """
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._put(_Job(act, future, then))
        return await future

    def post(self, act: Act[None]) -> None:
        """Do a job of which nobody needs to know."""
        with contextlib.suppress(StoreUnavailableError):
            self._put(_Job(act, None, None))

    async def stop(self) -> None:
        """Do the jobs that wait, then disconnect and end the thread."""
        thread = self._thread
        if thread is None:
            return
        if not self._stopping:
            self._stopping = True
            self._jobs.put(None)
        await asyncio.to_thread(thread.join)

    def _put(self, job: _Job) -> None:
        # A thread is not alive, either, in a process that was forked after it was started.
        if self._stopping or self._thread is None or not self._thread.is_alive():
            raise StoreUnavailableError(_NOT_OPEN)
        self._jobs.put(job)

    # In the thread ---------------------------------------------------------------------------------------------------

    def _run(self, connect: Callable[[], sqlite3.Connection], connected: asyncio.Future[None]) -> None:
        started = _Job(_nothing, connected, None)
        loop = connected.get_loop()
        try:
            db = connect()
        except Exception as error:  # noqa: BLE001  whatever it is, `start` raises it
            _answer(loop, [_Outcome(started, None, error)])
            return
        try:
            _answer(loop, [_Outcome(started, None, None)])
            self._serve(db, loop)
        finally:
            self._stopping = True
            db.close()
            _answer(loop, [_Outcome(job, None, StoreUnavailableError(_NOT_OPEN)) for job in self._left()])

    def _serve(self, db: sqlite3.Connection, loop: asyncio.AbstractEventLoop) -> None:
        more = True
        while more:
            wait_seconds = self._between(db)
            jobs, more = self._take(wait_seconds)
            if jobs:
                more = _answer(loop, self._do_all(db, jobs)) and more

    def _take(self, wait_seconds: float | None) -> tuple[list[_Job], bool]:
        """The jobs that wait, after waiting for the first; False if they are the last."""
        jobs: list[_Job] = []
        with contextlib.suppress(queue.Empty):
            job = self._jobs.get(timeout=wait_seconds)
            while job is not None:
                jobs.append(job)
                if len(jobs) == _JOBS_TOGETHER:
                    return jobs, True
                job = self._jobs.get_nowait()
            return jobs, False
        return jobs, True

    def _do_all(self, db: sqlite3.Connection, jobs: Sequence[_Job]) -> list[_Outcome]:
        try:
            with transaction(db, self._begin):
                return [_attempt(db, job) for job in jobs]
        except sqlite3.OperationalError as error:
            # The disk, or another process: the same for each of them.
            return [_Outcome(job, None, StoreUnavailableError(str(error))) for job in jobs]
        except Exception as error:  # noqa: BLE001  whatever it is, it is the fault of one job, whose caller is told
            if len(jobs) > 1:
                return [outcome for job in jobs for outcome in self._do_all(db, [job])]
            told = StoreUnavailableError(str(error)) if isinstance(error, sqlite3.Error) else error
            return [_Outcome(jobs[0], None, told)]

    def _left(self) -> Iterator[_Job]:
        """The jobs that nobody will do."""
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    yield job


def _nothing(_: sqlite3.Connection) -> None:
    """What the job of connecting does when it is done."""


def _attempt(db: sqlite3.Connection, job: _Job) -> _Outcome:
    if job.future is not None and job.future.cancelled():
        return _Outcome(job._replace(then=None), None, None)
    try:
        return _Outcome(job, job.act(db), None)
    except StoreError as error:
        return _Outcome(job, None, error)


def _answer(loop: asyncio.AbstractEventLoop, outcomes: Sequence[_Outcome]) -> bool:
    """Have the callers told; False if the loop was closed before the store, so that nobody waits any more."""
    try:
        loop.call_soon_threadsafe(_settle, outcomes)
    except RuntimeError:
        return False
    return True


def _settle(outcomes: Sequence[_Outcome]) -> None:
    """Tell the callers, in the loop."""
    for job, result, error in outcomes:
        if job.future is None or job.future.done():
            continue
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)
    for job, result, error in outcomes:
        if error is None and job.then is not None:
            job.then(result)
