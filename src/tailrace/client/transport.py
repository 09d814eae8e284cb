"""Exact resume for clients that know nothing of it: a transport for httpx2, under the SDKs of OpenAI and Anthropic.

The client sees one answer, spliced from as many as it takes. Only whole frames and comments are passed on, byte for
byte; what breaks off is asked for again at the `Location` of the first answer, from the last frame on that was passed
on. This is done to answers that are successful, event streams, and have a `Location`. All others pass untouched.

Frames can be seen only where nothing is compressed. A proxy that compresses a stream is answering the client's
`accept-encoding`, which says something about all other answers too and stays; so such a stream is unpacked here, and
its header goes. The requests made here ask for `identity`.
"""

import contextlib
import inspect
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Generator, Iterator, Mapping
from typing import Final, Literal, TypeAlias, Unpack
from urllib.parse import parse_qs, urlsplit, urlunsplit

import anyio
import httpx2

from tailrace.client.answers import origin_of
from tailrace.client.commands import Attempt, Fail, Policy, Read, ReadBody, Send, Stop, Wait
from tailrace.client.endings import RAW, ending_of
from tailrace.client.event_stream import PolicyOptions
from tailrace.client.http_clients import shut, socket_of
from tailrace.client.machine import CLIENT, CLIENT_HEADER, Machine
from tailrace.client.reading import unix_seconds
from tailrace.client.template import Headers, RequestTemplate
from tailrace.errors import DialectNotFoundError, TailraceError
from tailrace.wire.sse import FrameSplitter

__all__ = ["OnClose", "ResumingTransport"]

#: What becomes of the run of an answer that is closed before its end.
OnClose: TypeAlias = Literal["cancel", "detach"]

_Given: TypeAlias = Mapping[str, str]

_STREAM_TYPE: Final = "text/event-stream"
#: A byte order mark, or what is left of a line end, in front of a frame.
_BEFORE_ITEM: Final = b"\xef\xbb\xbf\r\n"
_LOG: Final = "/events"
_CANCEL: Final = "/cancel"
#: A cancel is a courtesy, which nobody waits for any longer.
_CANCEL_SECONDS: Final = 5.0

#: About the body of the first request, or that request alone.
_NOT_REPEATED = frozenset(
    {"accept", "accept-encoding", "content-encoding", "content-length", "content-type", "expect", "idempotency-key"}
    | {"last-event-id", "transfer-encoding"}
)
_PLAIN = {"accept-encoding": "identity"}
#: About bytes that are counted and packed otherwise from here on.
_NOT_PASSED_ON = frozenset({b"content-encoding", b"content-length"})

#: A connection was lost, or never made; of anything else another request would be no better.
_LOST: Final = (
    httpx2.DecodingError,
    httpx2.NetworkError,
    httpx2.ProxyError,
    httpx2.RemoteProtocolError,
    httpx2.TimeoutException,
)


