"""What a route that streams says about itself in OpenAPI: the union of its frames (OpenAPI 3.2, `itemSchema`)."""

from typing import Any

from tailrace.wire.dialects.registry import DIALECTS, get_dialect
from tailrace.wire.schema import item_schema

__all__ = ["stream_responses"]


def stream_responses(*dialects: str) -> dict[int | str, dict[str, Any]]:
    """The responses of a route that streams, for FastAPI's `responses=`.

    Args:
        dialects: The names of those it may answer in; none is all.

    Raises:
        DialectNotFoundError: There is no dialect of one of the names.
    """
    schemas = [item_schema(get_dialect(name).frame_kinds()) for name in dialects or DIALECTS]
    item = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    return {200: {"description": "The run, event by event.", "content": {"text/event-stream": {"itemSchema": item}}}}
