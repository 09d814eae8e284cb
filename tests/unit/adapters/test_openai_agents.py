"""What the events of a run of agents say: those of its responses, and those of its items."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from agents.exceptions import MaxTurnsExceeded, ModelBehaviorError, UserError

from tailrace import events
from tailrace.adapters import from_openai_agents
from tailrace.events import (
    Event,
    RunCompleted,
    RunFailed,
    Status,
    TextDelta,
    ToolArgsDelta,
    ToolOutput,
    ToolReady,
    ToolStarted,
    Usage,
)
from tests.unit.adapters.streams import STOPPED, ProviderScript, read, said


def raw(kind: str, **fields: object) -> dict[str, Any]:
    """An event of a response."""
    return {"type": "raw_response_event", "data": {"type": f"response.{kind}", **fields}}


def item(name: str, /, *, output: object = None, **fields: object) -> dict[str, Any]:
    """An item of the run."""
    return {"type": "run_item_stream_event", "name": name, "item": {"raw_item": fields, "output": output}}


def agent(name: str) -> dict[str, Any]:
    """Another agent goes on."""
    return {"type": "agent_updated_stream_event", "new_agent": {"name": name}}


def ended(kind: str = "completed", *, used: tuple[int, int] = (0, 0), **fields: object) -> dict[str, Any]:
    """A response is complete, or as complete as it gets."""
    usage = {"input_tokens": used[0], "output_tokens": used[1]}
    return raw(kind, response={"model": "m", "usage": usage, **fields})


BEGIN = raw("created", response={"model": "m"})
CALL = {"type": "function_call", "call_id": "t1", "name": "f", "id": "one id for all"}
CALLED = [
    BEGIN,
    raw("output_item.added", output_index=0, item=CALL),
    raw("function_call_arguments.delta", output_index=0, delta='{"a":1}'),
    raw("output_item.done", output_index=0, item=CALL | {"arguments": '{"a":1}'}),
    ended(used=(5, 1)),
    item("tool_called", **CALL),
]
GAVE = item("tool_output", output={"b": 2}, call_id="t1", type="function_call_output")
ANSWER = [BEGIN, raw("output_text.delta", delta="a"), ended(used=(7, 2))]
CALL_EVENTS: list[Event] = [
    ToolStarted(call_id="t1", name="f"),
    ToolArgsDelta('{"a":1}', call_id="t1"),
    ToolReady(call_id="t1", name="f", input={"a": 1}),
]

ROWS: dict[str, tuple[list[Any], list[Event]]] = {
    "an answer": (
        [agent("A"), *ANSWER, item("message_output_created", type="message")],
        [TextDelta("a"), Usage(input_tokens=7, output_tokens=2, provider="openai", model="m"), STOPPED],
    ),
    "a call, tokens over both responses": (
        [*CALLED, GAVE, *ANSWER],
        [
            *CALL_EVENTS,
            ToolOutput(call_id="t1", output={"b": 2}),
            TextDelta("a"),
            Usage(
                input_tokens=12,
                output_tokens=3,
                reasoning_tokens=0,
                cached_input_tokens=0,
                provider="openai",
                model="m",
            ),
            STOPPED,
        ],
    ),
    "a run that a call ends": (
        [*CALLED[:-2], ended(), CALLED[-1], GAVE],
        [*CALL_EVENTS, ToolOutput(call_id="t1", output={"b": 2}), STOPPED],
    ),
    "a handoff": (
        [agent("A"), item("handoff_occured", call_id="t1", output="{}"), agent("B"), BEGIN, ANSWER[1], ended()],
        [ToolOutput(call_id="t1", output="{}"), Status("B", state="agent"), TextDelta("a"), STOPPED],
    ),
    "events of ours": ([Status("s"), BEGIN, ANSWER[1], ended()], [Status("s"), TextDelta("a"), STOPPED]),
    "what is new": (
        [{"type": "new"}, raw("new"), item("new"), BEGIN, ANSWER[1], ended()],
        [TextDelta("a"), STOPPED],
    ),
}


@pytest.mark.parametrize(("told", "content"), ROWS.values(), ids=ROWS)
async def test_what_events_say(told: list[Any], content: list[Event]) -> None:
    assert await said(from_openai_agents, *told) == content


# Complete or not -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told",
    [
        [],
        [agent("A")],
        ANSWER[:-1],
        [BEGIN, ended()],
        [*CALLED, GAVE, *ANSWER[:-1]],
        [*ANSWER[:-1], ModelBehaviorError("Model did not produce a final response!")],
        [BEGIN, ModelBehaviorError("Chat Completions stream ended before receiving a finish_reason for choice 0.")],
    ],
)
async def test_an_answer_without_its_end_or_without_anything_is_truncated(told: list[Any]) -> None:
    failure = (await said(from_openai_agents, *told))[-1]

    assert isinstance(failure, RunFailed)
    assert failure.code == "provider_truncated"


@pytest.mark.parametrize(
    ("reason", "finish_reason"), [("max_output_tokens", "length"), ("content_filter", "content_filter")]
)
async def test_a_bound_or_a_filter_is_no_error_of_the_model(reason: str, finish_reason: Any) -> None:  # noqa: ANN401
    incomplete = ended("incomplete", incomplete_details={"reason": reason})

    content = await said(from_openai_agents, *ANSWER[:-1], incomplete, ModelBehaviorError("secret"))

    assert content == [TextDelta("a"), RunCompleted(finish_reason=finish_reason)]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MaxTurnsExceeded("Max turns (2) exceeded"), "limit"),
        (ModelBehaviorError("secret"), "provider_error"),
        (ConnectionResetError("secret"), "provider_unavailable"),
    ],
)
async def test_each_error_has_a_code(error: Exception, code: str) -> None:
    content = await said(from_openai_agents, *CALLED, error)

    failure = content[-1]
    assert isinstance(failure, RunFailed)
    assert failure.code == code
    assert "secret" not in str(failure)
    assert content[-2] == Usage(input_tokens=5, output_tokens=1, provider="openai", model="m", estimated=True)


async def test_what_the_developer_did_wrong_passes() -> None:
    with pytest.raises(UserError):
        await said(from_openai_agents, UserError("mine"))


async def test_an_error_in_a_response_ends_the_run() -> None:
    reported = {"type": "raw_response_event", "data": {"type": "error", "code": "server_error", "message": "secret"}}

    content = await said(from_openai_agents, *ANSWER[:-1], reported)

    assert isinstance(content[-1], RunFailed)
    assert content[-1].code == "provider_unavailable"


# Alive or not --------------------------------------------------------------------------------------------------------


async def test_a_tool_takes_what_it_takes() -> None:
    async def work() -> None:
        await asyncio.sleep(0.05)

    script = ProviderScript(*CALLED, work, GAVE, *ANSWER)

    content = await read(from_openai_agents(script, first_delta_seconds=0.02, idle_seconds=0.02))

    assert content[-1] == STOPPED


async def test_a_tool_of_the_provider_is_the_models_own_time() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    search = item("tool_called", type="web_search_call", id="ws_1")
    script = ProviderScript(BEGIN, search, forever)

    content = await read(from_openai_agents(script, first_delta_seconds=0.02, idle_seconds=0.02))

    assert isinstance(content[-1], RunFailed)
    assert content[-1].code == "provider_timeout"


# Runs ----------------------------------------------------------------------------------------------------------------


class Run:
    """What `Runner.run_streamed` gives, as far as it matters here."""

    def __init__(self, *told: object) -> None:
        self.script = ProviderScript(*told)
        self.cancelled = 0
        self.interruptions: list[object] = []

    def stream_events(self) -> ProviderScript:
        return self.script

    def cancel(self) -> None:
        self.cancelled += 1


@pytest.mark.parametrize("count", [0, 1, 100])
async def test_a_run_is_cancelled_wherever_its_reader_stops(count: int) -> None:
    run = Run(*ANSWER)
    stream = from_openai_agents(run)

    for _ in range(count):
        if await anext(stream, None) is None:
            break
    await stream.aclose()

    assert (run.cancelled, run.script.closed) == (1, int(count > 0))


async def test_a_run_that_waits_for_approval_is_paused() -> None:
    run = Run(*CALLED)
    run.interruptions = [SimpleNamespace(raw_item=SimpleNamespace(call_id="t1"))]

    paused = (await read(from_openai_agents(run)))[-1]

    assert paused == events.RunPaused(interrupts=[events.Interrupt(id="t1", kind="approval", call_id="t1")])
