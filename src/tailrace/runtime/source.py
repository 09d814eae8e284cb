"""Anything into events: the only place that knows what a source may be and what it may yield.

A source is

- an (async) iterator or iterable;
- a provider's stream as its SDK gives it: it is read by its adapter, under all rules of `tailrace.adapters.contract`;
- a callable without arguments that returns one of these, directly or as an awaitable. It is called in the event loop,
  and only if its run is the one that starts; blocking work belongs inside a sync generator, which runs on a thread of
  its own.

It yields `str` (text), events, `{"event": name, "data": value}`, or frames as other SSE libraries take them; anything
else ends the run with a message that names its type. Or it yields the chunks of a model's answers, all of them, mixed
with these. Each is read by its adapter. Another answer may follow, as in an agent's loop: counts of tokens are those of
all answers, and the run goes on to the end of the source. If that comes while the last answer is not complete, the run
fails as the stream would have: `provider_truncated`, or what the error means that was raised. No watchdog looks at such
a source, which may be at work for itself.

What a source raises is a provider's failure if it is an SDK's error (`tailrace.adapters.failures.is_providers`), or,
while an answer's chunks are coming, any error of the network. All else is the source's own failure.
"""

import inspect
import re
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeGuard, cast, get_args

import msgspec

from tailrace import events
from tailrace.adapters.closing import close_method, close_sources
from tailrace.adapters.recognition import is_framework_run, provider_stream
from tailrace.errors import SourceInvalidError
from tailrace.events import Event

__all__ = [
    "SourceLike",
    "check_event",
    "check_source",
    "discard",
    "is_frame",
    "open_source",
    "to_event",
]

SourceLike: TypeAlias = AsyncIterable[Any] | Iterable[Any] | Callable[[], Any]

_EXPECTED_SOURCE = "an (async) iterator, or a callable without arguments that returns one"
_EXPECTED_ITEM = 'str, an event of tailrace.events, a chunk of a known provider, or {"event": name, "data": value}'
_EXPECTED_TEXT = (
    'str, or {"event": name, "data": value}: decode bytes, and leave "data: " and blank lines to the stream'
)
_EVENT_TYPES: frozenset[type] = frozenset(get_args(Event))
#: Only the runtime knows when these are true.
_RUNTIME_ONLY: frozenset[type] = frozenset({events.RunStarted, events.RunCancelled, events.RunInterrupted})
#: How long a source that was not used may take to close.
_UNUSED_SECONDS = 5.0
#: The fields of a frame as other SSE libraries spell them, in a dict or on an object.
_FRAME_KEYS = frozenset({"data", "event", "id", "retry", "comment"})
_FRAME_ATTRIBUTES = ("data", "event", "id", "retry")
_UNNAMED = "message"
_DATA_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}", re.ASCII)


def check_source(source: object) -> None:
    """Refuse early what can never be a source.

    Raises:
        SourceInvalidError: Neither iterable nor callable; also a string, bytes, a mapping, or a coroutine.
    """
    if inspect.iscoroutine(source):
        source.close()
        raise SourceInvalidError("a coroutine", f"{_EXPECTED_SOURCE}: wrap it in a lambda")
    if not _is_iterable(source) and not callable(source) and not is_framework_run(source):
        raise SourceInvalidError(type(source).__name__, _EXPECTED_SOURCE)


async def open_source(source: object) -> AsyncIterable[Any] | Iterable[Any]:
    """Call the source if it is a callable, await what it returns, and give what can be iterated into items.

    Raises:
        SourceInvalidError: It is not one.
    """
    if callable(source) and not _is_iterable(source):
        source = cast("Callable[[], object]", source)()
        if isinstance(source, Awaitable):
            source = await cast("Awaitable[object]", source)
    if (stream := provider_stream(source)) is not None:
        return stream
    if not _is_iterable(source):
        raise SourceInvalidError(type(source).__name__, _EXPECTED_SOURCE)
    return source


def _is_iterable(source: object) -> TypeGuard[AsyncIterable[Any] | Iterable[Any]]:
    """Iterable as a stream of items; text, bytes and mappings are iterable by accident."""
    return isinstance(source, AsyncIterable | Iterable) and not isinstance(source, str | bytes | Mapping)


