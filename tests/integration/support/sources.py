"""Sources that a test can count, hold back and watch."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from typing import Any

from tailrace.events import (
    ReasoningDelta,
    ReasoningDone,
    Status,
    Suggestions,
    TextDelta,
    ToolArgsDelta,
    ToolOutput,
    ToolReady,
    ToolStarted,
    UIAction,
)
from tests.integration.support.client import BOUND_SECONDS

__all__ = ["FAILING_RUN", "Gate", "OpenedStream", "Script", "SyncScript"]


class Gate:
    """A place where a source waits until the test lets it go on. Opened from any thread, once and for all."""

    def __init__(self) -> None:
        """Begin closed."""
        self._opened: Future[None] = Future()
        self._reached = threading.Event()

    def open(self) -> None:
        """Let everybody pass."""
        if not self._opened.done():
            self._opened.set_result(None)

    def await_arrival(self) -> None:
        """Wait, in the test, until a source stands here."""
        assert self._reached.wait(BOUND_SECONDS), "no source came to this gate"

    async def passed(self) -> None:
        """Wait in a source of the event loop."""
        self._reached.set()
        await asyncio.shield(asyncio.wrap_future(self._opened))

    def passed_by_thread(self) -> None:
        """Wait in a source on a thread."""
        self._reached.set()
        self._opened.result(BOUND_SECONDS)


class Script:
    """A callable source that plays items: waits at a `Gate`, raises an exception, yields the rest.

    With `pace_seconds` it takes its time before each item.

    Attributes:
        opened: How often it was called.
        taken: Items that were asked for and given.
    """

    def __init__(self, *items: object, pace_seconds: float = 0.0) -> None:
        """Play `items` whenever called."""
        self.opened = 0
        self.taken = 0
        self._items = items
        self._pace_seconds = pace_seconds
        self._closed = threading.Event()

    def __call__(self) -> AsyncIterator[Any]:
        """Open it once more."""
        self.opened += 1
        return self._play()

    @property
    def is_closed(self) -> bool:
        """Whether its `finally` ran."""
        return self._closed.is_set()

    def await_closing(self) -> None:
        """Wait, in the test, until its `finally` ran."""
        assert self._closed.wait(BOUND_SECONDS), "the source was not closed"

    async def _play(self) -> AsyncIterator[Any]:
        try:
            for item in self._items:
                if self._pace_seconds:
                    await asyncio.sleep(self._pace_seconds)
                if isinstance(item, Gate):
                    await item.passed()
                elif isinstance(item, BaseException):
                    raise item
                else:
                    self.taken += 1
                    yield item
        finally:
            self._closed.set()


class OpenedStream:
    """A provider's stream, opened before anybody knew whether it would be needed.

    Attributes:
        closed: How often it was closed.
    """

    def __init__(self) -> None:
        """Open it."""
        self.closed = 0

    def __aiter__(self) -> AsyncIterator[str]:
        """Read it."""
        return self._items()

    async def aclose(self) -> None:
        """Close it."""
        self.closed += 1

    async def _items(self) -> AsyncIterator[str]:
        yield "x"


class SyncScript:
    """As `Script`, as a sync generator."""

    def __init__(self, *items: object) -> None:
        """Play `items` whenever called."""
        self.taken = 0
        self._items = items
        self._closed = threading.Event()

    def __call__(self) -> Iterator[Any]:
        """Open it."""
        try:
            for item in self._items:
                if isinstance(item, Gate):
                    item.passed_by_thread()
                else:
                    self.taken += 1
                    yield item
        finally:
            self._closed.set()

    def await_closing(self) -> None:
        """Wait, in the test, until its `finally` ran."""
        assert self._closed.wait(BOUND_SECONDS), "the source was not closed"


#: A run with one of everything that a cut could break: several frames for one event, events without a frame.
FAILING_RUN: tuple[object, ...] = (
    Status("thinking"),
    ReasoningDelta("First "),
    ReasoningDelta("think."),
    ReasoningDone(),
    "Let me ",
    "look ",
    "that up. ",
    ToolStarted(name="search"),
    ToolArgsDelta('{"query":'),
    ToolArgsDelta('"wasser"}'),
    ToolReady(input={"query": "wasser"}),
    ToolOutput(output=["ein", "zwei\r\ndrei"]),
    {"event": "chart", "data": {"points": [1, 2, 3]}},
    TextDelta("Wör"),
    TextDelta("ter \N{WATER WAVE}\n"),
    "and ",
    "a line\r\nbreak ",
    UIAction({"type": "theme", "value": "dark"}),
    Suggestions(["More?", "Less?"]),
    "and the end",
    RuntimeError("a secret that nobody may read"),
)
