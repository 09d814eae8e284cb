"""The chat's agent on the real clients of real providers' protocols: whole, broken, stopped, and limited."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic_ai import FunctionToolset

from tailrace import Runs, fold
from tailrace.chat.agent.assistant import Assistant
from tailrace.chat.agent.contract import Question
from tailrace.chat.agent.models import Calling, open_model
from tailrace.chat.agent.tools.contract import ToolContext
from tailrace.chat.identity.contract import LOCAL
from tailrace.events import (
    Event,
    ReasoningDelta,
    ReasoningDone,
    RunCancelled,
    RunCompleted,
    RunFailed,
    TextDelta,
    ToolArgsDelta,
    ToolError,
    ToolOutput,
    ToolReady,
    ToolStarted,
    Usage,
    encode,
)
from tests.fake_provider.provider import FakeProvider
from tests.fake_provider.script import REFUSALS

pytestmark = [
    # Pydantic AI tells once that some answers were not counted.
    pytest.mark.filterwarnings("ignore::pydantic_ai.exceptions.UsageLimitUnavailableWarning"),
]

KEY = "sk-sesame"
TOKENS = ("the ", "run ", "keeps ", "a ", "log ", "so ", "any ", "reader ", "may ", "join ")
STOPPING_SECONDS = 0.5


@dataclass(frozen=True)
class Shape:
    """A provider as it is named, and where the fake one speaks like it."""

    prefix: str
    path: str


SHAPES = (
    Shape("openai", "/v1"),
    Shape("openai-responses", "/v1"),
    Shape("anthropic", ""),
    Shape("groq", "/openai/v1"),
)
by_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.prefix)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@asynccontextmanager
async def assistant(
    provider: FakeProvider,
    shape: Shape,
    model: str,
    *,
    max_retries: int = 0,
    **options: Any,  # noqa: ANN401
) -> AsyncGenerator[Assistant]:
    keys = {"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY, "GROQ_API_KEY": KEY}
    opened = open_model(
        f"{shape.prefix}:{model}",
        base_url=f"{provider.url}{shape.path}",
        environment=keys,
        calling=Calling(max_retries=max_retries),
    )
    # Only a test of silence waits for its end.
    waits: dict[str, Any] = {"first_delta_seconds": 10.0, "idle_seconds": 10.0}
    async with aclosing(Assistant(opened, **{**waits, **options})) as made:
        yield made


def question(text: str = "What is it like there?", **more: Any) -> Question:  # noqa: ANN401  its fields
    return Question(text=text, identity=LOCAL, **more)


async def log_of(asked: Assistant, to: Question | None = None) -> list[Event]:
    async with aclosing(Runs()) as runs:
        run = await runs.start(asked.answer(to or question()))
        return [entry.event async for entry in run]


def text(events: Sequence[Event]) -> str:
    return "".join(event.delta for event in events if isinstance(event, TextDelta))


def last(events: Sequence[Event]) -> tuple[str, str | None]:
    """How it ended."""
    end = events[-1]
    if isinstance(end, RunFailed):
        return "failed", end.code
    assert isinstance(end, RunCompleted)
    return "completed", end.finish_reason


# Whole answers -------------------------------------------------------------------------------------------------------


@by_shape
@pytest.mark.parametrize("batch", [1, 7, 50])
async def test_the_text_is_that_of_the_provider_however_it_arrives(
    provider: FakeProvider, shape: Shape, batch: int
) -> None:
    async with assistant(provider, shape, f"text;n=40;batch={batch}") as asked:
        events = await log_of(asked)

    words = [*TOKENS, "late ", "and ", "see ", "every ", "event "]
    assert text(events) == "".join(words[place % len(words)] for place in range(40))
    assert last(events) == ("completed", "stop")
    assert len(provider.journal.entries) == 1


@by_shape
async def test_reasoning_is_told_apart_and_what_was_used_is_counted(provider: FakeProvider, shape: Shape) -> None:
    async with assistant(provider, shape, "think;n=10") as asked:
        events = await log_of(asked)

    reasoning = "".join(event.delta for event in events if isinstance(event, ReasoningDelta))
    (usage,) = [event for event in events if isinstance(event, Usage)]
    assert reasoning == "".join(TOKENS[:5])
    assert text(events) == "".join(TOKENS[5:])
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (11, 10, None)
    assert usage.model == "think;n=10"
    assert usage.provider == shape.prefix.removesuffix("-responses")


@by_shape
@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_why_an_answer_ended_is_told(provider: FakeProvider, shape: Shape, reason: str) -> None:
    async with assistant(provider, shape, f"text;n=10;finish={reason}") as asked:
        events = await log_of(asked)

    assert last(events) == ("completed", reason)
    assert text(events) == "".join(TOKENS)


# Tools ---------------------------------------------------------------------------------------------------------------


def pair() -> FunctionToolset[ToolContext]:
    """Two tools that come to an end only if they run at the same time."""
    both = asyncio.Barrier(2)

    async def north(place: str, days: int) -> dict[str, str]:
        """Look north.

        Args:
            place: From where.
            days: How long.
        """
        await both.wait()
        return {"north": f"{place} {days}"}

    async def south(place: str) -> str:
        """Look south.

        Args:
            place: From where.
        """
        await both.wait()
        return f"south of {place}"

    return FunctionToolset([north, south])


@by_shape
@pytest.mark.parametrize("fragment", [1, 5, 64])
async def test_two_rounds_of_two_tools_at_once_come_out_the_same_however_they_arrive(
    provider: FakeProvider, shape: Shape, fragment: int
) -> None:
    model = f"tools;rounds=2;parallel=2;n=10;frag={fragment}"
    async with assistant(provider, shape, model, tools=pair()) as asked:
        events = await log_of(asked)

    calls = [event.call_id for event in events if isinstance(event, ToolStarted)]
    arguments = [
        "".join(event.delta for event in events if isinstance(event, ToolArgsDelta) and event.call_id == call)
        for call in calls
    ]
    inputs = {event.call_id: event.input for event in events if isinstance(event, ToolReady)}
    outputs = {event.call_id: event.output for event in events if isinstance(event, ToolOutput)}
    names = [event.name for event in events if isinstance(event, ToolStarted)]
    assert names == ["north", "south", "south", "north"]
    assert len(set(calls)) == 4
    assert [json.loads(told) for told in arguments] == [inputs[call] for call in calls]
    assert [inputs[call] for call in calls] == [
        {"place": "a place", "days": 1},
        {"place": "a place"},
        {"place": "a place"},
        {"place": "a place", "days": 1},
    ]
    assert [outputs[call] for call in calls] == [
        {"north": "a place 1"},
        "south of a place",
        "south of a place",
        {"north": "a place 1"},
    ]
    assert text(events) == "".join(TOKENS)
    assert last(events) == ("completed", "stop")
    assert len(provider.journal.entries) == 3


@by_shape
async def test_a_tool_that_breaks_fails_its_call_and_the_model_goes_on(
    provider: FakeProvider, shape: Shape, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> str:
        """Break."""
        raise OSError("password=hunter2")

    async with assistant(provider, shape, "tools;n=10", tools=FunctionToolset([broken])) as asked:
        events = await log_of(asked)

    (error,) = [event for event in events if isinstance(event, ToolError)]
    assert (error.code, error.phase) == ("tool_error", "execution")
    assert text(events) == "".join(TOKENS)
    assert last(events) == ("completed", "stop")
    assert b"hunter2" not in b"".join(map(encode, events))
    assert "hunter2" not in json.dumps(provider.journal.entries[1].body)
    assert "hunter2" in caplog.text


@by_shape
async def test_arguments_that_do_not_fit_are_refused_and_the_model_may_try_again(
    provider: FakeProvider, shape: Shape
) -> None:
    model = "tools;rounds=2;n=10;args=%7B%22place%22%3A+7%7D"
    async with assistant(provider, shape, model, tools=pair()) as asked:
        events = await log_of(asked)

    assert [event.code for event in events if isinstance(event, ToolError)] == ["input_invalid"] * 2
    assert last(events) == ("completed", "stop")


@by_shape
async def test_a_model_that_never_stops_calling_tools_reaches_the_limit(provider: FakeProvider, shape: Shape) -> None:
    async def again() -> str:
        """Do it again."""
        return "done"

    tools = FunctionToolset([again])
    async with assistant(provider, shape, "tools;rounds=99", tools=tools, max_iterations=3) as asked:
        events = await log_of(asked)

    assert last(events) == ("failed", "limit")
    assert len(provider.journal.entries) == 3
    assert len([event for event in events if isinstance(event, ToolOutput)]) == 3


@by_shape
async def test_a_model_that_writes_too_much_is_stopped(provider: FakeProvider, shape: Shape) -> None:
    async with assistant(provider, shape, "text;n=5000;delay=0.001", max_output_tokens=50) as asked:
        events = await log_of(asked)

    assert last(events) == ("failed", "limit")
    assert 40 <= len(text(events).split()) <= 100
    entry = await asyncio.to_thread(provider.journal.wait_for, lambda entry: entry.outcome)
    assert entry.outcome == "client_left"


# The page's tools ----------------------------------------------------------------------------------------------------

PAGE_TOOL = {
    "name": "open_map",
    "description": "Shows a place on the map.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}


@by_shape
@pytest.mark.parametrize("described", [PAGE_TOOL, {"type": "function", "function": PAGE_TOOL}], ids=["plain", "nested"])
async def test_a_tool_of_the_page_is_left_to_it_and_its_result_goes_on(
    provider: FakeProvider, shape: Shape, described: dict[str, Any]
) -> None:
    async with assistant(provider, shape, "tools;n=10", tools=FunctionToolset[ToolContext]()) as asked:
        first = await log_of(asked, question(client_tools=[described]))
        call = next(event for event in first if isinstance(event, ToolReady))
        answered = fold.ToolPart(
            call_id=call.call_id, name="open_map", state="done", input=call.input, output="shown", executor="client"
        )
        past = [
            fold.Message(role="user", parts=[fold.TextPart(text="Show me.")]),
            fold.Message(role="assistant", parts=[answered], finish_reason="tool_calls"),
        ]
        second = await log_of(asked, question("", history=past, client_tools=[described]))

    (started,) = [event for event in first if isinstance(event, ToolStarted)]
    assert (started.name, started.executor) == ("open_map", "client")
    assert call.input == {"place": "a place"}
    assert not [event for event in first if isinstance(event, ToolOutput | ToolError)]
    assert last(first) == ("completed", "tool_calls")
    assert text(second) == "".join(TOKENS)
    assert last(second) == ("completed", "stop")


@by_shape
async def test_tools_of_the_server_run_beside_those_of_the_page(provider: FakeProvider, shape: Shape) -> None:
    async def here() -> str:
        """Do it here."""
        return "done here"

    async with assistant(provider, shape, "tools;parallel=2", tools=FunctionToolset([here])) as asked:
        events = await log_of(asked, question(client_tools=[PAGE_TOOL]))

    executors = {event.name: event.executor for event in events if isinstance(event, ToolStarted)}
    assert executors == {"here": None, "open_map": "client"}
    assert [event.output for event in events if isinstance(event, ToolOutput)] == ["done here"]
    assert last(events) == ("completed", "tool_calls")


# Broken answers ------------------------------------------------------------------------------------------------------

_HALF = "".join(TOKENS[:5])
_WHOLE = "".join(TOKENS)

#: What becomes of each fault after 5 of 10 tokens, and the text that is kept; `None` for a shape is as for the others.
FAULTS: dict[str, tuple[tuple[str, str], str, dict[str, tuple[tuple[str, str], str]]]] = {
    "error": (("failed", "provider_unavailable"), _HALF, {"anthropic": (("failed", "provider_rate_limited"), _HALF)}),
    "close": (("failed", "provider_unavailable"), _HALF, {}),
    "cut": (("failed", "provider_truncated"), _HALF, {}),
    "truncate": (("failed", "provider_truncated"), _HALF, {}),
    "stall": (("failed", "provider_timeout"), _HALF, {}),
    "stall;ping=0.05": (("failed", "provider_timeout"), _HALF, {}),
    # Anthropic's SDK reads over it.
    "garbage": (("failed", "provider_error"), _HALF, {"anthropic": (("completed", "stop"), _WHOLE)}),
    # Where the finish reason is a part of the marker, it is missing too.
    "nodone": (("completed", "stop"), _WHOLE, {"openai-responses": (("failed", "provider_truncated"), _WHOLE)}),
    "empty": (("failed", "provider_truncated"), "", {}),
}


@by_shape
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_broken_answer_keeps_its_text_and_says_what_broke(
    provider: FakeProvider, shape: Shape, fault: str
) -> None:
    # As many retries as everywhere: after the headers there are none.
    async with assistant(provider, shape, f"text;n=10;fault={fault}", max_retries=2, idle_seconds=0.3) as asked:
        events = await log_of(asked)

    ending, kept, exceptions = FAULTS[fault]
    expected = exceptions.get(shape.prefix, (ending, kept))
    assert (last(events), text(events)) == expected
    assert len(provider.journal.entries) == 1
    assert b"The server had an error" not in b"".join(map(encode, events))
    usage = [event for event in events if isinstance(event, Usage)]
    assert len(usage) == (fault != "empty")
    assert all(event.estimated for event in usage) == (expected[0][0] == "failed")


REFUSED = {
    "400": "provider_bad_request",
    "401": "provider_auth",
    "429": "provider_rate_limited",
    "500": "provider_unavailable",
    "503": "provider_unavailable",
    "529": "provider_rate_limited",
}


@by_shape
@pytest.mark.parametrize("status", REFUSALS)
async def test_a_refusal_has_a_clear_code_and_not_the_words_of_the_provider(
    provider: FakeProvider, shape: Shape, status: str
) -> None:
    async with assistant(provider, shape, f"text;fault={status};retry=7") as asked:
        events = await log_of(asked)

    told = b"".join(map(encode, events))
    assert last(events) == ("failed", REFUSED[status])
    assert len(provider.journal.entries) == 1
    assert b"This provider answers" not in told
    assert KEY.encode() not in told


@by_shape
async def test_an_unknown_model_is_a_bad_request(provider: FakeProvider, shape: Shape) -> None:
    async with assistant(provider, shape, "gpt-0") as asked:
        events = await log_of(asked)

    assert last(events) == ("failed", "provider_bad_request")
    assert b"gpt-0" not in encode(events[-1])


@by_shape
async def test_a_failure_before_the_headers_is_tried_again(provider: FakeProvider, shape: Shape) -> None:
    async with assistant(provider, shape, "text;n=10;fault=503;times=1", max_retries=2) as asked:
        events = await log_of(asked)

    assert last(events) == ("completed", "stop")
    assert text(events) == _WHOLE
    assert len(provider.journal.entries) == 2


@by_shape
async def test_a_provider_that_is_not_there_is_told_so(provider: FakeProvider, shape: Shape) -> None:
    gone = FakeProvider()
    with gone:
        pass
    async with assistant(gone, shape, "text") as asked:
        events = await log_of(asked)

    assert last(events) == ("failed", "provider_unavailable")


# Stopping ------------------------------------------------------------------------------------------------------------


async def _cancel_the_run(runs: Runs, asked: Assistant) -> list[Event]:
    run = await runs.start(asked.answer(question()))
    events: list[Event] = []
    async for entry in run:
        events.append(entry.event)
        if isinstance(entry.event, TextDelta) and len(events) == 5:
            assert await run.cancel()
    return events


async def _close_the_answer(_: Runs, asked: Assistant) -> list[Event]:
    events: list[Event] = []
    async with aclosing(asked.answer(question())) as answer:
        async for event in answer:
            events.append(event)
            if len(events) == 5:
                break
    return events


@by_shape
@pytest.mark.parametrize("stop", [_cancel_the_run, _close_the_answer])
async def test_stopping_stops_the_model_at_once(
    provider: FakeProvider, shape: Shape, stop: Callable[[Runs, Assistant], Awaitable[list[Event]]]
) -> None:
    async with assistant(provider, shape, "text;n=2000;delay=0.02") as asked, aclosing(Runs()) as runs:
        await stop(runs, asked)
        began = time.monotonic()
        entry = await asyncio.to_thread(provider.journal.wait_for, lambda entry: entry.outcome)

    assert entry.outcome == "client_left"
    assert time.monotonic() - began < STOPPING_SECONDS
    assert entry.tokens < 100


@by_shape
async def test_a_model_that_has_not_begun_is_stopped_too(provider: FakeProvider, shape: Shape) -> None:
    async with assistant(provider, shape, "text;start=30", max_retries=2) as asked, aclosing(Runs()) as runs:
        run = await runs.start(asked.answer(question()))
        await asyncio.to_thread(provider.journal.wait_for, lambda _: True)
        assert await run.cancel()
        began = time.monotonic()
        entry = await asyncio.to_thread(provider.journal.wait_for, lambda entry: entry.outcome)
        events = [entry.event async for entry in run]

    assert entry.outcome == "client_left"
    assert time.monotonic() - began < STOPPING_SECONDS
    assert len(provider.journal.entries) == 1
    assert not [event for event in events if isinstance(event, Usage)]


@by_shape
async def test_what_a_stopped_answer_used_is_estimated(provider: FakeProvider, shape: Shape) -> None:
    async with assistant(provider, shape, "text;n=2000;delay=0.01") as asked, aclosing(Runs()) as runs:
        events = await _cancel_the_run(runs, asked)

    *_, usage, end = events
    assert isinstance(end, RunCancelled)
    assert isinstance(usage, Usage)
    assert usage.estimated
    assert usage.output_tokens == -(-len(text(events)) // 4)
    assert usage.input_tokens


@by_shape
async def test_stopping_stops_a_tool(provider: FakeProvider, shape: Shape) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def endless() -> str:
        """Never end."""
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ""

    async with assistant(provider, shape, "tools", tools=FunctionToolset([endless])) as asked, aclosing(Runs()) as runs:
        run = await runs.start(asked.answer(question()))
        await begun.wait()
        assert await run.cancel()
        events = [entry.event async for entry in run]

    assert ended.is_set()
    assert isinstance(events[-1], RunCancelled)


# The past ------------------------------------------------------------------------------------------------------------


def past() -> list[fold.Message]:
    """A conversation in which everything happened that may be left unfinished."""
    return [
        fold.Message(role="user", parts=[fold.TextPart(text="How warm is it?")]),
        fold.Message(
            role="assistant",
            finish_reason="stop",
            parts=[
                fold.ReasoningPart(text="I look it up.", done=True, signature="c2lnbmF0dXJl"),
                fold.ToolPart(call_id="c1", name="north", state="done", input={"place": "x", "days": 1}, output=[1]),
                fold.ToolPart(call_id="c2", name="south", state="error", input={}, error={"message": "No."}),
                fold.TextPart(text="Warm.", done=True),
            ],
        ),
        fold.Message(role="user", parts=[fold.TextPart(text="And now?")]),
        fold.Message(
            role="assistant",
            parts=[
                fold.ToolPart(call_id="c3", name="north", state="ready", input={"place": "y", "days": 2}),
                fold.ToolPart(call_id="c4", name="north", state="started", args='{"pla'),
                fold.TextPart(text="It is"),
            ],
        ),
        fold.Message(role="tool", parts=[fold.ToolPart(call_id="c9", state="done", output="whose?")]),
    ]


@by_shape
async def test_the_past_is_told_again_with_every_call_answered_once(provider: FakeProvider, shape: Shape) -> None:
    async with assistant(provider, shape, "echo", tools=pair()) as asked:
        events = await log_of(asked, question("go on then", history=past()))

    body = provider.journal.entries[0].body
    sent = json.dumps(body)
    assert text(events) == "go on then "
    assert ("c2lnbmF0dXJl" in sent) == (shape.prefix == "anthropic")
    assert "c4" not in sent
    assert "whose?" not in sent
    assert "It is" in sent
    assert "cut off" in sent
    calls, results = _calls_and_results(body.get("messages") or body["input"])
    assert calls == results == ["c1", "c2", "c3"]


def _calls_and_results(messages: Sequence[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The ids in a request, whatever its protocol."""
    calls: list[str] = []
    results: list[str] = []
    for message in messages:
        content = message.get("content")
        blocks: list[dict[str, Any]] = [block for block in content if isinstance(block, dict)] if content else []
        for item in [message, *blocks, *message.get("tool_calls", [])]:
            match item.get("type"):
                case "function":
                    calls.append(item["id"])
                case "tool_use":
                    calls.append(item["id"])
                case "function_call":
                    calls.append(item["call_id"])
                case "tool_result":
                    results.append(item["tool_use_id"])
                case "function_call_output":
                    results.append(item["call_id"])
                case _ if message.get("role") == "tool" and item is message:
                    results.append(item["tool_call_id"])
                case _:
                    pass
    return calls, results


