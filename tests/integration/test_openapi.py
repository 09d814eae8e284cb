"""What an application says about its streams in OpenAPI."""

from typing import Any

import pytest
from fastapi import FastAPI

from tailrace import RunResponse, Tailrace
from tailrace.errors import DialectNotFoundError
from tailrace.web.mounts.contract import AgentRequest
from tailrace.web.openapi import stream_responses
from tailrace.wire.dialects.registry import DIALECTS


def echo(request: AgentRequest) -> list[str]:
    """An agent."""
    return [request.text]


def items_of(app: FastAPI, method: str, path: str) -> dict[str, Any]:
    """What is said about the items of a route's stream."""
    media: dict[str, Any] = app.openapi()["paths"][path][method]["responses"]["200"]["content"]["text/event-stream"]
    items: dict[str, Any] = media["itemSchema"]
    return items


def test_a_route_that_streams_documents_its_frames() -> None:
    app, tail = FastAPI(), Tailrace()

    @app.post("/chat", responses=stream_responses("native"))
    async def chat() -> RunResponse:
        return tail.stream(["x"])

    names = [kind["properties"]["event"]["const"] for kind in items_of(app, "post", "/chat")["oneOf"]]

    assert {"run.started", "text.delta", "tool.output", "run.completed"} < set(names)


def test_the_log_is_documented_in_every_dialect() -> None:
    app = FastAPI()
    Tailrace().install(app, "/runs")

    items = items_of(app, "get", "/runs/{run_id}/events")

    assert len(items["anyOf"]) == len(DIALECTS)


def test_the_protocols_of_others_document_their_frames() -> None:
    app, tail = FastAPI(), Tailrace()
    for surface in (tail.ai_sdk(echo), tail.ag_ui(echo), tail.openai(echo)):
        surface.install(app)

    streams = [items_of(app, "post", path) for path in ("/api/chat", "/agui", "/v1/chat/completions", "/v1/responses")]

    assert all(len(items["oneOf"]) >= 1 for items in streams)
    assert all("contentSchema" in str(items) for items in streams)


def test_a_dialect_that_is_none_cannot_be_documented() -> None:
    with pytest.raises(DialectNotFoundError):
        stream_responses("nonsense")
