"""The tokens dialect is what plain chat pages read: unnamed frames of one key each, and `[DONE]`."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from tailrace import events
from tailrace.events import Entry, Event, RunStarted, Terminal, TextDelta
from tailrace.fold import merge, reduce
from tailrace.wire.dialects.tokens import DIALECT
from tailrace.wire.sse import Decoder
from tests.unit.strategies import TERMINALS, filled, logs, numbered

DONE = "[DONE]"
INTERRUPT = events.Interrupt(id="i1", kind="approval", message="May I?")

WEATHER = filled(
    numbered(
        [
            RunStarted(run_id="run", thread_id="thread"),
            events.ToolStarted(call_id="c1", name="get_weather"),
            events.ToolArgsDelta('{"city"'),
            events.ToolReady(call_id="c1", name="get_weather", input={"city": "Rome"}),
            events.ToolOutput(call_id="c1", output={"temperature": 21}),
            TextDelta("It is "),
            TextDelta("21 °C."),
            events.UIAction({"type": "change_theme", "value": "dark"}),
            events.Suggestions(["Why?", "And tomorrow?", "In Paris?"]),
            events.RunCompleted(),
        ]
    )
)


def read(log: list[Entry], thread_id: str | None = None) -> list[Any]:
    """What each frame says, after a look at its form: no name, and one key if it is JSON."""
    encoder = DIALECT.encoder(run_id="run", thread_id=thread_id)
    shown = Decoder().feed(b"".join(frame for entry in log for frame in encoder.encode(entry)))
    said = [event.data if event.data == DONE else msgspec.json.decode(event.data) for event in shown]
    assert {event.event for event in shown} <= {"message"}
    assert all(item == DONE or len(item) == 1 for item in said)
    return said


def said_by(*content: Event) -> list[Any]:
    """What the events say after the start of their run."""
    return read(filled(numbered([RunStarted(run_id="run", thread_id="thread"), *content])))[1:]


def document_of(*content: Event) -> dict[str, Any]:
    log = filled(numbered([RunStarted(run_id="run", thread_id="thread"), *content]))
    document: dict[str, Any] = msgspec.json.decode(DIALECT.document(reduce(log)))
    return document


def test_an_answer_with_a_tool_is_told_in_order() -> None:
    assert read(WEATHER) == [
        {"conversation_id": "thread"},
        {"tools_used": ["get_weather"]},
        {"token": "It is "},
        {"token": "21 °C."},
        {"action": {"type": "change_theme", "value": "dark"}},
        {"suggested_questions": ["Why?", "And tomorrow?", "In Paris?"]},
        DONE,
    ]


def test_merged_deltas_are_one_token() -> None:
    assert {"token": "It is 21 °C."} in read(merge(WEATHER))


@settings(max_examples=40)
@given(logs)
def test_the_conversation_comes_first_and_the_end_once_and_last(log: list[Entry]) -> None:
    said = read(log)

    assert said[0].keys() == {"conversation_id"}
    assert [item for item in said if item == DONE] == [said[-1]]


@pytest.mark.parametrize(
    ("started", "thread_id", "conversation_id"),
    [
        (RunStarted(run_id="run", thread_id="thread"), "other", "thread"),
        (RunStarted(run_id="run"), "other", "other"),
        (RunStarted(run_id="run"), None, "run"),
    ],
)
def test_the_conversation_is_the_thread_or_else_the_run(
    started: RunStarted, thread_id: str | None, conversation_id: str
) -> None:
    assert read(numbered([started]), thread_id) == [{"conversation_id": conversation_id}]


# Tools


def test_a_tool_is_announced_as_soon_as_its_call_begins_and_once() -> None:
    assert said_by(
        events.ToolStarted(call_id="c1", name="add"),
        events.ToolReady(call_id="c1", name="add", input=1),
        events.ToolOutput(call_id="c1", output=2),
    ) == [{"tools_used": ["add"]}]


def test_a_tool_that_is_only_reported_complete_is_announced_then() -> None:
    assert said_by(events.ToolReady(call_id="c1", name="add", input=1)) == [{"tools_used": ["add"]}]


def test_every_call_is_announced() -> None:
    assert said_by(
        events.ToolStarted(call_id="c1", name="add"),
        events.ToolStarted(call_id="c2", name="add"),
        events.ToolStarted(name="look_up"),
    ) == [{"tools_used": ["add"]}, {"tools_used": ["add"]}, {"tools_used": ["look_up"]}]


def test_a_call_without_a_name_is_not_announced() -> None:
    assert said_by(events.ToolReady(call_id="c1", input=1), events.ToolOutput(call_id="c1", output=2)) == []


# Endings


@pytest.mark.parametrize(
    ("terminal", "code", "message"),
    [
        (events.RunFailed(code="timeout", message="Too slow."), "timeout", "Too slow."),
        (events.RunInterrupted(reason="worker_lost"), "worker_lost", "The answer was interrupted."),
        (events.RunInterrupted(reason="shutdown"), "shutdown", "The answer was interrupted."),
    ],
)
def test_a_failure_is_told_as_text_and_as_an_error(terminal: Terminal, code: str, message: str) -> None:
    error = {"error": {"code": code, "message": message}}

    assert said_by(terminal) == [{"token": message}, error, DONE]
    assert said_by(TextDelta("so far"), terminal)[1:] == [{"token": f"\n\n{message}"}, error, DONE]


@pytest.mark.parametrize("terminal", [events.RunCompleted(), events.RunCancelled(reason="user")])
def test_an_answer_that_is_complete_or_not_wanted_just_ends(terminal: Terminal) -> None:
    assert said_by(terminal) == [DONE]


def test_a_pause_is_an_action_of_the_page() -> None:
    assert said_by(events.RunPaused(interrupts=[INTERRUPT])) == [
        {"action": {"type": "interrupt", "value": [{"id": "i1", "kind": "approval", "message": "May I?"}]}},
        DONE,
    ]


def test_the_frames_of_a_failure_can_be_gone_on_from_one_by_one() -> None:
    started, failed = numbered([RunStarted(run_id="run"), events.RunFailed(code="error", message="Sorry.")])
    encoder = DIALECT.encoder(run_id="run")
    encoder.encode(started)

    frames = encoder.encode(failed)

    assert [Decoder().feed(frame)[0].id for frame in frames] == ["1.1", "1.2", "2"]


# The document


def test_the_document_is_the_answer_as_a_whole() -> None:
    assert msgspec.json.decode(DIALECT.document(reduce(WEATHER))) == {
        "response": "It is 21 °C.",
        "conversation_id": "thread",
        "suggested_questions": ["Why?", "And tomorrow?", "In Paris?"],
        "tools_used": ["get_weather"],
        "actions": [{"type": "change_theme", "value": "dark"}],
        "status": "completed",
    }


def test_the_document_names_the_run_where_there_is_no_thread() -> None:
    document = msgspec.json.decode(DIALECT.document(reduce(numbered([RunStarted(run_id="run")]))))

    assert document["conversation_id"] == "run"


def test_the_document_of_a_failed_run_keeps_the_text_and_names_the_error() -> None:
    document = document_of(TextDelta("so far"), events.RunFailed(code="timeout", message="Too slow."))

    assert (document["response"], document["status"]) == ("so far", "failed")
    assert document["error"] == {"code": "timeout", "message": "Too slow."}


@pytest.mark.parametrize("terminal", TERMINALS, ids=lambda terminal: type(terminal).__name__)
def test_the_document_has_the_error_that_the_stream_would_tell(terminal: Terminal) -> None:
    told = [item["error"] for item in said_by(terminal) if "error" in item]

    assert [error for key, error in document_of(terminal).items() if key == "error"] == told


def test_the_document_names_the_tools_that_the_stream_would_announce() -> None:
    calls: list[Event] = [
        events.ToolStarted(call_id="c1", name="add"),
        events.ToolOutput(call_id="c1", output=1),
        events.ToolOutput(call_id="c2", output=2),
        events.ToolReady(call_id="c3", name="look_up", input=3),
    ]
    told = [name for item in said_by(*calls) for name in item["tools_used"]]

    assert document_of(*calls)["tools_used"] == told


def test_an_error_before_the_stream_has_the_shape_of_all_errors() -> None:
    assert msgspec.json.decode(DIALECT.error(409, "conflict", "Used before.")) == {
        "error": {"code": "conflict", "message": "Used before.", "status": 409}
    }


def test_its_clients_do_not_come_back_and_its_encoder_has_a_memory() -> None:
    assert DIALECT.name == "tokens"
    assert not DIALECT.resumes
    assert DIALECT.stateful
