"""Runs of Pydantic AI's agents, by the events of `run_stream_events`: every request to a model, and every tool call.

https://ai.pydantic.dev/agents/#streaming-all-events
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Literal, cast

import msgspec

from tailrace.adapters.calls import written
from tailrace.adapters.contract import FIRST_DELTA_SECONDS, IDLE_SECONDS, ProviderStream, StreamLike, Turn
from tailrace.adapters.failures import truncated
from tailrace.adapters.fields import count_in, field, items_in, returned, text_in
from tailrace.events import (
    Data,
    Event,
    FinishReason,
    Interrupt,
    ReasoningDelta,
    ReasoningDone,
    RunCompleted,
    RunPaused,
    Terminal,
    TextDelta,
    TextDone,
    ToolArgsDelta,
    ToolError,
    ToolOutput,
    ToolReady,
    ToolStarted,
    Usage,
)

__all__ = ["AgentTurn", "from_pydantic_ai"]

#: A call of a tool is the last thing that an agent's model says only if that tool takes the output.
_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_call": "stop",
}
#: Models of tests, and one provider, never say why an answer ended.
_NEVER_SAY = frozenset({"", "test", "snowflake"})

#: What became of a call that gave nothing: code, sentence, phase.
_OUTCOMES: dict[str, tuple[str, str, Literal["input", "execution", "denied"]]] = {
    "failed": ("tool_failed", "The tool failed.", "execution"),
    "interrupted": ("tool_interrupted", "The tool was interrupted.", "execution"),
    "denied": ("tool_denied", "The call was denied.", "denied"),
    "retried": ("tool_retried", "The model is asked to call the tool again.", "execution"),
}
#: A call that is to be made again for one of these reasons was never executed.
_INPUT_CAUSES = frozenset({"validation_error", "unknown_tool", "unavailable_tool"})
_INPUT_INVALID: tuple[str, str, Literal["input"]] = (
    "input_invalid",
    "The model called the tool in a way that it cannot be called.",
    "input",
)


def from_pydantic_ai(
    stream: StreamLike, *, first_delta_seconds: float = FIRST_DELTA_SECONDS, idle_seconds: float = IDLE_SECONDS
) -> ProviderStream:
    """The events of one run of an agent, the last of them `RunCompleted`, `RunFailed` or `RunPaused`.

    A tool may emit any event of `tailrace.events`, by `tailrace.emit` or as the field `data` of a `CustomEvent`; other
    custom events are `Data` under their names. An output that is not text is the `result` of `RunCompleted`.

    A model whose answer was cut off is told by its missing finish reason. OpenAI's chat completions get one made up
    by Pydantic AI, which shows as long as the provider's chunks have a time; to be sure where they have none, set
    `openai_chat_streaming_requires_finish_reason=True` in the model's profile.

    Args:
        stream: What `agent.run_stream_events(…)` gives, which is entered and left here, or the events themselves.
        first_delta_seconds: How long each model that is asked may say nothing at first. Tools take what they take.
        idle_seconds: How long it may say nothing after that.
    """
    return ProviderStream(stream, AgentTurn(), first_delta_seconds=first_delta_seconds, idle_seconds=idle_seconds)


class AgentTurn(Turn):
    """The tables at the end of the class say which method reads which event, part and delta."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        super().__init__()
        self._parts: dict[object, str] = {}
        self._started: set[str] = set()

    @classmethod
    def knows(cls, chunk: object) -> bool:
        """Whether it is an event of an agent's run."""
        return bool(text_in(chunk, "event_kind"))

    def read(self, chunk: object) -> Iterator[Event]:
        """What an event says. One of our own among them is passed on."""
        read = self._EVENTS.get(text_in(chunk, "event_kind"))
        if read is not None:
            yield from read(self, chunk)
        elif isinstance(chunk, Event):
            yield chunk

    def raised(self, error: Exception) -> Terminal | None:
        """An answer of which a filter let nothing pass is one that was filtered, as with the provider's own SDK."""
        return RunCompleted(finish_reason="content_filter") if type(error).__name__ == "ContentFilterError" else None

    def spent(self) -> Iterator[Event]:
        """What was counted up to where the run broke off."""
        with contextlib.suppress(Exception):
            # Refused before the run has begun.
            yield from _usages(field(self.source, "handle", "new_messages")(), estimated=True)

    # Parts of an answer

    def _part_start(self, event: object) -> Iterator[Event]:
        part, place = field(event, "part"), field(event, "index")
        read = self._STARTS.get(text_in(part, "part_kind"))
        if read is not None:
            yield from read(self, part, place)

    def _text_start(self, part: object, _place: object) -> Iterator[Event]:
        # The first piece of a text is in its start.
        if text := text_in(part, "content"):
            yield TextDelta(text)

    def _thinking_start(self, part: object, _place: object) -> Iterator[Event]:
        if text := text_in(part, "content"):
            yield ReasoningDelta(text)

    def _call_start(self, part: object, place: object) -> Iterator[Event]:
        call_id = self._parts[place] = text_in(part, "tool_call_id")
        yield from self._begin(part)
        arguments = field(part, "args")
        if arguments:
            piece = arguments if isinstance(arguments, str) else msgspec.json.encode(returned(arguments)).decode()
            yield ToolArgsDelta(piece, call_id=call_id)

    def _begin(self, part: object) -> Iterator[Event]:
        call_id = text_in(part, "tool_call_id")
        if call_id not in self._started:
            self._started.add(call_id)
            executor: Literal["provider"] | None = (
                "provider" if text_in(part, "part_kind") == "builtin-tool-call" else None
            )
            yield ToolStarted(call_id=call_id, name=text_in(part, "tool_name"), executor=executor)

    def _part_delta(self, event: object) -> Iterator[Event]:
        delta = field(event, "delta")
        match text_in(delta, "part_delta_kind"):
            case "text" if text := text_in(delta, "content_delta"):
                yield TextDelta(text)
            case "thinking" if text := text_in(delta, "content_delta"):
                yield ReasoningDelta(text)
            case "tool_call" if piece := text_in(delta, "args_delta"):
                yield ToolArgsDelta(piece, call_id=self._parts.get(field(event, "index")))
            case _:
                pass

    def _part_end(self, event: object) -> Iterator[Event]:
        # The last part of an answer may be followed by another request, of which no event tells.
        self.asked = True
        part = field(event, "part")
        read = self._ENDS.get(text_in(part, "part_kind"))
        if read is not None:
            yield from read(self, part)

    def _text_end(self, part: object) -> Iterator[Event]:
        if text_in(part, "content"):
            yield TextDone(citations=returned(field(part, "citations")) or None)

    def _thinking_end(self, part: object) -> Iterator[Event]:
        signature = text_in(part, "signature") or None
        if text_in(part, "content") or signature:
            yield ReasoningDone(signature=signature, redacted=text_in(part, "id") == "redacted_thinking" or None)

    def _provider_call_end(self, part: object) -> Iterator[Event]:
        yield _ready(part)

    # Tools

    def _tool_call(self, event: object) -> Iterator[Event]:
        # Only now the arguments are complete: other parts may end before they do.
        part = field(event, "part")
        yield from self._begin(part)
        yield _ready(part)
        self.running.add(text_in(part, "tool_call_id"))

    def _tool_result(self, event: object) -> Iterator[Event]:
        # `result` is how it was called before version 2.
        part = field(event, "part") or field(event, "result")
        yield _outcome(part)
        self.running.discard(text_in(part, "tool_call_id"))
        self.asked = True

    def _provider_result(self, part: object) -> Iterator[Event]:
        yield _outcome(part)

    def _custom(self, event: object) -> Iterator[Event]:
        data = field(event, "data")
        if isinstance(data, Event):
            yield data
        elif field(event, "ui") is not False:
            payload = field(event, "to_payload")
            yield Data(text_in(event, "name"), returned(payload() if callable(payload) else data))

    # The end

    def _run_result(self, event: object) -> Iterator[Event]:
        result = field(event, "result")
        told: object = field(result, "new_messages")
        messages = list(cast("Callable[[], Iterable[object]]", told)()) if callable(told) else []
        self.running.clear()
        last = next((message for message in reversed(messages) if text_in(message, "kind") == "response"), None)
        if not _is_complete(last):
            yield from _usages(messages, estimated=True)
            yield truncated()
            return
        yield from _usages(messages)
        output = field(result, "output")
        if interrupts := _interrupts(output):
            yield RunPaused(interrupts=interrupts)
        else:
            reason = text_in(last, "finish_reason") or "stop"
            value = None if isinstance(output, str) else returned(output)
            yield RunCompleted(finish_reason=_FINISH.get(reason, "other"), result=value)

    _EVENTS: ClassVar[dict[str, Callable[["AgentTurn", object], Iterator[Event]]]] = {
        "part_start": _part_start,
        "part_delta": _part_delta,
        "part_end": _part_end,
        "function_tool_call": _tool_call,
        "function_tool_result": _tool_result,
        "output_tool_call": _tool_call,
        "output_tool_result": _tool_result,
        "custom": _custom,
        "agent_run_result": _run_result,
    }
    _STARTS: ClassVar[dict[str, Callable[["AgentTurn", object, object], Iterator[Event]]]] = {
        "text": _text_start,
        "thinking": _thinking_start,
        "tool-call": _call_start,
        "builtin-tool-call": _call_start,
    }
    _ENDS: ClassVar[dict[str, Callable[["AgentTurn", object], Iterator[Event]]]] = {
        "text": _text_end,
        "thinking": _thinking_end,
        "builtin-tool-call": _provider_call_end,
        "builtin-tool-return": _provider_result,
    }


