"""The AI SDK's stream: whatever a source leaves out, the chunks are legal, closed, and say the same."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from tailrace import events
from tailrace.errors import OptionInvalidError
from tailrace.events import (
    Entry,
    Event,
    MessageFinished,
    ReasoningDelta,
    ReasoningDone,
    RunStarted,
    StepFinished,
    StepStarted,
    Terminal,
    TextDelta,
    TextDone,
    ToolArgsDelta,
    ToolError,
    ToolOutput,
    ToolProgress,
    ToolReady,
    ToolStarted,
)
from tailrace.fold import MERGED_CHARACTERS, merge, reduce, snapshot
from tailrace.wire.dialects.ai_sdk import CONTINUES, DIALECT
from tailrace.wire.sse import Decoder
from tests.unit.strategies import TERMINALS, filled, loose_logs, numbered

DONE = "[DONE]"
#: What a client knows of each version; the first is what is understood by all.
TYPES = {
    5: {
        *("start", "finish", "error", "abort", "message-metadata", "start-step", "finish-step"),
        *("text-start", "text-delta", "text-end", "reasoning-start", "reasoning-delta", "reasoning-end"),
        *("tool-input-start", "tool-input-delta", "tool-input-available", "tool-input-error"),
        *("tool-output-available", "tool-output-error", "source-url", "source-document", "file"),
    }
}
TYPES[6] = TYPES[7] = {*TYPES[5], "tool-approval-request"}
REASONS = {5: {"stop", "length", "content-filter", "tool-calls", "error", "other"}}
REASONS[6] = REASONS[5]
REASONS[7] = {*REASONS[5], "interrupted"}


def read(log: list[Entry], version: int = 5) -> list[Any]:
    """What each frame says."""
    encoder = DIALECT.encoder(run_id="run", sdk_version=version)
    shown = Decoder().feed(b"".join(frame for entry in log for frame in encoder.encode(entry)))
    assert {event.event for event in shown} <= {"message"}
    return [event.data if event.data == DONE else msgspec.json.decode(event.data) for event in shown]


def told(*content: Event, version: int = 5) -> list[Any]:
    """What the events say after the start of their run, without the ids that a producer fills in."""
    return read(numbered([RunStarted(run_id="run", message_id="m"), *content]), version)[1:]


def types_of(chunks: list[Any]) -> list[str]:
    return [chunk if chunk == DONE else chunk["type"] for chunk in chunks]


class Client:
    """Checks what the AI SDK checks, in the strictest of its versions."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.open: set[str] = set()
        self.ids: Counter[str] = Counter()
        self.inputs: dict[str, str] = {}
        self.in_step = False
        self.last = ""

    def take(self, chunk: Any) -> None:  # noqa: ANN401  any JSON
        assert self.last != DONE
        if chunk == DONE:
            assert self.last == "finish"
            assert not self.in_step
            self.last = DONE
            return
        kind: str = chunk["type"]
        assert kind in TYPES[self.version] or kind.startswith("data-")
        assert (kind == "start") == (not self.last)
        assert all(value is not None for key, value in chunk.items() if key not in {"data", "input", "output"})
        if kind in {"error", "abort", "finish"}:
            assert not self.open
            assert "writing" not in self.inputs.values()
        if kind == "finish":
            assert chunk["finishReason"] in REASONS[self.version]
        self._part(kind, chunk)
        self._step(kind)
        self._tool(kind, chunk)
        self.last = kind

    def _part(self, kind: str, chunk: Any) -> None:  # noqa: ANN401
        what, _, happens = kind.rpartition("-")
        if what not in {"text", "reasoning"}:
            return
        assert self.in_step
        name = f"{what} {chunk['id']}"
        if happens == "start":
            self.ids[chunk["id"]] += 1
            self.open.add(name)
        assert name in self.open
        if happens == "end":
            self.open.remove(name)

    def _step(self, kind: str) -> None:
        if kind == "start-step":
            assert not self.in_step
            self.in_step = True
        elif kind == "finish-step":
            assert self.in_step
            assert not self.open
            assert "writing" not in self.inputs.values()
            self.in_step = False

    def _tool(self, kind: str, chunk: Any) -> None:  # noqa: ANN401
        if not kind.startswith("tool-"):
            return
        call_id = chunk["toolCallId"]
        if kind == "tool-input-start":
            assert self.in_step
            self.inputs[call_id] = "writing"
        elif kind == "tool-input-delta":
            assert self.inputs[call_id] == "writing"
        elif kind in {"tool-input-available", "tool-input-error"}:
            assert self.in_step
            self.inputs[call_id] = "written"
        else:
            assert self.inputs[call_id] == "written"


