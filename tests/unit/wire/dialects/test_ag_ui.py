"""The AG-UI dialect: what each event becomes, and that no run, however odd, becomes a stream that clients refuse.

Every event that is written is read by the models of the `ag-ui-protocol` package, and held against the order that
AG-UI's own client demands.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from ag_ui.core import Event as AgUiEvent
from hypothesis import example, given, settings
from pydantic import TypeAdapter

from tailrace import events
from tailrace.errors import OptionInvalidError
from tailrace.events import (
    Entry,
    Event,
    MessageStarted,
    ReasoningDelta,
    ReasoningDone,
    RunCompleted,
    RunStarted,
    StateDelta,
    StepFinished,
    StepStarted,
    TextDelta,
    TextDone,
    ToolArgsDelta,
    ToolError,
    ToolOutput,
    ToolProgress,
    ToolReady,
    ToolStarted,
    Usage,
)
from tailrace.fold import Message, ReasoningPart, TextPart, ToolPart, merge, reduce
from tailrace.wire.ag_ui_joining import joining
from tailrace.wire.ag_ui_messages import messages_of
from tailrace.wire.dialects.ag_ui import DIALECT
from tailrace.wire.sse import Decoder
from tests.interop.story import STORY
from tests.unit.strategies import any_event, filled, logs, loose_logs, numbered

Told = dict[str, Any]

_MODEL: TypeAdapter[Any] = TypeAdapter(AgUiEvent)
_STARTED = RunStarted(run_id="run", thread_id="thread", meta={"ag_ui": {"run_id": "its own id"}})
_TERMINALS = {"RUN_FINISHED", "RUN_ERROR"}
_OPENING = {"TEXT_MESSAGE": "messageId", "TOOL_CALL": "toolCallId", "REASONING": "messageId", "STEP": "stepName"}
_OPENING["REASONING_MESSAGE"] = "messageId"


def read(frames: Iterable[bytes]) -> list[Told]:
    """The events in the frames, each looked at by the protocol's own model."""
    shown = [msgspec.json.decode(event.data, type=Told) for event in Decoder().feed(b"".join(frames))]
    for told in shown:
        model = _MODEL.validate_python(told)
        assert not unknown_fields(model), told
        assert None not in without_payload(told), told
        assert isinstance(told.get("timestamp", 0), int)
    return shown


def unknown_fields(model: Any) -> list[str]:  # noqa: ANN401  any of the models
    """Fields that the protocol does not know, for which its client complains."""
    return [*(model.model_extra or {})]


def without_payload(told: Told) -> list[object]:
    """The values of the fields, save those that may be anything."""
    return [value for name, value in told.items() if name not in {"value", "snapshot"}]


def encoded(log: Iterable[Entry], protocol_version: str | None = None) -> list[Told]:
    encoder = DIALECT.encoder(run_id="run", protocol_version=protocol_version)
    return read(frame for entry in log for frame in encoder.encode(entry))


def told(*content: Event, protocol_version: str | None = None) -> list[Told]:
    """What a run of these events becomes, without its first event and the times."""
    return bare(encoded(numbered([_STARTED, *content]), protocol_version=protocol_version)[1:])


def bare(shown: list[Told]) -> list[Told]:
    return [{name: value for name, value in event.items() if name != "timestamp"} for event in shown]


def types(shown: list[Told]) -> list[str]:
    return [event["type"] for event in shown]


def check_order(shown: list[Told], opened: Iterable[tuple[str, str]] = ()) -> None:
    """What AG-UI's client demands: nothing twice open, nothing closed that is not, all closed before the one end."""
    assert shown[0]["type"] == "RUN_STARTED"
    assert [event["type"] in _TERMINALS | {"RUN_STARTED"} for event in shown] == [
        True,
        *[False] * (len(shown) - 2),
        True,
    ]
    still_open = set(opened)
    for event in shown[1:-1]:
        kind, _, change = event["type"].rpartition("_")
        if kind not in _OPENING:
            continue
        key = (kind, event[_OPENING[kind]])
        if change in {"START", "STARTED"}:
            assert key not in still_open, event
            still_open.add(key)
        elif change in {"CONTENT", "ARGS", "END", "FINISHED"}:
            assert key in still_open, event
            if change in {"END", "FINISHED"}:
                still_open.remove(key)
    assert not still_open


