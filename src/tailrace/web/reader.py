"""One request that reads one run: as a stream from a cursor on, or as one document when the run has ended."""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, Self

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace.events import TERMINALS, Entry, Snapshot
from tailrace.fold import Reduced, merge, reduce
from tailrace.runtime.outcome import failed
from tailrace.stores.contract import OPEN
from tailrace.web.errors import EarlyFailureError, RefusedError, document_status, error_response, retry_after_seconds
from tailrace.web.headers import CLIENT_HEADER, RawHeaders, stream_headers, with_chosen
from tailrace.web.owners import IdentityExpiredError, seconds_left
from tailrace.web.service import RunService
from tailrace.web.stream import EntryEncoder, Stream
from tailrace.web.writer import AsgiWriter
from tailrace.wire.cursor import Cursor
from tailrace.wire.dialects.contract import Dialect, Encoder, IdForm

__all__ = ["ReaderResponse", "RunReader"]

#: Proxies cut a silent request after a minute; before that the client is told where to look.
_JSON_WAIT_SECONDS = 50.0


class RunReader:
    """Reads for one request. `open` may refuse; after it, `close` in any case."""

    def __init__(  # noqa: PLR0913  who reads, which run, from where, how
        self,
        tail: RunService,
        request: Request,
        run_id: str,
        cursor: Cursor,
        *,
        dialect: Dialect,
        options: Mapping[str, object] | None = None,
        ids: IdForm = "seq",
        merging: bool = True,
        skip_frames: int = 0,
        joining: Callable[[Reduced], Snapshot] | None = None,
    ) -> None:
        """Join the run as a follower, so that it knows from now on that somebody reads.

        Args:
            tail: The runs.
            request: Who reads.
            run_id: Which run; the caller has checked the right to it.
            cursor: From where.
            dialect: How events are written.
            options: What the dialect is spoken with.
            ids: How the dialect writes ids.
            merging: Whether deltas may be merged when the reader is far behind.
            skip_frames: How many frames after the cursor the reader has already, over all entries; for dialects that
                count frames, and so are never merged.
            joining: Instead of a replay, the reader gets `run.started`, this snapshot of the run so far, and then what
                follows. These first frames carry no ids.
        """
        self.run_id = run_id
        self._tail = tail
        self._request = request
        self._cursor = cursor
        self._dialect = dialect
        self._options = dict(options or {})
        self._ids: IdForm = ids
        self._skip_frames = skip_frames
        self._joining = joining
        self._prelude = b""
        self._follower = tail.follower(run_id, cursor.seq, merging=merging and dialect.merges)
        self._nothing_new = False
        self._encoder: EntryEncoder[Entry] | None = None

    def close(self) -> None:
        """Leave the run."""
        self._follower.close()

    async def open(self, *, early: bool = False) -> None:
        """Find the place to read from. With `early`, wait a moment for the first event or the failure before it.

        Raises:
            RunNotFoundError: The run is gone.
            StoreUnavailableError: The store gave no answer.
            OptionInvalidError: The dialect cannot be spoken so.
            EarlyFailureError: The source raised before its first event; the run was undone.
            HTTPException: As above, and this is what the source raised.
            RefusedError: Likewise.
        """
        tail = self._tail
        self._fresh_encoder()
        if early:
            await self._first_event()
        info = await tail.store.info(self.run_id)
        at_end = info.state != OPEN and self._cursor.seq == info.last
        self._nothing_new = at_end and self._request.method == "GET"
        if self._joining is not None:
            self._encoder = await self._join(self._joining)
            await self._follower.place()
            return
        await self._follower.place()
        self._encoder = await self._primed_encoder()

    async def _first_event(self) -> None:
        live = self._follower.live
        if live is None:
            return
        error = await live.first_event(self._tail.early_seconds, opening_seconds=self._tail.opening_seconds)
        if isinstance(error, HTTPException | RefusedError):
            raise error
        if error is not None:
            raise EarlyFailureError(failed(error, live.correlation_id)) from error

    async def stream(self, receive: Receive, send: Send, chosen: Iterable[tuple[bytes, bytes]] = ()) -> bool:
        """Answer with the run's events after the cursor; 204 to a GET that has seen all of a final run.

        Args:
            receive: Watched for the disconnect.
            send: Where the response goes.
            chosen: Headers that the application set.

        Returns:
            Whether the reader had all of it.

        Raises:
            StreamAbortedError: The response is broken, and the server has to be told by an exception.
        """
        tail, scope, dialect = self._tail, self._request.scope, self._dialect
        headers = stream_headers({**dialect.headers, **self._where()}, chosen)
        if self._nothing_new:
            await Response(None, 204, {"cache-control": "no-store"})(scope, receive, send)
            return True
        writer = AsgiWriter(scope, send, timeout_seconds=tail.send_timeout_seconds)
        stream = Stream(
            self._follower,
            self._encoder or self._fresh_encoder(),
            writer,
            fresh_encoder=self._fresh_encoder,
            wheel=tail.wheel,
            heartbeat_seconds=tail.heartbeat_seconds,
            resumes=dialect.resumes or CLIENT_HEADER in self._request.headers,
            skip_frames=self._cursor.frames,
            announces_reset=dialect.name == "native",
            holds=lambda: tail.holds(scope),
        )
        await writer.start(200, headers)
        if self._prelude:
            await writer.write(self._prelude)
        with tail.open_stream(stream):
            await stream.run(receive)
        return stream.ended

    async def document(self, receive: Receive, send: Send, chosen: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer with the whole run when it has ended; with where to look if that takes too long.

        That is 202, or 401 if the reader's identity did not hold so long.

        Args:
            receive: Watched for the disconnect.
            send: Where the response goes.
            chosen: Headers that the application set.
        """
        collect = asyncio.create_task((await self._tail.attach(self.run_id)).reduced())
        leave = asyncio.create_task(_disconnected(receive))
        try:
            left = seconds_left(self._request.scope, self._tail.clock)
            seconds = _JSON_WAIT_SECONDS if left is None else min(left, _JSON_WAIT_SECONDS)
            await asyncio.wait({collect, leave}, timeout=seconds, return_when="FIRST_COMPLETED")
            if not collect.done() and leave.done():
                return
            if collect.done():
                response = self._answer(collect.result())
            elif seconds < _JSON_WAIT_SECONDS:
                response = error_response(IdentityExpiredError(), self._dialect)
                response.headers.update(self._where())
            else:
                response = self.postponed({"retry-after": "5"})
        finally:
            collect.cancel()
            leave.cancel()
            await asyncio.wait({collect, leave})
        response.raw_headers = with_chosen(response.raw_headers, chosen)
        await response(self._request.scope, receive, send)

    def _answer(self, reduced: Reduced) -> Response:
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff", **self._where()}
        if (seconds := retry_after_seconds(reduced)) is not None:
            headers["retry-after"] = str(math.ceil(seconds))
        body = self._dialect.document(reduced)
        return Response(body, document_status(reduced), headers, media_type="application/json")

    def postponed(self, headers: Mapping[str, str]) -> Response:
        """Where the run is to be found: an answer to who does not wait for it."""
        url = self._tail.location(self._request.scope, self.run_id, "native")
        body = msgspec.json.encode({"run_id": self.run_id, **({"events_url": url} if url else {})})
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff", **self._where(), **headers}
        return Response(body, 202, headers, media_type="application/json")

    def _where(self) -> dict[str, str]:
        location = self._tail.location(self._request.scope, self.run_id, self._dialect.name, self._options)
        return {"location": location, "access-control-expose-headers": "location"} if location else {}

    async def ended(self) -> None:
        """Leave the run and, if it is produced here, wait for its end."""
        live = self._follower.live
        self.close()
        while live is not None and not live.log.settled:
            await live.log.changed()

    def warn_of_dependencies(self) -> None:
        """Say once if resources of the request are closed while the run that may use them goes on."""
        # FastAPI's stack of open dependencies; there is no public way to ask it whether it holds anything.
        stack: object = self._request.scope.get("fastapi_inner_astack")
        if self._tail.live(self.run_id) is not None and getattr(stack, "_exit_callbacks", None):
            self._tail.warn_once(
                "a client left, and the dependencies of its request (those with `yield`) are closed while the run goes "
                "on: open what the run needs inside its source, or pass hold=True to stream()"
            )

    def _fresh_encoder(self) -> Encoder:
        options: dict[str, Any] = self._options
        return self._dialect.encoder(run_id=self.run_id, ids=self._ids, **options)

    async def _join(self, snapshot: Callable[[Reduced], Snapshot]) -> Encoder:
        """An encoder that has written the run so far as a snapshot, up to its end or the terminal event."""
        encoder = self._fresh_encoder()
        before = self._tail.follower(self.run_id)
        entries: list[Entry] = []
        try:
            while batch := await before.read():
                entries.extend(batch)
        finally:
            before.close()
        if entries and isinstance(entries[-1].event, TERMINALS):
            entries.pop()
        if entries:
            told = (entries[0].event, snapshot(reduce(entries)))
            frames = [encoder.encode(Entry(0, entries[0].at_ms, event)) for event in told]
            self._prelude = b"".join(chain.from_iterable(frames))
            self._follower.cursor = entries[-1].seq
        return encoder

    async def _primed_encoder(self) -> EntryEncoder[Entry]:
        """An encoder that has seen what the reader has."""
        encoder = self._fresh_encoder()
        seen = self._follower.cursor
        if self._skip_frames:
            return _Later(encoder, self._skip_frames)
        if not (self._dialect.stateful and seen):
            return encoder
        before = self._tail.follower(self.run_id)
        try:
            while before.cursor < seen and (entries := await before.read(seen - before.cursor)):
                for entry in merge(entries):
                    encoder.encode(entry)
        finally:
            before.close()
        return encoder


class ReaderResponse(Response):
    """Streams what an opened reader reads, and closes it."""

    raw_headers: RawHeaders

    def __init__(self, reader: RunReader) -> None:
        """Take a reader; see `opened`."""
        self.status_code = 200
        self.background = None
        self.body = b""
        self.raw_headers = []
        self._reader = reader

    @classmethod
    async def opened(cls, reader: RunReader) -> Self:
        """Open the reader, or close it: whatever that raises is the caller's to answer."""
        try:
            await reader.open()
        except BaseException:
            reader.close()
            raise
        return cls(reader)

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Stream."""
        try:
            await self._reader.stream(receive, send, self.raw_headers)
        finally:
            self._reader.close()


class _Later:
    """An encoder whose first frames are left out."""

    def __init__(self, encoder: Encoder, frames: int) -> None:
        self._encoder = encoder
        self._missing = frames

    def encode(self, entry: Entry) -> list[bytes]:
        frames = self._encoder.encode(entry)
        skipped = min(self._missing, len(frames))
        self._missing -= skipped
        return frames[skipped:]


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
