"""The routes of the AI SDK's `useChat`, as its `DefaultChatTransport` of ai 5, 6 and 7 asks for them.

A chat's id is the thread of its runs. A stop and a resume name the chat, not the run, so they mean its newest one.
"""

import contextlib
from collections.abc import Awaitable, Iterable, Sequence
from itertools import dropwhile, takewhile
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace.errors import RunNotFoundError, StoreError, TailraceError
from tailrace.events import RunCompleted
from tailrace.fold import Message, Part, ReasoningPart, TextPart, ToolPart
from tailrace.runtime.keys import new_run_id
from tailrace.stores.contract import OPEN, Info
from tailrace.web.body import read_json
from tailrace.web.errors import RequestInvalidError, error_response
from tailrace.web.install import RouteRow
from tailrace.web.mounts.contract import AgentRequest, Surface
from tailrace.web.reader import ReaderResponse, RunReader
from tailrace.web.response import RunResponse, StartOptions
from tailrace.wire.cursor import START
from tailrace.wire.dialects.ai_sdk import CONTINUES, DIALECT

__all__ = ["AiSdkSurface"]

_BODY_BYTES = 8 * 1024**2
_STOP_BODY_BYTES = 4 * 1024
_BEGINNING_BYTES = 256 * 1024
_BEGINNING_DEPTH = 128
#: So long after its end an answer is still replayed to a client that asks whether there is one: it may have lost the
#: connection just before the end. Later it would be shown an old answer as a new one.
_REPLAYED_MS = 60_000
#: The AI SDK's own ids, 16 characters of 62, cannot be guessed. Shorter ones can, and are no key to anything.
_SECRET_CHARACTERS = 16
_ID_CHARACTERS = 128
_VERSION_HEADER = "ai-sdk-version"

_T = TypeVar("_T")

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=_ID_CHARACTERS)]
_ToolState = Literal["started", "ready", "running", "done", "error"]
_TOOL_STATES: dict[str, _ToolState] = {
    "input-streaming": "started",
    "output-available": "done",
    "output-error": "error",
    "output-denied": "error",
}


class _UIMessage(msgspec.Struct):
    role: Literal["system", "user", "assistant"]
    parts: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=2_000)]
    id: Annotated[str, msgspec.Meta(max_length=_ID_CHARACTERS)] = ""


class _ChatBody(msgspec.Struct):
    """What `sendMessage` and `regenerate` send; applications that send the last message only call it `message`."""

    id: _Id
    messages: Annotated[list[_UIMessage], msgspec.Meta(max_length=2_000)] = []
    message: _UIMessage | None = None
    trigger: Annotated[str, msgspec.Meta(max_length=64)] = "submit-message"
    model: Any = None


class _StopBody(msgspec.Struct):
    run_id: Annotated[str, msgspec.Meta(max_length=64)] | None = msgspec.field(default=None, name="runId")


class _TextIn(msgspec.Struct):
    text: str


class _ToolIn(msgspec.Struct, rename="camel"):
    tool_call_id: _Id
    tool_name: Annotated[str, msgspec.Meta(max_length=_ID_CHARACTERS)] | None = None
    state: str = ""
    input: Any = None
    output: Any = None
    error_text: str | None = None


