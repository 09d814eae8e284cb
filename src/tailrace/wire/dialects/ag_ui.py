"""The AG-UI dialect, version 1.0 of the protocol (https://ag-ui.com): unnamed frames of JSON with a `type`.

| Event of a run | AG-UI |
|---|---|
| `run.started` | `RUN_STARTED` with the client's own `runId`, if the run began with one |
| `text.*`, `reasoning.*` | `TEXT_MESSAGE_*`, `REASONING_*`; a signature is `REASONING_ENCRYPTED_VALUE` |
| `tool.*` | `TOOL_CALL_START`, `_ARGS`, `_END`, `_RESULT`, whose content is text; progress is an activity |
| `step.*` | `STEP_STARTED`, `STEP_FINISHED` |
| `status`, `thought`, `progress` | `ACTIVITY_SNAPSHOT` of type `STATUS`, `THOUGHT`, `PROGRESS` |
| `state.*` | `STATE_SNAPSHOT`, `STATE_DELTA` |
| `data` | `CUSTOM` by its own name |
| `ui.action`, `suggestions`, `source`, `file`, `notice` | `CUSTOM` by their type |
| `usage` | `usage` of the last event |
| `snapshot` | `MESSAGES_SNAPSHOT`, `STATE_SNAPSHOT`, activities, and a `START` of whatever is open |
| the end | `RUN_FINISHED`, or `RUN_ERROR` if the run failed or was interrupted |

A client that speaks 1.0 says so (`protocol_version`); only then a cancelled or paused run is a `RUN_FINISHED` with an
`outcome`. Others would take that for a success or refuse it: they get `RUN_ERROR` with code `cancelled`, and a `CUSTOM`
called `interrupts` before a plain `RUN_FINISHED`.

A message of a run becomes one or more of AG-UI's (`tailrace.wire.ag_ui_messages`). Of texts and reasoning only the
newest is open on the wire, and closed as soon as it is not; a late piece of an older one opens and closes it around
itself. So what is open can be told from what a run amounts to, and a reader that joins it gets the same bytes from then
on as one who has read all of it.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Unpack

import msgspec

from tailrace import events
from tailrace.events import Entry, Snapshot, ToolEvent
from tailrace.fold import Reduced
from tailrace.wire.ag_ui_joining import beside_of, started_as, step_name
from tailrace.wire.ag_ui_messages import Call, Kind, Layout, Piece, citing, messages_of, result_message, titled
from tailrace.wire.ag_ui_values import interrupts_of, operation_of, usage_of
from tailrace.wire.dialects.contract import Dialect, Encoder, Option, RunConstants, choice
from tailrace.wire.failures import failure_in, failure_of
from tailrace.wire.frames import json_frame
from tailrace.wire.retold import held_in
from tailrace.wire.schema import FrameKind, enumerated
from tailrace.wire.usage import Tally
from tailrace.wire.values import Json, arguments_of, fields_of, given, text_of

__all__ = ["DIALECT", "FIRST_MESSAGE", "PROTOCOL_VERSION"]

#: What is spoken with clients that ask for it.
PROTOCOL_VERSION = "1.0"
#: What a client may want to be announced.
FIRST_MESSAGE = "first-message"

_TYPES = (
    "RUN_STARTED",
    "RUN_FINISHED",
    "RUN_ERROR",
    "STEP_STARTED",
    "STEP_FINISHED",
    "TEXT_MESSAGE_START",
    "TEXT_MESSAGE_CONTENT",
    "TEXT_MESSAGE_END",
    "REASONING_START",
    "REASONING_MESSAGE_START",
    "REASONING_MESSAGE_CONTENT",
    "REASONING_MESSAGE_END",
    "REASONING_END",
    "REASONING_ENCRYPTED_VALUE",
    "TOOL_CALL_START",
    "TOOL_CALL_ARGS",
    "TOOL_CALL_END",
    "TOOL_CALL_RESULT",
    "STATE_SNAPSHOT",
    "STATE_DELTA",
    "MESSAGES_SNAPSHOT",
    "ACTIVITY_SNAPSHOT",
    "CUSTOM",
)

_CUSTOM_VALUES: dict[type, Callable[[Any], tuple[str, object, Json]]] = {
    events.Data: lambda event: (event.name, event.data, {"id": event.id, "transient": event.transient}),
    events.UIAction: lambda event: ("ui.action", event.action, {"id": event.id}),
    events.Suggestions: lambda event: ("suggestions", event.items, {}),
    events.Source: lambda event: ("source", fields_of(event), {}),
    events.File: lambda event: ("file", fields_of(event), {}),
    events.Notice: lambda event: ("notice", fields_of(event), {}),
}


class AgUiEncoder(Encoder):
    """Remembers what is open, and which message each part belongs to."""

    def __init__(
        self, *, protocol_version: str | None = None, announce: bool = False, **run: Unpack[RunConstants]
    ) -> None:
        """Begin a run.

        Args:
            protocol_version: `1.0`, or nothing for clients that declare none.
            announce: For clients that begin their answer anew at its first message, and would lose the reasoning
                before it and all that follows: the message is opened, and closed, before the reasoning.
            **run: See `Encoder`.
        """
        super().__init__(**run)
        self._protocol_version = protocol_version
        self._announces = announce
        #: The ids that the client knows; after `run.started` they do not change.
        self._ids_told: Json = {}
        self._layout = Layout()
        self._open_piece: Piece | None = None
        self._steps: dict[str | None, str] = {}
        self._thoughts = 0
        self._tally = Tally()
        self._at_ms = 0
        self._frames: list[bytes] = []

    def bodies(self, entry: Entry) -> list[bytes]:
        """See the module for what each event becomes."""
        self._frames, self._at_ms = [], entry.at_ms
        if not self._ids_told:
            self._begin(entry.event)
        write = self._WRITERS.get(type(entry.event))
        if write is not None:
            write(self, entry.event)
        return self._frames

    def _say(self, kind: str, fields: Mapping[str, object], /, **optional: object) -> None:
        """One event; of the fields that are named those that are `None` are left out."""
        self._frames.append(json_frame({"type": kind, **fields, **given(**optional), "timestamp": self._at_ms}))

    def _begin(self, event: events.Event) -> None:
        run_id, thread_id = self.run_id, self.thread_id
        if isinstance(event, events.RunStarted):
            run_id, thread_id = started_as(event), event.thread_id or thread_id
        self._ids_told = {"threadId": thread_id or self.run_id, "runId": run_id}
        self._say("RUN_STARTED", self._ids_told, protocolVersion=self._protocol_version)

    # Text and reasoning

    def _message_started(self, event: events.MessageStarted) -> None:
        self._layout.message(event.message_id, role=event.role, name=event.name)
        self._follow()

    def _message_finished(self, event: events.MessageFinished) -> None:
        self._layout.message(event.message_id)
        self._follow()

    def _text(self, event: events.TextDelta) -> None:
        self._delta("text", "TEXT_MESSAGE_CONTENT", event)

    def _reasoning(self, event: events.ReasoningDelta) -> None:
        self._delta("reasoning", "REASONING_MESSAGE_CONTENT", event)

    def _delta(self, kind: Kind, content: str, event: events.TextDelta | events.ReasoningDelta) -> None:
        piece = self._piece(kind, event)
        self._open(piece)
        # Clients before 1.0 end the run at an empty one.
        if event.delta:
            self._frames.append(json_frame({"type": content, "messageId": piece.id, "delta": event.delta}))
        if piece is not self._open_piece:
            self._close(piece)

    def _text_done(self, event: events.TextDone) -> None:
        self._done(self._piece("text", event), citations=event.citations)

    def _reasoning_done(self, event: events.ReasoningDone) -> None:
        self._done(self._piece("reasoning", event), signature=event.signature)

    def _done(self, piece: Piece, *, citations: list[Any] | None = None, signature: str | None = None) -> None:
        piece.is_done = True
        if citations or signature or not piece.is_told:
            self._open(piece)
        elif piece is not self._open_piece:
            return
        if signature:
            fields = {"subtype": "message", "entityId": piece.id, "encryptedValue": signature}
            self._say("REASONING_ENCRYPTED_VALUE", fields)
        self._close(piece, metadata=citing(citations))

    def _piece(
        self, kind: Kind, event: events.TextDelta | events.ReasoningDelta | events.TextDone | events.ReasoningDone
    ) -> Piece:
        piece = self._layout.piece(kind, event.message_id, event.part_id)
        self._follow()
        return piece

    def _follow(self) -> None:
        """Close what is not the newest part any more."""
        if self._open_piece is not None and self._open_piece is not self._layout.newest:
            self._close(self._open_piece)

    def _open(self, piece: Piece) -> None:
        if piece is self._open_piece:
            return
        piece.is_told = True
        self._announce(piece)
        if piece.kind == "text":
            self._say("TEXT_MESSAGE_START", {"messageId": piece.id, "role": piece.role}, name=piece.name)
        else:
            self._say("REASONING_START", {"messageId": piece.id})
            self._say("REASONING_MESSAGE_START", {"messageId": piece.id, "role": piece.role})
        if piece is self._layout.newest and not piece.is_done:
            self._open_piece = piece

    def _announce(self, part: Piece | Call) -> None:
        if self._announces and isinstance(part, Piece) and part.kind == "reasoning":
            self._say("TEXT_MESSAGE_START", {"messageId": part.turn_id, "role": "assistant"})
            self._say("TEXT_MESSAGE_END", {"messageId": part.turn_id})
        self._announces = False

    def _close(self, piece: Piece, metadata: Json | None = None) -> None:
        if piece is self._open_piece:
            self._open_piece = None
        if piece.kind == "text":
            self._say("TEXT_MESSAGE_END", {"messageId": piece.id}, metadata=metadata)
        else:
            self._say("REASONING_MESSAGE_END", {"messageId": piece.id})
            self._say("REASONING_END", {"messageId": piece.id})

    # Tools

    def _tool_started(self, event: events.ToolStarted) -> None:
        self._call(event, message_id=event.message_id, name=event.name, title=event.title)

    def _tool_args(self, event: events.ToolArgsDelta) -> None:
        call = self._call(event)
        if call.is_open and event.delta:
            self._args(call, event.delta)

    def _tool_ready(self, event: events.ToolReady) -> None:
        call = self._call(event, name=event.name)
        if not call.is_open:
            if call.has_args or call.is_answered:
                return
            # Progress closed it before its arguments came.
            self._start_call(call)
        self._end_call(call, arguments_of(event.input))

    def _tool_progress(self, event: events.ToolProgress) -> None:
        call = self._call(event)
        if call.is_open:
            self._end_call(call)
        content = {"toolCallId": call.id, **given(progress=event.progress, output=event.output)}
        self._show("TOOL_PROGRESS", f"{call.id}:progress", content)

    def _tool_output(self, event: events.ToolOutput) -> None:
        self._answer(self._call(event), text_of(event.output))

    def _tool_error(self, event: events.ToolError) -> None:
        self._answer(self._call(event), event.message, event.code)

    def _call(
        self,
        event: ToolEvent,
        *,
        message_id: str | None = None,
        name: str | None = None,
        title: str | None = None,
    ) -> Call:
        """The call of an event, begun if it was unknown."""
        is_new = event.call_id not in self._layout.calls
        call = self._layout.call(event.call_id, message_id, name)
        if is_new:
            self._follow()
            self._start_call(call, title)
        return call

    def _start_call(self, call: Call, title: str | None = None) -> None:
        call.is_open = True
        self._announce(call)
        fields = {"toolCallId": call.id, "toolCallName": call.name, "parentMessageId": call.parent_id}
        self._say("TOOL_CALL_START", fields, metadata=titled(title))

    def _args(self, call: Call, delta: str) -> None:
        call.has_args = True
        self._frames.append(json_frame({"type": "TOOL_CALL_ARGS", "toolCallId": call.id, "delta": delta}))

    def _end_call(self, call: Call, arguments: str | None = None) -> None:
        """Close it; the arguments are written unless they came in pieces."""
        if arguments is not None and not call.has_args:
            self._args(call, arguments)
        call.is_open = False
        self._say("TOOL_CALL_END", {"toolCallId": call.id})

    def _answer(self, call: Call, content: str, error_code: str | None = None) -> None:
        """The first answer counts: AG-UI cannot take one back."""
        if call.is_open:
            self._end_call(call, "{}")
        if not call.is_answered:
            call.is_answered = True
            result = result_message(call, content, error_code)
            self._say("TOOL_CALL_RESULT", {"messageId": result.pop("id"), **result})

    # Steps, activities, state, and what AG-UI has no word for

    def _step_started(self, event: events.StepStarted) -> None:
        self._start_step(event.step_id, step_name(event))

    def _start_step(self, step_id: str | None, name: str) -> None:
        open_names = self._steps.values()
        if name in open_names:
            name = f"{name} ({step_id})"
        if step_id not in self._steps and name not in open_names:
            self._steps[step_id] = name
            self._say("STEP_STARTED", {"stepName": name})

    def _step_finished(self, event: events.StepFinished) -> None:
        step_id = event.step_id
        if step_id is None and self._steps:
            step_id = next(reversed(self._steps))
        if step_id in self._steps:
            self._say("STEP_FINISHED", {"stepName": self._steps.pop(step_id)})

    def _status(self, event: events.Status) -> None:
        content = given(text=event.text, state=event.state, level=event.level)
        self._show("STATUS", f"{self._ids_told['runId']}:status", content)

    def _thought(self, event: events.Thought) -> None:
        self._thoughts += 1
        content = given(text=event.text, step=event.step, total=event.total, kind=event.kind)
        self._show("THOUGHT", f"{self._ids_told['runId']}:thought:{self._thoughts}", content)

    def _progress(self, event: events.Progress) -> None:
        self._show("PROGRESS", f"{self._ids_told['runId']}:progress:{event.id or ''}", fields_of(event))

    def _show(self, kind: str, message_id: str, content: Json) -> None:
        """Something beside the answer; what was shown under this id before is replaced."""
        self._say("ACTIVITY_SNAPSHOT", {"messageId": message_id, "activityType": kind, "content": content})

    def _custom(self, event: events.Event) -> None:
        name, value, beside = _CUSTOM_VALUES[type(event)](event)
        self._say("CUSTOM", {"name": name, "value": value}, metadata=given(**beside) or None)

    def _state(self, event: events.StateSnapshot) -> None:
        self._say("STATE_SNAPSHOT", {"snapshot": event.state})

    def _state_delta(self, event: events.StateDelta) -> None:
        operations = [operation_of(operation) for operation in event.patch]
        if None in operations:
            self._say("CUSTOM", {"name": "state.delta", "value": event.patch})
        else:
            self._say("STATE_DELTA", {"delta": operations})

    def _used(self, event: events.Usage) -> None:
        self._tally.take(event)

    # A reader that begins here

    def _snapshot(self, event: Snapshot) -> None:
        self._close_all()
        self._layout = Layout()
        beside = beside_of(event)
        messages, used = held_in(event)
        own = self._layout.take(messages)
        shown = {message.get("id"): message for message in [*beside.before, *own]}
        if shown:
            self._say("MESSAGES_SNAPSHOT", {"messages": list(shown.values())})
        if event.state is not None:
            self._say("STATE_SNAPSHOT", {"snapshot": event.state})
        patches: list[Json] = (event.ext or {}).get("state_patches", [])
        if operations := [operation for patch in patches if (operation := operation_of(patch)) is not None]:
            self._say("STATE_DELTA", {"delta": operations})
        if beside.line is not None:
            self._status(events.Status(beside.line))
        self._thoughts = 0
        for text in beside.thoughts:
            self._thought(events.Thought(text))
        for progress in beside.progress:
            self._progress(progress)
        self._tally = Tally()
        for usage in used:
            self._tally.take(usage)
        self._reopen(event.open or {}, beside.steps)

    def _reopen(self, still_open: Json, steps: list[tuple[str | None, str]]) -> None:
        for step_id, name in steps or [(step_id, step_id or "step") for step_id in still_open.get("steps", [])]:
            self._start_step(step_id, name)
        open_calls = still_open.get("calls", [])
        for call_id, call in self._layout.calls.items():
            call.is_open = call.is_open and call_id in open_calls
            if call.is_open:
                self._start_call(call)
        newest = self._layout.newest
        if isinstance(newest, Piece) and not newest.is_done and still_open.get("parts"):
            self._open(newest)

    # The end

    def _completed(self, event: events.RunCompleted) -> None:
        reason = {"finishReason": event.finish_reason} if event.finish_reason else None
        self._finish("success", result=event.result, metadata=reason)

    def _cancelled(self, event: events.RunCancelled) -> None:
        if self._protocol_version:
            self._finish("cancelled", metadata={"reason": event.reason})
        else:
            self._fail({"code": "cancelled", "message": "The run was cancelled."})

    def _paused(self, event: events.RunPaused) -> None:
        interrupts = interrupts_of(event.interrupts)
        self._close_all()
        if not self._protocol_version and interrupts:
            self._say("CUSTOM", {"name": "interrupts", "value": interrupts})
        self._finish("interrupt" if interrupts else "success", interrupts=interrupts or None)

    def _failed(self, event: events.RunFailed) -> None:
        beside = given(correlationId=event.correlation_id, retryable=event.retryable)
        self._fail(failure_of(event), metadata=beside or None)

    def _interrupted(self, event: events.RunInterrupted) -> None:
        self._fail(failure_of(event))

    def _finish(
        self,
        outcome: str,
        *,
        interrupts: list[Json] | None = None,
        result: object = None,
        metadata: Json | None = None,
    ) -> None:
        self._close_all()
        told = {"type": outcome, **given(interrupts=interrupts)} if self._protocol_version else None
        self._say(
            "RUN_FINISHED",
            self._ids_told,
            outcome=told,
            result=result,
            usage=usage_of(self._tally.counts) or None,
            metadata=metadata,
        )

    def _fail(self, failure: Mapping[str, str], metadata: Json | None = None) -> None:
        self._close_all()
        self._say("RUN_ERROR", failure, usage=usage_of(self._tally.counts) or None, metadata=metadata)

    def _close_all(self) -> None:
        if self._open_piece is not None:
            self._close(self._open_piece)
        for call in self._layout.calls.values():
            if call.is_open:
                self._end_call(call)
        while self._steps:
            self._say("STEP_FINISHED", {"stepName": self._steps.popitem()[1]})

    _WRITERS: ClassVar[dict[type, Callable[[Any, Any], None]]] = {
        events.MessageStarted: _message_started,
        events.MessageFinished: _message_finished,
        events.TextDelta: _text,
        events.TextDone: _text_done,
        events.ReasoningDelta: _reasoning,
        events.ReasoningDone: _reasoning_done,
        events.ToolStarted: _tool_started,
        events.ToolArgsDelta: _tool_args,
        events.ToolReady: _tool_ready,
        events.ToolProgress: _tool_progress,
        events.ToolOutput: _tool_output,
        events.ToolError: _tool_error,
        events.StepStarted: _step_started,
        events.StepFinished: _step_finished,
        events.Status: _status,
        events.Thought: _thought,
        events.Progress: _progress,
        **dict.fromkeys(_CUSTOM_VALUES, _custom),
        events.StateSnapshot: _state,
        events.StateDelta: _state_delta,
        events.Usage: _used,
        events.Snapshot: _snapshot,
        events.RunCompleted: _completed,
        events.RunCancelled: _cancelled,
        events.RunPaused: _paused,
        events.RunFailed: _failed,
        events.RunInterrupted: _interrupted,
    }


class AgUi(Dialect):
    """See the module."""

    name: ClassVar[str] = "ag-ui"
    encodes_with: ClassVar[type[Encoder]] = AgUiEncoder
    options: ClassVar[Mapping[str, Option]] = {
        "protocol_version": choice({None: None, PROTOCOL_VERSION: PROTOCOL_VERSION}),
        "announce": choice({None: False, FIRST_MESSAGE: True}),
    }

    def frame_kinds(self) -> list[FrameKind]:
        """JSON with the `type` of an event."""
        return [FrameKind(None, enumerated("type", _TYPES))]

    def document(self, reduced: Reduced) -> bytes:
        """`{"threadId", "status", "messages"}`, and `result`, `state`, `interrupts`, `usage`, `error` if there are."""
        return msgspec.json.encode(
            {
                "threadId": reduced.thread_id or reduced.run_id or "",
                "status": reduced.status,
                "messages": messages_of(reduced.messages),
                **given(
                    result=reduced.result,
                    state=reduced.state,
                    interrupts=interrupts_of(reduced.interrupts) or None,
                    usage=usage_of(reduced.usage) or None,
                    error=failure_in(reduced),
                ),
            }
        )


DIALECT = AgUi()
