"""Runs for WSGI applications of any framework: ASGI responses and routes, called on a loop of this process.

The loop's thread produces the runs and follows them; a thread of the server only writes what comes out. So a response
is the same here as behind an ASGI server, by being the same code.
"""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

from starlette.responses import Response
from starlette.types import ASGIApp

from tailrace.errors import TailraceError
from tailrace.web.errors import error_response
from tailrace.web.headers import RawHeaders, stream_headers
from tailrace.web.tailrace import Tailrace
from tailrace.web.workers import NOT_SHARED
from tailrace.web.wsgi.exchange import Body, Exchange
from tailrace.web.wsgi.loop import LoopThread
from tailrace.web.wsgi.places import Places, StreamsFullError
from tailrace.web.wsgi.scope import connection_cut, scope_of
from tailrace.web.wsgi.stopping import TerminationHook, at_exit
from tailrace.wire.dialects import native
from tailrace.wire.dialects.contract import Dialect

__all__ = ["Answer", "WsgiBridge"]

_T = TypeVar("_T")
_RETRY_MS = 3_000
#: What an exit leaves to a drain: enough to end every run and to send every reader its end.
_EXIT_DRAIN_SECONDS = 1.0
_EXIT_SECONDS = 5.0
#: How long the threads of the server may take to write the end of their streams, and between two looks at that.
_FLUSH_SECONDS = 1.0
_LOOK_SECONDS = 0.02


class Answer(NamedTuple):
    """A response: its body is bytes, or else comes bit by bit and has to be closed."""

    status: int
    headers: RawHeaders
    body: bytes | Body


class WsgiBridge:
    """Calls ASGI applications for WSGI requests.

    Attributes:
        tail: The runs. Its coroutines run on the bridge's loop, see `call`.
    """

    def __init__(self, tail: Tailrace, *, max_streams: int | None = None) -> None:
        """Prepare; the loop begins with the first request.

        Args:
            tail: The runs; used by nobody else.
            max_streams: Streams that may be open at once in this process.
        """
        self.tail = tail
        self._loop = LoopThread(self._lifespan)
        self._places = Places(max_streams)
        self._drains: set[asyncio.Task[None]] = set()
        self._termination = TerminationHook(self._drain_and)

    def install(self) -> None:
        """Drain at SIGTERM, before or while the server acts on it. Called in the main thread of the worker.

        A server that forks workers with the application already loaded sets its own handlers after that; then this is
        to be called again, in each worker.
        """
        self._termination.install()

    def call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the loop and wait for what it returns or raises.

        Raises:
            RuntimeError: Called on the loop itself, by the code of a run.
        """
        return self._loop.call(coroutine)

    def close(self) -> None:
        """End what runs, and the loop, within a few seconds; the next use begins another."""
        self._loop.stop(_EXIT_SECONDS)

    def submit(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Begin a coroutine on the loop."""
        self._loop.submit(coroutine)

    def answer(
        self,
        environ: Mapping[str, Any],
        app: ASGIApp,
        *,
        body: bytes = b"",
        dialect: Dialect = native.DIALECT,
        streams: bool,
        extra: Mapping[str, object],
    ) -> Answer:
        """Call an application for a request, wait for its response to begin, and for a short one to end.

        What the application raises before its response has begun is raised here, but for errors of tailrace.

        Args:
            environ: The request.
            app: Anything ASGI: a response, a route, an application. The caller's context variables are there.
            body: Of the request.
            dialect: In which errors are told.
            streams: Whether the response may hold a thread, and so needs a place.
            extra: What else is in the scope.

        Raises:
            StreamsFullError: It needs a place, there is none, and nothing was called.
            BaseException: Whatever the application raises before its response.
        """
        tail = self.tail
        if environ.get("wsgi.multiprocess") and not tail.store.shared:
            tail.warn_once(NOT_SHARED)
        exchange = Exchange(body, connection_cut(environ))
        if streams:
            self._places.take()
        response = Body(exchange, self._loop, self._places.give_back if streams else _nothing)
        try:
            scope = scope_of(environ, exchange.abort, extra)
            self._loop.submit(exchange.run(app, scope), contextvars.copy_context())
            head = response.head()
            if head.get(b"content-length") is None and head.status != HTTPStatus.NO_CONTENT:
                return Answer(head.status, head.headers, response)
            whole = b"".join(response)
        except TailraceError as error:
            response.close()
            return _plain(error_response(error, dialect))
        except BaseException:
            response.close()
            raise
        response.close()
        return Answer(head.status, head.headers, whole)

    @staticmethod
    def refusal(error: StreamsFullError, dialect: Dialect, *, comes_back: bool) -> Answer:
        """The answer to who gets no place.

        A browser's EventSource gives up for good on an error status, so one that has begun already is asked to try
        again with a good one.
        """
        if comes_back and dialect.resumes:
            return Answer(200, stream_headers({}), native.reconnect(_RETRY_MS))
        return _plain(error_response(error, dialect))

    @asynccontextmanager
    async def _lifespan(self) -> AsyncGenerator[None]:
        async with self.tail.lifespan():
            at_exit(self.close)
            try:
                yield
            finally:
                await self._drain(_EXIT_DRAIN_SECONDS)

    async def _drain(self, seconds: float) -> None:
        """Drain, and leave the server a moment to write what that has brought."""
        await self.tail.drain(seconds)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _FLUSH_SECONDS
        while self._places.taken and loop.time() < deadline:  # noqa: ASYNC110  other threads give them back
            await asyncio.sleep(_LOOK_SECONDS)

    def _drain_and(self, then: Callable[[], object]) -> None:
        if not self._loop.running:
            then()
            return

        async def drain() -> None:
            try:
                await self._drain(self.tail.drain_seconds)
            finally:
                then()

        # A signal's handler must not wait, not even for a lock.
        self._loop.soon(lambda: self._drains.add(asyncio.get_running_loop().create_task(drain())))


def _plain(response: Response) -> Answer:
    return Answer(response.status_code, response.raw_headers, bytes(response.body))


def _nothing() -> None:
    """Nobody waits for this place."""
