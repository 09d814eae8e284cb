"""Answers of Ollama, of its chat and of its generation: one object after the other, the last of them `done`.

https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from collections.abc import Iterator

from tailrace.adapters.contract import FIRST_DELTA_SECONDS, IDLE_SECONDS, ProviderStream, StreamLike, Turn
from tailrace.adapters.failures import reported
from tailrace.adapters.fields import count_in, field, plain, text_in
from tailrace.events import Event, FinishReason, ReasoningDelta, TextDelta, Usage

__all__ = ["OllamaTurn", "from_ollama"]

_FINISH: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


def from_ollama(
    stream: StreamLike,
    *,
    first_delta_seconds: float = FIRST_DELTA_SECONDS,
    idle_seconds: float = IDLE_SECONDS,
    retries: int = 0,
) -> ProviderStream:
    """The events of one answer, the last of them `RunCompleted` or `RunFailed`.

    Args:
        stream: What `client.chat(…, stream=True)` or `client.generate(…, stream=True)` gives, awaited or not, of an
            async or a blocking client, or a callable without arguments that gives it; objects or dicts.
        first_delta_seconds: How long the model may say nothing at first; loading it into memory counts.
        idle_seconds: How long it may say nothing after that.
        retries: How often to call `stream` again after a failure that may pass, while nothing was said yet.

    Raises:
        ValueError: `retries` without a callable.
    """
    return ProviderStream(
        stream,
        lambda _: OllamaTurn(),
        first_delta_seconds=first_delta_seconds,
        idle_seconds=idle_seconds,
        retries=retries,
    )


class OllamaTurn(Turn):
    """A chat says all in `message`, a generation beside it."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        super().__init__()
        self._called = False

    @classmethod
    def knows(cls, chunk: object) -> bool:
        """Whether it says that it is, or is not, the last one."""
        said = field(chunk, "message") is not None or isinstance(field(chunk, "response"), str)
        return said and isinstance(field(chunk, "done"), bool)

    def read(self, chunk: object) -> Iterator[Event]:
        """What an object says."""
        if (error := field(chunk, "error")) is not None:
            yield reported(error)
            return
        message = field(chunk, "message")
        if thought := text_in(message, "thinking") or text_in(chunk, "thinking"):
            yield ReasoningDelta(thought)
        if text := text_in(message, "content") or text_in(chunk, "response"):
            yield TextDelta(text)
        for call in field(message, "tool_calls") or ():
            self._called = True
            name, arguments = text_in(call, "function", "name"), field(call, "function", "arguments")
            yield from self.calls.whole(text_in(call, "id"), name, plain(arguments) or {})
        if field(chunk, "done") is True:
            self._end(chunk)

    def _end(self, chunk: object) -> None:
        self.ended = True
        reason = text_in(chunk, "done_reason") or "stop"
        # Ollama has no word for an answer that ends in calls.
        self.finish_reason = "tool_calls" if self._called and reason == "stop" else _FINISH.get(reason, "other")
        read, written = count_in(chunk, "prompt_eval_count"), count_in(chunk, "eval_count")
        if read is not None or written is not None:
            model = text_in(chunk, "model") or None
            self.usage = Usage(input_tokens=read, output_tokens=written, provider="ollama", model=model)
