"""How values of events are spelled in the JSON of a protocol: what is not there is absent and never null."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import msgspec

from tailrace.events import Event

__all__ = ["Json", "arguments_of", "fields_of", "given", "iso_time", "text_of"]

#: An object of JSON.
Json: TypeAlias = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def given(**fields: object) -> Json:
    """The fields that are there. A client that does not expect a null may end the stream at one."""
    return {name: value for name, value in fields.items() if value is not None}


def fields_of(event: Event) -> Json:
    """What the event itself says, without its type and without `ext`."""
    fields: Json = msgspec.to_builtins(event)
    return {name: value for name, value in fields.items() if name not in {"type", "ext"} and value is not None}


def text_of(value: object) -> str:
    """A tool's output where a protocol has only text for it: text as it is, JSON of anything else."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def arguments_of(value: object) -> str:
    """A call's arguments as JSON text; an empty object if there are none."""
    return "{}" if value is None else msgspec.json.encode(value).decode()


def iso_time(at_ms: int) -> str:
    """Unix milliseconds as ISO 8601, in UTC.

    Raises:
        OverflowError: The year has more than four digits.
    """
    return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds")
