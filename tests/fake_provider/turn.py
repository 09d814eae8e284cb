"""What the model says this time, before a protocol puts it into its own words."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Literal, NamedTuple, TypeAlias, cast
from urllib.parse import unquote_plus

from tests.fake_provider.script import Script

__all__ = ["PROMPT_TOKENS", "Call", "Finish", "Turn", "turn_of"]

JsonObject: TypeAlias = Mapping[str, Any]
Finish: TypeAlias = Literal["stop", "length", "content_filter", "tool_calls"]

#: Whatever was asked.
PROMPT_TOKENS = 11

_WORDS = (
    "the",
    "run",
    "keeps",
    "a",
    "log",
    "so",
    "any",
    "reader",
    "may",
    "join",
    "late",
    "and",
    "see",
    "every",
    "event",
)
_SAMPLES: JsonObject = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "null": None}


@dataclass(frozen=True)
class Call:
    """One tool call; its arguments are JSON, in pieces of some characters."""

    id: str
    name: str
    pieces: tuple[str, ...]

    @property
    def arguments(self) -> str:
        """All pieces."""
        return "".join(self.pieces)


@dataclass(frozen=True)
class Turn:
    """Reasoning and text in tokens, or calls."""

    thinking: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    finish: Finish = "stop"

    @property
    def output_tokens(self) -> int:
        """A piece of arguments counts as one."""
        return len(self.thinking) + len(self.text) + sum(len(call.pieces) for call in self.calls)


class _Tool(NamedTuple):
    name: str
    schema: JsonObject


def turn_of(script: Script, body: JsonObject) -> Turn:
    """What a script says to a request, whatever protocol that speaks."""
    messages, tools = _messages(body), tuple(_offered_tools(body))
    if script.says == "tools" and tools and _answered_rounds(messages) < script.rounds:
        return Turn(calls=tuple(_calls(script, messages, tools)), finish="tool_calls")
    if script.says == "echo":
        return Turn(text=_tokens(_last_question(messages).split()), finish=script.finish)
    tokens = _tokens(islice(cycle(_WORDS), script.tokens))
    thought = len(tokens) // 2 if script.says == "think" else 0
    return Turn(thinking=tokens[:thought], text=tokens[thought:], finish=script.finish)


def _tokens(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{word} " for word in words)


def _messages(body: JsonObject) -> Sequence[JsonObject]:
    said: str | Sequence[JsonObject] = body.get("messages") or body.get("input") or []
    return [{"role": "user", "content": said}] if isinstance(said, str) else said


def _offered_tools(body: JsonObject) -> Iterator[_Tool]:
    tools: Sequence[JsonObject] = body.get("tools") or []
    for tool in tools:
        function: JsonObject = tool.get("function", tool)
        if "name" in function:
            yield _Tool(function["name"], function.get("parameters") or function.get("input_schema") or {})


def _calls(script: Script, messages: Sequence[JsonObject], tools: Sequence[_Tool]) -> Iterator[Call]:
    """Of one tool after the other; the next round goes on with the next tool."""
    first = _answered_rounds(messages)
    for number, tool in enumerate(islice(cycle(tools), first, first + script.parallel)):
        arguments = unquote_plus(script.args) or json.dumps(_sample(tool.schema))
        size = script.fragment_chars
        pieces = tuple(arguments[start : start + size] for start in range(0, len(arguments), size))
        yield Call(f"call_{len(messages)}_{number}", tool.name, pieces)


def _sample(schema: JsonObject, name: str = "") -> Any:  # noqa: ANN401  JSON of any kind
    """A value that satisfies the simple schemas that SDKs make for tools."""
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _sample(schema["anyOf"][0], name)
    if schema.get("type") == "object" or "properties" in schema:
        properties: JsonObject = schema.get("properties", {})
        return {key: _sample(properties[key], key) for key in schema.get("required") or properties}
    return _SAMPLES.get(schema.get("type", "string"), f"a {name or 'value'}")


def _blocks(message: JsonObject) -> Sequence[JsonObject]:
    """The content of a message where it is a list; the blocks of all protocols are objects."""
    content = message.get("content")
    return cast("Sequence[JsonObject]", content) if isinstance(content, list) else []


def _is_result(message: JsonObject) -> bool:
    return (
        message.get("role") == "tool"
        or message.get("type") == "function_call_output"
        or any(block.get("type") == "tool_result" for block in _blocks(message))
    )


def _answered_rounds(messages: Sequence[JsonObject]) -> int:
    """How many batches of tool results follow the last question of the user."""
    rounds, inside = 0, False
    for message in messages:
        result = _is_result(message)
        if message.get("role") == "user" and not result:
            rounds = 0
        rounds += result and not inside
        inside = result
    return rounds


def _last_question(messages: Sequence[JsonObject]) -> str:
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get("content")
            return (
                content if isinstance(content, str) else " ".join(block.get("text", "") for block in _blocks(message))
            )
    return ""
