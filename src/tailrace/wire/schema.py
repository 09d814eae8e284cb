"""What the frames of a stream can be, as JSON Schema: what OpenAPI 3.2 calls an `itemSchema`.

An item is one frame with its fields as properties (OpenAPI 3.2.0, section 4.14.6); JSON in its data is described by
`contentSchema`. Nothing refers to anything, so a schema can be put anywhere.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias, cast, get_args

import msgspec

from tailrace.events import Event, Opaque

__all__ = ["FrameKind", "Schema", "enumerated", "event_kinds", "item_schema"]

Schema: TypeAlias = dict[str, Any]

_REFERENCE = "{name}"


class FrameKind(NamedTuple):
    """One kind of frame: its event name, if it has one, and the schema of its data, if that is JSON."""

    event: str | None
    data: Mapping[str, Any] | None


def item_schema(kinds: Iterable[FrameKind]) -> Schema:
    """A frame of one of these kinds."""
    return {
        "type": "object",
        "properties": {
            "id": {"type": "string", "description": "Where a reader stands that has this frame."},
            "event": {"type": "string"},
            "data": {"type": "string"},
            "retry": {"type": "integer", "minimum": 1000},
        },
        "required": ["data"],
        "oneOf": [_kind_schema(kind) for kind in kinds],
    }


def event_kinds() -> list[FrameKind]:
    """A frame for each event of the vocabulary, under its type."""
    structs = [struct for struct in get_args(Event) if struct is not Opaque]
    references, components = msgspec.json.schema_components(structs, ref_template=_REFERENCE)
    kinds: list[FrameKind] = []
    for reference in references:
        schema = cast("Schema", _inlined(reference, components))
        schema["properties"] = {**schema["properties"], "at_ms": {"type": "integer"}, "first": {"type": "integer"}}
        kinds.append(FrameKind(schema["properties"]["type"]["enum"][0], schema))
    return kinds


def enumerated(field: str, values: Iterable[str]) -> Schema:
    """A JSON object that says what it is in one of its fields."""
    return {"type": "object", "required": [field], "properties": {field: {"enum": list(values)}}}


def _kind_schema(kind: FrameKind) -> Schema:
    data = {} if kind.data is None else {"contentMediaType": "application/json", "contentSchema": kind.data}
    properties: Schema = {"data": data} if data else {}
    if kind.event is None:
        return {"properties": properties, "not": {"required": ["event"]}}
    return {"properties": {"event": {"const": kind.event}, **properties}, "required": ["event"]}


def _inlined(schema: object, components: Mapping[str, Any]) -> object:
    """The schema with what it refers to in place of the references."""
    if isinstance(schema, list):
        return [_inlined(item, components) for item in cast("list[object]", schema)]
    if not isinstance(schema, dict):
        return schema
    members = cast("dict[str, object]", schema)
    reference = members.get("$ref")
    if isinstance(reference, str):
        return _inlined(components[reference], components)
    return {name: _inlined(value, components) for name, value in members.items()}
