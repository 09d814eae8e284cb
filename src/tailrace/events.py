"""The vocabulary: what a run can say, as frozen structs in one tagged union, and their JSON bytes.

The log of a run holds these events and nothing else; dialects translate them for each front end. In JSON the tag is
`type` (`noun.verb`, dotted), an optional field that is not set is absent and never null, and reading ignores fields it
does not know. `message_id`, `part_id`, `call_id`, `step_id` and the like may be left out by a source: the producer
fills them in. Every run ends with exactly one event of `TERMINAL_TYPES`.
"""

import math
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from tailrace.errors import EventInvalidError

__all__ = [
    "DELTAS",
    "EVENT_TYPES",
    "TERMINALS",
    "TERMINAL_TYPES",
    "CancelReason",
    "Data",
    "Entry",
    "Event",
    "File",
    "Interrupt",
    "MessageFinished",
    "MessageStarted",
    "Notice",
    "Opaque",
    "Progress",
    "ReasoningDelta",
    "ReasoningDone",
    "RunCancelled",
    "RunCompleted",
    "RunFailed",
    "RunInterrupted",
    "RunPaused",
    "RunStarted",
    "Snapshot",
    "Source",
    "StateDelta",
    "StateSnapshot",
    "Status",
    "StepFinished",
    "StepStarted",
    "Suggestions",
    "Terminal",
    "TextDelta",
    "TextDone",
    "Thought",
    "ToolArgsDelta",
    "ToolError",
    "ToolEvent",
    "ToolOutput",
    "ToolProgress",
    "ToolReady",
    "ToolStarted",
    "UIAction",
    "Usage",
    "decode",
    "decode_record",
    "encode",
    "encode_record",
    "event_type",
]

CancelReason: TypeAlias = Literal["user", "superseded", "disconnect", "abandoned"]
FinishReason: TypeAlias = Literal["stop", "length", "content_filter", "tool_calls", "other"]
Role: TypeAlias = Literal["assistant", "user", "system", "tool"]


# Of events there are many, and what they hold came from JSON or has a JSON form, so it has no cycles: looking for some,
# the garbage collector would spend more time on them than their producer and readers do.
class _Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="type"):
    """One fact of a run; `ext` is the room for what the vocabulary has no word for."""

    ext: dict[str, Any] | None = None


class _Part(_Event, frozen=True, kw_only=True):
    """Belongs to one part of one message; both ids are filled in by the producer."""

    message_id: str | None = None
    part_id: str | None = None


def _check_finite(*numbers: float | None) -> None:
    """JSON has no word for infinity, and would say null.

    Raises:
        EventInvalidError: One of the numbers is infinite or none at all.
    """
    if not all(number is None or math.isfinite(number) for number in numbers):
        raise EventInvalidError("a number of an event must be finite")


class _Call(_Event, frozen=True, kw_only=True):
    """Belongs to one tool call; left out, it is the call that was started last."""

    call_id: str | None = None


# The run -------------------------------------------------------------------------------------------------------------


class RunStarted(_Event, frozen=True, kw_only=True, tag="run.started"):
    """Always number 1; written by the runtime. `meta` is what the application gave `start`."""

    run_id: str
    thread_id: str | None = None
    message_id: str | None = None
    parent_run_id: str | None = None
    model: str | None = None
    meta: dict[str, Any] | None = None


class RunCompleted(_Event, frozen=True, kw_only=True, tag="run.completed"):
    """Terminal: the source came to its end. `result` is any JSON value the source wants to hand over."""

    finish_reason: FinishReason | None = None
    result: Any = None


class RunFailed(_Event, frozen=True, kw_only=True, tag="run.failed"):
    """Terminal. `message` may be shown to anyone; `correlation_id` leads to the log of the server.

    `code` is `error`, `timeout`, `limit`, `store_unavailable` or begins with `provider_`.
    """

    code: str
    message: str
    retryable: bool | None = None
    correlation_id: str | None = None
    details: dict[str, Any] | None = None


