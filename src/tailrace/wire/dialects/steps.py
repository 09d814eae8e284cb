"""The steps dialect: named frames of JSON, for pages that follow what an agent does step by step.

| Frame | Data |
|---|---|
| `status` | `{status, message?, level?, step?, timestamp}`: `started`, `running`, `paused`, or a word of the source |
| `progress` | `{progress?, step?, current?, total?, id?, timestamp}`: `progress` in percent |
| `thinking` | `{message}`: a piece of the model's reasoning; a reader appends it to the ones before |
| `thought` | `{thought, message, step?, total?, type?}`: a line of a plan; pages read either of the first two |
| `tool` | `{tool, status, call_id?, progress?, result?, error?}`: `calling`, `running`, `complete` or `error` |
| `token` | `{token}`: a piece of the answer |
| `action`, `suggestions` | `{type, value, …}`, `{suggestions}` |
| any other | application data, by its own name |
| `complete` | last of a run that did not fail: `{status, …}` and what the run returned |
| `error` | last of a run that failed: `{error, type, …}`, with a message for everybody |

`timestamp` is when the producer took the event, in UTC, by ISO 8601. With the option `task_id` the frames `status`,
`progress`, `complete` and `error` carry it. A `complete` that the source sends as data of its own is held back, and is
what the run returned.

`EventSource` calls its own events `error` too, those without data: a listener that parses `event.data` unseen throws at
each lost connection, and does not get to close the stream. It does no harm here, as the browser comes back with its
cursor, is never taken for a new start, and gets 204 once it has seen the end.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeAlias, Unpack, cast

import msgspec

from tailrace import events
from tailrace.events import Entry
from tailrace.fold import Reduced
from tailrace.wire.calls import CallNames
from tailrace.wire.dialects.contract import Dialect, Encoder, Option, RunConstants
from tailrace.wire.failures import failure_in, failure_of
from tailrace.wire.frames import frame_name, json_frame
from tailrace.wire.schema import FrameKind
from tailrace.wire.values import Json, given, iso_time

__all__ = ["DIALECT"]

_Said: TypeAlias = tuple[str, Json]

_TASK_ID_CHARACTERS = 128
_NAMING_THE_TASK = frozenset({"status", "progress", "complete", "error"})
_TIMED = frozenset({"status", "progress"})
_FRAMES = (
    "status",
    "progress",
    "thinking",
    "thought",
    "tool",
    "token",
    "action",
    "suggestions",
    "complete",
    "error",
)


class StepsEncoder(Encoder):
    """Remembers the names of the calls, and what the source sent as its result."""

    def __init__(self, *, task_id: str | None = None, **run: Unpack[RunConstants]) -> None:
        """See `Encoder`; `task_id` is what the application calls the run, at most 128 characters."""
        super().__init__(**run)
        self._task_id = task_id
        self._names = CallNames()
        self._result: Json = {}

    def bodies(self, entry: Entry) -> list[bytes]:
        """See the module for what each event becomes."""
        if isinstance(entry.event, events.Data):
            return self._data(entry.event)
        write = self._WRITERS.get(type(entry.event))
        return [] if write is None else [self._frame(entry.at_ms, *said) for said in write(self, entry.event)]

    def _frame(self, at_ms: int, name: str, fields: Json) -> bytes:
        shared: Json = {}
        if self._task_id is not None and name in _NAMING_THE_TASK:
            shared["task_id"] = self._task_id
        if name in _TIMED:
            shared["timestamp"] = iso_time(at_ms)
        return json_frame({**shared, **fields}, event=name)

    def _data(self, event: events.Data) -> list[bytes]:
        if event.name != "complete":
            return [json_frame(event.data, event=frame_name(event.name))]
        self._result.update(_fields_of(event.data))
        return []

    def _run_started(self, _: events.RunStarted) -> list[_Said]:
        return [_say("status", status="started")]

    def _step_started(self, event: events.StepStarted) -> list[_Said]:
        return [_say("status", status="running", step=event.name or event.index)]

    def _status(self, event: events.Status) -> list[_Said]:
        return [_say("status", status=event.state or "running", message=event.text, level=event.level)]

    def _notice(self, event: events.Notice) -> list[_Said]:
        return [_say("status", status="running", message=event.message, level="warning")]

    def _progress(self, event: events.Progress) -> list[_Said]:
        fraction = event.value
        if fraction is None and event.current is not None and event.total:
            fraction = event.current / event.total
        return [
            _say(
                "progress",
                progress=_percent(fraction),
                step=event.label or event.current,
                current=event.current,
                total=event.total,
                id=event.id,
            )
        ]

    def _reasoning(self, event: events.ReasoningDelta) -> list[_Said]:
        return [_say("thinking", message=event.delta)]

    def _thought(self, event: events.Thought) -> list[_Said]:
        text = event.text
        return [_say("thought", thought=text, message=text, step=event.step, total=event.total, type=event.kind)]

    def _tool_begun(self, event: events.ToolStarted | events.ToolReady) -> list[_Said]:
        return [] if self._names.begun(event) is None else [self._tool(event.call_id, "calling")]

    def _tool_progress(self, event: events.ToolProgress) -> list[_Said]:
        return [self._tool(event.call_id, "running", progress=_percent(event.progress), result=event.output)]

    def _tool_output(self, event: events.ToolOutput) -> list[_Said]:
        return [self._tool(event.call_id, "complete", result=event.output)]

    def _tool_error(self, event: events.ToolError) -> list[_Said]:
        return [self._tool(event.call_id, "error", error=event.message)]

    def _tool(self, call_id: str | None, status: str, **fields: object) -> _Said:
        return _say("tool", tool=self._names.of(call_id), status=status, call_id=call_id, **fields)

    def _token(self, event: events.TextDelta) -> list[_Said]:
        return [("token", {"token": event.delta})]

    def _action(self, event: events.UIAction) -> list[_Said]:
        return [("action", event.action)]

    def _suggestions(self, event: events.Suggestions) -> list[_Said]:
        return [_say("suggestions", suggestions=event.items)]

    def _completed(self, event: events.RunCompleted) -> list[_Said]:
        return [("complete", {"status": "completed", **self._result, **_fields_of(event.result)})]

    def _cancelled(self, _: events.RunCancelled) -> list[_Said]:
        return [_say("complete", status="cancelled")]

    def _paused(self, event: events.RunPaused) -> list[_Said]:
        message = next((interrupt.message for interrupt in event.interrupts if interrupt.message), None)
        return [
            _say("status", status="paused", message=message),
            _say("complete", status="paused", interrupts=event.interrupts),
        ]

    def _failed(self, event: events.RunFailed) -> list[_Said]:
        return [("error", {**(event.details or {}), **_error_of(failure_of(event))})]

    def _interrupted(self, event: events.RunInterrupted) -> list[_Said]:
        return [("error", _error_of(failure_of(event), kind="interrupted"))]

    _WRITERS: ClassVar[dict[type, Callable[[Any, Any], list[_Said]]]] = {
        events.RunStarted: _run_started,
        events.StepStarted: _step_started,
        events.Status: _status,
        events.Notice: _notice,
        events.Progress: _progress,
        events.ReasoningDelta: _reasoning,
        events.Thought: _thought,
        events.ToolStarted: _tool_begun,
        events.ToolReady: _tool_begun,
        events.ToolProgress: _tool_progress,
        events.ToolOutput: _tool_output,
        events.ToolError: _tool_error,
        events.TextDelta: _token,
        events.UIAction: _action,
        events.Suggestions: _suggestions,
        events.RunCompleted: _completed,
        events.RunCancelled: _cancelled,
        events.RunPaused: _paused,
        events.RunFailed: _failed,
        events.RunInterrupted: _interrupted,
    }


def _say(name: str, **fields: object) -> _Said:
    return name, given(**fields)


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else round(min(max(100 * fraction, 0), 100), 1)


def _fields_of(result: object) -> Json:
    """What a run returned, as fields of its `complete`."""
    if isinstance(result, dict):
        return cast("Json", result)
    return {} if result is None else {"result": result}


def _error_of(failure: Mapping[str, str], *, kind: str | None = None) -> Json:
    """The `error` of a failure; if it goes by another type than its code, that is the reason."""
    message, code = failure["message"], failure["code"]
    return {"error": message, "type": code} if kind is None else {"error": message, "type": kind, "reason": code}


def _task_id(value: object) -> str | None:
    if value is None or (isinstance(value, str) and len(value) <= _TASK_ID_CHARACTERS):
        return value
    raise ValueError("no text, or too long a one")


class Steps(Dialect):
    """See the module."""

    name: ClassVar[str] = "steps"
    encodes_with: ClassVar[type[Encoder]] = StepsEncoder
    resumes: ClassVar[bool] = True
    options: ClassVar[Mapping[str, Option]] = {"task_id": _task_id}

    def frame_kinds(self) -> list[FrameKind]:
        """Its own frames; application data goes by other names."""
        return [FrameKind(name, {"type": "object"}) for name in _FRAMES]

    def document(self, reduced: Reduced) -> bytes:
        """What `complete` or `error` would say, and the text as `response` if there is any."""
        failure = failure_in(reduced)
        answer = given(response=reduced.text or None, status=reduced.status, interrupts=reduced.interrupts or None)
        if failure is not None:
            answer |= _error_of(failure, kind="interrupted" if reduced.status == "interrupted" else None)
        for result in (*reduced.data.get("complete", ()), reduced.result):
            answer |= _fields_of(result)
        return msgspec.json.encode(answer)

    def error(self, status: int, code: str, message: str) -> bytes:
        """`{"error": message, "type": code, "status"}`, as the `error` of a stream."""
        return msgspec.json.encode({**_error_of({"code": code, "message": message}), "status": status})


DIALECT = Steps()
