"""OpenAI's API around an agent: chat completions, responses with their background mode, and the list of models.

Whatever asks OpenAI's API for an answer can ask this one: only its base URL is another. Whose request it is, and
whether it may come at all, is for the `owner` function to say. The id of a response is `resp_` and that of its run.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Send

from tailrace.errors import RunNotFoundError, TailraceError
from tailrace.events import Entry, RunStarted
from tailrace.fold import Message, Reduced, TextPart, reduce
from tailrace.runtime.source import SourceLike
from tailrace.web.body import read_json
from tailrace.web.errors import RequestInvalidError, document_status, error_response
from tailrace.web.headers import stream_headers
from tailrace.web.install import RouteRow
from tailrace.web.mounts.contract import Agent, AgentRequest, History, Surface
from tailrace.web.mounts.openai_input import ChatBody, ResponseBody, chat_messages, input_messages, newest_text
from tailrace.web.reader import ReaderResponse, RunReader
from tailrace.web.response import RunResponse, StartOptions
from tailrace.web.service import RunService
from tailrace.wire.cursor import START
from tailrace.wire.dialects import openai, openai_responses

__all__ = ["OpenAISurface"]

_BODY_BYTES = 8 * 1024**2
_LONGEST_NAME = 128
#: What a response was asked is kept beside its answer, in the first event of its run, if it is not larger than this.
_KEPT_INPUT_BYTES = 512 * 1024
_LONGEST_CHAIN = 50
_CHAIN_BYTES = 8 * 1024**2
#: How long the answer to a cancel waits for the run to have ended.
_CANCEL_SECONDS = 5.0
#: Where runs have no owners a conversation's id is all that protects what was said in it, and a shorter one can be
#: guessed.
_SECRET_CHARACTERS = 20
#: A place in a response, as a decimal number.
_LONGEST_NUMBER = 15

_TOO_DEEP = "The body is nested too deeply."
_PREFIX = "resp_"
_META = "openai_response"
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
#: OpenAI's clients repeat a request after any 5xx, unless told not to: a run that failed has been paid for.
_DO_NOT_RETRY = {"x-should-retry": "false"}

_Shape = TypeVar("_Shape")
_Dialect: TypeAlias = openai.OpenAIChat | openai_responses.OpenAIResponses


class OpenAISurface(Surface):
    """Installed under `/v1`; `models` are the names that clients may choose from, and any other is let through.

    Attributes:
        models: What `GET /models` lists; the first is the one of a request that names none.
    """

    path: ClassVar[str] = "/v1"
    tag: ClassVar[str] = "OpenAI"

    def __init__(
        self,
        tail: RunService,
        agent: Agent,
        history: History | None = None,
        *,
        models: Sequence[str] = ("tailrace",),
    ) -> None:
        """Bind the routes.

        Args:
            tail: The runs.
            agent: Called for each request that starts a run; what it returns is streamed.
            history: Where a response's `conversation` is kept, if it is.
            models: The names of the models.

        Raises:
            ValueError: There is no name.
        """
        super().__init__(tail, agent, history)
        if not models:
            raise ValueError("a surface has at least one model")
        self.models = tuple(models)

    def table(self) -> list[RouteRow]:
        """All routes, below the path."""
        return [
            RouteRow("/chat/completions", "POST", self.chat, "A chat completion", ("openai",), body=ChatBody),
            RouteRow("/responses", "POST", self.respond, "A response", ("openai-responses",), body=ResponseBody),
            RouteRow(
                "/responses/{response_id}",
                "GET",
                self.response,
                "A response so far",
                ("openai-responses",),
                query={"stream": "true: its events", "starting_after": "Only those after this number"},
            ),
            RouteRow("/responses/{response_id}/cancel", "POST", self.cancel, "Ask a response to stop"),
            RouteRow("/models", "GET", self.list_models, "The models"),
            RouteRow("/models/{model:path}", "GET", self.model, "A model"),
        ]

    # Starting --------------------------------------------------------------------------------------------------------

    async def chat(self, request: Request) -> Response:
        """`POST /chat/completions`: chunks with `stream`, else a completion when the run has ended."""
        owner = await self._tail.owner(request)
        try:
            raw, body = await _body(request, ChatBody)
            model = _short(body.model, "model") or self.models[0]
            messages = chat_messages(body.messages)
        except TailraceError as error:
            return error_response(error, openai.DIALECT)
        asked = AgentRequest(
            text=newest_text(messages),
            messages=messages,
            owner=owner,
            model=model,
            tools=body.tools or (),
            body=raw,
            request=request,
        )
        include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        options = StartOptions(
            fingerprint=[request.url.path, raw],
            owner=owner,
            json="never",
            model=model,
            dialect_options={"include_usage": include_usage} if include_usage else {},
        )
        return self._start(openai.DIALECT, asked, options, streams=bool(body.stream))

    async def respond(self, request: Request) -> Response:
        """`POST /responses`: events with `stream`; else the response, at once if it is to run in the background."""
        owner = await self._tail.owner(request)
        try:
            raw, body = await _body(request, ResponseBody)
            model = _short(body.model, "model") or self.models[0]
            thread = _short(body.thread, "conversation")
            messages = [*await self._before(body, owner, thread), *input_messages(body.input)]
            meta = _kept(body, raw)
        except TailraceError as error:
            return error_response(error, openai_responses.DIALECT)
        asked = AgentRequest(
            text=newest_text(messages),
            messages=messages,
            thread=thread,
            owner=owner,
            model=model,
            tools=body.tools or (),
            body=raw,
            request=request,
        )
        options = StartOptions(
            fingerprint=[request.url.path, raw],
            owner=owner,
            thread=thread,
            json="never",
            model=model,
            meta=meta,
        )
        streams, waits = bool(body.stream), not body.background
        return self._start(openai_responses.DIALECT, asked, options, streams=streams, waits=waits)

    def _start(
        self, dialect: _Dialect, asked: AgentRequest, options: StartOptions, *, streams: bool, waits: bool = True
    ) -> Response:
        def source() -> Any:  # noqa: ANN401  whatever the agent makes
            return self._agent(asked)

        if streams:
            return RunResponse(self._tail, source, dialect=dialect.name, options=options)
        return _DocumentResponse(self._tail, source, dialect=dialect, options=options, waits=waits)

    # What was said before --------------------------------------------------------------------------------------------

    async def _before(self, body: ResponseBody, owner: str | None, thread: str | None) -> list[Message]:
        before: list[Message] = []
        if body.instructions:
            before.append(Message(role="system", parts=[TextPart(text=body.instructions, done=True)]))
        if self._history is not None and thread is not None and _is_key(thread, owner):
            before.extend(await self._history.messages(thread, owner))
        if body.previous_response_id is not None:
            before.extend(await self._chain(body.previous_response_id, owner))
        return before

    async def _chain(self, response_id: str, owner: str | None) -> list[Message]:
        """What was asked and answered in a response and those that it continued.

        Raises:
            RequestInvalidError: One of them is unknown, does not say what it was asked, or they are too many or long.
        """
        turns: list[list[Message]] = []
        size = 0
        earlier: str | None = response_id
        while earlier is not None:
            if len(turns) == _LONGEST_CHAIN:
                raise RequestInvalidError(f"More than {_LONGEST_CHAIN} responses continue each other.")
            try:
                entries = await _so_far(self._tail, await self._authorized(earlier, owner))
            except RunNotFoundError:
                raise RequestInvalidError("There is no such previous response.") from None
            remembered = _remembered(entries)
            if remembered is None:
                raise RequestInvalidError("The previous response does not keep what it was asked.")
            asked, earlier = remembered
            turns.append([*asked, *reduce(entries).messages])
            size += len(msgspec.json.encode(turns[-1]))
            if size > _CHAIN_BYTES:
                raise RequestInvalidError("The responses that continue each other are too long together.")
        return [message for turn in reversed(turns) for message in turn]

    # Responses that exist --------------------------------------------------------------------------------------------

    async def response(self, request: Request) -> Response:
        """`GET /responses/{id}`: as it is now; with `?stream=true` its events, after number `?starting_after=`."""
        dialect = openai_responses.DIALECT
        try:
            streams = request.query_params.get("stream", "").lower() == "true"
            skip_frames = _frames_before(request.query_params.get("starting_after"))
            run_id = await self._authorized(request.path_params["response_id"], await self._tail.owner(request))
            if not streams:
                return _document(dialect, await _so_far(self._tail, run_id), run_id)
            if request.method == "HEAD":
                response = Response(None, 200)
                response.raw_headers = stream_headers(dialect.headers)
                return response
            reader = RunReader(self._tail, request, run_id, START, dialect=dialect, skip_frames=skip_frames)
            return await ReaderResponse.opened(reader)
        except TailraceError as error:
            return error_response(error, dialect)

    async def cancel(self, request: Request) -> Response:
        """`POST /responses/{id}/cancel`: the response, ended if that did not take too long; as it was if it had."""
        dialect = openai_responses.DIALECT
        try:
            run_id = await self._authorized(request.path_params["response_id"], await self._tail.owner(request))
            await self._tail.cancel(run_id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CANCEL_SECONDS):
                    return _document(dialect, await _whole(self._tail, run_id), run_id)
            return _document(dialect, await _so_far(self._tail, run_id), run_id)
        except TailraceError as error:
            return error_response(error, dialect)

    async def _authorized(self, response_id: str, owner: str | None) -> str:
        """The run of a response.

        Raises:
            RunNotFoundError: It is no response, or not the caller's.
        """
        run_id = response_id.removeprefix(_PREFIX)
        if run_id == response_id or len(run_id) > _LONGEST_NAME:
            raise RunNotFoundError(response_id)
        await self._tail.authorize(run_id, owner)
        return run_id

    # Models ----------------------------------------------------------------------------------------------------------

    async def list_models(self, request: Request) -> Response:
        """`GET /models`."""
        await self._tail.owner(request)
        return _json({"object": "list", "data": [_model(name) for name in self.models]})

    async def model(self, request: Request) -> Response:
        """`GET /models/{id}`."""
        await self._tail.owner(request)
        name = request.path_params["model"].rstrip("/")
        if name not in self.models:
            return Response(
                openai.DIALECT.error(404, "model_not_found", "There is no such model."),
                404,
                _HEADERS,
                media_type="application/json",
            )
        return _json(_model(name))


class _DocumentResponse(RunResponse):
    """One document: when the run has ended, or of the run as it has begun.

    OpenAI's clients have no word for "look there for it later" in an answer that they wait for, so the wait is bounded
    by the run's own end and by the client's patience.
    """

    def __init__(
        self, tail: RunService, source: SourceLike, *, dialect: _Dialect, options: StartOptions, waits: bool
    ) -> None:
        super().__init__(tail, source, dialect=dialect.name, options=options)
        self._spoken = dialect
        self._waits = waits

    async def _answer(self, reader: RunReader, request: Request, receive: Receive, send: Send) -> None:
        run_id = reader.run_id
        try:
            if not self._waits:
                response = _document(self._spoken, await _so_far(self._tail, run_id), run_id)
            elif (entries := await _whole_unless_left(self._tail, run_id, receive)) is not None:
                response = _document(self._spoken, entries, run_id, _status(reduce(entries)))
            else:
                return
        except TailraceError as error:
            response = error_response(error, self._spoken)
        await response(request.scope, receive, send)


async def _so_far(tail: RunService, run_id: str) -> list[Entry]:
    """The log as it is; of a run that has just begun, its first event is waited for."""
    follower = tail.follower(run_id)
    try:
        await follower.place()
        entries: list[Entry] = []
        while batch := await follower.read():
            entries.extend(batch)
        while not entries:
            await follower.wait()
            entries.extend(await follower.read())
        return entries
    finally:
        follower.close()


async def _whole(tail: RunService, run_id: str) -> list[Entry]:
    return [entry async for entry in tail.follow(run_id)]


async def _whole_unless_left(tail: RunService, run_id: str, receive: Receive) -> list[Entry] | None:
    """The log when the run has ended; nothing if the client has left before."""
    collect = asyncio.create_task(_whole(tail, run_id))
    leave = asyncio.create_task(_left(receive))
    try:
        await asyncio.wait({collect, leave}, return_when="FIRST_COMPLETED")
        return collect.result() if collect.done() else None
    finally:
        collect.cancel()
        leave.cancel()
        await asyncio.wait({collect, leave})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _document(dialect: _Dialect, entries: Sequence[Entry], run_id: str, status: int = 200) -> Response:
    headers = _HEADERS if status == 200 else {**_HEADERS, **_DO_NOT_RETRY}
    body = dialect.document_of(entries, run_id=run_id)
    return Response(body, status, headers, media_type="application/json")


def _status(reduced: Reduced) -> int:
    return 503 if reduced.status == "interrupted" else document_status(reduced)


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), 200, _HEADERS, media_type="application/json")


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "tailrace"}


async def _body(request: Request, shape: type[_Shape]) -> tuple[dict[str, Any], _Shape]:
    """The body as it came, and as far as the routes need it.

    Raises:
        RequestInvalidError: It is too long, or not what the protocol says.
    """
    try:
        raw = await read_json(request, dict[str, Any], limit_bytes=_BODY_BYTES)
        return raw, msgspec.convert(raw, shape)
    except msgspec.ValidationError as error:
        raise RequestInvalidError(f"The body is not what this route takes: {error}.") from None
    except RecursionError:
        raise RequestInvalidError(_TOO_DEEP) from None
    except RequestInvalidError as error:
        # What others call unprocessable, OpenAI's clients know as a bad request.
        raise RequestInvalidError(str(error), status=400 if error.status == 422 else error.status) from None


def _short(name: str | None, what: str) -> str | None:
    """A name that a client chose.

    Raises:
        RequestInvalidError: It is too long, or has characters that cannot be seen.
    """
    if name is not None and not (len(name) <= _LONGEST_NAME and name.isprintable()):
        raise RequestInvalidError(f"{what} is printable text of at most {_LONGEST_NAME} characters.")
    return name or None


def _is_key(thread: str, owner: str | None) -> bool:
    """Whether knowing the conversation's id gives a right to it: whose it is is checked, or nobody can guess it."""
    return owner is not None or len(thread) >= _SECRET_CHARACTERS


