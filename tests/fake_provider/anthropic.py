"""Anthropic's messages: blocks that start, grow and stop, between the start and the stop of a message.

Source: https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

import json
from collections.abc import Iterable, Iterator
from itertools import count

from tests.fake_provider.contract import Asked, EventStreamProtocol, Frame, JsonObject, sse
from tests.fake_provider.turn import PROMPT_TOKENS, Turn

__all__ = ["AnthropicMessages"]

_STOP_REASONS = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens", "content_filter": "refusal"}
_REFUSALS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_SIGNATURE = "c2lnbmF0dXJl"


class AnthropicMessages(EventStreamProtocol):
    """Keep-alives are events."""

    path = "/v1/messages"
    keep_alive = sse({"type": "ping"}, "ping")
    error_frame = sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")

    def frames(self, turn: Turn, asked: Asked) -> Iterator[Frame]:
        """The answer as a stream."""
        yield Frame(_event("message_start", message=_message(asked, [], None, 1)))
        for index, (start, deltas) in zip(count(), _blocks(turn), strict=False):
            yield Frame(_event("content_block_start", index=index, content_block=start))
            if index == 0:
                yield Frame(self.keep_alive)
            for tokens, delta in deltas:
                yield Frame(_event("content_block_delta", index=index, delta=delta), tokens)
            yield Frame(_event("content_block_stop", index=index))
        ending = {"stop_reason": _STOP_REASONS[turn.finish], "stop_sequence": None}
        yield Frame(_event("message_delta", delta=ending, usage={"output_tokens": turn.output_tokens}), mark="finish")
        yield Frame(_event("message_stop"), mark="terminal")

    def document(self, turn: Turn, asked: Asked) -> JsonObject:
        """The answer in one piece."""
        content: list[JsonObject] = []
        if turn.thinking:
            content.append({"type": "thinking", "thinking": "".join(turn.thinking), "signature": _SIGNATURE})
        if turn.text:
            content.append({"type": "text", "text": "".join(turn.text)})
        content += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)}
            for call in turn.calls
        ]
        return _message(asked, content, _STOP_REASONS[turn.finish], turn.output_tokens)

    def refusal(self, status: int, reason: str) -> JsonObject:
        """The body of an answer with an error status."""
        kind = _REFUSALS.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": reason}, "request_id": "req_fake"}


def _event(kind: str, /, **told: object) -> bytes:
    return sse({"type": kind, **told}, kind)


def _message(asked: Asked, content: list[JsonObject], stop_reason: str | None, output_tokens: int) -> JsonObject:
    return {
        "id": f"msg_{asked.id}",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": output_tokens},
    }


def _blocks(turn: Turn) -> Iterator[tuple[JsonObject, Iterable[tuple[int, JsonObject]]]]:
    """Each block as it starts, and its deltas, each with its tokens."""
    if turn.thinking:
        thoughts = [(1, {"type": "thinking_delta", "thinking": token}) for token in turn.thinking]
        signature = (0, {"type": "signature_delta", "signature": _SIGNATURE})
        yield {"type": "thinking", "thinking": "", "signature": ""}, [*thoughts, signature]
    if turn.text:
        yield {"type": "text", "text": ""}, [(1, {"type": "text_delta", "text": token}) for token in turn.text]
    for call in turn.calls:
        start: JsonObject = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        # The first one is always empty.
        yield (
            start,
            [(int(piece != ""), {"type": "input_json_delta", "partial_json": piece}) for piece in ("", *call.pieces)],
        )