def _ready(part: object) -> Event:
    call_id, name, arguments = text_in(part, "tool_call_id"), text_in(part, "tool_name"), field(part, "args")
    if isinstance(arguments, dict):
        return ToolReady(call_id=call_id, name=name, input=returned(cast("object", arguments)))
    return written(call_id, name, arguments or "")


def _outcome(part: object) -> Event:
    call_id = text_in(part, "tool_call_id")
    outcome = "retried" if text_in(part, "part_kind") == "retry-prompt" else text_in(part, "outcome")
    if outcome not in _OUTCOMES:
        return ToolOutput(call_id=call_id, output=returned(field(part, "content")))
    was_called = text_in(part, "retry", "cause") not in _INPUT_CAUSES
    code, message, phase = _OUTCOMES[outcome] if was_called else _INPUT_INVALID
    return ToolError(call_id=call_id, code=code, message=message, phase=phase)


def _is_complete(response: object) -> bool:
    """Whether the provider said why this answer, the last of a run, ended; no answer at all is as good."""
    if text_in(response, "provider_name") in _NEVER_SAY:
        return True
    details: dict[str, object] | None = field(response, "provider_details")
    # Chat completions without a reason get `stop`, while the provider's own word is missing beside it.
    is_made_up = details is not None and "timestamp" in details and "finish_reason" not in details
    reason = text_in(response, "finish_reason")
    return bool(reason) and not (reason == "stop" and is_made_up)