class ResumingTransport(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Give it to a client: `httpx2.Client(transport=ResumingTransport())`, or to an `AsyncClient`.

    A stream that can be resumed no more raises `httpx2.RemoteProtocolError`, with our error as its cause; it never ends
    as if it were whole. While a stream is read, `idle_seconds` stand in for the client's read timeout:
    the ten minutes of an SDK are too long for a connection that is gone, the five seconds of httpx2 shorter than a
    heartbeat's pause. A request that was not answered is the client's to repeat.
    """

    def __init__(
        self,
        transport: httpx2.BaseTransport | httpx2.AsyncBaseTransport | None = None,
        *,
        headers: Headers | None = None,
        on_close: OnClose = "cancel",
        **policy: Unpack[PolicyOptions],
    ) -> None:
        """Wrap a transport.

        Args:
            transport: What makes the requests, and is closed with this one; by default `HTTPTransport()` or
                `AsyncHTTPTransport()`, whichever is needed.
            headers: For the requests that are made here, instead of those of the first request that have the same
                name. A function is called for each of them, and under an async client may be async. As the first
                request's, they are sent to its origin and to no other.
            on_close: Whether closing an answer before its end cancels its run. An answer to a GET never does: whoever
                asked by GET started nothing.
            **policy: How patient to be: the fields of `Policy`.

        Raises:
            ValueError: `on_close` is neither of the two, or a number of the policy is not above 0.
        """
        if on_close not in {"cancel", "detach"}:
            raise ValueError(f"on_close is 'cancel' or 'detach', not {on_close!r}")
        self._inner = transport
        self._inner_lock = threading.Lock()
        self._headers = headers
        self._on_close = on_close
        self._policy = Policy(**policy)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Make a request of the client's, and splice its answer.

        Raises:
            TypeError: The transport inside is for async clients.
        """
        with self._inner_lock:
            self._inner = self._inner or httpx2.HTTPTransport()
        if not isinstance(self._inner, httpx2.BaseTransport):
            raise TypeError(f"{type(self._inner).__name__} is no transport for a sync client")
        response = self._inner.handle_request(_prepared(request))
        splice = self._splice(request, response)
        return splice.spliced(_SyncStream(self._inner, splice, response)) if splice else response

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Make a request of the client's, and splice its answer.

        Raises:
            TypeError: The transport inside is for sync clients.
        """
        with self._inner_lock:
            self._inner = self._inner or httpx2.AsyncHTTPTransport()
        if not isinstance(self._inner, httpx2.AsyncBaseTransport):
            raise TypeError(f"{type(self._inner).__name__} is no transport for an async client")
        response = await self._inner.handle_async_request(_prepared(request))
        splice = self._splice(request, response)
        return splice.spliced(_AsyncStream(self._inner, splice, response)) if splice else response

    def close(self) -> None:
        """Close the transport inside."""
        if isinstance(self._inner, httpx2.BaseTransport):
            self._inner.close()

    async def aclose(self) -> None:
        """Close the transport inside."""
        if isinstance(self._inner, httpx2.AsyncBaseTransport):
            await self._inner.aclose()

    def _splice(self, request: httpx2.Request, response: httpx2.Response) -> "_Splice | None":
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not response.is_success or media_type != _STREAM_TYPE or "location" not in response.headers:
            return None
        cancels = self._on_close == "cancel" and request.method != "GET"
        return _Splice(request, response, self._headers, self._policy, cancels=cancels)


class _Splice:
    """One stream: what to ask next, and what to pass on. Whoever holds it makes the requests, reads and waits."""

    def __init__(
        self,
        request: httpx2.Request,
        response: httpx2.Response,
        headers: Headers | None,
        policy: Policy,
        *,
        cancels: bool,
    ) -> None:
        self.ended = False
        self._request = request
        self._response = response
        repeated = {name: value for name, value in request.headers.items() if name not in _NOT_REPEATED}
        self._template = RequestTemplate("GET", headers=headers, extra={**repeated, **_PLAIN})
        self._cancels = cancels
        self._max_frame_bytes = policy.max_event_bytes
        self.machine = Machine(
            str(request.url),
            random=random.random,  # noqa: S311  spreads clients
            method=request.method,
            dialect=_dialect_of(response.headers["location"]),
            last_event_id=request.headers.get("last-event-id", ""),
            policy=policy,
            asks_headers=self._template.asks_headers,
        )
        self.answered(request, response)

    def spliced(self, stream: httpx2.SyncByteStream | httpx2.AsyncByteStream) -> httpx2.Response:
        """The answer that the client sees: the first one, with a longer breath."""
        first = self._response
        headers = [(name, value) for name, value in first.headers.raw if name.lower() not in _NOT_PASSED_ON]
        return httpx2.Response(first.status_code, headers=headers, stream=stream, extensions=first.extensions)

    @contextlib.contextmanager
    def telling(self) -> Generator[None]:
        """Tell in the client's words what fails. It cancels nothing, as nobody has left.

        Raises:
            RemoteProtocolError: The stream broke, for one of our reasons.
        """
        try:
            yield
        except Exception as error:
            if not isinstance(error, httpx2.StreamClosed):
                self.machine.close()
            if isinstance(error, TailraceError):
                raise httpx2.RemoteProtocolError(str(error)) from error
            raise

    # Requests

    def asked(self, send: Send) -> _Given | Awaitable[_Given] | None:
        """What the application's function for headers returns; `None` if there is nothing to ask it."""
        return self._template.asked(send) if send.with_credentials else None

    def request(self, send: Send, given: _Given | None) -> httpx2.Request:
        """A request of our own; `given` is what `asked` came to."""
        timeout = dict(self._request.extensions["timeout"])
        return httpx2.Request(**self._template.request(send, given), extensions={"timeout": timeout})

    def leave(self) -> Send | None:
        """Whoever reads has had enough; what is returned cancels the run, if it is to be cancelled."""
        cancels = self._cancels and not self.machine.is_over
        self.machine.close()
        log = urlsplit(self.machine.location or "")
        if not (cancels and log.path.endswith(_LOG)):
            return None
        url = urlunsplit(log._replace(path=log.path.removesuffix(_LOG) + _CANCEL, query=""))
        is_home = origin_of(url) == origin_of(str(self._request.url))
        self._request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), _CANCEL_SECONDS)
        attempt = Attempt(self.machine.connection.attempt + 1)
        return Send("POST", url, {}, with_body=False, with_credentials=is_home, is_redirected=False, attempt=attempt)

    # Answers

    def answered(self, request: httpx2.Request, response: httpx2.Response) -> None:
        """A request was answered."""
        self.machine.answered(response.status_code, response.headers, str(request.url), unix_seconds())
        self.ended = isinstance(self.machine.command, Stop)
        if isinstance(self.machine.command, Read):
            self._splitter = FrameSplitter(max_frame_bytes=self._max_frame_bytes)
            if (patience := self.machine.patience(unix_seconds())) is not None:
                # A connection looks at it as its body begins to be read. This is the dict that it looks at.
                request.extensions["timeout"]["read"] = patience

    def reading(self) -> None:
        """Somebody waits for bytes from now on."""
        self.machine.patience(unix_seconds())

    def received(self, chunk: bytes | None) -> bytes:
        """Bytes have come, or the end of the answer; what is returned is to be passed on.

        Raises:
            FrameTooLargeError: A frame is beyond the bound.
        """
        whole = bytearray()
        if chunk is None:
            self.lost()
            return b""
        for item in self._splitter.feed(chunk):
            is_event = b"data" in item and not item.lstrip(_BEFORE_ITEM).startswith(b":")
            # After the last frame there is nothing left to judge: all that is to come is the comment.
            is_new = self.machine.is_over or self.machine.received(item, unix_seconds())
            if is_new or not is_event:
                whole += item
            self.ended = self.machine.is_over and not is_event
            if self.ended or not isinstance(self.machine.command, Read | Stop):
                break
        return bytes(whole)

    def lost(self, error: Exception | None = None) -> None:
        """The answer is over, or there was none; that is no end unless the last frame was there."""
        if self.machine.is_over:
            self.ended = True
        elif error is None:
            self.machine.finished(unix_seconds())
        else:
            self.machine.broke(str(error) or type(error).__name__, unix_seconds())


