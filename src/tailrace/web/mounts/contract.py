"""What a protocol's routes give an agent, what they need of the past, and what they are: a surface.

Every protocol says in its own words who asks what in which conversation. An agent gets that in one shape, so the same
agent stands behind all of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from tailrace.fold import Message
from tailrace.web.install import RouteRow, add_routes, starlette_routes
from tailrace.web.service import RunService

__all__ = ["Agent", "AgentRequest", "History", "Mount", "Surface"]


class AgentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What one request asks of an agent.

    Attributes:
        text: The newest message of the user; empty if the last message is not the user's.
        messages: The conversation, oldest first, that message included.
        thread: The conversation's id.
        owner: Who asks.
        model: The model that the client names.
        tools: The tools that the client itself can run, as the protocol describes them.
        state: The state that the client shares.
        body: The request's body, in the protocol's own words.
        request: The HTTP request, for what only the application understands: a header, what its middleware found out.
            It is over before the run is, and nothing of it is kept.
    """

    text: str
    messages: Sequence[Message] = ()
    thread: str | None = None
    owner: str | None = None
    model: str | None = None
    tools: Sequence[dict[str, Any]] = ()
    state: Any = None
    body: dict[str, Any] = {}
    request: Request | None = None


#: Takes a request and returns a source: what an async generator function of one argument does.
Agent: TypeAlias = Callable[[AgentRequest], Any]


class History(Protocol):
    """Conversations that were stored: the seam for clients that send or show less than all of one."""

    async def messages(self, thread: str, owner: str | None) -> Sequence[Message]:
        """The conversation, oldest first; nothing if it is unknown, or another owner's."""
        ...


class Mount(ABC):
    """The routes of one protocol. Installed into an application, or an ASGI application itself.

    Attributes:
        path: Where its clients expect it.
        tag: Its heading in FastAPI's documentation.
    """

    path: ClassVar[str]
    tag: ClassVar[str]

    def __init__(self, tail: RunService) -> None:
        """Bind the routes."""
        self._tail = tail
        self._router: Router | None = None

    @abstractmethod
    def table(self) -> list[RouteRow]:
        """All routes, below the path."""

    def routes(self, prefix: str = "") -> list[Route]:
        """The routes as Starlette routes."""
        return starlette_routes(self.table(), prefix)

    def install(self, app: Starlette, path: str | None = None, *, dependencies: Sequence[Any] = ()) -> None:
        """Add the routes to a Starlette or FastAPI application.

        Args:
            app: The application. It has the run routes too (`Tailrace.install`), or clients are not told where to go
                on.
            path: Under which they go; by default where the protocol's clients expect them.
            dependencies: FastAPI dependencies of these routes.

        Raises:
            ValueError: The path does not begin with a slash, or dependencies were given without FastAPI.
        """
        path = self.path if path is None else path
        if path and not path.startswith("/"):
            raise ValueError("the path of a surface begins with a slash")
        add_routes(app, self.table(), path.rstrip("/"), tag=self.tag, dependencies=dependencies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Be an ASGI application, to be mounted."""
        if self._router is None:
            self._router = Router(routes=self.routes())
        await self._router(scope, receive, send)


class Surface(Mount):
    """The routes of one protocol around one agent."""

    def __init__(self, tail: RunService, agent: Agent, history: History | None = None) -> None:
        """Bind the routes.

        Args:
            tail: The runs.
            agent: Called for each request that starts a run; what it returns is streamed.
            history: Where conversations are kept, if they are.
        """
        super().__init__(tail)
        self._agent = agent
        self._history = history