def applied(shown: Iterable[Told]) -> dict[str, Told]:
    """The messages that a client has in the end, by id, as `defaultApplyEvents` of the real one builds them."""
    messages: dict[str, Told] = {}
    calls: dict[str, Told] = {}
    for event in shown:
        match event["type"]:
            case "MESSAGES_SNAPSHOT":
                messages = {message["id"]: dict(message) for message in event["messages"]}
                calls = {call["id"]: call for message in messages.values() for call in message.get("toolCalls", [])}
            case "TEXT_MESSAGE_START" | "REASONING_MESSAGE_START":
                messages.setdefault(
                    event["messageId"], {"id": event["messageId"], "role": event["role"], "content": ""}
                )
            case "TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT":
                message = messages[event["messageId"]]
                message["content"] = message.get("content", "") + event["delta"]
            case "TOOL_CALL_START" if event["toolCallId"] not in calls:
                parent_id = event["parentMessageId"]
                owner = messages.setdefault(parent_id, {"id": parent_id, "role": "assistant"})
                call = calls[event["toolCallId"]] = {"id": event["toolCallId"], "arguments": ""}
                owner.setdefault("toolCalls", []).append(call)
            case "TOOL_CALL_ARGS":
                call = calls[event["toolCallId"]]
                call["arguments"] = call.get("arguments", "") + event["delta"]
            case "TOOL_CALL_RESULT":
                messages[event["messageId"]] = {"id": event["messageId"], "role": "tool", "content": event["content"]}
            case _:
                pass
    return messages


def texts(messages: dict[str, Told]) -> dict[str, tuple[str, str | None, list[str]]]:
    """Role, content and calls of each message."""
    return {
        id_: (message["role"], message.get("content"), [call["id"] for call in message.get("toolCalls", [])])
        for id_, message in messages.items()
    }


# Any run


@settings(max_examples=60)
@given(log=loose_logs())
def test_any_run_is_a_stream_that_clients_accept(log: list[Entry]) -> None:
    for variant in (log, filled(log), merge(filled(log))):
        check_order(encoded(variant))
        check_order(encoded(variant, protocol_version="1.0"))


@settings(max_examples=60)
@given(event=any_event.filter(lambda event: not isinstance(event, events.Snapshot | events.RunStarted)))
def test_any_event_is_written_in_the_protocols_words(event: Event) -> None:
    encoded([Entry(1, 1_000, _STARTED), Entry(2, 1_000, event)])
    encoded([Entry(1, 1_000, _STARTED), Entry(2, 1_000, event)], protocol_version="1.0")


@settings(max_examples=60)
@given(log=logs)
def test_merged_or_not_a_client_ends_with_the_same_messages(log: list[Entry]) -> None:
    assert applied(encoded(merge(log))) == applied(encoded(log))


def test_a_stream_that_begins_without_its_start_gets_one() -> None:
    shown = encoded([Entry(1, 1_000, TextDelta("Hi")), Entry(2, 1_000, RunCompleted())])

    check_order(shown)
    assert shown[0] == {"type": "RUN_STARTED", "threadId": "run", "runId": "run", "timestamp": 1_000}


# The run


def test_a_run_goes_by_the_id_that_its_client_gave_it() -> None:
    first, *_, last = encoded(numbered([_STARTED, RunCompleted()]))

    assert first == {"type": "RUN_STARTED", "threadId": "thread", "runId": "its own id", "timestamp": 1_001}
    assert (last["threadId"], last["runId"]) == ("thread", "its own id")


@pytest.mark.parametrize("meta", [None, {}, {"ag_ui": 1}, {"ag_ui": {}}, {"ag_ui": {"run_id": 7}}, {"other": True}])
def test_a_run_that_began_elsewhere_goes_by_its_own_id(meta: dict[str, Any] | None) -> None:
    (first,) = encoded([Entry(1, 0, RunStarted(run_id="run", meta=meta))])

    assert (first["threadId"], first["runId"]) == ("run", "run")


