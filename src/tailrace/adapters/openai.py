"""Chat completions as OpenAI streams them, and with it Groq, LiteLLM, vLLM, Ollama and whatever else is compatible.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from collections.abc import Iterator

from tailrace.adapters.contract import FIRST_DELTA_SECONDS, IDLE_SECONDS, ProviderStream, StreamLike, Turn
from tailrace.adapters.failures import reported
from tailrace.adapters.fields import count_in, field, items_in, text_in
from tailrace.events import Event, FinishReason, ReasoningDelta, TextDelta, Usage

__all__ = ["CompletionTurn", "from_openai"]

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
#: Of a chunk; some that are compatible leave it out.
_OBJECTS = frozenset({"chat.completion.chunk", ""})
#: Not OpenAI's: what OpenRouter says of an answer that failed half-way.
_FAILED = "error"


def from_openai(
    stream: StreamLike,
    *,
    first_delta_seconds: float = FIRST_DELTA_SECONDS,
    idle_seconds: float = IDLE_SECONDS,
    retries: int = 0,
) -> ProviderStream:
    """The events of one chat completion, the last of them `RunCompleted` or `RunFailed`.

    Args:
        stream: What `client.chat.completions.create(…, stream=True)` gives, awaited or not, of an async or a blocking
            client, or a callable without arguments that gives it; chunks may be objects or dicts. With
            `stream_options={"include_usage": True}` tokens are counted.
        first_delta_seconds: How long the model may say nothing at first, pings aside.
        idle_seconds: How long it may say nothing after that.
        retries: How often to call `stream` again after a failure that may pass, while nothing was said yet.

    Raises:
        ValueError: `retries` without a callable.
    """
    return ProviderStream(
        stream,
        lambda _: CompletionTurn(),
        first_delta_seconds=first_delta_seconds,
        idle_seconds=idle_seconds,
        retries=retries,
    )


class CompletionTurn(Turn):
    """Choice 0 of the chunks; `choices` may be empty, and `delta` may be null."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        super().__init__()
        self._refused = False
        self._id = ""

    @classmethod
    def knows(cls, chunk: object) -> bool:
        """Whether it has choices, of which a whole completion's are another object."""
        return isinstance(field(chunk, "choices"), list) and text_in(chunk, "object") in _OBJECTS

    def continues(self, chunk: object) -> bool:
        """Only counts of tokens follow the reason to finish; some of them come with a choice that says nothing."""
        choices = items_in(chunk, "choices")
        if not self.ended or not choices:
            return True
        return text_in(chunk, "id") in {self._id, ""} and not any(map(_says, choices))

    def read(self, chunk: object) -> Iterator[Event]:
        """What a chunk says."""
        choices = items_in(chunk, "choices")
        for choice in choices:
            # Further choices are other answers.
            if not field(choice, "index"):
                yield from self._read_choice(choice, chunk)
        self._count(chunk)
        if not choices and (error := field(chunk, "error")) is not None:
            yield reported(error)

    def _read_choice(self, choice: object, chunk: object) -> Iterator[Event]:
        delta = field(choice, "delta")
        # Some send it under both names.
        if reasoning := text_in(delta, "reasoning_content") or text_in(delta, "reasoning"):
            yield ReasoningDelta(reasoning)
        if text := text_in(delta, "content"):
            yield TextDelta(text)
        if refusal := text_in(delta, "refusal"):
            self._refused = True
            yield TextDelta(refusal)
        for fragment in items_in(delta, "tool_calls"):
            yield from self._read_call(fragment)
        reason = text_in(choice, "finish_reason")
        if reason == _FAILED:
            yield reported(field(chunk, "error") or field(choice, "error") or reason)
        elif reason:
            self.ended = True
            self._id = text_in(chunk, "id")
            self.finish_reason = "content_filter" if self._refused else _FINISH.get(reason, "other")
            yield from self.calls.complete_all()

    def _read_call(self, fragment: object) -> Iterator[Event]:
        place = field(fragment, "index")
        call_id, name = text_in(fragment, "id"), text_in(fragment, "function", "name")
        if not self.calls.continues(place, call_id, name):
            yield from self.calls.begin(place, call_id, name)
        yield from self.calls.add(place, text_in(fragment, "function", "arguments"))

    def _count(self, chunk: object) -> None:
        """Keep the count; some send it with every chunk, so that it is told once, at the end."""
        usage = field(chunk, "usage")
        if usage is None and self.ended:
            usage = field(chunk, "x_groq", "usage")
        if usage is None:
            return
        self.usage = Usage(
            input_tokens=count_in(usage, "prompt_tokens"),
            output_tokens=count_in(usage, "completion_tokens"),
            reasoning_tokens=count_in(usage, "completion_tokens_details", "reasoning_tokens"),
            cached_input_tokens=count_in(usage, "prompt_tokens_details", "cached_tokens"),
            model=text_in(chunk, "model") or None,
        )


def _says(choice: object) -> bool:
    delta = field(choice, "delta")
    return any(field(delta, name) for name in ("content", "tool_calls", "reasoning_content", "reasoning", "refusal"))
