"""Merging loses nothing that reducing can see, and every event leaves its trace in a reduced run."""

import copy
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace import events, fold
from tailrace.events import Entry, Event, Opaque, ReasoningDelta, Snapshot, Status, TextDelta, ToolArgsDelta
from tailrace.fold import MERGED_CHARACTERS, Reduced, merge, reduce
from tests.unit.strategies import logs, loose_logs, merged_variants, numbered

SOURCE = events.Source(kind="url", url="https://example.org")
FILE = events.File(media_type="image/png", url="/files/1")
NOTICE = events.Notice(code="slow", message="Slow.")
USAGE = events.Usage(input_tokens=5, model="m")
PROGRESS = events.Progress(id="load", value=0.5)
INTERRUPT = events.Interrupt(id="i1", kind="approval")


def message(*parts: dict[str, Any], **fields: str) -> dict[str, Any]:
    """The messages of a run that has one."""
    shown = {"parts": [*parts]} if parts else {}
    return {"messages": [{"role": "assistant", **fields, **shown}]}


#: What a run amounts to that consists of this event alone.
EFFECTS: list[tuple[Event, dict[str, Any]]] = [
    (
        events.RunStarted(run_id="r", thread_id="t", model="m"),
        {"run_id": "r", "thread_id": "t", "model": "m", "started_at_ms": 1_001},
    ),
    (
        events.RunCompleted(finish_reason="length", result=[1]),
        {"status": "completed", "finish_reason": "length", "result": [1]},
    ),
    (
        events.RunFailed(code="error", message="Sorry.", retryable=True, correlation_id="x"),
        {
            "status": "failed",
            "failure": {"code": "error", "message": "Sorry.", "retryable": True, "correlation_id": "x"},
        },
    ),
    (events.RunCancelled(reason="user"), {"status": "cancelled", "failure": {"code": "user"}}),
    (events.RunInterrupted(reason="shutdown"), {"status": "interrupted", "failure": {"code": "shutdown"}}),
    (
        events.RunPaused(interrupts=[INTERRUPT]),
        {"status": "paused", "interrupts": [{"id": "i1", "kind": "approval"}]},
    ),
    (events.StepStarted(step_id="s1", name="plan", index=1), {"steps": [{"id": "s1", "name": "plan", "index": 1}]}),
    (events.MessageStarted(message_id="m1", role="tool", name="n"), message(id="m1", role="tool", name="n")),
    (events.MessageFinished(message_id="m1", finish_reason="stop"), message(id="m1", finish_reason="stop")),
    (
        TextDelta("a", message_id="m1", part_id="p1"),
        message({"type": "text", "id": "p1", "text": "a"}, id="m1"),
    ),
    (
        events.TextDone(part_id="p1", citations=[1]),
        message({"type": "text", "id": "p1", "done": True, "citations": [1]}),
    ),
    (ReasoningDelta("a", part_id="p1"), message({"type": "reasoning", "id": "p1", "text": "a"})),
    (
        events.ReasoningDone(part_id="p1", signature="s"),
        message({"type": "reasoning", "id": "p1", "done": True, "signature": "s"}),
    ),
    (
        events.ToolStarted(call_id="c1", name="add", title="Add"),
        message({"type": "tool", "call_id": "c1", "name": "add", "state": "started", "title": "Add"}),
    ),
    (
        ToolArgsDelta('{"a"', call_id="c1"),
        message({"type": "tool", "call_id": "c1", "state": "started", "args": '{"a"'}),
    ),
    (
        events.ToolReady(call_id="c1", name="add", input={"a": 1}),
        message({"type": "tool", "call_id": "c1", "name": "add", "state": "ready", "input": {"a": 1}}),
    ),
    (
        events.ToolProgress(call_id="c1", progress=0.5, output="so far"),
        message({"type": "tool", "call_id": "c1", "state": "running", "output": "so far", "progress": 0.5}),
    ),
    (
        events.ToolOutput(call_id="c1", output=3),
        message({"type": "tool", "call_id": "c1", "state": "done", "output": 3}),
    ),
    (
        events.ToolError(call_id="c1", code="denied", message="No."),
        message({"type": "tool", "call_id": "c1", "state": "error", "error": {"code": "denied", "message": "No."}}),
    ),
    (Status("Thinking"), {"line": "Thinking"}),
    (events.Thought("First"), {"thoughts": ["First"]}),
    (PROGRESS, {"progress": {"load": {"type": "progress", "id": "load", "value": 0.5}}}),
    (events.Data("chart", 5), {"data": {"chart": [5]}}),
    (events.UIAction({"type": "change_theme"}), {"actions": [{"type": "change_theme"}]}),
    (events.Suggestions(["Why?"]), {"suggestions": ["Why?"]}),
    (SOURCE, {"sources": [{"type": "source", "kind": "url", "url": "https://example.org"}]}),
    (FILE, {"files": [{"type": "file", "media_type": "image/png", "url": "/files/1"}]}),
    (events.StateSnapshot(state=[1]), {"state": [1]}),
    (events.StateDelta(patch=[{"op": "remove"}]), {"state_patches": [{"op": "remove"}]}),
    (USAGE, {"usage": [{"type": "usage", "input_tokens": 5, "model": "m"}]}),
    (NOTICE, {"notices": [{"type": "notice", "code": "slow", "message": "Slow."}]}),
    (
        Snapshot(upto_seq=1, messages=[{"role": "assistant", "id": "m1"}], state=[1], usage=[USAGE]),
        {**message(id="m1"), "state": [1], "usage": [{"type": "usage", "input_tokens": 5, "model": "m"}]},
    ),
    (Opaque("later.word", b'{"type":"later.word"}'), {}),
]