#: How each ends, for a client that declares nothing, and for one that declares 1.0 where that is something else.
ENDINGS: list[tuple[Event, Told, Told | None]] = [
    (
        RunCompleted(finish_reason="stop", result={"answer": None}),
        {"type": "RUN_FINISHED", "result": {"answer": None}, "metadata": {"finishReason": "stop"}},
        {
            "type": "RUN_FINISHED",
            "outcome": {"type": "success"},
            "result": {"answer": None},
            "metadata": {"finishReason": "stop"},
        },
    ),
    (
        events.RunCancelled(reason="user"),
        {"type": "RUN_ERROR", "code": "cancelled", "message": "The run was cancelled."},
        {"type": "RUN_FINISHED", "outcome": {"type": "cancelled"}, "metadata": {"reason": "user"}},
    ),
    (
        events.RunFailed(code="timeout", message="Too slow.", correlation_id="x1", retryable=True),
        {
            "type": "RUN_ERROR",
            "code": "timeout",
            "message": "Too slow.",
            "metadata": {"correlationId": "x1", "retryable": True},
        },
        None,
    ),
    (
        events.RunInterrupted(reason="worker_lost"),
        {"type": "RUN_ERROR", "code": "worker_lost", "message": "The answer was interrupted."},
        None,
    ),
    (
        events.RunPaused(interrupts=[]),
        {"type": "RUN_FINISHED"},
        {"type": "RUN_FINISHED", "outcome": {"type": "success"}},
    ),
]


@pytest.mark.parametrize(("ending", "plain", "declared"), ENDINGS, ids=lambda each: type(each).__name__)
def test_an_ending_is_told_as_far_as_the_client_understands_it(
    ending: Event, plain: Told, declared: Told | None
) -> None:
    expected = declared or plain
    ids = {"threadId": "thread", "runId": "its own id"}

    assert told(ending) == [plain | (ids if plain["type"] == "RUN_FINISHED" else {})]
    assert told(ending, protocol_version="1.0") == [expected | (ids if expected["type"] == "RUN_FINISHED" else {})]


def test_a_pause_says_what_is_waited_for() -> None:
    approval = events.Interrupt(
        id="i1", kind="approval", call_id="c1", message="May I?", expires_at_ms=1_795_000_000_000
    )
    question = events.Interrupt(id="i2", kind="input", schema={"type": "string"}, expires_at_ms=2**62)
    interrupts = [
        {
            "id": "i1",
            "reason": "approval",
            "message": "May I?",
            "toolCallId": "c1",
            "expiresAt": "2026-11-18T11:06:40.000+00:00",
        },
        {"id": "i2", "reason": "input", "responseSchema": {"type": "string"}},
    ]

    declared = told(events.RunPaused(interrupts=[approval, question]), protocol_version="1.0")
    plain = told(events.RunPaused(interrupts=[approval, question]))

    assert [event.get("outcome") for event in declared] == [{"type": "interrupt", "interrupts": interrupts}]
    assert types(plain) == ["CUSTOM", "RUN_FINISHED"]
    assert (plain[0]["name"], plain[0]["value"]) == ("interrupts", interrupts)
    assert "outcome" not in plain[1]


def test_usage_is_told_at_the_end_the_newest_of_each_model() -> None:
    spent = [
        Usage(input_tokens=1, output_tokens=1, provider="p", model="a"),
        Usage(input_tokens=9, model="b", estimated=True),
        Usage(input_tokens=2, output_tokens=3, reasoning_tokens=1, provider="p", model="a"),
        Usage(input_tokens=-1, output_tokens=2**60),
    ]

    for ending in (RunCompleted(), events.RunFailed(code="error", message="No.")):
        *_, last = told(*spent, ending)

        assert last["usage"] == [
            {"model": "b", "inputTokens": 9},
            {
                "provider": "p",
                "model": "a",
                "inputTokens": 2,
                "outputTokens": 3,
                "reasoningTokens": 1,
                "totalTokens": 5,
            },
            {},
        ]


def test_another_version_of_the_protocol_is_not_spoken() -> None:
    with pytest.raises(OptionInvalidError):
        DIALECT.encoder(run_id="run", protocol_version="2.0")

    assert DIALECT.encoder(run_id="run", protocol_version="1.0", unknown=1).run_id == "run"


