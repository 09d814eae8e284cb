"""A conversation as a model is told it again, legal for every provider whatever was left unfinished.

Providers want each call answered, once, right after the message that made it. A call whose arguments were cut off never
was one and is left out; one that nobody answered gets the answer that it was interrupted.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias, cast

import msgspec
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from tailrace import fold

__all__ = ["clean", "model_messages", "newest"]

_Outcome: TypeAlias = Literal["success", "failed", "interrupted"]

_INTERRUPTED = "The call was interrupted before it gave anything."
_CUT_OFF = "[This answer was cut off here.]"
#: Whose signatures go back to it.
_SIGNS = "anthropic"


def newest(messages: Sequence[fold.Message], count: int) -> Sequence[fold.Message]:
    """The last messages, at most `count`, beginning with one of a user's; what a system says first is kept."""
    if len(messages) <= count:
        return messages
    system = [message for message in messages[:-count] if message.role == "system"][:1]
    kept = list(messages[-count:])
    begin = next((place for place, message in enumerate(kept) if message.role == "user"), len(kept))
    return [*system, *kept[begin:]]


def model_messages(messages: Iterable[fold.Message], *, system: str) -> list[ModelMessage]:
    """The messages as Pydantic AI has them.

    Args:
        messages: Oldest first.
        system: The provider that is told: reasoning goes back only to the one that signs it.
    """
    told: list[ModelMessage] = []
    for message in messages:
        match message.role:
            case "user":
                told.append(ModelRequest(parts=[UserPromptPart(clean(message.text))]))
            case "system":
                told.append(ModelRequest(parts=[SystemPromptPart(clean(message.text))]))
            case "assistant":
                told.extend(_answer(message, system))
            case _:
                # A result without its call is one that no provider takes.
                pass
    return told


def clean(text: str) -> str:
    """The text without lone surrogates: legal in a Python str, they have no UTF-8 form and could not be sent."""
    return text.encode(errors="surrogatepass").decode(errors="replace")


def _answer(message: fold.Message, system: str) -> Iterator[ModelMessage]:
    """The answers and results that one message of the assistant was put together from."""
    said: list[ModelResponsePart] = []
    returned: list[ModelRequestPart] = []
    for part in _parts(message):
        if returned and not isinstance(part, fold.ToolPart):
            # What comes after results was said when they were known.
            yield from (ModelResponse(parts=said), ModelRequest(parts=returned))
            said, returned = [], []
        match part:
            case fold.TextPart(text=text) if text:
                said.append(TextPart(clean(text)))
            case fold.ReasoningPart(text=text, signature=str(signature)) if signature and system == _SIGNS:
                said.append(ThinkingPart(text, signature=signature, provider_name=system))
            case fold.ToolPart(call_id=str(call_id), name=str(name)) if part.state != "started":
                said.append(ToolCallPart(name, _arguments(part.input), call_id))
                content, outcome = _outcome(part)
                returned.append(ToolReturnPart(name, content, call_id, outcome=outcome))
            case _:
                pass
    if said:
        yield ModelResponse(parts=said)
    if returned:
        yield ModelRequest(parts=returned)


def _parts(message: fold.Message) -> Iterator[fold.Part]:
    yield from message.parts
    last = message.parts[-1] if message.parts else None
    # What came to its end has a reason for it, and what a client tells has no open parts.
    if message.finish_reason is None and isinstance(last, fold.TextPart | fold.ReasoningPart) and not last.done:
        yield fold.TextPart(text=_CUT_OFF)


def _outcome(part: fold.ToolPart) -> tuple[Any, _Outcome]:
    match part.state:
        case "done":
            return part.output, "success"
        case "error":
            return (part.error or {}).get("message") or "The tool failed.", "failed"
        case _:
            return _INTERRUPTED, "interrupted"


def _arguments(value: object) -> dict[str, Any] | str:
    if value is None:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else msgspec.json.encode(value).decode()
