"""Ollama's chat: one JSON object per line; a call is one of them, its arguments an object.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md#generate-a-chat-completion
"""

import json
from collections.abc import Iterator

from tests.fake_provider.contract import Asked, Frame, JsonObject, ProviderProtocol, compact
from tests.fake_provider.turn import PROMPT_TOKENS, Turn

__all__ = ["Ollama"]


def _line(value: JsonObject) -> bytes:
    return compact(value) + b"\n"


class Ollama(ProviderProtocol):
    """Streams unless it is told not to, and knows neither types nor codes of errors."""

    path = "/api/chat"
    media_type = "application/x-ndjson"
    streams_unasked = True
    error_frame = _line({"error": "llama runner process no longer running"})
    keep_alive = b"\n"
    garbage = b'{"this is": not json\n'

    def frames(self, turn: Turn, asked: Asked) -> Iterator[Frame]:
        """The answer as a stream."""
        for token in turn.thinking:
            yield Frame(_line(_answer(asked, {"thinking": token})), 1)
        for token in turn.text:
            yield Frame(_line(_answer(asked, {"content": token})), 1)
        for call, told in zip(turn.calls, _calls(turn), strict=True):
            yield Frame(_line(_answer(asked, {"tool_calls": [told]})), len(call.pieces))
        yield Frame(_line({**_answer(asked, {}), **_ending(turn)}), mark="terminal")

    def document(self, turn: Turn, asked: Asked) -> JsonObject:
        """The answer in one piece."""
        message: JsonObject = {"content": "".join(turn.text)}
        if turn.thinking:
            message["thinking"] = "".join(turn.thinking)
        if turn.calls:
            message["tool_calls"] = _calls(turn)
        return {**_answer(asked, message), **_ending(turn)}

    def refusal(self, status: int, reason: str) -> JsonObject:
        """The body of an answer with an error status."""
        return {"error": reason}


def _answer(asked: Asked, message: JsonObject) -> JsonObject:
    return {
        "model": asked.model,
        "created_at": "2026-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": "", **message},
        "done": False,
    }


def _calls(turn: Turn) -> list[JsonObject]:
    return [
        {"id": call.id, "function": {"index": index, "name": call.name, "arguments": json.loads(call.arguments)}}
        for index, call in enumerate(turn.calls)
    ]


def _ending(turn: Turn) -> JsonObject:
    """What the last line adds; durations are in nanoseconds."""
    return {
        "done": True,
        "done_reason": "length" if turn.finish == "length" else "stop",
        "total_duration": 1,
        "load_duration": 1,
        "prompt_eval_count": PROMPT_TOKENS,
        "prompt_eval_duration": 1,
        "eval_count": turn.output_tokens,
        "eval_duration": 1,
    }