# Text and reasoning


def test_text_is_opened_and_stays_open_to_the_end() -> None:
    assert told(TextDelta("Hel", message_id="m"), TextDelta("lo", message_id="m"), RunCompleted())[:-1] == [
        {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "Hel"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "lo"},
        {"type": "TEXT_MESSAGE_END", "messageId": "m"},
    ]


def test_text_after_a_tool_is_a_message_of_its_own() -> None:
    shown = told(
        ReasoningDelta("Hm.", message_id="m", part_id="r"),
        TextDelta("One moment.", message_id="m", part_id="a"),
        ToolStarted(call_id="c", name="look", message_id="m"),
        ToolReady(call_id="c", input={}),
        ToolOutput(call_id="c", output="seen"),
        TextDelta("There.", message_id="m", part_id="b"),
        RunCompleted(),
    )

    assert texts(applied(shown)) == {
        "m:1": ("reasoning", "Hm.", []),
        "m": ("assistant", "One moment.", ["c"]),
        "c:result": ("tool", "seen", []),
        "m:3": ("assistant", "There.", []),
    }


def test_a_late_piece_of_an_older_part_is_opened_and_closed_around_itself() -> None:
    shown = told(
        TextDelta("a", message_id="m", part_id="1"),
        TextDelta("x", message_id="m", part_id="2"),
        TextDelta("b", message_id="m", part_id="1"),
        TextDelta("y", message_id="m", part_id="2"),
    )

    assert [(event["type"].removeprefix("TEXT_MESSAGE_"), event["messageId"]) for event in shown] == [
        ("START", "m"),
        ("CONTENT", "m"),
        ("END", "m"),
        ("START", "m:2"),
        ("CONTENT", "m:2"),
        ("START", "m"),
        ("CONTENT", "m"),
        ("END", "m"),
        ("CONTENT", "m:2"),
    ]


def test_a_text_that_is_done_may_still_go_on() -> None:
    shown = told(
        TextDelta("a", message_id="m"), TextDone(message_id="m"), TextDelta("b", message_id="m"), RunCompleted()
    )

    assert applied(shown)["m"]["content"] == "ab"


def test_ids_that_look_like_ours_do_not_collide() -> None:
    shown = encoded(
        numbered(
            [
                _STARTED,
                TextDelta("a", message_id="m:2", part_id="1"),
                TextDelta("b", message_id="m", part_id="1"),
                TextDelta("c", message_id="m", part_id="2"),
                TextDelta("d", message_id="m:2", part_id="2"),
                RunCompleted(),
            ]
        )
    )

    check_order(shown)
    assert sorted(message["content"] for message in applied(shown).values()) == ["a", "b", "c", "d"]


def test_a_signature_and_citations_are_kept_with_their_message() -> None:
    shown = told(
        ReasoningDelta("Hm.", message_id="m", part_id="r"),
        ReasoningDone(message_id="m", part_id="r", signature="s"),
        TextDone(message_id="m", part_id="t", citations=[{"url": "https://example.org"}]),
    )

    assert types(shown) == [
        "REASONING_START",
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_ENCRYPTED_VALUE",
        "REASONING_MESSAGE_END",
        "REASONING_END",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_END",
    ]
    assert shown[3]["entityId"] == shown[2]["messageId"]
    assert shown[-1]["metadata"] == {"citations": [{"url": "https://example.org"}]}


def test_the_first_message_may_be_announced_before_its_reasoning() -> None:
    hm = ReasoningDelta("Hm.", message_id="m", part_id="r")
    encoder = DIALECT.encoder(run_id="run", announce="first-message")
    log = numbered([_STARTED, hm, TextDelta("Hi", message_id="m", part_id="t"), hm, RunCompleted()])

    shown = read(frame for entry in log for frame in encoder.encode(entry))

    check_order(shown)
    assert [(event["type"], event["messageId"]) for event in shown[1:4]] == [
        ("TEXT_MESSAGE_START", "m"),
        ("TEXT_MESSAGE_END", "m"),
        ("REASONING_START", "m:1"),
    ]
    assert types(shown).count("TEXT_MESSAGE_START") == 2
    with pytest.raises(OptionInvalidError):
        DIALECT.encoder(run_id="run", announce="everything")


