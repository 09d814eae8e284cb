"""A Flask application as the ASGI application that the pages' requests go to; its answers come whole."""

import asyncio

from flask import Flask
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["as_asgi"]


def as_asgi(app: Flask) -> ASGIApp:
    """Serve each request by the application's own test client, on a thread."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()

        def answer() -> Response:
            url, headers = str(request.url), request.headers.items()
            reply = app.test_client().open(url, method=request.method, headers=headers, data=body)
            return Response(reply.data, reply.status_code, dict(reply.headers))

        response = await asyncio.to_thread(answer)
        await response(scope, receive, send)

    return serve
