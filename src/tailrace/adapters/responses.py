"""Responses as OpenAI streams them, by their events.

https://platform.openai.com/docs/api-reference/responses-streaming
"""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from tailrace.adapters.contract import FIRST_DELTA_SECONDS, IDLE_SECONDS, ProviderStream, StreamLike, Turn
from tailrace.adapters.failures import reported
from tailrace.adapters.fields import count_in, field, plain, text_in
from tailrace.events import (
    Event,
    FinishReason,
    ReasoningDelta,
    ReasoningDone,
    Source,
    TextDelta,
    TextDone,
    ToolError,
    ToolOutput,
    ToolReady,
    ToolStarted,
    Usage,
)

__all__ = ["ResponseTurn", "from_responses"]

_INCOMPLETE: dict[str, FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}
#: Items that are calls of OpenAI's own tools: what the tool is called, which fields say what it was asked, and which
#: one what it gave. Pictures are left out: one of them is larger than an event may be.
_TOOLS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "web_search_call": ("web_search", ("action",), ""),
    "file_search_call": ("file_search", ("queries",), "results"),
    "code_interpreter_call": ("code_interpreter", ("code", "container_id"), "outputs"),
    "image_generation_call": ("image_generation", ("action", "revised_prompt"), ""),
    "mcp_call": ("", (), "output"),
}
_FAILED = frozenset({"failed", "incomplete"})
_TOOL_FAILED = "The tool failed."


def from_responses(
    stream: StreamLike,
    *,
    first_delta_seconds: float = FIRST_DELTA_SECONDS,
    idle_seconds: float = IDLE_SECONDS,
    retries: int = 0,
) -> ProviderStream:
    """The events of one response, the last of them `RunCompleted` or `RunFailed`.

    Args:
        stream: What `client.responses.create(…, stream=True)` gives, awaited or not, of an async or a blocking client,
            or a callable without arguments that gives it; its events may be objects or dicts.
        first_delta_seconds: How long the model may say nothing at first.
        idle_seconds: How long it may say nothing after that.
        retries: How often to call `stream` again after a failure that may pass, while nothing was said yet.

    Raises:
        ValueError: `retries` without a callable.
    """
    return ProviderStream(
        stream,
        lambda _: ResponseTurn(),
        first_delta_seconds=first_delta_seconds,
        idle_seconds=idle_seconds,
        retries=retries,
    )