def _usages(messages: Iterable[object], *, estimated: bool | None = None) -> Iterator[Usage]:
    """Tokens by provider and model, over all their answers in a run."""
    totals: dict[tuple[str, str], dict[str, int]] = {}
    for message in messages:
        if text_in(message, "kind") == "response":
            key = text_in(message, "provider_name"), text_in(message, "model_name")
            total = totals.setdefault(key, dict.fromkeys(_COUNTS, 0))
            for name in _COUNTS:
                total[name] += count_in(message, "usage", name) or 0
    for (provider, model), total in totals.items():
        if any(total.values()):
            yield Usage(
                input_tokens=total["input_tokens"],
                output_tokens=total["output_tokens"],
                reasoning_tokens=total["output_reasoning_tokens"] or None,
                cached_input_tokens=total["cache_read_tokens"] or None,
                cache_write_input_tokens=total["cache_write_tokens"] or None,
                provider=provider or None,
                model=model or None,
                estimated=estimated,
            )


_COUNTS = ("input_tokens", "output_tokens", "output_reasoning_tokens", "cache_read_tokens", "cache_write_tokens")


def _interrupts(output: object) -> list[Interrupt]:
    """What a run that ended in calls for somebody else waits for."""
    kinds: tuple[tuple[str, Literal["approval", "input"]], ...] = (("approvals", "approval"), ("calls", "input"))
    if type(output).__name__ != "DeferredToolRequests":
        return []
    return [
        Interrupt(id=text_in(call, "tool_call_id"), kind=kind, call_id=text_in(call, "tool_call_id"))
        for name, kind in kinds
        for call in items_in(output, name)
    ]
