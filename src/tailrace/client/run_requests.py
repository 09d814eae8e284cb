"""What a client asks a server about runs, and what it knows of one: all that is the same with and without tasks."""

import re
import uuid
from typing import Generic, TypeVar, cast
from urllib.parse import quote, urlsplit

import msgspec

from tailrace import fold
from tailrace.client.answers import UNREADABLE
from tailrace.client.commands import Connection, Policy
from tailrace.client.event_stream import EventStream, StreamOptions, make_stream, open_stream
from tailrace.client.http_clients import AsyncHttpClient, HttpClient
from tailrace.client.template import Headers, RequestTemplate
from tailrace.errors import NotAStreamError, RunFailedError
from tailrace.events import TERMINALS, Entry, Opaque, RunStarted
from tailrace.fold import Reduced
from tailrace.wire.dialects.native import read_entry
from tailrace.wire.sse import ServerSentEvent

__all__ = ["RESET", "Cancelled", "RunLog", "RunRequests", "decoded"]

#: What a reader is told when the server begins a log anew: all that came before it is void.
RESET = Entry(0, 0, Opaque("reset", b'{"type":"reset"}'))

_RUN_IN_PATH = re.compile(r"/([^/]+)/events/?")


class Cancelled(msgspec.Struct):
    """What a server answers to a cancel."""

    accepted: bool


_T = TypeVar("_T")
_Http = TypeVar("_Http", bound=HttpClient | AsyncHttpClient)


class RunRequests(Generic[_Http]):
    """Where runs are, and with what client, headers and patience they are asked for."""

    def __init__(
        self, http: _Http, base_url: str, *, start: str, runs: str, headers: Headers | None, policy: Policy
    ) -> None:
        """Take what a client was given."""
        self.http = http
        self.headers = headers
        self.policy = policy
        self._base_url = base_url
        self._start = start
        self._runs = runs

    def url(self, path: str) -> str:
        """Below the base URL, unless it is absolute itself."""
        if not self._base_url or urlsplit(path).scheme:
            return path
        return f"{self._base_url.rstrip('/')}/{path.lstrip('/')}"

    def open_stream(self, url: str, options: StreamOptions) -> EventStream:
        """Any stream of the server.

        Raises:
            DialectNotFoundError: As for `open_stream`.
            TypeError: Likewise.
            ValueError: Likewise.
        """
        ours = {**msgspec.structs.asdict(self.policy), "headers": self.headers}
        return open_stream(self.url(url), client=self.http, **cast("StreamOptions", {**ours, **options}))

    def start(self, body: object, *, key: str | None, path: str | None) -> EventStream:
        """Start a run, or find the one that was started with this key.

        Raises:
            ValueError: There is no base URL.
        """
        key_header = {"idempotency-key": uuid.uuid4().hex if key is None else key}
        template = RequestTemplate("POST", json=body, headers=self.headers, extra=key_header)
        url = self.url(self._start if path is None else path)
        return make_stream(url, template, self.http, policy=self.policy, takes="either")

    def events_url(self, run_id: str) -> str:
        """A run's log."""
        return self.url(f"{self._runs}/{quote(run_id, safe='')}/events")

    def events(self, url: str, after: int) -> EventStream:
        """A run's log, after that number.

        Raises:
            ValueError: The URL is relative, and there is no base URL.
        """
        template = RequestTemplate("GET", headers=self.headers)
        return make_stream(url, template, self.http, policy=self.policy, last_event_id=str(after) if after else "")

    def document(self, run_id: str, verb: str = "") -> EventStream:
        """What a server says of a run, or does to it, which may be asked for twice.

        Raises:
            ValueError: There is no base URL, or the run has no id.
        """
        if not run_id:
            raise ValueError("the run's id is not known: the server has named no Location, and no entry was read yet")
        path = f"{self._runs}/{quote(run_id, safe='')}"
        template = RequestTemplate("POST" if verb else "GET", headers=self.headers, is_repeatable=True)
        url = self.url(f"{path}/{verb}" if verb else path)
        return make_stream(url, template, self.http, policy=self.policy, takes="document")


class RunLog(Generic[_Http]):
    """What is known of one run, and the stream it is read from.

    Attributes:
        id: The run; "" until it is known, which is when it was started, or at the first entry where the server names
            no `Location`.
        cursor: Number of the last entry that was handed out.
    """

    def __init__(self, requests: RunRequests[_Http], stream: EventStream, run_id: str = "", after: int = 0) -> None:
        """Made by a client."""
        self.id: str = run_id
        self.cursor = after
        self._requests = requests
        self._stream = stream
        self._is_taken = False
        self._is_final = False
        self._reduced: Reduced | None = None

    @property
    def url(self) -> str:
        """Where its log is, as far as that is known."""
        return self._stream.location or (self._requests.events_url(self.id) if self.id else "")

    @property
    def connection(self) -> Connection:
        """How the reading is doing."""
        return self._stream.connection

    def retry_now(self) -> None:
        """Make the next attempt now, if the reading waits for it."""
        self._stream.retry_now()

    def _answered(self) -> None:
        """The server has answered."""
        match = _RUN_IN_PATH.search(urlsplit(self._stream.location or "").path)
        if match is not None and not self.id:
            self.id = match[1]
        if self._stream.document is not None:
            self._take_document(self._stream.document)

    def _take_document(self, document: bytes) -> None:
        """It is the whole run."""
        reduced = decoded(document, Reduced)
        self.id, self.cursor = reduced.run_id or self.id, reduced.seq
        self._reduced, self._is_final = reduced, True

    def _next_stream(self) -> EventStream | None:
        """What is to be read now: the stream at hand, or another one that goes on where it was left."""
        if self._is_final:
            return None
        if self._is_taken:
            self._stream = self._requests.events(self.url, self.cursor)
        self._is_taken = True
        return self._stream

    def _entry(self, event: ServerSentEvent) -> Entry:
        """An event of the log, after which the cursor stands.

        Raises:
            CursorInvalidError: Its id is none of ours.
            EventInvalidError: It is no event.
        """
        if event.event == "reset":
            self.cursor = 0
            return RESET
        entry = read_entry(event)
        self.cursor = entry.seq or self.cursor
        if isinstance(entry.event, RunStarted):
            self.id = entry.event.run_id
        self._is_final = self._is_final or isinstance(entry.event, TERMINALS)
        return entry

    @property
    def _is_unread(self) -> bool:
        """Whether all of the log is still to come, so that there is no need to ask for it."""
        return self.cursor == 0 and not self._is_final

    def _checked(self, reduced: Reduced) -> Reduced:
        """The reduced run.

        Raises:
            RunFailedError: It did not complete.
        """
        if reduced.status == "completed":
            return reduced
        failure = reduced.failure or fold.Failure(code=reduced.status)
        raise RunFailedError(self.id, status=reduced.status, failure=failure.code, message=failure.message)


def decoded(document: bytes | None, kind: type[_T]) -> _T:
    """A document of the server.

    Raises:
        NotAStreamError: It is another one than was asked for.
    """
    try:
        return msgspec.json.decode(document or b"", type=kind)
    except UNREADABLE as error:
        raise NotAStreamError("application/json", expected=f"{kind.__name__}: {error}") from error
