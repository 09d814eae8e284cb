"""A Flask application whose sources wait at gates, for real WSGI servers in processes of their own."""

import asyncio
import itertools
import os
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Generator
from typing import Any

from flask import Flask, Response, abort, request
from starlette.exceptions import HTTPException

from tailrace import EventStream
from tailrace.web.flask import FlaskTailrace

__all__ = ["HEARTBEAT_SECONDS", "create_app"]

HEARTBEAT_SECONDS = 1.0
#: More than any buffer between a server and a reader that takes nothing.
_FLOOD_BYTES = 12 * 1024 * 1024
_gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


def create_app(store: str = "memory://", **options: Any) -> Flask:  # noqa: ANN401
    """The application; options are those of `FlaskTailrace`."""
    app = Flask(__name__)
    options = {"heartbeat_seconds": HEARTBEAT_SECONDS, **options}
    tail = FlaskTailrace(store, **options)
    tail.runs.drain_seconds = 2
    tail.install(app, "/runs")
    tail.install_surface(app, tail.runs.openai(lambda asked: iter(asked.text)))
    _add_chat(app, tail)
    _add_bodies(app, tail)
    _add_failures(app, tail)
    return app


def _add_chat(app: Flask, tail: FlaskTailrace) -> None:
    @app.route("/chat", methods=["GET", "POST"])
    def chat() -> Response:
        gate, count = request.args.get("gate"), int(request.args.get("words", 3))
        on_disconnect: Any = request.args.get("on_disconnect", "detach")
        return tail.stream(lambda: _words(gate, count), on_disconnect=on_disconnect)

    @app.post("/open/<gate>")
    def open_(gate: str) -> str:
        tail.call(_open(gate))
        return ""

    @app.get("/sync")
    def sync() -> Response:
        return tail.stream(_blocking_words(int(request.args["words"])))

    @app.get("/event-stream")
    def event_stream() -> Response:
        return tail.respond(EventStream(_words(None, 2)))

    @app.get("/state")
    def state() -> dict[str, int]:
        return {"pid": os.getpid(), "streams": tail.runs.stream_count}


def _add_bodies(app: Flask, tail: FlaskTailrace) -> None:
    """What a source reads of its request, and what a client reads of a source."""

    @app.post("/echo")
    def echo() -> Response:
        return tail.stream(lambda: iter(request.get_json()["message"]))

    @app.post("/late")
    def late() -> Response:
        return tail.stream(lambda: iter([request.get_data(as_text=True)]))

    @app.get("/flood")
    def flood() -> Response:
        piece = "x" * 60_000
        return tail.stream(lambda: itertools.repeat(piece, _FLOOD_BYTES // len(piece)))


def _add_failures(app: Flask, tail: FlaskTailrace) -> None:
    @app.get("/refused")
    def refused() -> Response:
        return tail.stream(_refuse)

    @app.get("/broken")
    def broken() -> Response:
        return tail.stream(lambda: iter([1 / 0]))

    @app.get("/aborted")
    def aborted() -> Response:
        tail.stream(lambda: _words("never", 1))
        abort(418)


async def _words(gate: str | None, count: int) -> AsyncGenerator[str]:
    for number in range(count):
        yield f"{number}ü "
    if gate is not None:
        await _gates[gate].wait()
    yield "終わり"


async def _open(gate: str) -> None:
    _gates[gate].set()


def _blocking_words(count: int) -> Generator[str]:
    for number in range(count):
        time.sleep(0.005)
        yield f"{number}ü "


def _refuse() -> None:
    raise HTTPException(429, "Later.", {"retry-after": "7"})