class RunCancelled(_Event, frozen=True, kw_only=True, tag="run.cancelled"):
    """Terminal: somebody, or the absence of everybody, stopped the run."""

    reason: CancelReason


class RunInterrupted(_Event, frozen=True, kw_only=True, tag="run.interrupted"):
    """Terminal: the process that produced the run went away."""

    reason: Literal["shutdown", "worker_lost"]


class Interrupt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a paused run waits for; `expires_at_ms` is Unix time."""

    id: str
    kind: Literal["approval", "input"]
    call_id: str | None = None
    message: str | None = None
    schema: dict[str, Any] | None = None
    expires_at_ms: int | None = None


class RunPaused(_Event, frozen=True, kw_only=True, tag="run.paused"):
    """Terminal: a human has to decide; the continuation is a new run with `parent_run_id`."""

    interrupts: list[Interrupt]


# Steps and messages --------------------------------------------------------------------------------------------------


class StepStarted(_Event, frozen=True, kw_only=True, tag="step.started"):
    """One turn of an agent's loop begins; `index` counts from 1."""

    step_id: str | None = None
    name: str | None = None
    index: int | None = None


class StepFinished(_Event, frozen=True, kw_only=True, tag="step.finished"):
    """The step that was started last, or the named one, is over."""

    step_id: str | None = None
    finish_reason: FinishReason | None = None


class MessageStarted(_Event, frozen=True, kw_only=True, tag="message.started"):
    """A message begins. Optional: text without one begins a message of the assistant."""

    message_id: str | None = None
    role: Role | None = None
    name: str | None = None


class MessageFinished(_Event, frozen=True, kw_only=True, tag="message.finished"):
    """The open message is over; text after it begins another."""

    message_id: str | None = None
    finish_reason: FinishReason | None = None


class _Delta(_Part, frozen=True):
    """A piece of a part; `delta` is the only field that may be given by position."""

    delta: str


class TextDelta(_Delta, frozen=True, tag="text.delta"):
    """A piece of the answer. The first delta of a part opens it."""


class TextDone(_Part, frozen=True, kw_only=True, tag="text.done"):
    """The text part is complete."""

    citations: list[Any] | None = None


class ReasoningDelta(_Delta, frozen=True, tag="reasoning.delta"):
    """A piece of the model's reasoning."""


class ReasoningDone(_Part, frozen=True, kw_only=True, tag="reasoning.done"):
    """The reasoning part is complete; `signature` is the provider's, kept for the next turn."""

    signature: str | None = None
    redacted: bool | None = None


# Tools ---------------------------------------------------------------------------------------------------------------


class ToolStarted(_Call, frozen=True, kw_only=True, tag="tool.started"):
    """The model began to write a call."""

    name: str
    message_id: str | None = None
    title: str | None = None
    executor: Literal["server", "client", "provider"] | None = None


class ToolArgsDelta(_Call, frozen=True, tag="tool.args.delta"):
    """A piece of the arguments as the model writes them: raw text, not yet JSON."""

    delta: str


class ToolReady(_Call, frozen=True, kw_only=True, tag="tool.ready"):
    """The arguments are complete: `input` is their JSON value."""

    name: str | None = None
    input: Any = None


class ToolProgress(_Call, frozen=True, kw_only=True, tag="tool.progress"):
    """The tool is at work: a preliminary `output`, `progress` from 0 to 1, or both."""

    output: Any = None
    progress: float | None = None

    def __post_init__(self) -> None:
        _check_finite(self.progress)


class ToolOutput(_Call, frozen=True, kw_only=True, tag="tool.output"):
    """What the tool returned, any JSON value."""

    output: Any


class ToolError(_Call, frozen=True, kw_only=True, tag="tool.error"):
    """The call failed; the run goes on. `message` is public-safe."""

    code: str
    message: str
    phase: Literal["input", "execution", "denied"] | None = None


# What the page shows beside the answer -------------------------------------------------------------------------------


class _Text(_Event, frozen=True):
    text: str


class Status(_Text, frozen=True, kw_only=True, tag="status"):
    """One line on what is going on now; the newest replaces the one before."""

    state: str | None = None
    level: Literal["info", "warning", "danger"] | None = None


