"""A reduced run told again: events that amount to the same.

For dialects whose whole document, or whose answer to somebody who joins, is best made by their own encoder.
"""

from collections.abc import Iterator

import msgspec

from tailrace import events
from tailrace.events import Entry, Event, Terminal
from tailrace.fold import MERGED_CHARACTERS, Message, ReasoningPart, Reduced, TextPart, ToolPart

__all__ = ["held_in", "log_of", "parts_of"]


def log_of(reduced: Reduced) -> list[Entry]:
    """What a reduced run tells of its messages, usage and end, as a log again."""
    at_ms = reduced.started_at_ms or 0
    return [Entry(seq, at_ms, event) for seq, event in enumerate(_run(reduced), 1)]


def held_in(snapshot: events.Snapshot) -> tuple[list[Message], list[events.Usage]]:
    """The messages of a snapshot and what was used; nothing, if it is none that was made of a reduced run."""
    try:
        # Read from plain data: what is read may be written to, and the event may not.
        messages = msgspec.convert(msgspec.to_builtins(snapshot.messages), list[Message])
        return messages, msgspec.convert(msgspec.to_builtins(snapshot.usage or []), list[events.Usage])
    except (msgspec.ValidationError, TypeError):
        return [], []


def parts_of(message: Message) -> Iterator[Event]:
    """The events that make the parts of a message."""
    for part in message.parts:
        yield from _call(message, part) if isinstance(part, ToolPart) else _text(message, part)


def _run(reduced: Reduced) -> Iterator[Event]:
    yield events.RunStarted(run_id=reduced.run_id or "", thread_id=reduced.thread_id, model=reduced.model)
    for message in reduced.messages:
        yield from parts_of(message)
    yield from reduced.usage
    yield from _ending(reduced)


def _text(message: Message, part: TextPart | ReasoningPart) -> Iterator[Event]:
    delta = events.TextDelta if isinstance(part, TextPart) else events.ReasoningDelta
    for start in range(0, len(part.text) or 1, MERGED_CHARACTERS):
        yield delta(part.text[start : start + MERGED_CHARACTERS], message_id=message.id, part_id=part.id)
    if not part.done:
        return
    if isinstance(part, TextPart):
        yield events.TextDone(message_id=message.id, part_id=part.id, citations=part.citations)
    else:
        yield events.ReasoningDone(message_id=message.id, part_id=part.id, signature=part.signature)


def _call(message: Message, part: ToolPart) -> Iterator[Event]:
    call_id = part.call_id
    if part.name is not None:
        yield events.ToolStarted(
            call_id=call_id, name=part.name, message_id=message.id, title=part.title, executor=part.executor
        )
    # A call that nobody named begins with its arguments, even if there are none yet.
    if part.args or (part.name is None and part.state == "started"):
        yield events.ToolArgsDelta(part.args, call_id=call_id)
    if part.state != "started":
        yield events.ToolReady(call_id=call_id, name=part.name, input=part.input)
    if part.state == "done":
        yield events.ToolOutput(call_id=call_id, output=part.output)
    elif part.error is not None:
        yield events.ToolError(call_id=call_id, code=part.error.get("code", ""), message=part.error.get("message", ""))
    elif part.state == "running":
        yield events.ToolProgress(call_id=call_id, output=part.output, progress=part.progress)


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