class _SyncStream(httpx2.SyncByteStream):
    """What a sync client reads. Another thread may close it."""

    def __init__(self, inner: httpx2.BaseTransport, splice: _Splice, answer: httpx2.Response) -> None:
        self._inner = inner
        self._splice = splice
        self._answer = answer
        self._closed = threading.Event()
        self._is_reading = False

    def __iter__(self) -> Iterator[bytes]:
        splice = self._splice
        chunks = self._answer.iter_bytes()
        with splice.telling():
            while not splice.ended:
                match splice.machine.command:
                    case Read() | Stop():
                        if whole := self._read(chunks):
                            yield whole
                    case Send() as send:
                        self._send(splice.request(send, _at_once(splice.asked(send))))
                        chunks = self._answer.iter_bytes()
                    case ReadBody(limit_bytes):
                        self._read_body(chunks, limit_bytes)
                    case Wait(seconds):
                        self._answer.close()
                        self._closed.wait(seconds)
                        splice.machine.woke()
                    case Fail(error):
                        raise error
                if self._closed.is_set():
                    self._answer.close()
                    raise httpx2.StreamClosed

    def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        # A thread that reads is not woken by closing its socket, and may go on with the next one of that number.
        if not (self._is_reading and self._shut()):
            self._answer.close()
        if send := self._splice.leave():
            with contextlib.suppress(httpx2.TransportError):
                request = self._splice.request(send, _at_once(self._splice.asked(send)))
                self._inner.handle_request(request).close()

    def _read(self, chunks: Iterator[bytes]) -> bytes:
        self._splice.reading()
        self._is_reading = True
        try:
            # Whoever closes looks whether somebody reads, after saying so: one of the two sees the other.
            if self._closed.is_set():
                return b""
            chunk = next(chunks, None)
        except _LOST as error:
            self._splice.lost(error)
            return b""
        finally:
            self._is_reading = False
        return self._splice.received(chunk)

    def _shut(self) -> bool:
        """Wake the thread that reads, which closes what it has read from."""
        connection = socket_of(self._answer.extensions.get("network_stream"))
        # Streams of HTTP/2 share theirs.
        if connection is None or self._answer.http_version == "HTTP/2":
            return False
        shut(connection)
        return True

    def _send(self, request: httpx2.Request) -> None:
        self._answer.close()
        try:
            self._answer = self._inner.handle_request(request)
        except _LOST as error:
            self._splice.lost(error)
        else:
            self._splice.answered(request, self._answer)

    def _read_body(self, chunks: Iterator[bytes], limit_bytes: int) -> None:
        body = b""
        try:
            while len(body) < limit_bytes and (chunk := next(chunks, None)) is not None:
                body += chunk
        except _LOST as error:
            self._splice.lost(error)
        else:
            self._splice.machine.read_body(body[:limit_bytes])