@pytest.mark.parametrize("first", [TextDelta("Hi"), ToolReady(call_id="c", name="look", input={})])
def test_a_message_that_comes_before_its_reasoning_is_not_announced(first: Event) -> None:
    encoder = DIALECT.encoder(run_id="run", announce="first-message")
    log = filled(numbered([_STARTED, first, ReasoningDelta("Hm."), RunCompleted()]))

    shown = read(frame for entry in log for frame in encoder.encode(entry))

    assert bare(shown) == bare(encoded(log))


def test_an_empty_piece_is_not_sent() -> None:
    assert types(told(TextDelta(""), TextDelta("a"))) == ["TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"]


@pytest.mark.parametrize(("role", "expected"), [("user", "user"), ("system", "system"), ("tool", "assistant")])
def test_a_message_has_the_role_that_it_began_with(role: Any, expected: str) -> None:  # noqa: ANN401  a literal
    (first, *_) = told(MessageStarted(message_id="m", role=role, name="Ann"), TextDelta("Hi", message_id="m"))

    assert (first["role"], first["name"]) == (expected, "Ann")


# Tools


def test_two_calls_at_once_are_told_as_they_come() -> None:
    shown = told(
        ToolStarted(call_id="a", name="one", message_id="m", title="First"),
        ToolArgsDelta('{"x":', call_id="a"),
        ToolStarted(call_id="b", name="two", message_id="m"),
        ToolArgsDelta("1}", call_id="a"),
        ToolReady(call_id="b", input={"y": 2}),
        ToolReady(call_id="a", input={"x": 1}),
        ToolOutput(call_id="b", output={"ok": True}),
        ToolError(call_id="a", code="broken", message="It broke."),
    )

    assert shown[0] == {
        "type": "TOOL_CALL_START",
        "toolCallId": "a",
        "toolCallName": "one",
        "parentMessageId": "m",
        "metadata": {"title": "First"},
    }
    assert [(event["type"].removeprefix("TOOL_CALL_"), event["toolCallId"]) for event in shown] == [
        ("START", "a"),
        ("ARGS", "a"),
        ("START", "b"),
        ("ARGS", "a"),
        ("ARGS", "b"),
        ("END", "b"),
        ("END", "a"),
        ("RESULT", "b"),
        ("RESULT", "a"),
    ]
    assert shown[4]["delta"] == '{"y":2}'
    assert (shown[7]["content"], shown[8]["content"]) == ('{"ok":true}', "It broke.")
    assert shown[8]["metadata"]["error"] == {"code": "broken"}


@pytest.mark.parametrize("answer", [ToolOutput(call_id="c", output=None), ToolError(call_id="c", code="x", message="")])
def test_an_answer_without_a_call_begins_one(answer: Event) -> None:
    assert types(told(answer)) == ["TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_RESULT"]


def test_the_first_answer_counts() -> None:
    shown = told(*[ToolOutput(call_id="c", output=count) for count in (1, 2)], ToolReady(call_id="c", input={}))

    assert [event["content"] for event in shown if event["type"] == "TOOL_CALL_RESULT"] == ["1"]
    assert types(shown).count("TOOL_CALL_END") == 1


def test_progress_before_the_arguments_loses_none_of_them() -> None:
    shown = told(
        ToolStarted(call_id="c", name="search", message_id="m"),
        ToolProgress(call_id="c", progress=0.5, output=["first"]),
        ToolReady(call_id="c", input={"query": "x"}),
    )

    assert types(shown)[2] == "ACTIVITY_SNAPSHOT"
    assert shown[2]["content"] == {"toolCallId": "c", "progress": 0.5, "output": ["first"]}
    assert applied(shown)["m"]["toolCalls"] == [{"id": "c", "arguments": '{"query":"x"}'}]


# Everything else


