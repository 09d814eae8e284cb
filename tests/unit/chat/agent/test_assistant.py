"""The assistant around a model of the test's own: what tools may do and know, and what is told to whom."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic_ai import FunctionToolset, RunContext
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel

from tailrace import Runs, emit, fold
from tailrace.chat.agent.assistant import Assistant
from tailrace.chat.agent.contract import Question
from tailrace.chat.agent.tools.contract import ToolContext, ToolRefusedError
from tailrace.chat.identity.contract import Identity
from tailrace.events import (
    Event,
    Progress,
    RunCompleted,
    RunFailed,
    Status,
    TextDelta,
    ToolError,
    ToolOutput,
    ToolStarted,
    UIAction,
    Usage,
    encode,
)

TOKEN = "token-of-the-caller"
IDENTITY = Identity(tenant="acme", subject="ann", token=SecretStr(TOKEN))
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def question(text: str = "Go", **more: Any) -> Question:  # noqa: ANN401  its fields
    return Question(text=text, identity=IDENTITY, **more)


def calling(*names: str) -> FunctionModel:
    """A model that calls these tools at once, and says what they gave."""

    async def speak(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[Any]:
        results = [part for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
        if results:
            yield " ".join(str(result.content) for result in results)
            return
        for place, name in enumerate(names):
            yield {place: DeltaToolCall(name, "{}", tool_call_id=f"call_{place}")}

    return FunctionModel(stream_function=speak, model_name="caller")


async def log_of(assistant: Assistant, asked: Question | None = None) -> list[Event]:
    async with aclosing(Runs()) as runs:
        run = await runs.start(assistant.answer(asked or question()))
        return [entry.event async for entry in run]


def said(events: Sequence[Event]) -> str:
    return "".join(event.delta for event in events if isinstance(event, TextDelta))


async def test_a_tool_emits_from_its_task_a_thread_and_a_bare_thread() -> None:
    async def busy() -> str:
        """Be busy."""
        emit(Status("in the task"))
        await asyncio.create_task(_emit_later(Progress(id="p", value=0.5)))
        await asyncio.to_thread(emit, UIAction({"type": "change_theme", "value": "dark"}))
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(emit, Status("in a thread")))
        thread.start()
        await asyncio.to_thread(thread.join)
        return "done"

    def plain() -> str:
        """Be sync."""
        emit(Status("in a sync tool"))
        return "done too"

    events = await log_of(Assistant(calling("busy", "plain"), tools=FunctionToolset([busy, plain])))

    told = [event.text for event in events if isinstance(event, Status)]
    assert sorted(told) == ["in a sync tool", "in a thread", "in the task"]
    assert [event.value for event in events if isinstance(event, Progress)] == [0.5]
    assert [event.action for event in events if isinstance(event, UIAction)] == [
        {"type": "change_theme", "value": "dark"}
    ]
    assert said(events) == "done done too"


async def _emit_later(event: Event) -> None:
    await asyncio.sleep(0)
    emit(event)


async def test_a_tool_knows_who_asks_and_about_what_and_no_event_does() -> None:
    seen: list[ToolContext] = []

    async def look(ctx: RunContext[ToolContext]) -> str:
        """Look.

        Args:
            ctx: Who asks.
        """
        seen.append(ctx.deps)
        return ctx.deps.now().isoformat()

    assistant = Assistant(calling("look"), tools=FunctionToolset([look]), now=lambda: NOON)
    events = await log_of(assistant, question(branch_id="branch-7"))

    (context,) = seen
    assert context.question.identity.token is not None
    assert context.question.identity.token.get_secret_value() == TOKEN
    assert context.question.branch_id == "branch-7"
    assert said(events) == "2026-03-01T12:00:00+00:00"
    assert TOKEN not in repr(context)
    assert TOKEN.encode() not in b"".join(map(encode, events))


async def test_tools_fail_by_their_own_code_or_by_none_that_tells_anything(caplog: pytest.LogCaptureFixture) -> None:
    async def refuses() -> str:
        """Refuse."""
        raise ToolRefusedError("closed", "The office is closed.")

    async def breaks() -> str:
        """Break."""
        raise KeyError("password=hunter2")

    async def hangs() -> str:
        """Hang."""
        await asyncio.Event().wait()
        return ""

    tools = FunctionToolset([refuses, breaks, hangs])
    assistant = Assistant(calling("refuses", "breaks", "hangs"), tools=tools, tool_timeout_seconds=0.05)
    events = await log_of(assistant)

    errors = {event.call_id: event for event in events if isinstance(event, ToolError)}
    assert [errors[f"call_{place}"].code for place in range(3)] == ["closed", "tool_error", "tool_timeout"]
    assert errors["call_0"].message == "The office is closed."
    assert "hunter2" not in said(events)
    assert b"hunter2" not in b"".join(map(encode, events))
    assert "hunter2" in caplog.text
    assert isinstance(events[-1], RunCompleted)


async def test_the_tools_that_come_with_it_have_schemas_that_a_model_can_read() -> None:
    seen: list[AgentInfo] = []

    async def speak(_: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        seen.append(info)
        yield "Yes."

    await log_of(Assistant(FunctionModel(stream_function=speak)))

    (info,) = seen
    tools = {tool.name: tool for tool in info.function_tools}
    properties = {name: tool.parameters_json_schema["properties"] for name, tool in tools.items()}
    assert sorted(tools) == ["calculator", "clock", "get_weather", "long_job", "search_docs", "set_theme"]
    assert all(tool.description for tool in tools.values())
    assert properties["set_theme"]["theme"]["enum"] == ["dark", "light"]
    assert list(properties["clock"]) == ["city"]
    assert "several at once" in (info.instructions or "")


async def test_each_tool_can_be_called_by_a_model_that_knows_only_the_schemas() -> None:
    events = await log_of(Assistant(TestModel(call_tools=["get_weather", "set_theme", "search_docs", "calculator"])))

    assert {event.name for event in events if isinstance(event, ToolStarted)} == {
        "get_weather",
        "set_theme",
        "search_docs",
        "calculator",
    }
    assert len([event for event in events if isinstance(event, ToolOutput | ToolError)]) == 4
    assert isinstance(events[-1], RunCompleted)


@pytest.mark.parametrize(
    ("text", "history", "last"),
    [
        ("Go", [], "Go"),
        ("\ud800", [], "\ufffd\ufffd\ufffd"),
        ("", [], "Please go on."),
        ("", [fold.Message(role="user", parts=[fold.TextPart(text="One?")])], "One?"),
        ("", [fold.Message(role="assistant", parts=[fold.TextPart(text="One.", done=True)])], "Please go on."),
    ],
)
async def test_the_last_word_is_never_the_assistants(text: str, history: list[fold.Message], last: str) -> None:
    seen: list[list[ModelMessage]] = []

    async def speak(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[str]:
        seen.append(messages)
        yield "Yes."

    events = await log_of(Assistant(FunctionModel(stream_function=speak)), question(text, history=history))

    (messages,) = seen
    assert isinstance(messages[-1], ModelRequest)
    assert getattr(messages[-1].parts[-1], "content", None) == last
    assert said(events) == "Yes."


async def test_only_so_much_of_a_conversation_is_told() -> None:
    seen: list[int] = []

    async def speak(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[str]:
        seen.append(len(messages))
        yield "Yes."

    history = [fold.Message(role="user", parts=[fold.TextPart(text=str(number))]) for number in range(500)]
    await log_of(Assistant(FunctionModel(stream_function=speak), history_messages=10), question(history=history))

    assert seen[0] <= 11


async def test_a_model_that_says_too_much_is_cut_off() -> None:
    async def speak(_: list[ModelMessage], __: AgentInfo) -> AsyncIterator[str]:
        while True:
            yield "and on "

    model = FunctionModel(stream_function=speak)
    *_, usage, end = await log_of(Assistant(model, max_output_tokens=100))

    assert isinstance(usage, Usage)
    assert isinstance(end, RunFailed)
    assert end.code == "limit"


async def test_without_a_bound_it_may_say_what_it_likes() -> None:
    async def speak(_: list[ModelMessage], __: AgentInfo) -> AsyncIterator[str]:
        yield "and on " * 50_000

    events = await log_of(Assistant(FunctionModel(stream_function=speak), max_output_tokens=0))

    assert isinstance(events[-1], RunCompleted)


async def test_a_page_does_not_replace_a_tool_of_the_server() -> None:
    async def look() -> str:
        """Look."""
        return "seen here"

    assistant = Assistant(calling("look"), tools=FunctionToolset([look]))
    events = await log_of(assistant, question(client_tools=[{"name": "look"}]))

    assert [event.executor for event in events if isinstance(event, ToolStarted)] == [None]
    assert said(events) == "seen here"


async def test_suggestions_are_read_from_one_answer_of_the_model() -> None:
    asked: list[list[ModelMessage]] = []

    def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        asked.append(messages)
        return ModelResponse(parts=[TextPart("1. How warm?\n2. Why?\nThat is all.")])

    suggestions = await Assistant(FunctionModel(answer)).suggest(question("Is it warm?"), "Yes.")

    assert suggestions == ["How warm?", "Why?"]
    assert "Is it warm?" in str(asked[0])


async def test_suggestions_can_be_cancelled() -> None:
    async def answer(_: list[ModelMessage], __: AgentInfo) -> ModelResponse:
        await asyncio.Event().wait()
        return ModelResponse(parts=[])

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await Assistant(FunctionModel(answer)).suggest(question(), "Yes.")


async def test_many_ask_one_assistant_at_a_time() -> None:
    assistant = Assistant(calling("who"), tools=FunctionToolset([_who]))

    logs = await asyncio.gather(*(log_of(assistant, question(branch_id=str(number))) for number in range(20)))

    assert [said(events) for events in logs] == [str(number) for number in range(20)]


async def _who(ctx: RunContext[ToolContext]) -> str | None:
    """Tell.

    Args:
        ctx: Who asks.
    """
    await asyncio.sleep(0)
    return ctx.deps.question.branch_id


_who.__name__ = "who"