async def discard(source: object, *, patience_seconds: float = _UNUSED_SECONDS) -> None:
    """Close a source that lost or was never used. A callable was not called, so there is nothing to close."""
    if is_framework_run(source):
        source = provider_stream(source)
    if close_method(source) is not None:
        await close_sources([source], patience_seconds)


def is_frame(item: object) -> TypeGuard[dict[str, Any]]:
    """Whether it is a dict whose keys are those of a frame, and so no chunk of anybody's."""
    if not isinstance(item, dict):
        return False
    keys = cast("dict[str, Any]", item).keys()
    return bool(keys) and keys <= _FRAME_KEYS


def to_event(item: object) -> Event | None:
    """What a source yielded as an event; `None` for what says nothing: empty text, and a frame without data.

    Frames come as a dict with some of the keys `data`, `event`, `id`, `retry` and `comment`, or as an object with these
    attributes, as sse-starlette and FastAPI have them. Such a frame becomes `Data` by the name of its event, `message`
    if it has none. The rest of it is left out: the numbers of a log are its ids, and a stream sends its own comments.

    Raises:
        SourceInvalidError: It is no event, or one that only the runtime may write.
    """
    if isinstance(item, str):
        return events.TextDelta(str(item)) if item else None
    if isinstance(item, msgspec.Struct):
        return check_event(item)
    if is_frame(item):
        return _data_of(item)
    if isinstance(item, dict):
        raise SourceInvalidError("dict", _EXPECTED_ITEM)
    data = _frame_data(item)
    return None if data is None else check_event(data)


def check_event(item: object) -> Event:
    """The item, if it is an event that a source may add.

    Raises:
        SourceInvalidError: It is no event, one that only the runtime may write, or data whose name cannot be sent.
    """
    if type(item) not in _EVENT_TYPES:
        raise SourceInvalidError(type(item).__name__, _EXPECTED_ITEM)
    if type(item) in _RUNTIME_ONLY:
        raise SourceInvalidError(type(item).__name__, "an event that a source may yield")
    if isinstance(item, events.Data) and not _is_name(item.name):
        raise SourceInvalidError("an event name", "a name of letters, digits, '_', '.', ':' and '-', at most 64")
    return cast("Event", item)


def _data_of(frame: dict[str, Any]) -> Event | None:
    """What a frame says that is a dict; `None` if it has no data.

    Raises:
        SourceInvalidError: The name of its event cannot be sent.
    """
    name = frame.get("event")
    if not isinstance(name, str | None):
        raise SourceInvalidError("dict", _EXPECTED_ITEM)
    return check_event(events.Data(name or _UNNAMED, frame["data"])) if "data" in frame else None


def _frame_data(item: object) -> events.Data | None:
    """What the frame object of another library says.

    FastAPI's writes `data` as JSON, text in quotes, unless it is `raw_data`; anybody else's writes text as it is.

    Raises:
        SourceInvalidError: It is no such object.
    """
    if isinstance(item, bytes | bytearray):
        raise SourceInvalidError(type(item).__name__, _EXPECTED_TEXT)
    if not all(hasattr(item, name) for name in _FRAME_ATTRIBUTES):
        raise SourceInvalidError(type(item).__name__, _EXPECTED_ITEM)
    frame = cast("Any", item)
    name, data = frame.event or _UNNAMED, frame.data
    if hasattr(item, "raw_data"):
        data = frame.raw_data if frame.raw_data is not None else _written_as_json(data)
    return None if data is None else events.Data(name, data)


def _written_as_json(data: Any) -> Any:  # noqa: ANN401  any JSON value
    """Text in its quotes, a pydantic model as the object it stands for, and any other value as it is."""
    if isinstance(data, str):
        return msgspec.json.encode(data).decode()
    return data.model_dump(mode="json") if hasattr(data, "model_dump") else data


def _is_name(name: object) -> bool:
    return isinstance(name, str) and _DATA_NAME.fullmatch(name) is not None
