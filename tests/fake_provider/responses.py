"""OpenAI's Responses: numbered events about the items of an output; the last one has all of it once more.

Source: https://platform.openai.com/docs/api-reference/responses-streaming
"""

from collections.abc import Callable, Iterator
from itertools import count

from tests.fake_provider.contract import Asked, Frame, JsonObject, sse
from tests.fake_provider.openai import CREATED, OpenAiProtocol
from tests.fake_provider.turn import PROMPT_TOKENS, Call, Turn

__all__ = ["Responses"]

_Event = Callable[..., bytes]

#: A number that no event of a stream has: the fault comes wherever it is told to.
_FAILURE_NUMBER = 9_999


class Responses(OpenAiProtocol):
    """Reasoning comes as a summary."""

    path = "/v1/responses"
    error_frame = sse(
        {
            "type": "error",
            "sequence_number": _FAILURE_NUMBER,
            "code": "server_error",
            "message": "The server had an error",
            "param": None,
        },
        "error",
    )

    def frames(self, turn: Turn, asked: Asked) -> Iterator[Frame]:
        """The answer as a stream."""
        numbers, places = count(), count()

        def event(name: str, /, **told: object) -> bytes:
            kind = f"response.{name}"
            return sse({"type": kind, "sequence_number": next(numbers), **told}, kind)

        begun = _response(asked, "in_progress")
        yield Frame(event("created", response=begun))
        yield Frame(event("in_progress", response=begun))
        if turn.thinking:
            yield from _reasoning(event, next(places), turn, asked)
        if turn.text:
            yield from _message(event, next(places), turn, asked)
        for number, call in enumerate(turn.calls):
            yield from _function_call(event, next(places), call, _call_item(call, number, asked))
        ended = self.document(turn, asked)
        yield Frame(event(ended["status"], response=ended), mark="terminal")

    def document(self, turn: Turn, asked: Asked) -> JsonObject:
        """The answer in one piece."""
        output = [_reasoning_item(turn, asked)] if turn.thinking else []
        output += [_message_item(turn, asked)] if turn.text else []
        output += [_call_item(call, number, asked) for number, call in enumerate(turn.calls)]
        reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(turn.finish)
        return {
            **_response(asked, "incomplete" if reason else "completed"),
            "output": output,
            "incomplete_details": {"reason": reason} if reason else None,
            "usage": {
                "input_tokens": PROMPT_TOKENS,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": turn.output_tokens,
                "output_tokens_details": {"reasoning_tokens": len(turn.thinking)},
                "total_tokens": PROMPT_TOKENS + turn.output_tokens,
            },
        }


def _response(asked: Asked, status: str) -> JsonObject:
    return {
        "id": f"resp_{asked.id}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "model": asked.model,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "usage": None,
    }


def _reasoning_item(turn: Turn, asked: Asked) -> JsonObject:
    summary = {"type": "summary_text", "text": "".join(turn.thinking)}
    return {"type": "reasoning", "id": f"rs_{asked.id}", "summary": [summary]}


def _message_item(turn: Turn, asked: Asked) -> JsonObject:
    text: JsonObject = {"type": "output_text", "text": "".join(turn.text), "annotations": [], "logprobs": []}
    head = {"type": "message", "id": f"msg_{asked.id}", "role": "assistant", "status": "completed"}
    return {**head, "content": [text]}


def _call_item(call: Call, number: int, asked: Asked) -> JsonObject:
    head = {"type": "function_call", "id": f"fc_{asked.id}_{number}", "call_id": call.id, "name": call.name}
    return {**head, "arguments": call.arguments, "status": "completed"}


def _reasoning(event: _Event, place: int, turn: Turn, asked: Asked) -> Iterator[Frame]:
    item = _reasoning_item(turn, asked)
    (part,) = item["summary"]
    at = {"item_id": item["id"], "output_index": place, "summary_index": 0}
    yield Frame(event("output_item.added", output_index=place, item={**item, "summary": []}))
    yield Frame(event("reasoning_summary_part.added", **at, part={**part, "text": ""}))
    for token in turn.thinking:
        yield Frame(event("reasoning_summary_text.delta", **at, delta=token), 1)
    yield Frame(event("reasoning_summary_text.done", **at, text=part["text"]))
    yield Frame(event("reasoning_summary_part.done", **at, part=part))
    yield Frame(event("output_item.done", output_index=place, item=item))


def _message(event: _Event, place: int, turn: Turn, asked: Asked) -> Iterator[Frame]:
    item = _message_item(turn, asked)
    (part,) = item["content"]
    at = {"item_id": item["id"], "output_index": place, "content_index": 0}
    begun: JsonObject = {**item, "status": "in_progress", "content": []}
    yield Frame(event("output_item.added", output_index=place, item=begun))
    yield Frame(event("content_part.added", **at, part={**part, "text": ""}))
    for token in turn.text:
        yield Frame(event("output_text.delta", **at, delta=token, logprobs=[]), 1)
    yield Frame(event("output_text.done", **at, text=part["text"], logprobs=[]))
    yield Frame(event("content_part.done", **at, part=part))
    yield Frame(event("output_item.done", output_index=place, item=item))


def _function_call(event: _Event, place: int, call: Call, item: JsonObject) -> Iterator[Frame]:
    at = {"item_id": item["id"], "output_index": place}
    begun = {**item, "arguments": "", "status": "in_progress"}
    yield Frame(event("output_item.added", output_index=place, item=begun))
    for piece in call.pieces:
        yield Frame(event("function_call_arguments.delta", **at, delta=piece), 1)
    yield Frame(event("function_call_arguments.done", **at, name=call.name, arguments=call.arguments))
    yield Frame(event("output_item.done", output_index=place, item=item))
