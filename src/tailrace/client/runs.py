"""Runs of a tailrace server, for programs without an event loop."""

from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Self, Unpack

from tailrace import fold
from tailrace.client.commands import Policy
from tailrace.client.event_stream import EventStream, PolicyOptions, StreamOptions
from tailrace.client.http_clients import HttpClient, is_async, new_client
from tailrace.client.run_requests import RESET, Cancelled, RunLog, RunRequests, decoded
from tailrace.client.template import Headers
from tailrace.events import Entry
from tailrace.fold import Reduced

__all__ = ["Client", "ClientRun"]


class Client:
    """One server. Threads may share it."""

    def __init__(
        self,
        base_url: str = "",
        *,
        headers: Headers | None = None,
        start: str = "chat",
        runs: str = "runs",
        http: HttpClient | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> None:
        """Make it; nothing is requested yet.

        Args:
            base_url: Where the application is, such as `https://example.com/api`; may be left out if `http` has one.
            headers: As for `open_stream`.
            start: Where runs are started, below it.
            runs: Where `Tailrace.install` has put the run routes, below it.
            http: A client of httpx2 or httpx; it stays open. Without one there is an own one.
            policy: How patient to be: see `Policy`.

        Raises:
            ImportError: httpx2 is not installed, and no `http` was given.
            TypeError: `http` is an async client, or none of these, or a policy is unknown.
            ValueError: A policy is out of range.
        """
        if http is not None and is_async(http):
            raise TypeError("this is an async client: use AsyncClient")
        self._owns_http = http is None
        self._requests = RunRequests(
            new_client() if http is None else http,
            base_url,
            start=start,
            runs=runs,
            headers=headers,
            policy=Policy(**policy),
        )

    def start(self, body: object, *, key: str | None = None, path: str | None = None) -> "ClientRun":
        """Start a run, and return when the server has answered. However often that is tried, it is one run.

        Args:
            body: The body of the request, as anything msgspec writes.
            key: Names this start: another one with the same key finds the same run. By default a random one.
            path: Where to start it, if not where this client starts runs.

        Raises:
            RequestRefusedError: The server refuses.
            NotAStreamError: It answers with something else.
            StreamBrokenError: It cannot be reached.
            ValueError: There is no base URL.
        """
        run = ClientRun(self, self._requests, self._requests.start(body, key=key, path=path))
        run.connect()
        return run

    def attach(self, run_id: str, after: int = 0) -> "ClientRun":
        """A run that was started before, to be read after that number; nothing is requested yet.

        Raises:
            ValueError: There is no base URL.
        """
        stream = self._requests.events(self._requests.events_url(run_id), after)
        return ClientRun(self, self._requests, stream, run_id, after)

    def follow(self, run_id: str, after: int = 0) -> Iterator[Entry]:
        """The entries of a run after that number, to its end: see `ClientRun.__iter__`.

        Raises:
            ValueError: There is no base URL.
        """
        return iter(self.attach(run_id, after))

    def cancel(self, run_id: str) -> bool:
        """Ask a run to stop; its log tells when it has. False if it had ended.

        Raises:
            RequestRefusedError: There is no such run for this caller, or the server refuses.
            NotAStreamError: It answers with something else.
            StreamBrokenError: It cannot be reached.
            ValueError: There is no base URL, or no id.
        """
        return decoded(self._document(run_id, "cancel"), Cancelled).accepted

    def info(self, run_id: str) -> Reduced:
        """A run so far, reduced: `status`, `seq`, `text`, `messages` and all else.

        Raises:
            RequestRefusedError: There is no such run for this caller, or the server refuses.
            NotAStreamError: It answers with something else.
            StreamBrokenError: It cannot be reached.
            ValueError: There is no base URL, or no id.
        """
        return decoded(self._document(run_id), Reduced)

    def open_stream(self, url: str, **options: Unpack[StreamOptions]) -> EventStream:
        """Any other stream of the server: `tailrace.client.open_stream` with this client's headers and patience.

        Args:
            url: Below the base URL, or absolute.
            options: As there.

        Raises:
            DialectNotFoundError: As there.
            TypeError: Likewise.
            ValueError: Likewise.
        """
        return self._requests.open_stream(url, options)

    def close(self) -> None:
        """Close the connections, if the HTTP client is its own; to be called when all runs are closed."""
        if self._owns_http:
            self._requests.http.close()

    def __enter__(self) -> Self:
        """Nothing yet; leaving the block closes it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _document(self, run_id: str, verb: str = "") -> bytes | None:
        with self._requests.document(run_id, verb) as stream:
            stream.connect()
            return stream.document


class ClientRun(RunLog[HttpClient]):
    """A run, read by a thread; made by `Client.start` and `Client.attach`. See `RunLog` for what it knows.

    Closing it, or leaving a loop over it, lets go of the connection, not of the run: `cancel` stops that. A loop that
    is begun later goes on at the cursor.
    """

    def __init__(
        self, client: Client, requests: RunRequests[HttpClient], stream: EventStream, run_id: str = "", after: int = 0
    ) -> None:
        """Made by a client."""
        super().__init__(requests, stream, run_id, after)
        self._client = client

    def connect(self) -> None:
        """Return when the server has answered, which `Client.start` has waited for.

        Raises:
            RequestRefusedError: It refuses.
            NotAStreamError: It answers with something else.
            StreamBrokenError: It cannot be reached.
            ValueError: It was read already.
        """
        self._stream.connect()
        self._answered()

    def __iter__(self) -> Iterator[Entry]:
        """The entries after the cursor, each once, in order, to the terminal one.

        Should the server have to begin the log anew, there is one entry `RESET` with number 0, and then number 1.

        Raises:
            RequestRefusedError: The server refuses for good: the run has expired, or is another's.
            NotAStreamError: It answers with something else.
            StreamBrokenError: The stream broke, and cannot be resumed.
            EventInvalidError: What came is no event.
        """
        return self._entries()

    def _entries(self) -> Generator[Entry]:
        stream = self._next_stream()
        if stream is not None:
            with stream:
                for event in stream:
                    yield self._entry(event)

    def result(self) -> Reduced:
        """Read to the end: the whole run, reduced, with `text`, `messages`, `tools` and the source's own `result`.

        What was read before is asked for again.

        Raises:
            RunFailedError: The run ended otherwise than completed.
            TailraceError: As for iterating.
        """
        if self._reduced is None:
            self._reduced = self._read_whole()
        return self._checked(self._reduced)

    def text(self) -> str:
        """Read to the end: all text, exactly as it was streamed.

        Raises:
            RunFailedError: The run ended otherwise than completed.
            TailraceError: As for iterating.
        """
        return self.result().text

    def cancel(self) -> bool:
        """Ask the run to stop: see `Client.cancel`.

        Raises:
            RequestRefusedError: It has expired, or the server refuses.
            NotAStreamError: The server answers with something else.
            StreamBrokenError: It cannot be reached.
            ValueError: The run's id is not known yet.
        """
        return self._client.cancel(self.id)

    def close(self) -> None:
        """Let go of the connection, at once, from any thread; the run goes on."""
        self._stream.close()

    def __enter__(self) -> Self:
        """Nothing yet; leaving the block closes it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _read_whole(self) -> Reduced:
        entries: list[Entry] = []
        is_whole = self._is_unread
        for entry in self:
            if entry is RESET:
                entries.clear()
            elif is_whole:
                entries.append(entry)
        return fold.reduce(entries) if entries else self._client.info(self.id)
