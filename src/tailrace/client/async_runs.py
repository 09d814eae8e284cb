"""Runs of a tailrace server, for programs with an event loop."""

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self, Unpack

from tailrace import fold
from tailrace.client.commands import Policy
from tailrace.client.event_stream import EventStream, PolicyOptions, StreamOptions
from tailrace.client.http_clients import AsyncHttpClient, is_async, new_async_client
from tailrace.client.run_requests import RESET, Cancelled, RunLog, RunRequests, decoded
from tailrace.client.template import Headers
from tailrace.events import Entry
from tailrace.fold import Reduced
from tailrace.wire.sse import ServerSentEvent

__all__ = ["AsyncClient", "AsyncClientRun"]


class AsyncClient:
    """One server. Tasks of one event loop may share it."""

    def __init__(
        self,
        base_url: str = "",
        *,
        headers: Headers | None = None,
        start: str = "chat",
        runs: str = "runs",
        http: AsyncHttpClient | None = None,
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
            TypeError: `http` is a sync client, or none of these, or a policy is unknown.
            ValueError: A policy is out of range.
        """
        if http is not None and not is_async(http):
            raise TypeError("this is a sync client: use Client")
        self._owns_http = http is None
        self._requests = RunRequests(
            new_async_client() if http is None else http,
            base_url,
            start=start,
            runs=runs,
            headers=headers,
            policy=Policy(**policy),
        )

    async def start(self, body: object, *, key: str | None = None, path: str | None = None) -> "AsyncClientRun":
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
        run = AsyncClientRun(self, self._requests, self._requests.start(body, key=key, path=path))
        await run.connect()
        return run

    def attach(self, run_id: str, after: int = 0) -> "AsyncClientRun":
        """A run that was started before, to be read after that number; nothing is requested yet.

        Raises:
            ValueError: There is no base URL.
        """
        stream = self._requests.events(self._requests.events_url(run_id), after)
        return AsyncClientRun(self, self._requests, stream, run_id, after)

    def follow(self, run_id: str, after: int = 0) -> AsyncIterator[Entry]:
        """The entries of a run after that number, to its end: see `AsyncClientRun.__aiter__`.

        Raises:
            ValueError: There is no base URL.
        """
        return aiter(self.attach(run_id, after))

    async def cancel(self, run_id: str) -> bool:
        """Ask a run to stop; its log tells when it has. False if it had ended.

        Raises:
            RequestRefusedError: There is no such run for this caller, or the server refuses.
            NotAStreamError: It answers with something else.
            StreamBrokenError: It cannot be reached.
            ValueError: There is no base URL, or no id.
        """
        return decoded(await self._document(run_id, "cancel"), Cancelled).accepted

    async def info(self, run_id: str) -> Reduced:
        """A run so far, reduced: `status`, `seq`, `text`, `messages` and all else.

        Raises:
            RequestRefusedError: There is no such run for this caller, or the server refuses.
            NotAStreamError: It answers with something else.
            StreamBrokenError: It cannot be reached.
            ValueError: There is no base URL, or no id.
        """
        return decoded(await self._document(run_id), Reduced)

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

    async def aclose(self) -> None:
        """Close the connections, if the HTTP client is its own; to be called when all runs are closed."""
        if self._owns_http:
            await self._requests.http.aclose()

    async def __aenter__(self) -> Self:
        """Nothing yet; leaving the block closes it."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _document(self, run_id: str, verb: str = "") -> bytes | None:
        async with self._requests.document(run_id, verb) as stream:
            await stream.aconnect()
            return stream.document


class AsyncClientRun(RunLog[AsyncHttpClient]):
    """A run, read by a task; made by `AsyncClient.start` and `AsyncClient.attach`. See `RunLog` for what it knows.

    Closing it, or leaving a loop over it, lets go of the connection, not of the run: `cancel` stops that. A loop that
    is begun later goes on at the cursor.
    """

    def __init__(
        self,
        client: AsyncClient,
        requests: RunRequests[AsyncHttpClient],
        stream: EventStream,
        run_id: str = "",
        after: int = 0,
    ) -> None:
        """Made by a client."""
        super().__init__(requests, stream, run_id, after)
        self._client = client

    async def connect(self) -> None:
        """Return when the server has answered, which `AsyncClient.start` has waited for.

        Raises:
            RequestRefusedError: It refuses.
            NotAStreamError: It answers with something else.
            StreamBrokenError: It cannot be reached.
            ValueError: It was read already.
        """
        await self._stream.aconnect()
        self._answered()

    def __aiter__(self) -> AsyncIterator[Entry]:
        """The entries after the cursor, each once, in order, to the terminal one.

        Should the server have to begin the log anew, there is one entry `RESET` with number 0, and then number 1.

        Raises:
            RequestRefusedError: The server refuses for good: the run has expired, or is another's.
            NotAStreamError: It answers with something else.
            StreamBrokenError: The stream broke, and cannot be resumed.
            EventInvalidError: What came is no event.
        """
        stream = self._next_stream()
        return _AsyncEntries(None if stream is None else aiter(stream), self._entry)

    async def result(self) -> Reduced:
        """Read to the end: the whole run, reduced, with `text`, `messages`, `tools` and the source's own `result`.

        What was read before is asked for again.

        Raises:
            RunFailedError: The run ended otherwise than completed.
            TailraceError: As for iterating.
        """
        if self._reduced is None:
            self._reduced = await self._read_whole()
        return self._checked(self._reduced)

    async def text(self) -> str:
        """Read to the end: all text, exactly as it was streamed.

        Raises:
            RunFailedError: The run ended otherwise than completed.
            TailraceError: As for iterating.
        """
        return (await self.result()).text

    async def cancel(self) -> bool:
        """Ask the run to stop: see `AsyncClient.cancel`.

        Raises:
            RequestRefusedError: It has expired, or the server refuses.
            NotAStreamError: The server answers with something else.
            StreamBrokenError: It cannot be reached.
            ValueError: The run's id is not known yet.
        """
        return await self._client.cancel(self.id)

    async def aclose(self) -> None:
        """Let go of the connection, at once, from any task; the run goes on."""
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        """Nothing yet; leaving the block closes it."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _read_whole(self) -> Reduced:
        entries: list[Entry] = []
        is_whole = self._is_unread
        async for entry in self:
            if entry is RESET:
                entries.clear()
            elif is_whole:
                entries.append(entry)
        return fold.reduce(entries) if entries else await self._client.info(self.id)


class _AsyncEntries:
    """A loop over the entries of a run; no generator, for the reason that a loop over events is none."""

    def __init__(
        self, events: AsyncIterator[ServerSentEvent] | None, entry_of: Callable[[ServerSentEvent], Entry]
    ) -> None:
        self._events = events
        self._entry_of = entry_of

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        if self._events is None:
            raise StopAsyncIteration
        return self._entry_of(await anext(self._events))