def test_steps_of_one_name_are_told_apart_while_both_are_open() -> None:
    shown = told(
        StepStarted(step_id="1", name="plan"),
        StepStarted(step_id="2", name="plan"),
        StepStarted(step_id="2", name="plan"),
        StepStarted(),
        StepFinished(step_id="1"),
        StepFinished(step_id="unknown"),
        StepFinished(),
        StepStarted(step_id="3", name="plan"),
        RunCompleted(),
    )

    assert [(event["type"], event.get("stepName")) for event in shown[:-1]] == [
        ("STEP_STARTED", "plan"),
        ("STEP_STARTED", "plan (2)"),
        ("STEP_STARTED", "step 1"),
        ("STEP_FINISHED", "plan"),
        ("STEP_FINISHED", "step 1"),
        ("STEP_STARTED", "plan"),
        ("STEP_FINISHED", "plan"),
        ("STEP_FINISHED", "plan (2)"),
    ]


def test_what_the_page_shows_beside_the_answer_are_activities() -> None:
    shown = told(
        events.Status("Looking", state="working"),
        events.Thought("One", step=1, total=2),
        events.Thought("Two"),
        events.Progress(id="p", value=0.5),
        events.Status("Still looking"),
    )

    assert set(types(shown)) == {"ACTIVITY_SNAPSHOT"}
    assert [(event["messageId"], event["activityType"], event["content"]) for event in shown] == [
        ("its own id:status", "STATUS", {"text": "Looking", "state": "working"}),
        ("its own id:thought:1", "THOUGHT", {"text": "One", "step": 1, "total": 2}),
        ("its own id:thought:2", "THOUGHT", {"text": "Two"}),
        ("its own id:progress:p", "PROGRESS", {"id": "p", "value": 0.5}),
        ("its own id:status", "STATUS", {"text": "Still looking"}),
    ]


CUSTOM: list[tuple[Event, str, object, Told | None]] = [
    (events.Data("weather", None), "weather", None, None),
    (events.Data("weather", [1], id="w", transient=True), "weather", [1], {"id": "w", "transient": True}),
    (events.UIAction({"type": "theme"}, id="a1"), "ui.action", {"type": "theme"}, {"id": "a1"}),
    (events.Suggestions(["Why?"]), "suggestions", ["Why?"], None),
    (
        events.Source(kind="url", url="https://example.org"),
        "source",
        {"kind": "url", "url": "https://example.org"},
        None,
    ),
    (events.File(media_type="image/png", url="/1"), "file", {"media_type": "image/png", "url": "/1"}, None),
    (events.Notice(code="slow", message="Slow."), "notice", {"code": "slow", "message": "Slow."}, None),
]


@pytest.mark.parametrize(("event", "name", "value", "metadata"), CUSTOM)
def test_what_the_protocol_has_no_word_for_is_custom(
    event: Event, name: str, value: object, metadata: Told | None
) -> None:
    (shown,) = told(event)

    assert shown == {"type": "CUSTOM", "name": name, "value": value} | ({"metadata": metadata} if metadata else {})


def test_state_is_told_as_it_is() -> None:
    patch: list[dict[str, Any]] = [
        {"op": "add", "path": "/a~1b", "value": None, "comment": "not of the standard"},
        {"op": "move", "from": "/x", "path": ""},
    ]

    assert told(events.StateSnapshot(state=None), StateDelta(patch=patch)) == [
        {"type": "STATE_SNAPSHOT", "snapshot": None},
        {
            "type": "STATE_DELTA",
            "delta": [{"op": "add", "path": "/a~1b", "value": None}, {"op": "move", "from": "/x", "path": ""}],
        },
    ]


@pytest.mark.parametrize(
    "operation",
    [{}, {"op": 1}, {"op": "add", "path": "/a"}, {"op": "add", "path": "a", "value": 1}, {"op": "copy", "path": "/a"}],
)
def test_a_patch_that_is_none_does_not_end_the_run(operation: dict[str, Any]) -> None:
    (shown,) = told(StateDelta(patch=[operation]))

    assert (shown["type"], shown["name"], shown["value"]) == ("CUSTOM", "state.delta", [operation])


# Joining


