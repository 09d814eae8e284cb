"""The Durable Streams protocol as bytes: offsets, cursors, and how messages go into a body or an event stream.

A log is read over HTTP from an offset on, at once or waiting (https://github.com/durable-streams/durable-streams,
PROTOCOL.md, 1.0). An offset is the number of the last record a reader has seen, in sixteen digits so that text order is
number order. Lines of data carry no space after the colon unless the line begins with one, which readers would take
away.
"""

import base64
import re
from collections.abc import Sequence

import msgspec

from tailrace.errors import CursorInvalidError, EventInvalidError

__all__ = ["NOW", "Format", "control_frame", "etag", "format_offset", "next_cursor", "parse_offset"]

#: The place behind all that is there.
NOW = "now"
#: The place before all that is there, as clients may write it.
_BEGINNING = "-1"

_OFFSET = re.compile(r"[0-9]{16}", re.ASCII)
_CURSOR = re.compile(r"[0-9]{1,15}", re.ASCII)
#: Cursors count intervals of so many seconds since the ninth of October 2024.
_EPOCH_SECONDS = 1_728_432_000
_INTERVAL_SECONDS = 20
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_LINE_END = re.compile(rb"\r\n|\r|\n")


def format_offset(seq: int) -> str:
    """The offset behind record number `seq`."""
    return f"{seq:016d}"


def parse_offset(text: str) -> int | None:
    """The number of the last record seen; `None` for the end of the log, wherever that is.

    Raises:
        CursorInvalidError: No offset that this server gave out.
    """
    if text == NOW:
        return None
    if text == _BEGINNING:
        return 0
    if _OFFSET.fullmatch(text) is None:
        raise CursorInvalidError(text)
    return int(text)


def next_cursor(now_seconds: float, given: str | None, *, jitter_seconds: int) -> str:
    """What a live reader sends with its next request, so that a cache never answers it with the same wait again.

    Args:
        now_seconds: Unix time.
        given: The cursor of this request; what is no number counts as none.
        jitter_seconds: 1 to 3600, drawn by the caller; used where the clock alone would repeat the cursor.
    """
    current = int(now_seconds - _EPOCH_SECONDS) // _INTERVAL_SECONDS
    if given is not None and _CURSOR.fullmatch(given) and int(given) >= current:
        current = int(given) + max(1, jitter_seconds // _INTERVAL_SECONDS)
    return str(current)


def etag(tag: str, first: int, last: int, *, closed: bool) -> str:
    """The entity tag of what stands between two offsets; a log that is closed there has another one."""
    return f'"{tag}:{first}:{last}{":c" if closed else ""}"'


class Format(msgspec.Struct, frozen=True):
    """How the messages of one content type stand together.

    Attributes:
        content_type: As the log was created with.
    """

    content_type: str

    @property
    def media_type(self) -> str:
        """The content type without parameters, in small letters."""
        return self.content_type.partition(";")[0].strip().lower()

    @property
    def is_json(self) -> bool:
        """Whether messages are JSON values, and not stretches of bytes."""
        return self.media_type == "application/json"

    @property
    def is_binary(self) -> bool:
        """Whether an event stream cannot carry the messages as they are."""
        return not self.is_json and not self.media_type.startswith("text/")

    def split(self, body: bytes) -> list[bytes]:
        """The messages of a body: of a JSON array each element, else the whole, and none if it is empty.

        Raises:
            EventInvalidError: It should be JSON and is not.
        """
        if not self.is_json or not body:
            return [body] if body else []
        try:
            # What is kept raw is not looked at closely; what is decoded is.
            if isinstance(msgspec.json.decode(body), list):
                return [bytes(element) for element in _decode_array(body)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise EventInvalidError("a message that is no JSON") from error
        return [body.strip()]

    def body(self, messages: Sequence[bytes]) -> bytes:
        """The messages as the body of a response."""
        return b"[%b]" % b",".join(messages) if self.is_json else b"".join(messages)

    def data_frame(self, messages: Sequence[bytes]) -> bytes:
        """The messages as one event of an event stream; every kind of line end becomes a line feed."""
        body = self.body(messages)
        if self.is_binary:
            body = base64.b64encode(body)
        elif not self.is_json:
            body = body.decode("utf-8", "replace").encode()
        lines = [b"data:%b%b\n" % (b" " if line.startswith(b" ") else b"", line) for line in _LINE_END.split(body)]
        return b"event: data\n%b\n" % b"".join(lines)


def control_frame(last: int, *, cursor: str, up_to_date: bool, closed: bool) -> bytes:
    """The event after every event of data: where the reader stands now. The last one of a closed log says so."""
    said: dict[str, object] = {"streamNextOffset": format_offset(last)}
    if closed:
        said |= {"streamClosed": True}
    else:
        said |= {"streamCursor": cursor}
    if up_to_date or closed:
        said |= {"upToDate": True}
    return b"event: control\ndata:%b\n\n" % msgspec.json.encode(said)
