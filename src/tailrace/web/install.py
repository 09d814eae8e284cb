"""Adding the run routes to an application: as plain routes to Starlette, through a router to FastAPI.

FastAPI is not a dependency; it is looked for only among what the application has imported.
"""

import sys
from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette

from tailrace.web.routes import RunRoutes, both_slashes

__all__ = ["add_routes"]


def add_routes(app: Starlette, routes: RunRoutes, path: str, dependencies: Sequence[Any]) -> None:
    """Add `routes` under `path`. On FastAPI the application's own dependencies guard them too.

    Raises:
        ValueError: Dependencies were given, and the application has no use for them.
    """
    fastapi: Any = sys.modules.get("fastapi")
    if fastapi is not None and isinstance(app, fastapi.FastAPI):
        fastapi_app: Any = app
        fastapi_app.include_router(_fastapi_router(fastapi, routes, path), dependencies=list(dependencies))
        return
    if dependencies:
        raise ValueError("dependencies are a notion of FastAPI; guard a Starlette application with middleware")
    app.router.routes.extend(routes.starlette(path))


def _fastapi_router(fastapi: Any, routes: RunRoutes, path: str) -> Any:  # noqa: ANN401  not a dependency
    router = fastapi.APIRouter(tags=["runs"])
    for route in routes.table():
        for index, suffix in enumerate(both_slashes(route.path, path)):
            # Starlette answers HEAD wherever it answers GET; FastAPI has to be told.
            for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
                router.add_api_route(
                    path + suffix,
                    route.endpoint,
                    methods=[method],
                    summary=route.summary,
                    include_in_schema=index > 0 and method == route.method,
                    response_model=None,
                )
    return router
