"""The routes of AG-UI's clients: `HttpAgent`, and so CopilotKit, and TanStack AI's `fetchServerSentEvents`.

The client names a run before it begins. That id, hashed with its owner, is the run's own, so a request that is sent
again finds the run of the first. The log keeps the id, for whoever opens the conversation later and asks which run to
join.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace.errors import CursorInvalidError, KeyInvalidError, RunNotFoundError, TailraceError
from tailrace.events import Entry, RunStarted, Snapshot
from tailrace.fold import Message, Reduced, reduce
from tailrace.runtime.keys import check_run_id
from tailrace.stores.contract import Info
from tailrace.web.body import read_json
from tailrace.web.errors import RequestInvalidError, error_response
from tailrace.web.headers import stream_headers
from tailrace.web.install import RouteRow
from tailrace.web.mounts.ag_ui_input import ID_CHARACTERS, RunAgentInput, run_agent_input, ui_messages
from tailrace.web.mounts.contract import AgentRequest, Surface
from tailrace.web.reader import ReaderResponse, RunReader
from tailrace.web.response import RunResponse, StartOptions
from tailrace.wire.ag_ui_joining import META, joining, started_as
from tailrace.wire.ag_ui_messages import messages_of
from tailrace.wire.ag_ui_values import interrupts_of
from tailrace.wire.cursor import START, Cursor
from tailrace.wire.dialects.ag_ui import DIALECT, FIRST_MESSAGE, PROTOCOL_VERSION

__all__ = ["AgUiSurface"]

_BODY_BYTES = 8 * 1024**2
#: Where runs have no owners a thread's id is all that protects the thread, and a shorter one can be guessed.
_SECRET_CHARACTERS = 20
#: Of keys, as of ids of the run itself.
_KIND = "ag-ui"
_READING = {
    "runId": "The run to read",
    "offset": "After which event; by default from the beginning",
    "threadId": "The conversation to read, if no run is named",
    "messages": "ag-ui: its messages in AG-UI's own form",
}
#: TanStack's way to say that it has read nothing.
_FROM_THE_START = "-1"


class _Latest(NamedTuple):
    """The run that began last in a thread, as it is now; `run_id` is the client's."""

    run_id: str
    reduced: Reduced