TEXT_PART = {"type": "text", "id": "p1", "text": "so far "}
CALL_PART = {"type": "tool", "call_id": "c1", "state": "started", "args": '{"a"'}


def of(*content: Event) -> Reduced:
    return reduce(numbered(content))


def with_spans(entries: list[Entry]) -> list[tuple[int, int]]:
    return [(entry.since, entry.seq) for entry in entries]


# Merging


@settings(max_examples=40)
@given(loose_logs())
def test_merging_a_log_does_not_change_what_it_amounts_to(log: list[Entry]) -> None:
    assert reduce(merge(log)) == reduce(log)


@settings(max_examples=40)
@given(st.data())
def test_what_was_merged_may_be_merged_again(data: st.DataObject) -> None:
    log = data.draw(loose_logs())
    variant = data.draw(merged_variants(log))

    assert merge(variant) == merge(log)
    assert merge(merge(log)) == merge(log)


@settings(max_examples=40)
@given(loose_logs())
def test_a_reader_that_gets_the_rest_merged_has_the_same_run(log: list[Entry]) -> None:
    expected = reduce(log)

    for cut in range(len(log) + 1):
        assert reduce([*log[:cut], *merge(log[cut:])]) == expected


@settings(max_examples=40)
@given(loose_logs())
def test_merged_entries_cover_the_log_without_gap_or_overlap(log: list[Entry]) -> None:
    covered = [seq for entry in merge(log) for seq in range(entry.since, entry.seq + 1)]

    assert covered == [*range(1, len(log) + 1)]


@settings(max_examples=40)
@given(loose_logs())
def test_an_entry_that_was_not_merged_is_the_entry_of_the_log(log: list[Entry]) -> None:
    for entry in merge(log):
        assert (entry.first is None) == (entry is log[entry.seq - 1])
        assert entry.at_ms == log[entry.seq - 1].at_ms


@settings(max_examples=40)
@given(loose_logs())
def test_a_merged_entry_covers_deltas_of_one_part_and_nothing_else(log: list[Entry]) -> None:
    for entry in merge(log):
        if entry.first is not None:
            covered = [log[seq - 1].event for seq in range(entry.first, entry.seq + 1)]
            alike = [msgspec.structs.replace(event, delta="") for event in covered]

            assert len(covered) > 1
            assert alike == [msgspec.structs.replace(entry.event, delta="")] * len(covered)
            assert isinstance(entry.event, TextDelta | ReasoningDelta | ToolArgsDelta)
            assert entry.event.delta == "".join(getattr(event, "delta", "") for event in covered)


