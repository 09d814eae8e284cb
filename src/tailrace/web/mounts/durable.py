"""The Durable Streams protocol: logs that clients create, append to, close, read and delete by URL.

Runs are such logs as well, to be read at `/{run_id}/log`; here anybody may write who may ask. See
https://github.com/durable-streams/durable-streams, PROTOCOL.md, 1.0; forks and subscriptions are not offered.
"""

import math
import re
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from tailrace.errors import (
    CursorInvalidError,
    EventInvalidError,
    RunNotFoundError,
    StoreSetupError,
    TailraceError,
)
from tailrace.runtime.ledger import Append, Mark, Opening, Outcome, StreamLimits, Verdict
from tailrace.runtime.stores import open_store
from tailrace.runtime.streams import StreamReader, Streams, StreamView, new_nonce
from tailrace.stores.contract import RunStore
from tailrace.web.body import read_bytes
from tailrace.web.errors import RequestInvalidError, error_response
from tailrace.web.install import RouteRow
from tailrace.web.log import LogHead, LogPage, LogQuery, LogResponse, cache_control, head_response, log_headers
from tailrace.web.mounts.contract import Mount
from tailrace.web.service import RunService
from tailrace.wire.dialects import native
from tailrace.wire.durable import Format, format_offset

__all__ = ["DurableStreams"]

_PREFIX = "tr-streams"
#: A stream that was deleted or has expired is gone from the store at once; this is for what was interrupted at it.
_RETENTION_SECONDS = 60.0
#: Stores may count from an earlier write than the last one.
_SLACK = 2

