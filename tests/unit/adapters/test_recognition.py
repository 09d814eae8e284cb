"""Whose stream, and whose chunk: told by shape; and what several answers in one source amount to."""

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import nullcontext
from types import FunctionType, ModuleType
from typing import Any

import anthropic
import groq
import ollama
import openai
import pytest
from langchain_core.messages import AIMessageChunk
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from tailrace.adapters import ProviderStream, from_openai
from tailrace.adapters.anthropic import MessageTurn
from tailrace.adapters.contract import Turn
from tailrace.adapters.ollama import OllamaTurn
from tailrace.adapters.openai import CompletionTurn
from tailrace.adapters.openai_agents import RunnerTurn
from tailrace.adapters.pydantic_ai import AgentTurn
from tailrace.adapters.recognition import READERS, Completions, is_framework_run, provider_stream
from tailrace.adapters.responses import ResponseTurn
from tailrace.errors import SourceInvalidError
from tailrace.events import Event, FinishReason, RunCompleted, TextDelta, ToolReady, Usage
from tests.unit.adapters.streams import STOPPED, ProviderScript, as_objects, chunk, read

STOP = chunk({}, finish_reason="stop")
BEGUN: dict[str, Any] = {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 5}}}
STOPS: dict[str, Any] = {"type": "message_stop"}

KNOWN: list[tuple[dict[str, Any], type[Turn]]] = [
    (chunk({"content": "a"}), CompletionTurn),
    ({"id": "", "object": "", "choices": [], "prompt_filter_results": []}, CompletionTurn),
    ({"choices": []}, CompletionTurn),
    ({"type": "response.created", "response": {}}, ResponseTurn),
    ({"type": "response.something.new"}, ResponseTurn),
    ({"type": "error", "sequence_number": 1, "code": None, "message": "m"}, ResponseTurn),
    (BEGUN, MessageTurn),
    ({"type": "ping"}, MessageTurn),
    ({"type": "content_block_something"}, MessageTurn),
    ({"type": "error", "error": {"type": "overloaded_error"}}, MessageTurn),
    ({"model": "m", "message": {"content": "a"}, "done": False}, OllamaTurn),
    ({"model": "m", "response": "a", "done": True}, OllamaTurn),
    ({"event_kind": "part_start", "index": 0, "part": {}}, AgentTurn),
    ({"type": "raw_response_event", "data": {"type": "response.created"}}, RunnerTurn),
    ({"type": "agent_updated_stream_event", "new_agent": {"name": "a"}}, RunnerTurn),
]
UNKNOWN: list[object] = [
    {"text": "a"},
    {"type": "text", "text": "a"},
    {"type": "error", "message": "mine"},
    {"type": "error", "error": "mine"},
    {"object": "chat.completion", "choices": []},
    {"object": "text_completion", "choices": []},
    {"choices": "a"},
    {"done": True},
    {"message": "a", "done": "no"},
    5,
    None,
    b"data: {}",
    ["a"],
    object(),
]


def turn_for(item: object) -> type[Turn] | None:
    return next((reader.turn for reader in READERS if reader.turn.knows(item)), None)


@pytest.mark.parametrize(("item", "turn"), KNOWN)
def test_a_chunk_is_known_by_its_shape(item: dict[str, Any], turn: type[Turn]) -> None:
    assert turn_for(item) is turn
    assert turn_for(as_objects(item)) is turn


@pytest.mark.parametrize("item", UNKNOWN)
def test_what_has_no_such_shape_is_nobodys(item: object) -> None:
    assert turn_for(item) is None
    assert Completions().read(item) is None


def test_what_the_helper_of_anthropic_adds_is_known_as_its_object_only() -> None:
    added = {"type": "text", "text": "a", "snapshot": "a"}

    assert turn_for(as_objects(added)) is MessageTurn
    assert turn_for(added) is None


# Streams


def in_module(name: str, function: Any) -> Any:  # noqa: ANN401  the same function, of another module
    return FunctionType(function.__code__, {**function.__globals__, "__name__": name}, closure=function.__closure__)


async def async_answer() -> AsyncGenerator[object]:
    yield chunk({"content": "a"})
    yield STOP


def answer() -> Generator[object]:
    yield chunk({"content": "a"})
    yield STOP


def stream_of(module: ModuleType, name: str) -> Any:  # noqa: ANN401  as if its request had been made
    return object.__new__(getattr(module, name))


@pytest.mark.parametrize("module", [openai, anthropic, groq])
@pytest.mark.parametrize("name", ["Stream", "AsyncStream"])
def test_an_sdks_stream_is_known_by_its_class(module: ModuleType, name: str) -> None:
    assert isinstance(provider_stream(stream_of(module, name)), ProviderStream)


@pytest.mark.parametrize("function", [answer, async_answer])
async def test_an_sdks_generator_is_known_by_its_code(function: Callable[[], object]) -> None:
    generator = in_module(ollama.Client.__module__, function)()

    stream = provider_stream(generator)

    assert stream is not None
    assert await read(stream) == [TextDelta("a"), STOPPED]


async def test_generators_of_the_application_are_its_own() -> None:
    generators = [answer(), async_answer(), in_module("openai_tools", async_answer)(), in_module("agents", answer)()]

    assert [provider_stream(generator) for generator in generators] == [None] * 4
    for generator in generators:
        assert provider_stream(from_openai(generator)) is None


async def test_a_run_of_a_framework_is_no_stream_but_has_one() -> None:
    run = Agent(TestModel(custom_output_text="a")).run_stream_events("?")

    stream = provider_stream(run)

    assert is_framework_run(run)
    assert stream is not None
    assert (await read(stream))[-1] == STOPPED


