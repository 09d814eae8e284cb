"""Server-Sent Events: frames out of text, events out of bytes, and frames cut out of a byte stream.

Bytes may come in pieces cut anywhere: no cut changes what is read, and the time is linear in the bytes.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import re
from collections.abc import Callable
from io import BytesIO

import msgspec

from tailrace.errors import FrameInvalidError, FrameTooLargeError

__all__ = ["Decoder", "FrameSplitter", "ServerSentEvent", "encode_event"]

_DEFAULT_MAX_BYTES = 8 * 1024 * 1024

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# The specification knows no bound; 16 digits are 300,000 years and still an exact number in every language.
_MAX_RETRY_DIGITS = 16

# A chunk whose next block ends within this many bytes is read by the regular expression, any other line by line: the
# expression looks at each byte, while splitting runs at memory speed but pays for every line. Measured, they cost the
# same between 1,000 and 2,000 bytes.
_SMALL_BLOCK_BYTES = 1024

# Whole blocks in the order and spelling in which nearly every server writes them: `id`, `event`, one `data`. Where no
# such block stands, the last alternative takes all that remains, so the matches cover the text without a gap, and only
# the last one can hold something unread. An empty id is left to the line reader: here it would look like none.
_find_simple_blocks = re.compile(r"(?:id: ?+([^\n\0]++)\n)?+(?:event: ?+(.*+)\n)?+data: ?+(.*+)\n\n|((?s:.+))").findall

# Looked for as numbers: bytes are what `in` first takes for a number in vain, and that costs more than the search.
_NUL, _LF, _CR = b"\0\n\r"

# The first line end must not give back its LF, or a CRLF would pass for two line ends.
_FRAME_END = re.compile(rb"(?:\n|\r\n?+)(?:\n|\r\n?)")
_LINE_END = re.compile(rb"\n|\r\n?")


def encode_event(
    data: str | None,
    *,
    event: str | None = None,
    id: str | None = None,  # noqa: A002 - the field's name on the wire
    retry: int | None = None,
    comment: str | None = None,
) -> bytes:
    """Write one whole frame: LF line ends, valid UTF-8, closed by a blank line.

    Args:
        data: One `data` line for each line of it, which ends at CRLF, CR or LF and nowhere else; the reader joins them
            with LF. "" is an event without text, None is no `data` line, so that nothing is dispatched.
        event: Event type; "" and None both mean `message`.
        id: Last event id from this frame on; "" resets it, None leaves it as it is.
        retry: Reconnection delay in milliseconds, of at most 16 digits.
        comment: One comment line for each line of it, before everything else.

    Returns:
        The frame. Surrogates that form no pair, which UTF-8 cannot carry, have become U+FFFD.

    Raises:
        FrameInvalidError: `event` or `id` has a CR, LF or NUL, or `retry` is no such number. Nothing is stripped: what
            would change the meaning of the frame, or add a line of its own to it, is a mistake of the caller.
    """
    if data is not None and ("\n" in data or "\r" in data):
        data = _continued("data", data)
    frame = "\n" if data is None else f"data: {data}\n\n"
    if event:
        if not event.isprintable() and _breaks(event):
            raise FrameInvalidError("event must have no CR, LF or NUL")
        frame = f"event: {event}\n{frame}"
    if id is not None:
        if not id.isprintable() and _breaks(id):
            raise FrameInvalidError("id must have no CR, LF or NUL")
        frame = f"id: {id}\n{frame}"
    if retry is not None and not _is_delay(retry):
        raise FrameInvalidError(f"retry must be a non-negative int of at most {_MAX_RETRY_DIGITS} digits")
    if retry is not None or comment is not None:
        frame = _rare_lines(retry, comment) + frame
    try:
        return frame.encode()
    except UnicodeEncodeError:
        return frame.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
    """One dispatched event.

    Attributes:
        event: Event type, `message` if the frame named none.
        data: The `data` lines joined with LF.
        id: The last event id in force at dispatch, which an earlier frame may have set; "" if there is none.
    """

    event: str
    data: str
    id: str


class Decoder:
    """Reads an event stream, to the letter of the specification.

    There is no call for the end of the stream: an event without its blank line is never dispatched. A reconnected
    stream takes a new decoder, with the `last_event_id` of the old one.

    Attributes:
        last_event_id: What to send as Last-Event-ID. It changes at a blank line only, so it never names an event that
            was cut, and it counts only events that `feed` has returned.
        retry: Reconnection delay in milliseconds, as soon as its line is complete; None until the stream sets one.
    """

    __slots__ = (
        "_at_rest",
        "_at_start",
        "_broken",
        "_data",
        "_event",
        "_id",
        "_line",
        "_max_event_bytes",
        "_on_comment",
        "_small_chunk_bytes",
        "_swallow_lf",
        "last_event_id",
        "retry",
    )

    def __init__(
        self,
        *,
        last_event_id: str = "",
        max_event_bytes: int = _DEFAULT_MAX_BYTES,
        on_comment: Callable[[str], None] | None = None,
    ) -> None:
        """Stand at the start of a stream.

        Args:
            last_event_id: What the stream was asked for with; in force until the stream sets another.
            max_event_bytes: Bound on one line without its end, and on the data of one event with an LF for each line.
            on_comment: Called with the text of each comment, less one leading space, as soon as its line is complete;
                it must not raise.
        """
        self.last_event_id = last_event_id
        self.retry: int | None = None
        self._id = last_event_id
        self._event = ""
        self._data = bytearray()
        self._line = bytearray()
        self._at_start = True
        self._swallow_lf = False
        self._broken = False
        # No event is open, and nothing but the id has to be remembered.
        self._at_rest = False
        self._max_event_bytes = max_event_bytes
        self._small_chunk_bytes = min(_SMALL_BLOCK_BYTES, max_event_bytes)
        self._on_comment = on_comment

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Take the next bytes, cut anywhere.

        Returns:
            The events completed by them, in order.

        Raises:
            FrameTooLargeError: A line or the data of an event is beyond `max_event_bytes`. The events before it in
                this chunk are not returned, nor counted in `last_event_id`; every later call raises again.
        """
        events: list[ServerSentEvent] = []
        if self._at_rest and 0 < len(chunk) <= self._small_chunk_bytes and _CR not in chunk:
            # This is how a stream comes that is read as fast as it is written: an event, or a few, in each chunk.
            unread = self._read_simple_blocks(chunk, events)
            if not unread:
                return events
            self._read_lines(unread, events)
        else:
            self._read_any(chunk, events)
        self._at_rest = not (self._line or self._data or self._event or self._swallow_lf or self._at_start)
        return events

    def _read_any(self, chunk: bytes, events: list[ServerSentEvent]) -> None:
        # Of any length, with any line ends, wherever the chunk before was cut.
        if self._broken:
            raise FrameTooLargeError(self._max_event_bytes)
        id_before = self.last_event_id
        try:
            if self._at_start or self._swallow_lf or _CR in chunk:
                chunk = self._normalised(chunk)
            self._read(chunk, events)
        except FrameTooLargeError:
            self._broken = True
            self._at_rest = False
            self.last_event_id = id_before
            raise

    def _normalised(self, chunk: bytes) -> bytes:
        """Remove the byte order mark that may start the stream, and make every line end an LF."""
        if self._at_start:
            chunk = bytes(self._line) + chunk
            self._line.clear()
            if len(chunk) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(chunk):
                self._line += chunk
                return b""
            self._at_start = False
            chunk = chunk.removeprefix(_BYTE_ORDER_MARK)
        if self._swallow_lf and chunk:
            self._swallow_lf = False
            chunk = chunk.removeprefix(b"\n")
        if _CR in chunk:
            self._swallow_lf = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return chunk

    def _read(self, chunk: bytes, events: list[ServerSentEvent]) -> None:
        """Read small whole blocks at once, and whatever else there is line by line."""
        if _LF not in chunk:
            self._line += chunk
            self._check_size(len(self._line))
            return
        first_end = chunk.find(b"\n\n", 0, _SMALL_BLOCK_BYTES)
        if first_end >= 0 and (self._line or self._data or self._event):
            self._read_lines(chunk[: first_end + 2], events)
            chunk = chunk[first_end + 2 :]
            first_end = chunk.find(b"\n\n", 0, _SMALL_BLOCK_BYTES)
        if first_end >= 0 and len(chunk) <= self._max_event_bytes:
            # Neither a line nor an event is open here, and none will be after the last blank line.
            end = chunk.rfind(b"\n\n") + 2
            chunk = self._read_simple_blocks(chunk[:end], events) + chunk[end:]
        if chunk:
            self._read_lines(chunk, events)

    def _read_simple_blocks(self, blocks: bytes, events: list[ServerSentEvent]) -> bytes:
        """Read blocks up to the first that is not simple; that one and all after it are returned."""
        text = blocks.decode("utf-8", "replace")
        last_id = self._id
        for event_id, event, data, unread in _find_simple_blocks(text):
            if unread:
                break
            last_id = event_id or last_id
            events.append(ServerSentEvent(event or "message", data, last_id))
        else:
            self.last_event_id = self._id = last_id
            return b""
        if len(unread) < len(text):
            self.last_event_id = self._id = last_id
        # Malformed bytes may have changed the length, but no line feed comes or goes in decoding.
        lines_read = text.count("\n", 0, len(text) - len(unread))
        return blocks.split(b"\n", lines_read)[-1]

    def _read_lines(self, chunk: bytes, events: list[ServerSentEvent]) -> None:
        may_be_too_large = len(self._line) + len(chunk) > self._max_event_bytes
        # It looks for line ends with memchr, which is many times as fast as `split` where lines are long.
        lines = BytesIO(chunk).readlines()
        if self._line:
            lines[0] = bytes(self._line) + lines[0]
            self._line.clear()
        if not chunk.endswith(b"\n"):
            self._line += lines.pop()
        if may_be_too_large:
            self._check_size(len(self._line), *(len(line) - 1 for line in lines))
        values: list[bytes] = []
        for line in lines:
            if line.startswith(b"data: "):
                values.append(line[6:-1])
            elif line == b"\n":
                self._dispatch(values, events)
            else:
                self._read_field(line[:-1], values)
        if values:
            self._data += b"\n".join(values)
            self._data += b"\n"
        self._check_size(len(self._data))

    def _read_field(self, line: bytes, values: list[bytes]) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                values.append(value)
            case b"id" if _NUL not in value:
                self._id = value.decode("utf-8", "replace")
            case b"event":
                self._event = value.decode("utf-8", "replace")
            case b"retry" if value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
                self.retry = int(value)
            case b"" if self._on_comment:
                self._on_comment(value.decode("utf-8", "replace"))
            case _:
                pass

    def _dispatch(self, values: list[bytes], events: list[ServerSentEvent]) -> None:
        """End the event that is open, if there is one; `values` are its data lines since those in `_data`."""
        self.last_event_id = self._id
        if self._data:
            self._data.pop()
            values.insert(0, bytes(self._data))
            self._data.clear()
        if values:
            data = b"\n".join(values)
            values.clear()
            self._check_size(len(data) + 1)
            events.append(ServerSentEvent(self._event or "message", data.decode("utf-8", "replace"), self._id))
        self._event = ""

    def _check_size(self, *sizes: int) -> None:
        if max(sizes) > self._max_event_bytes:
            raise FrameTooLargeError(self._max_event_bytes)


