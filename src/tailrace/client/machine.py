"""When to ask, for what, and when to come back: the whole of a client's patience, without a socket, clock or dice.

A `Machine` is told what happened, and its `command` says what to do next. Whoever drives it makes the requests, waits,
and hands on the events; so the sync stream, the async one and the transport behave alike, to the last delay:

| `command` | What to do | What to tell |
|---|---|---|
| `Send` | make this request | `answered`, or `broke` if it could not be made |
| `Read` | read some bytes of the answer, for at most `patience` | `received`, `finished` at their end, or `broke` |
| `ReadBody` | read the whole answer, so many bytes at most | `read_body`, or `broke` |
| `Wait` | close the answer, wait | `woke` |
| `Stop` | close the answer: the stream has ended | |
| `Fail` | close the answer, raise the error | |

Times are Unix seconds; only differences of minutes matter.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias
from urllib.parse import urljoin

from tailrace.client.answers import (
    after_in,
    cursor_of,
    is_control,
    origin_of,
    refusal_in,
    retry_after_seconds,
    seq_of,
    target_of,
)
from tailrace.client.commands import (
    Attempt,
    Command,
    Connection,
    Fail,
    Policy,
    Read,
    ReadBody,
    Send,
    State,
    Stop,
    Wait,
)
from tailrace.client.endings import RAW, ending_of
from tailrace.errors import (
    FrameTooLargeError,
    NotAStreamError,
    RequestRefusedError,
    StreamBrokenError,
)
from tailrace.wire.cursor import Cursor
from tailrace.wire.dialects.native import first_of
from tailrace.wire.sse import Decoder, ServerSentEvent

__all__ = [
    "CLIENT",
    "CLIENT_HEADER",
    "Attempt",
    "Command",
    "Connection",
    "Fail",
    "Machine",
    "Policy",
    "Read",
    "ReadBody",
    "Send",
    "Stop",
    "Taken",
    "Wait",
]

#: Says to a server of ours that whoever asks comes back by itself, in any dialect.
CLIENT_HEADER: Final = "tailrace-client"
CLIENT: Final = "python/0.1.0"

_NATIVE: Final = "native"
_END_COMMENT: Final = "end"

#: Any bytes but those that control something.
_IN_A_HEADER: Final = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")

_STREAM_TYPE: Final = "text/event-stream"
_JSON_TYPE: Final = "application/json"

#: What answer will do.
Taken: TypeAlias = Literal["stream", "document", "either"]

_ACCEPT: Final[dict[Taken, bytes]] = {
    "stream": b"text/event-stream",
    "document": b"application/json",
    "either": b"text/event-stream, application/json;q=0.5",
}

#: What a refusal says fits in here; a document is a whole run.
_REFUSAL_BYTES = 64 * 1024
_DOCUMENT_BYTES = 64 * 1024 * 1024

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 20
#: Those that turn a POST into a GET.
_SEE_OTHER = frozenset({301, 302, 303})
#: The same request may be served later.
_PASSING = frozenset({408, 425, 429, *range(500, 600)})

_SHORTEST_RETRY_SECONDS = 0.1
#: A window that has doubled so often is longer than any that may be.
_MAX_DOUBLINGS = 63

#: An id in force that no stream can set, as an id with a NUL is ignored: none has come on this connection.
_NONE_YET: Final = "\0"


_READ = Read()
_STOP = Stop()


class Machine:
    """One stream, over as many requests as it takes.

    Attributes:
        command: What to do now.
        connection: How it is doing.
        last_event_id: What the next request would say; counts all events that `received` has returned.
        repeatable: Whether a request that is not a GET may be made again if it was not answered; to be set before its
            outcome is told.
        location: Where the run's log is, absolute, if the server said so.
        document: The body of an answer that was one document instead of a stream.
    """

    def __init__(  # noqa: PLR0913  what a request is, and how it is read
        self,
        url: str,
        *,
        random: Callable[[], float],
        method: str = "GET",
        dialect: str = "native",
        last_event_id: str = "",
        policy: Policy | None = None,
        asks_headers: bool = False,
        takes: Taken = "stream",
    ) -> None:
        """Stand before the first request.

        Args:
            url: Where to ask.
            random: Gives numbers in [0, 1), for delays.
            method: Of the first request. Whatever it is, coming back is a GET.
            dialect: Whose end is known by what: the name of a dialect, or `raw` for any event stream.
            last_event_id: Where to begin.
            policy: How patient to be.
            asks_headers: Whether headers are made for each request, so that a 401 is worth another one.
            takes: What answer will do; a document is JSON.

        Raises:
            DialectNotFoundError: There is no such dialect.
        """
        self.last_event_id = last_event_id
        self.repeatable = False
        self.location: str | None = None
        self.document: bytes | None = None
        self.connection = Connection("connecting")
        self._random = random
        self._policy = policy or Policy()
        self._dialect = dialect
        self._is_end = ending_of(dialect)
        self._asks_headers = asks_headers
        self._takes: Taken = takes
        # Where each attempt begins, and where the present one has been redirected to.
        self._method = self._asked_method = method
        self._url = self._asked_url = url
        self._home = url
        self._is_stuck = False
        self._attempt = Attempt(0)
        self._failures = 0
        self._redirects = 0
        self._refreshed = False
        self._delivered = False
        self._status = 0
        self._retry_after_seconds: float | None = None
        self._base_seconds = self._policy.base_seconds
        # Of the connection: where it began, the id in force, and whether what goes by that id is new.
        self._decoder = Decoder()
        self._told_end = False
        self._floor: Cursor | None = None
        self._id: str = _NONE_YET
        self._is_new = True
        self._quiet_seconds = 0.0
        self._reading_since: float | None = None
        # Of a native log, the last number that was read; None if that cannot be told.
        self._seq = seq_of(last_event_id or after_in(url) or "0")
        self._gap_at: int | None = None
        self.command: Command = _STOP
        self._send()

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to do but to close."""
        return isinstance(self.command, Stop | Fail)

    # What is told -----------------------------------------------------------------------------------------------------

    def answered(self, status: int, headers: Mapping[str, str], url: str, now: float) -> None:
        """The request was answered.

        Args:
            status: Its status.
            headers: Its headers, to be found by names in lower case.
            url: The absolute URL that was asked.
            now: The time.
        """
        self._home = urljoin(url, self._home)
        self._status = status
        self._retry_after_seconds = retry_after_seconds(headers.get("retry-after", ""), now)
        target = target_of(headers.get("location", "").strip(), url)
        if status in _REDIRECTS and target and self._redirects < _MAX_REDIRECTS:
            self._redirect("GET" if status in _SEE_OTHER else self._asked_method, target)
        elif status == 204 and self._takes != "document":
            self._end(_STOP)
        elif 200 <= status < 300:
            self._accept(headers.get("content-type", ""), url, target)
        elif status == 401 and self._asks_headers and not self._refreshed:
            self._refreshed = True
            self._send(status)
        elif status in _PASSING and self._may_repeat:
            self._drop(f"the server answered {status}", now, at_least_seconds=self._retry_after_seconds or 0.0)
        else:
            self.command = ReadBody(_REFUSAL_BYTES)

    def received(self, chunk: bytes, now: float) -> list[ServerSentEvent]:
        """Bytes have come, cut anywhere.

        Returns:
            The events in them that are new, to be handed on before anything else is done.
        """
        try:
            events = self._decoder.feed(chunk)
        except FrameTooLargeError as error:
            self._end(Fail(error))
            return []
        if self._decoder.retry is not None:
            self._base_seconds = min(max(_SHORTEST_RETRY_SECONDS, self._decoder.retry / 1000), self._policy.max_seconds)
        if self._reading_since is not None:
            self._quiet_seconds += max(0.0, now - self._reading_since)
            self._reading_since = None
        new: list[ServerSentEvent] = []
        for event in events:
            self._take(event, new, now)
            if self.command is not _READ:
                return new
        self._take_id()
        progress_seconds = self._policy.progress_seconds
        if self._told_end:
            self._end(_STOP)
        elif progress_seconds is not None and self._quiet_seconds >= progress_seconds:
            self._drop(f"no event for {progress_seconds:g} s", now)
        return new

    def finished(self, now: float) -> None:
        """The answer has come to an end, which is not the end of the stream."""
        self._drop("the connection ended", now)

    def broke(self, reason: str, now: float) -> None:
        """The request could not be made, or the answer broke off; `reason` says why, in English."""
        if isinstance(self.command, ReadBody) and self._status >= 300:
            # A refusal is one without its words too.
            self.read_body(b"")
        else:
            self._drop(reason, now)

    def read_body(self, body: bytes) -> None:
        """An answer that was asked for whole has come."""
        if 200 <= self._status < 300:
            self.document = body
            self._end(_STOP)
            return
        message, error_code = refusal_in(body)
        error = RequestRefusedError(
            self._status, message, error_code=error_code, retry_after_seconds=self._retry_after_seconds
        )
        self._end(Fail(error))

    def woke(self) -> None:
        """The wait is over, or was cut short."""
        self._send(self._status if self._status in _PASSING else None)

    def close(self) -> None:
        """Whoever reads has had enough."""
        if not self.is_over:
            self._end(_STOP)

    def patience(self, now: float) -> float | None:
        """How long to wait for the first byte from now on, in seconds; `None` for ever. After it, tell `broke`.

        To be asked right before each read: only time spent waiting counts, not what the reader of the events takes.
        """
        idle, progress = self._policy.idle_seconds, self._policy.progress_seconds
        self._reading_since = now
        if progress is None or self.command is not _READ:
            return idle
        left = max(0.0, progress - self._quiet_seconds)
        return left if idle is None else min(idle, left)

    # Requests and answers ---------------------------------------------------------------------------------------------

    @property
    def _may_repeat(self) -> bool:
        return self._method == "GET" or self.repeatable

    def _send(self, status: int | None = None) -> None:
        self._attempt = Attempt(self._attempt.number + 1, status)
        self._redirects = self._status = 0
        self._delivered = False
        self._asked_method, self._asked_url = self._method, self._url
        self._connected("connecting")
        self._ask()

    def _ask(self) -> None:
        headers = {"accept": _ACCEPT[self._takes], "cache-control": b"no-store"}
        if self._dialect != RAW:
            headers[CLIENT_HEADER] = CLIENT.encode()
        # Spaces around it a header loses in any case.
        if cursor := self.last_event_id.encode().strip(b" \t"):
            headers["last-event-id"] = cursor
        if not _IN_A_HEADER.fullmatch(cursor):
            self._end(Fail(self._broken("its last id fits in no header")))
            return
        self.command = Send(
            self._asked_method,
            self._asked_url,
            headers,
            # A redirect may have turned the request into another.
            with_body=self._asked_method == self._method != "GET",
            with_credentials=origin_of(urljoin(self._home, self._asked_url)) == origin_of(self._home),
            is_redirected=self._redirects > 0,
            attempt=self._attempt,
        )

    def _redirect(self, method: str, url: str) -> None:
        self._redirects += 1
        self._asked_method, self._asked_url = method, url
        self._ask()

    def _accept(self, content_type: str, url: str, target: str | None) -> None:
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type == _STREAM_TYPE and self._takes != "document":
            self._open(url, target)
        elif media_type != _JSON_TYPE or self._takes == "stream":
            expected = _JSON_TYPE if self._takes == "document" else _STREAM_TYPE
            self._end(Fail(NotAStreamError(content_type, expected=expected)))
        elif self._status == 202 and target and self._takes == "either" and self._redirects < _MAX_REDIRECTS:
            # The run goes on, and its log is there: from now on it is as if the server had streamed.
            self.location = self._url = target
            self._method = "GET"
            self._redirect("GET", target)
        else:
            self.command = ReadBody(_DOCUMENT_BYTES)

    def _open(self, url: str, target: str | None) -> None:
        """Begin to read, and know where to come back to."""
        is_get = self._asked_method == "GET"
        if target and not (is_get and self._dialect == RAW):
            self.location = self._url = target
        elif self._method != "GET":
            self._url, self._is_stuck = url, not is_get
        self._method = "GET"
        self._refreshed = False
        self._decoder = Decoder(
            last_event_id=_NONE_YET, max_event_bytes=self._policy.max_event_bytes, on_comment=self._on_comment
        )
        self._told_end = False
        self._floor = None if self._dialect == RAW else cursor_of(self.last_event_id)
        self._id, self._is_new = _NONE_YET, True
        self._quiet_seconds = 0.0
        self._connected("open")
        self.command = _READ

    # Events -----------------------------------------------------------------------------------------------------------

    def _on_comment(self, text: str) -> None:
        self._told_end = self._told_end or text == _END_COMMENT

    def _take(self, event: ServerSentEvent, new: list[ServerSentEvent], now: float) -> None:
        """Judge one event: it is new, or was read before, or is meant for the machine."""
        is_native = self._dialect == _NATIVE
        if self._dialect != RAW and event.event == "reconnect" and event.id == self._id and is_control(event.data):
            # The server asks for it, so it is no failure, and it has named the time.
            self._wait(self._base_seconds * (1 + self._random() / 2), "the server asked to come back", now)
            return
        if is_native and event.event == "reset":
            self._seq, self.last_event_id, self._id, self._is_new = 0, "", event.id, True
        elif is_native and event.id == self._id and self._is_end(event):
            # It has no number: the server could not store it, and tells it to whoever reads.
            self._is_new = True
        elif is_native and (cursor := cursor_of(event.id)):
            self._judge_entry(event, cursor, now)
        elif event.id != self._id:
            self._is_new = self._is_beyond(event.id)
        if not self._is_new or self.command is not _READ:
            self._id = event.id
            return
        if event.id != self._id and event.id != _NONE_YET:
            self.last_event_id = event.id
        self._id = event.id
        self._progressed()
        in_force = self.last_event_id
        new.append(event if event.id == in_force else ServerSentEvent(event.event, event.data, in_force))
        if self._is_end(event):
            self._end(_STOP)

    def _is_beyond(self, event_id: str) -> bool:
        """Whether what goes by that id was not read on a connection before; where no cursor is, nobody can tell."""
        floor, cursor = self._floor, cursor_of(event_id)
        if floor is None or cursor is None or len({cursor.run_id, floor.run_id} - {None}) > 1:
            return True
        return (cursor.seq, cursor.frames) > (floor.seq, floor.frames)

    def _judge_entry(self, event: ServerSentEvent, cursor: Cursor, now: float) -> None:
        """A native entry is new if it begins where the last one ended."""
        seq = cursor.seq
        self._is_new = self._seq is None or (first_of(event.data) or seq) == self._seq + 1
        if self._is_new:
            self._seq = seq
        elif self._seq is not None and seq > self._seq:
            reason = f"number {self._seq + 1} is missing"
            if self._gap_at == self._seq:
                self._end(Fail(self._broken(reason)))
            else:
                self._gap_at = self._seq
                self._drop(reason, now)

    def _take_id(self) -> None:
        """An id may come alone, and counts as well."""
        in_force = self._decoder.last_event_id
        if in_force not in {_NONE_YET, self._id} and self._dialect != _NATIVE:
            self._id = in_force
            if self._is_beyond(in_force):
                self.last_event_id = in_force

    def _progressed(self) -> None:
        self._quiet_seconds = 0.0
        if not self._delivered:
            self._delivered = True
            self._failures = 0
            self._gap_at = None
            self.connection = Connection("open", self._attempt.number)

    # Coming back ------------------------------------------------------------------------------------------------------

    def _drop(self, reason: str, now: float, *, at_least_seconds: float = 0.0) -> None:
        """The connection is lost: come back, if that can be."""
        if not self._delivered:
            self._failures += 1
        bound = self._policy.max_attempts
        if self._is_stuck:
            reason += ", and the answer had no Location to come back to"
        elif not self._may_repeat:
            reason += f", and a {self._method} without an Idempotency-Key is made once only"
        elif bound is None or self._failures < bound:
            window = self._base_seconds * 2.0 ** min(max(self._failures - 1, 0), _MAX_DOUBLINGS)
            self._wait(at_least_seconds + self._random() * min(self._policy.max_seconds, window), reason, now)
            return
        self._end(Fail(self._broken(reason)))

    def _wait(self, seconds: float, reason: str, now: float) -> None:
        self._connected("waiting", retry_at=now + seconds, error=reason)
        self.command = Wait(seconds)

    def _connected(self, state: State, *, retry_at: float | None = None, error: str | None = None) -> None:
        self.connection = Connection(state, self._attempt.number, retry_at, error or self.connection.error)

    def _broken(self, reason: str) -> StreamBrokenError:
        return StreamBrokenError(reason, attempts=self._attempt.number)

    def _end(self, command: Stop | Fail) -> None:
        self._connected("closed", error=str(command.error) if isinstance(command, Fail) else None)
        self.command = command
