"""How the end of a stream is known in each dialect: by its last event, and by nothing else.

A connection that closes, however politely, is no end. Beside what is here, the comment `: end` and a 204 end a stream
in every dialect; for `raw`, any event stream, they are all there is. So they are for the `error` of `steps`, since an
application may call data of its own so.
"""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from tailrace.client.answers import UNREADABLE
from tailrace.errors import DialectNotFoundError
from tailrace.events import TERMINAL_TYPES
from tailrace.wire.sse import ServerSentEvent

__all__ = ["RAW", "ending_of"]

#: Instead of a dialect's name: any event stream.
RAW = "raw"

_Ending: TypeAlias = Callable[[ServerSentEvent], bool]


def ending_of(dialect: str) -> _Ending:
    """What tells whether an event is the last one of a stream in the dialect.

    Raises:
        DialectNotFoundError: There is no such dialect.
    """
    try:
        return _ENDINGS[dialect]
    except KeyError:
        raise DialectNotFoundError(dialect) from None


def _named(*names: str) -> _Ending:
    return lambda event: event.event in names


def _is_done(event: ServerSentEvent) -> bool:
    return event.data == "[DONE]"


class _Typed(msgspec.Struct):
    type: str


def _is_ag_ui_end(event: ServerSentEvent) -> bool:
    # Nearly all events are deltas, which need no second look.
    if '"RUN_' not in event.data:
        return False
    try:
        return msgspec.json.decode(event.data, type=_Typed).type in {"RUN_FINISHED", "RUN_ERROR"}
    except UNREADABLE:
        return False


_ENDINGS: dict[str, _Ending] = {
    RAW: lambda _: False,
    "native": _named(*TERMINAL_TYPES),
    "chunks": _named("end"),
    "steps": _named("complete"),
    "text": _named("run.ended"),
    "openai-responses": _named(*(f"response.{verb}" for verb in ("completed", "failed", "incomplete", "cancelled"))),
    "tokens": _is_done,
    "openai": _is_done,
    "ai-sdk": _is_done,
    "ag-ui": _is_ag_ui_end,
}