@pytest.mark.parametrize("source", [answer, ProviderScript(), nullcontext(ProviderScript()), "text", 5])
def test_what_is_no_frameworks_is_no_run_of_one(source: object) -> None:
    assert not is_framework_run(source)


async def test_chunks_of_a_graph_may_come_among_other_things() -> None:
    completions = Completions()
    piece = AIMessageChunk(content="a", id="m1", response_metadata={"model_provider": "openai"})
    reason = AIMessageChunk(content="", id="m1", response_metadata={"finish_reason": "stop"})

    told = [(completions.read((one, {"langgraph_node": "n"})), completions.broken) for one in (piece, reason)]

    assert told == [([TextDelta("a")], True), ([], False)]
    assert completions.close() == []
    assert completions.ending == STOPPED


async def test_a_stream_of_something_else_is_named() -> None:
    async def numbers() -> AsyncGenerator[object]:
        yield 5

    stream = provider_stream(in_module("openai._streaming", FunctionType(numbers.__code__, globals()))())

    assert stream is not None
    with pytest.raises(SourceInvalidError, match="got int, expected a chunk of a model's answer"):
        await read(stream)


async def test_an_sdks_stream_without_a_chunk_is_truncated() -> None:
    (failure,) = await read(ProviderStream(ProviderScript(), lambda _: CompletionTurn()))

    assert getattr(failure, "code", None) == "provider_truncated"


# Several answers in one source


def taken(*chunks: object) -> tuple[list[Event], Completions]:
    """What the chunks say, and what is left to say at the end."""
    completions = Completions()
    content: list[Event] = []
    for item in chunks:
        said = completions.read(item)
        assert said is not None
        content += said
    return [*content, *completions.close()], completions


def counted(used: int, **fields: object) -> dict[str, Any]:
    return {"model": "m", "choices": [], "usage": {"prompt_tokens": used, "completion_tokens": 1}, **fields}


def test_an_answer_has_no_ending_of_its_own() -> None:
    content, completions = taken(chunk({"content": "a"}), STOP, counted(5))

    assert content == [TextDelta("a"), Usage(input_tokens=5, output_tokens=1, model="m")]
    assert (completions.ending, completions.broken) == (STOPPED, False)


def test_an_answer_without_its_end_is_broken_and_its_count_an_estimate() -> None:
    content, completions = taken(chunk({"content": "a"}) | {"usage": {"prompt_tokens": 5}})

    assert content == [TextDelta("a"), Usage(input_tokens=5, model="m", estimated=True)]
    assert completions.broken


def test_counts_are_those_of_all_answers_of_a_model() -> None:
    content, _ = taken(
        chunk({"content": "a"}), STOP, counted(5), chunk({"content": "b"}), STOP, counted(7), chunk({"content": "c"})
    )

    assert content == [
        TextDelta("a"),
        Usage(input_tokens=5, output_tokens=1, model="m"),
        TextDelta("b"),
        Usage(input_tokens=12, output_tokens=2, model="m"),
        TextDelta("c"),
    ]


def test_answers_of_several_providers_are_told_apart() -> None:
    done = {"model": "n", "message": {"content": "c"}, "done": True, "eval_count": 3}
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "b"}}

    content, completions = taken(chunk({"content": "a"}), STOP, BEGUN, text, STOPS, done)

    assert [event.delta for event in content if isinstance(event, TextDelta)] == ["a", "b", "c"]
    usages = [(event.provider, event.model, event.estimated) for event in content if isinstance(event, Usage)]
    assert usages == [("anthropic", "m", True), ("anthropic", "m", None), ("ollama", "n", None)]
    assert not completions.broken


def test_a_message_that_begins_ends_the_one_before_even_if_that_is_broken() -> None:
    _, completions = taken(BEGUN, BEGUN, STOPS)

    assert not completions.broken
    assert completions.ending == RunCompleted()


SAME_ANSWER: list[dict[str, Any]] = [
    counted(5),
    counted(5, id="another"),
    chunk({"role": "assistant", "content": ""}) | {"id": "c1"},
    chunk({"role": "assistant", "content": ""}),
]
NEXT_ANSWER: list[dict[str, Any]] = [
    chunk({"content": "b"}),
    chunk({"content": "b"}) | {"id": "c1"},
    chunk({"role": "assistant", "content": ""}) | {"id": "c2"},
    chunk({"tool_calls": [{"index": 0, "id": "t1", "function": {"name": "f", "arguments": "{}"}}]}),
]


@pytest.mark.parametrize(
    ("following", "continues"), [*((item, True) for item in SAME_ANSWER), *((item, False) for item in NEXT_ANSWER)]
)
def test_only_counts_follow_the_end_of_an_answer(following: dict[str, Any], *, continues: bool) -> None:
    turn = CompletionTurn()
    list(turn.read(STOP | {"id": "c1"}))

    assert turn.continues(following) is continues


@pytest.mark.parametrize(("answered", "reason"), [(False, "tool_calls"), (True, None)])
def test_calls_that_were_answered_are_not_what_a_run_ends_in(*, answered: bool, reason: FinishReason | None) -> None:
    call = chunk({"tool_calls": [{"index": 0, "id": "t1", "function": {"name": "f", "arguments": "{}"}}]})
    completions = Completions()
    said = [*(completions.read(call) or ()), *(completions.read(chunk({}, finish_reason="tool_calls")) or ())]

    completions.answered = answered
    completions.close()

    assert isinstance(said[-1], ToolReady)
    assert completions.ending == RunCompleted(finish_reason=reason)
