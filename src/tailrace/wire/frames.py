"""How what a dialect says becomes a frame: one line of JSON, or text over as many lines as it has."""

import re

import msgspec

from tailrace.wire.sse import encode_event

__all__ = ["TextPieces", "frame", "frame_name", "json_frame", "value_frame"]

_encode = msgspec.json.Encoder().encode
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}", re.ASCII)


def json_frame(value: object, *, event: str | None = None) -> bytes:
    """A frame without id whose data is one line of JSON."""
    return frame(_encode(value), event=event)


def frame(line: bytes, *, event: str | None = None) -> bytes:
    """A frame without id; `line` has no line break, `event` is a name known to have none."""
    return b"event: %b\ndata: %b\n\n" % (event.encode(), line) if event else b"data: %b\n\n" % line


def value_frame(value: object, *, event: str | None = None) -> bytes:
    """A frame without id whose data is the text itself, over as many lines as it has; JSON of what is no text."""
    return encode_event(value, event=event) if isinstance(value, str) else json_frame(value, event=event)


def frame_name(name: str) -> str:
    """The name under which a frame shows what the application named so; `data` for one that no source may use."""
    return name if _NAME.fullmatch(name) else "data"


class TextPieces:
    """Text as raw data, piece by piece: whoever joins the data of its frames has the text, its line ends as LF.

    Empty pieces are no frames, and a CRLF that was cut in two is one line end, as it would be in one piece.
    """

    def __init__(self, *, event: str | None = None) -> None:
        """Begin a text; `event` is the name of its frames."""
        self._event = event
        self._after_cr = False

    def frames(self, piece: str) -> list[bytes]:
        """The frame of the next piece, or none."""
        rest = piece.removeprefix("\n") if self._after_cr else piece
        if piece:
            self._after_cr = piece.endswith("\r")
        return [encode_event(rest, event=self._event)] if rest else []
