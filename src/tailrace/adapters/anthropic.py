"""Messages as Anthropic streams them, by their raw events.

https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

from tailrace.adapters.contract import FIRST_DELTA_SECONDS, IDLE_SECONDS, ProviderStream, StreamLike, Turn
from tailrace.adapters.failures import reported
from tailrace.adapters.fields import count_in, field, plain, text_in
from tailrace.events import Event, FinishReason, ReasoningDelta, ReasoningDone, TextDelta, TextDone, ToolOutput, Usage

__all__ = ["MessageTurn", "from_anthropic"]

_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
#: Kinds of blocks that are calls, and who executes them if it is not the application.
_CALLS: dict[str, Literal["provider"] | None] = {
    "tool_use": None,
    "server_tool_use": "provider",
    "mcp_tool_use": "provider",
}
#: Blocks that hold what such a call gave end in this: `web_search_tool_result`, `mcp_tool_result`.
_RESULT = "_tool_result"
#: What the events of a stream begin with, those of a later version too; and what `client.messages.stream()` adds.
_KINDS = ("message_", "content_block_")
_ADDED = frozenset({"text", "thinking", "citation", "signature", "input_json"})
_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")


def from_anthropic(
    stream: StreamLike,
    *,
    first_delta_seconds: float = FIRST_DELTA_SECONDS,
    idle_seconds: float = IDLE_SECONDS,
    retries: int = 0,
) -> ProviderStream:
    """The events of one message, the last of them `RunCompleted` or `RunFailed`.

    Args:
        stream: What `client.messages.create(…, stream=True)` gives, awaited or not, of an async or a blocking client,
            or a callable without arguments that gives it; its events may be objects or dicts.
        first_delta_seconds: How long the model may say nothing at first, pings aside.
        idle_seconds: How long it may say nothing after that.
        retries: How often to call `stream` again after a failure that may pass, while nothing was said yet.

    Raises:
        ValueError: `retries` without a callable.
    """
    return ProviderStream(
        stream,
        lambda _: MessageTurn(),
        first_delta_seconds=first_delta_seconds,
        idle_seconds=idle_seconds,
        retries=retries,
    )


class _Block:
    """A block of the message that is not complete yet."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.has_text = False
        self.signature = ""
        self.citations: list[Any] = []


class MessageTurn(Turn):
    """The table at the end of the class says which method reads which event."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        super().__init__()
        self._model: str | None = None
        self._counts: dict[str, int] = {}
        self._blocks: dict[object, _Block] = {}

    @classmethod
    def knows(cls, chunk: object) -> bool:
        """Whether it has the type of an event; the types that many others use count only with what belongs to them."""
        kind = text_in(chunk, "type")
        if kind in _ADDED:
            return not isinstance(chunk, dict) and field(chunk, "snapshot") is not None
        return kind.startswith(_KINDS) or kind == "ping" or (kind == "error" and bool(text_in(chunk, "error", "type")))

    def continues(self, chunk: object) -> bool:
        """Every message says that it begins."""
        return text_in(chunk, "type") != "message_start"

    def read(self, chunk: object) -> Iterator[Event]:
        """What an event says."""
        read = self._EVENTS.get(text_in(chunk, "type"))
        if read is not None:
            yield from read(self, chunk)

    def _message_start(self, event: object) -> Iterator[Event]:
        self._model = text_in(event, "message", "model") or None
        self._count(field(event, "message", "usage"))
        # An answer that is broken off has still read its input.
        yield from self.spent()

    def _message_delta(self, event: object) -> Iterator[Event]:
        self._count(field(event, "usage"))
        if reason := text_in(event, "delta", "stop_reason"):
            self.ended = True
            self.finish_reason = _FINISH.get(reason, "other")
        yield from ()

    def _message_stop(self, _: object) -> Iterator[Event]:
        self.ended = True
        yield from ()

    def _error(self, event: object) -> Iterator[Event]:
        yield reported(field(event, "error"))

    def _block_start(self, event: object) -> Iterator[Event]:
        place, content = field(event, "index"), field(event, "content_block")
        kind = text_in(content, "type")
        block = self._blocks[place] = _Block(kind)
        if kind in _CALLS:
            yield from self.calls.begin(place, text_in(content, "id"), text_in(content, "name"), executor=_CALLS[kind])
        elif kind.endswith(_RESULT):
            call_id = text_in(content, "tool_use_id") or None
            yield ToolOutput(call_id=call_id, output=plain(field(content, "content")))
        elif kind == "redacted_thinking":
            yield ReasoningDone(signature=text_in(content, "data") or None, redacted=True)
        else:
            # A block may begin with some of its text.
            yield from self._text(block, text_in(content, "text"))
            yield from self._thinking(block, text_in(content, "thinking"))
            block.signature = text_in(content, "signature")

    def _block_delta(self, event: object) -> Iterator[Event]:
        place, delta = field(event, "index"), field(event, "delta")
        block = self._blocks.setdefault(place, _Block(""))
        match text_in(delta, "type"):
            case "text_delta":
                yield from self._text(block, text_in(delta, "text"))
            case "thinking_delta":
                yield from self._thinking(block, text_in(delta, "thinking"))
            case "input_json_delta":
                yield from self.calls.add(place, text_in(delta, "partial_json"))
            case "signature_delta":
                block.signature = text_in(delta, "signature")
            case "citations_delta":
                block.citations.append(plain(field(delta, "citation")))
            case _:
                pass

    def _block_stop(self, event: object) -> Iterator[Event]:
        place = field(event, "index")
        block = self._blocks.pop(place, _Block(""))
        yield from self.calls.complete(place)
        if block.kind == "text" and block.has_text:
            yield TextDone(citations=block.citations or None)
        elif block.kind == "thinking" and (block.has_text or block.signature):
            yield ReasoningDone(signature=block.signature or None)

    @staticmethod
    def _text(block: _Block, text: str) -> Iterator[Event]:
        if text:
            block.has_text = True
            yield TextDelta(text)

    @staticmethod
    def _thinking(block: _Block, text: str) -> Iterator[Event]:
        if text:
            block.has_text = True
            yield ReasoningDelta(text)

    def _count(self, usage: object) -> None:
        """Take the newer counts, which are cumulative; each event has only some of them."""
        for name in _COUNTS:
            if (count := count_in(usage, name)) is not None:
                self._counts[name] = count
        if not self._counts:
            return
        counts = self._counts
        cached, written = counts.get("cache_read_input_tokens"), counts.get("cache_creation_input_tokens")
        fresh = counts.get("input_tokens")
        self.usage = Usage(
            # Anthropic counts what its cache had apart from the rest of the input.
            input_tokens=None if fresh is None else fresh + (cached or 0) + (written or 0),
            output_tokens=counts.get("output_tokens"),
            cached_input_tokens=cached,
            cache_write_input_tokens=written,
            provider="anthropic",
            model=self._model,
        )

    _EVENTS: ClassVar[dict[str, Callable[["MessageTurn", object], Iterator[Event]]]] = {
        "message_start": _message_start,
        "content_block_start": _block_start,
        "content_block_delta": _block_delta,
        "content_block_stop": _block_stop,
        "message_delta": _message_delta,
        "message_stop": _message_stop,
        "error": _error,
    }
