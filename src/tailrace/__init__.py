"""tailrace: stream what an AI produces to the people watching it, and never lose a token."""

from tailrace.errors import NoRunError, RunFailedError, RunNotFoundError, TailraceError
from tailrace.events import (
    Data,
    Entry,
    Event,
    Progress,
    ReasoningDelta,
    RunCompleted,
    Status,
    Suggestions,
    TextDelta,
    Thought,
    ToolError,
    ToolOutput,
    ToolReady,
    ToolStarted,
    UIAction,
    Usage,
)
from tailrace.runtime.keys import new_run_id
from tailrace.runtime.producer import current_run, emit
from tailrace.runtime.run import Run, RunInfo
from tailrace.runtime.runs import Runs
from tailrace.web.response import EventStream, RunResponse
from tailrace.web.tailrace import Tailrace

__all__ = [
    "Data",
    "Entry",
    "Event",
    "EventStream",
    "NoRunError",
    "Progress",
    "ReasoningDelta",
    "Run",
    "RunCompleted",
    "RunFailedError",
    "RunInfo",
    "RunNotFoundError",
    "RunResponse",
    "Runs",
    "Status",
    "Suggestions",
    "Tailrace",
    "TailraceError",
    "TextDelta",
    "Thought",
    "ToolError",
    "ToolOutput",
    "ToolReady",
    "ToolStarted",
    "UIAction",
    "Usage",
    "current_run",
    "emit",
    "new_run_id",
]