@pytest.mark.parametrize(
    ("content", "spans"),
    [
        ([], []),
        ([TextDelta("a")], [(1, 1)]),
        ([TextDelta("a"), TextDelta("b"), TextDelta("c")], [(1, 3)]),
        ([TextDelta("a"), Status("b"), TextDelta("c")], [(1, 1), (2, 2), (3, 3)]),
        ([TextDelta("a"), ReasoningDelta("b")], [(1, 1), (2, 2)]),
        ([TextDelta("a", part_id="p1"), TextDelta("b", part_id="p2")], [(1, 1), (2, 2)]),
        ([TextDelta("a", message_id="m1"), TextDelta("b", message_id="m2")], [(1, 1), (2, 2)]),
        ([ToolArgsDelta("a", call_id="c1"), ToolArgsDelta("b", call_id="c1")], [(1, 2)]),
        ([ToolArgsDelta("a", call_id="c1"), ToolArgsDelta("b", call_id="c2")], [(1, 1), (2, 2)]),
        ([TextDelta("a"), TextDelta("b", ext={"x": 1}), TextDelta("c")], [(1, 1), (2, 2), (3, 3)]),
        ([Status("a"), Status("b")], [(1, 1), (2, 2)]),
    ],
)
def test_only_deltas_of_one_part_that_follow_each_other_are_merged(
    content: list[Event], spans: list[tuple[int, int]]
) -> None:
    assert with_spans(merge(numbered(content))) == spans


def test_a_merged_delta_stays_within_its_bound() -> None:
    third = MERGED_CHARACTERS // 3
    fits, too_long = [third] * 3, [third] * 2 + [third + 2]

    assert with_spans(merge(numbered([TextDelta("x" * size) for size in fits]))) == [(1, 3)]
    assert with_spans(merge(numbered([TextDelta("x" * size) for size in too_long]))) == [(1, 2), (3, 3)]


def test_a_delta_beyond_the_bound_stays_as_it_is() -> None:
    log = numbered([TextDelta("a"), TextDelta("x" * (MERGED_CHARACTERS + 1)), TextDelta("b")])

    assert merge(log) == log


# With work that grows with the square of the length this would not end within the time limit.


