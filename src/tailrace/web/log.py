"""Reading a log by the Durable Streams protocol: what is there, by long-poll, or as an event stream.

Such a reader comes back by itself: it may be sent away at any time, and goes on from the offset it was told. So a wait
and an event stream end early when the server drains, and every answer is whole.
"""

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal, Protocol, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace.errors import CursorInvalidError, SendTimeoutError, StoreError, TailraceError
from tailrace.events import Entry, encode_record
from tailrace.stores.contract import OPEN, Info
from tailrace.web.errors import RequestInvalidError, error_response
from tailrace.web.owners import seconds_left
from tailrace.web.service import RunService
from tailrace.web.writer import AsgiWriter
from tailrace.wire.dialects import native
from tailrace.wire.durable import Format, control_frame, etag, format_offset, next_cursor, parse_offset

__all__ = [
    "LogHead",
    "LogPage",
    "LogQuery",
    "LogResponse",
    "LogSource",
    "RunLog",
    "cache_control",
    "head_response",
    "log_headers",
]

_logger = logging.getLogger("tailrace")

#: Bounds on a wait. An event stream ends between three quarters of its bound and the whole: not all at once.
LONG_POLL_SECONDS = 20.0
EVENT_STREAM_SECONDS = 60.0
#: While the server drains, readers still come and shall not come in a rush.
_DRAINING_SECONDS = 1.0
_PAGE_BYTES = 1024**2
_READ_ENTRIES = 512
_LONGEST_JITTER_SECONDS = 3_600

_HEADERS = {
    "x-content-type-options": "nosniff",
    # Whoever may write chooses the type: shown as a page it would act in the name of this origin.
    "content-security-policy": "default-src 'none'; sandbox",
    # Pages of other origins may read by `fetch` where the application allows it, and not by embedding.
    "cross-origin-resource-policy": "same-origin",
    "access-control-expose-headers": (
        "etag, location, stream-next-offset, stream-cursor, stream-up-to-date, stream-closed, stream-ttl, "
        "stream-expires-at, stream-sse-data-encoding, producer-epoch, producer-seq, producer-expected-seq, "
        "producer-received-seq"
    ),
}
_NO_STORE = {"cache-control": "no-store"}


class LogHead(msgspec.Struct, frozen=True):
    """A log at one moment.

    Attributes:
        last: The number of its last record.
        closed: Whether nothing follows.
        extra: Headers that only this kind of log has.
    """

    last: int
    closed: bool
    extra: Mapping[str, str] = {}


class LogPage(msgspec.Struct, frozen=True):
    """What one read found.

    Attributes:
        messages: In order; possibly none.
        last: The number of the last record that the reader has seen with them.
        up_to_date: Whether that was all there was.
        closed: Whether nothing will follow.
    """

    messages: Sequence[bytes]
    last: int
    up_to_date: bool
    closed: bool


class LogSource(Protocol):
    """A log as one reader sees it; closed by whoever opened it.

    Attributes:
        format: How its messages stand together.
        tag: Names it in entity tags.
        cache_control: Of what is read from it.
        wait_seconds: A bound on waits for it, beside those of the protocol.
    """

    format: Format
    tag: str
    cache_control: str
    wait_seconds: float

    async def place(self, after: int | None) -> int:
        """Begin after a number, or at the end; where that is.

        Raises:
            CursorInvalidError: The log does not reach so far.
        """
        ...

    async def read(self, max_bytes: int) -> LogPage:
        """What follows, at least one message if there is one, and go on from there."""
        ...

    async def wait(self) -> None:
        """Wait until there may be more, or for `wake`."""
        ...

    def wake(self) -> None:
        """Let `wait` return."""
        ...

    def close(self) -> None:
        """Leave."""
        ...


class LogQuery(msgspec.Struct, frozen=True):
    """What a reader asks for.

    Attributes:
        after: The number of the last record it has seen; `None` for the end.
        live: How it wants to wait for more.
        cursor: What it was told to send along.
    """

    after: int | None
    live: Literal["long-poll", "sse"] | None = None
    cursor: str | None = None

    @classmethod
    def parse(cls, request: Request) -> "LogQuery":
        """Read the query of a request.

        Raises:
            CursorInvalidError: The offset is none.
            RequestInvalidError: There are several offsets, none where one is needed, or no such way to wait.
        """
        offsets = request.query_params.getlist("offset")
        live = request.query_params.get("live")
        if len(offsets) > 1 or (live and not offsets):
            raise RequestInvalidError("A read has one offset, and a live one must have it.")
        if live not in {None, "long-poll", "sse"}:
            raise RequestInvalidError("live is long-poll or sse.")
        return cls(
            parse_offset(offsets[0]) if offsets else 0,
            cast("Literal['long-poll', 'sse'] | None", live),
            request.query_params.get("cursor"),
        )


