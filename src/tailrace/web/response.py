"""The responses a handler returns.

`RunResponse` starts a run or finds it, `ResumeResponse` only finds, and `EventStream` has no log.
"""

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace.errors import CursorInvalidError, RunNotFoundError, TailraceError
from tailrace.runtime.keys import check_run_id, fingerprint_of, new_run_id
from tailrace.runtime.source import SourceLike, check_source, discard
from tailrace.runtime.supervisor import Order
from tailrace.web.errors import EarlyFailureError, RefusedError, error_response
from tailrace.web.feed import SourceFeed
from tailrace.web.headers import RawHeaders, read_cursor, stream_headers, with_chosen
from tailrace.web.negotiate import JsonWhen, wants_json
from tailrace.web.reader import RunReader
from tailrace.web.service import RunService
from tailrace.web.stream import Stream
from tailrace.web.wheel import Wheel
from tailrace.web.writer import AsgiWriter
from tailrace.wire.cursor import START, Cursor
from tailrace.wire.dialects.registry import get_dialect

__all__ = ["EventStream", "ResumeResponse", "RunResponse", "StartOptions"]

_logger = logging.getLogger("tailrace")
_EARLY_SECONDS = 0.5
#: RFC 7240, section 4.1: the client does not want to wait for what it asked for.
_PREFERS_ASYNC = re.compile(r"(?:^|[,;\s])respond-async\b", re.IGNORECASE)


class StartOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `Tailrace.stream` was given beside source and dialect; explained there."""

    key: str | None = None
    fingerprint: Any = None
    run_id: str | None = None
    owner: str | None = None
    thread: str | None = None
    json: JsonWhen = "accept"
    on_disconnect: Literal["detach", "cancel"] = "detach"
    grace_seconds: float = 0
    timeout: float | None = None
    hold: bool = False
    model: str | None = None
    parent_run_id: str | None = None
    message_id: str | None = None
    meta: dict[str, Any] | None = None
    dialect_options: Mapping[str, object] = {}


class _LazyResponse(Response):
    """A response whose status and body are decided when it is called; headers may be set on it until then."""

    raw_headers: RawHeaders

    def __init__(self, background: BackgroundTask | None = None) -> None:
        self.status_code = 200
        self.background = background
        self.body = b""
        self.raw_headers = []


class _ReaderResponse(_LazyResponse, ABC):
    """Reads a run to the client, in the way that the request asks for."""

    def __init__(self, tail: RunService, *, dialect: str, options: StartOptions) -> None:
        super().__init__()
        self._dialect = get_dialect(dialect)
        self._tail = tail
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request; see `Tailrace.stream` for what it can be."""
        request = Request(scope, receive)
        try:
            if request.method == "HEAD":
                await self._check(request)
                await _send_head(send, stream_headers(self._dialect.headers, self.raw_headers))
                return
            reader = await self._reader(request)
        except TailraceError as error:
            await error_response(error, self._dialect)(scope, receive, send)
            return
        try:
            await self._answer(reader, request, receive, send)
        finally:
            reader.close()
        if self.background is not None:
            await self.background()

    async def _answer(self, reader: RunReader, request: Request, receive: Receive, send: Send) -> None:
        if _PREFERS_ASYNC.search(request.headers.get("prefer", "")):
            response = reader.postponed({"preference-applied": "respond-async"})
            response.raw_headers = with_chosen(response.raw_headers, self.raw_headers)
            await response(request.scope, receive, send)
        elif wants_json(request.headers.get("accept"), self._options.json):
            await reader.document(receive, send, self.raw_headers)
        elif not await reader.stream(receive, send, self.raw_headers) and not self._options.hold:
            reader.warn_of_dependencies()
        if self._options.hold:
            await reader.ended()

    async def _check(self, request: Request) -> None:
        """Refuse who could not read, before a HEAD is answered."""

    @abstractmethod
    async def _reader(self, request: Request) -> RunReader:
        """Who asks, for which run, from where: then a reader that has its place."""

    async def _owner(self, request: Request) -> str | None:
        owner = self._options.owner
        return await self._tail.owner(request) if owner is None else owner

    async def _opened(self, request: Request, run_id: str, cursor: Cursor, *, early: bool) -> RunReader:
        # The URL of a GET that starts runs, or finds the caller's, names none of them, so the ids have to.
        ids: Literal["run", "seq"] = "run" if request.method == "GET" else "seq"
        reader = RunReader(
            self._tail,
            request,
            run_id,
            cursor,
            dialect=self._dialect,
            options=self._options.dialect_options,
            ids=ids,
        )
        try:
            await reader.open(early=early)
        except BaseException:
            reader.close()
            raise
        return reader


class ResumeResponse(_ReaderResponse):
    """Reads a run that the application names, unless the client has its place in another; starts none."""

    def __init__(self, tail: RunService, run_id: str | None, *, dialect: str, options: StartOptions) -> None:
        """Made by `Tailrace.resume`.

        Raises:
            DialectNotFoundError: There is no such dialect.
        """
        super().__init__(tail, dialect=dialect, options=options)
        self._run_id = run_id

    async def _check(self, request: Request) -> None:
        await self._named(request)

    async def _reader(self, request: Request) -> RunReader:
        run_id, cursor = await self._named(request)
        return await self._opened(request, run_id, cursor, early=False)

    async def _named(self, request: Request) -> tuple[str, Cursor]:
        """The run that is meant, and the client's place in it.

        Raises:
            CursorInvalidError: The client says something that is no place.
            RunNotFoundError: There is none for the caller.
            StoreUnavailableError: The store gave no answer.
        """
        owner = await self._owner(request)
        cursor = read_cursor(request) or START
        run_id = cursor.run_id or self._run_id
        if run_id is None:
            raise RunNotFoundError("")
        await self._tail.authorize(run_id, owner, after=cursor.seq)
        return run_id, cursor


