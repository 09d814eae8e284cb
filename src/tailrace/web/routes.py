"""The run routes: look at a run, read its log, cancel it, list a thread's. Every one asks `authorize` first."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace.errors import CursorInvalidError, RunNotFoundError, StoreUnavailableError, TailraceError
from tailrace.runtime.run import RunInfo
from tailrace.web.errors import RequestInvalidError, error_response
from tailrace.web.headers import RawHeaders, read_cursor, stream_headers
from tailrace.web.install import RouteRow
from tailrace.web.log import LogQuery, LogResponse, RunLog
from tailrace.web.multiplex import FEED_RUNS, FEED_THREADS, RunsEncoder, RunsFeed
from tailrace.web.owners import expires_at
from tailrace.web.reader import ReaderResponse, RunReader
from tailrace.web.service import RunService
from tailrace.web.stream import Stream
from tailrace.web.tickets import TICKET_PARAMETER, issue, reader_of
from tailrace.web.writer import AsgiWriter
from tailrace.wire.cursor import START, Cursor
from tailrace.wire.dialects import native
from tailrace.wire.dialects.contract import Dialect
from tailrace.wire.dialects.registry import get_dialect

__all__ = ["RunRoutes"]

_RETRY_MS = 3_000

#: What routes take in their query.
_IN_THREAD = {"thread": "The thread"}
_NO_MERGE = "0: never several deltas in one event"
_RUNS = {
    "runs": "Runs, each with the number to begin after: `a:12,b`",
    "thread": "And those that run or begin in this thread; may be given several times",
    "merge": _NO_MERGE,
}
_EVENTS = {
    "after": "Only what follows this number, as the `Last-Event-ID` header says it",
    "dialect": "How it is written; by default `native`",
    "merge": _NO_MERGE,
    TICKET_PARAMETER: "Instead of an `Authorization` header",
}
_LOG = {
    "offset": "Only what follows; -1 is the beginning",
    "live": "long-poll or sse: wait for more",
    "cursor": "The cursor of the answer before",
    TICKET_PARAMETER: "Instead of an `Authorization` header",
}


class RunRoutes:
    """The endpoints, bound to one `Tailrace`."""

    def __init__(self, tail: RunService) -> None:
        """Bind them."""
        self._tail = tail

    def table(self) -> list[RouteRow]:
        """All routes."""
        return [
            RouteRow("/", "GET", self.list_active, "List the running runs of a thread", query=_IN_THREAD),
            RouteRow("/feed", "GET", self.feed, "Several runs on one stream", ("native",), query=_RUNS),
            RouteRow("/{run_id}", "GET", self.inspect, "A run so far, reduced"),
            RouteRow("/{run_id}/events", "GET", self.events, "A run's log as a stream", (), query=_EVENTS),
            RouteRow("/{run_id}/log", "GET", self.log, "A run's log by the Durable Streams protocol", query=_LOG),
            RouteRow("/{run_id}/cancel", "POST", self.cancel, "Ask a run to stop"),
            RouteRow("/{run_id}/ticket", "POST", self.ticket, "A key to a run's log for who cannot send headers"),
        ]

    async def list_active(self, request: Request) -> Response:
        """`GET /?thread=`: `{"runs": […]}`, newest first. Only for callers with an identity."""
        try:
            owner = await self._identity(request)
            active = await self._tail.active(owner=owner, thread=request.query_params.get("thread"))
        except TailraceError as error:
            return error_response(error, native.DIALECT)
        return _json({"runs": [self._described(request, info) for info in active]})

    async def feed(self, request: Request) -> Response:
        """`GET /feed?runs=a:12,b&thread=t&thread=u`: runs from their cursors on, and those that begin in the threads.

        Only for callers with an identity. Frames are native, with ids `<run_id>:<seq>`, unmerged with `?merge=0`.
        """
        try:
            owner = await self._identity(request)
            threads = _threads(request.query_params.getlist("thread"))
            cursors = _cursors(request.query_params.get("runs", ""), needed=not threads)
            for run_id, after in cursors.items():
                await self._tail.authorize(run_id, owner, after=after)
            feed = RunsFeed(self._tail, cursors, owner=owner, threads=threads, merging=_merges(request))
            return await _FeedResponse(self._tail, feed).opened()
        except StoreUnavailableError:
            return _come_back()
        except TailraceError as error:
            return error_response(error, native.DIALECT)

    async def inspect(self, request: Request) -> Response:
        """`GET /{id}`: the run reduced, with `seq`, the cursor to go on from."""
        try:
            run_id = await self._authorized(request)
            reduced = await self._tail.reduced(run_id)
        except TailraceError as error:
            return error_response(error, native.DIALECT)
        document = msgspec.json.decode(native.DIALECT.document(reduced), type=dict[str, object])
        document["events_url"] = self._tail.location(request.scope, run_id, native.DIALECT.name)
        return _json(document)

    async def events(self, request: Request) -> Response:
        """`GET /{id}/events`: the log after `Last-Event-ID` or `?after=`, in `?dialect=`, unmerged with `?merge=0`."""
        dialect: Dialect = native.DIALECT
        try:
            dialect = get_dialect(request.query_params.get("dialect", native.DIALECT.name))
            cursor = _cursor_in(request.path_params["run_id"], request)
            run_id = await self._readable(request, after=cursor.seq)
            options = {name: value for name, value in request.query_params.items() if name in dialect.options}
            if request.method == "HEAD":
                return Response(None, 200, dict(_decoded(stream_headers(dialect.headers))))
            return await ReaderResponse.opened(
                RunReader(
                    self._tail, request, run_id, cursor, dialect=dialect, options=options, merging=_merges(request)
                )
            )
        except StoreUnavailableError as error:
            return _come_back() if dialect.resumes else error_response(error, dialect)
        except TailraceError as error:
            return error_response(error, dialect)

    async def log(self, request: Request) -> Response:
        """`GET /{id}/log`: the log after `?offset=`, waiting for more with `?live=long-poll` or `?live=sse`."""
        try:
            query = LogQuery.parse(request)
            owner = await reader_of(self._tail, request)
            info = await self._tail.authorize(request.path_params["run_id"], owner, after=query.after or 0)
        except TailraceError as error:
            return error_response(error, native.DIALECT)
        if request.method == "HEAD":
            return RunLog.head(info)
        return LogResponse(self._tail, request, RunLog(self._tail, info), query)

    async def cancel(self, request: Request) -> Response:
        """`POST /{id}/cancel`: `{"accepted"}`, false if the run had ended; the log tells when it has stopped."""
        try:
            run_id = await self._authorized(request)
            accepted = await self._tail.cancel(run_id)
        except TailraceError as error:
            return error_response(error, native.DIALECT)
        return _json({"run_id": run_id, "accepted": accepted}, 202 if accepted else 200)

    async def ticket(self, request: Request) -> Response:
        """`POST /{id}/ticket`: `{"ticket", "expires_at_ms", "events_url"}`. Only for callers with an identity."""
        try:
            owner = await self._identity(request)
            run_id = await self._authorized(request)
            dialect = get_dialect(request.query_params.get("dialect", native.DIALECT.name))
            ticket = await issue(self._tail, run_id, owner, until_seconds=expires_at(request.scope))
        except TailraceError as error:
            return error_response(error, native.DIALECT)
        url = self._tail.location(request.scope, run_id, dialect.name, {TICKET_PARAMETER: ticket.text})
        return _json({"ticket": ticket.text, "expires_at_ms": ticket.expires_at_ms, "events_url": url}, 201)

    async def _identity(self, request: Request) -> str:
        owner = await self._tail.owner(request)
        if owner is None:
            raise RunNotFoundError("")
        return owner

    async def _authorized(self, request: Request, *, after: int = 0) -> str:
        run_id: str = request.path_params["run_id"]
        await self._tail.authorize(run_id, await self._tail.owner(request), after=after)
        return run_id

    async def _readable(self, request: Request, *, after: int) -> str:
        """As `_authorized`, for who has a ticket too."""
        run_id: str = request.path_params["run_id"]
        await self._tail.authorize(run_id, await reader_of(self._tail, request), after=after)
        return run_id

    def _described(self, request: Request, info: RunInfo) -> dict[str, object]:
        url = self._tail.location(request.scope, info.id, native.DIALECT.name)
        return {"run_id": info.id, "status": info.status, "seq": info.seq, "thread_id": info.thread, "events_url": url}


class _FeedResponse(Response):
    """Streams several runs, and leaves them."""

    raw_headers: RawHeaders

    def __init__(self, tail: RunService, feed: RunsFeed) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self.raw_headers = []
        self._tail = tail
        self._feed = feed

    async def opened(self) -> Response:
        """This response, with its places found; left again if they cannot be."""
        try:
            await self._feed.place()
        except BaseException:
            self._feed.close()
            raise
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tail = self._tail
        writer = AsgiWriter(scope, send, timeout_seconds=tail.send_timeout_seconds)
        stream = Stream(
            self._feed,
            RunsEncoder(),
            writer,
            fresh_encoder=RunsEncoder,
            wheel=tail.wheel,
            heartbeat_seconds=tail.heartbeat_seconds,
            resumes=True,
            holds=lambda: tail.holds(scope),
        )
        try:
            await writer.start(200, stream_headers(native.DIALECT.headers, self.raw_headers))
            with tail.open_stream(stream):
                await stream.run(receive)
        finally:
            self._feed.close()


def _cursors(text: str, *, needed: bool) -> dict[str, int]:
    """`a:12,b` as where to begin in each run.

    Raises:
        CursorInvalidError: Not in that form, too many runs, or none where one is needed.
    """
    items = [item for item in text.split(",") if item]
    if len(items) > FEED_RUNS or (needed and not items):
        raise CursorInvalidError(text)
    cursors: dict[str, int] = {}
    for item in items:
        cursor = Cursor.parse(item if ":" in item else f"{item}:0")
        if cursor.run_id is None:
            raise CursorInvalidError(item)
        cursors[cursor.run_id] = cursor.seq
    return cursors


def _threads(names: list[str]) -> list[str]:
    """The threads to listen to, each once.

    Raises:
        RequestInvalidError: They are too many.
    """
    threads = list(dict.fromkeys(name for name in names if name))
    if len(threads) > FEED_THREADS:
        raise RequestInvalidError(f"a feed listens to at most {FEED_THREADS} threads")
    return threads


def _merges(request: Request) -> bool:
    return request.query_params.get("merge") != "0"


def _cursor_in(run_id: str, request: Request) -> Cursor:
    """Where the client stands in this run.

    Raises:
        CursorInvalidError: It says nothing that is a cursor, or names another run.
    """
    cursor = read_cursor(request) or START
    if cursor.run_id not in {None, run_id}:
        raise CursorInvalidError(str(cursor))
    return cursor


def _come_back() -> Response:
    """A browser's EventSource gives up for good on an error status, so it is asked to try again with a good one."""
    return Response(native.reconnect(_RETRY_MS), 200, dict(_decoded(stream_headers({}))))


def _decoded(headers: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode("latin-1")) for name, value in headers]


def _json(value: object, status: int = 200) -> Response:
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")