def joined(log: list[Entry], at: int, before: list[Told] | None = None) -> tuple[list[Told], list[list[bytes]]]:
    """What a reader gets that joins after `at` entries: the prelude, and the frames of each entry after it."""
    encoder = DIALECT.encoder(run_id="run", protocol_version="1.0")
    snapshot = joining(reduce(log[:at]), before or [])
    prelude = [frame for event in (log[0].event, snapshot) for frame in encoder.encode(Entry(0, 0, event))]
    return read(prelude), [encoder.encode(entry) for entry in log[at:]]


def is_plain(log: list[Entry]) -> bool:
    """Whether what a client has can be told from what the run amounts to.

    Not of a call that goes on after its answer, and not of a tool at work, which hides whether it has its arguments.
    """
    answered: set[str | None] = set()
    for entry in log:
        event = entry.event
        if isinstance(event, ToolProgress | events.Snapshot):
            return False
        if isinstance(event, ToolStarted | ToolArgsDelta | ToolReady | ToolOutput | ToolError):
            if event.call_id in answered:
                return False
            if isinstance(event, ToolOutput | ToolError):
                answered.add(event.call_id)
    return True


STORY_LOG = filled(numbered([_STARTED, *STORY, RunCompleted()]))


@settings(max_examples=60)
@given(log=logs.filter(is_plain))
@example(log=STORY_LOG)
def test_who_joins_goes_on_with_the_frames_that_everybody_gets(log: list[Entry]) -> None:
    encoder = DIALECT.encoder(run_id="run", protocol_version="1.0")
    everybody = [encoder.encode(entry) for entry in log]

    for at in range(1, len(log)):
        _, rest = joined(log, at)

        assert [len(frames) for frames in rest] == [len(frames) for frames in everybody[at:]]


@settings(max_examples=60)
@given(log=logs.filter(is_plain))
@example(log=STORY_LOG)
def test_who_joins_ends_with_the_messages_that_everybody_has(log: list[Entry]) -> None:
    everybody = texts(applied(encoded(log, protocol_version="1.0")))

    for at in range(1, len(log)):
        prelude, rest = joined(log, at)
        shown = prelude + read(frame for frames in rest for frame in frames)

        check_order(shown)
        assert texts(applied(shown)) == everybody


def test_who_joins_is_told_the_conversation_before_the_run_once() -> None:
    log = filled(
        numbered([_STARTED, TextDelta("Hel", message_id="m"), TextDelta("lo", message_id="m"), RunCompleted()])
    )
    question = {"id": "q", "role": "user", "content": [{"type": "text", "text": "Hi?"}]}

    prelude, _ = joined(log, 2, [question, {"id": "m", "role": "assistant", "content": "H"}])

    assert types(prelude) == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "TEXT_MESSAGE_START"]
    assert prelude[1]["messages"] == [question, {"id": "m", "role": "assistant", "content": "Hel"}]


def test_who_joins_is_told_state_activities_steps_and_calls() -> None:
    log = filled(
        numbered(
            [
                _STARTED,
                StepStarted(name="look up"),
                events.Status("Looking"),
                events.Thought("First"),
                events.Progress(id="p", value=0.5),
                events.StateSnapshot(state={"a": 1}),
                StateDelta(patch=[{"op": "add", "path": "/b", "value": 2}]),
                StateDelta(patch=[{"op": "nonsense"}]),
                ToolStarted(call_id="c", name="search"),
                ToolArgsDelta("{", call_id="c"),
                RunCompleted(),
            ]
        )
    )

    prelude, _ = joined(log, 10)

    assert types(prelude) == [
        "RUN_STARTED",
        "MESSAGES_SNAPSHOT",
        "STATE_SNAPSHOT",
        "STATE_DELTA",
        *["ACTIVITY_SNAPSHOT"] * 3,
        "STEP_STARTED",
        "TOOL_CALL_START",
    ]
    assert prelude[3]["delta"] == [{"op": "add", "path": "/b", "value": 2}]
    assert prelude[7]["stepName"] == "look up"
    (message,) = prelude[1]["messages"]
    assert message["toolCalls"] == [{"id": "c", "type": "function", "function": {"name": "search", "arguments": "{"}}]


