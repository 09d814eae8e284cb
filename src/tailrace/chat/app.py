"""The chat server: one agent behind `POST /chat` and behind the protocols of others, its runs, and the console page.

Built on public names only, as an application of a user would be.
"""

import base64
import hashlib
import re
import secrets
from collections.abc import Callable
from importlib.resources import files
from typing import Any, TypeAlias

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tailrace import Tailrace
from tailrace.web.body import read_json
from tailrace.web.errors import RequestInvalidError
from tailrace.web.mounts.contract import AgentRequest

__all__ = ["AgentLike", "ChatRequest", "create_app"]

#: Takes the user's message, returns a source: an (async) generator function, or anything `Tailrace.stream` takes.
AgentLike: TypeAlias = Callable[[str], Any]

_BODY_BYTES = 256 * 1024
_MESSAGE_CHARACTERS = 32_000
_ID_CHARACTERS = 128


class ChatRequest(msgspec.Struct, frozen=True):
    """The body of `POST /chat`. `branch_id` is context of the application's own and is passed through."""

    message: str
    conversation_id: str | None = None
    branch_id: str | None = None


def create_app(agent: AgentLike, tail: Tailrace) -> Starlette:
    """The chat application around one agent.

    Args:
        agent: Called with each message; what it returns is streamed.
        tail: The runs; this installs it under `/runs`, and the protocols where their clients expect them.
    """
    chat = _Chat(agent, tail)
    console = _Page(files("tailrace.chat").joinpath("console.html").read_text(encoding="utf-8"))
    app = Starlette(
        routes=[
            Route("/chat", chat.start, methods=["POST"]),
            Route("/", console.show),
            Route("/console", console.show),
            Route("/healthz", chat.alive),
            Route("/readyz", chat.ready),
        ]
    )
    tail.install(app, "/runs")
    for surface in (tail.ai_sdk(chat.answer), tail.ag_ui(chat.answer), tail.openai(chat.answer)):
        surface.install(app)
    return app


class _Chat:
    def __init__(self, agent: AgentLike, tail: Tailrace) -> None:
        self._agent = agent
        self._tail = tail

    async def start(self, request: Request) -> Response:
        """`POST /chat`: start a run for a message and stream it in `?dialect=`.

        Raises:
            RequestInvalidError: The body is not what it should be.
            DialectNotFoundError: There is no such dialect.
        """
        body = await _read(request)
        conversation_id = body.conversation_id or f"conv_{secrets.token_hex(8)}"
        return self._tail.stream(
            lambda: self._agent(body.message),
            thread=conversation_id,
            dialect=request.query_params.get("dialect", "native"),
            fingerprint=[body.message, body.conversation_id, body.branch_id],
        )

    def answer(self, request: AgentRequest) -> Any:  # noqa: ANN401  whatever the agent returns
        """The agent's source for a request of another protocol."""
        return self._agent(request.text)

    async def alive(self, _: Request) -> Response:
        """`GET /healthz`: the process answers."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """`GET /readyz`: 200 while new runs are welcome."""
        if self._tail.draining:
            return JSONResponse({"status": "draining"}, 503)
        return JSONResponse({"status": "ready"})


async def _read(request: Request) -> ChatRequest:
    """The body, as far as its size and shape allow.

    Raises:
        RequestInvalidError: They do not.
    """
    body = await read_json(request, ChatRequest, limit_bytes=_BODY_BYTES)
    if not body.message.strip() or len(body.message) > _MESSAGE_CHARACTERS:
        raise RequestInvalidError(f"A message has 1 to {_MESSAGE_CHARACTERS} characters.", status=422)
    if any(len(text or "") > _ID_CHARACTERS for text in (body.conversation_id, body.branch_id)):
        raise RequestInvalidError(f"An id has at most {_ID_CHARACTERS} characters.", status=422)
    return body


class _Page:
    """A page with one inline script and one inline style, which its policy names by their hashes."""

    def __init__(self, html: str) -> None:
        self._html = html
        policy = {
            "default-src": "'none'",
            "connect-src": "'self'",
            "img-src": "data:",
            "script-src": _hash_of(html, "script"),
            "style-src": _hash_of(html, "style"),
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        self._headers = {
            "cache-control": "no-cache",
            "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
        }

    async def show(self, _: Request) -> Response:
        """`GET`: the page."""
        return Response(self._html, 200, self._headers, media_type="text/html")


def _hash_of(html: str, tag: str) -> str:
    match = re.search(rf"<{tag}[^>]*>(.*?)</{tag}>", html, re.DOTALL)
    text = match.group(1) if match else ""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
