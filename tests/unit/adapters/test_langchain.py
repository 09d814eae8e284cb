"""What the chunks of LangChain's models and LangGraph's graphs say, in every form in which their streams have them."""

import asyncio
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.errors import GraphRecursionError
from langgraph.graph import START, MessagesState, StateGraph  # pyright: ignore[reportMissingTypeStubs]
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Interrupt, interrupt

from tailrace import events
from tailrace.adapters import from_langchain
from tailrace.adapters.langchain import GraphTurn
from tailrace.events import (
    Data,
    Event,
    FinishReason,
    ReasoningDelta,
    RunCompleted,
    RunFailed,
    TextDelta,
    ToolArgsDelta,
    ToolError,
    ToolOutput,
    ToolReady,
    ToolStarted,
    Usage,
)
from tests.unit.adapters.streams import STOPPED, ProviderScript, read, reduced, said

PROVIDER = {"model_provider": "openai"}


def chunk(content: Any = "", **fields: Any) -> AIMessageChunk:  # noqa: ANN401  text or blocks
    """A piece of an answer."""
    told: dict[str, Any] = {"id": "m1", "response_metadata": PROVIDER, **fields}
    return AIMessageChunk(content=content, **told)


def last(reason: str = "stop", **fields: Any) -> list[AIMessageChunk]:  # noqa: ANN401  of a chunk
    """The end of an answer."""
    return [
        chunk(response_metadata=PROVIDER | {"finish_reason": reason, "model_name": "m"}, **fields),
        AIMessageChunk(content="", id=fields.get("id", "m1"), chunk_position="last"),
    ]


def call(args: str | None, index: int = 0, call_id: str | None = None, name: str | None = None) -> AIMessageChunk:
    """A piece of a call."""
    return chunk(tool_call_chunks=[{"name": name, "args": args, "id": call_id, "index": index}])


def gave(content: str, call_id: str = "t1", **fields: Any) -> ToolMessage:  # noqa: ANN401  of a message
    """What a tool gave."""
    return ToolMessage(content=content, tool_call_id=call_id, name="f", **{"id": f"r_{call_id}", **fields})


AGENT = {"langgraph_node": "agent"}
TOOLS = {"langgraph_node": "tools"}
WHOLE = AIMessage("a", id="m9", tool_calls=[{"name": "f", "args": {"a": 1}, "id": "t1"}])

