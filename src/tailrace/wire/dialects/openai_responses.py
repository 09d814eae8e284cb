"""The openai-responses dialect: the events of OpenAI's Responses API, each with the next `sequence_number` from 0.

`response.created` and `response.in_progress`; then items, each added, filled and done: a stretch of text is a `message`
with one `output_text`, reasoning a `reasoning` item, a call of the client's a `function_call`, and any other call an
`mcp_call`; then `response.completed`, `.incomplete` or `.failed` with the whole response. There is no word for a run
that was cancelled: `response.incomplete`, with the status `cancelled`.

A client runs the `function_call` items it finds. The server's own calls therefore are `mcp_call` items, the protocol's
word for a tool that ran elsewhere, with arguments and output in one item; `server_label` is `tailrace`. Which calls are
the client's is decided as in the openai dialect. What has no word at all is a `keepalive` with the event under
`tailrace`: the one frame that all helpers of OpenAI's clients let pass, as some throw at types they do not know.

A reader goes on after a number, so frames are counted, and deltas never merged. The last frame has the whole response,
which each encoder therefore keeps.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias, Unpack, get_args

import msgspec

from tailrace import events
from tailrace.events import Entry, Event, Terminal, ToolEvent
from tailrace.fold import Reduced, merge
from tailrace.wire.calls import UNNAMED_TOOL
from tailrace.wire.dialects.contract import Dialect, Encoder, Option, RunConstants
from tailrace.wire.failures import failure_of
from tailrace.wire.frames import json_frame
from tailrace.wire.openai_turn import Call, Turn, extension, model_name, refusal
from tailrace.wire.retold import log_of
from tailrace.wire.schema import FrameKind, enumerated
from tailrace.wire.values import Json, text_of

__all__ = ["DIALECT", "OpenAIResponses"]

#: The items that are written piece by piece, and what their one part is called.
_PARTS = {"message": "output_text", "reasoning": "reasoning_text"}
_SERVER_LABEL = "tailrace"

#: The types of all frames.
_EVENTS = (
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.annotation.added",
    "response.output_text.done",
    "response.reasoning_text.delta",
    "response.reasoning_text.done",
    "response.content_part.done",
    "response.mcp_call.in_progress",
    "response.mcp_call_arguments.delta",
    "response.mcp_call_arguments.done",
    "response.mcp_call.completed",
    "response.mcp_call.failed",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
    "response.completed",
    "response.incomplete",
    "response.failed",
    "keepalive",
)

#: How the terminal frame and the response say how a run ended; the code of `run.failed` is told under `tailrace`.
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ERROR_CODES = {"limit": "rate_limit_exceeded", "provider_rate_limited": "rate_limit_exceeded"}
_ANY_ERROR_CODE = "server_error"

_Kind: TypeAlias = Literal["message", "reasoning", "mcp_call", "function_call"]
_Status: TypeAlias = Literal["in_progress", "completed", "incomplete", "failed"]


class _Item(msgspec.Struct):
    """One item of the output; `facts` are the fields that only its kind has."""

    id: str
    index: int
    kind: _Kind
    key: object
    facts: Json
    pieces: list[str] = []
    annotations: list[Json] = []
    status: _Status = "in_progress"
    has_arguments: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def part(self) -> Json:
        part: Json = {"type": _PARTS[self.kind], "text": self.text}
        return {**part, "annotations": self.annotations, "logprobs": []} if self.kind == "message" else part

    @property
    def value(self) -> Json:
        held = {"content": [self.part]} if self.kind in _PARTS else {"arguments": self.text}
        return {"id": self.id, "type": self.kind, "status": self.status, **self.facts, **held}


class OpenAIResponsesEncoder(Encoder):
    """Keeps the response as its client has it."""

    def __init__(self, *, model: str | None = None, **run: Unpack[RunConstants]) -> None:
        """Begin a run; a response's id is `resp_` and the run's.

        Args:
            model: What the model is called, by default what the run says.
            **run: See `Encoder`.
        """
        super().__init__(**run)
        self._turn = Turn(model)
        self._frames: list[bytes] = []
        self._count = 0
        self._merged = 0
        self._output: list[_Item] = []
        self._writing: _Item | None = None
        self._calls: dict[str, _Item] = {}
        self._ended: Json = {}

    def bodies(self, entry: Entry) -> list[bytes]:
        """See the module for what each event becomes."""
        event = entry.event
        self._frames, self._merged = [], entry.seq - entry.since
        if isinstance(event, events.RunStarted | events.Usage):
            self._turn.take(entry)
        opens = not self._count
        if opens:
            self._frame("response.created", response=self.response)
            self._frame("response.in_progress", response=self.response)
        if not (opens and isinstance(event, events.RunStarted)):
            self._WRITERS.get(type(event), OpenAIResponsesEncoder._extend)(self, event)
        return self._frames

    @property
    def response(self) -> Json:
        """The response so far."""
        response: Json = {
            "id": f"resp_{self.run_id}",
            "object": "response",
            "created_at": self._turn.created_at,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": self._turn.model,
            "output": [item.value for item in self._output],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "metadata": {},
        }
        if usage := self._turn.usage:
            response["usage"] = _usage(usage)
        return {**response, **self._ended}

    # Frames ----------------------------------------------------------------------------------------------------------

    def _frame(self, kind: str, **fields: object) -> None:
        self._frames.append(json_frame({"type": kind, "sequence_number": self._count, **fields}, event=kind))
        self._count += 1

    def _part_frame(self, item: _Item, kind: str, **fields: object) -> None:
        self._frame(kind, item_id=item.id, output_index=item.index, **fields)

    def _content_frame(self, item: _Item, kind: str, **fields: object) -> None:
        self._part_frame(item, kind, content_index=0, **fields)

    def _text_frame(self, item: _Item, verb: str, **fields: object) -> None:
        logprobs: Json = {"logprobs": []} if item.kind == "message" else {}
        self._content_frame(item, f"response.{_PARTS[item.kind]}.{verb}", **fields, **logprobs)

    def _extend(self, event: Event) -> None:
        """What the protocol has no word for."""
        self._frame("keepalive", **extension(event))

    def _skip_merged(self) -> None:
        """Whoever was sent the events of an entry unmerged has counted a frame for each."""
        self._count += self._merged

    # The end ---------------------------------------------------------------------------------------------------------

    def _end(self, event: Terminal) -> None:
        left = {call.id: call for call in self._turn.left_to_client(event)}
        verb, ended = _ending(event)
        self._close_text("completed" if verb == "completed" else "incomplete")
        for call_id, item in self._calls.items():
            if item.status == "in_progress":
                whole = item.kind == "function_call" and call_id in left
                self._close_arguments(item)
                self._done(item, "completed" if whole else "incomplete")
        for call_id, call in left.items():
            if self._calls[call_id].kind != "function_call":
                item = self._add_call("function_call", call)
                self._add_arguments(item, call.arguments)
                self._close_arguments(item)
                self._done(item, "completed")
        self._ended = ended
        self._frame(f"response.{verb}", response=self.response, **extension(event))

    # Text and reasoning ----------------------------------------------------------------------------------------------

    def _delta(self, event: events.TextDelta | events.ReasoningDelta) -> None:
        kind: _Kind = "message" if isinstance(event, events.TextDelta) else "reasoning"
        key = (event.message_id, event.part_id)
        item = self._writing
        if item is None or (item.kind, item.key) != (kind, key):
            self._close_text()
            item = self._writing = self._add(kind, key, {"role": "assistant"} if kind == "message" else {"summary": []})
            self._frame("response.output_item.added", output_index=item.index, item={**item.value, "content": []})
            self._content_frame(item, "response.content_part.added", part=item.part)
        self._skip_merged()
        item.pieces.append(event.delta)
        self._text_frame(item, "delta", delta=event.delta)

    def _close_text(self, status: _Status = "completed") -> None:
        item, self._writing = self._writing, None
        if item is not None:
            self._text_frame(item, "done", text=item.text)
            self._content_frame(item, "response.content_part.done", part=item.part)
            self._done(item, status)

    def _text_done(self, event: events.TextDone) -> None:
        if self._writing is not None and self._writing.kind == "message":
            self._close_text()
        if event.citations:
            self._extend(event)

    def _reasoning_done(self, event: events.ReasoningDone) -> None:
        if self._writing is None or self._writing.kind != "reasoning":
            self._extend(event)
            return
        if event.signature:
            self._writing.facts["encrypted_content"] = event.signature
        self._close_text()

    def _source(self, event: events.Source) -> None:
        """A citation, if it is an address in the text that is being written."""
        item = self._writing
        if item is None or item.kind != "message" or event.url is None:
            self._extend(event)
            return
        start, end = event.span if event.span and len(event.span) == 2 else (0, 0)
        annotation = {
            "type": "url_citation",
            "url": event.url,
            "title": event.title or event.url,
            "start_index": start,
            "end_index": end,
        }
        place = len(item.annotations)
        item.annotations.append(annotation)
        kind = "response.output_text.annotation.added"
        self._content_frame(item, kind, annotation_index=place, annotation=annotation)

    # Calls -----------------------------------------------------------------------------------------------------------

    def _tool(self, event: ToolEvent) -> None:
        call, added = self._turn.call(event)
        item = self._calls.get(call.id)
        if item is None:
            item = self._calls[call.id] = self._add_call(
                "function_call" if call.executor == "client" else "mcp_call", call
            )
        is_open = item.status == "in_progress"
        if is_open:
            item.facts["name"] = call.name or UNNAMED_TOOL
        match event:
            case events.ToolStarted():
                pass
            case events.ToolArgsDelta() if is_open:
                self._add_arguments(item, added)
            case events.ToolReady() | events.ToolOutput() | events.ToolError() if is_open:
                if added:
                    self._add_arguments(item, added)
                self._close_arguments(item)
                self._answer(item, event)
            case _:
                self._skip_merged()
                self._extend(event)

    def _answer(self, item: _Item, event: events.ToolReady | events.ToolOutput | events.ToolError) -> None:
        """The item has its arguments: one of the client's is complete, one of the server's waits for its result."""
        if item.kind == "function_call":
            self._done(item, "completed")
            if not isinstance(event, events.ToolReady):
                self._extend(event)
        elif isinstance(event, events.ToolOutput):
            item.facts["output"] = text_of(event.output)
            self._part_frame(item, "response.mcp_call.completed")
            self._done(item, "completed")
        elif isinstance(event, events.ToolError):
            content = [{"type": "text", "text": event.message}]
            item.facts["error"] = {"type": "mcp_tool_execution_error", "content": content}
            self._part_frame(item, "response.mcp_call.failed")
            self._done(item, "failed")

    def _add_call(self, kind: _Kind, call: Call) -> _Item:
        self._close_text()
        own = {"server_label": _SERVER_LABEL} if kind == "mcp_call" else {"call_id": call.id}
        item = self._add(kind, call.id, {"name": call.name or UNNAMED_TOOL, **own})
        self._frame("response.output_item.added", output_index=item.index, item=item.value)
        if kind == "mcp_call":
            self._part_frame(item, "response.mcp_call.in_progress")
        return item

    def _add_arguments(self, item: _Item, added: str) -> None:
        if not item.has_arguments:
            self._skip_merged()
            item.pieces.append(added)
            self._part_frame(item, f"response.{item.kind}_arguments.delta", delta=added)

    def _close_arguments(self, item: _Item) -> None:
        if item.has_arguments:
            return
        if not item.text:
            self._add_arguments(item, "{}")
        item.has_arguments = True
        kind = f"response.{item.kind}_arguments.done"
        self._part_frame(item, kind, name=item.facts["name"], arguments=item.text)

    # Items -----------------------------------------------------------------------------------------------------------

    def _add(self, kind: _Kind, key: object, facts: Json) -> _Item:
        index = len(self._output)
        item = _Item(id=f"{_ID_PREFIXES[kind]}_{self.run_id}_{index}", index=index, kind=kind, key=key, facts=facts)
        self._output.append(item)
        return item

    def _done(self, item: _Item, status: _Status) -> None:
        item.status = status
        self._frame("response.output_item.done", output_index=item.index, item=item.value)

    _WRITERS: ClassVar[dict[type, Callable[[Any, Any], None]]] = {
        events.TextDelta: _delta,
        events.TextDone: _text_done,
        events.ReasoningDelta: _delta,
        events.ReasoningDone: _reasoning_done,
        events.Source: _source,
        **dict.fromkeys(get_args(ToolEvent), _tool),
        **dict.fromkeys(events.TERMINALS, _end),
    }


_ID_PREFIXES: dict[_Kind, str] = {"message": "msg", "reasoning": "rs", "mcp_call": "mcp", "function_call": "fc"}


class OpenAIResponses(Dialect):
    """See the module."""

    name: ClassVar[str] = "openai-responses"
    merges: ClassVar[bool] = False
    encodes_with: ClassVar[type[Encoder]] = OpenAIResponsesEncoder
    options: ClassVar[Mapping[str, Option]] = {"model": model_name}

    def frame_kinds(self) -> list[FrameKind]:
        """JSON with the `type` that the frame goes by."""
        return [FrameKind(kind, enumerated("type", [kind])) for kind in _EVENTS]

    def document(self, reduced: Reduced) -> bytes:
        """A `response`."""
        return self.document_of(log_of(reduced), run_id=reduced.run_id or "")

    def document_of(self, entries: Iterable[Entry], *, run_id: str, model: str | None = None) -> bytes:
        """A log, finished or not, as the `response` that its stream has told so far."""
        encoder = OpenAIResponsesEncoder(run_id=run_id, model=model)
        for entry in merge(entries):
            encoder.encode(entry)
        return msgspec.json.encode(encoder.response)

    def error(self, status: int, code: str, message: str) -> bytes:
        """`{"error": {"message", "type", "param", "code"}}`."""
        return refusal(status, code, message)


def _ending(event: Terminal) -> tuple[str, Json]:
    """The verb of the terminal frame, and what it changes in the response."""
    match event:
        case events.RunFailed() | events.RunInterrupted():
            failure = failure_of(event)
            code = _ERROR_CODES.get(failure["code"], _ANY_ERROR_CODE)
            return "failed", {"status": "failed", "error": {"code": code, "message": failure["message"]}}
        case events.RunCancelled():
            return "incomplete", {"status": "cancelled"}
        case events.RunCompleted() if event.finish_reason in _INCOMPLETE:
            reason = _INCOMPLETE[event.finish_reason]
            return "incomplete", {"status": "incomplete", "incomplete_details": {"reason": reason}}
        case _:
            return "completed", {"status": "completed"}


def _usage(usage: events.Usage) -> Json:
    taken, given = usage.input_tokens or 0, usage.output_tokens or 0
    return {
        "input_tokens": taken,
        "input_tokens_details": {
            "cached_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_input_tokens,
        },
        "output_tokens": given,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": taken + given,
    }


DIALECT = OpenAIResponses()
