"""Ids that a source leaves out: which message, part, call or step an event belongs to, by what came before it.

Text without ids is one part until something of another kind comes between; a tool event without a call id belongs to
the call that was started last. Message and call ids are unique over all runs, part and step ids within their run.
"""

import hashlib
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import msgspec

from tailrace import events
from tailrace.events import Event

__all__ = ["IdFiller"]

_replace = msgspec.structs.replace
_Call: TypeAlias = events.ToolArgsDelta | events.ToolReady | events.ToolProgress | events.ToolOutput | events.ToolError


class IdFiller:
    """Fills one run's events, in order."""

    def __init__(self, run_id: str, *, message_id: str | None = None) -> None:
        """Begin a run; its ids are derived from `run_id`, which they do not give away.

        Args:
            run_id: The run.
            message_id: The id of its first message, if there is one for it already.
        """
        self._stem = hashlib.sha256(run_id.encode()).hexdigest()[:10]
        self._counts: dict[str, int] = {}
        self.first_message_id = message_id or f"msg_{self._stem}"
        self._message_id: str | None = None
        self._part: tuple[str, str] | None = None
        self._call_id: str | None = None
        self._known_calls: set[str] = set()
        self._step_id: str | None = None

    def fill(self, event: Event) -> Event:
        """The event with its missing ids."""
        fill = self._FILLERS.get(type(event))
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

    def _text_delta(self, event: events.TextDelta) -> Event:
        message_id = self._message(event.message_id)
        part_id = self._part_id("text", event.part_id)
        return events.TextDelta(event.delta, message_id=message_id, part_id=part_id, ext=event.ext)

    def _reasoning_delta(self, event: events.ReasoningDelta) -> Event:
        message_id = self._message(event.message_id)
        part_id = self._part_id("reasoning", event.part_id)
        return events.ReasoningDelta(event.delta, message_id=message_id, part_id=part_id, ext=event.ext)

    def _part_done(self, event: events.TextDone | events.ReasoningDone) -> Event:
        kind = "text" if isinstance(event, events.TextDone) else "reasoning"
        message_id = self._message(event.message_id)
        part_id = self._part_id(kind, event.part_id)
        self._part = None
        return _replace(event, message_id=message_id, part_id=part_id)

    def _message_started(self, event: events.MessageStarted) -> Event:
        self._message_id = self._part = None
        return _replace(event, message_id=self._message(event.message_id))

    def _message_finished(self, event: events.MessageFinished) -> Event:
        message_id = self._message(event.message_id)
        self._message_id = self._part = None
        return _replace(event, message_id=message_id)

    def _tool_started(self, event: events.ToolStarted) -> Event:
        self._part = None
        self._call_id = event.call_id or self._new_call_id()
        self._known_calls.add(self._call_id)
        return _replace(event, call_id=self._call_id, message_id=self._message(event.message_id))

    def _tool(self, event: _Call) -> Event:
        self._part = None
        if event.call_id is None:
            self._call_id = self._call_id or self._new_call_id()
            return _replace(event, call_id=self._call_id)
        if event.call_id not in self._known_calls:
            # A source that reports whole calls begins them with their arguments.
            self._known_calls.add(event.call_id)
            self._call_id = event.call_id
        return event

    def _new_call_id(self) -> str:
        return f"call_{self._stem}_{self._next('call')}"

    def _step_started(self, event: events.StepStarted) -> Event:
        index = self._next("s")
        self._step_id = event.step_id or f"s{index}"
        return _replace(event, step_id=self._step_id, index=event.index or index)

    def _step_finished(self, event: events.StepFinished) -> Event:
        return event if event.step_id else _replace(event, step_id=self._step_id)

    def _source(self, event: events.Source) -> Event:
        return event if event.source_id else _replace(event, source_id=f"src{self._next('src')}")

    def _action(self, event: events.UIAction) -> Event:
        return event if event.id else _replace(event, id=f"a{self._next('a')}")

    def _completed(self, event: events.RunCompleted) -> Event:
        return event if event.finish_reason else _replace(event, finish_reason="stop")

    _FILLERS: ClassVar[dict[type, Callable[[Any, Any], Event]]] = {
        events.TextDelta: _text_delta,
        events.ReasoningDelta: _reasoning_delta,
        events.TextDone: _part_done,
        events.ReasoningDone: _part_done,
        events.MessageStarted: _message_started,
        events.MessageFinished: _message_finished,
        events.ToolStarted: _tool_started,
        events.ToolArgsDelta: _tool,
        events.ToolReady: _tool,
        events.ToolProgress: _tool,
        events.ToolOutput: _tool,
        events.ToolError: _tool,
        events.StepStarted: _step_started,
        events.StepFinished: _step_finished,
        events.Source: _source,
        events.UIAction: _action,
        events.RunCompleted: _completed,
    }
