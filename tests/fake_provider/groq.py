"""Groq's chat completions: whole calls, `reasoning`, the usage in `x_groq`, and errors as a named event.

Source: https://console.groq.com/docs/api-reference#chat-create
"""

from collections.abc import Iterator

from tests.fake_provider.chat_completions import FAILURE, ChatCompletions, usage_of
from tests.fake_provider.contract import Asked, JsonObject, sse
from tests.fake_provider.turn import Call, Turn

__all__ = ["Groq"]


class Groq(ChatCompletions):
    """What Groq has of its own."""

    path = "/openai/v1/chat/completions"
    error_frame = sse(FAILURE, "error")
    reasoning_key = "reasoning"

    def call_deltas(self, call: Call) -> Iterator[tuple[int, JsonObject]]:
        """The whole call."""
        function = {"name": call.name, "arguments": call.arguments}
        yield len(call.pieces), {"id": call.id, "type": "function", "function": function}

    def first_extras(self, asked: Asked) -> JsonObject:
        """The id of the request."""
        return {"x_groq": {"id": f"req_{asked.id}"}}

    def last_extras(self, turn: Turn, asked: Asked) -> JsonObject:
        """The usage, asked for or not."""
        return {"x_groq": {"id": f"req_{asked.id}", "usage": usage_of(turn)}}
