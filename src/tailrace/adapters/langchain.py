"""Answers of LangChain's chat models and runs of LangGraph's graphs, by the chunks of `astream`.

https://docs.langchain.com/oss/python/langgraph/streaming
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, cast

import msgspec

from tailrace.adapters.contract import FIRST_DELTA_SECONDS, IDLE_SECONDS, ProviderStream, StreamLike, Turn
from tailrace.adapters.fields import count_in, field, items_in, returned, text_in
from tailrace.events import (
    Data,
    Event,
    FinishReason,
    Interrupt,
    ReasoningDelta,
    RunCompleted,
    RunPaused,
    TextDelta,
    ToolError,
    ToolOutput,
    Usage,
)

__all__ = ["GraphTurn", "from_langchain"]

#: How providers say why an answer ended; LangChain passes on the field as well as the word.
_REASONS = frozenset({"finish_reason", "stop_reason", "stopReason", "done_reason", "status"})
_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "completed": "stop",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "safety": "content_filter",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
}
_INTERRUPTS = "__interrupt__"
_FAILED_TOOL = "The tool failed."


def from_langchain(
    stream: StreamLike, *, first_delta_seconds: float = FIRST_DELTA_SECONDS, idle_seconds: float = IDLE_SECONDS
) -> ProviderStream:
    """The events of a model's answer or a graph's run, the last of them `RunCompleted`, `RunFailed` or `RunPaused`.

    Of a graph, `stream_mode` should have `messages`. With `custom` a node's `get_stream_writer()` may write any event
    of `tailrace.events`; whatever else it writes is `Data` of the name `custom`. With `updates` a graph that interrupts
    itself is paused, and answers are told that were not streamed. `subgraphs=True` and `version="v2"` are understood.

    An answer that was cut off is told by its missing finish reason, of models that name their provider in their
    chunks; LangChain itself marks the last chunk in either case.

    Args:
        stream: What `model.astream(…)` or `graph.astream(…)` gives.
        first_delta_seconds: How long a model may say nothing at first, and a node that is no known tool may take.
        idle_seconds: How long a model may say nothing in the middle of an answer.
    """
    return ProviderStream(stream, GraphTurn(), first_delta_seconds=first_delta_seconds, idle_seconds=idle_seconds)


class _Answer:
    """One message of a model: there may be several at a time."""

    def __init__(self) -> None:
        self.ended = False
        self.calls: dict[object, str] = {}
        self.counts: dict[str, int] = {}
        self.provider: str | None = None
        self.model: str | None = None


class GraphTurn(Turn):
    """The tables at the end of the class say which method reads which mode of a stream and which kind of message."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        super().__init__()
        self._answers: dict[str, _Answer] = {}
        self._results: set[str] = set()
        self._newest: _Answer | None = None
        self._has_begun = False
        self._interrupts: dict[str, Interrupt] = {}
        #: The node whose calls are being executed.
        self._asker = ""

    @classmethod
    def knows(cls, chunk: object) -> bool:
        """Whether it is a message, alone or in what a graph's stream has around it."""
        mode, payload = _unwrapped(chunk)
        if mode == "messages":
            message: object = cast("tuple[object, ...]", payload)[0]
            return field(message, "additional_kwargs") is not None
        if isinstance(chunk, tuple) or field(chunk, "ns") is not None:
            return mode in cls._MODES
        return mode == "updates" and any(field(update, "messages") is not None for _, update in _entries(payload))

    def continues(self, chunk: object) -> bool:
        """A graph asks as many models as it likes."""
        return self.knows(chunk)

    @property
    def whole(self) -> bool:
        """Whether the newest answer has its end. A model that does not name its provider need not say why it ended."""
        newest = self._newest
        return self._has_begun and (newest is None or newest.ended or newest.provider is None)

    def read(self, chunk: object) -> Iterator[Event]:
        """What a chunk says, in whichever mode. One of our own events is passed on."""
        mode, payload = _unwrapped(chunk)
        self._has_begun = True
        read = self._MODES.get(mode)
        if read is not None:
            yield from read(self, payload)

    def finish(self) -> Iterator[Event]:
        """What follows the last chunk."""
        yield from self._usages(estimated=None)
        if self._interrupts:
            yield RunPaused(interrupts=list(self._interrupts.values()))
        else:
            yield RunCompleted(finish_reason=self.finish_reason or "stop")

    def spent(self) -> Iterator[Event]:
        """What the answers so far have used."""
        yield from self._usages(estimated=True)

    # Modes of a stream

    def _messages(self, payload: object) -> Iterator[Event]:
        message, metadata = cast("tuple[object, object]", payload)
        yield from self._message(message, metadata)

    def _custom(self, payload: object) -> Iterator[Event]:
        yield payload if isinstance(payload, Event) else Data("custom", returned(payload))

    def _updates(self, payload: object) -> Iterator[Event]:
        yield from self._values(payload)
        for name, update in _entries(payload):
            for message in _listed(field(update, "messages")):
                yield from self._message(message, {"langgraph_node": name})

    def _values(self, payload: object) -> Iterator[Event]:
        for told in _listed(field(payload, _INTERRUPTS)):
            interrupt = _interrupt(told)
            self._interrupts[interrupt.id] = interrupt
        yield from ()

    # Messages

    def _message(self, message: object, metadata: object) -> Iterator[Event]:
        read = self._MESSAGES.get(text_in(message, "type"))
        if read is not None:
            yield from read(self, message, metadata)

    def _chunk(self, chunk: object, metadata: object) -> Iterator[Event]:
        answer = self._answer(chunk, metadata)
        if (node := text_in(metadata, "langgraph_node")) == self._asker:
            # Whoever asked for tools goes on, so there are none that it waits for.
            self.running.clear()
        yield from self._content(chunk)
        for fragment in items_in(chunk, "tool_call_chunks"):
            yield from self._fragment(text_in(chunk, "id"), answer, fragment)
        if text_in(chunk, "chunk_position") == "last":
            yield from self._complete(answer, node)

    def _whole_message(self, message: object, metadata: object) -> Iterator[Event]:
        """An answer that was not streamed, or that comes again as a whole."""
        if text_in(message, "id") in self._answers:
            return
        answer = self._answer(message, metadata)
        answer.ended = True
        yield from self._content(message)
        for call in items_in(message, "tool_calls"):
            call_id = text_in(call, "id")
            answer.calls[call_id] = call_id
            yield from self.calls.whole(call_id, text_in(call, "name"), returned(field(call, "args")))
        yield from self._complete(answer, text_in(metadata, "langgraph_node"))

    def _tool_message(self, message: object, _: object) -> Iterator[Event]:
        key, call_id = text_in(message, "id"), text_in(message, "tool_call_id")
        if key in self._results:
            return
        self._results.add(key)
        self.running.discard(call_id)
        self.asked = True
        if text_in(message, "status") == "error":
            # Its content is what the tool raised.
            yield ToolError(call_id=call_id, code="tool_failed", message=_FAILED_TOOL, phase="execution")
        else:
            yield ToolOutput(call_id=call_id, output=_output(field(message, "content")))

    def _answer(self, chunk: object, metadata: object) -> _Answer:
        """What is known of the message that a chunk belongs to, with what the chunk adds."""
        answer = self._newest = self._answers.setdefault(text_in(chunk, "id"), _Answer())
        told: dict[str, object] = field(chunk, "response_metadata") or {}
        answer.provider = text_in(told, "model_provider") or answer.provider
        answer.model = text_in(told, "model_name") or text_in(metadata, "ls_model_name") or answer.model
        for name in _REASONS & told.keys():
            if reason := text_in(told, name):
                answer.ended = True
                reason = text_in(told, "incomplete_details", "reason") or reason
                self.finish_reason = _FINISH.get(reason.lower(), "other")
        if (usage := field(chunk, "usage_metadata")) is not None:
            for name, path in _COUNTS.items():
                # Chunks count what they add.
                answer.counts[name] = answer.counts.get(name, 0) + (count_in(usage, *path) or 0)
        return answer

    def _content(self, chunk: object) -> Iterator[Event]:
        if reasoning := text_in(chunk, "additional_kwargs", "reasoning_content"):
            yield ReasoningDelta(reasoning)
        content = field(chunk, "content")
        for block in [content] if isinstance(content, str) else _listed(content):
            text = block if isinstance(block, str) else text_in(block, "text") or text_in(block, "refusal")
            if text:
                yield TextDelta(text)
            elif thought := text_in(block, "thinking") or text_in(block, "reasoning") or _summary(block):
                yield ReasoningDelta(thought)

    def _fragment(self, key: str, answer: _Answer, fragment: object) -> Iterator[Event]:
        call_id, name = text_in(fragment, "id"), text_in(fragment, "name")
        place = (key, field(fragment, "index"))
        if not self.calls.continues(place, call_id, name):
            for event in self.calls.begin(place, call_id, name):
                answer.calls[place] = field(event, "call_id")
                yield event
        yield from self.calls.add(place, text_in(fragment, "args"))

    def _complete(self, answer: _Answer, node: str) -> Iterator[Event]:
        for place in answer.calls:
            yield from self.calls.complete(place)
        self.asked = True
        if node:
            self._asker = node
            self.running.update(answer.calls.values())

    def _usages(self, *, estimated: bool | None) -> Iterator[Usage]:
        """Tokens by provider and model, over all answers."""
        totals: dict[tuple[str | None, str | None], dict[str, int]] = {}
        for answer in self._answers.values():
            total = totals.setdefault((answer.provider, answer.model), {})
            for name, count in answer.counts.items():
                total[name] = total.get(name, 0) + count
        for (provider, model), total in totals.items():
            if any(total.values()):
                usage = Usage(provider=provider, model=model, estimated=estimated)
                yield msgspec.structs.replace(usage, **{name: count for name, count in total.items() if count})

    _MODES: ClassVar[dict[str, Callable[["GraphTurn", object], Iterator[Event]]]] = {
        "messages": _messages,
        "custom": _custom,
        "updates": _updates,
        "values": _values,
    }
    _MESSAGES: ClassVar[dict[str, Callable[["GraphTurn", object, object], Iterator[Event]]]] = {
        "AIMessageChunk": _chunk,
        "ai": _whole_message,
        "tool": _tool_message,
    }


