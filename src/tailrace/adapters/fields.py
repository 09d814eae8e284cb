"""What a chunk holds: the same field of an SDK's object and of the JSON object that it was made from."""

from collections.abc import Iterable
from typing import Any, cast

import msgspec

__all__ = ["count_in", "field", "items_in", "plain", "returned", "text_in"]


def field(value: object, *path: str) -> Any:  # noqa: ANN401  the chunk is whatever the provider sent
    """What is at the end of the path; `None` where it leads nowhere."""
    for name in path:
        value = cast("Any", value).get(name) if isinstance(value, dict) else getattr(value, name, None)
    return value


def text_in(value: object, *path: str) -> str:
    """The text there; empty if there is none."""
    found = field(value, *path)
    return found if isinstance(found, str) else ""


def count_in(value: object, *path: str) -> int | None:
    """The number of tokens there."""
    found = field(value, *path)
    return found if isinstance(found, int) else None


def items_in(value: object, *path: str) -> list[object]:
    """The list there; empty if there is none."""
    found = field(value, *path)
    return cast("list[object]", found) if isinstance(found, list) else []


def plain(value: object) -> Any:  # noqa: ANN401  any JSON value
    """The value as JSON has it, SDK's objects in it too."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in cast("dict[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("Iterable[object]", value)]
    dump = getattr(value, "model_dump", None)
    return dump(mode="json", exclude_none=True) if callable(dump) else value


def returned(value: object) -> Any:  # noqa: ANN401  any JSON value
    """What an application's own code gave, as JSON has it; what has no JSON form at all is its text."""
    try:
        return msgspec.to_builtins(value, str_keys=True, enc_hook=_dumped)
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _dumped(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if callable(dump) else str(value)
