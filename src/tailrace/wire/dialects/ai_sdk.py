"""The AI SDK's UI message stream, protocol v1, as `useChat` of ai 5, 6 and 7 reads it.

https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol. A run is one message of the assistant: `start` with its id, steps of
parts, `finish`, `[DONE]`. These clients check every chunk and end the stream with an error at the first that they do
not expect, so whatever a source leaves out is written here:

- `sdk_version` says what the client knows: 5, the default, is what all three understand.
- A step is what the model wrote in one go, with the results of its tools. It ends where the source says so, and where
  the model goes on after all its calls have their results. Clients send a message back by themselves when the calls of
  its last step have results, so at the end of a run such a step is followed by an empty one.
- Parts do not span steps, and their ids are not used twice.
- A tool call is `dynamic`, which spares the page a declaration of the tool, unless the client is to run it.
- Everything is closed before `error`, after which clients read nothing, and before `abort`, which they ignore. What an
  ending means is in the message's metadata: `status`, and `error` with `code` and `message`.

What the vocabulary has beyond this protocol are data parts by the names of their events: `data-status` (transient),
`data-thought`, `data-progress`, `data-tool-progress`, `data-ui-action`, `data-suggestions`, `data-notice`,
`data-state`, `data-state-delta` (transient), `data-interrupt`. The application's own are `data-<name>`.

A run may continue a message, because the page ran a tool or somebody approved of one. Its beginning is in the `meta` of
`run.started` then, as `CONTINUES`: whoever sent it has it already, and only results of its calls are told; with the
option `replay` it is told again, for a page that was loaded anew, as these clients forget the message at a `start`.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias, Unpack

import msgspec

from tailrace import events
from tailrace.events import Entry, ToolEvent
from tailrace.fold import Reduced
from tailrace.wire.ai_sdk_messages import (
    answer_of,
    data_of,
    events_of,
    interrupt_fields,
    message_of,
    source_part,
    usage_of,
)
from tailrace.wire.calls import UNNAMED_TOOL
from tailrace.wire.dialects.contract import Dialect, Encoder, Option, RunConstants, choice
from tailrace.wire.failures import failure_of
from tailrace.wire.frames import frame, json_frame
from tailrace.wire.retold import held_in, parts_of
from tailrace.wire.schema import FrameKind
from tailrace.wire.usage import Tally
from tailrace.wire.values import Json, given

__all__ = ["CONTINUES", "DIALECT"]

#: The name in `meta` of the parts that the message has already, as the client sent them.
CONTINUES = "ai_sdk_continues"

_Delta: TypeAlias = events.TextDelta | events.ReasoningDelta
_Done: TypeAlias = events.TextDone | events.ReasoningDone
_PartKey: TypeAlias = tuple[str, str | None, str | None]

_DONE = frame(b"[DONE]")
_UNFINISHED = "The run ended before the tool did."
#: The chunks that are written, beside those that begin with `data-`.
_CHUNKS = (
    *("start", "finish", "error", "abort", "message-metadata", "start-step", "finish-step"),
    *("text-start", "text-delta", "text-end", "reasoning-start", "reasoning-delta", "reasoning-end"),
    *("tool-input-start", "tool-input-delta", "tool-input-available", "tool-input-error"),
    *("tool-output-available", "tool-output-error", "tool-approval-request"),
    *("source-url", "source-document", "file"),
)
_FINISH_REASONS = {"content_filter": "content-filter", "tool_calls": "tool-calls"}
#: Of arguments that never became complete so much may be shown as input; what is longer is not.
_KEPT_CHARACTERS = 128 * 1024


class _Call:
    """A tool call as the client knows it: `writing` its input, `ready` to run, or `done`."""

    def __init__(self, name: str, executor: str | None = None, title: str | None = None) -> None:
        self.name = name
        self.state: Literal["writing", "ready", "done"] = "writing"
        self.kind: Json = {} if executor == "client" else {"dynamic": True}
        self.marks = {
            **self.kind,
            **({"providerExecuted": True} if executor == "provider" else {}),
            **({"title": title} if title else {}),
        }
        self._args: list[str] = []
        self._length = 0

    def keep(self, delta: str) -> None:
        """Take a piece of the arguments, in case that nobody will say what they amount to."""
        self._length += len(delta)
        if self._length <= _KEPT_CHARACTERS:
            self._args.append(delta)

    def parse(self) -> tuple[object, bool]:
        """The arguments and whether they are complete: their value if they are JSON, else their text."""
        text = "".join(self._args)
        if not 0 < self._length <= _KEPT_CHARACTERS:
            return {}, not self._length
        try:
            return msgspec.json.decode(text), True
        except (msgspec.DecodeError, RecursionError):
            return text, False


class AiSdkEncoder(Encoder):
    """Knows what is open at the client, and which ids it has seen."""

    def __init__(self, *, sdk_version: int = 5, replay: bool = False, **run: Unpack[RunConstants]) -> None:
        """Begin a run.

        Args:
            sdk_version: 5, 6 or 7.
            replay: Whether the client has nothing of a message that the run continues.
            **run: See `Encoder`.
        """
        super().__init__(**run)
        self._sdk_version = sdk_version
        self._replay = replay
        self._frames: list[bytes] = []
        self._started = False
        self._in_step = False
        self._open_parts: dict[_PartKey, str] = {}
        self._uses: dict[str, int] = {}
        self._calls: dict[str, _Call] = {}
        self._step_calls: dict[str, _Call] = {}
        self._last_call_id: str | None = None
        self._tally = Tally()

    def bodies(self, entry: Entry) -> list[bytes]:
        """See the module for what each event becomes."""
        self._frames = []
        self._take(entry.event)
        return self._frames

    def _take(self, event: events.Event) -> None:
        write = self._WRITERS.get(type(event))
        if write is None:
            return
        if not self._started and not isinstance(event, events.RunStarted):
            self._start(events.RunStarted(run_id=self.run_id))
        write(self, event)

    def _write(self, chunk: str, values: Json | None = None, /, **fields: object) -> None:
        """Add a chunk: `values` as they are, of `fields` those that are there, as a null would end the stream."""
        self._frames.append(json_frame({"type": chunk, **given(**fields), **(values or {})}))

    # The message and its steps ---------------------------------------------------------------------------------------

    def _start(self, event: events.RunStarted) -> None:
        if self._started:
            return
        self._started = True
        metadata = given(runId=event.run_id, threadId=event.thread_id or self.thread_id, model=event.model)
        self._write("start", messageId=event.message_id, messageMetadata=metadata)
        self._go_on_after((event.meta or {}).get(CONTINUES))

    def _go_on_after(self, parts: object) -> None:
        """Know what the message has already; whoever has it too is not told."""
        told = len(self._frames)
        for event in events_of(parts):
            self._take(event)
        self._end_step()
        if not self._replay:
            del self._frames[told:]

    def _go_on(self) -> None:
        """The model says something that is not a part yet."""
        if _answered(self._step_calls):
            self._end_step()
        self._begin_step()

    def _begin_step(self) -> None:
        if not self._in_step:
            self._in_step = True
            self._step_calls = {}
            self._write("start-step")

    def _end_step(self) -> None:
        """End the step, but not while a call is being written: clients look for it in the newest step only."""
        if self._in_step and all(call.state != "writing" for call in self._step_calls.values()):
            self._close_parts()
            self._in_step = False
            self._write("finish-step")

    def _step(self, _: events.StepStarted | events.StepFinished) -> None:
        self._end_step()

    # Text and reasoning ----------------------------------------------------------------------------------------------

    def _delta(self, event: _Delta) -> None:
        kind = "text" if isinstance(event, events.TextDelta) else "reasoning"
        key = (kind, event.message_id, event.part_id)
        stream_id = self._open_parts.get(key)
        if stream_id is None:
            # Sources seldom say that a part is complete, and a page would show it as growing.
            self._close_parts(event.message_id)
            self._go_on()
            stream_id = self._open_parts[key] = self._unused(event.part_id or kind)
            self._write(f"{kind}-start", id=stream_id)
        # Not by `_write`: of these there are many, and all fields are there.
        self._frames.append(json_frame({"type": f"{kind}-delta", "id": stream_id, "delta": event.delta}))

    def _part_done(self, event: _Done) -> None:
        kind, kept = (
            ("text", given(citations=event.citations))
            if isinstance(event, events.TextDone)
            else ("reasoning", given(signature=event.signature, redacted=event.redacted))
        )
        self._close_part((kind, event.message_id, event.part_id), {"tailrace": kept} if kept else None)

    def _message_done(self, event: events.MessageFinished) -> None:
        self._close_parts(event.message_id)

    def _close_parts(self, message_id: str | None = None) -> None:
        """Close what is open of a message; of all messages if none is named."""
        for key in [key for key in self._open_parts if message_id in {None, key[1]}]:
            self._close_part(key)

    def _close_part(self, key: _PartKey, metadata: Json | None = None) -> None:
        stream_id = self._open_parts.pop(key, None)
        if stream_id is not None:
            self._write(f"{key[0]}-end", id=stream_id, providerMetadata=metadata)

    def _unused(self, wanted: str) -> str:
        unused = wanted
        while unused in self._uses:
            self._uses[wanted] += 1
            unused = f"{wanted}~{self._uses[wanted]}"
        self._uses[unused] = 1
        return unused

    # Tools -----------------------------------------------------------------------------------------------------------

    def _tool_started(self, event: events.ToolStarted) -> None:
        call_id = event.call_id or self._unused("call")
        call = self._calls.get(call_id)
        if call is None or call.state == "done":
            self._close_parts(event.message_id)
            self._begin_call(call_id, _Call(event.name, event.executor, event.title))
        self._last_call_id = call_id

    def _tool_args(self, event: events.ToolArgsDelta) -> None:
        call_id, call = self._call_of(event)
        if call is None:
            call = self._begin_call(call_id, _Call(UNNAMED_TOOL))
        if call.state == "writing":
            call.keep(event.delta)
            self._write("tool-input-delta", toolCallId=call_id, inputTextDelta=event.delta)

    def _tool_ready(self, event: events.ToolReady) -> None:
        call_id, call = self._call_of(event)
        if call is None:
            call = self._add_call(call_id, _Call(event.name or UNNAMED_TOOL))
        if call.state == "writing":
            call.name = event.name or call.name
            self._make_ready(call_id, call, {} if event.input is None else event.input)

    def _tool_progress(self, event: events.ToolProgress) -> None:
        call_id, call = self._call_of(event)
        if event.output is not None and (call is None or call.state != "done"):
            call = self._ready_call(call_id)
            output = {"output": event.output}
            self._write("tool-output-available", output, toolCallId=call_id, preliminary=True, **call.kind)
        if event.progress is not None:
            self._write("data-tool-progress", {"data": {"toolCallId": call_id, "value": event.progress}}, id=call_id)

    def _tool_output(self, event: events.ToolOutput) -> None:
        call_id, _ = self._call_of(event)
        call = self._ready_call(call_id)
        call.state = "done"
        self._write("tool-output-available", {"output": event.output}, toolCallId=call_id, **call.kind)

    def _tool_error(self, event: events.ToolError) -> None:
        call_id, call = self._call_of(event)
        self._refuse(call_id, call or self._add_call(call_id, _Call(UNNAMED_TOOL)), event.message)

    def _call_of(self, event: ToolEvent) -> tuple[str, _Call | None]:
        """The call that the event means, if it is known: without an id, the one that was started last."""
        if event.call_id is None and self._last_call_id is None:
            self._last_call_id = self._unused("call")
        call_id = event.call_id or self._last_call_id or ""
        return call_id, self._calls.get(call_id)

    def _begin_call(self, call_id: str, call: _Call) -> _Call:
        self._add_call(call_id, call)
        self._write("tool-input-start", toolCallId=call_id, toolName=call.name, **call.marks)
        return call

    def _add_call(self, call_id: str, call: _Call) -> _Call:
        self._go_on()
        self._calls[call_id] = self._step_calls[call_id] = call
        return call

    def _ready_call(self, call_id: str) -> _Call:
        """The call, of which the client knows the input: it takes no result before."""
        call = self._calls.get(call_id) or self._add_call(call_id, _Call(UNNAMED_TOOL))
        if call.state == "writing":
            self._make_ready(call_id, call, call.parse()[0])
        return call

    def _make_ready(self, call_id: str, call: _Call, value: object) -> None:
        call.state = "ready"
        self._write("tool-input-available", {"input": value}, toolCallId=call_id, toolName=call.name, **call.marks)

    def _refuse(self, call_id: str, call: _Call, reason: str) -> None:
        """The call failed. An input that is not complete is not told as available, or the page would run the tool."""
        if call.state == "writing":
            values = {"input": call.parse()[0]}
            fields = {"toolCallId": call_id, "toolName": call.name, "errorText": reason}
            self._write("tool-input-error", values, **fields, **call.marks)
        else:
            self._write("tool-output-error", toolCallId=call_id, errorText=reason, **call.kind)
        call.state = "done"

    # Beside the answer -----------------------------------------------------------------------------------------------

    def _source(self, event: events.Source) -> None:
        self._begin_step()
        chunk, fields = source_part(event, event.source_id or self._unused("source"))
        self._write(chunk, **fields)

    def _file(self, event: events.File) -> None:
        self._begin_step()
        self._write("file", mediaType=event.media_type, url=event.url)

    def _data(self, event: events.Data) -> None:
        self._write(f"data-{event.name}", {"data": event.data}, id=event.id, transient=event.transient or None)

    def _transient(self, event: events.Status) -> None:
        self._write("data-status", {"data": data_of(event)}, transient=True)

    def _fact(self, event: events.Thought | events.Notice) -> None:
        self._write(f"data-{events.event_type(event)}", {"data": data_of(event)})

    def _progress(self, event: events.Progress) -> None:
        self._write("data-progress", {"data": data_of(event)}, id=event.id or "progress")

    def _action(self, event: events.UIAction) -> None:
        self._write("data-ui-action", {"data": event.action}, id=event.id)

    def _suggestions(self, event: events.Suggestions) -> None:
        self._write("data-suggestions", {"data": event.items}, id="suggestions")

    def _state(self, event: events.StateSnapshot) -> None:
        self._write("data-state", {"data": event.state}, id="state")

    def _state_delta(self, event: events.StateDelta) -> None:
        # As a part it would stand in the message beside a state that has it, or has it not.
        self._write("data-state-delta", {"data": event.patch}, transient=True)

    def _used(self, event: events.Usage) -> None:
        self._tally.take(event)
        self._write("message-metadata", messageMetadata={"usage": usage_of(self._tally.counts)})

    def _snapshot(self, event: events.Snapshot) -> None:
        """What the run was so far, as if it had been told; a client that was told it needs no summary."""
        if self._uses or self._calls:
            return
        messages, used = held_in(event)
        for message in answer_of(messages):
            for told in parts_of(message):
                self._take(told)
        if event.state is not None:
            self._take(events.StateSnapshot(state=event.state))
        for usage in used:
            self._take(usage)

    # Endings ---------------------------------------------------------------------------------------------------------

    def _completed(self, event: events.RunCompleted) -> None:
        reason = event.finish_reason or "stop"
        self._settle(failed=False)
        self._end()
        self._finish(_FINISH_REASONS.get(reason, reason), status="completed", result=event.result)

    def _broken(self, event: events.RunFailed | events.RunInterrupted) -> None:
        status = "failed" if isinstance(event, events.RunFailed) else "interrupted"
        failure = failure_of(event)
        self._settle(failed=True)
        self._end()
        self._write("message-metadata", messageMetadata={"status": status, "error": failure})
        self._write("error", errorText=failure["message"])
        self._finish("error", status=status)

    def _cancelled(self, event: events.RunCancelled) -> None:
        self._settle(failed=True)
        self._end()
        self._write("abort", reason=event.reason)
        # Only 7 has the word, and with it does not send the message back by itself.
        self._finish("interrupted" if self._sdk_version >= 7 else "other", status="cancelled", reason=event.reason)

    def _paused(self, event: events.RunPaused) -> None:
        self._settle(failed=False)
        for interrupt in event.interrupts:
            self._interrupt(interrupt)
        self._end()
        self._finish("tool-calls", status="paused")

    def _interrupt(self, interrupt: events.Interrupt) -> None:
        call_id = interrupt.call_id or ""
        call = self._calls.get(call_id)
        if self._sdk_version >= 6 and interrupt.kind == "approval" and call is not None and call.state == "ready":
            self._write("tool-approval-request", approvalId=interrupt.id, toolCallId=call_id, reason=interrupt.message)
        else:
            self._write("data-interrupt", {"data": interrupt_fields(interrupt)}, id=interrupt.id)

    def _settle(self, *, failed: bool) -> None:
        """Close parts and inputs; a call without a result waits for one, unless the run failed."""
        for call_id, call in self._calls.items():
            value, is_complete = call.parse() if call.state == "writing" else (None, False)
            if is_complete and not failed:
                self._make_ready(call_id, call, value)
            elif call.state == "writing" or (failed and call.state == "ready"):
                self._refuse(call_id, call, _UNFINISHED)
        self._close_parts()

    def _end(self) -> None:
        self._end_step()
        if _answered(self._step_calls):
            self._begin_step()
            self._end_step()

    def _finish(self, finish_reason: str, **metadata: object) -> None:
        self._write("finish", finishReason=finish_reason, messageMetadata=given(**metadata))
        self._frames.append(_DONE)

    _WRITERS: ClassVar[dict[type, Callable[[Any, Any], None]]] = {
        events.RunStarted: _start,
        events.RunCompleted: _completed,
        events.RunFailed: _broken,
        events.RunCancelled: _cancelled,
        events.RunInterrupted: _broken,
        events.RunPaused: _paused,
        events.StepStarted: _step,
        events.StepFinished: _step,
        events.MessageFinished: _message_done,
        events.TextDelta: _delta,
        events.TextDone: _part_done,
        events.ReasoningDelta: _delta,
        events.ReasoningDone: _part_done,
        events.ToolStarted: _tool_started,
        events.ToolArgsDelta: _tool_args,
        events.ToolReady: _tool_ready,
        events.ToolProgress: _tool_progress,
        events.ToolOutput: _tool_output,
        events.ToolError: _tool_error,
        events.Status: _transient,
        events.Thought: _fact,
        events.Notice: _fact,
        events.Progress: _progress,
        events.Data: _data,
        events.UIAction: _action,
        events.Suggestions: _suggestions,
        events.Source: _source,
        events.File: _file,
        events.StateSnapshot: _state,
        events.StateDelta: _state_delta,
        events.Usage: _used,
        events.Snapshot: _snapshot,
    }


def _answered(calls: dict[str, _Call]) -> bool:
    """Whether there are calls, and each has its result."""
    return bool(calls) and all(call.state == "done" for call in calls.values())


class AiSdk(Dialect):
    """See the module."""

    name: ClassVar[str] = "ai-sdk"
    headers: ClassVar[Mapping[str, str]] = {"x-vercel-ai-ui-message-stream": "v1"}
    encodes_with: ClassVar[type[Encoder]] = AiSdkEncoder
    options: ClassVar[Mapping[str, Option]] = {
        "sdk_version": choice({"5": 5, "6": 6, "7": 7}),
        "replay": choice({"1": True, "0": False}),
    }

    def frame_kinds(self) -> list[FrameKind]:
        """JSON with the `type` of a chunk, or `[DONE]`."""
        types = {"anyOf": [{"enum": list(_CHUNKS)}, {"pattern": "^data-"}]}
        chunk = {"type": "object", "required": ["type"], "properties": {"type": types}}
        return [FrameKind(None, chunk), FrameKind(None, None)]

    def document(self, reduced: Reduced) -> bytes:
        """A `UIMessage`: `{"id", "role", "metadata", "parts"}`; `metadata` has `status`, and `error` of a failure."""
        return msgspec.json.encode(message_of(reduced))


DIALECT = AiSdk()
