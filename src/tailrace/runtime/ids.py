"""Ids that a source leaves out: which message, part, call or step an event belongs to, by what came before it.

Text without ids is one part until something of another kind comes between; a tool event without a call id belongs to
the call that was started last. Message and call ids are unique over all runs, part and step ids within their run.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from tailrace import events
from tailrace.events import Event

__all__ = ["IdFiller"]

_replace = msgspec.structs.replace


class IdFiller:
    """Fills one run's events, in order."""

    def __init__(self, run_id: str) -> None:
        """Begin a run; its ids are derived from `run_id`, which they do not give away."""
        self._stem = hashlib.sha256(run_id.encode()).hexdigest()[:10]
        self._counts: dict[str, int] = {}
        self.first_message_id = f"msg_{self._stem}"
        self._message_id: str | None = None
        self._part: tuple[str, str] | None = None
        self._call_id: str | None = None
        self._step_id: str | None = None

    def fill(self, event: Event) -> Event:
        """The event with its missing ids."""
        fill = _FILLERS.get(type(event))
        return event if fill is None else fill(self, event)

    def _next(self, prefix: str) -> int:
        count = self._counts[prefix] = self._counts.get(prefix, 0) + 1
        return count

    def _message(self, message_id: str | None) -> str:
        if message_id is not None and message_id != self._message_id:
            self._part = None
        elif self._message_id is None:
            count = self._next("msg")
            message_id = self.first_message_id if count == 1 else f"{self.first_message_id}_{count}"
        self._message_id = message_id or self._message_id
        return self._message_id or self.first_message_id

    def _part_id(self, kind: str, part_id: str | None) -> str:
        if part_id is None:
            part_id = self._part[1] if self._part and self._part[0] == kind else f"p{self._next('p')}"
        self._part = (kind, part_id)
        return part_id

    def text_delta(self, event: events.TextDelta) -> Event:
        message_id = self._message(event.message_id)
        part_id = self._part_id("text", event.part_id)
        return events.TextDelta(event.delta, message_id=message_id, part_id=part_id, ext=event.ext)

    def reasoning_delta(self, event: events.ReasoningDelta) -> Event:
        message_id = self._message(event.message_id)
        part_id = self._part_id("reasoning", event.part_id)
        return events.ReasoningDelta(event.delta, message_id=message_id, part_id=part_id, ext=event.ext)

    def part_done(self, event: events.TextDone | events.ReasoningDone) -> Event:
        kind = "text" if isinstance(event, events.TextDone) else "reasoning"
        message_id = self._message(event.message_id)
        part_id = self._part_id(kind, event.part_id)
        self._part = None
        return _replace(event, message_id=message_id, part_id=part_id)

    def message_started(self, event: events.MessageStarted) -> Event:
        self._message_id = self._part = None
        return _replace(event, message_id=self._message(event.message_id))

    def message_finished(self, event: events.MessageFinished) -> Event:
        message_id = self._message(event.message_id)
        self._message_id = self._part = None
        return _replace(event, message_id=message_id)

    def tool_started(self, event: events.ToolStarted) -> Event:
        self._part = None
        self._call_id = event.call_id or self._new_call_id()
        return _replace(event, call_id=self._call_id, message_id=self._message(event.message_id))

    def tool(self, event: Any) -> Event:  # noqa: ANN401  any of the tool events: they share `call_id`
        self._part = None
        call_id = self._call_id = event.call_id or self._call_id or self._new_call_id()
        return event if event.call_id else _replace(event, call_id=call_id)

    def _new_call_id(self) -> str:
        return f"call_{self._stem}_{self._next('call')}"

    def step_started(self, event: events.StepStarted) -> Event:
        index = self._next("s")
        self._step_id = event.step_id or f"s{index}"
        return _replace(event, step_id=self._step_id, index=event.index or index)

    def step_finished(self, event: events.StepFinished) -> Event:
        return event if event.step_id else _replace(event, step_id=self._step_id)

    def source(self, event: events.Source) -> Event:
        return event if event.source_id else _replace(event, source_id=f"src{self._next('src')}")

    def action(self, event: events.UIAction) -> Event:
        return event if event.id else _replace(event, id=f"a{self._next('a')}")

    def completed(self, event: events.RunCompleted) -> Event:
        return event if event.finish_reason else _replace(event, finish_reason="stop")


_FILLERS: dict[type, Callable[[IdFiller, Any], Event]] = {
    events.TextDelta: IdFiller.text_delta,
    events.ReasoningDelta: IdFiller.reasoning_delta,
    events.TextDone: IdFiller.part_done,
    events.ReasoningDone: IdFiller.part_done,
    events.MessageStarted: IdFiller.message_started,
    events.MessageFinished: IdFiller.message_finished,
    events.ToolStarted: IdFiller.tool_started,
    events.ToolArgsDelta: IdFiller.tool,
    events.ToolReady: IdFiller.tool,
    events.ToolProgress: IdFiller.tool,
    events.ToolOutput: IdFiller.tool,
    events.ToolError: IdFiller.tool,
    events.StepStarted: IdFiller.step_started,
    events.StepFinished: IdFiller.step_finished,
    events.Source: IdFiller.source,
    events.UIAction: IdFiller.action,
    events.RunCompleted: IdFiller.completed,
}