def test_a_snapshot_of_anybodys_is_taken_as_it_is() -> None:
    message = {"id": "m", "role": "assistant", "parts": [{"type": "text", "id": "p", "text": "so far"}]}
    snapshot = events.Snapshot(
        upto_seq=1,
        messages=[message],
        open={"parts": [{"message_id": "m", "part_id": "p", "kind": "text"}], "steps": ["s1"]},
        usage=[{"type": "usage", "input_tokens": 1}],
        ext={"ag_ui": "nothing of ours"},
    )

    shown = encoded(
        numbered([_STARTED, TextDelta("before"), snapshot, TextDelta("!", message_id="m", part_id="p"), RunCompleted()])
    )

    check_order(shown)
    assert applied(shown)["m"]["content"] == "so far!"
    assert shown[-1]["usage"] == [{"inputTokens": 1}]


def test_a_snapshot_without_sense_does_not_end_the_stream() -> None:
    snapshot = events.Snapshot(upto_seq=1, messages=[{"parts": "none"}], usage=[1])

    shown = encoded(numbered([_STARTED, snapshot, TextDelta("Hi"), RunCompleted()]))

    check_order(shown)
    assert types(shown)[-1] == "RUN_FINISHED"


# Messages and the document


def test_a_conversation_in_ag_uis_form() -> None:
    conversation = [
        Message(role="user", parts=[TextPart(text="Hi?")]),
        Message(
            id="a",
            role="assistant",
            parts=[
                ReasoningPart(text="Hm.", signature="s"),
                TextPart(text="Wait.", citations=[1]),
                ToolPart(call_id="c", name="look", state="done", title="Look", input={"x": 1}, output="seen"),
                ToolPart(call_id="d", name="fail", state="error", error={"code": "x", "message": "No."}),
                TextPart(text="Done."),
            ],
        ),
        Message(role="tool", parts=[ToolPart(call_id="e", state="done", output=[1])]),
    ]

    shown = messages_of(conversation)

    read([DIALECT.encoder(run_id="r").encode(Entry(0, 0, joining(reduce([]), shown)))[-1]])
    assert shown == [
        {"id": "message-1", "role": "user", "content": "Hi?"},
        {"id": "a:1", "role": "reasoning", "content": "Hm.", "encryptedValue": "s"},
        {
            "id": "a",
            "role": "assistant",
            "content": "Wait.",
            "metadata": {"citations": [1]},
            "toolCalls": [
                {
                    "id": "c",
                    "type": "function",
                    "function": {"name": "look", "arguments": '{"x":1}'},
                    "metadata": {"title": "Look"},
                },
                {"id": "d", "type": "function", "function": {"name": "fail", "arguments": "{}"}},
            ],
        },
        {"id": "c:result", "role": "tool", "toolCallId": "c", "content": "seen"},
        {
            "id": "d:result",
            "role": "tool",
            "toolCallId": "d",
            "content": "No.",
            "metadata": {"error": {"code": "x"}, "tanstack": {"state": "output-error"}},
        },
        {"id": "a:3", "role": "assistant", "content": "Done."},
        {
            "id": "message-3",
            "role": "assistant",
            "toolCalls": [{"id": "e", "type": "function", "function": {"name": "tool", "arguments": "{}"}}],
        },
        {"id": "e:result", "role": "tool", "toolCallId": "e", "content": "[1]"},
    ]


def test_the_document_has_the_messages_and_how_it_ended() -> None:
    log = filled(numbered([_STARTED, TextDelta("Hi", message_id="m"), Usage(input_tokens=1), RunCompleted(result=[1])]))
    failed = numbered([RunStarted(run_id="run"), events.RunFailed(code="timeout", message="Too slow.")])

    assert msgspec.json.decode(DIALECT.document(reduce(log))) == {
        "threadId": "thread",
        "status": "completed",
        "messages": [{"id": "m", "role": "assistant", "content": "Hi"}],
        "result": [1],
        "usage": [{"inputTokens": 1}],
    }
    assert msgspec.json.decode(DIALECT.document(reduce(failed))) == {
        "threadId": "run",
        "status": "failed",
        "messages": [],
        "error": {"code": "timeout", "message": "Too slow."},
    }


def test_its_clients_are_not_told_to_come_back() -> None:
    assert DIALECT.name == "ag-ui"
    assert not DIALECT.resumes
    assert DIALECT.stateful
