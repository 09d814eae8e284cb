"""The openai dialect: `chat.completion.chunk` frames and `[DONE]`, as clients of OpenAI's chat completions read them.

In order: a chunk with the role, `delta.content` for text and `delta.reasoning_content` for reasoning, a chunk with the
finish reason, with `include_usage` one with the usage if anybody counted it, and `[DONE]`. What the protocol has no
word for is a chunk with `choices: []` and the event under `tailrace`: OpenAI's own clients pass over it, with every
helper of theirs. A failure is `{"error": {…}}`, which they raise.

**Whose tool calls.** Clients run what they find in `tool_calls`, then ask again with the results; helpers that loop,
such as `runTools`, do so without looking at the finish reason. So a call that the server runs itself must not be there:
the client would run it a second time, or fail because it has no such tool, and the answer that follows it in the same
stream would be lost to the loop. Such calls, with their arguments and outputs, are told under `tailrace`, and the
answer goes on. Calls with executor `client` are `tool_calls`, fragment by fragment, and if one has no output when the
run is complete, the finish reason is `tool_calls`, whatever the source said. Where nobody said whose a call is, it is
the server's, unless the run has ended for it, with finish reason `tool_calls` and without its output: then it is told
whole before the end. A pause is no finish reason of its own: whoever approves a call does not run it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Unpack

import msgspec

from tailrace import events
from tailrace.events import Entry, Event, Terminal, ToolEvent
from tailrace.fold import ReasoningPart, Reduced, reduce
from tailrace.wire.dialects.contract import Dialect, Encoder, Option, RunConstants, choice
from tailrace.wire.failures import failure_in, failure_of
from tailrace.wire.frames import frame, json_frame
from tailrace.wire.openai_turn import Call, Turn, error_body, extension, model_name, refusal
from tailrace.wire.retold import log_of
from tailrace.wire.schema import FrameKind, enumerated

__all__ = ["DIALECT", "OpenAIChat"]

_DONE = frame(b"[DONE]")
_FINISH_REASONS = frozenset({"stop", "length", "content_filter"})


class OpenAIChatEncoder(Encoder):
    """Remembers what every chunk repeats, the calls and the usage."""

    def __init__(self, *, model: str | None = None, include_usage: bool = False, **run: Unpack[RunConstants]) -> None:
        """Begin a run; a completion's id is `chatcmpl-` and the run's.

        Args:
            model: What the model is called, by default what the run says.
            include_usage: Whether there is a chunk with the usage.
            **run: See `Encoder`.
        """
        super().__init__(**run)
        self._turn = Turn(model)
        self._include_usage = include_usage
        self._begun = False
        self._indexes: dict[str, int] = {}

    def bodies(self, entry: Entry) -> list[bytes]:
        """See the module for what each event becomes."""
        event = entry.event
        if isinstance(event, ToolEvent):
            return [*self._opening(), *self._tool(event)]
        self._turn.take(entry)
        if isinstance(event, events.RunStarted):
            return self._opening(event) or [self._extension(event)]
        write = self._WRITERS.get(type(event))
        return [*self._opening(), *([self._extension(event)] if write is None else write(self, event))]

    def _opening(self, event: events.RunStarted | None = None) -> list[bytes]:
        """The first chunk, once."""
        if self._begun:
            return []
        self._begun = True
        return [self._delta({"role": "assistant", "content": ""}, {} if event is None else extension(event))]

    def _text(self, event: events.TextDelta) -> list[bytes]:
        return [self._delta({"content": event.delta})]

    def _reasoning(self, event: events.ReasoningDelta) -> list[bytes]:
        return [self._delta({"reasoning_content": event.delta})]

    def _tool(self, event: ToolEvent) -> list[bytes]:
        call, added = self._turn.call(event)
        if call.executor != "client":
            return [self._extension(event)]
        if call.id not in self._indexes:
            return [self._whole_call(call)]
        if isinstance(event, events.ToolArgsDelta | events.ToolReady):
            return [self._arguments(call, added)] if added else []
        return [] if isinstance(event, events.ToolStarted) else [self._extension(event)]

    def _whole_call(self, call: Call) -> bytes:
        """The first fragment of a call, with as much of the arguments as there is."""
        index = self._indexes[call.id] = len(self._indexes)
        function = {"name": call.name, "arguments": "".join(call.pieces)}
        return self._delta({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]})

    def _arguments(self, call: Call, added: str) -> bytes:
        return self._delta({"tool_calls": [{"index": self._indexes[call.id], "function": {"arguments": added}}]})

    def _ended(self, event: events.RunCompleted | events.RunCancelled | events.RunPaused) -> list[bytes]:
        left = self._turn.left_to_client(event)
        frames = [self._whole_call(call) for call in left if call.id not in self._indexes]
        frames += [self._arguments(call, call.arguments) for call in left if not any(call.pieces)]
        frames.append(self._delta({}, extension(event), finish_reason=_finish_reason(event, left)))
        if self._include_usage and (usage := self._turn.usage):
            # After everything else: a client takes the usage of the last chunk.
            frames.append(self._chunk([], {"usage": _usage(usage)}))
        return [*frames, _DONE]

    def _broken(self, event: events.RunFailed | events.RunInterrupted) -> list[bytes]:
        return [json_frame({"error": error_body(**failure_of(event)), **extension(event)}), _DONE]

    def _extension(self, event: Event) -> bytes:
        return self._chunk([], extension(event))

    def _delta(
        self, delta: Mapping[str, object], fields: Mapping[str, object] = {}, *, finish_reason: str | None = None
    ) -> bytes:
        return self._chunk([{"index": 0, "delta": delta, "finish_reason": finish_reason}], fields)

    def _chunk(self, choices: list[Any], fields: Mapping[str, object]) -> bytes:
        head = _head("chat.completion.chunk", self.run_id, self._turn)
        return json_frame({**head, "choices": choices, **fields})

    _WRITERS: ClassVar[dict[type, Callable[[Any, Any], list[bytes]]]] = {
        events.TextDelta: _text,
        events.ReasoningDelta: _reasoning,
        events.RunCompleted: _ended,
        events.RunCancelled: _ended,
        events.RunPaused: _ended,
        events.RunFailed: _broken,
        events.RunInterrupted: _broken,
    }


class OpenAIChat(Dialect):
    """See the module."""

    name: ClassVar[str] = "openai"
    encodes_with: ClassVar[type[Encoder]] = OpenAIChatEncoder
    options: ClassVar[Mapping[str, Option]] = {
        "model": model_name,
        "include_usage": choice({"true": True, "1": True, "false": False, "0": False}),
    }

    def frame_kinds(self) -> list[FrameKind]:
        """A chunk, an error, or `[DONE]`."""
        chunk = enumerated("object", ["chat.completion.chunk"])
        return [
            FrameKind(None, chunk),
            FrameKind(None, {"type": "object", "required": ["error"]}),
            FrameKind(None, None),
        ]

    def document(self, reduced: Reduced) -> bytes:
        """A `chat.completion`."""
        return self.document_of(log_of(reduced), run_id=reduced.run_id or "")

    def document_of(self, entries: Iterable[Entry], *, run_id: str, model: str | None = None) -> bytes:
        """A log as a `chat.completion`; with `error`, too, if the run failed or was interrupted."""
        entries = list(entries)
        turn = Turn(model)
        for entry in entries:
            turn.take(entry)
        reduced = reduce(entries)
        ending = entries[-1].event if entries and isinstance(entries[-1].event, events.TERMINALS) else None
        left = turn.left_to_client(ending) if ending else []
        choice = {
            "index": 0,
            "message": _message(reduced, left),
            "finish_reason": _finish_reason(ending, left) if ending else None,
            "logprobs": None,
        }
        document = {**_head("chat.completion", run_id, turn), "choices": [choice]}
        if turn.usage:
            document["usage"] = _usage(turn.usage)
        if failure := failure_in(reduced):
            document["error"] = error_body(**failure)
        return msgspec.json.encode(document)

    def error(self, status: int, code: str, message: str) -> bytes:
        """`{"error": {"message", "type", "param", "code"}}`."""
        return refusal(status, code, message)


def _head(kind: str, run_id: str, turn: Turn) -> dict[str, object]:
    return {"id": f"chatcmpl-{run_id}", "object": kind, "created": turn.created_at, "model": turn.model}


def _finish_reason(ending: Terminal, left: list[Call]) -> str:
    if left:
        return "tool_calls"
    reason = ending.finish_reason if isinstance(ending, events.RunCompleted) else None
    return reason if reason in _FINISH_REASONS else "stop"


def _message(reduced: Reduced, left: list[Call]) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": reduced.text or None, "refusal": None}
    parts = [part for each in reduced.messages for part in each.parts]
    if reasoning := "".join(part.text for part in parts if isinstance(part, ReasoningPart)):
        message["reasoning_content"] = reasoning
    if left:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in left
        ]
    return message


def _usage(usage: events.Usage) -> dict[str, object]:
    prompt, completion = usage.input_tokens or 0, usage.output_tokens or 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


DIALECT = OpenAIChat()