async def test_a_signature_comes_back_to_who_signed(provider: FakeProvider) -> None:
    shape = SHAPES[2]
    async with assistant(provider, shape, "think;n=10") as asked:
        events = await log_of(asked)
        (signed,) = [event.signature for event in events if isinstance(event, ReasoningDone)]
        told = fold.Message(
            role="assistant",
            finish_reason="stop",
            parts=[fold.ReasoningPart(text="the ", done=True, signature=signed), fold.TextPart(text="so", done=True)],
        )
        await log_of(asked, question(history=[fold.Message(role="user", parts=[fold.TextPart(text="?")]), told]))

    block = provider.journal.entries[1].body["messages"][1]["content"][0]
    assert signed
    assert (block["type"], block["thinking"], block["signature"]) == ("thinking", "the ", signed)


# Suggestions ---------------------------------------------------------------------------------------------------------


@by_shape
async def test_suggestions_are_one_small_request(provider: FakeProvider, shape: Shape) -> None:
    async with assistant(provider, shape, "text;n=10") as asked:
        suggestions = await asked.suggest(question(), "It is warm.")

    (entry,) = provider.journal.entries
    limits = [entry.body.get(name) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens")]
    assert suggestions == []
    assert not entry.body.get("stream")
    assert "It is warm." in json.dumps(entry.body)
    assert [limit for limit in limits if limit] == [400]


@by_shape
async def test_suggestions_that_fail_are_none(
    provider: FakeProvider, shape: Shape, caplog: pytest.LogCaptureFixture
) -> None:
    async with assistant(provider, shape, "text;fault=500") as asked:
        suggestions = await asked.suggest(question(), "It is warm.")

    assert suggestions == []
    assert "no suggestions" in caplog.messages


@by_shape
async def test_the_key_goes_to_the_provider_and_into_no_log(
    provider: FakeProvider, shape: Shape, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with assistant(provider, shape, "text;n=10;fault=401") as asked:
        await log_of(asked)

    assert KEY in str(provider.journal.entries[0].headers)
    assert KEY not in caplog.text
