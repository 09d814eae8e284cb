"""Tailrace: runs and the HTTP around them. One object per application."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from tailrace.runtime.ledger import StreamLimits
from tailrace.runtime.source import SourceLike
from tailrace.stores.contract import RunStore
from tailrace.web.install import add_error_answers, add_routes, starlette_routes
from tailrace.web.mounts.ag_ui import AgUiSurface
from tailrace.web.mounts.ai_sdk import AiSdkSurface
from tailrace.web.mounts.contract import Agent, History
from tailrace.web.mounts.durable import DurableStreams
from tailrace.web.mounts.openai import OpenAISurface
from tailrace.web.negotiate import JsonWhen
from tailrace.web.response import ResumeResponse, RunResponse, StartOptions
from tailrace.web.routes import RunRoutes
from tailrace.web.service import RunService
from tailrace.web.signals import SignalChain
from tailrace.web.workers import NOT_SHARED, is_one_of_several

__all__ = ["Tailrace"]

#: What is left of a drain when a second signal comes: enough to end every run and to send every reader its end.
_HURRY_SECONDS = 1.0


class Tailrace(RunService):
    """Starts runs for requests, reads them to clients, and drains when the server stops.

    The constructor is `RunService`'s: `Tailrace(store="memory://", *, owner=None, …)`.
    """

    # In a handler ----------------------------------------------------------------------------------------------------

    def stream(  # noqa: PLR0913  the fixed signature of the product
        self,
        source: SourceLike,
        *,
        key: str | None = None,
        fingerprint: Any = None,  # noqa: ANN401  whatever msgspec encodes
        run_id: str | None = None,
        owner: str | None = None,
        thread: str | None = None,
        dialect: str = "native",
        json: JsonWhen = "accept",
        on_disconnect: Literal["detach", "cancel"] = "detach",
        grace_seconds: float = 0,
        timeout: float | None = None,
        hold: bool = False,
        model: str | None = None,
        parent_run_id: str | None = None,
        meta: dict[str, Any] | None = None,
        dialect_options: Mapping[str, object] | None = None,
    ) -> RunResponse:
        """A response that starts a run and streams it; return it from a handler.

        A request that repeats an idempotency key, or returns with a `Last-Event-ID`, reads the run that it means and
        starts nothing: then the source is closed unused. A client that prefers JSON gets one document at the end.

        Args:
            source: An (async) iterator, or a callable without arguments that returns one; see `Runs.start`.
            key: The idempotency key; by default the `Idempotency-Key` header.
            fingerprint: What else must be equal when the key comes again; by default method, path and query.
            run_id: See `Runs.start`.
            owner: Whose run it is; by default what the `owner` function says.
            thread: The conversation it belongs to.
            dialect: How events are written.
            json: When to answer with one document: `accept` if the client prefers JSON to a stream, `unless-sse` if
                it does not name event streams, `never`, or `always`.
            on_disconnect: `detach` lets the run go on; `cancel` ends it when nobody has read for `grace_seconds`.
            grace_seconds: See `on_disconnect`.
            timeout: Seconds after which the run fails with code `timeout`.
            hold: Return from the response only when the run has ended, so that the request's dependencies and
                background tasks outlive a client that leaves.
            model: See `Runs.start`.
            parent_run_id: See `Runs.start`.
            meta: See `Runs.start`.
            dialect_options: What the dialect is spoken with, such as `{"sdk_version": 6}`.

        Raises:
            SourceInvalidError: The source can never be one.
            DialectNotFoundError: There is no such dialect.
        """
        options = StartOptions(
            key=key,
            fingerprint=fingerprint,
            run_id=run_id,
            owner=owner,
            thread=thread,
            json=json,
            on_disconnect=on_disconnect,
            grace_seconds=grace_seconds,
            timeout=timeout,
            hold=hold,
            model=model,
            parent_run_id=parent_run_id,
            meta=meta,
            dialect_options=dialect_options or {},
        )
        return RunResponse(self, source, dialect=dialect, options=options)

    def resume(
        self,
        run_id: str | None,
        *,
        owner: str | None = None,
        dialect: str = "native",
        json: JsonWhen = "accept",
        dialect_options: Mapping[str, object] | None = None,
    ) -> ResumeResponse:
        """A response that reads a run that was started before, at a URL of yours that does not name it.

        A client that returns with a `Last-Event-ID` reads on in the run that the id names, if it is the caller's, and
        not in `run_id`: so what `run_id` is taken from, such as a cookie, serves the first request only. A GET that
        has seen all of a run that has ended gets 204. No run is started: for `None`, a run that is unknown and
        another's the answer is 404.

        Args:
            run_id: The run of whoever comes without a place, if there is one.
            owner: Whose run it has to be; by default what the `owner` function says.
            dialect: How events are written.
            json: When to answer with one document; see `stream`.
            dialect_options: What the dialect is spoken with.

        Raises:
            DialectNotFoundError: There is no such dialect.
        """
        options = StartOptions(owner=owner, json=json, dialect_options=dialect_options or {})
        return ResumeResponse(self, run_id, dialect=dialect, options=options)

    # In an application -----------------------------------------------------------------------------------------------

    def install(self, app: Starlette, path: str, *, dependencies: Sequence[Any] = ()) -> None:
        """Add the run routes to a Starlette or FastAPI application under `path`, and this object to its lifespan.

        The application finds this object again as `app.state.tailrace`. A `TailraceError` that its handlers let pass is
        answered with its HTTP status, unless the application has a handler for it.

        Args:
            app: The application, before it has started.
            path: Such as `/runs`; with and without a trailing slash at the end of a URL.
            dependencies: FastAPI dependencies of the run routes, beside those of the application itself.

        Raises:
            ValueError: The path does not begin with a slash, or dependencies were given without FastAPI.
        """
        if not path.startswith("/"):
            raise ValueError("the path of the run routes begins with a slash")
        prefix = path.rstrip("/")
        self.installed(app, prefix)
        app.state.tailrace = self
        add_error_answers(app)
        add_routes(app, RunRoutes(self).table(), prefix, tag="runs", dependencies=dependencies)
        inner: Callable[[Any], AbstractAsyncContextManager[Any]] = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(started: Starlette) -> AsyncGenerator[Any]:
            async with self.lifespan(started), inner(started) as state:
                yield state

        app.router.lifespan_context = lifespan

    def openai(
        self, agent: Agent, history: History | None = None, *, models: Sequence[str] = ("tailrace",)
    ) -> OpenAISurface:
        """OpenAI's chat completions, responses and models around an agent, to be installed at `/v1`.

        Args:
            agent: Called with an `AgentRequest`; what it returns is streamed.
            history: Where conversations are kept, for clients that name one.
            models: What clients may choose from; see `AgentRequest.model`.

        Raises:
            ValueError: There is no model.
        """
        return OpenAISurface(self, agent, history, models=models)

    def ai_sdk(self, agent: Agent, history: History | None = None) -> AiSdkSurface:
        """The routes that the AI SDK's `useChat` asks for: `tail.ai_sdk(agent).install(app)`.

        Args:
            agent: Called with an `AgentRequest` for each answer; what it returns is streamed.
            history: Where conversations are kept, for clients that send their last message only.
        """
        return AiSdkSurface(self, agent, history)

    def ag_ui(self, agent: Agent, history: History | None = None) -> AgUiSurface:
        """The route that AG-UI's `HttpAgent`, CopilotKit and TanStack AI ask: `tail.ag_ui(agent).install(app)`.

        Args:
            agent: Called with an `AgentRequest` for each run; what it returns is streamed.
            history: Where conversations are kept, for clients that open one they do not have.
        """
        return AgUiSurface(self, agent, history)

    def durable(
        self, store: str | RunStore = "memory://", *, limits: StreamLimits | None = None, open_names: bool = False
    ) -> DurableStreams:
        """Streams that clients create and append to by the Durable Streams protocol: `tail.durable(…).install(app)`.

        Args:
            store: Where they are kept, apart from the runs.
            limits: What one owner may have.
            open_names: Whether those without an identity share all names; see `DurableStreams`.

        Raises:
            StoreSetupError: The URL names no known kind of store, or its extra is missing.
        """
        return DurableStreams(self, store, limits=limits, open_names=open_names)

    def routes(self) -> list[Route]:
        """The run routes as Starlette routes, for an application that mounts them itself."""
        return starlette_routes(RunRoutes(self).table(), "")

    @property
    def asgi(self) -> ASGIApp:
        """The run routes as an application of their own, lifespan included."""
        return Starlette(routes=self.routes(), lifespan=self.lifespan)

    @asynccontextmanager
    async def lifespan(self, _: object = None) -> AsyncGenerator[None]:
        """From the server's start to its stop; drains on SIGTERM and SIGINT, before the server's own handlers act."""
        if not self.store.shared and is_one_of_several():
            self.warn_once(NOT_SHARED)
        await self.open()
        chain = SignalChain(
            lambda: self.drain(self.drain_seconds), lambda: self.drain(min(_HURRY_SECONDS, self.drain_seconds))
        )
        chain.install()
        try:
            yield
        finally:
            chain.restore()
            await self.aclose()
