"""OpenAI's chat completions: chunks of choices, then `[DONE]`.

Source: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from collections.abc import Iterator
from typing import ClassVar

from tests.fake_provider.contract import Asked, Frame, JsonObject, sse
from tests.fake_provider.openai import CREATED, OpenAiProtocol
from tests.fake_provider.turn import PROMPT_TOKENS, Call, Turn

__all__ = ["FAILURE", "ChatCompletions", "usage_of"]

FAILURE: JsonObject = {
    "error": {"message": "The server had an error while processing your request", "type": "server_error", "code": None}
}


class ChatCompletions(OpenAiProtocol):
    """Calls come in fragments, the usage only if it is asked for.

    Attributes:
        reasoning_key: OpenAI itself tells no reasoning here: the word is that of DeepSeek and of most servers since.
    """

    path = "/v1/chat/completions"
    error_frame = sse(FAILURE)
    reasoning_key: ClassVar[str] = "reasoning_content"

    def frames(self, turn: Turn, asked: Asked) -> Iterator[Frame]:
        """The answer as a stream."""
        options: JsonObject = asked.body.get("stream_options") or {}
        wants_usage = options.get("include_usage", False)
        head: JsonObject = {**_head(asked, "chat.completion.chunk"), "system_fingerprint": "fp_fake"}

        def chunk(delta: JsonObject, finish: str | None = None, **more: object) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return sse({**head, "choices": [choice], **({"usage": None} if wants_usage else {}), **more})

        opening = {"role": "assistant", "content": None if turn.calls else ""}
        yield Frame(chunk(opening, **self.first_extras(asked)))
        for token in turn.thinking:
            yield Frame(chunk({self.reasoning_key: token}), 1)
        for token in turn.text:
            yield Frame(chunk({"content": token}), 1)
        for index, call in enumerate(turn.calls):
            for tokens, delta in self.call_deltas(call):
                yield Frame(chunk({"tool_calls": [{"index": index, **delta}]}), tokens)
        yield Frame(chunk({}, turn.finish, **self.last_extras(turn, asked)), mark="finish")
        if wants_usage:
            yield Frame(sse({**head, "choices": [], "usage": usage_of(turn)}))
        yield Frame(b"data: [DONE]\n\n", mark="terminal")

    def document(self, turn: Turn, asked: Asked) -> JsonObject:
        """The answer in one piece."""
        message: JsonObject = {"role": "assistant", "content": "".join(turn.text) or None}
        if turn.thinking:
            message[self.reasoning_key] = "".join(turn.thinking)
        if turn.calls:
            message["tool_calls"] = [_call(call, call.arguments) for call in turn.calls]
        choice = {"index": 0, "message": message, "finish_reason": turn.finish, "logprobs": None}
        return {**_head(asked, "chat.completion"), "choices": [choice], "usage": usage_of(turn)}

    def call_deltas(self, call: Call) -> Iterator[tuple[int, JsonObject]]:
        """A call in pieces, each with its tokens; the first names it."""
        yield 0, _call(call, "")
        for piece in call.pieces:
            yield 1, {"function": {"arguments": piece}}

    def first_extras(self, asked: Asked) -> JsonObject:
        """What else the first chunk has."""
        return {}

    def last_extras(self, turn: Turn, asked: Asked) -> JsonObject:
        """What else the chunk with the finish reason has."""
        return {}


def usage_of(turn: Turn) -> JsonObject:
    """What a turn has used."""
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": turn.output_tokens,
        "total_tokens": PROMPT_TOKENS + turn.output_tokens,
        "completion_tokens_details": {"reasoning_tokens": len(turn.thinking)},
    }


def _head(asked: Asked, kind: str) -> JsonObject:
    return {"id": f"chatcmpl-{asked.id}", "object": kind, "created": CREATED, "model": asked.model}


def _call(call: Call, arguments: str) -> JsonObject:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
