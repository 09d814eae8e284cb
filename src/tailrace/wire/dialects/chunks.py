"""The chunks dialect: named frames, for clients that read an answer as `chunk`, `tool_use`, `tool_output` and `end`.

`chunk` is a piece of text as it is, over as many `data` lines as it has: a reader that joins the lines with LF and
appends the data of each chunk has the text, whether it came merged or not, its line ends as LF. `tool_use` is the name
of a tool, sent as soon as it is called, and `tool_output` its result as `{"name", "output"}`; `call_id` tells apart
calls that run side by side. Application data goes by its own name: text as it is, anything else as JSON. `end`, without
data, is always the last frame and the only one of that name.

What is no success is told twice before the end: as a chunk for clients that know no better, and under a name that they
ignore, `failure` with `{"code", "message"}`. It is not called `error`, because `EventSource` calls its own events so:
one listener would get both. A pause is `paused` with `{"interrupts"}`.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Unpack

import msgspec

from tailrace import events
from tailrace.events import Entry
from tailrace.fold import Reduced, ToolPart
from tailrace.wire.calls import UNNAMED_TOOL, CallNames
from tailrace.wire.dialects.contract import Dialect, Encoder, RunConstants
from tailrace.wire.failures import failure_in, failure_of
from tailrace.wire.frames import TextPieces, frame, frame_name, json_frame, value_frame
from tailrace.wire.schema import FrameKind
from tailrace.wire.values import given

__all__ = ["DIALECT"]

_END_NAME = "end"
_END = frame(b"", event=_END_NAME)


class ChunksEncoder(Encoder):
    """Remembers the names of the calls, whether any text was written, and whether it ends within a line end."""

    def __init__(self, **run: Unpack[RunConstants]) -> None:
        """See `Encoder`."""
        super().__init__(**run)
        self._names = CallNames()
        self._text = TextPieces(event="chunk")
        self._wrote_text = False

    def bodies(self, entry: Entry) -> list[bytes]:
        """See the module for what each event becomes."""
        write = self._WRITERS.get(type(entry.event))
        return [] if write is None else write(self, entry.event)

    def _chunk(self, event: events.TextDelta) -> list[bytes]:
        self._wrote_text = self._wrote_text or bool(event.delta)
        return self._text.frames(event.delta)

    def _tool_begun(self, event: events.ToolStarted | events.ToolReady) -> list[bytes]:
        name = self._names.begun(event)
        return [] if name is None else [value_frame(name, event="tool_use")]

    def _tool_output(self, event: events.ToolOutput) -> list[bytes]:
        return self._returned(event.call_id, event.output)

    def _tool_error(self, event: events.ToolError) -> list[bytes]:
        return self._returned(event.call_id, {"error": event.message})

    def _returned(self, call_id: str | None, output: object) -> list[bytes]:
        return [json_frame(_output(self._names.of(call_id), output, call_id), event="tool_output")]

    def _data(self, event: events.Data) -> list[bytes]:
        return [] if event.name == _END_NAME else [value_frame(event.data, event=frame_name(event.name))]

    def _broken(self, event: events.RunFailed | events.RunInterrupted) -> list[bytes]:
        failure = failure_of(event)
        sentence = f"\n\n{failure['message']}" if self._wrote_text else failure["message"]
        return [*self._text.frames(sentence), json_frame(failure, event="failure"), _END]

    def _paused(self, event: events.RunPaused) -> list[bytes]:
        return [json_frame({"interrupts": event.interrupts}, event="paused"), _END]

    def _ended(self, _: events.Event) -> list[bytes]:
        return [_END]

    _WRITERS: ClassVar[dict[type, Callable[[Any, Any], list[bytes]]]] = {
        events.TextDelta: _chunk,
        events.ToolStarted: _tool_begun,
        events.ToolReady: _tool_begun,
        events.ToolOutput: _tool_output,
        events.ToolError: _tool_error,
        events.Data: _data,
        events.RunCompleted: _ended,
        events.RunCancelled: _ended,
        events.RunFailed: _broken,
        events.RunInterrupted: _broken,
        events.RunPaused: _paused,
    }


def _output(name: str, output: object, call_id: str | None) -> dict[str, object]:
    return {"name": name, "output": output, **given(call_id=call_id)}


def _document_output(tool: ToolPart) -> dict[str, object]:
    output = tool.output if tool.error is None else {"error": tool.error["message"]}
    return _output(tool.name or UNNAMED_TOOL, output, tool.call_id)


class Chunks(Dialect):
    """See the module."""

    name: ClassVar[str] = "chunks"
    encodes_with: ClassVar[type[Encoder]] = ChunksEncoder

    def frame_kinds(self) -> list[FrameKind]:
        """Its own frames; application data goes by other names."""
        calls = [FrameKind(name, {"type": "object"}) for name in ("tool_output", "failure", "paused")]
        return [FrameKind("chunk", None), FrameKind("tool_use", None), *calls, FrameKind(_END_NAME, None)]

    def document(self, reduced: Reduced) -> bytes:
        """`{"response", "tool_outputs", "status"}`, `interrupts` if the run paused, and `error` if it failed."""
        outputs = [_document_output(tool) for tool in reduced.tools if tool.state in {"done", "error"}]
        beside = given(interrupts=reduced.interrupts or None, error=failure_in(reduced))
        answer = {"response": reduced.text, "tool_outputs": outputs, "status": reduced.status, **beside}
        return msgspec.json.encode(answer)


DIALECT = Chunks()
