"""The producer of one run: it owns the numbers. What a source yields and what its tools `emit` become entries here.

Both ways in take the same lock, so the order in the log is the order of the calls, from whatever thread.
"""

import contextlib
import contextvars
import threading
from collections.abc import Callable, Generator, Iterator
from typing import NoReturn, cast

import msgspec

from tailrace import events
from tailrace.errors import (
    BufferFullError,
    EventInvalidError,
    NoRunError,
    RunClosedError,
    RunLimitError,
    SourceInvalidError,
)
from tailrace.events import DELTAS, Entry, Event, Opaque, decode, encode_record, event_type
from tailrace.runtime.clock import Clock
from tailrace.runtime.ids import IdFiller
from tailrace.runtime.limits import Limits
from tailrace.runtime.log import EntryLog
from tailrace.runtime.source import check_event
from tailrace.stores.contract import OPEN

__all__ = ["FINAL_STATES", "CurrentRun", "Producer", "current_run", "emit", "producing", "producing_here"]

#: The final state under which a store keeps a run, by its terminal event.
FINAL_STATES: dict[type, int] = {
    events.RunCompleted: 1,
    events.RunFailed: 2,
    events.RunCancelled: 3,
    events.RunInterrupted: 4,
    events.RunPaused: 5,
}

_TEXTS = (events.TextDelta, events.ReasoningDelta)
#: `run.started` and the first event of the source: nobody should wait for these.
_FIRST = 2

_producing: contextvars.ContextVar["Producer"] = contextvars.ContextVar("tailrace_producing")


class CurrentRun(msgspec.Struct, frozen=True):
    """The run that some code produces.

    Attributes:
        run_id: Its id.
        message_id: The id that its first message has, unless the source names another.
    """

    run_id: str
    message_id: str


def current_run() -> CurrentRun:
    """The run that this code is called from; known before the source has yielded anything.

    Raises:
        NoRunError: Not called from within a source.
    """
    producer = _producing.get(None)
    if producer is None:
        raise NoRunError
    return CurrentRun(producer.run_id, producer.first_message_id)


def emit(event: Event) -> None:
    """Add an event to the run that this code is called from: a tool deep in a source's stack, a task that it started.

    Never blocks and may be called from any thread. Tasks and `asyncio.to_thread` carry the run with them; a bare thread
    does so only if it is run in a copy of the context. Emitted and yielded events stand in the log in the order of the
    calls.

    Raises:
        NoRunError: Not called from within a source.
        RunClosedError: The run has ended.
        RunLimitError: The run reached its bound; it ends as failed.
        BufferFullError: Too much waits for the store; nothing was added, and a later call may succeed.
        EventInvalidError: It is no event, has no JSON form, or is one that only the runtime or a `yield` may add.
    """
    producer = _producing.get(None)
    if producer is None:
        raise NoRunError
    try:
        check_event(event)
    except SourceInvalidError as error:
        raise EventInvalidError(f"emit {error}") from error
    if isinstance(event, events.TERMINALS):
        raise EventInvalidError(f"{events.event_type(event)} cannot be emitted: yield it, or leave it to the runtime")
    producer.emit(event)


def producing(context: contextvars.Context, producer: "Producer") -> None:
    """Make `context` a producing context of `producer`'s run."""
    context.run(_producing.set, producer)


@contextlib.contextmanager
def producing_here(producer: "Producer") -> Generator[None]:
    """Make the code within a producing context of `producer`'s run."""
    token = _producing.set(producer)
    try:
        yield
    finally:
        _producing.reset(token)