@pytest.mark.parametrize("version", TYPES)
@settings(max_examples=80)
@given(log=loose_logs())
def test_any_log_is_a_legal_stream(version: int, log: list[Entry]) -> None:
    for entries in (log, filled(log), merge(filled(log))):
        client = Client(version)

        for chunk in read(entries, version):
            client.take(chunk)

        assert client.last == DONE
        assert set(client.ids.values()) <= {1}


@settings(max_examples=60)
@given(log=loose_logs())
def test_no_text_is_lost_or_told_twice(log: list[Entry]) -> None:
    log = [entry for entry in filled(log) if not isinstance(entry.event, events.Snapshot)]
    chunks = [chunk for chunk in read(log) if chunk != DONE]

    for kind, delta in (("text-delta", TextDelta), ("reasoning-delta", ReasoningDelta)):
        expected = "".join(entry.event.delta for entry in log if isinstance(entry.event, delta))
        assert "".join(chunk["delta"] for chunk in chunks if chunk["type"] == kind) == expected


# The message


def test_the_message_begins_with_its_id_and_says_which_run_it_is() -> None:
    started = RunStarted(run_id="run", thread_id="thread", message_id="m", model="small")

    assert read(numbered([started])) == [
        {
            "type": "start",
            "messageId": "m",
            "messageMetadata": {"runId": "run", "threadId": "thread", "model": "small"},
        }
    ]


def test_a_run_whose_beginning_is_missing_begins_nevertheless() -> None:
    assert types_of(read(numbered([TextDelta("a")])))[0] == "start"


def test_a_text_is_opened_by_its_first_delta_and_closed_by_the_end() -> None:
    assert told(TextDelta("a"), TextDelta("b"), events.RunCompleted()) == [
        {"type": "start-step"},
        {"type": "text-start", "id": "text"},
        {"type": "text-delta", "id": "text", "delta": "a"},
        {"type": "text-delta", "id": "text", "delta": "b"},
        {"type": "text-end", "id": "text"},
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "stop", "messageMetadata": {"status": "completed"}},
        DONE,
    ]


def test_an_id_that_is_used_again_is_another_one() -> None:
    again = (TextDelta("a", part_id="p"), TextDone(part_id="p"))

    ids = [
        chunk["id"] for chunk in told(*again, *again, TextDelta("b", part_id="p~2")) if "start" in chunk["type"][-5:]
    ]

    assert ids == ["p", "p~2", "p~2~2"]


def test_a_part_ends_the_one_before_it_in_its_message_only() -> None:
    chunks = told(
        TextDelta("a", message_id="m", part_id="a"),
        TextDelta("b", message_id="n", part_id="b"),
        ReasoningDelta("c", message_id="m", part_id="c"),
        TextDelta("d", message_id="n", part_id="b"),
        MessageFinished(message_id="n"),
    )

    assert [(chunk["type"], chunk["id"]) for chunk in chunks if "id" in chunk] == [
        ("text-start", "a"),
        ("text-delta", "a"),
        ("text-start", "b"),
        ("text-delta", "b"),
        ("text-end", "a"),
        ("reasoning-start", "c"),
        ("reasoning-delta", "c"),
        ("text-delta", "b"),
        ("text-end", "b"),
    ]