class AiSdkSurface(Surface):
    """Answers `useChat`.

    Which version of the AI SDK a client has it says with `?sdk_version=` or the header `ai-sdk-version`: 5, 6 or 7.
    Without it gets what all of them understand. Where runs have no owners the chat's id is all that protects the
    chat: one under 16 characters can be answered in, but has no history, and is neither resumed nor, without a run's
    id, stopped.
    """

    path: ClassVar[str] = "/api/chat"
    tag: ClassVar[str] = "chat"

    def table(self) -> list[RouteRow]:
        """All routes."""
        return [
            RouteRow("/", "POST", self.chat, "Answer in a chat", (DIALECT.name,), body=_ChatBody),
            RouteRow("/{chat_id:path}/stream", "GET", self.resume, "The answer under way in a chat", (DIALECT.name,)),
            RouteRow("/{chat_id:path}/stop", "POST", self.stop, "Stop the answer in a chat"),
        ]

    async def chat(self, request: Request) -> Response:
        """`POST /`: start an answer. One that is still under way in the chat ends as `superseded`.

        The body has `id` and either `messages`, all of them, or the last one only, as `message` or alone in
        `messages`; then the ones before come from the history. If the last one is the assistant's, because the client
        ran a tool, the answer continues it.
        """
        try:
            owner = await self._tail.owner(request)
            options = _dialect_options(request)
            body = await read_json(request, dict[str, Any], limit_bytes=_BODY_BYTES)
            asked = _converted(body, _ChatBody)
            _check_id(asked.id)
            messages = await self._conversation(asked, owner)
            run_id = await self._run_id(request, owner)
        except TailraceError as error:
            return error_response(error, DIALECT)
        last = messages[-1]
        task = AgentRequest(
            text=last.text if last.role == "user" else "",
            messages=messages,
            thread=asked.id,
            owner=owner,
            model=asked.model if isinstance(asked.model, str) else None,
            body=body,
            request=request,
        )

        async def answer() -> object:
            # Called only if this request starts the run: a repeated one must not stop the run it means.
            await self._supersede(asked.id, owner, run_id)
            source: object = self._agent(task)
            return await cast("Awaitable[object]", source) if isinstance(source, Awaitable) else source

        continues = last.role == "assistant" and asked.trigger != "regenerate-message"
        start = StartOptions(
            run_id=run_id,
            # Of an id of its own there is no second request.
            fingerprint=[request.url.path, body] if "idempotency-key" in request.headers else None,
            owner=owner,
            thread=asked.id,
            message_id=last.id if continues else None,
            meta=_beginning(asked) if continues else None,
            dialect_options=options,
        )
        return RunResponse(self._tail, answer, dialect=DIALECT.name, options=start)

    async def resume(self, request: Request) -> Response:
        """`GET /{chat_id}/stream`: the chat's newest answer from its beginning, if it is under way or just completed.

        204 if there is none, as any other answer would put `useChat` into its error state.
        """
        try:
            options = _dialect_options(request)
            info = await self._newest(request.path_params["chat_id"], await self._tail.owner(request))
            if info is None or not await self._is_fresh(info):
                return _nothing()
            if request.method == "HEAD":
                return Response(None, 200, DIALECT.headers, media_type="text/event-stream")
            options = {**options, "replay": 1}
            # The URL does not name the run, so the ids do.
            reader = RunReader(self._tail, request, info.run_id, START, dialect=DIALECT, options=options, ids="run")
            return await ReaderResponse.opened(reader)
        except RunNotFoundError:
            return _nothing()
        except TailraceError as error:
            return error_response(error, DIALECT)

    async def stop(self, request: Request) -> Response:
        """`POST /{chat_id}/stop` `{"runId"?}`: stop that run, if it is of this chat, else the newest one.

        202 `{"accepted": true, "runId"}`. A run that has ended or is of another chat is left alone: 200 with `false`.
        """
        try:
            info = await self._meant(request)
            accepted = info is not None and await self._cancel(info.run_id)
        except TailraceError as error:
            return error_response(error, DIALECT)
        told = {"accepted": accepted, **({} if info is None else {"runId": info.run_id})}
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
        return Response(msgspec.json.encode(told), 202 if accepted else 200, headers, media_type="application/json")

    async def _conversation(self, asked: _ChatBody, owner: str | None) -> Sequence[Message]:
        """The messages, oldest first; at least one.

        Raises:
            RequestInvalidError: There is none, or one has a part that is none.
        """
        sent = _sent(asked)
        if not sent:
            raise RequestInvalidError("The body has neither messages nor a message.", status=422)
        messages = [_message(message) for message in sent]
        if self._history is None or len(messages) > 1 or not _is_key(asked.id, owner):
            return messages
        (last,) = messages
        known = await self._history.messages(asked.id, owner)
        # What is edited, answered anew or continued is known by its id already, and so is what followed it.
        return [*takewhile(lambda message: message.id is None or message.id != last.id, known), last]

    async def _run_id(self, request: Request, owner: str | None) -> str:
        key = request.headers.get("idempotency-key")
        return new_run_id() if key is None else await self._tail.derive_run_id(key, owner=owner)

    async def _supersede(self, chat_id: str, owner: str | None, run_id: str) -> None:
        """Stop what began in the chat before the run; of two that begin at the same time the later one goes on."""
        if not _is_key(chat_id, owner):
            return
        with contextlib.suppress(StoreError):
            newest_first = await self._tail.active(owner=owner, thread=chat_id)
            for info in dropwhile(lambda info: info.id != run_id, newest_first):
                if info.id != run_id and info.owner == owner:
                    await self._cancel(info.id, "superseded")

    async def _cancel(self, run_id: str, reason: Literal["user", "superseded"] = "user") -> bool:
        try:
            return await self._tail.cancel(run_id, reason)
        except RunNotFoundError:
            return False

    async def _newest(self, chat_id: str, owner: str | None) -> Info | None:
        """The run that began last in the chat, if the caller has a right to it."""
        if not _is_key(chat_id, owner):
            return None
        run_id = await self._tail.latest(chat_id, owner=owner)
        return None if run_id is None else await self._run_of(run_id, chat_id, owner)

    async def _run_of(self, run_id: str, chat_id: str, owner: str | None) -> Info | None:
        try:
            info = await self._tail.authorize(run_id, owner)
        except RunNotFoundError:
            return None
        return info if info.thread == chat_id else None

    async def _meant(self, request: Request) -> Info | None:
        """The run that a stop is about.

        Raises:
            RequestInvalidError: The chat's id gives no right to it, and the run is not named.
        """
        chat_id = request.path_params["chat_id"]
        owner = await self._tail.owner(request)
        run_id = await _named_run(request)
        if run_id is not None:
            return await self._run_of(run_id, chat_id, owner)
        if not _is_key(chat_id, owner):
            raise RequestInvalidError(f"A chat id under {_SECRET_CHARACTERS} characters needs a runId with it.")
        return await self._newest(chat_id, owner)

    async def _is_fresh(self, info: Info) -> bool:
        """Whether the run is under way, or completed a moment ago."""
        if info.state == OPEN:
            return True
        follower = self._tail.follower(info.run_id, info.last - 1)
        try:
            last = await follower.read(1)
        finally:
            follower.close()
        age_ms = self._tail.clock.time_ms() - last[0].at_ms if last else _REPLAYED_MS
        return age_ms < _REPLAYED_MS and isinstance(last[0].event, RunCompleted)