class _AsyncStream(httpx2.AsyncByteStream):
    """What an async client reads. Another task may close it."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, splice: _Splice, answer: httpx2.Response) -> None:
        self._inner = inner
        self._splice = splice
        self._answer = answer
        self._closed = anyio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        splice = self._splice
        chunks = self._answer.aiter_bytes()
        with splice.telling():
            while not splice.ended:
                match splice.machine.command:
                    case Read() | Stop():
                        if whole := await self._read(chunks):
                            yield whole
                    case Send() as send:
                        await chunks.aclose()
                        await self._send(splice.request(send, await _in_time(splice.asked(send))))
                        chunks = self._answer.aiter_bytes()
                    case ReadBody(limit_bytes):
                        await self._read_body(chunks, limit_bytes)
                    case Wait(seconds):
                        await chunks.aclose()
                        await self._answer.aclose()
                        with anyio.move_on_after(seconds):
                            await self._closed.wait()
                        splice.machine.woke()
                    case Fail(error):
                        raise error
                if self._closed.is_set():
                    await self._answer.aclose()
                    raise httpx2.StreamClosed

    async def aclose(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        # A task that is cancelled closes what it reads, and the run is to hear of it all the same.
        with anyio.move_on_after(_CANCEL_SECONDS, shield=True):
            await self._answer.aclose()
            if send := self._splice.leave():
                with contextlib.suppress(httpx2.TransportError):
                    request = self._splice.request(send, await _in_time(self._splice.asked(send)))
                    await (await self._inner.handle_async_request(request)).aclose()

    async def _read(self, chunks: AsyncIterator[bytes]) -> bytes:
        self._splice.reading()
        try:
            chunk = await anext(chunks, None)
        except _LOST as error:
            self._splice.lost(error)
            return b""
        return self._splice.received(chunk)

    async def _send(self, request: httpx2.Request) -> None:
        await self._answer.aclose()
        try:
            self._answer = await self._inner.handle_async_request(request)
        except _LOST as error:
            self._splice.lost(error)
        else:
            self._splice.answered(request, self._answer)

    async def _read_body(self, chunks: AsyncIterator[bytes], limit_bytes: int) -> None:
        body = b""
        try:
            while len(body) < limit_bytes and (chunk := await anext(chunks, None)) is not None:
                body += chunk
        except _LOST as error:
            self._splice.lost(error)
        else:
            self._splice.machine.read_body(body[:limit_bytes])


def _prepared(request: httpx2.Request) -> httpx2.Request:
    """The client's request, which says that whoever asks comes back, and has timeouts of its own."""
    request.headers[CLIENT_HEADER] = CLIENT
    request.extensions = {**request.extensions, "timeout": dict(request.extensions.get("timeout", {}))}
    return request


def _dialect_of(location: str) -> str:
    """What the stream at this address is written in: as our routes name it."""
    (dialect,) = parse_qs(urlsplit(location).query).get("dialect", ("native",))[:1]
    try:
        ending_of(dialect)
    except DialectNotFoundError:
        # A newer server may know it; that it tells the end by a comment is true in every dialect.
        return RAW
    return dialect


def _at_once(given: _Given | Awaitable[_Given] | None) -> _Given | None:
    if inspect.isawaitable(given):
        if inspect.iscoroutine(given):
            given.close()
        raise TypeError("the function for headers is async, and the client is not")
    return given


async def _in_time(given: _Given | Awaitable[_Given] | None) -> _Given | None:
    return await given if inspect.isawaitable(given) else given
