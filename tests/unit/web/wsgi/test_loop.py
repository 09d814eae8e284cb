"""The event loop of a process that has none."""

import asyncio
import contextvars
import os
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager

import pytest

from tailrace.web.wsgi.loop import LoopThread

BOUND_SECONDS = 20.0


class Around:
    """What is entered and left with the loop."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.error: Exception | None = None

    @asynccontextmanager
    async def __call__(self) -> AsyncGenerator[None]:
        if self.error is not None:
            raise self.error
        self.steps.append("entered")
        try:
            yield
        finally:
            self.steps.append("left")


@pytest.fixture
def around() -> Around:
    return Around()


@pytest.fixture
def loop(around: Around) -> Iterator[LoopThread]:
    loop = LoopThread(around)
    yield loop
    loop.stop(BOUND_SECONDS)


async def thread_name() -> str:
    return threading.current_thread().name


async def failing() -> None:
    raise LookupError("no")


def test_it_begins_with_its_first_use_and_ends_when_told(loop: LoopThread, around: Around) -> None:
    began = (loop.running, list(around.steps))

    name = loop.call(thread_name())
    loop.stop(BOUND_SECONDS)

    assert began == (False, [])
    assert name == "tailrace-loop"
    assert around.steps == ["entered", "left"]
    assert not loop.running


def test_threads_that_begin_it_together_have_one(loop: LoopThread, around: Around) -> None:
    barrier = threading.Barrier(8)
    loops: list[asyncio.AbstractEventLoop] = []

    def start() -> None:
        barrier.wait(BOUND_SECONDS)
        loops.append(loop.start())

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_SECONDS)

    assert len(loops) == 8
    assert len(set(loops)) == 1
    assert around.steps == ["entered"]


def test_what_a_coroutine_raises_is_raised_to_the_caller(loop: LoopThread) -> None:
    with pytest.raises(LookupError, match="no"):
        loop.call(failing())


def test_what_its_beginning_raises_is_raised_and_the_next_use_tries_again(loop: LoopThread, around: Around) -> None:
    around.error = LookupError("closed")

    with pytest.raises(LookupError, match="closed"):
        loop.call(thread_name())
    around.error = None

    assert loop.call(thread_name()) == "tailrace-loop"


def test_it_cannot_wait_for_itself(loop: LoopThread) -> None:
    async def impatient() -> None:
        loop.call(thread_name())

    with pytest.raises(RuntimeError, match="await instead"):
        loop.call(impatient())


def test_a_coroutine_may_have_the_context_of_its_caller(loop: LoopThread) -> None:
    name = contextvars.ContextVar("name", default="nobody")
    found: list[str] = []
    told = threading.Event()

    async def look() -> None:
        found.append(name.get())
        if len(found) == 2:
            told.set()

    name.set("somebody")
    loop.submit(look(), contextvars.copy_context())
    loop.submit(look())

    assert told.wait(BOUND_SECONDS)
    assert found == ["somebody", "nobody"]


def test_after_a_fork_it_is_not_there(loop: LoopThread, monkeypatch: pytest.MonkeyPatch) -> None:
    loop.start()
    parent = os.getpid()

    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: parent + 1)
        running = loop.running
        with pytest.raises(RuntimeError, match="forked"):
            loop.call(thread_name())

    assert not running


def test_what_is_said_to_no_loop_is_lost(loop: LoopThread) -> None:
    loop.soon(lambda: pytest.fail("nobody runs this"))
    loop.stop(BOUND_SECONDS)

    assert not loop.running
