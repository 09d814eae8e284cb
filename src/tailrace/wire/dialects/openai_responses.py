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

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

from tailrace import events
from tailrace.events import Entry, Event, Terminal
from tailrace.fold import Reduced, merge
from tailrace.wire.dialects.contract import Dialect, Encoder, IdForm, failure_of, json_frame
from tailrace.wire.schema import FrameKind, enumerated
from tailrace.wire.turn import Call, ToolEvent, Turn, refusal, retold

__all__ = ["DIALECT", "OpenAIResponses"]

#: The items that are written piece by piece, and what their one part is called.
_PARTS = {"message": "output_text", "reasoning": "reasoning_text"}
_SERVER_LABEL = "tailrace"
_UNNAMED_TOOL = "tool"

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
    facts: dict[str, Any]
    pieces: list[str] = []
    annotations: list[dict[str, Any]] = []
    status: _Status = "in_progress"
    has_arguments: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def part(self) -> dict[str, Any]:
        part: dict[str, Any] = {"type": _PARTS[self.kind], "text": self.text}
        return {**part, "annotations": self.annotations, "logprobs": []} if self.kind == "message" else part

    @property
    def value(self) -> dict[str, Any]:
        held = {"content": [self.part]} if self.kind in _PARTS else {"arguments": self.text}
        return {"id": self.id, "type": self.kind, "status": self.status, **self.facts, **held}


