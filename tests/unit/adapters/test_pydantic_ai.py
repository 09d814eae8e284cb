"""What the events of an agent's run say, as Pydantic AI makes them and as anything of their shape."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic_ai import Agent, ApprovalRequired, DeferredToolRequests, ModelRetry, RunContext, UsageLimits
from pydantic_ai.exceptions import (
    ContentFilterError,
    FallbackExceptionGroup,
    ModelAPIError,
    ModelHTTPError,
    ModelRateLimitError,
    ModelTimeoutError,
    RunTimedOut,
    UnexpectedModelBehavior,
    UserError,
)
from pydantic_ai.messages import CustomEvent, ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel
from pydantic_ai.models.test import TestModel

from tailrace import events
from tailrace.adapters import from_pydantic_ai
from tailrace.events import (
    Event,
    FinishReason,
    ReasoningDelta,
    ReasoningDone,
    RunCompleted,
    RunFailed,
    TextDelta,
    TextDone,
    ToolArgsDelta,
    ToolError,
    ToolOutput,
    ToolReady,
    ToolStarted,
    Usage,
)
from tests.unit.adapters.streams import STOPPED, ProviderScript, read, reduced, said


def start(kind: str, index: int = 0, **fields: object) -> dict[str, Any]:
    """A part begins."""
    return {"event_kind": "part_start", "index": index, "part": {"part_kind": kind, **fields}}


def delta(kind: str, index: int = 0, **fields: object) -> dict[str, Any]:
    """A part goes on."""
    return {"event_kind": "part_delta", "index": index, "delta": {"part_delta_kind": kind, **fields}}


def end(kind: str, index: int = 0, **fields: object) -> dict[str, Any]:
    """A part is complete."""
    return {"event_kind": "part_end", "index": index, "part": {"part_kind": kind, **fields}}


def called(kind: str = "function_tool_call", **fields: object) -> dict[str, Any]:
    """A tool starts."""
    return {"event_kind": kind, "part": {"part_kind": "tool-call", **fields}}


def gave(kind: str = "function_tool_result", **fields: object) -> dict[str, Any]:
    """A tool is done."""
    return {"event_kind": kind, "part": {"part_kind": "tool-return", **fields}}


def response(**fields: object) -> dict[str, Any]:
    """An answer of a model."""
    return {"kind": "response", "finish_reason": "stop", "provider_name": "openai", **fields}


def result(*responses: dict[str, Any], output: object = "a") -> dict[str, Any]:
    """The run is over."""
    told = SimpleNamespace(output=output, new_messages=lambda: [{"kind": "request"}, *responses])
    return {"event_kind": "agent_run_result", "result": told}


OVER = result(response())
TEXT = [start("text", content="a"), end("text", content="a")]
CALL = start("tool-call", tool_call_id="t1", tool_name="f", args='{"a"')
IDS: dict[str, Any] = {"tool_call_id": "t1", "tool_name": "f"}

ROWS: dict[str, tuple[list[Any], list[Event]]] = {
    "text, its first piece in its start": (
        [start("text", content="a"), delta("text", content_delta="b"), end("text", content="ab"), OVER],
        [TextDelta("a"), TextDelta("b"), TextDone(), STOPPED],
    ),
    "text without any": ([start("text", content=""), end("text", content=""), OVER], [STOPPED]),
    "citations": (
        [start("text", content="a"), end("text", content="a", citations=[{"url": "u"}]), OVER],
        [TextDelta("a"), TextDone(citations=[{"url": "u"}]), STOPPED],
    ),
    "thinking": (
        [
            start("thinking", content="h"),
            delta("thinking", content_delta="m"),
            delta("thinking", content_delta=None, signature_delta="s"),
            end("thinking", content="hm", signature="s"),
            *TEXT,
            OVER,
        ],
        [ReasoningDelta("h"), ReasoningDelta("m"), ReasoningDone(signature="s"), TextDelta("a"), TextDone(), STOPPED],
    ),
    "thinking that is redacted": (
        [start("thinking", content=""), end("thinking", content="", id="redacted_thinking", signature="x"), OVER],
        [ReasoningDone(signature="x", redacted=True), STOPPED],
    ),
    "calls whose fragments come by turns": (
        [
            CALL,
            end("tool-call", **IDS, args='{"a"'),
            start("tool-call", 1, tool_call_id="t2", tool_name="g", args=None),
            delta("tool_call", 0, args_delta=":1}"),
            delta("tool_call", 1, args_delta="{}"),
            end("tool-call", 1, tool_call_id="t2", tool_name="g", args="{}"),
            called(**IDS, args='{"a":1}'),
            called(tool_call_id="t2", tool_name="g", args="{}"),
            gave(tool_call_id="t2", outcome="success", content="second"),
            gave(tool_call_id="t1", outcome="success", content={"b": 2}),
            *TEXT,
            OVER,
        ],
        [
            ToolStarted(call_id="t1", name="f"),
            ToolArgsDelta('{"a"', call_id="t1"),
            ToolStarted(call_id="t2", name="g"),
            ToolArgsDelta(":1}", call_id="t1"),
            ToolArgsDelta("{}", call_id="t2"),
            ToolReady(call_id="t1", name="f", input={"a": 1}),
            ToolReady(call_id="t2", name="g", input={}),
            ToolOutput(call_id="t2", output="second"),
            ToolOutput(call_id="t1", output={"b": 2}),
            TextDelta("a"),
            TextDone(),
            STOPPED,
        ],
    ),
    "arguments that come as a value": (
        [start("tool-call", **IDS, args={"a": 1}), called(**IDS, args={"a": 1}), OVER],
        [
            ToolStarted(call_id="t1", name="f"),
            ToolArgsDelta('{"a":1}', call_id="t1"),
            ToolReady(call_id="t1", name="f", input={"a": 1}),
            STOPPED,
        ],
    ),
    "a call of an earlier run, approved since": (
        [called(**IDS, args="{}"), gave(tool_call_id="t1", outcome="success", content=None), OVER],
        [
            ToolStarted(call_id="t1", name="f"),
            ToolReady(call_id="t1", name="f", input={}),
            ToolOutput(call_id="t1", output=None),
            STOPPED,
        ],
    ),
    "an output that is a call": (
        [CALL, called("output_tool_call", **IDS, args='{"a":1}'), gave("output_tool_result", **IDS), OVER],
        [
            ToolStarted(call_id="t1", name="f"),
            ToolArgsDelta('{"a"', call_id="t1"),
            ToolReady(call_id="t1", name="f", input={"a": 1}),
            ToolOutput(call_id="t1", output=None),
            STOPPED,
        ],
    ),
    "a call that the provider executes": (
        [
            start("builtin-tool-call", **IDS, args=None),
            delta("tool_call", args_delta='{"q":"x"}'),
            end("builtin-tool-call", **IDS, args='{"q":"x"}'),
            start("builtin-tool-return", 1, **IDS, content=[]),
            end("builtin-tool-return", 1, **IDS, outcome="success", content=[{"url": "u"}]),
            OVER,
        ],
        [
            ToolStarted(call_id="t1", name="f", executor="provider"),
            ToolArgsDelta('{"q":"x"}', call_id="t1"),
            ToolReady(call_id="t1", name="f", input={"q": "x"}),
            ToolOutput(call_id="t1", output=[{"url": "u"}]),
            STOPPED,
        ],
    ),
    "events of ours": (
        [events.Status("s"), {"event_kind": "custom", "name": "x", "data": events.Status("t")}, OVER],
        [events.Status("s"), events.Status("t"), STOPPED],
    ),
    "what is new": ([{"event_kind": "new"}, start("new"), delta("new"), end("new"), OVER], [STOPPED]),
    "tokens by model, over all answers": (
        [
            result(
                response(model_name="m", usage={"input_tokens": 5, "output_tokens": 1, "cache_read_tokens": 2}),
                response(model_name="n", usage={"input_tokens": 1, "output_tokens": 1}),
                response(model_name="m", usage={"input_tokens": 6, "output_tokens": 2, "output_reasoning_tokens": 1}),
            )
        ],
        [
            Usage(
                input_tokens=11,
                output_tokens=3,
                reasoning_tokens=1,
                cached_input_tokens=2,
                provider="openai",
                model="m",
            ),
            Usage(input_tokens=1, output_tokens=1, provider="openai", model="n"),
            STOPPED,
        ],
    ),
    "an output that is no text": (
        [result(response(finish_reason="tool_call"), output={"a": 1})],
        [RunCompleted(finish_reason="stop", result={"a": 1})],
    ),
}


@pytest.mark.parametrize(("raw", "content"), ROWS.values(), ids=ROWS)
async def test_what_events_say(raw: list[Any], content: list[Event]) -> None:
    assert await said(from_pydantic_ai, *raw) == content


@pytest.mark.parametrize(
    ("fields", "code", "phase"),
    [
        ({"outcome": "failed"}, "tool_failed", "execution"),
        ({"outcome": "interrupted"}, "tool_interrupted", "execution"),
        ({"outcome": "denied"}, "tool_denied", "denied"),
        ({"outcome": "retried", "retry": {"cause": "model_retry"}}, "tool_retried", "execution"),
        ({"outcome": "retried", "retry": {"cause": "validation_error"}}, "input_invalid", "input"),
        ({"outcome": "retried", "retry": {"cause": "unknown_tool"}}, "input_invalid", "input"),
        ({"part_kind": "retry-prompt"}, "tool_retried", "execution"),
    ],
)
async def test_a_call_that_gave_nothing_is_an_error_in_other_words(
    fields: dict[str, Any], code: str, phase: str
) -> None:
    content = await said(from_pydantic_ai, CALL, called(**IDS, args="{}"), gave(**IDS, content="secret", **fields))

    error = content[-2]
    assert isinstance(error, ToolError)
    assert (error.call_id, error.code, error.phase) == ("t1", code, phase)
    assert "secret" not in str(content)


# Complete or not -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("error", "other")],
)
async def test_each_reason_to_stop_has_a_word(reason: str, finish_reason: FinishReason) -> None:
    content = await said(from_pydantic_ai, *TEXT, result(response(finish_reason=reason)))

    assert content[-1] == RunCompleted(finish_reason=finish_reason)


TIMED = {"timestamp": 5}


@pytest.mark.parametrize(
    ("last", "is_cut"),
    [
        (response(finish_reason=None), True),
        (response(finish_reason="stop", provider_details=TIMED), True),
        (response(finish_reason="stop", provider_details=TIMED | {"finish_reason": "stop"}), False),
        (response(finish_reason="content_filter", provider_details=TIMED | {"refusal": "no"}), False),
        (response(finish_reason="stop", provider_details=None), False),
        (response(finish_reason=None, provider_name=None), False),
        (response(finish_reason=None, provider_name="test"), False),
    ],
)
async def test_an_answer_that_was_cut_off_shows_by_its_reason(last: dict[str, Any], is_cut: bool) -> None:
    content = await said(from_pydantic_ai, *TEXT, result(last))

    assert content[0] == TextDelta("a")
    assert (isinstance(content[-1], RunFailed) and content[-1].code == "provider_truncated") == is_cut


async def test_what_an_answer_that_was_cut_off_has_used_is_an_estimate() -> None:
    content = await said(from_pydantic_ai, result(response(finish_reason=None, usage={"input_tokens": 5})))

    assert content[0] == Usage(input_tokens=5, output_tokens=0, provider="openai", estimated=True)


async def test_only_the_last_answer_has_to_be_whole() -> None:
    content = await said(from_pydantic_ai, *TEXT, result(response(finish_reason=None), response()))

    assert content[-1] == STOPPED


async def test_a_run_without_its_result_is_truncated() -> None:
    failure = (await said(from_pydantic_ai, *TEXT))[-1]

    assert isinstance(failure, RunFailed)
    assert failure.code == "provider_truncated"


# Alive or not --------------------------------------------------------------------------------------------------------


async def test_a_tool_takes_what_it_takes() -> None:
    going_on = asyncio.Event()

    async def work() -> None:
        # Longer than any bound, told by the loop's own clock.
        await asyncio.sleep(0.05)
        going_on.set()

    script = ProviderScript(CALL, called(**IDS, args="{}"), work, gave(**IDS), *TEXT, OVER)
    content = await read(from_pydantic_ai(script, first_delta_seconds=0.02, idle_seconds=0.02))

    assert going_on.is_set()
    assert content[-1] == STOPPED


@pytest.mark.parametrize("heard", [[], [CALL], [called(**IDS, args="{}"), gave(**IDS)], TEXT])
async def test_a_model_that_says_nothing_is_given_up(heard: list[Any]) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    content = await read(from_pydantic_ai(ProviderScript(*heard, forever), first_delta_seconds=0.02, idle_seconds=0.01))

    failure = content[-1]
    assert isinstance(failure, RunFailed)
    assert failure.code == "provider_timeout"


# What it raises ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelHTTPError(429, "m"), "provider_rate_limited"),
        (ModelHTTPError(401, "m"), "provider_auth"),
        (ModelHTTPError(500, "m"), "provider_unavailable"),
        (ModelTimeoutError("m", "secret"), "provider_timeout"),
        (ModelAPIError("m", "secret"), "provider_error"),
        (UnexpectedModelBehavior("secret"), "provider_error"),
        (UnexpectedModelBehavior("Streamed response ended without content or tool calls"), "provider_truncated"),
        (ModelAPIError("m", "Streamed response ended without a `finish_reason`"), "provider_truncated"),
        (FallbackExceptionGroup("all", [ModelAPIError("m", "x"), ModelHTTPError(503, "n")]), "provider_unavailable"),
        (RunTimedOut("secret"), "timeout"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_each_error_has_a_code(error: Exception, code: str) -> None:
    failure = (await said(from_pydantic_ai, *TEXT, error))[-1]

    assert isinstance(failure, RunFailed)
    assert failure.code == code
    assert "secret" not in str(failure)


async def test_when_to_try_again_is_told() -> None:
    failure = (await said(from_pydantic_ai, ModelRateLimitError("m", "slow down", retry_after=3.5)))[-1]

    assert isinstance(failure, RunFailed)
    assert failure.details == {"retry_after_seconds": 3.5}


async def test_an_answer_of_which_a_filter_let_nothing_pass_is_filtered() -> None:
    assert await said(from_pydantic_ai, ContentFilterError("x")) == [RunCompleted(finish_reason="content_filter")]


async def test_what_the_developer_did_wrong_passes() -> None:
    with pytest.raises(UserError):
        await said(from_pydantic_ai, UserError("mine"))


# A real agent --------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Found(CustomEvent):
    """What a tool tells."""

    count: int


@dataclass(kw_only=True)
class Hidden(CustomEvent, ui=False):
    """What a tool tells the log."""


async def twice(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
    """Two calls, one after the other, then text."""
    rounds = sum(isinstance(message, ModelResponse) for message in messages)
    if rounds < 2:
        yield {0: DeltaToolCall(name="find", json_args='{"what":', tool_call_id=f"t{rounds}")}
        yield {0: DeltaToolCall(json_args='"x"}')}
    else:
        yield "he"
        yield "llo"


agent = Agent(FunctionModel(stream_function=twice), deps_type=list[str])


@agent.tool
async def find(ctx: RunContext[list[str]], what: str) -> dict[str, int]:
    """Fails once."""
    await ctx.emit(Found(count=5))
    await ctx.emit(Hidden())
    ctx.deps.append(what)
    if len(ctx.deps) == 1:
        raise ModelRetry("again")
    return {"found": 5}


async def test_a_real_run() -> None:
    got = reduced(await read(from_pydantic_ai(agent.run_stream_events("?", deps=[]))))

    assert (got.status, got.text) == ("completed", "hello")
    assert [(tool.call_id, tool.input, tool.output) for tool in got.tools] == [
        ("t0", {"what": "x"}, None),
        ("t1", {"what": "x"}, {"found": 5}),
    ]
    assert got.tools[0].error is not None


async def test_what_tools_emit_is_told_unless_it_is_not_for_people() -> None:
    content = await read(from_pydantic_ai(agent.run_stream_events("?", deps=[])))

    assert [event for event in content if isinstance(event, events.Data)] == [events.Data("found", {"count": 5})] * 2


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (UsageLimits(request_limit=1), "The answer reached its limit of requests to the model."),
        (UsageLimits(tool_calls_limit=0), "The answer reached its limit of tool calls."),
        (UsageLimits(output_tokens_limit=1), "The answer reached its limit of tokens."),
        (UsageLimits(total_tokens_limit=1), "The answer reached its limit of tokens."),
    ],
)
async def test_a_limit_is_named_but_not_told(limits: UsageLimits, message: str) -> None:
    content = await read(from_pydantic_ai(agent.run_stream_events("?", deps=[], usage_limits=limits)))

    failure = content[-1]
    assert isinstance(failure, RunFailed)
    assert (failure.code, failure.message, failure.retryable) == ("limit", message, None)
    assert isinstance(content[-2], Usage)
    assert content[-2].estimated


async def test_an_output_of_a_class_is_the_result() -> None:
    @dataclass
    class Answer:
        text: str

    structured = Agent(TestModel(custom_output_args={"text": "a"}), output_type=Answer)

    content = await read(from_pydantic_ai(structured.run_stream_events("?")))

    assert content[-1] == RunCompleted(finish_reason="stop", result={"text": "a"})


async def test_a_run_that_waits_for_a_human_is_paused() -> None:
    asking = Agent(TestModel(), output_type=[str, DeferredToolRequests])

    @asking.tool_plain
    async def delete() -> None:
        raise ApprovalRequired

    paused = (await read(from_pydantic_ai(asking.run_stream_events("?"))))[-1]

    assert isinstance(paused, events.RunPaused)
    assert [(interrupt.kind, interrupt.call_id) for interrupt in paused.interrupts] == [
        ("approval", paused.interrupts[0].id)
    ]


async def test_a_run_that_nobody_read_never_began() -> None:
    asked: list[object] = []

    async def answer(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[str]:
        asked.append(messages)
        yield "a"

    stream = from_pydantic_ai(Agent(FunctionModel(stream_function=answer)).run_stream_events("?"))

    await stream.aclose()

    assert asked == []


async def test_a_reader_that_stops_ends_the_run() -> None:
    ended = asyncio.Event()

    async def answer(_messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[str]:
        try:
            yield "a"
            await asyncio.Event().wait()
        finally:
            ended.set()

    stream = from_pydantic_ai(Agent(FunctionModel(stream_function=answer)).run_stream_events("?"))

    assert await anext(stream) == TextDelta("a")
    await stream.aclose()

    assert ended.is_set()
