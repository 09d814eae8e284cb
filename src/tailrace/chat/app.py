"""The chat server as an application: one agent behind `POST /chat` and other protocols, conversations, runs, a page.

Built on public names only, as an application of a user would be.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from typing import cast

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tailrace import Tailrace
from tailrace.chat.agent.contract import ChatAgent
from tailrace.chat.conversations.routes import ConversationRoutes
from tailrace.chat.limits.admission import Admissions
from tailrace.chat.pages import Page
from tailrace.chat.routes import ChatRoutes, ChatTerms
from tailrace.chat.turns import AgentLike, CustomAgent, Records, Turns
from tailrace.web.install import add_routes
from tailrace.wire.dialects import native

__all__ = ["create_app"]

_CODES = {404: "not_found", 405: "method_not_allowed"}


def create_app(  # noqa: PLR0913  the parts of a chat server
    agent: ChatAgent | AgentLike,
    tail: Tailrace,
    *,
    records: Records | None = None,
    limits: Admissions | None = None,
    terms: ChatTerms | None = None,
    model: str | None = None,
    takes_tokens: bool = False,
) -> FastAPI:
    """The chat application around one agent. What it is given is opened and closed with it.

    Args:
        agent: Answers; one that is a plain callable is asked with each message, and what it returns is streamed.
        tail: The runs; this installs it under `/runs`, and the protocols where their clients expect them.
        records: Where conversations are kept, if they are; then `tail` has owners.
        limits: Who may start how much, if there is a limit.
        terms: The bounds of a turn.
        model: What answers, by name.
        takes_tokens: Whether callers prove who they are by bearer tokens, as OpenAPI then says.
    """
    answers = CustomAgent(agent) if callable(agent) else agent
    terms = terms or ChatTerms()
    turns = Turns(tail, answers, model=model, records=records, limits=limits, suggests=terms.suggests)
    chat = ChatRoutes(tail, turns, terms)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        # Within the lifespan of the runs: their store is open before this, and closed after.
        async with AsyncExitStack() as opened:
            if limits is not None:
                opened.push_async_callback(limits.aclose)
            if records is not None:
                opened.push_async_callback(records.conversations.aclose)
                await records.conversations.open()
            if not isinstance(answers, CustomAgent):
                opened.push_async_callback(answers.aclose)
            opened.push_async_callback(turns.aclose)
            if records is not None:
                opened.push_async_callback(records.settler.aclose)
                await records.settler.open()
            yield

    # Only described here; who asks is found out by the `owner` function of `tail`.
    described = [Depends(HTTPBearer(auto_error=False))] if takes_tokens else []
    app = FastAPI(title="tailrace", docs_url=None, redoc_url=None, dependencies=described, lifespan=lifespan)
    app.add_exception_handler(HTTPException, _told)
    tail.install(app, "/runs")
    add_routes(app, chat.table(), "", tag="chat", dependencies=())
    if records is not None:
        table = ConversationRoutes(*records, chat.identity).table()
        add_routes(app, table, "/conversations", tag="conversations", dependencies=())
    history = None if records is None else records.settler
    for surface in (
        tail.ai_sdk(chat.answer, history),
        tail.ag_ui(chat.answer, history),
        tail.openai(chat.answer, history),
    ):
        surface.install(app)
    console = Page(files("tailrace.chat").joinpath("console.html").read_text(encoding="utf-8"))
    for path in ("/", "/console"):
        app.add_route(path, console.show, include_in_schema=False)
    return app


def _told(_: Request, error: Exception) -> Response:
    """What the framework refuses by itself, such as an unknown path, in the shape of all other refusals."""
    refused = cast("HTTPException", error)
    code = _CODES.get(refused.status_code, "refused")
    body = native.DIALECT.error(refused.status_code, code, str(refused.detail))
    return Response(body, refused.status_code, refused.headers, media_type="application/json")
