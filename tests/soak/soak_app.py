"""What the workers of the soak serve: sources of every kind, and two pages about what the process holds.

A message is `kind words words_per_second`. The run's text is `w1 w2 w3 …`; the kind says how it is produced.
"""

import asyncio
import gc
import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from pathlib import Path
from typing import Literal, cast
from weakref import WeakSet

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tailrace import EventStream, Tailrace
from tailrace.chat.app import create_app
from tailrace.runtime.follower import Follower

__all__ = ["CENSUS", "STATE", "State", "make_app"]

#: Where the two pages are.
STATE = "/soak/state"
CENSUS = "/soak/census"

_Container = dict[object, object] | list[object] | set[object] | deque[object]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """A worker at one moment.

    Attributes:
        tasks: How many of each name there are; one that was given no name goes by its coroutine's.
        followers: Followers that somebody holds, closed or not.
        abandoned: Sources that did not stop when their run ended.
    """

    rss_bytes: int
    fds: int
    threads: int
    tasks: dict[str, int]
    live_runs: int
    streams: int
    followers: int
    abandoned: int


class WatchedTailrace(Tailrace):
    """Remembers its followers for as long as somebody holds them."""

    watched: WeakSet[Follower]

    def follower(self, run_id: str, after: int = 0, *, merging: bool = False) -> Follower:
        """As the original."""
        follower = super().follower(run_id, after, merging=merging)
        self.watched.add(follower)
        return follower


# Sources -------------------------------------------------------------------------------------------------------------


def speak(message: str) -> object:
    """The source that a message asks for."""
    kind, words, words_per_second = message.split()
    return _SOURCES[kind](int(words), 1 / float(words_per_second))


async def _count(words: int, pause_seconds: float) -> AsyncGenerator[str]:
    for number in range(1, words + 1):
        yield f"w{number} "
        await asyncio.sleep(pause_seconds)


def _count_on_a_thread(words: int, pause_seconds: float) -> Generator[str]:
    for number in range(1, words + 1):
        yield f"w{number} "
        time.sleep(pause_seconds)


async def _fail_at_the_end(words: int, pause_seconds: float) -> AsyncGenerator[str]:
    async for word in _count(words, pause_seconds):
        yield word
    raise RuntimeError("a source that was asked to fail")


async def _fail_at_once(words: int, pause_seconds: float) -> AsyncGenerator[str]:
    async for _ in _count(words, pause_seconds):
        raise RuntimeError("a source that was asked to fail at once")
    yield ""


_SOURCES: dict[str, Callable[[int, float], object]] = {
    "async": _count,
    "sync": _count_on_a_thread,
    "fails": _fail_at_the_end,
    "fails-at-once": _fail_at_once,
}


# The application -----------------------------------------------------------------------------------------------------


def __getattr__(name: str) -> object:
    """The application is made when it is asked for, as the tests import this module too."""
    if name == "app":
        return make_app()
    raise AttributeError(name)


def make_app() -> object:
    """The chat application, and beside it what that one has no route for."""
    tail = WatchedTailrace(
        os.environ["CHAOS_STORE"],
        owner=lambda request: request.headers.get("x-owner"),
        lease_seconds=float(os.environ["CHAOS_LEASE_SECONDS"]),
        retention_seconds=float(os.environ["SOAK_RETENTION_SECONDS"]),
    )
    tail.watched = WeakSet()
    pages = _Pages(tail)
    app = create_app(speak, tail)
    app.routes.extend(
        [
            Route("/terms", pages.start_on_terms, methods=["POST"]),
            Route("/bare", pages.stream_without_a_log),
            Route(STATE, pages.state),
            Route(CENSUS, pages.census),
        ]
    )
    return app


class _Pages:
    def __init__(self, tail: WatchedTailrace) -> None:
        self._tail = tail

    async def start_on_terms(self, request: Request) -> Response:
        """`POST /terms?message=`: a run with a time-out, or one that ends when nobody reads it."""
        asked = request.query_params
        on_disconnect: Literal["cancel", "detach"] = "cancel" if asked["on_disconnect"] == "cancel" else "detach"
        return self._tail.stream(
            lambda: speak(asked["message"]),
            thread=asked["thread"],
            on_disconnect=on_disconnect,
            grace_seconds=float(asked["grace_seconds"]),
            timeout=float(asked["timeout"]),
        )

    async def stream_without_a_log(self, request: Request) -> Response:
        """`GET /bare?message=`: a source for one reader."""
        return EventStream(cast("AsyncGenerator[str]", speak(request.query_params["message"])))

    async def state(self, request: Request) -> Response:
        """`GET /soak/state`; with `?collect=1`, after what nobody holds any more is gone."""
        if request.query_params.get("collect"):
            gc.collect()
        return _json(_state(self._tail))

    async def census(self, _: Request) -> Response:
        """`GET /soak/census`: what there is of tailrace in this process."""
        gc.collect()
        return _json(_census())


def _state(tail: WatchedTailrace) -> State:
    resident_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return State(
        rss_bytes=resident_pages * os.sysconf("SC_PAGE_SIZE"),
        fds=len(list(Path("/proc/self/fd").iterdir())),
        threads=threading.active_count(),
        tasks=Counter(_name(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()),
        live_runs=tail.live_count,
        streams=tail.stream_count,
        followers=len(tail.watched),
        abandoned=tail.abandoned_count,
    )


def _name(task: asyncio.Task[object]) -> str:
    name = task.get_name()
    return getattr(task.get_coro(), "__qualname__", name) if name.startswith("Task-") else name


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _census() -> Counter[str]:
    """How many objects of each class of tailrace there are, and how much is in the containers that they hold.

    A container that holds nothing but text and numbers is not known to the garbage collector; its holder knows it.
    """
    found: Counter[str] = Counter()
    things: list[object] = gc.get_objects()
    for thing in things:
        kind = type(thing)
        if _is_ours(kind.__module__):
            name = f"{kind.__module__}.{kind.__qualname__}"
            found[name] += 1
            found[f"in {name}"] += sum(map(len, _containers(thing)))
    for name, module in tuple(sys.modules.items()):
        if _is_ours(name):
            found[f"in {name}"] += sum(len(held) for held in vars(module).values() if _is_container(held))
    return found


def _is_ours(module: object) -> bool:
    return isinstance(module, str) and module.startswith("tailrace.")


def _containers(thing: object) -> Iterator[_Container]:
    held = [*getattr(thing, "__dict__", {}).values(), *gc.get_referents(thing)]
    attributes = getattr(thing, "__dict__", None)
    distinct = {id(value): value for value in held if value is not attributes and _is_container(value)}
    return iter(distinct.values())


def _is_container(value: object) -> bool:
    return isinstance(value, dict | list | set | deque)