ROWS: dict[str, tuple[list[Any], list[Event]]] = {
    "text": ([chunk("a"), chunk("b"), *last()], [TextDelta("a"), TextDelta("b"), STOPPED]),
    "blocks": (
        [chunk(["a", {"type": "text", "text": "b"}, {"type": "new"}]), chunk([]), *last()],
        [TextDelta("a"), TextDelta("b"), STOPPED],
    ),
    "reasoning, as many have it": (
        [
            chunk([{"type": "thinking", "thinking": "h"}]),
            chunk([{"type": "reasoning", "reasoning": "m"}]),
            chunk([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "!"}]}]),
            chunk(additional_kwargs={"reasoning_content": "?"}),
            *last(),
        ],
        [ReasoningDelta("h"), ReasoningDelta("m"), ReasoningDelta("!"), ReasoningDelta("?"), STOPPED],
    ),
    "parallel calls": (
        [
            call("", 0, "t1", "f"),
            call('{"a"', 0),
            call("", 1, "t2", "g"),
            call(":1}", 0),
            call("{}", 1),
            *last("tool_calls"),
        ],
        [
            ToolStarted(call_id="t1", name="f"),
            ToolArgsDelta('{"a"', call_id="t1"),
            ToolStarted(call_id="t2", name="g"),
            ToolArgsDelta(":1}", call_id="t1"),
            ToolArgsDelta("{}", call_id="t2"),
            ToolReady(call_id="t1", name="f", input={"a": 1}),
            ToolReady(call_id="t2", name="g", input={}),
            RunCompleted(finish_reason="tool_calls"),
        ],
    ),
    "tokens, of which chunks count what they add": (
        [
            chunk("a", usage_metadata={"input_tokens": 5, "output_tokens": 0, "total_tokens": 5}),
            *last(
                usage_metadata={
                    "input_tokens": 0,
                    "output_tokens": 2,
                    "total_tokens": 2,
                    "output_token_details": {"reasoning": 1},
                }
            ),
        ],
        [
            TextDelta("a"),
            Usage(input_tokens=5, output_tokens=2, reasoning_tokens=1, provider="openai", model="m"),
            STOPPED,
        ],
    ),
    "an answer at once": (
        [WHOLE],
        [
            TextDelta("a"),
            ToolStarted(call_id="t1", name="f"),
            ToolReady(call_id="t1", name="f", input={"a": 1}),
            STOPPED,
        ],
    ),
    "a graph": (
        [
            (HumanMessage("?"), AGENT),
            (call("{}", 0, "t1", "f"), AGENT),
            *((piece, AGENT) for piece in last("tool_calls")),
            (gave('{"b": 2}'), TOOLS),
            (chunk("a", id="m2"), AGENT),
            *((piece, AGENT) for piece in last(id="m2")),
        ],
        [
            ToolStarted(call_id="t1", name="f"),
            ToolArgsDelta("{}", call_id="t1"),
            ToolReady(call_id="t1", name="f", input={}),
            ToolOutput(call_id="t1", output={"b": 2}),
            TextDelta("a"),
            STOPPED,
        ],
    ),
    "several modes": (
        [
            ("messages", (chunk("a"), AGENT)),
            ("custom", events.Status("s")),
            ("custom", {"found": 5}),
            *(("messages", (piece, AGENT)) for piece in last()),
            ("updates", {"agent": {"messages": [AIMessage("a", id="m1")]}}),
            ("values", {"messages": [AIMessage("a", id="m1")]}),
            ("debug", {}),
        ],
        [TextDelta("a"), events.Status("s"), Data("custom", {"found": 5}), STOPPED],
    ),
    "a subgraph": (
        [((), (chunk("a"), AGENT)), (("sub:1",), "messages", (chunk("b"), AGENT)), *(((), (c, AGENT)) for c in last())],
        [TextDelta("a"), TextDelta("b"), STOPPED],
    ),
    "the second version": (
        [{"type": "messages", "ns": (), "data": (piece, AGENT)} for piece in (chunk("a"), *last())],
        [TextDelta("a"), STOPPED],
    ),
    "answers that were not streamed": (
        [{"agent": {"messages": [WHOLE]}}, {"tools": {"messages": [gave("b")]}}, {"nothing": None}],
        [
            TextDelta("a"),
            ToolStarted(call_id="t1", name="f"),
            ToolReady(call_id="t1", name="f", input={"a": 1}),
            ToolOutput(call_id="t1", output="b"),
            STOPPED,
        ],
    ),
    "a graph that waits": (
        [("updates", {"__interrupt__": (Interrupt(value="sure?", id="i1"),)}), ("values", {"__interrupt__": ()})],
        [events.RunPaused(interrupts=[events.Interrupt(id="i1", kind="input", message="sure?")])],
    ),
}


@pytest.mark.parametrize(("raw", "content"), ROWS.values(), ids=ROWS)
async def test_what_chunks_say(raw: list[Any], content: list[Event]) -> None:
    assert await said(from_langchain, *raw) == content


@pytest.mark.parametrize(("raw", "content"), ROWS.values(), ids=ROWS)
def test_what_it_reads_it_also_knows(raw: list[Any], content: list[Event]) -> None:
    assert content
    assert GraphTurn.knows(raw[0])


@pytest.mark.parametrize("item", ["text", {"event": "x"}, {"a": 1}, ("a", "b"), b"x", None, events.Status("s")])
def test_what_is_no_chunk_it_does_not_know(item: object) -> None:
    assert not GraphTurn.knows(item)


async def test_what_a_tool_raised_is_not_told() -> None:
    content = await said(from_langchain, (gave("Error: secret", status="error"), TOOLS))

    error = content[0]
    assert isinstance(error, ToolError)
    assert (error.call_id, error.phase) == ("t1", "execution")
    assert "secret" not in str(content)


# Complete or not -----------------------------------------------------------------------------------------------------

LAST = AIMessageChunk(content="", id="m1", chunk_position="last")


@pytest.mark.parametrize(
    ("metadata", "finish_reason"),
    [
        ({"finish_reason": "stop"}, "stop"),
        ({"finish_reason": "STOP"}, "stop"),
        ({"finish_reason": "length"}, "length"),
        ({"finish_reason": "content_filter"}, "content_filter"),
        ({"stop_reason": "end_turn"}, "stop"),
        ({"stop_reason": "max_tokens"}, "length"),
        ({"done_reason": "stop"}, "stop"),
        ({"status": "completed"}, "stop"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"finish_reason": "new"}, "other"),
    ],
)
async def test_each_reason_to_stop_has_a_word(metadata: dict[str, Any], finish_reason: FinishReason) -> None:
    content = await said(from_langchain, chunk("a", response_metadata=PROVIDER | metadata), LAST)

    assert content == [TextDelta("a"), RunCompleted(finish_reason=finish_reason)]


