"""One stream of any event source, read with `for` or with `async for`."""

import random
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import closing
from types import TracebackType
from typing import Self, TypedDict, Unpack, cast

from tailrace.client.async_stream import AsyncStreamReader
from tailrace.client.commands import Connection, Policy
from tailrace.client.http_clients import (
    AsyncHttpClient,
    HttpClient,
    absolute,
    is_async,
    new_client,
)
from tailrace.client.machine import Machine, Taken
from tailrace.client.stream import StreamReader
from tailrace.client.template import Headers, RequestTemplate
from tailrace.wire.sse import ServerSentEvent

__all__ = ["EventStream", "PolicyOptions", "StreamOptions", "make_stream", "open_stream"]


class PolicyOptions(TypedDict, total=False):
    """The fields of `Policy`, as keyword arguments."""

    base_seconds: float
    max_seconds: float
    max_attempts: int | None
    idle_seconds: float | None
    progress_seconds: float | None
    max_event_bytes: int


class StreamOptions(PolicyOptions, total=False):
    """What `open_stream` takes beside the URL and a client."""

    method: str
    json: object
    content: bytes | str | None
    headers: Headers | None
    dialect: str
    last_event_id: str


class EventStream:
    """The events of one stream, over as many connections as it takes: iterate with `for`, or with `async for`.

    A loop that is left closes the connection. Closing is not a cancel: what the server produces goes on there. One
    task or thread reads; others may close the stream, or cut a wait short. Made by `open_stream`.
    """

    def __init__(
        self, machine: Machine, template: RequestTemplate, client: HttpClient | AsyncHttpClient | None
    ) -> None:
        """Take the parts; nothing is requested yet. A stream that is given no client makes one, and closes it.

        Raises:
            TypeError: The client is neither of httpx2 nor of httpx.
        """
        self._machine = machine
        self._template = template
        self._client = client
        self._takes_async = None if client is None else is_async(client)
        self._reader: StreamReader | None = None
        self._async_reader: AsyncStreamReader | None = None
        self._is_taken = False
        self._last_event_id = machine.last_event_id

    @property
    def connection(self) -> Connection:
        """How it is doing: connecting, open, waiting until when and why, or closed."""
        return self._machine.connection

    @property
    def last_event_id(self) -> str:
        """The id in force at the last event that was handed out: another stream may begin after it."""
        return self._last_event_id

    @property
    def location(self) -> str | None:
        """Where the run's log is, if the server has said so."""
        return self._machine.location

    @property
    def document(self) -> bytes | None:
        """The body of the answer, if that was one document, where one was asked for."""
        return self._machine.document

    def retry_now(self) -> None:
        """Make the next attempt now, if the stream waits for it."""
        for reader in (self._reader, self._async_reader):
            if reader is not None:
                reader.retry_now()

    # By a thread ------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[ServerSentEvent]:
        """The events, to the stream's end.

        Raises:
            TypeError: Its client is an async one.
            ValueError: It was read before, or closed.
            RequestRefusedError: The server refuses for good.
            NotAStreamError: It answers with something else.
            StreamBrokenError: The stream broke, and cannot be resumed.
            FrameTooLargeError: An event is beyond `max_event_bytes`.
        """
        reader = self._sync()
        self._take()
        return self._events(reader)

    def _events(self, reader: StreamReader) -> Generator[ServerSentEvent]:
        with closing(reader.events()) as events:
            for event in events:
                self._note(event)
                yield event

    def connect(self) -> None:
        """Go on until the server has answered, and no further; iterating goes on from there.

        Raises:
            TypeError: As for iterating.
            ValueError: Likewise.
            TailraceError: Likewise.
        """
        self._sync().connect()

    def close(self) -> None:
        """Close at once, whatever the stream does, from any thread.

        Where a thread waits for the head of an answer on a connection that a given client had open before, or shares,
        that thread is not woken: it finds the stream closed when the head has come, or after `idle_seconds`.

        Raises:
            TypeError: A task reads it: await `aclose` instead.
        """
        if self._async_reader is not None:
            raise TypeError("a stream that is read with `async for` is closed by `await stream.aclose()`")
        self._is_taken = True
        self._machine.close() if self._reader is None else self._reader.close()

    def __enter__(self) -> Self:
        """Nothing yet; leaving the block closes the stream."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _sync(self) -> StreamReader:
        if self._takes_async or self._async_reader is not None:
            raise TypeError("this stream has an async client: read it with `async for`")
        if self._reader is None:
            self._refuse_taken()
            client = cast("HttpClient", self._client or new_client())
            self._reader = StreamReader(self._machine, self._template, client, owns_client=self._client is None)
        return self._reader

    # By a task --------------------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[ServerSentEvent]:
        """As `__iter__`.

        Raises:
            TypeError: Its client is a sync one.
            ValueError: It was read before, or closed.
            RequestRefusedError: The server refuses for good.
            NotAStreamError: It answers with something else.
            StreamBrokenError: The stream broke, and cannot be resumed.
            FrameTooLargeError: An event is beyond `max_event_bytes`.
        """
        reader = self._async()
        self._take()
        return _AsyncEvents(reader, self._note)

    def _note(self, event: ServerSentEvent) -> None:
        self._last_event_id = event.id

    async def aconnect(self) -> None:
        """As `connect`.

        Raises:
            TypeError: As for iterating.
            ValueError: Likewise.
            TailraceError: Likewise.
        """
        await self._async().connect()

    async def aclose(self) -> None:
        """Close at once, whatever the stream does, from any task of its loop.

        Raises:
            TypeError: A thread reads it: use `close`.
        """
        if self._reader is not None:
            raise TypeError("a stream that is read with `for` is closed by stream.close()")
        self._is_taken = True
        if self._async_reader is None:
            self._machine.close()
        else:
            await self._async_reader.aclose()

    async def __aenter__(self) -> Self:
        """Nothing yet; leaving the block closes the stream."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    def _async(self) -> AsyncStreamReader:
        if self._takes_async is False or self._reader is not None:
            raise TypeError("this stream has a sync client: read it with `for`")
        if self._async_reader is None:
            self._refuse_taken()
            client = cast("AsyncHttpClient | None", self._client)
            self._async_reader = AsyncStreamReader(self._machine, self._template, client)
        return self._async_reader

    def _take(self) -> None:
        self._refuse_taken()
        self._is_taken = True

    def _refuse_taken(self) -> None:
        if self._is_taken:
            raise ValueError("a stream is read once: open another one, with last_event_id=stream.last_event_id")


