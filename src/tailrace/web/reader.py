"""One request that reads one run: as a stream from a cursor on, or as one document when the run has ended."""

import asyncio
import logging
from collections.abc import Iterable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Send

from tailrace.fold import Reduced, merge
from tailrace.stores.contract import OPEN
from tailrace.web.errors import EarlyFailureError, document_status
from tailrace.web.headers import CLIENT_HEADER, stream_headers, with_chosen
from tailrace.web.service import RunService
from tailrace.web.stream import Stream
from tailrace.web.writer import AsgiWriter
from tailrace.wire.cursor import Cursor
from tailrace.wire.dialects.contract import Dialect, Encoder, IdForm

__all__ = ["RunReader"]

_logger = logging.getLogger("tailrace")
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
        ids: IdForm = "seq",
        merging: bool = True,
    ) -> None:
        """Join the run as a follower, so that it knows from now on that somebody reads."""
        self.run_id = run_id
        self._tail = tail
        self._request = request
        self._cursor = cursor
        self._dialect = dialect
        self._ids: IdForm = ids
        self._follower = tail.follower(run_id, cursor.seq, merging=merging)
        self._nothing_new = False
        self._encoder: Encoder | None = None

    def close(self) -> None:
        """Leave the run."""
        self._follower.close()

    async def open(self, *, early: bool = False) -> None:
        """Find the place to read from. With `early`, wait a moment for the first event or the failure before it.

        Raises:
            RunNotFoundError: The run is gone.
            StoreUnavailableError: The store gave no answer.
            EarlyFailureError: The source raised before its first event; the run was undone.
            HTTPException: As above, and this is what the source raised.
        """
        tail = self._tail
        if early:
            await self._first_event()
        info = await tail.store.info(self.run_id)
        at_end = info.state != OPEN and self._cursor.seq == info.last
        self._nothing_new = at_end and self._request.method == "GET"
        await self._follower.place()
        self._encoder = await self._primed_encoder()

    async def _first_event(self) -> None:
        live = self._follower.live
        if live is None:
            return
        error = await live.first_event(self._tail.early_seconds)
        if isinstance(error, HTTPException):
            raise error
        if error is not None:
            _logger.error("a run failed at once (correlation id %s)", live.correlation_id, exc_info=error)
            raise EarlyFailureError(live.correlation_id) from error

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
        location = tail.location(scope, self.run_id, dialect.name)
        headers = stream_headers({**dialect.headers, **({"location": location} if location else {})}, chosen)
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
        )
        await writer.start(200, headers)
        with tail.open_stream(stream):
            await stream.run(receive)
        return stream.ended

    async def document(self, receive: Receive, send: Send, chosen: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer with the whole run when it has ended; with 202 and where to look if that takes too long.

        Args:
            receive: Watched for the disconnect.
            send: Where the response goes.
            chosen: Headers that the application set.
        """
        collect = asyncio.create_task((await self._tail.attach(self.run_id)).reduced())
        leave = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({collect, leave}, timeout=_JSON_WAIT_SECONDS, return_when="FIRST_COMPLETED")
            if not collect.done() and leave.done():
                return
            response = self._answer(collect.result()) if collect.done() else self._postponed()
        finally:
            collect.cancel()
            leave.cancel()
            await asyncio.wait({collect, leave})
        response.raw_headers = with_chosen(response.raw_headers, chosen)
        await response(self._request.scope, receive, send)

    def _answer(self, reduced: Reduced) -> Response:
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff", **self._where()}
        body = self._dialect.document(reduced)
        return Response(body, document_status(reduced), headers, media_type="application/json")

    def _postponed(self) -> Response:
        return Response(b"", 202, {"cache-control": "no-store", "retry-after": "5", **self._where()})

    def _where(self) -> dict[str, str]:
        location = self._tail.location(self._request.scope, self.run_id, self._dialect.name)
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
        return self._dialect.encoder(run_id=self.run_id, ids=self._ids)

    async def _primed_encoder(self) -> Encoder:
        """An encoder that has seen what the reader has."""
        encoder = self._fresh_encoder()
        seen = self._follower.cursor
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


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