@pytest.mark.parametrize("raw", [[chunk("a"), LAST], [chunk("a")], [(chunk("a"), AGENT), (LAST, AGENT)]])
async def test_an_answer_without_a_reason_was_cut_off(raw: list[Any]) -> None:
    content = await said(from_langchain, *raw)

    assert content[0] == TextDelta("a")
    assert isinstance(content[-1], RunFailed)
    assert content[-1].code == "provider_truncated"


async def test_a_model_that_names_no_provider_gives_no_reasons() -> None:
    content = await said(from_langchain, AIMessageChunk(content="a", id="m1"), LAST)

    assert content == [TextDelta("a"), STOPPED]


async def test_only_the_last_answer_of_a_graph_has_to_be_whole() -> None:
    cut = [(chunk("a"), AGENT), (LAST, AGENT)]
    whole = [(chunk("b", id="m2"), AGENT), *((piece, AGENT) for piece in last(id="m2"))]

    assert (await said(from_langchain, *cut, *whole))[-1] == STOPPED


async def test_a_graph_that_runs_in_a_circle_reached_a_limit() -> None:
    failure = (await said(from_langchain, GraphRecursionError("Recursion limit of 25 reached")))[-1]

    assert isinstance(failure, RunFailed)
    assert (failure.code, failure.message) == ("limit", "The answer reached its limit of steps.")


# Alive or not --------------------------------------------------------------------------------------------------------


async def test_a_tool_takes_what_it_takes() -> None:
    async def work() -> None:
        await asyncio.sleep(0.05)

    before = [(call("{}", 0, "t1", "f"), AGENT), *((piece, AGENT) for piece in last("tool_calls"))]
    after = [(gave("b"), TOOLS), (chunk("a", id="m2"), AGENT), *((piece, AGENT) for piece in last(id="m2"))]
    script = ProviderScript(*before, work, *after)

    content = await read(from_langchain(script, first_delta_seconds=0.02, idle_seconds=0.02))

    assert content[-1] == STOPPED


async def test_a_model_that_says_nothing_is_given_up() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    content = await read(from_langchain(ProviderScript((chunk("a"), AGENT), forever), idle_seconds=0.01))

    assert isinstance(content[-1], RunFailed)
    assert content[-1].code == "provider_timeout"


# The real ones -------------------------------------------------------------------------------------------------------


async def test_a_real_model_is_read_and_closed() -> None:
    model = GenericFakeChatModel(messages=iter([AIMessage("hello you")]))

    content = await read(from_langchain(model.astream("?")))

    assert content == [TextDelta("hello"), TextDelta(" "), TextDelta("you"), STOPPED]


@tool
async def find(what: str) -> dict[str, str]:
    """Find it."""
    get_stream_writer()(events.Status("finding"))
    return {"found": what}


@tool
def ask() -> str:
    """Ask a human."""
    return str(interrupt("sure?"))


def graph(name: str) -> Any:  # noqa: ANN401  a compiled graph is of four parameters
    """An agent that calls a tool and then answers."""
    calls = AIMessage("", tool_calls=[{"name": name, "args": {"what": "x"} if name == "find" else {}, "id": "t1"}])
    answers = iter([calls, AIMessage("done")])

    async def answer(_: MessagesState) -> dict[str, list[AIMessage]]:
        await asyncio.sleep(0)
        return {"messages": [next(answers)]}

    built: Any = StateGraph(MessagesState)
    built.add_node("agent", answer)
    built.add_node("tools", ToolNode([find, ask]))
    built.add_edge(START, "agent")
    built.add_conditional_edges("agent", tools_condition)
    built.add_edge("tools", "agent")
    return built.compile()


@pytest.mark.parametrize("modes", [["messages", "custom"], ["updates", "custom"], ["messages", "custom", "updates"]])
async def test_a_real_graph(modes: list[str]) -> None:
    stream = graph("find").astream({"messages": [("user", "?")]}, stream_mode=modes)

    content = await read(from_langchain(stream))

    got = reduced(content)
    assert (got.status, got.text) == ("completed", "done")
    assert [(call.input, call.output) for call in got.tools] == [({"what": "x"}, {"found": "x"})]
    assert events.Status("finding") in content


async def test_a_real_graph_that_asks_a_human_is_paused() -> None:
    stream = graph("ask").astream({"messages": [("user", "?")]}, stream_mode=["messages", "updates"])

    paused = (await read(from_langchain(stream)))[-1]

    assert isinstance(paused, events.RunPaused)
    assert [interrupt.message for interrupt in paused.interrupts] == ["sure?"]
