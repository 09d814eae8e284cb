"""One event loop on a thread of its own, for code that has none. It begins with its first use, so after any fork."""

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, TypeVar

from tailrace.web.wsgi.wakeup import Wakeup, new_wakeup, start_thread

__all__ = ["LoopThread"]

_T = TypeVar("_T")
_Around: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]
#: Between two looks whether the loop is still there; whoever waits is woken long before.
_LOOK_SECONDS = 5.0


class LoopThread:
    """Runs coroutines for other threads."""

    def __init__(self, around: _Around) -> None:
        """Describe it; nothing runs yet.

        Args:
            around: What is entered when the loop begins, and left before it ends.
        """
        self._around = around
        self._life: _Life | None = None
        # Held for a moment and never while something waits: before gevent has patched it, it is a lock for threads.
        self._beginning = threading.Lock()

    @property
    def running(self) -> bool:
        """Whether the loop has begun, in this process, and not ended."""
        life = self._life
        return life is not None and life.running

    def start(self) -> asyncio.AbstractEventLoop:
        """The loop, which is begun if it is not there. What entering `around` raises is raised here.

        Raises:
            RuntimeError: It was begun before this process was forked off, and stayed behind.
        """
        with self._beginning:
            life = self._life
            if life is None or life.over:
                life = self._life = _Life(self._around)
                start_thread(life.run)
        return life.begun()

    def submit(self, coroutine: Coroutine[Any, Any, object], context: contextvars.Context | None = None) -> None:
        """Begin a coroutine, whose errors are its own affair; in this context, or else in an empty one."""
        try:
            self.start()
        except BaseException:
            coroutine.close()
            raise
        self.soon(lambda: _keep(coroutine, context or contextvars.Context()))

    def call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine and wait for what it returns or raises.

        Raises:
            RuntimeError: Called on the loop's own thread, which would wait for itself; or the loop ended meanwhile.
        """
        try:
            _check_elsewhere(self.start())
        except BaseException:
            coroutine.close()
            raise
        done = new_wakeup()
        tasks: list[asyncio.Task[_T]] = []

        def begin() -> None:
            task = asyncio.get_running_loop().create_task(coroutine)
            tasks.append(task)
            task.add_done_callback(lambda _: done.wake())

        self.soon(begin)
        while not (tasks and tasks[0].done()):
            if not self.running:
                raise RuntimeError("the event loop ended")
            done.wait(_LOOK_SECONDS)
        return tasks[0].result()

    def soon(self, function: Callable[[], object]) -> None:
        """Call a function on the loop; nothing happens if it is not running. Never waits, so it is for signals too."""
        life = self._life
        if life is not None and life.running and life.loop is not None:
            try:
                life.loop.call_soon_threadsafe(function)
            except RuntimeError:
                # It ended between the two lines; then there is nothing left to tell it.
                return

    def stop(self, seconds: float) -> None:
        """Have the loop leave `around` and end; wait for it, at most so long."""
        life = self._life
        if life is not None and life.running:
            ended = life.waiter()
            self.soon(life.stopping.set)
            if not life.over:
                ended.wait(seconds)


class _Life:
    """The loop from its beginning to its end."""

    def __init__(self, around: _Around) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.over = False
        self.stopping = asyncio.Event()
        self._around = around
        self._pid = os.getpid()
        self._error: BaseException | None = None
        self._waiters: list[Wakeup] = []

    @property
    def running(self) -> bool:
        return self.loop is not None and not self.over and self._pid == os.getpid()

    def waiter(self) -> Wakeup:
        """Woken when this begins, and when it ends."""
        wakeup = new_wakeup()
        self._waiters.append(wakeup)
        return wakeup

    def begun(self) -> asyncio.AbstractEventLoop:
        """Wait for the loop to be there.

        Raises:
            BaseException: Whatever it raised instead.
            RuntimeError: It is another process's.
        """
        if self._pid != os.getpid():
            raise RuntimeError(
                "runs were used before the server forked this worker, and their event loop stayed behind: use them in "
                "requests only, or have each worker load the application"
            )
        if self.loop is None:
            wakeup = self.waiter()
            while not (self.over or self.loop):
                wakeup.wait(_LOOK_SECONDS)
        if self._error is not None:
            raise self._error
        if self.loop is None:
            raise RuntimeError("the event loop ended")
        return self.loop

    def run(self) -> None:
        """The thread."""
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001  handed over to the threads that wait
            self._error = error
        finally:
            self.over = True
            self._tell()

    async def _main(self) -> None:
        async with self._around():
            self.loop = asyncio.get_running_loop()
            self._tell()
            await self.stopping.wait()

    def _tell(self) -> None:
        for wakeup in tuple(self._waiters):
            wakeup.wake()


def _check_elsewhere(loop: asyncio.AbstractEventLoop) -> None:
    """Refuse to wait for the loop that this is called on.

    Raises:
        RuntimeError: It is the one.
    """
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        return
    if here is loop:
        raise RuntimeError("this waits for the event loop and so cannot be called on it: await instead")


#: The loop itself holds tasks weakly.
_tasks: set[asyncio.Task[object]] = set()


def _keep(coroutine: Coroutine[Any, Any, object], context: contextvars.Context) -> None:
    task = asyncio.get_running_loop().create_task(coroutine, context=context)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