class Producer:
    """Numbers, completes and appends events until the run is closed."""

    def __init__(
        self,
        run_id: str,
        log: EntryLog,
        *,
        clock: Clock,
        limits: Limits,
        on_append: Callable[[bool], None],
        message_id: str | None = None,
    ) -> None:
        """Begin at number 1.

        Args:
            run_id: The run.
            log: Where the entries go.
            clock: Stamps them.
            limits: The bounds.
            on_append: Called after each append, from the thread that appended, with whether it is urgent.
            message_id: See `IdFiller`.
        """
        self.run_id = run_id
        self.exceeded: RunLimitError | None = None
        self._log = log
        self._clock = clock
        self._limits = limits
        self._on_append = on_append
        self._ids = IdFiller(run_id, message_id=message_id)
        self._lock = threading.Lock()
        self._stopping = False
        self._closed = False

    @property
    def first_message_id(self) -> str:
        """The id that the first message gets if the source does not name it."""
        return self._ids.first_message_id

    @property
    def full(self) -> bool:
        """Whether a source has to wait before its next event."""
        return self._log.pending_bytes > self._limits.pending_bytes

    def stop(self) -> None:
        """The run is about to end: take nothing more from its source. What its tools emit is still taken."""
        self._stopping = True

    def take(self, event: Event) -> None:
        """Add what a source yielded.

        Raises:
            RunClosedError: The run has ended, or is about to.
            RunLimitError: The run reached its bound.
            EventInvalidError: The event has no JSON form.
        """
        if self._stopping:
            raise RunClosedError(self.run_id)
        self.append(event)

    def append(self, event: Event) -> None:
        """Add an event.

        Raises:
            RunClosedError: The run has ended.
            RunLimitError: The run reached its bound.
            EventInvalidError: The event has no JSON form.
        """
        try:
            with self._lock:
                if isinstance(event, _TEXTS) and len(event.delta) > self._limits.delta_characters:
                    for piece in _pieces(event, self._limits.delta_characters):
                        self._append(piece)
                else:
                    self._append(event)
        finally:
            # A delta may wait for the next one; whatever else happens is news.
            self._on_append(not isinstance(event, DELTAS) or self._log.length <= _FIRST)

    def emit(self, event: Event) -> None:
        """Add what a tool emitted; see `emit`.

        Raises:
            RunClosedError: The run has ended.
            RunLimitError: The run reached its bound.
            BufferFullError: Too much waits for the store.
            EventInvalidError: The event has no JSON form.
        """
        if self.full:
            raise BufferFullError(self._limits.pending_bytes)
        self.append(event)

    def finish(self, terminal: events.Terminal) -> bool:
        """Add the terminal event, if the run has none, and close; False if it was closed before.

        Raises:
            EventInvalidError: It has no JSON form; the run is still open.
            RunLimitError: It is larger than an event may be; the run is still open.
        """
        with self._lock:
            if self._closed:
                return False
            entry, record = self._entry(terminal)
            self._closed = True
            self._log.append(entry, record, final=FINAL_STATES[type(terminal)])
        self._on_append(True)  # noqa: FBT003  a callback's only argument
        return True

    def _append(self, event: Event) -> None:
        if self._closed:
            raise RunClosedError(self.run_id)
        entry, record = self._entry(event)
        limits = self._limits
        if entry.seq > limits.max_events:
            self._exceed("max_events", limits.max_events)
        if self._log.size + len(record) > limits.max_bytes:
            self._exceed("max_bytes", limits.max_bytes)
        self._log.append(entry, record, final=OPEN)

    def _entry(self, event: Event) -> tuple[Entry, bytes]:
        event = self._ids.fill(event)
        at_ms = self._clock.time_ms()
        try:
            record = encode_record(at_ms, event)
        except EventInvalidError:
            # Text with lone surrogates has no UTF-8 form. Models do produce it, cut in the middle of a character.
            event = _without_surrogates(event)
            record = encode_record(at_ms, event)
        event = _as_read(event, record)
        if len(record) > self._limits.event_bytes:
            self._exceed("event_bytes", self._limits.event_bytes)
        return Entry(self._log.length + 1, at_ms, event), record

    def _exceed(self, bound: str, limit: int) -> NoReturn:
        self.exceeded = RunLimitError(bound, limit)
        raise self.exceeded


def _pieces(event: events.TextDelta | events.ReasoningDelta, characters: int) -> Iterator[Event]:
    """A long text as several deltas of the same part."""
    for start in range(0, len(event.delta), characters):
        yield msgspec.structs.replace(event, delta=event.delta[start : start + characters])


def _as_read(event: Event, record: bytes) -> Event:
    """The event as every reader of the record gets it.

    Nobody has checked the types of its fields yet, and a record that cannot be read would stop every reader. And what
    the source may still change, a dict that it fills step by step, must not change what was said.

    Raises:
        EventInvalidError: What a reader would get is not this event.
    """
    if type(event) is events.TextDelta and _is_plain(event):
        return event
    read = decode(record)
    if type(read) is not type(event) or event_type(read) != event_type(event):
        raise EventInvalidError(f"a {event_type(event)} that reads back as {event_type(read)}")
    if isinstance(read, Opaque):
        return event
    return read


def _is_plain(event: events.TextDelta) -> bool:
    """Whether all of it is text, so that it reads back as itself; nearly every event is that."""
    return type(event.delta) is type(event.message_id) is type(event.part_id) is str and event.ext is None


def _without_surrogates(event: Event) -> Event:
    """The event with each lone surrogate as U+FFFD; unchanged if that is not what is wrong with it."""
    try:
        return msgspec.convert(_replaced(msgspec.to_builtins(event)), type(event))
    except (TypeError, ValueError, RecursionError):
        return event


def _replaced(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_replaced(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {_replaced(key): _replaced(item) for key, item in cast("dict[object, object]", value).items()}
    return value
