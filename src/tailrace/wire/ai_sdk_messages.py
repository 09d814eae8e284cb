"""The AI SDK's `UIMessage`: a reduced run as one, its parts as events, and what streams and messages spell alike."""

import contextlib
from collections.abc import Iterable, Iterator
from itertools import chain

import msgspec

from tailrace import events
from tailrace.errors import EventInvalidError
from tailrace.fold import Message, Part, Reduced, TextPart, ToolPart, sum_of
from tailrace.wire.calls import UNNAMED_TOOL
from tailrace.wire.failures import failure_in
from tailrace.wire.values import Json, fields_of, given

__all__ = ["answer_of", "data_of", "events_of", "interrupt_fields", "message_of", "source_part", "usage_of"]

_TOKENS = {
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "reasoningTokens": "reasoning_tokens",
    "cachedInputTokens": "cached_input_tokens",
}


# What streams and messages spell alike -------------------------------------------------------------------------------


def data_of(event: events.Event) -> Json:
    """An event's own fields, as the data of a part; its id is the part's."""
    return {name: value for name, value in fields_of(event).items() if name != "id"}


def usage_of(counts: Iterable[events.Usage]) -> dict[str, int]:
    """The sum over all models, by the AI SDK's names."""
    sums = sum_of(counts)
    told = {name: sums[field] for name, field in _TOKENS.items() if field in sums}
    return {**told, "totalTokens": sums.get("input_tokens", 0) + sums.get("output_tokens", 0)}


def source_part(source: events.Source, source_id: str) -> tuple[str, Json]:
    """The type of a source, and its fields."""
    if source.kind == "url" and source.url is not None:
        return "source-url", given(sourceId=source_id, url=source.url, title=source.title)
    return "source-document", given(
        sourceId=source_id,
        mediaType=source.media_type or "application/octet-stream",
        title=source.title or source.filename or source.url or "Document",
        filename=source.filename,
    )


def interrupt_fields(interrupt: events.Interrupt) -> Json:
    """What a paused run waits for."""
    return given(
        id=interrupt.id,
        kind=interrupt.kind,
        toolCallId=interrupt.call_id,
        message=interrupt.message,
        schema=interrupt.schema,
        expiresAtMs=interrupt.expires_at_ms,
    )


# A run as a message -------------------------------------------------------------------------------------------------


def answer_of(messages: list[Message]) -> list[Message]:
    """The messages of the assistant after the last one of the user."""
    asked = max((place for place, message in enumerate(messages, 1) if message.role == "user"), default=0)
    return [message for message in messages[asked:] if message.role == "assistant"]


def message_of(reduced: Reduced) -> Json:
    """`{"id", "role", "metadata", "parts"}`; `metadata` has `status`, and `error` of a failure."""
    answer = answer_of(reduced.messages)
    metadata = given(
        runId=reduced.run_id,
        threadId=reduced.thread_id,
        model=reduced.model,
        status=reduced.status,
        usage=usage_of(reduced.usage) if reduced.usage else None,
        error=failure_in(reduced),
        result=reduced.result,
    )
    parts = [_ui_part(part) for message in answer for part in message.parts]
    parts.extend(chain(_content(reduced), _facts(reduced), _data(reduced)))
    first_id = next((message.id for message in answer), None) or reduced.run_id or ""
    return {"id": first_id, "role": "assistant", "metadata": metadata, "parts": parts}


def _ui_part(part: Part) -> Json:
    """A part of a message as a part of a `UIMessage`."""
    if not isinstance(part, ToolPart):
        kind = "text" if isinstance(part, TextPart) else "reasoning"
        return {"type": kind, "text": part.text, "state": "done"}
    shown: Json = {
        "type": "dynamic-tool",
        "toolName": part.name or UNNAMED_TOOL,
        "toolCallId": part.call_id or "",
        "input": {} if part.input is None else part.input,
    }
    match part.state:
        case "done":
            return {**shown, "state": "output-available", "output": part.output}
        case "error":
            return {**shown, "state": "output-error", "errorText": (part.error or {}).get("message", "")}
        case _:
            return {**shown, "state": "input-available"}