def _sent(asked: _ChatBody) -> list[_UIMessage]:
    return asked.messages or ([] if asked.message is None else [asked.message])


def _beginning(asked: _ChatBody) -> dict[str, Any] | None:
    """What the answer continues, for clients that come to it later, unless it is too much to be kept."""
    parts = _sent(asked)[-1].parts
    is_kept = _is_flat(parts, _BEGINNING_DEPTH) and len(msgspec.json.encode(parts)) <= _BEGINNING_BYTES
    return {CONTINUES: parts} if is_kept else None


def _is_flat(value: object, depth: int) -> bool:
    """Whether nothing in it is nested more deeply than that."""
    inner: Iterable[object] = ()
    if isinstance(value, dict):
        inner = cast("dict[str, object]", value).values()
    elif isinstance(value, list):
        inner = cast("list[object]", value)
    return depth > 0 and all(_is_flat(item, depth - 1) for item in inner)


def _is_key(chat_id: str, owner: str | None) -> bool:
    """Whether knowing the chat's id gives a right to its runs: whose they are is checked, or nobody can guess it."""
    long_enough = owner is not None or len(chat_id) >= _SECRET_CHARACTERS
    return long_enough and len(chat_id) <= _ID_CHARACTERS and chat_id.isprintable()


def _check_id(chat_id: str) -> None:
    """Refuse what no store should keep.

    Raises:
        RequestInvalidError: The id has characters that cannot be seen.
    """
    if not chat_id.isprintable():
        raise RequestInvalidError("A chat id is printable text.", status=422)


def _dialect_options(request: Request) -> dict[str, object]:
    """How the dialect is spoken with this client.

    Raises:
        OptionInvalidError: It has a version that there is not.
    """
    version = request.query_params.get("sdk_version") or request.headers.get(_VERSION_HEADER)
    DIALECT.encoder(run_id="", sdk_version=version or 5)
    return {} if version is None else {"sdk_version": version}


async def _named_run(request: Request) -> str | None:
    """The run that a stop names; a body is optional, and declared as JSON if it is there.

    Raises:
        RequestInvalidError: The body is something else.
    """
    if "content-type" not in request.headers:
        return None
    return (await read_json(request, _StopBody, limit_bytes=_STOP_BODY_BYTES)).run_id


def _nothing() -> Response:
    return Response(None, 204, {"cache-control": "no-store"})


def _converted(value: dict[str, Any], shape: type[_T]) -> _T:
    """The value as a `shape`.

    Raises:
        RequestInvalidError: It has another one.
    """
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise RequestInvalidError(f"The body is not what this route takes: {error}.", status=422) from None
    except RecursionError:
        raise RequestInvalidError("The body is nested too deeply.", status=422) from None


def _message(message: _UIMessage) -> Message:
    """What a model needs to know of a message; files and data parts stay in the request's body.

    Raises:
        RequestInvalidError: A part lacks what parts of its type have.
    """
    parts = [part for raw in message.parts if (part := _part(raw)) is not None]
    return Message(id=message.id or None, role=message.role, parts=parts)


def _part(raw: dict[str, Any]) -> Part | None:
    kind = raw.get("type")
    if kind == "text":
        return TextPart(text=_converted(raw, _TextIn).text, done=True)
    if kind == "reasoning":
        return ReasoningPart(text=_converted(raw, _TextIn).text, done=True)
    if isinstance(kind, str) and (kind == "dynamic-tool" or kind.startswith("tool-")):
        return _tool(_converted(raw, _ToolIn), kind.removeprefix("tool-"))
    return None


def _tool(call: _ToolIn, name: str) -> ToolPart:
    state = _TOOL_STATES.get(call.state, "ready")
    denied = call.state == "output-denied"
    return ToolPart(
        call_id=call.tool_call_id,
        name=call.tool_name or name,
        state=state,
        input=call.input,
        output=call.output,
        error={"code": "denied" if denied else "error", "message": call.error_text or ""} if state == "error" else None,
    )
