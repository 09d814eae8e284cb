"""The tokens dialect: unnamed frames of one-key JSON, ended by `[DONE]`, as plain chat pages read them.

In order: `{"conversation_id"}` first, `{"tools_used": [name]}` as soon as a tool is called, `{"token"}` for each piece
of text, `{"action": {"type", "value"}}`, `{"suggested_questions": […]}`, and `[DONE]`. A failure is told twice, as
text for the pages that know no better, and as `{"error": {"code", "message"}}`.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Unpack

import msgspec

from tailrace import events
from tailrace.events import Entry
from tailrace.fold import Reduced
from tailrace.wire.dialects.contract import Dialect, Encoder, RunConstants
from tailrace.wire.failures import failure_in, failure_of
from tailrace.wire.frames import frame, json_frame
from tailrace.wire.schema import FrameKind
from tailrace.wire.values import given

__all__ = ["DIALECT"]

_KEYS = ("conversation_id", "tools_used", "token", "action", "suggested_questions", "error")
_DONE = frame(b"[DONE]")


class TokensEncoder(Encoder):
    """Remembers which calls were announced and whether any text was written."""

    def __init__(self, **run: Unpack[RunConstants]) -> None:
        """See `Encoder`."""
        super().__init__(**run)
        self._announced: set[str | None] = set()
        self._wrote_text = False

    def bodies(self, entry: Entry) -> list[bytes]:
        """See the module for what each event becomes."""
        write = self._WRITERS.get(type(entry.event))
        return [] if write is None else write(self, entry.event)

    def _run_started(self, event: events.RunStarted) -> list[bytes]:
        return [json_frame({"conversation_id": event.thread_id or self.thread_id or self.run_id})]

    def _tool(self, event: events.ToolStarted | events.ToolReady) -> list[bytes]:
        """Announced when the call begins; a source that only reports complete calls is announced then."""
        if event.call_id in self._announced or event.name is None:
            return []
        self._announced.add(event.call_id)
        return [json_frame({"tools_used": [event.name]})]

    def _text(self, event: events.TextDelta) -> list[bytes]:
        self._wrote_text = True
        return [json_frame({"token": event.delta})]

    def _action(self, event: events.UIAction) -> list[bytes]:
        return [json_frame({"action": event.action})]

    def _suggestions(self, event: events.Suggestions) -> list[bytes]:
        return [json_frame({"suggested_questions": event.items})]

    def _broken(self, event: events.RunFailed | events.RunInterrupted) -> list[bytes]:
        failure = failure_of(event)
        token = f"\n\n{failure['message']}" if self._wrote_text else failure["message"]
        return [json_frame({"token": token}), json_frame({"error": failure}), _DONE]

    def _paused(self, event: events.RunPaused) -> list[bytes]:
        interrupts = msgspec.to_builtins(event.interrupts)
        return [json_frame({"action": {"type": "interrupt", "value": interrupts}}), _DONE]

    def _done(self, _: events.Event) -> list[bytes]:
        return [_DONE]

    _WRITERS: ClassVar[dict[type, Callable[[Any, Any], list[bytes]]]] = {
        events.RunStarted: _run_started,
        events.ToolStarted: _tool,
        events.ToolReady: _tool,
        events.TextDelta: _text,
        events.UIAction: _action,
        events.Suggestions: _suggestions,
        events.RunCompleted: _done,
        events.RunCancelled: _done,
        events.RunFailed: _broken,
        events.RunInterrupted: _broken,
        events.RunPaused: _paused,
    }


class Tokens(Dialect):
    """See the module."""

    name: ClassVar[str] = "tokens"
    encodes_with: ClassVar[type[Encoder]] = TokensEncoder

    def frame_kinds(self) -> list[FrameKind]:
        """JSON with one of the keys, or `[DONE]`."""
        return [*(FrameKind(None, {"type": "object", "required": [key]}) for key in _KEYS), FrameKind(None, None)]

    def document(self, reduced: Reduced) -> bytes:
        """`{"response", "conversation_id", "suggested_questions", "tools_used", "actions", "status"}`, and `error`."""
        return msgspec.json.encode(
            {
                "response": reduced.text,
                "conversation_id": reduced.thread_id or reduced.run_id,
                "suggested_questions": reduced.suggestions,
                "tools_used": [tool.name for tool in reduced.tools if tool.name is not None],
                "actions": reduced.actions,
                "status": reduced.status,
                **given(error=failure_in(reduced)),
            }
        )


DIALECT = Tokens()
