"""A site behind AG-UI's routes whose runs stop where the question says, until the client lets them go on."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tailrace import Tailrace
from tailrace.events import Event, Interrupt, RunPaused, TextDelta
from tailrace.fold import Message
from tailrace.web.mounts.contract import AgentRequest
from tests.interop.story import STORY

__all__ = ["site"]


class _Stop:
    """Where a run of a thread waits."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.passed = asyncio.Event()


class _Site:
    """The agent, and the history of what was said before each thread's newest run."""

    def __init__(self) -> None:
        self.stops: defaultdict[str, _Stop] = defaultdict(_Stop)
        self._before: dict[str, Sequence[Message]] = {}

    async def messages(self, thread: str, owner: str | None) -> Sequence[Message]:
        assert owner is None
        return self._before.get(thread, ())

    def agent(self, request: AgentRequest) -> AsyncGenerator[Event, None]:
        thread = request.thread or ""
        self._before[thread] = request.messages
        word, _, place = request.text.rpartition(" ")
        if request.body.get("resume"):
            return _answered(request.body["resume"])
        if request.text in _SAYING:
            return _SAYING[request.text]()
        return _story(self.stops[thread], int(place) if word == "stop at" else None)


async def _story(stop: _Stop, stop_at: int | None) -> AsyncGenerator[Event, None]:
    for number, event in enumerate(STORY):
        if number == stop_at:
            stop.reached.set()
            await stop.passed.wait()
        await asyncio.sleep(0)
        yield event


async def _answered(answers: list[dict[str, Any]]) -> AsyncGenerator[Event, None]:
    yield TextDelta(f"It is {answers[0]['status']}.")


async def _for_ever() -> AsyncGenerator[Event, None]:
    while True:
        yield TextDelta("word ")
        await asyncio.sleep(0.01)


async def _asking() -> AsyncGenerator[Event, None]:
    yield TextDelta("Well.")
    yield RunPaused(interrupts=[Interrupt(id="i1", kind="approval", message="May I?")])


async def _briefly() -> AsyncGenerator[Event, None]:
    yield TextDelta("In short.")


_SAYING = {"for ever": _for_ever, "ask": _asking, "briefly": _briefly}


def site(**options: Any) -> Starlette:  # noqa: ANN401  those of `Tailrace`
    """The application.

    What the agent does is the question: to `stop at N` it tells the story and waits before its N-th event, `for ever`
    it goes on, to `ask` it pauses, `briefly` it says little, and whatever else it is asked it tells the story.
    `POST /reached/{thread}` is answered when the thread's run waits, and `POST /go/{thread}` lets it pass.
    """
    own = _Site()

    async def reached(request: Request) -> Response:
        await own.stops[request.path_params["thread"]].reached.wait()
        return JSONResponse({})

    async def go(request: Request) -> Response:
        own.stops[request.path_params["thread"]].passed.set()
        return JSONResponse({})

    app = Starlette(
        routes=[
            Route("/reached/{thread}", reached, methods=["POST"]),
            Route("/go/{thread}", go, methods=["POST"]),
        ]
    )
    tail = Tailrace(**options)
    tail.install(app, "/runs")
    tail.ag_ui(own.agent, own).install(app)
    return app