_COUNTS = {
    "input_tokens": ("input_tokens",),
    "output_tokens": ("output_tokens",),
    "reasoning_tokens": ("output_token_details", "reasoning"),
    "cached_input_tokens": ("input_token_details", "cache_read"),
    "cache_write_input_tokens": ("input_token_details", "cache_creation"),
}


def _unwrapped(chunk: object) -> tuple[str, object]:
    """The mode of a stream that an item is of, and what it holds there.

    One mode gives just what it holds, several give it after their name, and subgraphs put theirs before that.
    """
    if isinstance(chunk, Event):
        return "custom", chunk
    if isinstance(chunk, dict):
        item: object = cast("object", chunk)
        return (text_in(item, "type"), field(item, "data")) if "ns" in chunk else ("updates", item)
    if not isinstance(chunk, tuple):
        return ("messages", (chunk, None)) if field(chunk, "additional_kwargs") is not None else ("custom", chunk)
    *place, payload = cast("tuple[object, ...]", chunk)
    if place and isinstance(place[-1], str):
        return place[-1], payload
    return _unwrapped(payload) if place and isinstance(place[-1], tuple) else ("messages", cast("object", chunk))


def _entries(payload: object) -> Iterable[tuple[str, object]]:
    return cast("dict[str, object]", payload).items() if isinstance(payload, dict) else ()


def _listed(value: object) -> Iterable[object]:
    return cast("Iterable[object]", value) if isinstance(value, list | tuple) else () if value is None else (value,)


def _interrupt(told: object) -> Interrupt:
    """What a graph waits for; the value that it was interrupted with is for whoever resumes it, unless it is text."""
    return Interrupt(id=text_in(told, "id"), kind="input", message=text_in(told, "value") or None)


def _summary(block: object) -> str:
    """The reasoning of OpenAI's Responses."""
    return "".join(text_in(part, "text") for part in items_in(block, "summary"))


def _output(content: object) -> object:
    """What a tool returned: LangGraph writes as JSON what is not text."""
    if isinstance(content, str) and content[:1] in {"{", "["}:
        with contextlib.suppress(ValueError, RecursionError):
            return msgspec.json.decode(content)
    return returned(content)