def test_a_long_answer_in_small_pieces_is_merged_and_reduced() -> None:
    log = numbered([TextDelta("x" * 100) for _ in range(20_000)])

    merged = merge(log)

    assert reduce(log).text == reduce(merged).text == "x" * 2_000_000
    assert with_spans(merged)[0] == (1, MERGED_CHARACTERS // 100)
    assert len(merged) == -(-20_000 // (MERGED_CHARACTERS // 100))


# Reducing


@pytest.mark.parametrize(("event", "effect"), EFFECTS, ids=[type(event).__name__ for event, _ in EFFECTS])
def test_an_event_has_its_effect(event: Event, effect: dict[str, Any]) -> None:
    assert msgspec.to_builtins(of(event)) == {"seq": 1, **effect}


def test_the_effect_of_every_event_is_looked_at_here() -> None:
    looked_at = {type(event) for event, _ in EFFECTS}

    # A step has to begin before its end can be seen.
    assert looked_at | {events.StepFinished} == {*get_args(Event)}


@settings(max_examples=40)
@given(logs)
def test_reducing_leaves_the_log_as_it_was(log: list[Entry]) -> None:
    before = copy.deepcopy(log)

    assert reduce(log) == reduce(log)
    assert log == before


@settings(max_examples=40)
@given(logs)
def test_a_run_is_as_far_as_its_last_entry(log: list[Entry]) -> None:
    for length in range(len(log) + 1):
        reduced = reduce(log[:length])

        assert reduced.seq == length
        assert (reduced.status == "running") == (length < len(log))


def test_a_step_ends_by_name_or_as_the_last_one() -> None:
    began = [events.StepStarted(step_id="s1"), events.StepStarted(step_id="s2")]

    by_name = of(*began, events.StepFinished(step_id="s1"))
    last = of(*began, events.StepFinished())
    unknown = of(*began, events.StepFinished(step_id="s3"))

    assert [step.done for step in by_name.steps] == [True, False]
    assert [step.done for step in last.steps] == [False, True]
    assert [step.done for step in unknown.steps] == [False, False]


def test_parts_stand_in_the_order_in_which_they_began() -> None:
    reduced = of(
        ReasoningDelta("hm", part_id="p1"),
        TextDelta("a", part_id="p2"),
        events.ToolStarted(call_id="c1", name="add"),
        TextDelta("b", part_id="p2"),
        TextDelta("c", part_id="p3"),
    )

    parts = reduced.messages[0].parts
    assert [type(part) for part in parts] == [fold.ReasoningPart, fold.TextPart, fold.ToolPart, fold.TextPart]
    assert [part.text for part in parts if not isinstance(part, fold.ToolPart)] == ["hm", "ab", "c"]
    assert reduced.text == "abc"


def test_a_text_and_a_reasoning_of_one_id_are_two_parts() -> None:
    reduced = of(ReasoningDelta("a", part_id="p1"), TextDelta("b", part_id="p1"))

    assert reduced.text == "b"
    assert len(reduced.messages[0].parts) == 2


def test_messages_keep_their_own_parts() -> None:
    reduced = of(
        TextDelta("a", message_id="m1", part_id="p1"),
        events.MessageStarted(message_id="m2", role="tool"),
        TextDelta("b", message_id="m2", part_id="p1"),
        TextDelta("c", message_id="m1", part_id="p1"),
    )

    assert [(message.id, message.role, message.text) for message in reduced.messages] == [
        ("m1", "assistant", "ac"),
        ("m2", "tool", "b"),
    ]


def test_the_raw_arguments_of_a_call_are_kept_until_they_are_complete() -> None:
    began: list[Event] = [
        events.ToolStarted(call_id="c1", name="add"),
        ToolArgsDelta('{"a"', call_id="c1"),
        ToolArgsDelta(":1}", call_id="c1"),
    ]

    assert [(tool.args, tool.input) for tool in of(*began).tools] == [('{"a":1}', None)]
    assert [(tool.args, tool.input) for tool in of(*began, events.ToolReady(call_id="c1", input={"a": 1})).tools] == [
        ("", {"a": 1})
    ]


def test_calls_side_by_side_keep_their_own_results() -> None:
    reduced = of(
        events.ToolStarted(call_id="c1", name="add"),
        events.ToolStarted(call_id="c2", name="add"),
        events.ToolError(call_id="c2", code="overflow", message="Too large."),
        events.ToolProgress(call_id="c1", output=1),
        events.ToolOutput(call_id="c1", output=3),
    )

    assert [(tool.call_id, tool.state, tool.output) for tool in reduced.tools] == [
        ("c1", "done", 3),
        ("c2", "error", None),
    ]


def test_how_far_a_tool_is_does_not_take_back_what_it_gave() -> None:
    reduced = of(events.ToolProgress(call_id="c1", output="so far"), events.ToolProgress(call_id="c1", progress=0.5))

    assert [(tool.state, tool.output, tool.progress) for tool in reduced.tools] == [("running", "so far", 0.5)]


def test_the_newest_of_a_kind_counts() -> None:
    reduced = of(
        Status("a"),
        Status("b"),
        events.Progress(id="x", value=0.1),
        events.Progress(value=0.2),
        events.Progress(id="x", value=0.3),
        events.Suggestions(["a"]),
        events.Suggestions(["b"]),
        events.Usage(input_tokens=1, model="m"),
        events.Usage(input_tokens=2, model="n"),
        events.Usage(input_tokens=3, model="m"),
    )

    assert reduced.line == "b"
    assert {key: progress.value for key, progress in reduced.progress.items()} == {"x": 0.3, "": 0.2}
    assert reduced.suggestions == ["b"]
    assert {used.model: used.input_tokens for used in reduced.usage} == {"m": 3, "n": 2}


def test_data_with_an_id_is_replaced_and_without_one_collected() -> None:
    reduced = of(
        events.Data("chart", 1),
        events.Data("chart", 2),
        events.Data("chart", 3, id="left"),
        events.Data("chart", 4, id="left"),
        events.Data("chart", 5, transient=True),
    )

    assert reduced.data.pop("chart") == [1, 2]
    assert [*reduced.data.values()] == [4]


def test_data_of_one_name_never_meets_data_of_another() -> None:
    left = events.Data("chart", [1], id="left")

    reduced = of(left, events.Data("chart:left", 2))

    assert len(reduced.data) == 2
    assert left.data == [1]


def test_data_whose_name_looks_like_that_of_data_with_an_id_is_collected_anew() -> None:
    left = events.Data("chart", [1], id="left")

    reduced = of(left, events.Data("chart#left", 2), events.Data("chart#left", 3))

    assert reduced.data == {"chart#left": [1, 2, 3]}
    assert left.data == [1]


def test_patches_count_from_the_newest_state_on() -> None:
    patches: list[dict[str, Any]] = [{"op": "remove", "path": f"/{number}"} for number in range(3)]

    reduced = of(
        events.StateDelta(patch=patches[:1]),
        events.StateSnapshot(state={"a": 1}),
        events.StateDelta(patch=patches[1:2]),
        events.StateDelta(patch=patches[2:]),
    )

    assert reduced.state == {"a": 1}
    assert reduced.state_patches == patches[1:]


# Snapshots


def test_a_snapshot_is_gone_on_from() -> None:
    reduced = of(
        Snapshot(upto_seq=7, messages=[{"id": "m1", "role": "assistant", "parts": [TEXT_PART, CALL_PART]}]),
        TextDelta("and on", message_id="m1", part_id="p1"),
        ToolArgsDelta(":1}", call_id="c1"),
        TextDelta("new", message_id="m1", part_id="p2"),
    )

    assert [message.id for message in reduced.messages] == ["m1"]
    assert reduced.text == "so far and onnew"
    assert [tool.args for tool in reduced.tools] == ['{"a":1}']


@pytest.mark.parametrize("messages", [[], [{"id": "m1", "role": "assistant", "parts": [TEXT_PART]}]])
def test_what_a_snapshot_replaces_has_no_effect_on_what_follows_it(messages: list[Any]) -> None:
    before: list[Event] = [
        TextDelta("old", message_id="m1", part_id="p1"),
        ToolArgsDelta("old", call_id="c1"),
        events.StateDelta(patch=[{"op": "remove"}]),
    ]
    after: list[Event] = [
        Snapshot(upto_seq=3, messages=messages, state={"a": 1}),
        TextDelta("new", message_id="m1", part_id="p1"),
        ToolArgsDelta("new", call_id="c1"),
    ]

    replayed, resumed = of(*before, *after), of(*after)

    assert replayed.messages == resumed.messages
    assert (replayed.state, replayed.state_patches) == (resumed.state, resumed.state_patches)


def test_a_reduced_run_can_be_put_into_a_snapshot() -> None:
    beginning: list[Event] = [
        TextDelta("so ", message_id="m1", part_id="p1"),
        events.ToolStarted(call_id="c1", name="add"),
    ]
    rest: list[Event] = [TextDelta("far", message_id="m1", part_id="p1"), events.ToolOutput(call_id="c1", output=3)]
    so_far = of(*beginning)
    log = [Snapshot(upto_seq=2, messages=so_far.messages), *rest]

    reduced = of(*log)

    assert reduced.messages == of(*beginning, *rest).messages
    assert of(*log) == reduced
    assert so_far == of(*beginning)
