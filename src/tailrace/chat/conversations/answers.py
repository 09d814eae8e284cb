"""A run that has ended, as the row of its answer has it: what was said within bounds, and what it cost. Pure."""

import json
import math
from collections.abc import Sequence

import msgspec

from tailrace.chat.conversations.wording import whole
from tailrace.events import Usage
from tailrace.fold import Part, ReasoningPart, Reduced, TextPart, ToolPart

__all__ = ["encoded", "encoded_parts", "parts_of", "usage_of", "with_results"]

#: What a model makes a token of, about; for English it is a little more, for other languages less.
_CHARACTERS_PER_TOKEN = 4
_NOT_THE_ANSWERS = {"user", "system"}
_RESULTS = {"done", "error"}
#: What goes first where there is no room for all.
_LEFT_OUT: tuple[type[Part], ...] = (ToolPart, ReasoningPart, TextPart)


def encoded(value: object) -> str:
    """A value as JSON text; lone surrogates are replaced."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return whole(json.dumps(msgspec.to_builtins(value), ensure_ascii=False))


def parts_of(reduced: Reduced) -> list[Part]:
    """All that the answer consists of: the parts of its messages, one after the other."""
    return [part for message in reduced.messages if message.role not in _NOT_THE_ANSWERS for part in message.parts]


def with_results(parts: Sequence[Part], told: Sequence[Part]) -> list[Part]:
    """The parts, with what the client tells of tools that it ran: for calls that have no result yet, and no others."""
    results = {part.call_id: part for part in told if isinstance(part, ToolPart) and part.state in _RESULTS}
    kept: list[Part] = []
    for part in parts:
        match part:
            case ToolPart(call_id=str(call_id), state=state) if state not in _RESULTS and call_id in results:
                told_result = results[call_id]
                kept.append(
                    msgspec.structs.replace(
                        part, state=told_result.state, output=told_result.output, error=told_result.error
                    )
                )
            case _:
                kept.append(part)
    return kept


def encoded_parts(parts: Sequence[Part], *, limit_bytes: int) -> str:
    """The parts as JSON text.

    If it would be longer than `limit_bytes`, what tools were given and gave is left out, the largest first; then the
    reasoning; and of a text that is longer than all the room its end.
    """
    text = encoded(parts)
    if _size(text) <= limit_bytes:
        return text
    kept: list[Part] = list(parts)
    sizes = [_size(encoded(part)) for part in kept]
    total = sum(sizes)
    for place in sorted(range(len(kept)), key=lambda place: (_LEFT_OUT.index(type(kept[place])), -sizes[place])):
        # Two brackets, and a comma for each.
        excess = total + len(kept) + 1 - limit_bytes
        if excess <= 0:
            break
        kept[place] = _shortened(kept[place], max(0, sizes[place] - excess))
        size = _size(encoded(kept[place]))
        total += size - sizes[place]
        sizes[place] = size
    text = encoded(kept)
    # So many parts that their frames alone are too much.
    while kept and _size(text) > limit_bytes:
        kept = kept[: len(kept) // 2]
        text = encoded(kept)
    return text


def usage_of(reduced: Reduced, *, input_characters: int, model: str | None) -> list[Usage]:
    """What the run has used, as providers counted it, and by estimate where they did not.

    A provider counts at the end of what it says, so of a run that was stopped it may have said nothing, or too little.
    """
    counts = list(reduced.usage)
    if counts and reduced.status == "completed":
        return counts
    written = sum(_characters(part) for part in parts_of(reduced))
    missing_input = 0 if any(usage.input_tokens for usage in counts) else _tokens(input_characters)
    missing_output = max(0, _tokens(written) - sum(usage.output_tokens or 0 for usage in counts))
    if counts and not (missing_input or missing_output):
        return counts
    estimate = Usage(
        input_tokens=missing_input, output_tokens=missing_output, model=reduced.model or model, estimated=True
    )
    return [*counts, estimate]


def _size(text: str) -> int:
    return len(text.encode())


def _shortened(part: Part, room_bytes: int) -> Part:
    """The part with less in it; as much text as goes into `room_bytes` of JSON, for sure."""
    if isinstance(part, ToolPart):
        return msgspec.structs.replace(part, args="", input=None, output=None)
    frame = _size(encoded(msgspec.structs.replace(part, text="")))
    cut = part.text.encode("utf-8", "replace")
    # Escapes make JSON longer than the text, six times at most.
    room = max(0, room_bytes - frame - len(',"text":""'))
    while cut and _size(encoded(cut.decode("utf-8", "ignore"))) - 2 > room:
        cut = cut[: min(len(cut) - 1, max(0, room if len(cut) > room else len(cut) * 3 // 4))]
    return msgspec.structs.replace(part, text=cut.decode("utf-8", "ignore"))


def _characters(part: Part) -> int:
    if isinstance(part, ToolPart):
        return len(part.args) or (len(encoded(part.input)) if part.input is not None else 0)
    return len(part.text)


def _tokens(characters: int) -> int:
    return math.ceil(characters / _CHARACTERS_PER_TOKEN)
