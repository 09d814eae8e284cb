"""A turn: whose the calls are, and what was used."""

import msgspec
import pytest

from tailrace import events
from tailrace.events import Entry, Event, Terminal
from tailrace.wire.openai_turn import Turn, error_body, refusal
from tests.unit.strategies import numbered

CALLED = events.RunCompleted(finish_reason="tool_calls")
DONE = events.RunCompleted(finish_reason="stop")
PAUSED = events.RunPaused(interrupts=[events.Interrupt(id="i1", kind="approval", call_id="c1")])


def turn_of(*content: Event, model: str | None = None) -> Turn:
    turn = Turn(model)
    for entry in numbered(content):
        turn.take(entry)
    return turn


def started(**fields: object) -> events.ToolStarted:
    return msgspec.convert({"type": "tool.started", "call_id": "c1", "name": "add", **fields}, events.ToolStarted)


def test_it_begins_when_the_run_begins() -> None:
    turn = Turn()

    turn.take(Entry(1, 1_795_173_052_468, events.RunStarted(run_id="run", model="claude")))

    assert (turn.created_at, turn.model) == (1_795_173_052, "claude")


def test_the_model_has_the_name_that_the_client_gave_it() -> None:
    started = events.RunStarted(run_id="run", model="claude")

    assert turn_of(started, model="mine").model == "mine"
    assert turn_of().model == "tailrace"


@pytest.mark.parametrize(
    ("executor", "ending", "left"),
    [
        ("client", DONE, True),
        ("client", CALLED, True),
        ("client", PAUSED, True),
        ("client", events.RunCancelled(reason="user"), False),
        ("client", events.RunFailed(code="error", message="Sorry."), False),
        (None, CALLED, True),
        (None, DONE, False),
        (None, PAUSED, False),
        ("server", CALLED, False),
        ("provider", CALLED, False),
    ],
)
def test_whose_call_it_is_depends_on_who_executes_it_and_how_the_run_ends(
    executor: str | None, ending: Terminal, left: bool
) -> None:
    turn = turn_of(started(**({"executor": executor} if executor else {})), events.ToolReady(call_id="c1", input=1))

    assert [call.id for call in turn.left_to_client(ending)] == ["c1"] * left


@pytest.mark.parametrize(
    "result", [events.ToolOutput(call_id="c1", output=2), events.ToolError(call_id="c1", code="x", message="No.")]
)
def test_a_call_that_was_executed_is_nobodys(result: Event) -> None:
    assert turn_of(started(executor="client"), result).left_to_client(CALLED) == []


def test_a_call_without_a_name_cannot_be_left_to_anybody() -> None:
    assert turn_of(events.ToolReady(call_id="c1", input=1)).left_to_client(CALLED) == []


@pytest.mark.parametrize(
    ("content", "arguments"),
    [
        ([], "{}"),
        ([events.ToolReady(call_id="c1")], "{}"),
        ([events.ToolReady(call_id="c1", input={"a": 1})], '{"a":1}'),
        ([events.ToolArgsDelta('{"a"', call_id="c1"), events.ToolArgsDelta(": 1}", call_id="c1")], '{"a": 1}'),
        ([events.ToolArgsDelta('{"a": 1}'), events.ToolReady(input={"a": 1})], '{"a": 1}'),
    ],
)
def test_arguments_are_those_that_were_streamed_or_else_the_input(content: list[Event], arguments: str) -> None:
    (call,) = turn_of(started(executor="client"), *content).left_to_client(DONE)

    assert call.arguments == arguments


def test_events_without_an_id_belong_to_the_call_that_was_started_last() -> None:
    turn = turn_of(
        events.ToolStarted(name="add", executor="client"),
        events.ToolReady(input=1),
        events.ToolStarted(name="multiply", executor="client"),
        events.ToolReady(input=2),
    )

    assert [(call.name, call.arguments) for call in turn.left_to_client(DONE)] == [("add", "1"), ("multiply", "2")]


def test_usage_is_the_sum_of_the_newest_of_each_model() -> None:
    turn = turn_of(
        events.Usage(model="a", input_tokens=1, output_tokens=2),
        events.Usage(model="a", input_tokens=10, output_tokens=20, reasoning_tokens=5, cached_input_tokens=3),
        events.Usage(model="b", input_tokens=100),
    )

    assert turn.usage == events.Usage(
        input_tokens=110, output_tokens=20, reasoning_tokens=5, cached_input_tokens=3, cache_write_input_tokens=0
    )
    assert turn_of().usage is None


def test_an_error_has_the_keys_that_clients_look_for() -> None:
    assert error_body("timeout", "Too slow.") == {
        "message": "Too slow.",
        "type": "server_error",
        "param": None,
        "code": "timeout",
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (404, "invalid_request_error"), (429, "rate_limit_error"), (503, "server_error")],
)
def test_a_refusal_says_whose_fault_it_is(status: int, kind: str) -> None:
    assert msgspec.json.decode(refusal(status, "code", "message"))["error"]["type"] == kind
