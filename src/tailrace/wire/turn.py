"""An assistant's turn as OpenAI's protocols count one: whose the calls are, what was used, when it began.

Both dialects need this, and dialects do not know each other.
"""

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import msgspec

from tailrace import events
from tailrace.events import Entry, Event, Terminal
from tailrace.fold import Message, Part, Reduced, TextPart, ToolPart

__all__ = ["Call", "ToolEvent", "Turn", "error_body", "refusal", "retold"]

#: The model's name if nobody tells one.
_UNNAMED = "tailrace"

ToolEvent: TypeAlias = (
    events.ToolStarted
    | events.ToolArgsDelta
    | events.ToolReady
    | events.ToolProgress
    | events.ToolOutput
    | events.ToolError
)


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
        self._usage: dict[tuple[str | None, str | None], events.Usage] = {}

    def take(self, entry: Entry) -> None:
        """Follow one entry of any kind; for who needs to know what a tool event added, there is `call`."""
        event = entry.event
        if isinstance(event, ToolEvent):
            self.call(event)
        elif isinstance(event, events.Usage):
            self._usage[event.provider, event.model] = event
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
                    added = "{}" if event.input is None else msgspec.json.encode(event.input).decode()
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
        used = self._usage.values()
        if not used:
            return None
        return events.Usage(
            input_tokens=sum(usage.input_tokens or 0 for usage in used),
            output_tokens=sum(usage.output_tokens or 0 for usage in used),
            reasoning_tokens=sum(usage.reasoning_tokens or 0 for usage in used),
            cached_input_tokens=sum(usage.cached_input_tokens or 0 for usage in used),
            cache_write_input_tokens=sum(usage.cache_write_input_tokens or 0 for usage in used),
        )


def error_body(code: str, message: str, kind: str = "server_error") -> dict[str, Any]:
    """`{"message", "type", "param", "code"}`, as OpenAI's clients know an error."""
    return {"message": message, "type": kind, "param": None, "code": code}


def refusal(status: int, code: str, message: str) -> bytes:
    """The body of a request that was refused. OpenAI's clients choose their exception by the status alone."""
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return msgspec.json.encode({"error": error_body(code, message, kind)})


def retold(reduced: Reduced) -> list[Entry]:
    """A log that amounts to the same: what a reduced run tells of its messages, usage and end, as entries again."""
    at_ms = reduced.started_at_ms or 0
    return [Entry(seq, at_ms, event) for seq, event in enumerate(_events(reduced), 1)]


def _events(reduced: Reduced) -> Iterator[Event]:
    yield events.RunStarted(run_id=reduced.run_id or "", thread_id=reduced.thread_id, model=reduced.model)
    for message in reduced.messages:
        for part in message.parts:
            yield from _part(message, part)
    yield from reduced.usage
    yield from _ending(reduced)


def _part(message: Message, part: Part) -> Iterator[Event]:
    if isinstance(part, ToolPart):
        yield from _call(part)
        return
    make = events.TextDelta if isinstance(part, TextPart) else events.ReasoningDelta
    yield make(part.text, message_id=message.id, part_id=part.id)
    if not isinstance(part, TextPart) and part.signature:
        yield events.ReasoningDone(message_id=message.id, part_id=part.id, signature=part.signature)


def _call(part: ToolPart) -> Iterator[Event]:
    if part.name is not None:
        yield events.ToolStarted(call_id=part.call_id, name=part.name, executor=part.executor)
    if part.state == "started":
        yield events.ToolArgsDelta(part.args, call_id=part.call_id)
    else:
        yield events.ToolReady(call_id=part.call_id, name=part.name, input=part.input)
    if part.state == "done":
        yield events.ToolOutput(call_id=part.call_id, output=part.output)
    elif part.error is not None:
        yield events.ToolError(call_id=part.call_id, code=part.error["code"], message=part.error["message"])


def _ending(reduced: Reduced) -> Iterator[Event]:
    if reduced.status == "running":
        return
    facts = {
        "finish_reason": reduced.finish_reason,
        "interrupts": reduced.interrupts,
        **(msgspec.structs.asdict(reduced.failure) if reduced.failure else {}),
    }
    # The ending's own conversion takes the fields it knows; a reason is kept as the code of a failure.
    facts["reason"] = facts.get("code")
    yield msgspec.convert(
        {"type": f"run.{reduced.status}", **{name: value for name, value in facts.items() if value is not None}},
        Terminal,
    )