class FrameSplitter:
    """Cuts an event stream into frames without changing a byte of it, for a proxy that forwards only whole ones.

    What `feed` has returned so far, followed by `pending`, is what it was fed. Each item is a whole frame with the
    blank line that ends it, or, where no frame is open, one comment line or one blank line. Where a chunk ends in the
    CR that completes an item, the item is returned at once; should the next chunk begin with the LF of that CRLF, then
    the LF comes in front of the next item, where every reader swallows it. A byte order mark stays in front of the
    first item.
    """

    __slots__ = ("_before_item", "_broken", "_max_frame_bytes", "_pending", "_scanned_bytes")

    def __init__(self, *, max_frame_bytes: int = _DEFAULT_MAX_BYTES) -> None:
        """Stand at the start of a stream; `max_frame_bytes` bounds one item, and so the bytes held back."""
        self._max_frame_bytes = max_frame_bytes
        self._pending = bytearray()
        self._scanned_bytes = 0
        self._before_item = _BYTE_ORDER_MARK
        self._broken = False

    @property
    def pending(self) -> bytes:
        """The bytes after the last item: an unfinished frame, to be dropped if the stream breaks off here."""
        return bytes(self._pending)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes, cut anywhere.

        Returns:
            The items completed by them, in order.

        Raises:
            FrameTooLargeError: An item is beyond `max_frame_bytes`. The items before it in this chunk are not returned;
                every later call raises again.
        """
        if self._broken:
            raise FrameTooLargeError(self._max_frame_bytes)
        self._pending += chunk
        pending = self._pending
        has_cr = _CR in chunk
        items: list[bytes] = []
        item_start = 0
        line_start = len(self._before_item) if pending.startswith(self._before_item) else 0
        search_start = max(line_start, self._scanned_bytes)
        while line_start < len(pending):
            is_one_line = pending[line_start] in b":\r\n"
            end = _item_end(pending, search_start, is_one_line=is_one_line, has_cr=has_cr)
            if (end or len(pending)) - line_start > self._max_frame_bytes:
                self._broken = True
                raise FrameTooLargeError(self._max_frame_bytes)
            if not end:
                break
            items.append(bytes(pending[item_start:end]))
            item_start = line_start = search_start = end
        if items:
            self._before_item = b"\n" if items[-1].endswith(b"\r") else b""
            del pending[:item_start]
        # The last byte may end the line before a blank one that is still to come.
        self._scanned_bytes = max(0, len(pending) - 1)
        return items


def _item_end(pending: bytearray, search_start: int, *, is_one_line: bool, has_cr: bool) -> int:
    """Find where the first item ends; 0 if it is unfinished. `has_cr` tells of the bytes that are new."""
    if has_cr:
        match = (_LINE_END if is_one_line else _FRAME_END).search(pending, search_start)
        return match.end() if match else 0
    # The item's last byte is new, so it is an LF; and the line before a blank one ends in LF too, as a CR right before
    # this LF would be part of the same line end.
    line_feeds = b"\n" if is_one_line else b"\n\n"
    found = pending.find(line_feeds, search_start)
    return found + len(line_feeds) if found >= 0 else 0


def _continued(field: str, text: str) -> str:
    """Start each line of the text but the first with the field's name."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", f"\n{field}: ")


def _breaks(value: str) -> bool:
    """Whether the field would be cut by it, or dropped by readers; no other character can harm it."""
    return not {"\r", "\n", "\0"}.isdisjoint(value)


def _is_delay(retry: object) -> bool:
    # `bool` is an `int` too, but readers would drop `retry: True`.
    return type(retry) is int and 0 <= retry < 10**_MAX_RETRY_DIGITS


def _rare_lines(retry: int | None, comment: str | None) -> str:
    lines = "" if comment is None else f": {_continued('', comment)}\n"
    return lines if retry is None else f"{lines}retry: {retry}\n"
