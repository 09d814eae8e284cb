"""Applications as a user would write them, around one source."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from tailrace import RunResponse, Tailrace
from tailrace.runtime.source import SourceLike

__all__ = ["answering", "chat_app"]


def chat_app(tail: Tailrace, source: SourceLike, **options: Any) -> FastAPI:  # noqa: ANN401  those of `Tailrace.stream`
    """A FastAPI application that starts `source` at `/chat`, by POST and by GET, with the run routes at `/runs`."""
    app = FastAPI()
    tail.install(app, "/runs")

    @app.post("/chat")
    @app.get("/chat")
    async def chat() -> RunResponse:
        return tail.stream(source, **options)

    return app


def answering(make: Callable[[], Response]) -> Callable[[Request], Response]:
    """An endpoint for Starlette, which runs it on a thread of its pool, that answers with what `make` returns."""

    def endpoint(_: Request) -> Response:
        return make()

    return endpoint