def test_what_a_provider_said_of_a_part_is_kept_with_it() -> None:
    chunks = told(
        ReasoningDelta("a"), ReasoningDone(signature="s"), TextDelta("b"), TextDone(citations=[1]), TextDone()
    )

    assert [chunk.get("providerMetadata") for chunk in chunks if chunk["type"].endswith("-end")] == [
        {"tailrace": {"signature": "s"}},
        {"tailrace": {"citations": [1]}},
    ]


# Steps


def test_a_step_ends_where_the_source_says_so() -> None:
    chunks = told(StepStarted(), TextDelta("a"), StepFinished(), StepStarted(), TextDelta("b"), StepStarted())

    assert types_of(chunks) == ["start-step", "text-start", "text-delta", "text-end", "finish-step"] * 2


def test_a_step_ends_where_the_model_goes_on_after_its_tools() -> None:
    chunks = told(
        ToolReady(call_id="a", name="x"),
        ToolReady(call_id="b", name="x"),
        ToolOutput(call_id="a", output=1),
        TextDelta("Meanwhile. "),
        ToolOutput(call_id="b", output=1),
        TextDelta("So."),
        ReasoningDelta("Hm"),
    )

    assert [chunk for chunk in types_of(chunks) if "step" in chunk or "start" in chunk] == [
        "start-step",
        "text-start",
        "finish-step",
        "start-step",
        "reasoning-start",
    ]


def test_a_step_does_not_end_while_a_call_is_being_written() -> None:
    chunks = told(ToolStarted(call_id="a", name="x"), StepFinished(), ToolArgsDelta("{}"), ToolReady(), StepFinished())

    assert types_of(chunks) == [
        "start-step",
        "tool-input-start",
        "tool-input-delta",
        "tool-input-available",
        "finish-step",
    ]


@pytest.mark.parametrize("terminal", TERMINALS, ids=lambda terminal: type(terminal).__name__)
@pytest.mark.parametrize("in_a_step", [False, True])
def test_results_at_the_end_are_followed_by_an_empty_step(terminal: Terminal, in_a_step: bool) -> None:
    last = [StepFinished()] if in_a_step else []
    chunks = types_of(told(ToolReady(call_id="a", name="x"), ToolOutput(call_id="a", output=1), *last, terminal))

    assert chunks.count("start-step") == chunks.count("finish-step") == 2


# Tools


def test_a_call_is_told_as_it_is_written() -> None:
    chunks = told(
        ToolStarted(call_id="a", name="look", title="Look"),
        ToolArgsDelta('{"q":', call_id="a"),
        ToolArgsDelta("1}", call_id="a"),
        ToolReady(call_id="a", name="look", input={"q": 1}),
        ToolProgress(call_id="a", output=["half"], progress=0.5),
        ToolOutput(call_id="a", output=None),
    )

    named = {"toolCallId": "a", "toolName": "look", "dynamic": True, "title": "Look"}
    result = {"type": "tool-output-available", "toolCallId": "a", "dynamic": True}
    assert chunks == [
        {"type": "start-step"},
        {"type": "tool-input-start", **named},
        {"type": "tool-input-delta", "toolCallId": "a", "inputTextDelta": '{"q":'},
        {"type": "tool-input-delta", "toolCallId": "a", "inputTextDelta": "1}"},
        {"type": "tool-input-available", **named, "input": {"q": 1}},
        {**result, "preliminary": True, "output": ["half"]},
        {"type": "data-tool-progress", "id": "a", "data": {"toolCallId": "a", "value": 0.5}},
        {**result, "output": None},
    ]


@pytest.mark.parametrize(
    ("executor", "marks"),
    [("server", {"dynamic": True}), ("client", {}), ("provider", {"dynamic": True, "providerExecuted": True})],
)
def test_a_call_says_who_runs_it(executor: Any, marks: dict[str, object]) -> None:  # noqa: ANN401
    _, chunk = told(ToolStarted(call_id="a", name="x", executor=executor))

    assert chunk == {"type": "tool-input-start", "toolCallId": "a", "toolName": "x", **marks}


