"""How AG-UI spells what its clients check closely: usage, interrupts, and operations of JSON Patch."""

import re
from collections.abc import Iterable

from tailrace import events
from tailrace.wire.values import Json, given, iso_time

__all__ = ["interrupts_of", "operation_of", "usage_of"]

_MOST_TOKENS = 2**53 - 1
_USAGE_FIELDS = {
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "reasoningTokens": "reasoning_tokens",
    "cachedInputTokens": "cached_input_tokens",
    "cacheWriteInputTokens": "cache_write_input_tokens",
}
#: RFC 6902 and, for the paths, RFC 6901: clients end the run at anything else.
_OPERATIONS = {
    "add": ("path", "value"),
    "remove": ("path",),
    "replace": ("path", "value"),
    "move": ("from", "path"),
    "copy": ("from", "path"),
    "test": ("path", "value"),
}
_POINTER = re.compile(r"(?:/(?:[^/~]|~[01])*)*")


def interrupts_of(interrupts: Iterable[events.Interrupt]) -> list[Json]:
    """What a paused run waits for, in AG-UI's form."""
    return [
        {
            "id": interrupt.id,
            "reason": interrupt.kind,
            **given(
                message=interrupt.message,
                toolCallId=interrupt.call_id,
                responseSchema=interrupt.schema,
                expiresAt=_iso_time(interrupt.expires_at_ms),
            ),
        }
        for interrupt in interrupts
    ]


def usage_of(counts: Iterable[events.Usage]) -> list[Json]:
    """What each model used; a count that JavaScript cannot hold is left out."""
    return [_usage_row(used) for used in counts]


def operation_of(operation: Json) -> Json | None:
    """The operation with the fields that it has to have, and nothing if it lacks one."""
    kind = operation.get("op")
    needed = _OPERATIONS.get(kind) if isinstance(kind, str) else None
    if needed is None or not operation.keys() >= set(needed):
        return None
    pointers = [operation[name] for name in needed if name != "value"]
    if not all(isinstance(pointer, str) and _POINTER.fullmatch(pointer) for pointer in pointers):
        return None
    return {"op": kind, **{name: operation[name] for name in needed}}


def _iso_time(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    try:
        return iso_time(at_ms)
    except OverflowError:
        return None


def _usage_row(used: events.Usage) -> Json:
    tokens = {told: getattr(used, name) for told, name in _USAGE_FIELDS.items()}
    if used.input_tokens is not None and used.output_tokens is not None:
        tokens["totalTokens"] = used.input_tokens + used.output_tokens
    in_range = {name: count for name, count in tokens.items() if count is not None and 0 <= count <= _MOST_TOKENS}
    return {**given(provider=used.provider, model=used.model), **in_range}
