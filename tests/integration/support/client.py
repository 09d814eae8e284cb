"""An HTTP/1.1 client on a blocking socket that sees every byte and can stop at any of them.

It does nothing of its own accord: it never reconnects, never reads ahead of what it is asked for, never closes politely
unless told to. A read that takes longer than its bound fails the test.
"""

import contextlib
import socket
import struct
from collections.abc import Generator, Mapping
from types import TracebackType
from typing import Self

import msgspec

from tailrace.wire.sse import Decoder, ServerSentEvent

__all__ = ["BOUND_SECONDS", "NEVER_SECONDS", "Connection", "EventReader", "Head", "Reply", "fetch", "open_stream"]

#: How long anything that should happen may take before a test fails; a busy machine needs a part of it.
BOUND_SECONDS = 20.0
#: Of whatever shall not happen during a test, so that something else must.
NEVER_SECONDS = 600.0

_CHUNK_BYTES = 64 * 1024


class Head(msgspec.Struct, frozen=True):
    """Status and headers of a response, the names in lower case."""

    status: int
    headers: list[tuple[str, str]]

    def __getitem__(self, name: str) -> str:
        """The value of a header that is there exactly once."""
        (value,) = self.all(name)
        return value

    def all(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key == name]

    @property
    def names(self) -> set[str]:
        """The names of all headers."""
        return {name for name, _ in self.headers}


class Reply(msgspec.Struct, frozen=True):
    """A response that was read to its end; `whole` tells whether HTTP says that nothing is missing."""

    head: Head
    body: bytes
    whole: bool

    @property
    def status(self) -> int:
        """The status of the response."""
        return self.head.status

    def json(self) -> dict[str, object]:
        """The body as a JSON object."""
        return msgspec.json.decode(self.body, type=dict[str, object])

    @property
    def error_code(self) -> object:
        """The code in the body of a refusal."""
        return msgspec.json.decode(self.body, type=dict[str, dict[str, object]])["error"]["code"]


class Connection:
    """One connection, one request at a time.

    Attributes:
        whole: The response came to the end that its own framing announces.
        reset: The other side reset the connection.
    """

    def __init__(self, port: int, *, receive_buffer_bytes: int | None = None) -> None:
        """Connect; a small receive buffer makes the peer feel soon that nobody reads."""
        self.whole = False
        self.reset = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.settimeout(BOUND_SECONDS)
        if receive_buffer_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self._socket.connect(("127.0.0.1", port))
        self._received = bytearray()
        self._body = bytearray()
        self._chunked = False
        self._left: int | None = None
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close politely, or at least as politely as with unread bytes in the buffer."""
        self._socket.close()

    def abort(self) -> None:
        """Reset the connection, as a crash or a dead network does sooner or later."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def send(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        """Send one request."""
        fields = {"host": "tailrace.test", **(headers or {})}
        if body:
            fields["content-length"] = str(len(body))
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self._socket.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def head(self, *, has_body: bool = True) -> Head:
        """Read the status line and the headers."""
        self.whole, self._ended = False, False
        while b"\r\n\r\n" not in self._received:
            assert self._receive(), f"no response, but {bytes(self._received)!r}"
        block, _, rest = bytes(self._received).partition(b"\r\n\r\n")
        self._received = bytearray(rest)
        status_line, *lines = block.decode("latin-1").split("\r\n")
        fields = [line.split(": ", 1) for line in lines]
        head = Head(int(status_line.split(" ")[1]), [(name.lower(), value) for name, value in fields])
        self._chunked = "chunked" in head.all("transfer-encoding")
        self._left = int(next(iter(head.all("content-length")), "0")) if not self._chunked else None
        if not has_body or (not self._chunked and not self._left):
            self.whole = self._ended = True
        return head

    def read(self, limit: int = _CHUNK_BYTES) -> bytes:
        """At least one byte of the body and at most `limit`; none at its end, however that came."""
        if not limit:
            return b""
        self._parse()
        while not self._body and not self._ended:
            self._ended = not self._receive() or self._ended
            self._parse()
        taken = bytes(self._body[:limit])
        del self._body[:limit]
        return taken

    def read_at_most(self, count: int) -> bytes:
        """That many bytes of the body, or fewer if it ends before."""
        taken = bytearray()
        while piece := self.read(count - len(taken)):
            taken += piece
        return bytes(taken)

    def read_exactly(self, count: int) -> bytes:
        """That many bytes of the body."""
        taken = self.read_at_most(count)
        assert len(taken) == count, f"the body ended after {len(taken)} of {count} bytes"
        return taken

    def read_to_end(self) -> bytes:
        """The rest of the body; look at `whole` for how it ended."""
        taken = bytearray()
        while piece := self.read():
            taken += piece
        return bytes(taken)

    def reply(self) -> Reply:
        """A whole response."""
        head = self.head()
        return Reply(head, self.read_to_end(), self.whole)

    def _receive(self) -> bool:
        try:
            received = self._socket.recv(_CHUNK_BYTES)
        except ConnectionResetError:
            self.reset = True
            return False
        self._received += received
        return bool(received)

    def _parse(self) -> None:
        """Move what has come of the body out of its framing."""
        while not self._ended:
            if self._left is None and not self._begin_chunk():
                return
            if not self._take():
                return

    def _begin_chunk(self) -> bool:
        """Read a chunk's size; False if its line has not come yet, or if it is the last one."""
        line_end = self._received.find(b"\r\n")
        if line_end < 0:
            return False
        size = int(self._received[:line_end], 16)
        if size:
            del self._received[: line_end + 2]
            # The line end after the data is counted with it and cut off again.
            self._left = size + 2
            return True
        if len(self._received) >= line_end + 4:
            del self._received[: line_end + 4]
            self.whole = self._ended = True
        return False

    def _take(self) -> bool:
        """Take what is there of a chunk, or of a body of known length; False if that was not all of it."""
        assert self._left is not None
        frame_end = 2 if self._chunked else 0
        taken = bytes(self._received[: self._left])
        del self._received[: self._left]
        data_bytes = max(0, self._left - frame_end)
        self._body += taken[:data_bytes]
        self._left -= len(taken)
        if self._left:
            return False
        if self._chunked:
            self._left = None
        else:
            self.whole = self._ended = True
        return True


