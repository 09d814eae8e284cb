"""Runs in a Flask application, behind any WSGI server that serves requests on threads or greenlets."""

import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Literal, NoReturn, TypedDict, TypeVar, Unpack, cast

import flask
import starlette.exceptions
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from werkzeug.exceptions import HTTPException

from tailrace.runtime.clock import Clock
from tailrace.runtime.limits import Limits
from tailrace.runtime.source import SourceLike, discard
from tailrace.stores.contract import RunStore
from tailrace.web.install import RouteRow
from tailrace.web.mounts.contract import Mount
from tailrace.web.negotiate import JsonWhen
from tailrace.web.routes import RunRoutes
from tailrace.web.tailrace import Tailrace
from tailrace.web.wsgi.core import Answer, WsgiBridge
from tailrace.web.wsgi.places import StreamsFullError
from tailrace.wire.dialects import native
from tailrace.wire.dialects.contract import Dialect
from tailrace.wire.dialects.registry import DIALECTS

__all__ = ["FlaskTailrace", "RunsKeywords", "StreamKeywords"]

_T = TypeVar("_T")
_OWNER = "tailrace.owner"
_PARAMETER = re.compile(r"\{([^}]+)\}")
#: A body up to this size is read before a source is called, which may then ask the request for it.
_BODY_BYTES = 1024**2
#: The run routes that answer at once; all others may hold a thread.
_BRIEF = frozenset({"/", "/{run_id}", "/{run_id}/cancel"})


class RunsKeywords(TypedDict, total=False):
    """What `FlaskTailrace` takes beside its own parameters; see `Tailrace`."""

    secret: bytes | str | None
    lease_seconds: float
    retention_seconds: float
    early_seconds: float
    send_timeout_seconds: float
    max_events: int
    max_bytes: int
    clock: Clock | None
    limits: Limits | None


class StreamKeywords(TypedDict, total=False):
    """What `FlaskTailrace.stream` takes beside a source; see `Tailrace.stream`."""

    key: str | None
    fingerprint: Any
    run_id: str | None
    owner: str | None
    thread: str | None
    dialect: str
    json: JsonWhen
    on_disconnect: Literal["detach", "cancel"]
    grace_seconds: float
    timeout: float | None
    model: str | None
    parent_run_id: str | None
    meta: dict[str, Any] | None
    dialect_options: Mapping[str, object] | None