class Thought(_Text, frozen=True, kw_only=True, tag="thought"):
    """A line of a plan, written for people (not the model's reasoning); `step` of `total` counts from 1."""

    step: int | None = None
    total: int | None = None
    kind: str | None = None


class Progress(_Event, frozen=True, kw_only=True, tag="progress"):
    """How far a piece of work is: `value` from 0 to 1, or `current` of `total`. The newest per `id` counts."""

    id: str | None = None
    value: float | None = None
    current: float | None = None
    total: float | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        _check_finite(self.value, self.current, self.total)


class _Named(_Event, frozen=True):
    name: str
    data: Any


class Data(_Named, frozen=True, kw_only=True, tag="data"):
    """Anything of the application's own. Dialects that name their frames send it under `name`.

    With an `id` the newest per (name, id) counts; `transient` data is not kept in a reduced run.
    """

    id: str | None = None
    transient: bool | None = None


class _Action(_Event, frozen=True):
    action: dict[str, Any]


class UIAction(_Action, frozen=True, kw_only=True, tag="ui.action"):
    """A request to the page, `{"type": …, "value": …}`: to be checked against a closed list there, and done once."""

    id: str | None = None


class _Items(_Event, frozen=True):
    items: list[str]


class Suggestions(_Items, frozen=True, kw_only=True, tag="suggestions"):
    """Questions the user may want to ask next."""


class Source(_Event, frozen=True, kw_only=True, tag="source"):
    """Where a statement comes from."""

    source_id: str | None = None
    kind: Literal["url", "document"]
    url: str | None = None
    title: str | None = None
    media_type: str | None = None
    filename: str | None = None
    part_id: str | None = None
    span: list[int] | None = None


class File(_Event, frozen=True, kw_only=True, tag="file"):
    """A file the run made; by reference, never inline beyond the size of an event."""

    media_type: str
    url: str
    name: str | None = None


class StateSnapshot(_Event, frozen=True, kw_only=True, tag="state.snapshot"):
    """The whole shared state."""

    state: Any


class StateDelta(_Event, frozen=True, kw_only=True, tag="state.delta"):
    """A change of the shared state as JSON Patch (RFC 6902)."""

    patch: list[dict[str, Any]]


class Usage(_Event, frozen=True, kw_only=True, tag="usage"):
    """Tokens used so far: cumulative per (provider, model), parts counted inside their totals."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    provider: str | None = None
    model: str | None = None
    reasoning_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    estimated: bool | None = None


class Notice(_Event, frozen=True, kw_only=True, tag="notice"):
    """A warning that does not end the run; `message` is public-safe."""

    code: str
    message: str


class Snapshot(_Event, frozen=True, kw_only=True, tag="snapshot"):
    """Everything up to number `upto_seq`, reduced, so that a reader need not replay it."""

    upto_seq: int
    messages: list[Any]
    state: Any = None
    open: dict[str, Any] | None = None
    usage: list[Any] | None = None


class Opaque(msgspec.Struct, frozen=True, gc=False):
    """An event of a type this version does not know, kept as it came. `record` is its whole JSON object."""

    type: str
    record: bytes


Terminal: TypeAlias = RunCompleted | RunFailed | RunCancelled | RunInterrupted | RunPaused
ToolEvent: TypeAlias = ToolStarted | ToolArgsDelta | ToolReady | ToolProgress | ToolOutput | ToolError
_Known: TypeAlias = (
    RunStarted
    | Terminal
    | StepStarted
    | StepFinished
    | MessageStarted
    | MessageFinished
    | TextDelta
    | TextDone
    | ReasoningDelta
    | ReasoningDone
    | ToolEvent
    | Status
    | Thought
    | Progress
    | Data
    | UIAction
    | Suggestions
    | Source
    | File
    | StateSnapshot
    | StateDelta
    | Usage
    | Notice
    | Snapshot
)
Event: TypeAlias = _Known | Opaque

#: The classes of which many follow each other and may be joined.
DELTAS = (TextDelta, ReasoningDelta, ToolArgsDelta)


def event_type(event: Event) -> str:
    """The dotted name of the event's type, as in JSON."""
    return event.type if isinstance(event, Opaque) else _TYPE_OF[type(event)]