class RunResponse(_ReaderResponse):
    """Starts a run for a request, or finds the one that the request means, and reads it to the client.

    Nothing is started before the response is called. If the client leaves, the run goes on.
    """

    def __init__(self, tail: RunService, source: SourceLike, *, dialect: str, options: StartOptions) -> None:
        """Made by `Tailrace.stream`.

        Raises:
            SourceInvalidError: The source can never be one.
            DialectNotFoundError: There is no such dialect.
        """
        super().__init__(tail, dialect=dialect, options=options)
        check_source(source)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request; see `Tailrace.stream` for what it can be."""
        if scope["method"] == "HEAD":
            await discard(self._source)
        await super().__call__(scope, receive, send)

    async def _reader(self, request: Request) -> RunReader:
        unused = True
        try:
            # Before anything is started: that the dialect can be spoken as it is asked for.
            self._dialect.encoder(run_id="", **dict[str, Any](self._options.dialect_options))
            owner = await self._owner(request)
            cursor = read_cursor(request)
            key = self._options.key or request.headers.get("idempotency-key")
            if cursor is None:
                run_id = await self._start(request, owner, key)
                unused = False
            else:
                run_id = await self._named(cursor, owner, key)
            return await self._opened(request, run_id, cursor or START, early=cursor is None)
        finally:
            if unused:
                await discard(self._source)

    async def _start(self, request: Request, owner: str | None, key: str | None) -> str:
        options = self._options
        fingerprint = options.fingerprint
        if fingerprint is None and key is not None:
            fingerprint = [request.method, request.url.path, request.url.query]
        order = Order(
            source=self._source,
            owner=owner,
            thread=options.thread,
            fingerprint=fingerprint_of(fingerprint),
            cancel_on_disconnect=options.on_disconnect == "cancel",
            grace_seconds=options.grace_seconds,
            timeout_seconds=options.timeout,
            early=True,
            model=options.model,
            parent_run_id=options.parent_run_id,
            message_id=options.message_id,
            meta=options.meta,
        )
        return (await self._tail.order(await self._run_id(owner, key) or new_run_id(), order)).id

    async def _named(self, cursor: Cursor, owner: str | None, key: str | None) -> str:
        """The run that a returning client means; a client with a place never starts one.

        Raises:
            CursorInvalidError: Neither the place nor the request names a run.
        """
        run_id = cursor.run_id or await self._run_id(owner, key)
        if run_id is None:
            raise CursorInvalidError(str(cursor))
        await self._tail.authorize(run_id, owner, after=cursor.seq)
        return run_id

    async def _run_id(self, owner: str | None, key: str | None) -> str | None:
        if self._options.run_id is not None:
            return check_run_id(self._options.run_id)
        return None if key is None else await self._tail.derive_run_id(key, owner=owner)


class EventStream(_LazyResponse):
    """Streams a source to the one client that asked, without a log: if the client leaves, the source is stopped.

    What a source may be and yield is the same as for a run. Frames carry no ids, as there is nothing to come back to.
    """

    def __init__(
        self,
        source: SourceLike,
        *,
        dialect: str = "native",
        heartbeat_seconds: float = 15,
        send_timeout_seconds: float = 30,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        """Describe the response; nothing starts before it is called.

        Args:
            source: See `tailrace.runtime.source`.
            dialect: How events are written.
            heartbeat_seconds: The longest silence on the wire.
            send_timeout_seconds: How long the client may take nothing.
            headers: Added to those of every stream.
            background: Run after the stream has ended.

        Raises:
            SourceInvalidError: The source can never be one.
            DialectNotFoundError: There is no such dialect.
        """
        super().__init__(background)
        check_source(source)
        self._dialect = get_dialect(dialect)
        self._source = source
        self._heartbeat_seconds = heartbeat_seconds
        self._send_timeout_seconds = send_timeout_seconds
        self.raw_headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the source or the client ends."""
        if scope["method"] == "HEAD":
            await discard(self._source)
            await _send_head(send, stream_headers(self._dialect.headers, self.raw_headers))
            return
        feed = SourceFeed(self._source)
        try:
            error = await feed.first_event(_EARLY_SECONDS)
            if isinstance(error, HTTPException):
                raise error
            if error is not None and feed.failure is not None:
                told = error if isinstance(error, RefusedError) else EarlyFailureError(feed.failure)
                await error_response(told, self._dialect)(scope, receive, send)
                return
            await self._stream(feed, scope, receive, send)
        finally:
            await feed.close()
        if self.background is not None:
            await self.background()

    async def _stream(self, feed: SourceFeed, scope: Scope, receive: Receive, send: Send) -> None:
        writer = AsgiWriter(scope, send, timeout_seconds=self._send_timeout_seconds)
        encoder = self._dialect.encoder(run_id=feed.run_id, ids="none")
        stream = Stream(
            feed,
            encoder,
            writer,
            fresh_encoder=lambda: encoder,
            wheel=Wheel(min(self._heartbeat_seconds, self._send_timeout_seconds)),
            heartbeat_seconds=self._heartbeat_seconds,
            resumes=False,
        )
        await writer.start(200, stream_headers(self._dialect.headers, self.raw_headers))
        await stream.run(receive)


async def _send_head(send: Send, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
