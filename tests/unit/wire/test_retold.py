"""A reduced run told again amounts to the same."""

import pytest
from hypothesis import given, settings

from tailrace import events
from tailrace.events import Entry, Terminal
from tailrace.fold import MERGED_CHARACTERS, Message, TextPart, reduce, snapshot
from tailrace.wire.retold import held_in, log_of, parts_of
from tests.unit.strategies import TERMINALS, logs, numbered


@settings(max_examples=60)
@given(log=logs)
def test_a_reduced_run_told_again_amounts_to_the_same(log: list[Entry]) -> None:
    once = reduce(log)
    again = reduce(log_of(once))

    assert (again.text, again.status, again.usage, again.interrupts) == (
        once.text,
        once.status,
        once.usage,
        once.interrupts,
    )
    assert (again.failure, again.finish_reason) == (once.failure, once.finish_reason)
    assert again.started_at_ms == once.started_at_ms
    assert [(tool.name, tool.input, tool.executor) for tool in again.tools if tool.name] == [
        (tool.name, tool.input, tool.executor) for tool in once.tools if tool.name
    ]


@pytest.mark.parametrize("terminal", TERMINALS, ids=lambda terminal: type(terminal).__name__)
def test_every_ending_is_told_again(terminal: Terminal) -> None:
    *_, ending = log_of(reduce(numbered([events.RunStarted(run_id="run"), terminal])))

    assert type(ending.event) is type(terminal)


def test_an_unfinished_run_is_told_without_an_end() -> None:
    told = log_of(reduce(numbered([events.RunStarted(run_id="run"), events.TextDelta("so far")])))

    assert [type(entry.event) for entry in told] == [events.RunStarted, events.TextDelta]


@pytest.mark.parametrize(
    "event",
    [
        events.TextDone(message_id="m1", part_id="p1", citations=[{"url": "https://example.com"}]),
        events.ToolOutput(call_id="c1", output=2),
        events.ToolError(call_id="c1", code="x", message="No."),
        events.ToolProgress(call_id="c1", progress=0.5),
    ],
)
def test_how_far_a_part_is_is_told_again(event: events.Event) -> None:
    content = [
        events.TextDelta("a", message_id="m1", part_id="p1"),
        events.ToolStarted(call_id="c1", name="add", message_id="m1", title="Add", executor="client"),
        events.ToolReady(call_id="c1", name="add", input={"a": 1}),
        event,
    ]
    (message,) = reduce(numbered(content)).messages

    assert reduce(numbered([*parts_of(message)])).messages == [message]


def test_a_long_text_is_told_in_pieces() -> None:
    message = Message(id="m1", role="assistant", parts=[TextPart(id="p1", text="a" * (MERGED_CHARACTERS + 1))])

    assert [len(told.delta) for told in parts_of(message) if isinstance(told, events.TextDelta)] == [
        MERGED_CHARACTERS,
        1,
    ]


def test_a_snapshot_holds_what_it_was_made_of() -> None:
    reduced = reduce(numbered([events.TextDelta("a", message_id="m1", part_id="p1"), events.Usage(input_tokens=1)]))

    assert held_in(snapshot(reduced)) == (reduced.messages, reduced.usage)


@pytest.mark.parametrize("messages", [[1], [{"parts": []}], [object()]])
def test_a_snapshot_that_somebody_made_up_holds_nothing(messages: list[object]) -> None:
    assert held_in(events.Snapshot(upto_seq=0, messages=messages)) == ([], [])
