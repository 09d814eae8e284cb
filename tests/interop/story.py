"""One run that says everything a run can say, so that each client can be asked what it made of it."""

import asyncio
from collections.abc import AsyncGenerator

from tailrace.events import (
    Data,
    Event,
    Notice,
    Progress,
    ReasoningDelta,
    ReasoningDone,
    Source,
    Status,
    StepFinished,
    StepStarted,
    Suggestions,
    TextDelta,
    TextDone,
    Thought,
    ToolArgsDelta,
    ToolError,
    ToolOutput,
    ToolProgress,
    ToolReady,
    ToolStarted,
    UIAction,
    Usage,
)

__all__ = ["ANSWER", "REASONING", "STORY", "story"]

REASONING = "Two cities, so two calls. "
_PIECES = ("In Paris it is 18 °C,\n", "in Tōkyō ", "noon. ", "日本は正午です。", " That is all.")
ANSWER = "One moment. " + "".join(_PIECES)

#: In two steps: reasoning, some text, two tools at once whose events alternate; then the answer and what goes with it.
STORY: tuple[Event, ...] = (
    StepStarted(name="look up"),
    Status("Looking things up", state="working"),
    ReasoningDelta("Two cities, "),
    ReasoningDelta("so two calls. "),
    ReasoningDone(signature="c2lnbmF0dXJl"),
    Thought("Ask both", step=1, total=2, kind="plan"),
    TextDelta("One moment. "),
    ToolStarted(call_id="call_weather", name="get_weather", title="Weather"),
    ToolArgsDelta('{"city":', call_id="call_weather"),
    ToolStarted(call_id="call_clock", name="clock"),
    ToolArgsDelta('{"city": "Tōkyō"}', call_id="call_clock"),
    ToolArgsDelta(' "Paris"}', call_id="call_weather"),
    ToolReady(call_id="call_weather", name="get_weather", input={"city": "Paris"}),
    ToolReady(call_id="call_clock", name="clock", input={"city": "Tōkyō"}),
    ToolProgress(call_id="call_weather", progress=0.5, output={"stage": "measuring"}),
    Progress(id="lookup", value=0.5, label="Half of it"),
    ToolOutput(call_id="call_clock", output={"time": "12:00"}),
    ToolOutput(call_id="call_weather", output={"temperature": 18, "conditions": "clear"}),
    Progress(id="lookup", value=1.0),
    StepFinished(finish_reason="tool_calls"),
    StepStarted(name="answer"),
    *(TextDelta(piece) for piece in _PIECES),
    TextDone(),
    Source(kind="url", url="https://example.com/weather", title="Weather"),
    ToolStarted(call_id="call_map", name="draw_map"),
    ToolReady(call_id="call_map", name="draw_map", input={}),
    ToolError(call_id="call_map", code="unavailable", message="No map today.", phase="execution"),
    UIAction({"type": "change_theme", "value": "dark"}),
    Data("receipt", {"total": 2, "currency": "EUR"}),
    Notice(code="cached", message="The weather is an hour old."),
    StepFinished(finish_reason="stop"),
    Usage(provider="demo", model="scripted", input_tokens=12, output_tokens=34, reasoning_tokens=5),
    Suggestions(["And in Rome?", "And tomorrow?", "Why?"]),
)


async def story() -> AsyncGenerator[Event, None]:
    """The run's source: one event for each turn of the event loop, so that readers see it grow."""
    for event in STORY:
        await asyncio.sleep(0)
        yield event
