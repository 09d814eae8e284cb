"""Applications as a user would write them, around one source."""

from typing import Any

from fastapi import FastAPI

from tailrace import RunResponse, Tailrace
from tailrace.runtime.source import SourceLike

__all__ = ["chat_app"]


def chat_app(tail: Tailrace, source: SourceLike, **options: Any) -> FastAPI:
    """A FastAPI application that starts `source` at `/chat`, by POST and by GET, with the run routes at `/runs`."""
    app = FastAPI()
    tail.install(app, "/runs")

    @app.post("/chat")
    @app.get("/chat")
    async def chat() -> RunResponse:
        return tail.stream(source, **options)

    return app
