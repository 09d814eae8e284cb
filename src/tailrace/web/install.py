"""Adding routes to an application: as plain routes to Starlette, through a router to FastAPI.

FastAPI is not a dependency; it is looked for only among what the application has imported.
"""

import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tailrace.errors import TailraceError
from tailrace.web.errors import error_response
from tailrace.web.openapi import described, stream_responses
from tailrace.wire.dialects import native

__all__ = ["RouteRow", "add_error_answers", "add_routes", "starlette_routes"]

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class RouteRow(NamedTuple):
    """One route.

    Attributes:
        path: Below where the routes are installed.
        method: GET, POST and so on.
        endpoint: Answers a request.
        summary: What it does, in a line.
        dialects: Those it may stream in; empty means all.
        body: The shape of its JSON body, as msgspec takes one.
        query: The names of its query parameters, each with what it is for.
    """

    path: str
    method: str
    endpoint: Endpoint
    summary: str
    dialects: Sequence[str] | None = None
    body: Any = None
    query: Mapping[str, str] = {}


def add_error_answers(app: Starlette) -> None:
    """Answer a `TailraceError` that a handler lets pass with its status, unless the application does so itself."""

    async def answer(_: Request, error: Exception) -> Response:
        return error_response(cast("TailraceError", error), native.DIALECT)

    app.exception_handlers.setdefault(TailraceError, answer)


def starlette_routes(table: Iterable[RouteRow], prefix: str) -> list[Route]:
    """The routes for a Starlette application, each with and without a slash at the end."""
    return [
        Route(prefix + path, row.endpoint, methods=[row.method])
        for row in table
        for path in _both_slashes(row.path, prefix)
    ]


def add_routes(app: Starlette, table: Iterable[RouteRow], path: str, *, tag: str, dependencies: Sequence[Any]) -> None:
    """Add the routes under `path`. On FastAPI the application's own dependencies guard them too.

    Args:
        app: The application.
        table: The routes.
        path: Under which they go; without a slash at its end.
        tag: Their heading in FastAPI's documentation.
        dependencies: FastAPI dependencies for each of them.

    Raises:
        ValueError: Dependencies were given, and the application has no use for them.
    """
    fastapi: Any = sys.modules.get("fastapi")
    if fastapi is not None and isinstance(app, fastapi.FastAPI):
        fastapi_app: Any = app
        router = _fastapi_router(fastapi.APIRouter(tags=[tag]), table, path)
        fastapi_app.include_router(router, dependencies=list(dependencies))
        return
    if dependencies:
        raise ValueError("dependencies are a notion of FastAPI; guard a Starlette application with middleware")
    app.router.routes.extend(starlette_routes(table, path))


def _fastapi_router(router: Any, table: Iterable[RouteRow], path: str) -> Any:  # noqa: ANN401  not a dependency
    for row in table:
        for index, suffix in enumerate(_both_slashes(row.path, path)):
            # Starlette answers HEAD wherever it answers GET; FastAPI has to be told.
            for method in ("GET", "HEAD") if row.method == "GET" else (row.method,):
                documented = index > 0 and method == row.method
                router.add_api_route(
                    path + suffix,
                    row.endpoint,
                    methods=[method],
                    summary=row.summary,
                    include_in_schema=documented,
                    response_model=None,
                    responses=stream_responses(*row.dialects) if documented and row.dialects is not None else None,
                    openapi_extra=described(path + suffix, row.body, row.query) if documented else None,
                )
    return router


def _both_slashes(path: str, prefix: str) -> list[str]:
    """The path with and without a slash at the end; the empty path only where a prefix makes it a path."""
    bare = path.rstrip("/")
    return [f"{bare}/", *([bare] if bare or prefix else [])]