def _content(reduced: Reduced) -> Iterator[Json]:
    """Sources and files, as parts."""
    for number, source in enumerate(reduced.sources, 1):
        kind, fields = source_part(source, source.source_id or f"source{number}")
        yield {"type": kind, **fields}
    for file in reduced.files:
        yield {"type": "file", "mediaType": file.media_type, "url": file.url}


def _facts(reduced: Reduced) -> Iterator[Json]:
    """What was said beside the answer, as parts."""
    for text in reduced.thoughts:
        yield {"type": "data-thought", "data": {"text": text}}
    for progress_id, progress in reduced.progress.items():
        yield {"type": "data-progress", "id": progress_id or "progress", "data": data_of(progress)}
    for action in reduced.actions:
        yield {"type": "data-ui-action", "data": action}
    if reduced.suggestions:
        yield {"type": "data-suggestions", "id": "suggestions", "data": reduced.suggestions}
    for notice in reduced.notices:
        yield {"type": "data-notice", "data": data_of(notice)}
    if reduced.state is not None:
        yield {"type": "data-state", "id": "state", "data": reduced.state}
    for interrupt in reduced.interrupts:
        yield {"type": "data-interrupt", "id": interrupt.id, "data": interrupt_fields(interrupt)}


def _data(reduced: Reduced) -> Iterator[Json]:
    """The application's own data, as parts."""
    for key, value in reduced.data.items():
        name, has_id, data_id = key.partition("#")
        told = [{"id": data_id, "data": value}] if has_id else [{"data": item} for item in value]
        yield from ({"type": f"data-{name}", **part} for part in told)


# A message as events ------------------------------------------------------------------------------------------------


def events_of(parts: object) -> Iterator[events.Event]:
    """The events that make the parts of a `UIMessage`; what is none of its parts is left out."""
    try:
        sent = msgspec.convert(parts, list[Json])
    except msgspec.ValidationError:
        return
    for part in sent:
        for record in _records(part):
            with contextlib.suppress(EventInvalidError):
                yield events.decode(msgspec.json.encode(record))


def _records(part: Json) -> Iterator[Json]:
    """The events of one part, as records; what is missing in it is missing there."""
    match str(part.get("type")).partition("-"):
        case ("step", _, "start"):
            yield {"type": "step.started"}
        case ("text" | "reasoning" as kind, "", _):
            yield {"type": f"{kind}.delta", "delta": part.get("text")}
            yield {"type": f"{kind}.done"}
        case ("file", "", _):
            yield {"type": "file", "media_type": part.get("mediaType"), "url": part.get("url")}
        case ("source", _, kind):
            fields = {"source_id": part.get("sourceId"), "media_type": part.get("mediaType")}
            same = {name: part.get(name) for name in ("url", "title", "filename")}
            yield {"type": "source", "kind": kind, **fields, **same}
        case ("data", _, name):
            yield {"type": "data", "name": name, "data": part.get("data"), "id": part.get("id")}
        case ("tool", _, name):
            yield from _call_records(part, name or part.get("toolName"), executor="client")
        case ("dynamic", _, _):
            yield from _call_records(part, part.get("toolName"), executor="server")
        case _:
            pass


def _call_records(part: Json, name: object, *, executor: str) -> Iterator[Json]:
    call = {"call_id": part.get("toolCallId")}
    yield {"type": "tool.started", "name": name, "executor": executor, **call}
    yield {"type": "tool.ready", "input": part.get("input"), **call}
    match part.get("state"):
        case "output-available":
            yield {"type": "tool.output", "output": part.get("output"), **call}
        case "output-error" | "output-denied":
            yield {"type": "tool.error", "code": "error", "message": part.get("errorText") or "", **call}
        case _:
            pass