@pytest.mark.parametrize(
    ("args", "value"), [(["{", '"a": 1}'], {"a": 1}), ([], {}), (['{"a'], '{"a'), (["x" * 200_000], {})]
)
def test_a_result_before_the_input_is_complete_has_what_there_is_of_it(args: list[str], value: object) -> None:
    written = [ToolArgsDelta(piece, call_id="a") for piece in args]

    *_, ready, output = told(ToolStarted(call_id="a", name="x"), *written, ToolOutput(call_id="a", output=1))

    assert (ready["type"], ready["input"], output["output"]) == ("tool-input-available", value, 1)


def test_a_result_of_a_call_that_nobody_told_of_has_one() -> None:
    assert types_of(told(ToolOutput(output=1), ToolError(call_id="b", code="e", message="No."))) == [
        "start-step",
        "tool-input-available",
        "tool-output-available",
        "finish-step",
        "start-step",
        "tool-input-error",
    ]


def test_a_call_that_fails_says_so() -> None:
    failed = ToolError(call_id="a", code="e", message="No.", phase="input")
    named = {"toolCallId": "a", "dynamic": True, "errorText": "No."}

    assert told(ToolStarted(call_id="a", name="x"), ToolArgsDelta("{"), failed)[-1] == {
        "type": "tool-input-error",
        "toolName": "x",
        "input": "{",
        **named,
    }
    assert told(ToolReady(call_id="a", name="x"), failed)[-1] == {"type": "tool-output-error", **named}


def test_what_comes_after_its_time_is_not_told() -> None:
    done: list[Event] = [ToolReady(call_id="a", name="x", input=1), ToolOutput(call_id="a", output=2)]
    late: list[Event] = [
        ToolArgsDelta("{", call_id="a"),
        ToolReady(call_id="a", input=3),
        ToolProgress(call_id="a", output=4),
        TextDone(part_id="nowhere"),
        MessageFinished(message_id="nowhere"),
        StepFinished(),
    ]

    assert told(*done, *late[:-1]) == told(*done)


def test_calls_without_ids_are_told_apart() -> None:
    chunks = told(ToolStarted(name="x"), ToolArgsDelta("{"), ToolStarted(name="y"), ToolArgsDelta("{}"))

    assert [chunk["toolCallId"] for chunk in chunks[1:]] == ["call", "call", "call~2", "call~2"]


# Beside the answer


@pytest.mark.parametrize(
    ("event", "chunk"),
    [
        (
            events.Status("Working", state="w", level="info"),
            {"type": "data-status", "transient": True, "data": {"text": "Working", "state": "w", "level": "info"}},
        ),
        (
            events.Thought("First", step=1, total=2),
            {"type": "data-thought", "data": {"text": "First", "step": 1, "total": 2}},
        ),
        (events.Notice(code="c", message="M"), {"type": "data-notice", "data": {"code": "c", "message": "M"}}),
        (events.Progress(value=0.5), {"type": "data-progress", "id": "progress", "data": {"value": 0.5}}),
        (events.Progress(id="p", current=1), {"type": "data-progress", "id": "p", "data": {"current": 1.0}}),
        (events.Data("x.y", None, id="i"), {"type": "data-x.y", "id": "i", "data": None}),
        (events.Data("x", [1], transient=True), {"type": "data-x", "transient": True, "data": [1]}),
        (events.UIAction({"type": "t"}, id="a1"), {"type": "data-ui-action", "id": "a1", "data": {"type": "t"}}),
        (events.Suggestions(["a"]), {"type": "data-suggestions", "id": "suggestions", "data": ["a"]}),
        (events.StateSnapshot(state=[1]), {"type": "data-state", "id": "state", "data": [1]}),
        (
            events.StateDelta(patch=[{"op": "remove"}]),
            {"type": "data-state-delta", "transient": True, "data": [{"op": "remove"}]},
        ),
    ],
)
def test_a_fact_is_a_data_part(event: Event, chunk: dict[str, object]) -> None:
    assert told(event) == [chunk]


