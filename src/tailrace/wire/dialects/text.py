"""The text dialect: bare text in unnamed frames, for pages that append `event.data` of every `message`.

Text is data as it is, over as many `data` lines as it has; a reader that appends the data of the unnamed frames has
the text, whether it came merged or not, its line ends as LF. Application data goes by its own name (without one if
that is `message`): text as it is, anything else as JSON. So whatever left another SSE library arrives here as it did
there. The end is the event `run.ended` with `{"status"}`, and `error` if the run failed: no `message`, or pages would
append it, and no word that pages listen to already. A page that listens closes its stream there; one that does not
comes back with its cursor, and gets 204. Nothing else is shown.
"""

from typing import ClassVar, Unpack

import msgspec

from tailrace.events import TERMINALS, Data, Entry, RunFailed, RunInterrupted, Terminal, TextDelta, event_type
from tailrace.fold import Reduced
from tailrace.wire.dialects.contract import Dialect, Encoder, RunConstants
from tailrace.wire.failures import failure_in, failure_of
from tailrace.wire.frames import TextPieces, frame_name, json_frame, value_frame
from tailrace.wire.schema import FrameKind
from tailrace.wire.values import given

__all__ = ["DIALECT"]

_END = "run.ended"


class TextEncoder(Encoder):
    """Remembers whether the text so far ends within a line end."""

    def __init__(self, **run: Unpack[RunConstants]) -> None:
        """See `Encoder`."""
        super().__init__(**run)
        self._text = TextPieces()

    def bodies(self, entry: Entry) -> list[bytes]:
        """See the module for what each event becomes."""
        event = entry.event
        if isinstance(event, TextDelta):
            return self._text.frames(event.delta)
        if isinstance(event, Data) and event.name != _END:
            return [value_frame(event.data, event=None if event.name == "message" else frame_name(event.name))]
        return [json_frame(_ending(event), event=_END)] if isinstance(event, TERMINALS) else []


def _ending(event: Terminal) -> dict[str, object]:
    failure = failure_of(event) if isinstance(event, RunFailed | RunInterrupted) else None
    return given(status=event_type(event).removeprefix("run."), error=failure)


class Text(Dialect):
    """See the module."""

    name: ClassVar[str] = "text"
    encodes_with: ClassVar[type[Encoder]] = TextEncoder
    resumes: ClassVar[bool] = True

    def frame_kinds(self) -> list[FrameKind]:
        """Text and the end; application data goes by names of its own."""
        return [FrameKind(None, None), FrameKind(_END, {"type": "object", "required": ["status"]})]

    def document(self, reduced: Reduced) -> bytes:
        """`{"text", "status"}`, `data` if the application sent any, and `error` if the run failed."""
        beside = given(data=reduced.data or None, error=failure_in(reduced))
        return msgspec.json.encode({"text": reduced.text, "status": reduced.status, **beside})


DIALECT = Text()