class OpenAIResponsesEncoder(Encoder):
    """Keeps the response as its client has it."""

    def __init__(self, *, run_id: str, thread_id: str | None, ids: IdForm, model: str | None) -> None:
        """See `OpenAIResponses.encoder`."""
        super().__init__(run_id=run_id, thread_id=thread_id, ids=ids)
        self._turn = Turn(model)
        self._count = 0
        self._output: list[_Item] = []
        self._writing: _Item | None = None
        self._calls: dict[str, _Item] = {}
        self._ended: dict[str, Any] = {}

    def bodies(self, entry: Entry) -> list[bytes]:
        """See the module for what each event becomes."""
        event = entry.event
        opening = [] if self._count else self._opening(entry)
        if isinstance(event, events.RunStarted) and opening:
            return opening
        # Whoever was sent these events unmerged has counted a frame for each.
        merged = entry.seq - entry.since
        if isinstance(event, ToolEvent):
            return [*opening, *self._tool(event, merged)]
        if isinstance(event, events.TextDelta | events.ReasoningDelta):
            return [*opening, *self._piece(event, merged)]
        self._turn.take(entry)
        if isinstance(event, events.TERMINALS):
            return [*opening, *self._end(event)]
        write = self._WRITERS.get(type(event))
        return [*opening, *(self._extension(event) if write is None else write(self, event))]

    @property
    def response(self) -> dict[str, Any]:
        """The response so far."""
        response: dict[str, Any] = {
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

    def _frame(self, kind: str, **fields: object) -> bytes:
        frame = json_frame({"type": kind, "sequence_number": self._count, **fields}, event=kind)
        self._count += 1
        return frame

    def _part_frame(self, item: _Item, kind: str, **fields: object) -> bytes:
        return self._frame(kind, item_id=item.id, output_index=item.index, **fields)

    def _content_frame(self, item: _Item, kind: str, **fields: object) -> bytes:
        return self._part_frame(item, kind, content_index=0, **fields)

    def _text_frame(self, item: _Item, verb: str, **fields: object) -> bytes:
        logprobs: dict[str, object] = {"logprobs": []} if item.kind == "message" else {}
        return self._content_frame(item, f"response.{_PARTS[item.kind]}.{verb}", **fields, **logprobs)

    def _extension(self, event: Event) -> list[bytes]:
        return [self._frame("keepalive", **_told(event))]

    # The run ---------------------------------------------------------------------------------------------------------

    def _opening(self, entry: Entry) -> list[bytes]:
        if isinstance(entry.event, events.RunStarted):
            self._turn.take(entry)
        return [self._frame(f"response.{verb}", response=self.response) for verb in ("created", "in_progress")]

    def _end(self, event: Terminal) -> list[bytes]:
        left = {call.id: call for call in self._turn.left_to_client(event)}
        verb, ended = _ending(event)
        frames = self._close_text("completed" if verb == "completed" else "incomplete")
        for call_id, item in self._calls.items():
            if item.status == "in_progress":
                whole = item.kind == "function_call" and call_id in left
                frames += [*self._close_arguments(item), *self._done(item, "completed" if whole else "incomplete")]
        for call_id, call in left.items():
            if self._calls[call_id].kind != "function_call":
                item, opened = self._add_call("function_call", call)
                frames += [*opened, *self._add_arguments(item, call.arguments)]
                frames += [*self._close_arguments(item), *self._done(item, "completed")]
        self._ended = ended
        return [*frames, self._frame(f"response.{verb}", response=self.response, **_told(event))]

    # Text and reasoning ----------------------------------------------------------------------------------------------

    def _piece(self, event: events.TextDelta | events.ReasoningDelta, merged: int) -> list[bytes]:
        kind: _Kind = "message" if isinstance(event, events.TextDelta) else "reasoning"
        frames: list[bytes] = []
        item = self._writing
        if item is None or (item.kind, item.key) != (kind, (event.message_id, event.part_id)):
            frames = self._close_text()
            facts: dict[str, Any] = {"role": "assistant"} if kind == "message" else {"summary": []}
            item = self._writing = self._add(kind, (event.message_id, event.part_id), facts)
            frames.append(self._frame("response.output_item.added", output_index=item.index, item=_without(item)))
            frames.append(self._content_frame(item, "response.content_part.added", part=item.part))
        self._count += merged
        item.pieces.append(event.delta)
        return [*frames, self._text_frame(item, "delta", delta=event.delta)]

    def _close_text(self, status: _Status = "completed") -> list[bytes]:
        item, self._writing = self._writing, None
        if item is None:
            return []
        return [
            self._text_frame(item, "done", text=item.text),
            self._content_frame(item, "response.content_part.done", part=item.part),
            *self._done(item, status),
        ]

    def _text_done(self, event: events.TextDone) -> list[bytes]:
        is_open = self._writing is not None and self._writing.kind == "message"
        return [*(self._close_text() if is_open else []), *(self._extension(event) if event.citations else [])]

    def _reasoning_done(self, event: events.ReasoningDone) -> list[bytes]:
        if self._writing is None or self._writing.kind != "reasoning":
            return self._extension(event)
        if event.signature:
            self._writing.facts["encrypted_content"] = event.signature
        return self._close_text()

    def _source(self, event: events.Source) -> list[bytes]:
        """A citation, if it is an address in the text that is being written."""
        item = self._writing
        if item is None or item.kind != "message" or event.url is None:
            return self._extension(event)
        start, end = event.span if event.span and len(event.span) == 2 else (0, 0)
        annotation = {
            "type": "url_citation",
            "url": event.url,
            "title": event.title or event.url,
            "start_index": start,
            "end_index": end,
        }
        item.annotations.append(annotation)
        kind = "response.output_text.annotation.added"
        return [
            self._content_frame(item, kind, annotation_index=len(item.annotations) - 1, annotation=annotation),
        ]

    # Calls -----------------------------------------------------------------------------------------------------------

    def _tool(self, event: ToolEvent, merged: int) -> list[bytes]:
        call, added = self._turn.call(event)
        item = self._calls.get(call.id)
        frames: list[bytes] = []
        if item is None:
            item, frames = self._add_call("function_call" if call.executor == "client" else "mcp_call", call)
            self._calls[call.id] = item
        if item.status == "in_progress":
            item.facts["name"] = call.name or _UNNAMED_TOOL
        if isinstance(event, events.ToolStarted):
            return frames
        if item.status != "in_progress" or isinstance(event, events.ToolProgress):
            self._count += merged
            return [*frames, *self._extension(event)]
        if isinstance(event, events.ToolArgsDelta):
            return [*frames, *self._add_arguments(item, added, merged)]
        frames += self._add_arguments(item, added) if added else []
        frames += self._close_arguments(item)
        if item.kind == "function_call":
            frames += self._done(item, "completed")
            return frames if isinstance(event, events.ToolReady) else [*frames, *self._extension(event)]
        return frames if isinstance(event, events.ToolReady) else [*frames, *self._settle(item, event)]

    def _add_call(self, kind: _Kind, call: Call) -> tuple[_Item, list[bytes]]:
        frames = self._close_text()
        own = {"server_label": _SERVER_LABEL} if kind == "mcp_call" else {"call_id": call.id}
        item = self._add(kind, call.id, {"name": call.name or _UNNAMED_TOOL, **own})
        frames.append(self._frame("response.output_item.added", output_index=item.index, item=item.value))
        if kind == "mcp_call":
            frames.append(self._part_frame(item, "response.mcp_call.in_progress"))
        return item, frames

    def _add_arguments(self, item: _Item, added: str, merged: int = 0) -> list[bytes]:
        if item.has_arguments:
            return []
        self._count += merged
        item.pieces.append(added)
        return [self._part_frame(item, f"response.{item.kind}_arguments.delta", delta=added)]

    def _close_arguments(self, item: _Item) -> list[bytes]:
        if item.has_arguments:
            return []
        frames = [] if item.text else self._add_arguments(item, "{}")
        item.has_arguments = True
        kind = f"response.{item.kind}_arguments.done"
        return [*frames, self._part_frame(item, kind, name=item.facts["name"], arguments=item.text)]

    def _settle(self, item: _Item, event: events.ToolOutput | events.ToolError) -> list[bytes]:
        if isinstance(event, events.ToolOutput):
            item.facts["output"] = _text_of(event.output)
            return [self._part_frame(item, "response.mcp_call.completed"), *self._done(item, "completed")]
        content = [{"type": "text", "text": event.message}]
        item.facts["error"] = {"type": "mcp_tool_execution_error", "content": content}
        return [self._part_frame(item, "response.mcp_call.failed"), *self._done(item, "failed")]

    # Items -----------------------------------------------------------------------------------------------------------

    def _add(self, kind: _Kind, key: object, facts: dict[str, Any]) -> _Item:
        index = len(self._output)
        item = _Item(id=f"{_ID_PREFIXES[kind]}_{self.run_id}_{index}", index=index, kind=kind, key=key, facts=facts)
        self._output.append(item)
        return item

    def _done(self, item: _Item, status: _Status) -> list[bytes]:
        item.status = status
        return [self._frame("response.output_item.done", output_index=item.index, item=item.value)]

    _WRITERS: ClassVar[dict[type, Callable[[Any, Any], list[bytes]]]] = {
        events.TextDone: _text_done,
        events.ReasoningDone: _reasoning_done,
        events.Source: _source,
    }


_ID_PREFIXES: dict[_Kind, str] = {"message": "msg", "reasoning": "rs", "mcp_call": "mcp", "function_call": "fc"}


class OpenAIResponses(Dialect):
    """See the module."""

    name: ClassVar[str] = "openai-responses"
    merges: ClassVar[bool] = False
    options: ClassVar[frozenset[str]] = frozenset({"model"})

    def encoder(
        self, *, run_id: str, thread_id: str | None = None, ids: IdForm = "seq", **options: object
    ) -> OpenAIResponsesEncoder:
        """A fresh encoder.

        Args:
            run_id: The run; a response's id is `resp_` and this.
            thread_id: Not told.
            ids: How ids are written.
            **options: `model`, what the model is called, by default what the run says.
        """
        model = options.get("model")
        return OpenAIResponsesEncoder(
            run_id=run_id, thread_id=thread_id, ids=ids, model=None if model is None else str(model)
        )

    def frame_kinds(self) -> list[FrameKind]:
        """JSON with the `type` that the frame goes by."""
        return [FrameKind(kind, enumerated("type", [kind])) for kind in _EVENTS]

    def document(self, reduced: Reduced) -> bytes:
        """A `response`."""
        return self.document_of(retold(reduced), run_id=reduced.run_id or "")

    def document_of(self, entries: Iterable[Entry], *, run_id: str, model: str | None = None) -> bytes:
        """A log, finished or not, as the `response` that its stream has told so far."""
        encoder = self.encoder(run_id=run_id, model=model)
        for entry in merge(entries):
            encoder.encode(entry)
        return msgspec.json.encode(encoder.response)

    def error(self, status: int, code: str, message: str) -> bytes:
        """`{"error": {"message", "type", "param", "code"}}`."""
        return refusal(status, code, message)


def _told(event: Event) -> dict[str, msgspec.Raw]:
    """The event itself, beside what the protocol makes of it."""
    return {"tailrace": msgspec.Raw(events.encode(event))}


def _without(item: _Item) -> dict[str, Any]:
    """An item as it is added: its part follows."""
    return {**item.value, "content": []}


def _ending(event: Terminal) -> tuple[str, dict[str, Any]]:
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


def _text_of(output: Any) -> str:  # noqa: ANN401  any JSON value
    return output if isinstance(output, str) else msgspec.json.encode(output).decode()


def _usage(usage: events.Usage) -> dict[str, object]:
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
