"""What a route says about itself in OpenAPI, where a framework cannot read that off its signature."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from tailrace.wire.dialects.registry import DIALECTS, get_dialect
from tailrace.wire.schema import item_schema

__all__ = ["described", "stream_responses"]

_PLACE = re.compile(r"\{(\w+)(?::\w+)?\}")


def stream_responses(*dialects: str) -> dict[int | str, dict[str, Any]]:
    """The responses of a route that streams, for FastAPI's `responses=`: the union of its frames (3.2, `itemSchema`).

    Args:
        dialects: The names of those it may answer in; none is all.

    Raises:
        DialectNotFoundError: There is no dialect of one of the names.
    """
    schemas = [item_schema(get_dialect(name).frame_kinds()) for name in dialects or DIALECTS]
    item = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    return {200: {"description": "The run, event by event.", "content": {"text/event-stream": {"itemSchema": item}}}}


def described(path: str, body: Any = None, query: Mapping[str, str] | None = None) -> dict[str, Any]:  # noqa: ANN401
    """What a route takes, for FastAPI's `openapi_extra=`: the places in its path, its query, its JSON body.

    Args:
        path: With its places in braces.
        body: The shape of the body, as msgspec takes one; `None` for no body.
        query: The names of the query's parameters, each with what it is for.
    """
    places = [_parameter(name, "path", "") for name in _PLACE.findall(path)]
    asked = [_parameter(name, "query", about) for name, about in (query or {}).items()]
    told: dict[str, Any] = {"parameters": [*places, *asked]} if places or asked else {}
    if body is not None:
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": _inlined(body)}}}
    return told


def _parameter(name: str, place: str, about: str) -> dict[str, Any]:
    told = {"description": about} if about else {}
    return {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}, **told}


def _inlined(shape: Any) -> dict[str, Any]:  # noqa: ANN401  whatever msgspec takes
    """The shape's schema without references, which would have to be kept elsewhere in the document."""
    (schema,), parts = msgspec.json.schema_components([shape])
    return dict(_resolved(schema, parts, ()))


def _resolved(schema: Any, parts: Mapping[str, Any], open_names: Iterable[str]) -> Any:  # noqa: ANN401  a JSON value
    if isinstance(schema, list):
        return [_resolved(item, parts, open_names) for item in cast("list[object]", schema)]
    if not isinstance(schema, dict):
        return schema
    told = cast("dict[str, object]", schema)
    reference = told.get("$ref")
    if isinstance(reference, str):
        name = reference.rpartition("/")[2]
        # A shape that holds itself has no end; below its first level anything goes.
        return {} if name in open_names else _resolved(parts[name], parts, (*open_names, name))
    return {name: _resolved(item, parts, open_names) for name, item in told.items() if name != "discriminator"}
