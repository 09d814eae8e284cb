"""An agent and an application for servers that run in a process of their own and are sent signals.

Words for ever, with one way out: a run that was asked to `stop on request` ends when the process gets SIGUSR1. The
process serves this module by its name, from this folder.
"""

import asyncio
import signal
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tailrace import EventStream, Tailrace

__all__ = ["DRAIN_SECONDS", "STOP_ON_REQUEST", "agent", "app", "flood", "patient_app"]

STOP_ON_REQUEST = "stop on request"

#: How long `app` may take to drain.
DRAIN_SECONDS = 4.0

_PACE_SECONDS = 0.02
_stop_requests: list[asyncio.Event] = []


async def agent(message: str) -> AsyncIterator[str]:
    """Talk until nobody wants to hear it."""
    stop = asyncio.Event()
    if message == STOP_ON_REQUEST:
        _stop_requests.append(stop)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _stop_all)
    while not stop.is_set():
        yield "word "
        await asyncio.sleep(_PACE_SECONDS)


def _stop_all() -> None:
    for stop in _stop_requests:
        stop.set()


async def flood(_: str) -> AsyncIterator[str]:
    """More than anybody takes who does not read."""
    for _number in range(200):
        yield "x" * 60_000


def _app(drain_seconds: float) -> Starlette:
    """An application as a user would write it, with drains of that length."""
    tail = Tailrace()
    tail.drain_seconds = drain_seconds

    def chat(request: Request) -> Response:
        message = request.query_params.get("message", "")
        return tail.stream(lambda: agent(message), dialect=request.query_params.get("dialect", "native"))

    def plain(_: Request) -> Response:
        return EventStream(lambda: agent(""))

    def ready(_: Request) -> Response:
        return JSONResponse({}, 503 if tail.draining else 200)

    async def silence(_: Request) -> Response:
        never: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        return await never

    app = Starlette(
        routes=[
            Route("/chat", chat, methods=["POST"]),
            Route("/plain", plain),
            Route("/readyz", ready),
            Route("/silence", silence),
        ]
    )
    tail.install(app, "/runs")
    return app


app = _app(drain_seconds=DRAIN_SECONDS)
patient_app = _app(drain_seconds=600.0)