class _AsyncEvents:
    """A loop over the events of a stream.

    No generator: one that a loop has left would be closed by a task of the event loop's, which a program that ends
    right then cancels halfway.
    """

    def __init__(self, reader: AsyncStreamReader, note: Callable[[ServerSentEvent], None]) -> None:
        self._reader = reader
        self._note = note

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServerSentEvent:
        event = await self._reader.next()
        if event is None:
            raise StopAsyncIteration
        self._note(event)
        return event

    def __del__(self) -> None:
        self._reader.abandon()


def open_stream(  # noqa: PLR0913  a request, and how it is read
    url: str,
    *,
    method: str = "GET",
    json: object = None,
    content: bytes | str | None = None,
    headers: Headers | None = None,
    dialect: str = "native",
    last_event_id: str = "",
    client: HttpClient | AsyncHttpClient | None = None,
    **policy: Unpack[PolicyOptions],
) -> EventStream:
    """Read any SSE endpoint to its real end, through dropped connections, refusals that pass, and silence.

    Args:
        url: Absolute, or relative to the client's `base_url`.
        method: Of the first request. After a POST the stream is resumed by GET, at the `Location` of its first answer;
            a POST that was not answered is repeated only if it has an `Idempotency-Key` header.
        json: The body, as anything msgspec writes.
        content: Or the body itself.
        headers: A mapping, or a function, async or not, that gets an `Attempt` and makes the headers of each request:
            the place for a fresh token. After a 401 it is asked once more. `Authorization` and cookies go to the
            origin of `url` only.
        dialect: How the end is known: a dialect of tailrace, or `raw` for any other endpoint, where only the comment
            `: end` and a 204 are an end, as for a browser's EventSource.
        last_event_id: Where to begin.
        client: A client of httpx2 or httpx, with its pool, proxies, certificates and authentication; it stays open. An
            async one is read with `async for`. Without one the stream has its own.
        policy: How patient to be: see `Policy`.

    Raises:
        DialectNotFoundError: There is no such dialect.
        TypeError: The client, the body or a policy is of the wrong kind.
        ValueError: The URL is not absolute, a GET has a body, or a policy is out of range.
    """
    template = RequestTemplate(method, json=json, content=content, headers=headers)
    return make_stream(url, template, client, dialect=dialect, last_event_id=last_event_id, policy=Policy(**policy))


def make_stream(  # noqa: PLR0913  what to ask, and how it is read
    url: str,
    template: RequestTemplate,
    client: HttpClient | AsyncHttpClient | None,
    *,
    policy: Policy,
    dialect: str = "native",
    last_event_id: str = "",
    takes: Taken = "stream",
) -> EventStream:
    """What `open_stream` opens, and streams that may turn out to be documents.

    Raises:
        DialectNotFoundError: There is no such dialect.
        TypeError: The client is of the wrong kind.
        ValueError: The URL is not absolute.
    """
    machine = Machine(
        absolute(url, client),
        random=random.random,  # noqa: S311  spreads load
        method=template.method,
        dialect=dialect,
        last_event_id=last_event_id,
        policy=policy,
        asks_headers=template.asks_headers,
        takes=takes,
    )
    return EventStream(machine, template, client)