def cache_control(tail: RunService) -> str:
    """How long what was read may be kept.

    What belongs to somebody is kept nowhere. Else the URL is the key to it, under which a reader's own cache may keep
    it, asking each time whether it is still the same.
    """
    return "no-store" if tail.has_owners else "private, no-cache"


def log_headers(last: int, *, closed: bool = False) -> dict[str, str]:
    """The headers that say where a log ends."""
    return {
        **_HEADERS,
        **_NO_STORE,
        "stream-next-offset": format_offset(last),
        **({"stream-closed": "true"} if closed else {}),
    }


def head_response(form: Format, head: LogHead) -> Response:
    """The answer to HEAD."""
    headers = {**log_headers(head.last, closed=head.closed), **head.extra, "content-type": form.content_type}
    return Response(None, 200, headers)


class LogResponse(Response):
    """One read of a log, which is closed afterwards."""

    def __init__(self, tail: RunService, request: Request, source: LogSource, query: LogQuery) -> None:
        """Describe it.

        Args:
            tail: Counts the time, and tells when the server drains.
            request: Whose read it is.
            source: The log; the caller has checked the right to it.
            query: What is asked for.
        """
        self.status_code = 200
        self.background = None
        self.body = b""
        self.raw_headers = []
        self._tail = tail
        self._request = request
        self._source = source
        self._query = query

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read and answer."""
        try:
            try:
                found = await self._begin(receive)
            except TailraceError as error:
                found = error_response(error, native.DIALECT)
            if isinstance(found, Response):
                await found(scope, receive, send)
            else:
                await self._stream(scope, receive, send, found)
        finally:
            self._source.close()

    async def _begin(self, receive: Receive) -> Response | LogPage:
        """The whole answer, or the first page of an event stream."""
        after = await self._source.place(self._query.after)
        page = await self._source.read(_PAGE_BYTES)
        return page if self._query.live == "sse" else await self._answer(receive, after, page)

    def _cursor(self) -> str:
        jitter_seconds = random.randint(1, _LONGEST_JITTER_SECONDS)  # noqa: S311  keeps caches apart
        return next_cursor(self._tail.clock.time_ms() / 1_000, self._query.cursor, jitter_seconds=jitter_seconds)

    def _bound(self, seconds: float) -> float:
        """So many seconds, or as long as the reader's identity holds."""
        left = seconds_left(self._request.scope, self._tail.clock)
        return seconds if left is None else min(left, seconds)

    async def _answer(self, receive: Receive, after: int, page: LogPage) -> Response:
        """The messages, waited for if there are none, or that there are none."""
        source, live = self._source, self._query.live is not None
        if live and not page.messages and not page.closed:
            async with _waiting(self._tail, source, receive, self._bound(LONG_POLL_SECONDS)) as wait:
                while not (wait.over or page.messages or page.closed):
                    await source.wait()
                    page = await source.read(_PAGE_BYTES)
        headers = log_headers(page.last, closed=page.closed)
        if page.up_to_date:
            headers["stream-up-to-date"] = "true"
        if live and not page.closed:
            headers["stream-cursor"] = self._cursor()
        if live and not page.messages:
            return Response(None, 204, headers)
        if self._query.after is not None:
            headers["cache-control"] = source.cache_control
            headers["etag"] = etag(source.tag, after, page.last, closed=page.closed)
            if _is_known(self._request, headers["etag"]):
                return Response(None, 304, headers)
        headers["content-type"] = source.format.content_type
        return Response(source.format.body(page.messages), 200, headers)

    async def _stream(self, scope: Scope, receive: Receive, send: Send, page: LogPage) -> None:
        """Events of data, each with one of control after it; at first one of control in any case."""
        tail, source = self._tail, self._source
        headers = {
            **_HEADERS,
            "content-type": "text/event-stream",
            "cache-control": "no-store, no-cache, no-transform",
            # nginx buffers a stream whole without it.
            "x-accel-buffering": "no",
            **({"stream-sse-data-encoding": "base64"} if source.format.is_binary else {}),
        }
        writer = AsgiWriter(scope, send, timeout_seconds=tail.send_timeout_seconds)
        seconds = self._bound(EVENT_STREAM_SECONDS * random.uniform(0.75, 1))  # noqa: S311  spreads load
        tail.wheel.add(writer)
        try:
            await writer.start(200, [(name.encode(), value.encode("latin-1")) for name, value in headers.items()])
            async with _waiting(tail, source, receive, seconds) as wait:
                await writer.write(self._frames(page))
                # A log that is gone, or a store that is: whoever comes back is told.
                with contextlib.suppress(StoreError):
                    while not (wait.over or page.closed):
                        was_up_to_date = page.up_to_date
                        if was_up_to_date:
                            await source.wait()
                        page = await source.read(_PAGE_BYTES)
                        if page.messages or page.closed or page.up_to_date > was_up_to_date:
                            await writer.write(self._frames(page))
            if not wait.left:
                await writer.finish()
        except SendTimeoutError as error:
            _logger.info("a reader was dropped: %s", error)
            await writer.abort()
        finally:
            tail.wheel.discard(writer)

    def _frames(self, page: LogPage) -> bytes:
        control = control_frame(page.last, cursor=self._cursor(), up_to_date=page.up_to_date, closed=page.closed)
        return (self._source.format.data_frame(page.messages) if page.messages else b"") + control


