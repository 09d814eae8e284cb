"""A client that follows one run by the resume rule: for tests of a whole deployment, its proxies and restarts included.

The rule: whatever ends a response before the terminal event, come back with the id of the last event; an event counts
if it continues what was read. What a deployment must never show a reader is noted as a fault.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from tailrace import events, fold
from tailrace.errors import CursorInvalidError, EventInvalidError
from tailrace.events import Entry
from tailrace.testing.asgi import AsgiResponse
from tailrace.wire.dialects.native import read_entry
from tailrace.wire.sse import Decoder, ServerSentEvent

__all__ = ["HttpFollower", "HttpxResponse", "StreamingClient"]

#: Between two attempts while no stream has asked for another delay.
_RETRY_SECONDS = 0.1
#: With these a client may try again; any other refusal is final.
_PASSING_STATUSES = frozenset({429, 500, 502, 503, 504})


class HttpxResponse(Protocol):
    """What a follower needs of a response of httpx."""

    @property
    def status_code(self) -> int: ...

    def aiter_bytes(self) -> AsyncIterator[bytes]: ...


class StreamingClient(Protocol):
    """What a follower needs of a client: `AsgiClient` and the async clients of httpx and httpx2 have it."""

    def stream(
        self, method: str, url: str, *, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[AsgiResponse | HttpxResponse]: ...


class HttpFollower:
    """Reads one run in the native dialect, over as many responses as it takes.

    Attributes:
        entries: What was read, without a gap; merged ones if the server merges.
        faults: What must never be: a gap, a number that comes twice, an event after the terminal one, a clean end
            before it without being asked to come back, a refusal for good. The first one ends the reading.
        resumes: How often the follower had to come back.
        reconnects: The delays, in milliseconds, of the frames that asked it to come back.
        refusals: The statuses with which it was asked to try again.
    """

    def __init__(
        self,
        client: StreamingClient,
        url: str | Iterable[str],
        *,
        dropped: tuple[type[Exception], ...] = (),
        retry_seconds: float | None = None,
    ) -> None:
        """Stand at the beginning; nothing is read before `follow`.

        Args:
            client: Sends the requests. Its own timeouts must be longer than a stream may be silent.
            url: Where the log is; or where to look at each attempt, from an iterable that does not end.
            dropped: What the client raises where a connection is refused or breaks, such as `httpx.TransportError`;
                `ConnectionError` always counts.
            retry_seconds: The pause before coming back; by default what the streams ask for.
        """
        self.entries: list[Entry] = []
        self.faults: list[str] = []
        self.resumes = 0
        self.reconnects: list[int] = []
        self.refusals: list[int] = []
        self._client = client
        self._urls = itertools.repeat(url) if isinstance(url, str) else url
        self._dropped: tuple[type[Exception], ...] = (ConnectionError, *dropped)
        self._retry_seconds = retry_seconds
        self._asked_seconds = _RETRY_SECONDS
        self._last_event_id = ""
        self._sent_away = False
        self._over = False
        self._news = asyncio.Event()

    @property
    def last(self) -> int:
        """The number of the last entry, 0 if there is none."""
        return self.entries[-1].seq if self.entries else 0

    @property
    def ended(self) -> bool:
        """Whether the terminal event was read."""
        return bool(self.entries) and isinstance(self.entries[-1].event, events.TERMINALS)

    @property
    def text(self) -> str:
        """All text so far."""
        return fold.reduce(self.entries).text

    async def follow(self, *, timeout_seconds: float = 60.0) -> None:
        """Read to the end of the response that brings the terminal event, or to the first fault; to be called once.

        Raises:
            TimeoutError: Neither came within `timeout_seconds`.
        """
        bound = asyncio.timeout(timeout_seconds)
        try:
            async with bound:
                await self._follow()
        except TimeoutError:
            if bound.expired():
                raise TimeoutError(f"the follower is at {self.last} after {timeout_seconds} s") from None
            raise
        finally:
            self._over = True
            self._news.set()

    async def reached(self, seq: int, *, timeout_seconds: float = 10.0) -> None:
        """Wait, while another task follows, until entry `seq` was read; at once if nothing more will be.

        Raises:
            TimeoutError: It did not come within `timeout_seconds`.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._until(lambda: self.last >= seq or self._over)
        except TimeoutError:
            raise TimeoutError(f"the follower is at {self.last}, not at {seq}, after {timeout_seconds} s") from None

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._news.clear()
            await self._news.wait()

    async def _follow(self) -> None:
        for url in self._urls:
            # A connection that breaks after the terminal event has brought everything.
            with contextlib.suppress(*self._dropped):
                await self._read(url)
            if self.ended or self.faults:
                return
            self.resumes += 1
            await asyncio.sleep(self._asked_seconds if self._retry_seconds is None else self._retry_seconds)
        self._fault("there is nowhere left to look")

    async def _read(self, url: str) -> None:
        headers = {"last-event-id": self._last_event_id} if self._last_event_id else {}
        async with self._client.stream("GET", url, headers=headers) as response:
            status, chunks = _opened(response)
            if status == 200:
                await self._read_events(chunks)
            elif status in _PASSING_STATUSES:
                self.refusals.append(status)
            else:
                self._fault(f"sent away with status {status}")

    async def _read_events(self, chunks: AsyncIterator[bytes]) -> None:
        decoder = Decoder(last_event_id=self._last_event_id)
        self._sent_away = False
        async for chunk in chunks:
            for event in decoder.feed(chunk):
                self._take(event, decoder.retry)
                if self.faults:
                    return
            if decoder.retry is not None:
                self._asked_seconds = decoder.retry / 1000
            self._news.set()
        if not self.ended and not self._sent_away:
            self._fault("a clean end before the terminal event")

    def _take(self, event: ServerSentEvent, retry_ms: int | None) -> None:
        if self._sent_away:
            self._fault(f"{event.event} after being asked to come back")
        elif event.event == "reset":
            self._fault("told to begin again")
        elif event.event == "reconnect":
            self._leave(event, retry_ms)
        else:
            self._take_entry(event)

    def _leave(self, event: ServerSentEvent, retry_ms: int | None) -> None:
        self._sent_away = True
        if retry_ms is None or event.id != self._last_event_id:
            self._fault(f"asked to come back with id {event.id!r} and delay {retry_ms}")
        else:
            self.reconnects.append(retry_ms)

    def _take_entry(self, event: ServerSentEvent) -> None:
        try:
            entry = read_entry(event)
        except (CursorInvalidError, EventInvalidError) as error:
            self._fault(f"no entry: {event}: {error}")
            return
        if self.ended:
            self._fault(f"number {entry.seq} after the terminal event")
        elif entry.since != self.last + 1:
            self._fault(f"number {entry.since}, which is {'a gap' if entry.since > self.last else 'not new'}")
        else:
            self.entries.append(entry)
            self._last_event_id = event.id

    def _fault(self, what: str) -> None:
        self.faults.append(f"at {self.last}: {what}")


def _opened(response: AsgiResponse | HttpxResponse) -> tuple[int, AsyncIterator[bytes]]:
    if isinstance(response, AsgiResponse):
        return response.status, response
    return response.status_code, response.aiter_bytes()