class FlaskTailrace:
    """What `Tailrace` is to FastAPI: starts runs for requests and reads them to clients.

    Runs are produced on an event loop of their own, which begins with the first request of a worker.

    Attributes:
        runs: The `Tailrace` behind it; what it awaits is called through `call`.
    """

    def __init__(
        self,
        store: str | RunStore = "memory://",
        *,
        owner: Callable[[flask.Request], str | None] | None = None,
        heartbeat_seconds: float = 5,
        max_streams: int | None = None,
        **options: Unpack[RunsKeywords],
    ) -> None:
        """Describe it; nothing is opened before the first request.

        Args:
            store: See `Tailrace`.
            owner: Whose request it is, asked in the request's own thread; may `abort`.
            heartbeat_seconds: The longest silence on an open stream. A client that left is noticed after two of them.
            max_streams: Streams that may be open at once in this process; beyond, a start is a 503. Each stream holds
                a thread of the server, so leave it a few for other requests.
            options: See `Tailrace`.

        Raises:
            StoreSetupError: The URL names no known kind of store, or its extra is missing.
        """
        self._owner = owner
        self._app: flask.Flask | None = None
        self.runs = Tailrace(
            store,
            owner=None if owner is None else _owner_in_scope,
            heartbeat_seconds=heartbeat_seconds,
            **options,
        )
        self._bridge = WsgiBridge(self.runs, max_streams=max_streams)

    def stream(self, source: SourceLike, **options: Unpack[StreamKeywords]) -> flask.Response:
        """A response that has started a run, or found it, and streams it; return it from a view.

        What `Tailrace.stream` does, with the same options. The source runs outside of this thread, with the context
        of the request: it may look at `flask.request`, whose body has been read if it has up to 1 MiB.

        Args:
            source: See `Tailrace.stream`.
            options: See `Tailrace.stream`.

        Raises:
            SourceInvalidError: The source can never be one.
            DialectNotFoundError: There is no such dialect.
            HTTPException: The source raised one of Starlette's before its first event; here it is werkzeug's.
        """
        response = self.runs.stream(source, **options)
        dialect = DIALECTS[options.get("dialect", native.DIALECT.name)]
        return self._answered(response, dialect, owner=options.get("owner"), unused=source)

    def respond(self, app: ASGIApp) -> flask.Response:
        """The answer of any ASGI response to this request; return it from a view.

        Such as `EventStream(source)`, or `tail.runs.resume(run_id)`.

        Raises:
            HTTPException: The source raised one of Starlette's before its first event; here it is werkzeug's.
        """
        return self._answered(app, native.DIALECT)

    def install(self, app: flask.Flask, path: str) -> None:
        """Add the run routes to an application under `path`, and drain when the worker is told to stop.

        The application finds this object again as `app.extensions["tailrace"]`.

        Args:
            app: The application.
            path: Such as `/runs`.

        Raises:
            ValueError: The path does not begin with a slash.
        """
        prefix = _prefix(path)
        self._app = app
        self.runs.installed(app, prefix)
        app.extensions["tailrace"] = self
        for row in RunRoutes(self.runs).table():
            self._add(app, prefix, row, streams=row.path not in _BRIEF)
        self.watch_signals()

    def install_surface(self, app: flask.Flask, surface: Mount, path: str | None = None) -> None:
        """Add the routes of a protocol, such as `tail.runs.openai(agent)`; their bodies may have up to 1 MiB.

        Args:
            app: The application.
            surface: Made by `runs`.
            path: Under which they go; by default where the protocol's clients expect them.

        Raises:
            ValueError: The path does not begin with a slash.
        """
        prefix = _prefix(surface.path if path is None else path)
        for row in surface.table():
            self._add(app, prefix, row, streams=True)

    def watch_signals(self) -> None:
        """Drain at SIGTERM; `install` does it. Again for `gunicorn --preload`, in its hook `post_worker_init`."""
        self._bridge.install()

    def call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Wait for what a coroutine of `runs` returns, such as `tail.call(tail.runs.cancel(run_id))`.

        Raises:
            RuntimeError: Called by an async source, which can await instead.
        """
        return self._bridge.call(coroutine)

    def close(self) -> None:
        """End the runs of this process, and what they need: for tests and scripts; the interpreter's exit does it."""
        self._bridge.close()

    def _add(self, app: flask.Flask, prefix: str, row: RouteRow, *, streams: bool) -> None:
        async def route(scope: Scope, receive: Receive, send: Send) -> None:
            response = await row.endpoint(Request(scope, receive))
            await response(scope, receive, send)

        def view(**path_params: str) -> flask.Response:
            request = flask.request
            if (request.content_length or 0) > _BODY_BYTES:
                flask.abort(413)
            dialect = DIALECTS.get(request.args.get("dialect", ""), native.DIALECT)
            return self._answered(route, dialect, streams=streams, path_params=path_params)

        rule = _PARAMETER.sub(_as_rule, prefix + row.path)
        name = f"tailrace {row.method} {rule}".replace(".", "-")
        app.add_url_rule(rule, name, view, methods=[row.method], strict_slashes=False)

    def _answered(
        self,
        app: ASGIApp,
        dialect: Dialect,
        *,
        streams: bool = True,
        owner: str | None = None,
        path_params: Mapping[str, str] | None = None,
        unused: object = None,
    ) -> flask.Response:
        request = flask.request
        extra: dict[str, object] = {"app": self._app, "path_params": path_params or {}}
        if self._owner is not None and owner is None:
            extra[_OWNER] = self._owner(request)
        body = _body_ahead(request)
        try:
            answer = self._bridge.answer(request.environ, app, body=body, dialect=dialect, streams=streams, extra=extra)
        except StreamsFullError as error:
            self._bridge.submit(discard(unused))
            # Of the routes, those with GET read what was begun by another request.
            read_only = path_params is not None and request.method == "GET"
            comes_back = read_only or "last-event-id" in request.headers
            answer = WsgiBridge.refusal(error, dialect, comes_back=comes_back)
        except starlette.exceptions.HTTPException as error:
            _refuse(error)
        return _as_flask(answer)


class _Refused(HTTPException):
    """Starlette's exception as werkzeug's, for the application's own error handlers."""

    def __init__(self, error: starlette.exceptions.HTTPException) -> None:
        super().__init__(error.detail)
        self.code = error.status_code
        self._headers = dict(error.headers or {})

    def get_headers(
        self, environ: dict[str, Any] | None = None, scope: dict[str, Any] | None = None
    ) -> list[tuple[str, str]]:
        return [*super().get_headers(environ, scope), *self._headers.items()]


class _LateBody:
    """In place of a request's input when it is too late to read it: the loop would wait for the client."""

    def read(self, *_: object) -> NoReturn:
        raise RuntimeError("read the request's body in the view, before the run begins")

    readline = readlines = read


def _refuse(error: starlette.exceptions.HTTPException) -> NoReturn:
    raise _Refused(error) from error


def _body_ahead(request: flask.Request) -> bytes:
    """The request's body, if it is not large; from now on there is no other."""
    body = request.get_data() if 0 < (request.content_length or 0) <= _BODY_BYTES else b""
    request.environ["wsgi.input"] = _LateBody()
    return body


def _prefix(path: str) -> str:
    """The path without a slash at its end.

    Raises:
        ValueError: It does not begin with one.
    """
    if not path.startswith("/"):
        raise ValueError("the path of the routes begins with a slash")
    return path.rstrip("/")


def _as_rule(parameter: re.Match[str]) -> str:
    """A parameter of a path as Flask spells it: `{name:path}` is `<path:name>`."""
    name, _, kind = parameter[1].partition(":")
    return f"<{kind}:{name}>" if kind else f"<{name}>"


def _owner_in_scope(request: Request) -> str | None:
    return cast("str | None", request.scope.get(_OWNER))


def _as_flask(answer: Answer) -> flask.Response:
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]
    return flask.Response(answer.body, answer.status, headers)
