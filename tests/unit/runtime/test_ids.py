"""A source may leave every id out, and whoever reads the log finds each of them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from tailrace import events
from tailrace.events import Entry, Event, ReasoningDelta, TextDelta
from tailrace.runtime.ids import IdFiller
from tests.unit.strategies import loose_logs

FILLED_FIELDS = {"message_id", "part_id", "call_id", "step_id", "source_id"}


def filled(*content: Event, run_id: str = "run") -> list[Any]:
    ids = IdFiller(run_id)
    return [ids.fill(event) for event in content]


def parts(*content: Event) -> list[str | None]:
    return [event.part_id for event in filled(*content) if hasattr(event, "part_id")]


def messages(*content: Event) -> list[str | None]:
    return [event.message_id for event in filled(*content) if hasattr(event, "message_id")]


def calls(*content: Event) -> list[str | None]:
    return [event.call_id for event in filled(*content) if hasattr(event, "call_id")]


# For any log


@settings(max_examples=40)
@given(loose_logs())
def test_no_id_is_missing_and_nothing_else_changes(log: list[Entry]) -> None:
    before = [entry.event for entry in log]

    after = filled(*before)

    for event, full in zip(before, after, strict=True):
        given: dict[str, Any] = msgspec.to_builtins(event)
        shown: dict[str, Any] = msgspec.to_builtins(full)
        assert shown == {**shown, **given}
        assert shown.keys() - given.keys() <= FILLED_FIELDS | {"id", "index", "finish_reason"}
        if isinstance(event, events.TextDelta | events.ReasoningDelta | events.TextDone | events.ReasoningDone):
            assert full.message_id is not None
            assert full.part_id is not None
        elif hasattr(event, "call_id"):
            assert full.call_id is not None


@settings(max_examples=40)
@given(loose_logs())
def test_what_is_filled_stays_as_it_is(log: list[Entry]) -> None:
    once = filled(*(entry.event for entry in log))

    assert filled(*once) == once


@settings(max_examples=40)
@given(loose_logs())
def test_the_same_run_gets_the_same_ids_again(log: list[Entry]) -> None:
    content = [entry.event for entry in log]

    assert filled(*content) == filled(*content)


# Messages


def test_text_begins_the_message_whose_id_was_told_before() -> None:
    assert messages(TextDelta("a"), TextDelta("b")) == [IdFiller("run").first_message_id] * 2


def test_text_after_the_end_of_a_message_begins_another() -> None:
    first, finished, second = messages(TextDelta("a"), events.MessageFinished(), TextDelta("b"))

    assert first == finished
    assert second != first


def test_each_start_begins_a_message() -> None:
    first, in_first, second, in_second = messages(
        events.MessageStarted(), TextDelta("a"), events.MessageStarted(), TextDelta("b")
    )

    assert (first, second) == (in_first, in_second)
    assert first != second


def test_a_message_that_was_named_is_gone_on_with() -> None:
    assert messages(TextDelta("a", message_id="m1"), TextDelta("b"), events.MessageFinished()) == ["m1"] * 3


def test_message_and_call_ids_of_two_runs_differ_and_do_not_give_the_run_away() -> None:
    content: list[Event] = [TextDelta("a"), events.ToolStarted(name="add")]
    one, other = (filled(*content, run_id=run_id) for run_id in ("run-of-one", "run-of-other"))

    assert one[0].message_id != other[0].message_id
    assert one[1].call_id != other[1].call_id
    assert "run-of-one" not in f"{one}"


# Parts


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([TextDelta("a"), TextDelta("b")], ["p1", "p1"]),
        ([TextDelta("a"), events.Status("x"), TextDelta("b")], ["p1", "p1"]),
        ([TextDelta("a"), ReasoningDelta("b"), TextDelta("c")], ["p1", "p2", "p3"]),
        ([TextDelta("a"), events.ToolStarted(name="add"), TextDelta("b")], ["p1", "p2"]),
        ([TextDelta("a"), events.ToolOutput(output=1), TextDelta("b")], ["p1", "p2"]),
        ([TextDelta("a"), events.TextDone(), TextDelta("b")], ["p1", "p1", "p2"]),
        ([ReasoningDelta("a"), events.ReasoningDone(), TextDelta("b")], ["p1", "p1", "p2"]),
        ([TextDelta("a"), events.MessageFinished(), TextDelta("b")], ["p1", "p2"]),
        ([TextDelta("a"), events.MessageStarted(), TextDelta("b")], ["p1", "p2"]),
        ([TextDelta("a", message_id="m1"), TextDelta("b", message_id="m2")], ["p1", "p2"]),
        ([TextDelta("a", message_id="m1"), TextDelta("b", message_id="m1")], ["p1", "p1"]),
        ([TextDelta("a", part_id="x"), TextDelta("b")], ["x", "x"]),
        ([TextDelta("a"), TextDelta("b", part_id="x"), TextDelta("c")], ["p1", "x", "x"]),
    ],
)
def test_text_is_one_part_until_something_of_another_kind_comes_between(
    content: list[Event], expected: list[str]
) -> None:
    assert parts(*content) == expected


def test_what_was_said_beside_a_delta_stays() -> None:
    for delta in (TextDelta, ReasoningDelta):
        (full,) = filled(delta("a", ext={"logprob": -0.1}))

        assert (full.delta, full.ext) == ("a", {"logprob": -0.1})


# Tool calls


def test_a_tool_event_without_a_call_belongs_to_the_call_that_was_started_last() -> None:
    started, *others = calls(
        events.ToolStarted(name="add"),
        events.ToolArgsDelta("{}"),
        events.ToolReady(input={}),
        events.ToolProgress(progress=0.5),
        events.ToolOutput(output=1),
        events.ToolError(code="late", message="Too late."),
    )

    assert others == [started] * 5


def test_each_start_of_a_tool_is_a_call_of_its_own() -> None:
    first, second, output = calls(
        events.ToolStarted(name="add"), events.ToolStarted(name="add"), events.ToolOutput(output=1)
    )

    assert first != second
    assert output == second


def test_the_result_of_an_earlier_call_does_not_make_it_the_last_one() -> None:
    assert calls(
        events.ToolStarted(name="add", call_id="c1"),
        events.ToolStarted(name="add", call_id="c2"),
        events.ToolOutput(output=1, call_id="c1"),
        events.ToolOutput(output=2),
    ) == ["c1", "c2", "c1", "c2"]


def test_a_call_that_is_only_reported_complete_is_a_call() -> None:
    named = calls(events.ToolReady(call_id="c1", name="add"), events.ToolOutput(output=1))
    unnamed = calls(events.ToolReady(name="add"), events.ToolOutput(output=1))

    assert named == ["c1", "c1"]
    assert unnamed[0] is not None
    assert unnamed[0] == unnamed[1]


def test_a_tool_belongs_to_the_message_it_comes_in() -> None:
    in_text, of_tool, after = messages(TextDelta("a", message_id="m1"), events.ToolStarted(name="add"), TextDelta("b"))

    assert in_text == of_tool == after == "m1"


# The rest


def test_steps_are_counted_and_the_last_one_is_the_one_that_ends() -> None:
    assert filled(
        events.StepStarted(), events.StepFinished(), events.StepStarted(step_id="x", index=7), events.StepFinished()
    ) == [
        events.StepStarted(step_id="s1", index=1),
        events.StepFinished(step_id="s1"),
        events.StepStarted(step_id="x", index=7),
        events.StepFinished(step_id="x"),
    ]


def test_sources_and_actions_are_counted() -> None:
    source, action = events.Source(kind="url", url="u"), events.UIAction({"type": "a"})

    shown = filled(source, action, source, action)

    assert [item.source_id for item in shown[::2]] == ["src1", "src2"]
    assert [item.id for item in shown[1::2]] == ["a1", "a2"]


def test_a_run_that_does_not_say_why_it_stopped_just_stopped() -> None:
    assert filled(events.RunCompleted(), events.RunCompleted(finish_reason="length")) == [
        events.RunCompleted(finish_reason="stop"),
        events.RunCompleted(finish_reason="length"),
    ]


@pytest.mark.parametrize(
    "event",
    [
        events.RunStarted(run_id="run"),
        events.Status("a"),
        events.Data("chart", 1),
        events.RunCancelled(reason="user"),
        events.Opaque("later.word", b'{"type":"later.word"}'),
    ],
)
def test_an_event_without_such_ids_stays_the_same_object(event: Event) -> None:
    assert filled(event)[0] is event
