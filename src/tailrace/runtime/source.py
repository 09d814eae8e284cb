"""Anything into events: the only place that knows what a source may be and what it may yield.

A source is an (async) iterator, an (async) iterable such as a provider's stream, or a callable without arguments that
returns one, directly or as an awaitable. It yields `str` (text), events, `{"event": name, "data": value}`; anything
else ends the run with a message that names its type. A callable is called in the event loop, and only if its run is
the one that starts; blocking work belongs inside a sync generator, which runs on a thread of its own.
"""

import inspect
import re
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeGuard, cast, get_args

from tailrace import events
from tailrace.errors import SourceInvalidError
from tailrace.events import Event

__all__ = ["SourceLike", "check_source", "discard", "open_source", "to_event"]

SourceLike: TypeAlias = AsyncIterable[Any] | Iterable[Any] | Callable[[], Any]

_EXPECTED_SOURCE = "an (async) iterator, or a callable without arguments that returns one"
_EXPECTED_ITEM = 'str, an event of tailrace.events, or {"event": name, "data": value}'
_EVENT_TYPES = get_args(Event)
#: Only the runtime knows when these are true.
_RUNTIME_ONLY = (events.RunStarted, events.RunCancelled, events.RunInterrupted)
_DATA_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}", re.ASCII)


def check_source(source: object) -> None:
    """Refuse early what can never be a source.

    Raises:
        SourceInvalidError: Neither iterable nor callable; also a string, bytes, a mapping, or a coroutine.
    """
    if inspect.iscoroutine(source):
        source.close()
        raise SourceInvalidError("a coroutine", f"{_EXPECTED_SOURCE}: wrap it in a lambda")
    if not _is_iterable(source) and not callable(source):
        raise SourceInvalidError(type(source).__name__, _EXPECTED_SOURCE)


async def open_source(source: object) -> AsyncIterable[Any] | Iterable[Any]:
    """Call the source if it is a callable, await what it returns, and give what can be iterated.

    Raises:
        SourceInvalidError: It is not one.
    """
    if callable(source) and not _is_iterable(source):
        source = cast("Callable[[], object]", source)()
        if isinstance(source, Awaitable):
            source = await cast("Awaitable[object]", source)
    if not _is_iterable(source):
        raise SourceInvalidError(type(source).__name__, _EXPECTED_SOURCE)
    return source


def _is_iterable(source: object) -> TypeGuard[AsyncIterable[Any] | Iterable[Any]]:
    """Iterable as a stream of items; text, bytes and mappings are iterable by accident."""
    return isinstance(source, AsyncIterable | Iterable) and not isinstance(source, str | bytes | Mapping)


async def discard(source: object) -> None:
    """Close a source that lost or was never used. A callable was not called, so there is nothing to close.

    Providers' streams close by `aclose`, or by `close`, which may be a coroutine function.
    """
    for name in ("aclose", "close"):
        close = getattr(source, name, None)
        if callable(close):
            closing = close()
            if isinstance(closing, Awaitable):
                await cast("Awaitable[object]", closing)
            return


def to_event(item: object) -> Event | None:
    """What a source yielded as an event; `None` for empty text, which says nothing.

    Raises:
        SourceInvalidError: It is no event, or one that only the runtime may write.
    """
    if isinstance(item, str):
        return events.TextDelta(item) if item else None
    if isinstance(item, _EVENT_TYPES):
        if isinstance(item, _RUNTIME_ONLY):
            raise SourceInvalidError(type(item).__name__, "an event that a source may yield")
        if isinstance(item, events.Data):
            _check_name(item.name)
        return cast("Event", item)
    if isinstance(item, dict):
        return _data(cast("dict[str, Any]", item))
    raise SourceInvalidError(type(item).__name__, _EXPECTED_ITEM)


def _data(item: dict[str, Any]) -> events.Data:
    if item.keys() != {"event", "data"} or not isinstance(item["event"], str):
        raise SourceInvalidError("dict", _EXPECTED_ITEM)
    _check_name(item["event"])
    return events.Data(item["event"], item["data"])


def _check_name(name: str) -> None:
    if _DATA_NAME.fullmatch(name) is None:
        raise SourceInvalidError("an event name", "a name of letters, digits, '_', '.', ':' and '-', at most 64")