_DEFAULT_TYPE = "application/octet-stream"
_LONGEST_HEADER = 128
_TTL = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,16}", re.ASCII)
_LARGEST_COUNT = 2**53 - 1
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: A page of another origin may have a browser send these types without asking first, and these headers not.
_SIMPLE_TYPES = frozenset({None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"})
_ASKED_HEADERS = ("authorization", "producer-id", "stream-closed", "stream-seq")
_FORK_HEADERS = ("stream-forked-from", "stream-fork-offset", "stream-fork-sub-offset")

_REFUSALS: dict[Outcome, tuple[int, str]] = {
    "closed": (409, "The stream is closed."),
    "fenced": (403, "A later epoch of this producer has begun."),
    "gap": (409, "An append of this producer is missing before this one."),
    "not_first": (400, "An epoch begins with number 0."),
    "mismatch": (409, "The stream has another content type."),
    "regress": (409, "Stream-Seq has to grow."),
    "invalid": (400, "The body is not one or more JSON values."),
    "full": (413, "That is too much for one append, or the stream has no room for it."),
}


class DurableStreams(Mount):
    """Streams of messages under names that clients choose; another owner's are other streams.

    Opened and closed with the runs.
    """

    path: ClassVar[str] = "/streams"
    tag: ClassVar[str] = "streams"

    def __init__(
        self,
        tail: RunService,
        store: str | RunStore = "memory://",
        *,
        limits: StreamLimits | None = None,
        open_names: bool = False,
    ) -> None:
        """Describe the streams; nothing is opened yet.

        Args:
            tail: Says whose a request is, and drains.
            store: Where the streams are: a URL, or a store, which must not be that of the runs. The same Redis server
                is a different store, the same SQLite file is not.
            limits: What one owner may have.
            open_names: Whether those without an identity share all names. Otherwise they need names of at least 20
                characters, and whoever knows such a name may use it.

        Raises:
            StoreSetupError: The URL names no known kind of store, or its extra is missing.
        """
        super().__init__(tail)
        self._limits = limits or StreamLimits()
        if isinstance(store, str):
            store = open_store(
                store,
                clock=tail.clock,
                retention_seconds=_RETENTION_SECONDS,
                live_seconds=self._limits.lifetime_seconds * _SLACK,
                prefix=_PREFIX,
            )
        self._streams = Streams(store, clock=tail.clock, limits=self._limits)
        self._open_names = open_names
        tail.companions.append(self)

    async def open(self) -> None:
        """Connect to the store.

        Raises:
            StoreSetupError: It cannot be used as it is set up, or has the runs.
            StoreUnavailableError: It gave no answer.
        """
        store = self._streams.store
        if store is self._tail.store:
            raise StoreSetupError(_SAME_STORE)
        await store.open()
        if await store.secret() == await self._tail.store.secret():
            await store.aclose()
            raise StoreSetupError(_SAME_STORE)

    async def aclose(self) -> None:
        """Close the store."""
        await self._streams.store.aclose()

    def table(self) -> list[RouteRow]:
        """All routes; a name may have slashes in it."""
        return [
            RouteRow("/{name:path}", "PUT", self.create, "Create a stream"),
            RouteRow("/{name:path}", "POST", self.append, "Append to a stream, or close it"),
            RouteRow("/{name:path}", "GET", self.read, "Read a stream"),
            RouteRow("/{name:path}", "DELETE", self.delete, "Delete a stream"),
        ]

    async def create(self, request: Request) -> Response:
        """`PUT`: 201 for a new stream, 200 for one that is there on the same terms, 409 for one on others."""
        return await _answered(self._create(request))

    async def append(self, request: Request) -> Response:
        """`POST`: 204, or 200 with a producer's headers; 204 for what was appended before."""
        return await _answered(self._append(request))

    async def read(self, request: Request) -> Response:
        """`GET`: what follows `?offset=`, waiting with `?live=long-poll` or `?live=sse`; `HEAD`: where it ends."""
        return await _answered(self._read(request))

    async def delete(self, request: Request) -> Response:
        """`DELETE`: 204, and its name is free."""
        return await _answered(self._delete(request))

    async def _create(self, request: Request) -> Response:
        stream_id, owner = await self._place(request)
        if any(name in request.headers for name in _FORK_HEADERS):
            raise RequestInvalidError("Streams cannot be forked here.", status=501)
        opening = self._opening(request)
        body = await read_bytes(request, limit_bytes=self._limits.append_bytes)
        messages = _split(Format(opening.content_type), body)
        if len(messages) > min(self._limits.append_messages, self._limits.max_records - 1):
            raise RequestInvalidError(_REFUSALS["full"][1], status=413)
        creation, view = await self._streams.create(stream_id, opening, messages, owner=owner)
        if creation == "too_many":
            raise RequestInvalidError(f"There are {self._limits.max_streams} streams already.", status=429)
        ledger = view.ledger
        if creation == "found" and (_terms(ledger.opening), ledger.closed) != (_terms(opening), opening.closed):
            raise RequestInvalidError("The stream exists on other terms.", status=409)
        headers = {**log_headers(ledger.last, closed=ledger.closed), "content-type": ledger.format.content_type}
        if creation == "found":
            return Response(None, 200, headers)
        # The path is decoded, and a name may have any character in it.
        location = request.url.replace(path=quote(request.scope["path"]), query="")
        return Response(None, 201, {**headers, "location": str(location)})

    async def _append(self, request: Request) -> Response:
        stream_id, _ = await self._place(request)
        body = await read_bytes(request, limit_bytes=self._limits.append_bytes)
        append = _read_append(request, body)
        _check_page(request, append)
        view = self._streams.view(stream_id)
        verdict, last = await view.append(append)
        headers = {
            **log_headers(last, closed=view.ledger.closed),
            **_producer_headers(verdict, append.mark),
        }
        if verdict.outcome in _REFUSALS:
            status, message = _REFUSALS[verdict.outcome]
            return _refused(status, verdict.outcome, message, headers)
        return Response(None, 200 if verdict.outcome == "appended" and append.mark and body else 204, headers)

    async def _read(self, request: Request) -> Response:
        query = LogQuery.parse(request)
        stream_id, _ = await self._place(request)
        view = self._streams.view(stream_id)
        is_head = request.method == "HEAD"
        await view.look(is_read=not is_head)
        source = _Source(view, self._limits, cache_control=cache_control(self._tail))
        return head_response(source.format, source.head) if is_head else LogResponse(self._tail, request, source, query)

    async def _delete(self, request: Request) -> Response:
        stream_id, _ = await self._place(request)
        await self._streams.view(stream_id).remove()
        return Response(None, 204, {"cache-control": "no-store", "x-content-type-options": "nosniff"})

    async def _place(self, request: Request) -> tuple[str, str]:
        """The id of the stream that a request names, and whose it is."""
        owner = await self._tail.owner(request)
        shared = owner is None and self._open_names
        name: str = request.path_params["name"]
        stream_id = await self._streams.id_of(name, owner="" if shared else owner, kind="open" if shared else "stream")
        return stream_id, owner or ""

    def _opening(self, request: Request) -> Opening:
        """The terms that a request asks for.

        Raises:
            RequestInvalidError: They contradict each other, or go beyond what may be.
        """
        headers = request.headers
        ttl, expires_at = headers.get("stream-ttl"), headers.get("stream-expires-at")
        now_ms = self._tail.clock.time_ms()
        latest_ms = now_ms + 1_000 * self._limits.lifetime_seconds
        expires_ms = None if expires_at is None else _instant_ms(expires_at)
        if ttl is not None and (expires_at is not None or _TTL.fullmatch(ttl) is None):
            raise RequestInvalidError("Stream-TTL is a number of seconds, and goes without Stream-Expires-At.")
        if max(now_ms + 1_000 * int(ttl or 0), expires_ms or 0) > latest_ms:
            raise RequestInvalidError(f"A stream lives at most {self._limits.lifetime_seconds} seconds.")
        return Opening(
            new_nonce(),
            now_ms,
            _short(request, "content-type") or _DEFAULT_TYPE,
            None if ttl is None else int(ttl),
            expires_at,
            expires_ms,
            _closes(request),
        )


class _Source:
    """A stream as `LogSource`."""

    def __init__(self, view: StreamView, limits: StreamLimits, *, cache_control: str) -> None:
        ledger, opening = view.ledger, view.ledger.opening
        if opening is None:
            raise RunNotFoundError(view.id)
        lifetime_ms = ledger.lifetime_ms(limits)
        # A reader that waits comes back in time to keep the stream alive.
        self.wait_seconds = math.inf if lifetime_ms is None else lifetime_ms / 2_000
        self.format = ledger.format
        self.tag = opening.nonce
        self.cache_control = cache_control
        extra = {"stream-ttl": opening.ttl_seconds, "stream-expires-at": opening.expires_at}
        shown = {name: str(value) for name, value in extra.items() if value is not None}
        self.head = LogHead(ledger.last, ledger.closed, shown)
        self._view = view
        self._reader = StreamReader(view)

    async def place(self, after: int | None) -> int:
        ledger = self._view.ledger
        after = ledger.last if after is None else after
        if after > ledger.length:
            raise CursorInvalidError(format_offset(after))
        self._reader.cursor = after
        return after

    async def read(self, max_bytes: int) -> LogPage:
        messages = await self._reader.read(max_bytes)
        ledger, last = self._view.ledger, self._reader.cursor
        at_end = last >= ledger.last
        return LogPage(messages, last, up_to_date=at_end, closed=at_end and ledger.closed)

    async def wait(self) -> None:
        await self._reader.wait()

    def wake(self) -> None:
        self._reader.wake()

    def close(self) -> None:
        self._reader.close()


_SAME_STORE = "streams need a store of their own: where the runs are, a log that is quiet for a while is a lost run"


async def _answered(serving: Coroutine[Any, Any, Response]) -> Response:
    try:
        return await serving
    except RunNotFoundError:
        return _refused(404, "stream_not_found", "There is no such stream.", {})
    except TailraceError as error:
        return error_response(error, native.DIALECT)


def _refused(status: int, code: str, message: str, headers: dict[str, str]) -> Response:
    headers = {"x-content-type-options": "nosniff", "cache-control": "no-store", **headers}
    return Response(native.DIALECT.error(status, code, message), status, headers, media_type="application/json")


def _terms(opening: Opening | None) -> tuple[object, ...] | None:
    """What has to be the same, so that a stream may be created once more."""
    if opening is None:
        return None
    return Format(opening.content_type).media_type, opening.ttl_seconds, opening.expires_at


def _split(form: Format, body: bytes) -> list[bytes]:
    try:
        return form.split(body)
    except EventInvalidError:
        raise RequestInvalidError(_REFUSALS["invalid"][1]) from None


def _read_append(request: Request, body: bytes) -> Append:
    """What a request wants appended.

    Raises:
        RequestInvalidError: It is nothing, or does not say what is needed.
    """
    content_type = _short(request, "content-type")
    append = Append(
        body=body,
        media_type=None if content_type is None else Format(content_type).media_type,
        closes=_closes(request),
        mark=_mark(request),
        seq=_short(request, "stream-seq"),
    )
    if not body and not append.closes:
        raise RequestInvalidError("There is nothing to append.")
    if body and content_type is None:
        raise RequestInvalidError("The body has no content type.")
    return append


def _check_page(request: Request, append: Append) -> None:
    """Refuse what a page of another origin appends in the name of whoever looks at it.

    Raises:
        RequestInvalidError: The browser has sent cookies along, and did not ask before.
    """
    headers = request.headers
    is_foreign = headers.get("sec-fetch-site") in {"cross-site", "same-site"} and "cookie" in headers
    was_asked = append.media_type not in _SIMPLE_TYPES or any(name in headers for name in _ASKED_HEADERS)
    if is_foreign and not was_asked:
        raise RequestInvalidError("A page of another origin needs a Producer-Id or Stream-Seq.", status=403)


def _mark(request: Request) -> Mark | None:
    """Which append of which producer it is, if that is said.

    Raises:
        RequestInvalidError: It is said in part, or not in numbers.
    """
    producer = _short(request, "producer-id")
    counts = [request.headers.get(name) for name in ("producer-epoch", "producer-seq")]
    if producer is None and counts == [None, None]:
        return None
    epoch, seq = (int(count) if count and _COUNT.fullmatch(count) else -1 for count in counts)
    if not producer or not 0 <= min(epoch, seq) <= max(epoch, seq) <= _LARGEST_COUNT:
        raise RequestInvalidError("Producer-Id, Producer-Epoch and Producer-Seq belong together, the last two numbers.")
    return Mark(producer, epoch, seq)


def _producer_headers(verdict: Verdict, sent: Mark | None) -> dict[str, str]:
    """Where the producer stands, or what it should have sent."""
    mark = verdict.mark
    if mark is None or sent is None:
        return {}
    if verdict.outcome == "gap":
        return {"producer-expected-seq": str(mark.seq), "producer-received-seq": str(sent.seq)}
    if verdict.outcome == "fenced":
        return {"producer-epoch": str(mark.epoch)}
    return {"producer-epoch": str(mark.epoch), "producer-seq": str(mark.seq)}


def _closes(request: Request) -> bool:
    return request.headers.get("stream-closed", "").lower() == "true"


def _short(request: Request, name: str) -> str | None:
    """A header that is kept.

    Raises:
        RequestInvalidError: It is too long for that.
    """
    value = request.headers.get(name)
    if value is not None and len(value) > _LONGEST_HEADER:
        raise RequestInvalidError(f"{name} has at most {_LONGEST_HEADER} characters.")
    return value


def _instant_ms(text: str) -> int:
    """Unix milliseconds.

    Raises:
        RequestInvalidError: The text is no moment as RFC 3339 writes it, with a time zone.
    """
    try:
        instant = datetime.fromisoformat(text if len(text) <= _LONGEST_HEADER else "")
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise RequestInvalidError("Stream-Expires-At is a moment such as 2030-01-01T00:00:00Z.")
    return int((instant - _UNIX_EPOCH).total_seconds() * 1_000)
