"""What Ollama's objects say, of its chat and of its generation, as dicts and as its SDK's objects."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ollama import ChatResponse, GenerateResponse

from tailrace.adapters import from_ollama
from tailrace.events import (
    Event,
    FinishReason,
    ReasoningDelta,
    RunCompleted,
    RunFailed,
    TextDelta,
    ToolReady,
    ToolStarted,
    Usage,
)
from tests.unit.adapters.streams import STOPPED, as_objects, cuts, pieces_of, reduced, said, values


def answer(**message: object) -> dict[str, Any]:
    """An object of a chat."""
    return {"model": "m", "message": {"role": "assistant", "content": "", **message}, "done": False}


def generated(response: str, **fields: object) -> dict[str, Any]:
    """An object of a generation."""
    return {"model": "m", "response": response, "done": False, **fields}


def call(name: str, arguments: object, **fields: object) -> dict[str, Any]:
    """A call."""
    return {**fields, "function": {"name": name, "arguments": arguments}}


def last(reason: str | None = "stop", **fields: object) -> dict[str, Any]:
    """The last object of a chat."""
    return {**answer(), "done": True, "done_reason": reason, **fields}


ROWS: dict[str, tuple[list[Any], list[Event]]] = {
    "text": ([answer(content="a"), answer(content="b"), last()], [TextDelta("a"), TextDelta("b"), STOPPED]),
    "text with the end": ([{**answer(content="a"), "done": True}], [TextDelta("a"), STOPPED]),
    "thinking": ([answer(thinking="a"), answer(content="b"), last()], [ReasoningDelta("a"), TextDelta("b"), STOPPED]),
    "a generation": (
        [generated("", thinking="a"), generated("b"), generated("", done=True, done_reason="stop")],
        [ReasoningDelta("a"), TextDelta("b"), STOPPED],
    ),
    "a call with an id": (
        [answer(tool_calls=[call("f", {"a": 1}, id="c1")]), last()],
        [
            ToolStarted(call_id="c1", name="f"),
            ToolReady(call_id="c1", name="f", input={"a": 1}),
            RunCompleted(finish_reason="tool_calls"),
        ],
    ),
    "usage": (
        [last(prompt_eval_count=5, eval_count=7)],
        [Usage(input_tokens=5, output_tokens=7, provider="ollama", model="m"), STOPPED],
    ),
    "usage of a prompt that was read before": (
        [last(eval_count=7)],
        [Usage(output_tokens=7, provider="ollama", model="m"), STOPPED],
    ),
}


def as_it_is(value: object) -> object:
    """JSON objects as they are."""
    return value


@pytest.mark.parametrize("form", [as_it_is, as_objects], ids=["dicts", "objects"])
@pytest.mark.parametrize(("raw", "content"), ROWS.values(), ids=ROWS)
async def test_what_objects_say(raw: list[Any], content: list[Event], form: Callable[[object], object]) -> None:
    assert await said(from_ollama, *map(form, raw)) == [
        event if not isinstance(event, ToolReady) or form is as_it_is else as_ready(event) for event in content
    ]


def as_ready(event: ToolReady) -> Event:
    """With the arguments in the form in which they came."""
    return ToolReady(call_id=event.call_id, name=event.name, input=as_objects(event.input))


async def test_the_sdks_own_objects_are_read() -> None:
    parts = [ChatResponse(**answer(tool_calls=[call("f", {"a": 1})])), ChatResponse(**last(eval_count=2))]

    found = reduced(await said(from_ollama, *parts))

    assert [(tool.name, tool.input) for tool in found.tools] == [("f", {"a": 1})]
    assert found.usage == [Usage(output_tokens=2, provider="ollama", model="m")]
    told = await said(from_ollama, GenerateResponse(**generated("a")), GenerateResponse(**generated("", done=True)))
    assert told == [TextDelta("a"), STOPPED]


async def test_calls_get_ids_of_their_own() -> None:
    calls = [call("f", {}), call("f", {}), call("", None)]

    found = reduced(await said(from_ollama, answer(tool_calls=calls[:2]), answer(tool_calls=calls[2:]), last()))

    assert [(tool.name, tool.input) for tool in found.tools] == [("f", {}), ("f", {}), ("tool", {})]
    assert len({tool.call_id for tool in found.tools} - {None}) == 3


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [("stop", "stop"), ("length", "length"), ("load", "other"), (None, "stop")],
)
async def test_each_reason_to_be_done_has_a_word(reason: str | None, finish_reason: FinishReason) -> None:
    assert await said(from_ollama, last(reason)) == [RunCompleted(finish_reason=finish_reason)]


async def test_an_answer_that_is_not_done_is_truncated() -> None:
    content = await said(from_ollama, answer(content="a"))

    failure = content[-1]
    assert isinstance(failure, RunFailed)
    assert (content[0], failure.code) == (TextDelta("a"), "provider_truncated")


async def test_an_error_in_the_stream_is_a_failed_run_in_other_words() -> None:
    failure = (await said(from_ollama, answer(content="a"), {"error": "secret"}))[-1]

    assert isinstance(failure, RunFailed)
    assert failure.code == "provider_error"
    assert "secret" not in str(failure)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), cuts, values)
async def test_any_fragments_are_the_same_text(words: str, places: set[int], value: dict[str, Any]) -> None:
    pieces = [answer(content=piece) for piece in pieces_of(words, places)]

    found = reduced(await said(from_ollama, *pieces, answer(tool_calls=[call("f", value)]), last()))

    assert found.text == words
    assert [tool.input for tool in found.tools] == [value]
