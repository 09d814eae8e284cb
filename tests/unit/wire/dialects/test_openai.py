"""The openai dialect is a chat completion in chunks, with whatever else a run says beside them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from tailrace import events
from tailrace.errors import OptionInvalidError
from tailrace.events import Entry, Event, RunStarted, Terminal, TextDelta
from tailrace.fold import merge, reduce
from tailrace.wire.dialects.openai import DIALECT
from tailrace.wire.sse import Decoder
from tests.unit.strategies import TERMINALS, filled, logs, loose_logs, numbered

DONE = "[DONE]"
STARTED = RunStarted(run_id="run", model="claude")


def log_of(*content: Event) -> list[Entry]:
    return filled([Entry(entry.seq, 1_795_173_052_468, entry.event) for entry in numbered([STARTED, *content])])


def read(log: list[Entry], **options: Any) -> list[Any]:  # noqa: ANN401  those of the dialect
    """What each frame says."""
    encoder = DIALECT.encoder(run_id="run", **options)
    shown = Decoder().feed(b"".join(frame for entry in log for frame in encoder.encode(entry)))
    assert {event.event for event in shown} <= {"message"}
    return [event.data if event.data == DONE else msgspec.json.decode(event.data) for event in shown]


def said_by(*content: Event, **options: Any) -> list[Any]:  # noqa: ANN401  those of the dialect
    """What the events say after the first chunk."""
    return read(log_of(*content), **options)[1:]


def choices(chunks: list[Any]) -> list[Any]:
    """The choices of the chunks that have one."""
    return [chunk["choices"][0] for chunk in chunks if chunk != DONE and chunk.get("choices")]


def deltas(chunks: list[Any]) -> list[Any]:
    return [choice["delta"] for choice in choices(chunks)]


def told(chunks: list[Any]) -> list[str]:
    """The types of the events that are told beside the answer, in chunks of their own."""
    return [chunk["tailrace"]["type"] for chunk in chunks if chunk != DONE and chunk.get("choices") == []]


def calls_in(chunks: list[Any]) -> list[Any]:
    """The tool calls, put together as clients do it."""
    calls: list[dict[str, Any]] = []
    for delta in deltas(chunks):
        for fragment in delta.get("tool_calls", []):
            if fragment["index"] == len(calls):
                calls.append({"id": fragment["id"], "name": fragment["function"]["name"], "arguments": ""})
            calls[fragment["index"]]["arguments"] += fragment["function"]["arguments"]
    return calls


def test_an_answer_is_a_role_text_a_finish_reason_and_done() -> None:
    head = {"id": "chatcmpl-run", "object": "chat.completion.chunk", "created": 1_795_173_052, "model": "claude"}

    first, text, last, done = read(log_of(TextDelta("Hello."), events.RunCompleted()))

    assert first == {
        **head,
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}],
        "tailrace": {"type": "run.started", "run_id": "run", "model": "claude"},
    }
    assert text == {**head, "choices": [{"index": 0, "delta": {"content": "Hello."}, "finish_reason": None}]}
    assert last == {
        **head,
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        "tailrace": {"type": "run.completed", "finish_reason": "stop"},
    }
    assert done == DONE


def test_reasoning_goes_by_the_name_that_everybody_gives_it() -> None:
    assert deltas(said_by(events.ReasoningDelta("Hm."))) == [{"reasoning_content": "Hm."}]


@settings(max_examples=60)
@given(log=loose_logs())
def test_every_frame_but_an_error_and_the_end_is_a_valid_chunk(log: list[Entry]) -> None:
    *chunks, done = read(log, include_usage=True)

    assert done == DONE
    assert [chunk for chunk in chunks if chunk == DONE] == []
    assert deltas(chunks)[0]["role"] == "assistant"
    assert sum("role" in delta for delta in deltas(chunks)) == 1
    for chunk in chunks[:-1]:
        assert chunk["object"] == "chat.completion.chunk"
        assert isinstance(chunk["choices"], list)


@settings(max_examples=60)
@given(log=logs)
def test_no_event_is_lost_but_what_the_protocol_says_itself(log: list[Entry]) -> None:
    said = {"text.delta", "reasoning.delta"}
    chunks = read(log)

    shown = [chunk["tailrace"]["type"] for chunk in chunks if chunk != DONE and "tailrace" in chunk]

    assert shown == [kind for entry in log if (kind := events.event_type(entry.event)) not in said]


@settings(max_examples=60)
@given(log=logs)
def test_merged_or_not_the_text_is_the_same(log: list[Entry]) -> None:
    whole = ["".join(delta.get("content", "") for delta in deltas(read(each))) for each in (log, merge(log))]

    said = "".join(entry.event.delta for entry in log if isinstance(entry.event, TextDelta))

    assert whole == [said, said]


# Tools


SERVER: list[Event] = [
    events.ToolStarted(call_id="c1", name="get_weather"),
    events.ToolArgsDelta('{"city":"Rome"}', call_id="c1"),
    events.ToolReady(call_id="c1", input={"city": "Rome"}),
    events.ToolProgress(call_id="c1", progress=0.5),
    events.ToolOutput(call_id="c1", output={"temperature": 21}),
]


def test_a_call_of_the_servers_is_told_beside_the_answer_which_goes_on() -> None:
    chunks = said_by(*SERVER, TextDelta("21 °C."), events.RunCompleted())

    assert told(chunks) == ["tool.started", "tool.args.delta", "tool.ready", "tool.progress", "tool.output"]
    assert calls_in(chunks) == []
    assert choices(chunks)[-1]["finish_reason"] == "stop"


def test_calls_of_the_clients_are_fragments_and_the_finish_reason() -> None:
    chunks = said_by(
        events.ToolStarted(call_id="c1", name="get_weather", executor="client"),
        events.ToolArgsDelta('{"city":', call_id="c1"),
        events.ToolStarted(call_id="c2", name="clock", executor="client"),
        events.ToolArgsDelta('"Rome"}', call_id="c1"),
        events.ToolReady(call_id="c1", input={"city": "Rome"}),
        events.ToolReady(call_id="c2", input={"zone": "CET"}),
        events.RunCompleted(finish_reason="stop"),
    )

    assert deltas(chunks)[0]["tool_calls"] == [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": ""}}
    ]
    assert deltas(chunks)[1]["tool_calls"] == [{"index": 0, "function": {"arguments": '{"city":'}}]
    assert calls_in(chunks) == [
        {"id": "c1", "name": "get_weather", "arguments": '{"city":"Rome"}'},
        {"id": "c2", "name": "clock", "arguments": '{"zone":"CET"}'},
    ]
    assert choices(chunks)[-1]["finish_reason"] == "tool_calls"
    assert told(chunks) == []


def test_a_call_that_a_run_ended_for_is_the_clients_if_nobody_said_whose_it_is() -> None:
    chunks = said_by(
        events.ToolStarted(call_id="c1", name="get_weather"),
        events.ToolReady(call_id="c1", input={"city": "Rome"}),
        events.RunCompleted(finish_reason="tool_calls"),
    )

    assert calls_in(chunks) == [{"id": "c1", "name": "get_weather", "arguments": '{"city":"Rome"}'}]
    assert choices(chunks)[-1]["finish_reason"] == "tool_calls"


def test_a_finish_for_tools_without_one_for_the_client_is_a_stop() -> None:
    chunks = said_by(*SERVER, events.RunCompleted(finish_reason="tool_calls"))

    assert (calls_in(chunks), choices(chunks)[-1]["finish_reason"]) == ([], "stop")


def test_a_call_without_arguments_is_left_to_the_client_as_json() -> None:
    chunks = said_by(events.ToolStarted(call_id="c1", name="now", executor="client"), events.RunCompleted())

    assert calls_in(chunks) == [{"id": "c1", "name": "now", "arguments": "{}"}]


def test_a_call_that_the_client_has_answered_within_the_run_is_no_reason_to_finish() -> None:
    chunks = said_by(
        events.ToolStarted(call_id="c1", name="ask", executor="client"),
        events.ToolReady(call_id="c1", input={}),
        events.ToolOutput(call_id="c1", output="yes"),
        events.RunCompleted(),
    )

    assert (told(chunks), choices(chunks)[-1]["finish_reason"]) == (["tool.output"], "stop")


# Endings


@pytest.mark.parametrize(
    ("terminal", "reason"),
    [
        (events.RunCompleted(finish_reason="length"), "length"),
        (events.RunCompleted(finish_reason="content_filter"), "content_filter"),
        (events.RunCompleted(finish_reason="other"), "stop"),
        (events.RunCancelled(reason="user"), "stop"),
        (events.RunPaused(interrupts=[]), "stop"),
    ],
)
def test_an_ending_without_a_word_of_its_own_is_a_stop(terminal: Terminal, reason: str) -> None:
    last, done = said_by(terminal)

    assert (last["choices"][0]["finish_reason"], done) == (reason, DONE)
    assert last["tailrace"]["type"] == events.event_type(terminal)


@pytest.mark.parametrize(
    ("terminal", "code", "message"),
    [
        (events.RunFailed(code="timeout", message="Too slow."), "timeout", "Too slow."),
        (events.RunInterrupted(reason="shutdown"), "shutdown", "The answer was interrupted."),
    ],
)
def test_a_failure_is_an_error(terminal: Terminal, code: str, message: str) -> None:
    failed, done = said_by(terminal)

    assert failed["error"] == {"message": message, "type": "server_error", "param": None, "code": code}
    assert "choices" not in failed
    assert done == DONE


# Options


USAGE = events.Usage(input_tokens=12, output_tokens=34, reasoning_tokens=5, cached_input_tokens=2)


@pytest.mark.parametrize("wanted", [True, "true", "True", "1"])
def test_usage_is_the_last_chunk_if_it_is_wanted(wanted: object) -> None:
    *_, finish, usage, done = said_by(USAGE, events.RunCompleted(), include_usage=wanted)

    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"] == {
        "prompt_tokens": 12,
        "completion_tokens": 34,
        "total_tokens": 46,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    assert done == DONE


@pytest.mark.parametrize("options", [{}, {"include_usage": False}, {"include_usage": "0"}])
def test_usage_that_is_not_wanted_is_only_told_beside_the_answer(options: dict[str, object]) -> None:
    chunks = said_by(USAGE, events.RunCompleted(), **options)

    assert told(chunks) == ["usage"]
    assert [chunk for chunk in chunks if "usage" in chunk] == []


def test_usage_that_nobody_counted_is_not_made_up() -> None:
    assert len(said_by(events.RunCompleted(), include_usage=True)) == 2


def test_the_model_can_be_called_as_the_client_called_it() -> None:
    assert {chunk["model"] for chunk in read(log_of(TextDelta("x")), model="gpt-6")} == {"gpt-6"}


def test_an_option_that_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(OptionInvalidError):
        DIALECT.encoder(run_id="run", include_usage="perhaps")


# The document


def document_of(*content: Event) -> dict[str, Any]:
    return msgspec.json.decode(DIALECT.document_of(log_of(*content), run_id="run"), type=dict[str, Any])


def test_the_document_is_a_chat_completion() -> None:
    document = document_of(
        events.ReasoningDelta("Hm."), TextDelta("Hel"), TextDelta("lo."), USAGE, events.RunCompleted()
    )

    assert document["usage"]["total_tokens"] == 46
    assert document | {"usage": None} == {
        "id": "chatcmpl-run",
        "object": "chat.completion",
        "created": 1_795_173_052,
        "model": "claude",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello.", "refusal": None, "reasoning_content": "Hm."},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": None,
    }


def test_the_document_leaves_calls_to_the_client_as_the_stream_does() -> None:
    content: list[Event] = [
        events.ToolStarted(call_id="c2", name="add", executor="client"),
        events.ToolReady(call_id="c2", input=1),
    ]

    (choice,) = document_of(*SERVER, *content, events.RunCompleted())["choices"]

    assert choice["message"]["tool_calls"] == [
        {"id": "c2", "type": "function", "function": {"name": "add", "arguments": "1"}}
    ]
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "tool_calls")


@pytest.mark.parametrize("terminal", TERMINALS, ids=lambda terminal: type(terminal).__name__)
def test_the_document_has_the_error_that_the_stream_would_tell(terminal: Terminal) -> None:
    streamed = [chunk["error"] for chunk in said_by(terminal) if chunk != DONE and "error" in chunk]

    assert [document_of(terminal)[key] for key in document_of(terminal) if key == "error"] == streamed


@settings(max_examples=40)
@given(log=logs)
def test_the_document_of_a_reduced_run_says_what_its_log_says(log: list[Entry]) -> None:
    of_log, of_reduced = (
        msgspec.json.decode(document)["choices"][0]["message"]["content"]
        for document in (DIALECT.document_of(log, run_id="run"), DIALECT.document(reduce(log)))
    )

    assert of_log == of_reduced
