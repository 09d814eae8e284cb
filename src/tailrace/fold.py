"""Folding a log: merge deltas that follow each other, and reduce a run to what it amounts to.

Both are pure, and agree: for any log `reduce(merge(log)) == reduce(log)`.
"""

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import msgspec

from tailrace import events
from tailrace.events import Entry, Event

__all__ = [
    "MERGED_CHARACTERS",
    "TOKEN_COUNTS",
    "Failure",
    "Message",
    "Part",
    "ReasoningPart",
    "Reduced",
    "RunStatus",
    "Step",
    "TextPart",
    "ToolPart",
    "merge",
    "reduce",
    "snapshot",
    "sum_of",
]

#: A merged delta stops growing here, so that even at four bytes a character its frame stays far below 1 MiB.
MERGED_CHARACTERS = 64 * 1024

#: The fields of a `usage` that count tokens.
TOKEN_COUNTS = (
    "input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
)

RunStatus: TypeAlias = Literal["running", "completed", "failed", "cancelled", "interrupted", "paused"]


def merge(entries: Iterable[Entry]) -> list[Entry]:
    """Join consecutive deltas of one part into single entries.

    A merged entry has the number and time of its last event and `first`, the number of its first. Nothing is merged
    across another event, and entries that are merged already may be merged further.
    """
    merged: list[Entry] = []
    group: list[Entry] = []
    key: object = None
    size = 0
    for entry in entries:
        entry_key = _merge_key(entry.event)
        length = len(entry.event.delta) if isinstance(entry.event, events.DELTAS) else 0
        if group and (entry_key is None or entry_key != key or size + length > MERGED_CHARACTERS):
            merged.append(_join(group))
            group, size = [], 0
        if entry_key is None:
            merged.append(entry)
        else:
            group.append(entry)
            size += length
        key = entry_key
    if group:
        merged.append(_join(group))
    return merged


def _merge_key(event: Event) -> tuple[object, ...] | None:
    """What two deltas must share to be one; `None` for whatever is never merged."""
    if isinstance(event, events.TextDelta | events.ReasoningDelta):
        return None if event.ext else (type(event), event.message_id, event.part_id)
    if isinstance(event, events.ToolArgsDelta):
        return None if event.ext else (type(event), event.call_id)
    return None


def _join(group: list[Entry]) -> Entry:
    if len(group) == 1:
        return group[0]
    last = group[-1]
    delta = "".join(entry.event.delta for entry in group if isinstance(entry.event, events.DELTAS))
    return Entry(last.seq, last.at_ms, msgspec.structs.replace(last.event, delta=delta), first=group[0].since)


def sum_of(counts: Iterable[events.Usage]) -> dict[str, int]:
    """The tokens of all of them together, by `TOKEN_COUNTS`; what nobody counted is not there."""
    sums: dict[str, int] = {}
    for usage in counts:
        for name in TOKEN_COUNTS:
            count: int | None = getattr(usage, name)
            if count is not None:
                sums[name] = sums.get(name, 0) + count
    return sums