_TYPE_OF: dict[type, str] = {
    struct: str(struct.__struct_config__.tag) for struct in get_args(_Known) if struct is not Opaque
}

#: All types of the vocabulary.
EVENT_TYPES: frozenset[str] = frozenset(_TYPE_OF.values())

#: The classes of which one, and only one, ends a run, and their types.
TERMINALS = (RunCompleted, RunFailed, RunCancelled, RunInterrupted, RunPaused)
TERMINAL_TYPES: frozenset[str] = frozenset(_TYPE_OF[struct] for struct in TERMINALS)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An event in its place.

    Attributes:
        seq: Position in the run: 1, 2, 3 … without a hole. 0 marks a fact that is in no log, only told to a reader.
        at_ms: When the producer took it, in Unix milliseconds.
        event: What happened.
        first: Set on a merged entry: the number of the first event it covers; `seq` is then the last one.
    """

    seq: int
    at_ms: int
    event: Event
    first: int | None = None

    @property
    def since(self) -> int:
        """The number of the first event this entry covers."""
        return self.seq if self.first is None else self.first


class _Head(msgspec.Struct, frozen=True):
    """The fields any record has, whatever its type."""

    type: str
    at_ms: int = 0


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Known)
_head_decoder = msgspec.json.Decoder(_Head)


def encode(event: Event) -> bytes:
    """The event as one JSON object, its `type` first.

    Raises:
        EventInvalidError: A field holds something that has no JSON form.
    """
    if isinstance(event, Opaque):
        return event.record
    try:
        return _encoder.encode(event)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EventInvalidError(f"{event_type(event)} cannot be written as JSON: {error}") from error


def decode(data: bytes) -> Event:
    """Read one JSON object; a type this version does not know becomes `Opaque`, without white space between its fields.

    Raises:
        EventInvalidError: Not a JSON object with a string `type`, or a known type with a missing or ill-typed field.
    """
    try:
        event: Event = _decoder.decode(data)
    except _UNREADABLE as error:
        head = _read_head(data)
        if head.type in EVENT_TYPES:
            raise EventInvalidError(f"{head.type}: {error}") from error
        # Whoever writes it again counts on one line that ends in its brace.
        return Opaque(head.type, msgspec.json.format(data, indent=-1))
    return event


def encode_record(entry_at_ms: int, event: Event) -> bytes:
    """The event as a log keeps it: its JSON object with `at_ms`, Unix milliseconds, as the last field.

    Raises:
        EventInvalidError: A field holds something that has no JSON form.
    """
    return b'%b,"at_ms":%d}' % (encode(event)[:-1], entry_at_ms)


def decode_record(seq: int, record: bytes) -> Entry:
    """Read back what `encode_record` wrote, as entry number `seq`.

    Raises:
        EventInvalidError: The record is no event.
    """
    event = decode(record)
    at_ms = _read_time(record)
    if isinstance(event, Opaque):
        # The time is the entry's: written again, the record would have it twice.
        time = b',"at_ms":%d}' % at_ms
        if event.record.endswith(time):
            event = Opaque(event.type, event.record.removesuffix(time) + b"}")
    return Entry(seq, at_ms, event)


def _read_time(record: bytes) -> int:
    """The last field of a record, as `encode_record` puts it; of a record by somebody else, wherever it is."""
    digits = record[record.rfind(b":") + 1 : -1]
    if digits.isdigit() and record.endswith(b',"at_ms":%b}' % digits):
        return int(digits)
    return _read_head(record).at_ms


def _read_head(data: bytes) -> _Head:
    try:
        # What msgspec skips it does not look at, and an unknown type is skipped almost whole.
        bytes(data).decode()
        return _head_decoder.decode(data)
    except _UNREADABLE as error:
        raise EventInvalidError(f"not an event: {error}") from error
