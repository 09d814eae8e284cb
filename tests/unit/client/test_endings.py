"""How a client knows the end is how our encoders write it: in every dialect, for every way a run can end."""

import pytest

from tailrace import events
from tailrace.client.endings import RAW, ending_of
from tailrace.errors import DialectNotFoundError
from tailrace.events import Entry, Event
from tailrace.wire.dialects.registry import DIALECTS
from tailrace.wire.sse import Decoder, ServerSentEvent

BEFORE: list[Event] = [
    events.RunStarted(run_id="abc", message_id="m"),
    events.StepStarted(step_id="s", name="think"),
    events.ReasoningDelta("RUN_FINISHED? ", message_id="m", part_id="r"),
    events.TextDelta("[DONE]", message_id="m", part_id="p"),
    events.TextDelta('{"type":"RUN_FINISHED"}', message_id="m", part_id="p"),
    events.ToolStarted(call_id="c", name="search", message_id="m"),
    events.ToolReady(call_id="c", name="search", input={"type": "RUN_ERROR"}),
    events.ToolOutput(call_id="c", output="response.completed"),
    events.Status(text="done", state="complete"),
    events.Data(name="run.completed", data={"status": "completed"}),
    events.Data(name="run.ended", data="[DONE] "),
    events.Data(name="end", data="end"),
    events.Data(name="complete", data={"x": 1}),
    events.Data(name="error", data={"x": 1}),
    events.Usage(input_tokens=1, output_tokens=2),
    events.StepFinished(step_id="s"),
]

TERMINALS: dict[str, Event] = {
    "completed": events.RunCompleted(finish_reason="stop", result={"x": 1}),
    "cut off": events.RunCompleted(finish_reason="length"),
    "failed": events.RunFailed(code="timeout", message="Too slow."),
    "cancelled": events.RunCancelled(reason="user"),
    "interrupted": events.RunInterrupted(reason="shutdown"),
    "paused": events.RunPaused(interrupts=[events.Interrupt(id="i", kind="approval", call_id="c")]),
}


def written(dialect: str, log: list[Event]) -> list[ServerSentEvent]:
    encoder = DIALECTS[dialect].encoder(run_id="abc", thread_id="t")
    decoder = Decoder()
    frames = [frame for seq, event in enumerate(log, 1) for frame in encoder.encode(Entry(seq, 1_000, event))]
    return [event for frame in frames for event in decoder.feed(frame)]


@pytest.mark.parametrize("terminal", TERMINALS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_last_frame_of_a_run_is_its_end_and_no_other(dialect: str, terminal: str) -> None:
    is_end = ending_of(dialect)

    *before, last = written(dialect, [*BEFORE, TERMINALS[terminal]])

    assert [event for event in before if is_end(event)] == []
    # What `steps` calls an error may be an application's own; the comment after it ends the stream.
    assert is_end(last) or (dialect, last.event) == ("steps", "error")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_run_that_said_nothing_ends_too(dialect: str) -> None:
    is_end = ending_of(dialect)

    *before, last = written(dialect, [events.RunStarted(run_id="abc"), events.RunCompleted()])

    assert not any(map(is_end, before))
    assert is_end(last)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param('{"x":' + "[" * 60_000 + '"RUN_', id="deep"),
        "",
        "{",
        "[DONE]",
        '"RUN_',
        '{"type":"RUN_STARTED"}',
        '{"name":"RUN_FINISHED"}',
    ],
)
def test_what_only_looks_like_an_end_is_none(data: str) -> None:
    assert not ending_of("ag-ui")(ServerSentEvent("message", data, ""))


def test_a_raw_stream_has_no_event_for_its_end() -> None:
    is_end = ending_of(RAW)

    assert not any(
        is_end(event) for dialect in DIALECTS for event in written(dialect, [*BEFORE, TERMINALS["completed"]])
    )


def test_of_a_dialect_that_is_none_nobody_knows_the_end() -> None:
    with pytest.raises(DialectNotFoundError):
        ending_of("klingon")
