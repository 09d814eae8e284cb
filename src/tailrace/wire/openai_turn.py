"""An assistant's turn as OpenAI's protocols count one: whose the calls are, what was used, when it began.

Both dialects need this, and dialects do not know each other.
"""

from typing import Any, Literal

import msgspec

from tailrace import events
from tailrace.events import Entry, Event, Terminal, ToolEvent
from tailrace.fold import TOKEN_COUNTS, sum_of
from tailrace.wire.usage import Tally
from tailrace.wire.values import arguments_of

__all__ = ["Call", "Turn", "error_body", "extension", "model_name", "refusal"]

#: The model's name if nobody tells one.
_UNNAMED = "tailrace"


class Call(msgspec.Struct):
    """One tool call so far; `settled` once it has an output or an error."""

    id: str
    name: str | None = None
    executor: Literal["server", "client", "provider"] | None = None
    pieces: list[str] = []
    settled: bool = False

    @property
    def arguments(self) -> str:
        """The arguments as JSON text; an empty object if there are none."""
        return "".join(self.pieces) or "{}"


class Turn:
    """Follows a run, event by event.

    Attributes:
        created_at: When the run began, Unix time in seconds.
        model: Which model answers.
    """

    def __init__(self, model: str | None = None) -> None:
        """Begin; `model` is what the client calls it, whatever the run says."""
        self.created_at = 0
        self.model = model or _UNNAMED
        self._model_is_given = bool(model)
        self._calls: dict[str, Call] = {}
        self._last_call_id: str | None = None
        self._tally = Tally()

    def take(self, entry: Entry) -> None:
        """Follow one entry of any kind; for who needs to know what a tool event added, there is `call`."""
        event = entry.event
        if isinstance(event, ToolEvent):
            self.call(event)
        elif isinstance(event, events.Usage):
            self._tally.take(event)
        elif isinstance(event, events.RunStarted):
            self.created_at = entry.at_ms // 1000
            if event.model and not self._model_is_given:
                self.model = event.model

    def call(self, event: ToolEvent) -> tuple[Call, str]:
        """The call that an event belongs to, and what the event adds to its arguments."""
        call_id = event.call_id
        if call_id is None:
            started = isinstance(event, events.ToolStarted)
            call_id = (None if started else self._last_call_id) or f"call_{len(self._calls) + 1}"
        call = self._calls.get(call_id)
        if call is None:
            call = self._calls[call_id] = Call(call_id)
            self._last_call_id = call_id
        added = ""
        match event:
            case events.ToolStarted():
                call.name, call.executor = event.name, event.executor
                self._last_call_id = call_id
            case events.ToolArgsDelta():
                added = event.delta
            case events.ToolReady():
                call.name = event.name or call.name
                if not any(call.pieces):
                    added = arguments_of(event.input)
            case events.ToolOutput() | events.ToolError():
                call.settled = True
            case events.ToolProgress():
                pass
        call.pieces.append(added)
        return call, added

    def left_to_client(self, ending: Terminal) -> list[Call]:
        """The calls that the client is to run, now that the run has ended.

        Those that were said to be the client's and have no output. Where nobody said whose they are, those that a run
        has ended for: its finish reason is `tool_calls`, and they have no output.
        """
        if not isinstance(ending, events.RunCompleted | events.RunPaused):
            return []
        whose: set[str | None] = {"client"}
        if isinstance(ending, events.RunCompleted) and ending.finish_reason == "tool_calls":
            whose.add(None)
        return [call for call in self._calls.values() if call.name and not call.settled and call.executor in whose]

    @property
    def usage(self) -> events.Usage | None:
        """All that was used, over all models; `None` if nobody counted."""
        counts = self._tally.counts
        sums: dict[str, Any] = dict.fromkeys(TOKEN_COUNTS, 0) | sum_of(counts)
        return events.Usage(**sums) if counts else None


def extension(event: Event) -> dict[str, msgspec.Raw]:
    """The event itself, as a field beside what a protocol makes of it."""
    return {"tailrace": msgspec.Raw(events.encode(event))}


def model_name(value: object) -> str | None:
    """An option: what the client calls the model."""
    return None if value is None else str(value)


def error_body(code: str, message: str, kind: str = "server_error") -> dict[str, Any]:
    """`{"message", "type", "param", "code"}`, as OpenAI's clients know an error."""
    return {"message": message, "type": kind, "param": None, "code": code}


def refusal(status: int, code: str, message: str) -> bytes:
    """The body of a request that was refused. OpenAI's clients choose their exception by the status alone."""
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return msgspec.json.encode({"error": error_body(code, message, kind)})
