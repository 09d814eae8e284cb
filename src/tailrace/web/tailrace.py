"""Tailrace: runs and the HTTP around them. One object per application."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from tailrace.runtime.clock import Clock
from tailrace.runtime.limits import Limits
from tailrace.runtime.runs import Runs
from tailrace.runtime.source import SourceLike
from tailrace.stores.contract import RunStore
from tailrace.web.install import add_routes
from tailrace.web.negotiate import JsonWhen
from tailrace.web.owners import OwnerOf, identify
from tailrace.web.response import RunResponse, StartOptions
from tailrace.web.routes import RunRoutes
from tailrace.web.signals import SignalChain
from tailrace.web.stream import Stream
from tailrace.web.wheel import Wheel

__all__ = ["Tailrace"]

_logger = logging.getLogger("tailrace")
_RECONNECT_MS = 1_000
#: Of a drain's time, the share in which streams that are told to go may still take what they were sent.
_FLUSH_SHARE = 0.15
_FLUSH_SECONDS = 1.0


class Tailrace(Runs):
    """Starts runs for requests, reads them to clients, and drains when the server stops.

    Attributes:
        drain_seconds: How long a SIGTERM may take from the first sign to the last byte.
    """

    def __init__(  # noqa: PLR0913  the fixed constructor of the product
        self,
        store: str | RunStore = "memory://",
        *,
        owner: OwnerOf | None = None,
        secret: bytes | str | None = None,
        lease_seconds: float = 10,
        retention_seconds: float = 900,
        heartbeat_seconds: float = 15,
        early_seconds: float = 0.5,
        send_timeout_seconds: float = 30,
        max_events: int = 100_000,
        max_bytes: int = 16 * 1024**2,
        clock: Clock | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Describe the service; nothing is opened before the first use.

        Args:
            store: Where logs are kept: a URL such as `memory://`, or a store.
            owner: Whose request it is: an opaque string per identity, with tenant and subject joined. May be async,
                may raise `HTTPException`. Without it a run's id is the only key to the run.
            secret: See `Runs`.
            lease_seconds: See `Runs`.
            retention_seconds: See `Runs`.
            heartbeat_seconds: The longest silence on an open stream.
            early_seconds: How long a response that starts a run waits for its first event, so that a failure before
                it can be an HTTP status.
            send_timeout_seconds: How long a reader may take nothing before it is dropped.
            max_events: See `Runs`.
            max_bytes: See `Runs`.
            clock: See `Runs`.
            limits: See `Runs`.

        Raises:
            StoreUrlError: The URL names no known kind of store.
        """
        super().__init__(
            store,
            secret=secret,
            lease_seconds=lease_seconds,
            retention_seconds=retention_seconds,
            max_events=max_events,
            max_bytes=max_bytes,
            clock=clock,
            limits=limits,
        )
        self.drain_seconds = 10.0
        self.heartbeat_seconds = heartbeat_seconds
        self.early_seconds = early_seconds
        self.send_timeout_seconds = send_timeout_seconds
        self.wheel = Wheel(min(heartbeat_seconds, send_timeout_seconds))
        self._owner_of = owner
        self._path: str | None = None
        self._app: object = None
        self._streams: set[Stream] = set()
        self._streams_left: asyncio.Event | None = None
        self._warned: set[str] = set()

    @property
    def has_owners(self) -> bool:
        """Whether runs belong to somebody; if not, they can be reached by id only, never listed."""
        return self._owner_of is not None

    @property
    def stream_count(self) -> int:
        """Streams of runs that are open now."""
        return len(self._streams)

    async def owner(self, request: Request) -> str | None:
        """Whose request it is.

        Raises:
            HTTPException: Whatever the application's function raises.
        """
        return await identify(self._owner_of, request)

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
        meta: dict[str, Any] | None = None,
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
                it does not name event streams, or `never`.
            on_disconnect: `detach` lets the run go on; `cancel` ends it when nobody has read for `grace_seconds`.
            grace_seconds: See `on_disconnect`.
            timeout: Seconds after which the run fails with code `timeout`.
            hold: Return from the response only when the run has ended, so that the request's dependencies and
                background tasks outlive a client that leaves.
            meta: A JSON object, kept in `run.started`.

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
            meta=meta,
        )
        return RunResponse(self, source, dialect=dialect, options=options)

    # In an application -----------------------------------------------------------------------------------------------

    def install(self, app: Starlette, path: str, *, dependencies: Sequence[Any] = ()) -> None:
        """Add the run routes to a Starlette or FastAPI application under `path`, and this object to its lifespan.

        Args:
            app: The application, before it has started.
            path: Such as `/runs`; with and without a trailing slash at the end of a URL.
            dependencies: FastAPI dependencies of the run routes, beside those of the application itself.

        Raises:
            ValueError: The path does not begin with a slash, or dependencies were given without FastAPI.
        """
        if not path.startswith("/"):
            raise ValueError("the path of the run routes begins with a slash")
        self._path = path.rstrip("/")
        self._app = app
        add_routes(app, RunRoutes(self), self._path, dependencies)
        inner: Callable[[Any], AbstractAsyncContextManager[Any]] = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(started: Starlette) -> AsyncIterator[Any]:
            async with self.lifespan(started), inner(started) as state:
                yield state

        app.router.lifespan_context = lifespan

    def routes(self) -> list[Route]:
        """The run routes as Starlette routes, for an application that mounts them itself."""
        return RunRoutes(self).starlette("")

    @property
    def asgi(self) -> ASGIApp:
        """The run routes as an application of their own, lifespan included."""
        return Starlette(routes=self.routes(), lifespan=self.lifespan)

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """From the server's start to its stop; drains on SIGTERM and SIGINT, before the server's own handlers act."""
        self._draining = False
        chain = SignalChain(lambda: self.drain(self.drain_seconds))
        chain.install()
        try:
            yield
        finally:
            chain.restore()
            await self.aclose()

    def location(self, scope: Scope, run_id: str, dialect: str) -> str | None:
        """The URL path of a run's log in a dialect, as seen by the client of this request; `None` if not installed.

        A request that came through an application mounted beside or below the one with the run routes has that
        application's `root_path`; then the outermost application's counts.
        """
        if self._path is None:
            return None
        own = scope.get("app") is self._app
        root_path = scope.get("root_path", "") if own else scope.get("app_root_path", scope.get("root_path", ""))
        query = "" if dialect == "native" else f"?dialect={dialect}"
        return f"{root_path}{self.url_of(run_id)}{query}"

    def url_of(self, run_id: str) -> str:
        """The path of a run's log within the application."""
        return f"{self._path or ''}{super().url_of(run_id)}"

    # Streams and the drain -------------------------------------------------------------------------------------------

    @contextmanager
    def open_stream(self, stream: Stream) -> Iterator[None]:
        """Count a stream while it is open, so that a drain finds it."""
        self._streams.add(stream)
        try:
            yield
        finally:
            self._streams.discard(stream)
            if not self._streams and self._streams_left is not None:
                self._streams_left.set()

    def warn_once(self, message: str) -> None:
        """Log a warning the first time it is given."""
        if message not in self._warned:
            self._warned.add(message)
            _logger.warning(message)

    async def drain(self, seconds: float) -> None:
        """Refuse new runs, give every open stream its end, and return when all is done or `seconds` have passed.

        Where another process can go on with a run's log, readers that come back are sent there. Elsewhere they stay
        to the terminal event: runs may finish, and what has not after most of the time is interrupted.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        self._streams_left = asyncio.Event()
        if self.store.shared:
            for stream in tuple(self._streams):
                if stream.resumes:
                    stream.leave(_RECONNECT_MS)
        flush_seconds = min(_FLUSH_SECONDS, seconds * _FLUSH_SHARE)
        await super().drain(max(0.0, seconds - 2 * flush_seconds))
        await self._streams_gone(deadline - flush_seconds - loop.time())
        for stream in tuple(self._streams):
            stream.abort()
        await self._streams_gone(deadline - loop.time())

    async def _streams_gone(self, seconds: float) -> None:
        """Wait until no stream is open, at most so long."""
        if not self._streams or self._streams_left is None:
            return
        self._streams_left.clear()
        waiting = asyncio.ensure_future(self._streams_left.wait())
        await asyncio.wait({waiting}, timeout=max(0.0, seconds))
        waiting.cancel()