class _Reduced(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Base of what a log is reduced to: plain data, JSON without nulls."""


class TextPart(_Reduced, tag="text"):
    """A text of a message; `done` once it was closed."""

    id: str | None = None
    text: str = ""
    done: bool = False
    citations: list[Any] | None = None


class ReasoningPart(_Reduced, tag="reasoning"):
    """A stretch of the model's reasoning."""

    id: str | None = None
    text: str = ""
    done: bool = False
    signature: str | None = None


class ToolPart(_Reduced, kw_only=True, tag="tool"):
    """One tool call. `args` is the raw text of arguments that are not complete yet."""

    call_id: str | None = None
    name: str | None = None
    state: Literal["started", "ready", "running", "done", "error"]
    title: str | None = None
    executor: Literal["server", "client", "provider"] | None = None
    args: str = ""
    input: Any = None
    output: Any = None
    progress: float | None = None
    error: dict[str, str] | None = None


Part: TypeAlias = TextPart | ReasoningPart | ToolPart


class Message(_Reduced, kw_only=True):
    """One message with its parts in the order in which they began."""

    id: str | None = None
    role: str
    name: str | None = None
    parts: list[Part] = []
    finish_reason: str | None = None

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


class Step(_Reduced):
    """One turn of an agent's loop."""

    id: str | None = None
    name: str | None = None
    index: int | None = None
    done: bool = False


class Failure(_Reduced):
    """Why a run is not completed: the code of `run.failed`, or the reason of the other endings."""

    code: str
    message: str = ""
    retryable: bool | None = None
    correlation_id: str | None = None
    details: dict[str, Any] | None = None


class Reduced(_Reduced):
    """A run as it stands after entry `seq`.

    Attributes:
        started_at_ms: When it began, in Unix milliseconds.
        state: The newest state snapshot.
        state_patches: The operations of all state deltas since then, in order.
        data: Application data: under its name a list of what came without an id, under `name#id` the newest with it.
        usage: The newest count per (provider, model).
    """

    run_id: str | None = None
    thread_id: str | None = None
    seq: int = 0
    started_at_ms: int | None = None
    status: RunStatus = "running"
    model: str | None = None
    finish_reason: str | None = None
    result: Any = None
    failure: Failure | None = None
    interrupts: list[events.Interrupt] = []
    messages: list[Message] = []
    steps: list[Step] = []
    line: str | None = None
    thoughts: list[str] = []
    progress: dict[str, events.Progress] = {}
    actions: list[dict[str, Any]] = []
    suggestions: list[str] = []
    sources: list[events.Source] = []
    files: list[events.File] = []
    notices: list[events.Notice] = []
    data: dict[str, Any] = {}
    state: Any = None
    state_patches: list[dict[str, Any]] = []
    usage: list[events.Usage] = []

    @property
    def text(self) -> str:
        """All text of the run, exactly as it was streamed."""
        return "".join(message.text for message in self.messages)

    @property
    def tools(self) -> list[ToolPart]:
        """All tool calls in the order in which they began."""
        return [part for message in self.messages for part in message.parts if isinstance(part, ToolPart)]


def reduce(entries: Iterable[Entry]) -> Reduced:
    """What the log amounts to: messages, tool calls, status, usage, and which parts are still open."""
    reducer = _Reducer()
    for entry in entries:
        reducer.add(entry)
    return reducer.finish()


def snapshot(reduced: Reduced, *, before: Iterable[Message] = ()) -> events.Snapshot:
    """A run so far as one event, for a reader that joins it here and goes on with what follows number `upto_seq`.

    Args:
        reduced: The run so far.
        before: The conversation before it, oldest first.
    """
    messages = [*before, *reduced.messages]
    still_open = {
        "parts": [
            {
                "message_id": message.id,
                "part_id": part.id,
                "kind": "text" if isinstance(part, TextPart) else "reasoning",
            }
            for message in reduced.messages
            for part in message.parts
            if isinstance(part, TextPart | ReasoningPart) and not part.done
        ],
        "calls": [tool.call_id for tool in reduced.tools if tool.state not in {"done", "error"}],
        "steps": [step.id for step in reduced.steps if not step.done],
    }
    return events.Snapshot(
        upto_seq=reduced.seq,
        messages=msgspec.to_builtins(messages),
        state=reduced.state,
        open={kind: items for kind, items in still_open.items() if items} or None,
        usage=msgspec.to_builtins(reduced.usage) or None,
        ext={"state_patches": reduced.state_patches} if reduced.state_patches else None,
    )


class _Reducer:
    """Takes entries one by one; the table at the end of the module says which method takes which event."""

    def __init__(self) -> None:
        self.run = Reduced()
        self._messages: dict[str | None, Message] = {}
        self._parts: dict[tuple[str, str | None, str | None], TextPart | ReasoningPart] = {}
        self._calls: dict[str | None, ToolPart] = {}
        self._items: dict[str, list[Any]] = {}
        # Deltas are collected and joined once: adding to a growing string would make long answers quadratic.
        self._texts: dict[int, tuple[TextPart | ReasoningPart | ToolPart, list[str]]] = {}

    def add(self, entry: Entry) -> None:
        self.run.seq = max(self.run.seq, entry.seq)
        if isinstance(entry.event, events.RunStarted):
            self.run.started_at_ms = entry.at_ms
        handle = _HANDLERS.get(type(entry.event))
        if handle is not None:
            handle(self, entry.event)

    def finish(self) -> Reduced:
        for part, pieces in self._texts.values():
            text = "".join(pieces)
            if isinstance(part, ToolPart):
                part.args = "" if part.state != "started" else text
            else:
                part.text = text
        return self.run

    def _append(self, part: Part, delta: str) -> None:
        self._texts.setdefault(id(part), (part, []))[1].append(delta)

    def _message(self, message_id: str | None) -> Message:
        if message_id is None and self.run.messages:
            return self.run.messages[-1]
        message = self._messages.get(message_id)
        if message is None:
            message = self._messages[message_id] = Message(id=message_id, role="assistant")
            self.run.messages.append(message)
        return message

    def _part(
        self, make: type[TextPart] | type[ReasoningPart], message_id: str | None, part_id: str | None
    ) -> TextPart | ReasoningPart:
        key = (make.__name__, message_id, part_id)
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = make(id=part_id)
            self._message(message_id).parts.append(part)
        return part

    def _call(self, call_id: str | None, message_id: str | None = None) -> ToolPart:
        call = self._calls.get(call_id)
        if call is None:
            call = self._calls[call_id] = ToolPart(call_id=call_id, state="started")
            self._message(message_id).parts.append(call)
        return call

    def run_started(self, event: events.RunStarted) -> None:
        self.run.run_id, self.run.thread_id, self.run.model = event.run_id, event.thread_id, event.model

    def run_completed(self, event: events.RunCompleted) -> None:
        self.run.status, self.run.finish_reason, self.run.result = "completed", event.finish_reason, event.result

    def run_failed(self, event: events.RunFailed) -> None:
        self.run.status = "failed"
        self.run.failure = Failure(
            code=event.code,
            message=event.message,
            retryable=event.retryable,
            correlation_id=event.correlation_id,
            details=event.details,
        )

    def run_cancelled(self, event: events.RunCancelled) -> None:
        self.run.status, self.run.failure = "cancelled", Failure(code=event.reason)

    def run_interrupted(self, event: events.RunInterrupted) -> None:
        self.run.status, self.run.failure = "interrupted", Failure(code=event.reason)

    def run_paused(self, event: events.RunPaused) -> None:
        self.run.status, self.run.interrupts = "paused", list(event.interrupts)

    def step_started(self, event: events.StepStarted) -> None:
        self.run.steps.append(Step(id=event.step_id, name=event.name, index=event.index))

    def step_finished(self, event: events.StepFinished) -> None:
        for step in reversed(self.run.steps):
            if event.step_id in {None, step.id}:
                step.done = True
                return

    def message_started(self, event: events.MessageStarted) -> None:
        message = self._message(event.message_id)
        message.role, message.name = event.role or message.role, event.name

    def message_finished(self, event: events.MessageFinished) -> None:
        self._message(event.message_id).finish_reason = event.finish_reason

    def text_delta(self, event: events.TextDelta) -> None:
        self._append(self._part(TextPart, event.message_id, event.part_id), event.delta)

    def text_done(self, event: events.TextDone) -> None:
        part = self._part(TextPart, event.message_id, event.part_id)
        part.done = True
        if isinstance(part, TextPart):
            part.citations = event.citations

    def reasoning_delta(self, event: events.ReasoningDelta) -> None:
        self._append(self._part(ReasoningPart, event.message_id, event.part_id), event.delta)

    def reasoning_done(self, event: events.ReasoningDone) -> None:
        part = self._part(ReasoningPart, event.message_id, event.part_id)
        part.done = True
        if isinstance(part, ReasoningPart):
            part.signature = event.signature

    def tool_started(self, event: events.ToolStarted) -> None:
        call = self._call(event.call_id, event.message_id)
        call.name, call.title, call.executor = event.name, event.title, event.executor

    def tool_args_delta(self, event: events.ToolArgsDelta) -> None:
        self._append(self._call(event.call_id), event.delta)

    def tool_ready(self, event: events.ToolReady) -> None:
        call = self._call(event.call_id)
        call.state, call.name, call.input = "ready", event.name or call.name, event.input

    def tool_progress(self, event: events.ToolProgress) -> None:
        call = self._call(event.call_id)
        call.state, call.progress = "running", event.progress
        if event.output is not None:
            call.output = event.output

    def tool_output(self, event: events.ToolOutput) -> None:
        call = self._call(event.call_id)
        call.state, call.output = "done", event.output

    def tool_error(self, event: events.ToolError) -> None:
        call = self._call(event.call_id)
        call.state, call.error = "error", {"code": event.code, "message": event.message}

    def status(self, event: events.Status) -> None:
        self.run.line = event.text

    def thought(self, event: events.Thought) -> None:
        self.run.thoughts.append(event.text)

    def progress(self, event: events.Progress) -> None:
        self.run.progress[event.id or ""] = event

    def data(self, event: events.Data) -> None:
        if event.transient:
            return
        if event.id is None:
            self._collected(event.name).append(event.data)
        else:
            self.run.data[f"{event.name}#{event.id}"] = event.data

    def _collected(self, name: str) -> list[Any]:
        """What came under the name so far; a list there may be data that came with an id, and not ours to add to."""
        before: Any = self.run.data.get(name)
        items: list[Any] = self._items.get(name, [])
        if before is not items:
            items = []
            items += before if isinstance(before, list) else ()
            self.run.data[name] = self._items[name] = items
        return items

    def ui_action(self, event: events.UIAction) -> None:
        self.run.actions.append(event.action)

    def suggestions(self, event: events.Suggestions) -> None:
        self.run.suggestions = list(event.items)

    def source(self, event: events.Source) -> None:
        self.run.sources.append(event)

    def file(self, event: events.File) -> None:
        self.run.files.append(event)

    def notice(self, event: events.Notice) -> None:
        self.run.notices.append(event)

    def state_snapshot(self, event: events.StateSnapshot) -> None:
        self.run.state, self.run.state_patches = event.state, []

    def state_delta(self, event: events.StateDelta) -> None:
        self.run.state_patches.extend(event.patch)

    def usage(self, event: events.Usage) -> None:
        others = [used for used in self.run.usage if (used.provider, used.model) != (event.provider, event.model)]
        self.run.usage = [*others, event]

    def snapshot(self, event: events.Snapshot) -> None:
        # Read from plain data, or the event's own messages would be written to.
        self.run.messages = msgspec.convert(msgspec.to_builtins(event.messages), list[Message])
        self.run.usage = msgspec.convert(msgspec.to_builtins(event.usage or []), list[events.Usage])
        self.run.state, self.run.state_patches = event.state, []
        self._parts, self._calls, self._texts = {}, {}, {}
        self._messages = {message.id: message for message in self.run.messages}
        for message in self.run.messages:
            for part in message.parts:
                if isinstance(part, ToolPart):
                    self._calls[part.call_id] = part
                    self._append(part, part.args)
                else:
                    self._parts[type(part).__name__, message.id, part.id] = part
                    self._append(part, part.text)


_HANDLERS: dict[type, Any] = {
    events.RunStarted: _Reducer.run_started,
    events.RunCompleted: _Reducer.run_completed,
    events.RunFailed: _Reducer.run_failed,
    events.RunCancelled: _Reducer.run_cancelled,
    events.RunInterrupted: _Reducer.run_interrupted,
    events.RunPaused: _Reducer.run_paused,
    events.StepStarted: _Reducer.step_started,
    events.StepFinished: _Reducer.step_finished,
    events.MessageStarted: _Reducer.message_started,
    events.MessageFinished: _Reducer.message_finished,
    events.TextDelta: _Reducer.text_delta,
    events.TextDone: _Reducer.text_done,
    events.ReasoningDelta: _Reducer.reasoning_delta,
    events.ReasoningDone: _Reducer.reasoning_done,
    events.ToolStarted: _Reducer.tool_started,
    events.ToolArgsDelta: _Reducer.tool_args_delta,
    events.ToolReady: _Reducer.tool_ready,
    events.ToolProgress: _Reducer.tool_progress,
    events.ToolOutput: _Reducer.tool_output,
    events.ToolError: _Reducer.tool_error,
    events.Status: _Reducer.status,
    events.Thought: _Reducer.thought,
    events.Progress: _Reducer.progress,
    events.Data: _Reducer.data,
    events.UIAction: _Reducer.ui_action,
    events.Suggestions: _Reducer.suggestions,
    events.Source: _Reducer.source,
    events.File: _Reducer.file,
    events.Notice: _Reducer.notice,
    events.StateSnapshot: _Reducer.state_snapshot,
    events.StateDelta: _Reducer.state_delta,
    events.Usage: _Reducer.usage,
    events.Snapshot: _Reducer.snapshot,
}