class ResponseTurn(Turn):
    """The tables at the end of the class say which method reads which event, and which item."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        super().__init__()
        self._model: str | None = None
        self._refused = False
        self._called = False
        self._wrote = False
        self._reasoned = False
        self._citations: list[Any] = []

    @classmethod
    def knows(cls, chunk: object) -> bool:
        """Whether it has the type of an event; of errors, which many have, those that are numbered."""
        kind = text_in(chunk, "type")
        return kind.startswith("response.") or (kind == "error" and field(chunk, "sequence_number") is not None)

    def continues(self, chunk: object) -> bool:
        """Every response says that it begins."""
        return text_in(chunk, "type") != "response.created"

    def read(self, chunk: object) -> Iterator[Event]:
        """What an event says."""
        read = self._EVENTS.get(text_in(chunk, "type"))
        if read is not None:
            yield from read(self, chunk)

    # Text and reasoning

    def _text(self, event: object) -> Iterator[Event]:
        if text := text_in(event, "delta"):
            self._wrote = True
            yield TextDelta(text)

    def _refusal(self, event: object) -> Iterator[Event]:
        self._refused = True
        yield from self._text(event)

    def _text_done(self, _: object) -> Iterator[Event]:
        citations, self._citations = self._citations, []
        if self._wrote:
            self._wrote = False
            yield TextDone(citations=citations or None)

    def _annotation(self, event: object) -> Iterator[Event]:
        annotation = field(event, "annotation")
        if annotation is None:
            return
        self._citations.append(plain(annotation))
        start, end = count_in(annotation, "start_index"), count_in(annotation, "end_index")
        span = None if start is None or end is None else [start, end]
        url, name = text_in(annotation, "url") or None, text_in(annotation, "filename") or None
        title = text_in(annotation, "title") or name
        if url is not None:
            yield Source(kind="url", url=url, title=title, span=span)
        else:
            file_id = text_in(annotation, "file_id") or None
            yield Source(kind="document", title=title or file_id, filename=name, span=span)

    def _reasoning(self, event: object) -> Iterator[Event]:
        if text := text_in(event, "delta"):
            self._reasoned = True
            yield ReasoningDelta(text)

    def _reasoning_part(self, _: object) -> Iterator[Event]:
        # Each part of a summary is a paragraph.
        if self._reasoned:
            self._reasoned = False
            yield ReasoningDone()

    # Items

    def _item_added(self, event: object) -> Iterator[Event]:
        item, place = field(event, "item"), field(event, "output_index")
        kind = text_in(item, "type")
        if kind == "function_call":
            self._called = True
            yield from self.calls.begin(place, text_in(item, "call_id"), text_in(item, "name"))
        elif kind == "custom_tool_call":
            self._called = True
            yield ToolStarted(call_id=text_in(item, "call_id") or None, name=text_in(item, "name"))
        elif kind == "mcp_call":
            yield from self.calls.begin(place, text_in(item, "id"), text_in(item, "name"), executor="provider")
        elif kind in _TOOLS:
            yield ToolStarted(call_id=text_in(item, "id") or None, name=_TOOLS[kind][0], executor="provider")

    def _arguments(self, event: object) -> Iterator[Event]:
        yield from self.calls.add(field(event, "output_index"), text_in(event, "delta"))

    def _arguments_done(self, event: object) -> Iterator[Event]:
        yield from self.calls.complete(field(event, "output_index"), text_in(event, "arguments"))

    def _item_done(self, event: object) -> Iterator[Event]:
        item, place = field(event, "item"), field(event, "output_index")
        kind = text_in(item, "type")
        # Where the fragments had no end of their own.
        yield from self.calls.complete(place, text_in(item, "arguments"))
        if kind == "custom_tool_call":
            # Its input is text, not JSON.
            call_id, name = text_in(item, "call_id") or None, text_in(item, "name")
            yield ToolReady(call_id=call_id, name=name, input=text_in(item, "input"))
        elif kind == "reasoning":
            signature = text_in(item, "encrypted_content") or None
            if self._reasoned or signature:
                self._reasoned = False
                yield ReasoningDone(signature=signature)
        elif kind in _TOOLS:
            yield from _tool_done(item, *_TOOLS[kind])

    # The response

    def _begun(self, event: object) -> Iterator[Event]:
        self._model = text_in(event, "response", "model") or None
        yield from ()

    def _completed(self, event: object) -> Iterator[Event]:
        reason: FinishReason = "tool_calls" if self._called else "stop"
        yield from self._end(event, "content_filter" if self._refused else reason)

    def _incomplete(self, event: object) -> Iterator[Event]:
        reason = text_in(event, "response", "incomplete_details", "reason")
        yield from self._end(event, _INCOMPLETE.get(reason, "other"))

    def _end(self, event: object, reason: FinishReason) -> Iterator[Event]:
        self.ended, self.finish_reason = True, reason
        self._count(event)
        yield from self.calls.complete_all()

    def _failed(self, event: object) -> Iterator[Event]:
        self._count(event)
        yield from self.spent()
        yield reported(field(event, "response", "error"))

    def _error(self, event: object) -> Iterator[Event]:
        yield reported(event)

    def _count(self, event: object) -> None:
        usage = field(event, "response", "usage")
        if usage is not None:
            self.usage = Usage(
                input_tokens=count_in(usage, "input_tokens"),
                output_tokens=count_in(usage, "output_tokens"),
                reasoning_tokens=count_in(usage, "output_tokens_details", "reasoning_tokens"),
                cached_input_tokens=count_in(usage, "input_tokens_details", "cached_tokens"),
                provider="openai",
                model=text_in(event, "response", "model") or self._model,
            )

    _EVENTS: ClassVar[dict[str, Callable[["ResponseTurn", object], Iterator[Event]]]] = {
        "response.created": _begun,
        "response.output_text.delta": _text,
        "response.output_text.done": _text_done,
        "response.output_text.annotation.added": _annotation,
        "response.refusal.delta": _refusal,
        "response.refusal.done": _text_done,
        "response.reasoning_summary_part.added": _reasoning_part,
        "response.reasoning_summary_text.delta": _reasoning,
        "response.reasoning_text.delta": _reasoning,
        "response.output_item.added": _item_added,
        "response.function_call_arguments.delta": _arguments,
        "response.function_call_arguments.done": _arguments_done,
        "response.mcp_call_arguments.delta": _arguments,
        "response.mcp_call_arguments.done": _arguments_done,
        "response.output_item.done": _item_done,
        "response.completed": _completed,
        "response.incomplete": _incomplete,
        "response.failed": _failed,
        "error": _error,
    }


def _tool_done(item: object, name: str, asked: tuple[str, ...], gave: str) -> Iterator[Event]:
    """What a tool of OpenAI's own was asked, which is known only now, and what it gave."""
    call_id = text_in(item, "id") or None
    if asked:
        values = {key: plain(value) for key in asked if (value := field(item, key)) is not None}
        yield ToolReady(call_id=call_id, name=name, input=values)
    if text_in(item, "status") in _FAILED or field(item, "error") is not None:
        yield ToolError(call_id=call_id, code="tool_failed", message=_TOOL_FAILED, phase="execution")
    else:
        yield ToolOutput(call_id=call_id, output=plain(field(item, gave)) if gave else None)