class AgUiSurface(Surface):
    """Answers AG-UI's clients.

    A client that speaks version 1.0 says so in the body, or, if it cannot, with `?protocol_version=1.0`. Where runs
    have no owners a run is protected by its `runId` and a thread by its `threadId`: a `runId` under 20 characters is
    refused, and of a thread with a shorter id nothing is told.
    """

    path: ClassVar[str] = "/agui"
    tag: ClassVar[str] = "ag-ui"

    def table(self) -> list[RouteRow]:
        """All routes."""
        return [
            RouteRow(
                "/", "POST", self.run, "Run the agent, or read on in the run of that id", ("ag-ui",), body=RunAgentInput
            ),
            RouteRow("/", "GET", self.read, "A run from its beginning, or a conversation", ("ag-ui",), query=_READING),
            RouteRow("/{run_id}/cancel", "POST", self.cancel, "Ask a run to stop"),
        ]

    async def run(self, request: Request) -> Response:
        """`POST /`: start the run called `runId`, or attach to it; with another body than its first one it is a 409.

        With a `Last-Event-ID` nothing is started. With `{"tailrace": {"join": true}}` in `forwardedProps` neither, and
        the client gets the conversation so far as `MESSAGES_SNAPSHOT` instead of a replay.
        """
        try:
            owner = await self._tail.owner(request)
            body = await read_json(request, dict[str, Any], limit_bytes=_BODY_BYTES)
            asked, messages = run_agent_input(body)
            options = _dialect_options(request, asked.protocol_version)
            if asked.joins:
                return await self._joined(request, asked, owner, options)
            start = StartOptions(
                run_id=await self._derived(asked.run_id, owner),
                fingerprint=body,
                owner=owner,
                thread=asked.thread_id,
                parent_run_id=asked.parent_run_id and await self._derived(asked.parent_run_id, owner),
                meta={META: {"run_id": asked.run_id}},
                dialect_options=options,
            )
        except TailraceError as error:
            return error_response(error, DIALECT)
        last = messages[-1] if messages else None
        task = AgentRequest(
            text=last.text if last is not None and last.role == "user" else "",
            messages=messages,
            thread=asked.thread_id,
            owner=owner,
            tools=asked.tools or (),
            state=asked.state,
            body=body,
            request=request,
        )
        return RunResponse(self._tail, lambda: self._agent(task), dialect=DIALECT.name, options=start)

    async def read(self, request: Request) -> Response:
        """`GET /?runId=&offset=-1`: that run, from its beginning or after a `Last-Event-ID`.

        `GET /?threadId=`: `{"messages", "activeRun": {"runId"} | null, "interrupts": {"runId", "pending"} | null}`.
        The messages are TanStack's `UIMessage`, or, with `?messages=ag-ui`, AG-UI's own. They come from the history;
        without one they are what the thread's newest run said. Those of the active run are left out, as the client
        will read them there.
        """
        asked = request.query_params
        try:
            owner = await self._tail.owner(request)
            if "runId" in asked:
                return await self._replayed(request, asked["runId"], owner)
            return _json(await self._conversation(asked.get("threadId"), owner, form=asked.get("messages")))
        except TailraceError as error:
            return error_response(error, DIALECT)

    async def cancel(self, request: Request) -> Response:
        """`POST /{runId}/cancel`: `{"runId", "accepted"}`, false if the run had ended; its stream tells when it has."""
        run_id = request.path_params["run_id"]
        try:
            info = await self._found(run_id, await self._tail.owner(request))
            accepted = await self._tail.cancel(info.run_id)
        except TailraceError as error:
            return error_response(error, DIALECT)
        return _json({"runId": run_id, "accepted": accepted}, 202 if accepted else 200)

    async def _joined(
        self, request: Request, asked: RunAgentInput, owner: str | None, options: Mapping[str, object]
    ) -> Response:
        info = await self._found(asked.run_id, owner)
        # What the client shows is what its reader sees; only one that shows nothing yet is told the history.
        history: Sequence[Message] = [] if asked.messages else await self._messages(info.thread, owner)

        def snapshot(reduced: Reduced) -> Snapshot:
            before = asked.messages or messages_of(_without(history, reduced))
            return joining(reduced, before)

        reader = RunReader(self._tail, request, info.run_id, START, dialect=DIALECT, options=options, joining=snapshot)
        return await ReaderResponse.opened(reader)

    async def _replayed(self, request: Request, run_id: str, owner: str | None) -> Response:
        """A run by its client's id, from where the client stands in it.

        Raises:
            CursorInvalidError: That is no place in this run.
            RunNotFoundError: There is no such run for the caller.
            StoreUnavailableError: The store gave no answer.
        """
        place = request.headers.get("last-event-id") or request.query_params.get("offset", _FROM_THE_START)
        cursor = START if place == _FROM_THE_START else Cursor.parse(place)
        info = await self._found(run_id, owner, after=cursor.seq)
        if cursor.run_id not in {None, info.run_id}:
            raise CursorInvalidError(place)
        if request.method == "HEAD":
            headers = {name.decode(): value.decode("latin-1") for name, value in stream_headers(DIALECT.headers)}
            return Response(None, 200, headers)
        # Who asks like this is TanStack's client after a reload.
        options = {"announce": FIRST_MESSAGE, **_dialect_options(request, None)}
        return await ReaderResponse.opened(
            RunReader(self._tail, request, info.run_id, cursor, dialect=DIALECT, options=options)
        )

    async def _conversation(self, thread: str | None, owner: str | None, *, form: str | None) -> dict[str, object]:
        """What a thread has, for a client that opens it.

        Raises:
            RequestInvalidError: The request names no thread.
            StoreUnavailableError: The store gave no answer.
        """
        if thread is None:
            raise RequestInvalidError("Either runId or threadId says what to read.")
        latest = await self._latest(thread, owner)
        messages: Sequence[Message] = await self._messages(thread, owner)
        told: dict[str, object] = {"activeRun": None, "interrupts": None}
        if latest is not None:
            run_id, reduced = latest
            is_active = reduced.status == "running"
            if is_active:
                told["activeRun"] = {"runId": run_id}
                messages = _without(messages, reduced)
            elif self._history is None:
                messages = reduced.messages
            if reduced.interrupts:
                told["interrupts"] = {"runId": run_id, "pending": interrupts_of(reduced.interrupts)}
        in_form = messages_of if form == DIALECT.name else ui_messages
        return {"messages": in_form(messages), **told}

    async def _messages(self, thread: str | None, owner: str | None) -> Sequence[Message]:
        if self._history is None or thread is None or not _is_key(thread, owner):
            return []
        return await self._history.messages(thread, owner)

    async def _latest(self, thread: str, owner: str | None) -> _Latest | None:
        """The thread's newest run, if the caller has a right to it.

        Raises:
            StoreUnavailableError: The store gave no answer.
        """
        if not _is_key(thread, owner):
            return None
        run_id = await self._tail.latest(thread, owner=owner)
        if run_id is None:
            return None
        with contextlib.suppress(RunNotFoundError):
            await self._tail.authorize(run_id, owner)
            entries = await self._log(run_id)
            first = entries[0].event if entries else None
            if isinstance(first, RunStarted):
                return _Latest(started_as(first), reduce(entries))
        return None

    async def _log(self, run_id: str) -> list[Entry]:
        entries: list[Entry] = []
        follower = self._tail.follower(run_id)
        try:
            while batch := await follower.read():
                entries.extend(batch)
        finally:
            follower.close()
        return entries

    async def _found(self, run_id: str, owner: str | None, *, after: int = 0) -> Info:
        """The run that a client calls so; a run that began in another protocol goes by its own id.

        Raises:
            RunNotFoundError: Unknown, expired, or another's.
            KeyInvalidError: The id cannot be one.
            StoreUnavailableError: The store gave no answer.
        """
        try:
            return await self._tail.authorize(await self._derived(run_id, owner), owner, after=after)
        except RunNotFoundError:
            try:
                check_run_id(run_id)
            except KeyInvalidError:
                raise RunNotFoundError(run_id) from None
            return await self._tail.authorize(run_id, owner)

    async def _derived(self, run_id: str, owner: str | None) -> str:
        if len(run_id) > ID_CHARACTERS:
            raise KeyInvalidError(f"a runId has at most {ID_CHARACTERS} characters")
        return await self._tail.derive_run_id(run_id, owner=owner, kind=_KIND)


def _is_key(thread: str, owner: str | None) -> bool:
    """Whether knowing the thread's id gives a right to it: whose its runs are is checked, or nobody can guess it."""
    long_enough = owner is not None or len(thread) >= _SECRET_CHARACTERS
    return long_enough and len(thread) <= ID_CHARACTERS and thread.isprintable()


def _dialect_options(request: Request, declared: str | None) -> dict[str, object]:
    """How the dialect is spoken with this client.

    Raises:
        OptionInvalidError: The URL names a version that there is not.
    """
    version = request.query_params.get("protocol_version")
    if version is None and declared is not None and declared.startswith("1."):
        version = PROTOCOL_VERSION
    DIALECT.encoder(run_id="", protocol_version=version)
    return {} if version is None else {"protocol_version": version}


def _without(messages: Sequence[Message], run: Reduced) -> list[Message]:
    """The messages that are not the run's own."""
    own = {message.id for message in run.messages}
    return [message for message in messages if message.id is None or message.id not in own]


def _json(value: object, status: int = 200) -> Response:
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")