class RunLog:
    """The log of a run: JSON, one message for each event, as the native dialect writes it, and its number as `seq`."""

    format = Format("application/json")
    wait_seconds = math.inf

    def __init__(self, tail: RunService, info: Info) -> None:
        """Join the run as a follower; the caller has checked the right to it."""
        self.tag = info.run_id
        self.cache_control = cache_control(tail)
        self._last = info.last
        self._follower = tail.follower(info.run_id)
        self._unsent: Sequence[Entry] = ()

    @classmethod
    def head(cls, info: Info) -> Response:
        """Where the log ends, without joining the run."""
        return head_response(cls.format, LogHead(info.last, info.state != OPEN))

    async def place(self, after: int | None) -> int:
        """Begin after a number, or at the end.

        Raises:
            CursorInvalidError: The run has not come so far, not even after a moment in which its store may heal.
        """
        follower = self._follower
        after = self._last if after is None else after
        follower.cursor = after
        await follower.place()
        if follower.was_reset:
            raise CursorInvalidError(format_offset(after))
        return after

    async def read(self, max_bytes: int) -> LogPage:
        """See `LogSource.read`."""
        follower = self._follower
        last = self._unsent[0].seq - 1 if self._unsent else follower.cursor
        messages: list[bytes] = []
        size = 0
        while size < max_bytes:
            entries = self._unsent or await follower.read(_READ_ENTRIES)
            if not entries:
                break
            for taken, entry in enumerate(entries, 1):
                messages.append(_message(entry))
                size += len(messages[-1])
                last = max(last, entry.seq)
                self._unsent = entries[taken:]
                if size >= max_bytes:
                    break
        done = follower.ended and not self._unsent
        return LogPage(messages, last, up_to_date=done or size < max_bytes, closed=done)

    async def wait(self) -> None:
        """See `LogSource.wait`."""
        await self._follower.wait()

    def wake(self) -> None:
        """See `LogSource.wake`."""
        self._follower.wake()

    def close(self) -> None:
        """Leave the run."""
        self._follower.close()


def _message(entry: Entry) -> bytes:
    return b'%b,"seq":%d}' % (encode_record(entry.at_ms, entry.event)[:-1], entry.seq)


def _is_known(request: Request, tag: str) -> bool:
    """Whether the client has what the tag stands for."""
    known = request.headers.get("if-none-match", "")
    return tag in (text.strip().removeprefix("W/") for text in known.split(","))


class _Wait:
    """One live read, from its beginning to the first reason not to wait any longer.

    Attributes:
        over: There is such a reason.
        left: It is that the reader is gone.
    """

    def __init__(self, source: LogSource) -> None:
        self.over = False
        self.left = False
        self._source = source

    def end(self) -> None:
        self.over = True
        self._source.wake()

    async def watch(self, receive: Receive) -> None:
        """Servers tell of a disconnect here and, some of them, nowhere else."""
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self.left = True
            self.end()


@asynccontextmanager
async def _waiting(tail: RunService, source: LogSource, receive: Receive, seconds: float) -> AsyncGenerator[_Wait]:
    """A wait that is over after so many seconds, when the server drains, or when the reader has left."""
    loop = asyncio.get_running_loop()
    seconds = min(seconds, source.wait_seconds, _DRAINING_SECONDS if tail.draining else seconds)
    wait = _Wait(source)
    timer = loop.call_later(seconds, wait.end)
    watcher = loop.create_task(wait.watch(receive), name="tailrace-receive")
    try:
        with tail.at_drain(wait.end):
            yield wait
    finally:
        timer.cancel()
        # What ends the watching here is not the reader's leaving.
        left = wait.left
        watcher.cancel()
        await asyncio.wait({watcher})
        wait.left = left
        if not watcher.cancelled() and watcher.exception() is not None:
            _logger.debug("receive failed, which counts as a disconnect", exc_info=watcher.exception())
