"""The openai-responses dialect counts its frames, and whoever puts them together has the final response."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from tailrace import events
from tailrace.events import Entry, Event, RunStarted, Terminal, TextDelta
from tailrace.fold import merge, reduce
from tailrace.wire.dialects.openai_responses import DIALECT
from tailrace.wire.sse import Decoder
from tests.unit.strategies import TERMINALS, filled, logs, loose_logs, numbered

STARTED = RunStarted(run_id="run", model="claude")
ENDS = {"response.completed", "response.incomplete", "response.failed"}


def log_of(*content: Event) -> list[Entry]:
    return filled([Entry(entry.seq, 1_795_173_052_468, entry.event) for entry in numbered([STARTED, *content])])


def read(log: list[Entry], **options: Any) -> list[Any]:  # noqa: ANN401  those of the dialect
    """What each frame says; its name is the type."""
    encoder = DIALECT.encoder(run_id="run", **options)
    shown = Decoder().feed(b"".join(frame for entry in log for frame in encoder.encode(entry)))
    said = [msgspec.json.decode(event.data) for event in shown]
    assert [event.event for event in shown] == [item["type"] for item in said]
    return said


def said_by(*content: Event) -> list[Any]:
    """What the events say after the beginning of the response."""
    return read(log_of(*content))[2:]


def types(said: list[Any]) -> list[str]:
    return [item["type"].removeprefix("response.") for item in said]


def response_of(*content: Event) -> dict[str, Any]:
    response: dict[str, Any] = read(log_of(*content))[-1]["response"]
    return response


def put_together(said: list[Any]) -> list[Any]:
    """The output as a client builds it, with the deltas and without what is repeated when a part is done."""
    output: list[Any] = []
    for item in said:
        match item["type"].removeprefix("response."):
            case "output_item.added":
                assert item["output_index"] == len(output)
                output.append(item["item"])
            case "content_part.added":
                output[item["output_index"]]["content"].append(item["part"])
            case "output_text.delta" | "reasoning_text.delta":
                output[item["output_index"]]["content"][item["content_index"]]["text"] += item["delta"]
            case "output_text.annotation.added":
                output[item["output_index"]]["content"][item["content_index"]]["annotations"].append(item["annotation"])
            case "mcp_call_arguments.delta" | "function_call_arguments.delta":
                output[item["output_index"]]["arguments"] += item["delta"]
            case _:
                pass
    return output


def contents(output: list[Any]) -> list[Any]:
    """What the deltas say of each item."""
    return [(item["id"], item["type"], item.get("content"), item.get("arguments")) for item in output]


def test_text_is_a_message_with_one_part() -> None:
    said = said_by(TextDelta("Hel"), TextDelta("lo."), events.RunCompleted())

    assert types(said) == [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    part: dict[str, Any] = {"type": "output_text", "text": "Hello.", "annotations": [], "logprobs": []}
    message: dict[str, Any] = {
        "id": "msg_run_0",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }
    assert said[-2]["item"] == message
    assert said[-1]["response"]["output"] == [message]


def test_a_response_begins_as_one_in_progress() -> None:
    created, in_progress = read(log_of())

    assert (created["type"], in_progress["type"]) == ("response.created", "response.in_progress")
    assert (
        created["response"]
        == in_progress["response"]
        == {
            "id": "resp_run",
            "object": "response",
            "created_at": 1_795_173_052,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": "claude",
            "output": [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "metadata": {},
        }
    )


def test_reasoning_is_an_item_and_its_signature_what_the_provider_encrypted() -> None:
    (item,) = response_of(events.ReasoningDelta("Hm."), events.ReasoningDone(signature="c2ln"), events.RunCompleted())[
        "output"
    ]

    assert item["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert (item["type"], item["summary"], item["encrypted_content"]) == ("reasoning", [], "c2ln")


def test_a_source_within_a_text_is_a_citation_and_elsewhere_beside_the_answer() -> None:
    source = events.Source(kind="url", url="https://example.org", title="Example", span=[0, 2])
    said = said_by(TextDelta("It is."), source, events.TextDone(), source)

    assert types(said)[3:] == [
        "output_text.annotation.added",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "keepalive",
    ]
    assert said[-2]["item"]["content"][0]["annotations"] == [
        {"type": "url_citation", "url": "https://example.org", "title": "Example", "start_index": 0, "end_index": 2}
    ]


# Numbers


@settings(max_examples=80)
@given(log=loose_logs())
def test_every_frame_has_the_next_number_and_the_last_one_ends_the_response(log: list[Entry]) -> None:
    said = read(log)

    assert [item["sequence_number"] for item in said] == list(range(len(said)))
    assert [item["type"] for item in said if item["type"] in ENDS] == [said[-1]["type"]]
    assert {item["type"] for item in said} <= {kind.event for kind in DIALECT.frame_kinds()}


@settings(max_examples=60)
@given(log=logs)
def test_a_merged_frame_has_the_number_of_the_last_it_stands_for(log: list[Entry]) -> None:
    numbers = {item["sequence_number"]: item["type"] for item in read(log)}

    assert all(numbers[item["sequence_number"]] == item["type"] for item in read(merge(log)))


@settings(max_examples=80)
@given(log=loose_logs())
def test_whoever_puts_the_deltas_together_has_the_final_output(log: list[Entry]) -> None:
    said = read(log)
    output = said[-1]["response"]["output"]

    assert contents(put_together(said)) == contents(output)


@settings(max_examples=60)
@given(log=loose_logs())
def test_everything_that_was_opened_is_done_before_the_end(log: list[Entry]) -> None:
    said = read(log)

    opened = [item["item"]["id"] for item in said if item["type"] == "response.output_item.added"]
    done = {item["output_index"]: item["item"] for item in said if item["type"] == "response.output_item.done"}

    assert len(opened) == len(done)
    assert [done[index] for index in sorted(done)] == said[-1]["response"]["output"]
    assert "in_progress" not in {item["status"] for item in done.values()}


@settings(max_examples=60)
@given(log=logs)
def test_all_text_is_in_the_output_in_its_order(log: list[Entry]) -> None:
    output = read(log)[-1]["response"]["output"]
    said = "".join(entry.event.delta for entry in log if isinstance(entry.event, TextDelta))

    assert "".join(item["content"][0]["text"] for item in output if item["type"] == "message") == said


def test_what_the_protocol_has_no_word_for_is_a_keepalive() -> None:
    (item,) = said_by(events.Status("Thinking"))

    assert item == {
        "type": "keepalive",
        "sequence_number": 2,
        "tailrace": {"type": "status", "text": "Thinking"},
    }


# Calls


def test_a_call_of_the_servers_is_one_item_with_its_output() -> None:
    said = said_by(
        events.ToolStarted(call_id="c1", name="get_weather"),
        events.ToolArgsDelta('{"city":"Rome"}', call_id="c1"),
        events.ToolReady(call_id="c1", input={"city": "Rome"}),
        events.ToolOutput(call_id="c1", output={"temperature": 21}),
        events.RunCompleted(),
    )

    assert types(said) == [
        "output_item.added",
        "mcp_call.in_progress",
        "mcp_call_arguments.delta",
        "mcp_call_arguments.done",
        "mcp_call.completed",
        "output_item.done",
        "completed",
    ]
    assert said[-1]["response"]["output"] == [
        {
            "id": "mcp_run_0",
            "type": "mcp_call",
            "status": "completed",
            "name": "get_weather",
            "server_label": "tailrace",
            "output": '{"temperature":21}',
            "arguments": '{"city":"Rome"}',
        }
    ]


def test_a_call_that_failed_says_why() -> None:
    response = response_of(
        events.ToolStarted(call_id="c1", name="draw"),
        events.ToolError(call_id="c1", code="unavailable", message="No map today."),
        events.RunCompleted(),
    )

    (item,) = response["output"]
    assert (item["status"], item["arguments"]) == ("failed", "{}")
    assert item["error"] == {
        "type": "mcp_tool_execution_error",
        "content": [{"type": "text", "text": "No map today."}],
    }


def test_a_call_of_the_clients_is_a_function_call() -> None:
    said = said_by(
        events.ToolStarted(call_id="c1", name="add", executor="client"),
        events.ToolReady(call_id="c1", input={"a": 1}),
        events.RunCompleted(),
    )

    assert types(said) == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert said[-2]["item"] == {
        "id": "fc_run_0",
        "type": "function_call",
        "status": "completed",
        "name": "add",
        "call_id": "c1",
        "arguments": '{"a":1}',
    }


def test_a_call_that_a_run_ended_for_is_the_clients_if_nobody_said_whose_it_is() -> None:
    output = response_of(
        events.ToolStarted(call_id="c1", name="add"),
        events.ToolReady(call_id="c1", input={"a": 1}),
        events.RunCompleted(finish_reason="tool_calls"),
    )["output"]

    assert [(item["type"], item["status"], item["arguments"]) for item in output] == [
        ("mcp_call", "incomplete", '{"a":1}'),
        ("function_call", "completed", '{"a":1}'),
    ]


def test_a_call_that_was_cut_short_is_incomplete() -> None:
    (item,) = response_of(
        events.ToolStarted(call_id="c1", name="add", executor="client"),
        events.ToolArgsDelta('{"a"', call_id="c1"),
        events.RunCancelled(reason="user"),
    )["output"]

    assert (item["status"], item["arguments"]) == ("incomplete", '{"a"')


def test_a_call_that_is_done_keeps_its_name() -> None:
    output = response_of(
        events.ToolStarted(call_id="c1", name="add", executor="client"),
        events.ToolReady(call_id="c1", input=1),
        events.ToolReady(call_id="c1", name="multiply", input=1),
        events.RunCompleted(),
    )["output"]

    assert [item["name"] for item in output] == ["add"]


def test_calls_side_by_side_are_items_side_by_side() -> None:
    output = response_of(
        events.ToolStarted(call_id="c1", name="first"),
        events.ToolStarted(call_id="c2", name="second"),
        events.ToolArgsDelta("[2]", call_id="c2"),
        events.ToolArgsDelta("[1]", call_id="c1"),
        events.ToolOutput(call_id="c2", output="two"),
        events.ToolOutput(call_id="c1", output="one"),
        events.RunCompleted(),
    )["output"]

    assert [(item["name"], item["arguments"], item["output"]) for item in output] == [
        ("first", "[1]", "one"),
        ("second", "[2]", "two"),
    ]


# Endings


@pytest.mark.parametrize(
    ("terminal", "verb", "status"),
    [
        (events.RunCompleted(), "completed", "completed"),
        (events.RunCompleted(finish_reason="length"), "incomplete", "incomplete"),
        (events.RunCompleted(finish_reason="content_filter"), "incomplete", "incomplete"),
        (events.RunCancelled(reason="user"), "incomplete", "cancelled"),
        (events.RunFailed(code="timeout", message="Too slow."), "failed", "failed"),
        (events.RunInterrupted(reason="shutdown"), "failed", "failed"),
        (events.RunPaused(interrupts=[]), "completed", "completed"),
    ],
)
def test_how_a_response_ends(terminal: Terminal, verb: str, status: str) -> None:
    (last,) = said_by(terminal)

    assert (last["type"], last["response"]["status"]) == (f"response.{verb}", status)
    assert last["tailrace"]["type"] == events.event_type(terminal)


def test_text_that_was_cut_short_is_incomplete() -> None:
    (item,) = response_of(TextDelta("It is"), events.RunCancelled(reason="user"))["output"]

    assert (item["status"], item["content"][0]["text"]) == ("incomplete", "It is")


def test_a_response_that_is_incomplete_says_why() -> None:
    assert response_of(events.RunCompleted(finish_reason="length"))["incomplete_details"] == {
        "reason": "max_output_tokens"
    }


@pytest.mark.parametrize(
    ("code", "told"), [("error", "server_error"), ("provider_rate_limited", "rate_limit_exceeded")]
)
def test_a_failure_has_one_of_the_codes_that_clients_know(code: str, told: str) -> None:
    error = response_of(events.RunFailed(code=code, message="Sorry."))["error"]

    assert error == {"code": told, "message": "Sorry."}


def test_usage_is_part_of_the_response() -> None:
    usage = events.Usage(input_tokens=12, output_tokens=34, reasoning_tokens=5, cached_input_tokens=2)

    assert response_of(usage, events.RunCompleted())["usage"] == {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 34,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 46,
    }


# The document


@settings(max_examples=60)
@given(log=logs)
def test_the_document_is_the_response_that_the_stream_ends_with(log: list[Entry]) -> None:
    document = msgspec.json.decode(DIALECT.document_of(log, run_id="run"))

    assert document == read(log)[-1]["response"]


def test_the_document_of_an_unfinished_run_has_what_there_is() -> None:
    document = msgspec.json.decode(DIALECT.document_of(log_of(TextDelta("so far")), run_id="run"))

    assert (document["status"], document["output"][0]["status"]) == ("in_progress", "in_progress")
    assert document["output"][0]["content"][0]["text"] == "so far"


@pytest.mark.parametrize("terminal", TERMINALS, ids=lambda terminal: type(terminal).__name__)
def test_the_document_of_a_reduced_run_ends_as_the_stream_does(terminal: Terminal) -> None:
    log = log_of(TextDelta("so far"), terminal)
    document = msgspec.json.decode(DIALECT.document(reduce(log)))

    assert document == read(log)[-1]["response"]


def test_text_that_was_complete_before_the_run_was_cancelled_is_so_in_the_document() -> None:
    delta = TextDelta("so far", message_id="m1", part_id="p1")
    log = log_of(delta, events.TextDone(message_id="m1", part_id="p1"), events.RunCancelled(reason="user"))
    document = msgspec.json.decode(DIALECT.document(reduce(log)))

    assert document["output"][0]["status"] == "completed"
    assert document == read(log)[-1]["response"]


def test_the_model_can_be_called_as_the_client_called_it() -> None:
    assert read(log_of(), model="gpt-6")[0]["response"]["model"] == "gpt-6"