@pytest.mark.parametrize(
    ("event", "chunk"),
    [
        (
            events.Source(kind="url", url="u", title="T", source_id="s"),
            {"type": "source-url", "sourceId": "s", "url": "u", "title": "T"},
        ),
        (
            events.Source(kind="document", filename="f.pdf"),
            {
                "type": "source-document",
                "sourceId": "source",
                "mediaType": "application/octet-stream",
                "title": "f.pdf",
                "filename": "f.pdf",
            },
        ),
        (events.File(media_type="image/png", url="u"), {"type": "file", "mediaType": "image/png", "url": "u"}),
    ],
)
def test_a_source_and_a_file_belong_to_a_step(event: Event, chunk: dict[str, object]) -> None:
    assert told(event) == [{"type": "start-step"}, chunk]


def test_usage_is_summed_over_the_models_and_replaced_within_one() -> None:
    first, _, last = told(
        events.Usage(model="a", input_tokens=1, output_tokens=2),
        events.Usage(model="b", input_tokens=10, reasoning_tokens=5),
        events.Usage(model="a", input_tokens=3, output_tokens=4),
    )

    assert first["messageMetadata"] == {"usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}}
    assert last["messageMetadata"] == {
        "usage": {"inputTokens": 13, "outputTokens": 4, "reasoningTokens": 5, "totalTokens": 17}
    }


# Endings


def test_a_failure_is_told_after_everything_is_closed() -> None:
    chunks = told(
        TextDelta("a"), ToolReady(call_id="c", name="x"), events.RunFailed(code="timeout", message="Too slow.")
    )

    assert chunks[4:] == [
        {
            "type": "tool-output-error",
            "toolCallId": "c",
            "errorText": "The run ended before the tool did.",
            "dynamic": True,
        },
        {"type": "text-end", "id": "text"},
        {"type": "finish-step"},
        {"type": "start-step"},
        {"type": "finish-step"},
        {
            "type": "message-metadata",
            "messageMetadata": {"status": "failed", "error": {"code": "timeout", "message": "Too slow."}},
        },
        {"type": "error", "errorText": "Too slow."},
        {"type": "finish", "finishReason": "error", "messageMetadata": {"status": "failed"}},
        DONE,
    ]


@pytest.mark.parametrize(("version", "reason"), [(5, "other"), (6, "other"), (7, "interrupted")])
def test_a_cancelled_run_is_no_success(version: int, reason: str) -> None:
    assert told(events.RunCancelled(reason="user"), version=version) == [
        {"type": "abort", "reason": "user"},
        {"type": "finish", "finishReason": reason, "messageMetadata": {"status": "cancelled", "reason": "user"}},
        DONE,
    ]


@pytest.mark.parametrize(
    ("reason", "told_as"), [(None, "stop"), ("content_filter", "content-filter"), ("tool_calls", "tool-calls")]
)
def test_a_completed_run_says_why_it_ended_and_what_came_of_it(reason: Any, told_as: str) -> None:  # noqa: ANN401
    finish, _ = told(events.RunCompleted(finish_reason=reason, result=[1]))

    assert finish["finishReason"] == told_as
    assert finish["messageMetadata"] == {"status": "completed", "result": [1]}


@pytest.mark.parametrize("version", TYPES)
def test_a_pause_asks_for_an_approval_where_the_client_can_give_it(version: int) -> None:
    approval = events.Interrupt(id="i", kind="approval", call_id="c", message="May I?", expires_at_ms=5)
    unknown = events.Interrupt(id="j", kind="approval", call_id="nowhere")
    paused = events.RunPaused(interrupts=[approval, unknown])

    chunks = told(ToolReady(call_id="c", name="x"), paused, version=version)

    asked = {"id": "i", "kind": "approval", "toolCallId": "c", "message": "May I?", "expiresAtMs": 5}
    assert chunks[2:4] == [
        {"type": "data-interrupt", "id": "i", "data": asked}
        if version == 5
        else {"type": "tool-approval-request", "approvalId": "i", "toolCallId": "c", "reason": "May I?"},
        {"type": "data-interrupt", "id": "j", "data": {"id": "j", "kind": "approval", "toolCallId": "nowhere"}},
    ]
    assert types_of(chunks)[4:] == ["finish-step", "finish", DONE]
    assert chunks[-2]["finishReason"] == "tool-calls"


# A snapshot

SO_FAR = filled(
    numbered(
        [
            RunStarted(run_id="run", message_id="m"),
            ReasoningDelta("Hm"),
            ReasoningDone(signature="s"),
            ToolReady(call_id="a", name="x", input=1),
            ToolOutput(call_id="a", output=2),
            ToolReady(call_id="b", name="x", input=1),
            ToolProgress(call_id="b", output=3, progress=0.5),
            ToolStarted(call_id="c", name="y", title="Y"),
            ToolArgsDelta("{", call_id="c"),
            ToolReady(call_id="d", name="x"),
            ToolError(call_id="d", code="e", message="No."),
            events.StateSnapshot(state=[1]),
            events.Usage(input_tokens=1),
            TextDelta("so"),
            TextDelta(" far"),
        ]
    )
)


@pytest.mark.parametrize("number", [0, 2])
def test_a_reader_that_joins_by_a_snapshot_has_what_the_others_have(number: int) -> None:
    earlier = {"role": "user", "parts": [{"type": "text", "text": "Before"}]}
    summary = snapshot(reduce(SO_FAR))
    summary = msgspec.structs.replace(summary, messages=[earlier, *summary.messages])
    rest: list[Event] = [
        ToolArgsDelta("}", call_id="c"),
        ToolReady(call_id="c", input={}),
        ToolOutput(call_id="b", output=4),
    ]
    after = [Entry(number + 20, 0, event) for number, event in enumerate([*rest, events.RunCompleted()])]
    started = RunStarted(run_id="run", message_id="m")

    joined = read([Entry(number and 1, 0, started), Entry(number, 0, summary), *after])
    others = read([*SO_FAR, *after])

    assert joined[0] == others[0]
    for kind in ("text-delta", "reasoning-delta", "tool-input-available", "tool-output-available", "data-state"):
        assert _values(joined, kind) == _values(others, kind)
    assert _values(joined, "reasoning-end") == _values(others, "reasoning-end")
    assert types_of(joined)[-2:] == ["finish", DONE]


def _values(chunks: list[Any], kind: str) -> Any:  # noqa: ANN401
    """What chunks of a type say, whether it is said in one or in several."""
    found = [chunk for chunk in chunks if chunk != DONE and chunk["type"] == kind]
    return "".join(chunk["delta"] for chunk in found) if kind.endswith("-delta") else sorted(map(str, found))


def test_a_snapshot_of_what_was_told_already_says_nothing() -> None:
    content = [entry.event for entry in SO_FAR[1:]]

    assert told(*content, snapshot(reduce(SO_FAR))) == told(*content)


def test_a_call_of_the_pages_own_is_told_as_such_after_a_snapshot() -> None:
    call = ToolStarted(call_id="c1", name="locate", executor="client")
    summary = snapshot(reduce(numbered([call, ToolReady(call_id="c1", input={})])))

    assert [chunk for chunk in told(summary) if "toolName" in chunk] == [
        {"type": "tool-input-start", "toolCallId": "c1", "toolName": "locate"},
        {"type": "tool-input-available", "toolCallId": "c1", "toolName": "locate", "input": {}},
    ]


def test_a_long_text_of_a_snapshot_comes_in_pieces() -> None:
    text = "x" * (MERGED_CHARACTERS + 1)
    messages = [{"role": "assistant", "parts": [{"type": "text", "text": text, "done": True}]}]

    chunks = told(events.Snapshot(upto_seq=1, messages=messages))

    assert [len(chunk["delta"]) for chunk in chunks if chunk["type"] == "text-delta"] == [MERGED_CHARACTERS, 1]


def test_a_snapshot_of_nonsense_says_nothing() -> None:
    assert told(events.Snapshot(upto_seq=1, messages=[{"parts": 7}])) == []


# A message that is continued

BEFORE: list[Any] = [
    {"type": "step-start"},
    {"type": "reasoning", "text": "Hm"},
    {"type": "text", "text": "Let me see."},
    {"type": "tool-locate", "toolCallId": "a", "state": "output-available", "input": {}, "output": None},
    {"type": "dynamic-tool", "toolName": "x", "toolCallId": "b", "state": "approval-responded", "input": {}},
    {"type": "dynamic-tool", "toolName": "x", "toolCallId": "c", "state": "output-error", "errorText": "No."},
    {"type": "source-url", "sourceId": "s", "url": "u"},
    {"type": "file", "mediaType": "image/png", "url": "f"},
    {"type": "data-x", "id": "i", "data": None},
]
NONSENSE: list[Any] = [
    {},
    {"type": 5},
    {"type": "text"},
    {"type": "dynamic-tool", "toolCallId": [1]},
    {"type": "source-x"},
]


def continued(*content: Event, parts: Any, replay: object = 0) -> list[Any]:  # noqa: ANN401
    started = RunStarted(run_id="run", message_id="m", meta={CONTINUES: parts})
    encoder = DIALECT.encoder(run_id="run", replay=replay)
    frames = b"".join(frame for entry in numbered([started, *content]) for frame in encoder.encode(entry))
    return [msgspec.json.decode(event.data) for event in Decoder().feed(frames)][1:]


def test_whoever_has_a_message_is_told_only_how_it_goes_on() -> None:
    chunks = continued(ToolOutput(call_id="b", output=2), TextDelta("So."), parts=BEFORE)

    assert chunks[0] == {"type": "tool-output-available", "toolCallId": "b", "dynamic": True, "output": 2}
    assert types_of(chunks[1:]) == ["start-step", "text-start", "text-delta"]


def test_whoever_has_nothing_of_a_message_is_told_its_beginning_too() -> None:
    rest = (ToolOutput(call_id="b", output=2), TextDelta("So."))

    chunks = continued(*rest, parts=BEFORE, replay="1")

    assert chunks[-4:] == continued(*rest, parts=BEFORE)
    assert [chunk for chunk in types_of(chunks[:-4]) if not chunk.endswith(("-start", "-end", "step"))] == [
        "reasoning-delta",
        "text-delta",
        "tool-input-available",
        "tool-output-available",
        "tool-input-available",
        "tool-input-available",
        "tool-output-error",
        "source-url",
        "file",
        "data-x",
    ]
    client = Client(5)
    for chunk in [{"type": "start"}, *chunks]:
        client.take(chunk)


@pytest.mark.parametrize("parts", [None, "x", NONSENSE, [5], [None]])
def test_a_beginning_that_is_none_is_left_out(parts: object) -> None:
    assert continued(parts=parts, replay=1) == []


# Options, the document, and refusals


@pytest.mark.parametrize("version", [5, "6", 7])
def test_a_version_may_be_text(version: object) -> None:
    encoder = DIALECT.encoder(run_id="run", sdk_version=version)

    assert encoder.bodies(numbered([TextDelta("a")])[0])


@pytest.mark.parametrize("version", [4, "8", "", None, "5.0", True])
def test_a_version_that_there_is_not_is_refused(version: object) -> None:
    with pytest.raises(OptionInvalidError):
        DIALECT.encoder(run_id="run", sdk_version=version)


def test_a_replay_is_asked_for_or_not() -> None:
    with pytest.raises(OptionInvalidError):
        DIALECT.encoder(run_id="run", replay="yes")


def document_of(*content: Event) -> Any:  # noqa: ANN401
    log = filled(numbered([RunStarted(run_id="run", thread_id="thread"), *content]))
    return msgspec.json.decode(DIALECT.document(reduce(log)))


def test_the_document_is_a_message() -> None:
    document = document_of(
        ReasoningDelta("Hm"),
        ToolReady(call_id="a", name="x", input=1),
        ToolOutput(call_id="a", output=None),
        ToolReady(call_id="b", name="x"),
        ToolError(call_id="b", code="e", message="No."),
        ToolReady(call_id="c", name="x"),
        TextDelta("So."),
        events.Source(kind="url", url="u"),
        events.File(media_type="image/png", url="f"),
        events.Thought("First"),
        events.Progress(value=1),
        events.UIAction({"type": "t"}),
        events.Suggestions(["a"]),
        events.Notice(code="c", message="M"),
        events.StateSnapshot(state=[1]),
        events.Data("x", 1),
        events.Data("x", 2),
        events.Data("y", 3, id="i"),
        events.Usage(input_tokens=1),
        events.RunPaused(interrupts=[events.Interrupt(id="i", kind="input")]),
    )

    call = {"type": "dynamic-tool", "toolName": "x"}
    assert document == {
        "id": document["id"],
        "role": "assistant",
        "metadata": {
            "runId": "run",
            "threadId": "thread",
            "status": "paused",
            "usage": {"inputTokens": 1, "totalTokens": 1},
        },
        "parts": [
            {"type": "reasoning", "text": "Hm", "state": "done"},
            {**call, "toolCallId": "a", "input": 1, "state": "output-available", "output": None},
            {**call, "toolCallId": "b", "input": {}, "state": "output-error", "errorText": "No."},
            {**call, "toolCallId": "c", "input": {}, "state": "input-available"},
            {"type": "text", "text": "So.", "state": "done"},
            {"type": "source-url", "sourceId": "src1", "url": "u"},
            {"type": "file", "mediaType": "image/png", "url": "f"},
            {"type": "data-thought", "data": {"text": "First"}},
            {"type": "data-progress", "id": "progress", "data": {"value": 1.0}},
            {"type": "data-ui-action", "data": {"type": "t"}},
            {"type": "data-suggestions", "id": "suggestions", "data": ["a"]},
            {"type": "data-notice", "data": {"code": "c", "message": "M"}},
            {"type": "data-state", "id": "state", "data": [1]},
            {"type": "data-interrupt", "id": "i", "data": {"id": "i", "kind": "input"}},
            {"type": "data-x", "data": 1},
            {"type": "data-x", "data": 2},
            {"type": "data-y", "id": "i", "data": 3},
        ],
    }


def test_the_document_of_a_failure_keeps_the_text_and_names_the_error() -> None:
    document = document_of(TextDelta("so far"), events.RunFailed(code="timeout", message="Too slow."))

    assert document["parts"] == [{"type": "text", "text": "so far", "state": "done"}]
    assert document["metadata"]["error"] == {"code": "timeout", "message": "Too slow."}


def test_a_refusal_says_in_its_body_what_the_page_gets_nowhere_else() -> None:
    assert msgspec.json.decode(DIALECT.error(409, "conflict", "Used before.")) == {
        "error": {"code": "conflict", "message": "Used before.", "status": 409}
    }


def test_its_clients_do_not_come_back_and_want_the_header() -> None:
    assert DIALECT.name == "ai-sdk"
    assert DIALECT.headers == {"x-vercel-ai-ui-message-stream": "v1"}
    assert not DIALECT.resumes
    assert DIALECT.stateful


def test_every_chunk_is_documented() -> None:
    chunk, done = DIALECT.frame_kinds()
    documented: Any = chunk.data

    assert {*documented["properties"]["type"]["anyOf"][0]["enum"]} == TYPES[7]
    assert done.data is None