class EventReader:
    """Reads events off a response, one by one.

    Attributes:
        head: The response's head.
        comments: The comments so far.
        raw: The bytes so far.
    """

    def __init__(self, connection: Connection, head: Head) -> None:
        """Read the body that follows `head`."""
        self.connection = connection
        self.head = head
        self.comments: list[str] = []
        self.raw = b""
        self._decoder = Decoder(on_comment=self.comments.append)
        self._ready: list[ServerSentEvent] = []

    @property
    def retry_ms(self) -> int | None:
        """The delay that the stream asked for."""
        return self._decoder.retry

    @property
    def last_event_id(self) -> str:
        """What to come back with."""
        return self._decoder.last_event_id

    def next(self) -> ServerSentEvent:
        """The next event."""
        while not self._ready:
            assert self.read_more(), f"the stream ended after {self.raw!r}"
        return self._ready.pop(0)

    def next_of(self, *types: str) -> ServerSentEvent:
        """The next event of one of these types; others before it are passed over."""
        while (event := self.next()).event not in types:
            pass
        return event

    def rest(self) -> list[ServerSentEvent]:
        """All events to the end."""
        while self.read_more():
            pass
        events, self._ready = self._ready, []
        return events

    def until_comment(self, text: str) -> None:
        """Read on until a comment came."""
        while text not in self.comments:
            assert self.read_more(), f"the stream ended after {self.raw!r}"

    def read_more(self) -> bool:
        """Wait for more bytes; False at the end."""
        received = self.connection.read()
        self.raw += received
        self._ready += self._decoder.feed(received)
        return bool(received)


def fetch(port: int, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Reply:
    """One request on a connection of its own, its response to the end."""
    with Connection(port) as connection:
        connection.send(method, target, headers, body)
        head = connection.head(has_body=method != "HEAD")
        return Reply(head, connection.read_to_end(), connection.whole)


@contextlib.contextmanager
def open_stream(
    port: int,
    method: str,
    target: str,
    headers: Mapping[str, str] | None = None,
    *,
    body: bytes = b"",
    receive_buffer_bytes: int | None = None,
) -> Generator[EventReader]:
    """A request whose events are read one by one; leaving it closes the connection."""
    with Connection(port, receive_buffer_bytes=receive_buffer_bytes) as connection:
        connection.send(method, target, headers, body)
        yield EventReader(connection, connection.head())