def _frames_before(starting_after: str | None) -> int:
    """How many events a client has that has seen this number.

    Raises:
        RequestInvalidError: It is no number.
    """
    if starting_after is None:
        return 0
    if not (starting_after.isascii() and starting_after.isdigit() and len(starting_after) <= _LONGEST_NUMBER):
        raise RequestInvalidError("starting_after is the number of an event.")
    return int(starting_after) + 1


def _kept(body: ResponseBody, raw: dict[str, Any]) -> dict[str, Any] | None:
    """What the run remembers of its request, so that another can continue it: the input, as JSON text.

    Raises:
        RequestInvalidError: The input is nested too deeply.
    """
    if body.store is False:
        return None
    try:
        asked = msgspec.json.encode(raw.get("input", [])).decode()
    except RecursionError:
        raise RequestInvalidError(_TOO_DEEP) from None
    if len(msgspec.json.encode(asked)) > _KEPT_INPUT_BYTES:
        return None
    return {_META: {"input": asked, "previous_response_id": body.previous_response_id}}


def _remembered(entries: Sequence[Entry]) -> tuple[list[Message], str | None] | None:
    """What a response was asked, and which one it continues; `None` if it does not remember."""
    started = entries[0].event
    kept = (started.meta or {}).get(_META) if isinstance(started, RunStarted) else None
    if kept is None:
        return None
    asked = msgspec.convert({"input": msgspec.json.decode(kept["input"])}, ResponseBody)
    return input_messages(asked.input), kept.get("previous_response_id")
