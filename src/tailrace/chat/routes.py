"""`POST /chat`, the same agent for the protocols of others, and whether the server lives."""

import secrets

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tailrace import Tailrace
from tailrace.chat.identity.contract import Identity, identity_of
from tailrace.chat.turns import Ask, Turns
from tailrace.fold import Message
from tailrace.web.body import read_json
from tailrace.web.errors import RequestInvalidError
from tailrace.web.install import RouteRow
from tailrace.web.mounts.contract import AgentRequest

__all__ = ["ChatRequest", "ChatRoutes", "ChatTerms"]

_ID_CHARACTERS = 128
#: The dialect whose pages show suggestions before they take the answer for complete, and so long they wait for them.
_WAITS_FOR_SUGGESTIONS = "tokens"


class ChatRequest(msgspec.Struct, frozen=True):
    """The body of `POST /chat`.

    Attributes:
        message: What the user says.
        conversation_id: Where; a new conversation without it.
        branch_id: Context of the application's own, passed through to tools.
        parent_id: The message that this one follows, if it is not the newest: that is how one is edited. Empty for the
            first message of a conversation.
        regenerate: Instead of `message`: the user's message that is to be answered anew.
    """

    message: str = ""
    conversation_id: str | None = None
    branch_id: str | None = None
    parent_id: str | None = None
    regenerate: str | None = None


class ChatTerms(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of a turn.

    Attributes:
        message_characters: How long a message may be.
        body_bytes: How long the body around it may be.
        run_seconds: How long an answer may take; `None` is no bound.
        suggests: Whether the user is told what else to ask.
        suggestion_seconds: How long a page that waits for suggestions waits at most.
    """

    message_characters: int = 32_000
    body_bytes: int = 256 * 1024
    run_seconds: float | None = None
    suggests: bool = True
    suggestion_seconds: float = 3.0


class ChatRoutes:
    """The endpoints around one agent."""

    def __init__(self, tail: Tailrace, turns: Turns, terms: ChatTerms) -> None:
        """Bind them."""
        self._tail = tail
        self._turns = turns
        self._terms = terms

    def table(self) -> list[RouteRow]:
        """All routes."""
        return [
            RouteRow(
                "/chat",
                "POST",
                self.start,
                "Say something, and stream the answer",
                dialects=(),
                body=ChatRequest,
                query={"dialect": "How the answer is written; by default `native`."},
            ),
            RouteRow("/healthz", "GET", self.alive, "Whether the process answers"),
            RouteRow("/readyz", "GET", self.ready, "Whether new runs are welcome"),
        ]

    async def start(self, request: Request) -> Response:
        """`POST /chat`: start a run for a message and stream it in `?dialect=`.

        Raises:
            RefusedError: The body is not what it should be, or the caller has not proven who it is.
            DialectNotFoundError: There is no such dialect.
        """
        identity = await self.identity(request)
        body = await self._read(request)
        dialect = request.query_params.get("dialect", "native")
        conversation_id = body.conversation_id or await self._new_conversation(request, identity)
        ask = Ask(
            identity=identity,
            text=body.message,
            conversation_id=conversation_id,
            message_id=body.regenerate,
            after=None if body.parent_id is None else [body.parent_id],
            branch_id=body.branch_id,
            suggestion_seconds=self._terms.suggestion_seconds if dialect == _WAITS_FOR_SUGGESTIONS else 0,
        )
        return self._tail.stream(
            self._turns.source(ask),
            thread=conversation_id,
            dialect=dialect,
            timeout=self._terms.run_seconds,
            fingerprint=msgspec.structs.astuple(body),
        )

    async def answer(self, asked: AgentRequest) -> object:
        """The source for a request of another protocol.

        Raises:
            RefusedError: It is not admitted, or no message.
        """
        self._check_length(asked.text)
        *before, last = asked.messages or [Message(role="user")]
        is_question = last.role == "user"
        ask = Ask(
            identity=_known(asked),
            text=asked.text if is_question else "",
            conversation_id=asked.thread,
            message_id=last.id if is_question else None,
            after=[message.id for message in reversed(before) if message.id] or None,
            continues=None if is_question else last,
            history=before if is_question else asked.messages,
            client_tools=asked.tools,
        )
        return await self._turns.source(ask)()

    async def identity(self, request: Request) -> Identity:
        """Whose request it is; without identities everybody's is the same.

        Raises:
            RefusedError: The caller has not proven who it is.
        """
        owner = await self._tail.owner(request)
        return identity_of(request) or _nobody(owner)

    async def alive(self, _: Request) -> Response:
        """`GET /healthz`: the process answers."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """`GET /readyz`: 200 while new runs are welcome."""
        if self._tail.draining:
            return JSONResponse({"status": "draining"}, 503)
        return JSONResponse({"status": "ready"})

    async def _new_conversation(self, request: Request, identity: Identity) -> str:
        """The id of a conversation that begins; the same for a request that comes again, whose first may have failed.

        Raises:
            KeyInvalidError: The idempotency key cannot be used.
            StoreUnavailableError: The store, which derives ids from keys, gave no answer.
        """
        key = request.headers.get("idempotency-key")
        if key is None:
            return f"conv_{secrets.token_hex(8)}"
        return f"conv_{await self._tail.derive_run_id(key, owner=identity.owner, kind='conversation')}"

    async def _read(self, request: Request) -> ChatRequest:
        """The body, as far as its size and shape allow.

        Raises:
            RequestInvalidError: They do not.
        """
        body = await read_json(request, ChatRequest, limit_bytes=self._terms.body_bytes)
        if body.regenerate is not None:
            if body.message or not body.conversation_id or not body.regenerate:
                reason = "To regenerate takes the id of a message and of its conversation, and no message."
                raise RequestInvalidError(reason, status=422)
        elif not body.message.strip():
            raise RequestInvalidError("There is no message.", status=422)
        self._check_length(body.message)
        if "/" in (body.conversation_id or ""):
            raise RequestInvalidError("The id of a conversation has no slash in it.", status=422)
        if not all(map(_is_id, (body.conversation_id, body.branch_id, body.parent_id, body.regenerate))):
            raise RequestInvalidError(f"An id has at most {_ID_CHARACTERS} characters that can be seen.", status=422)
        return body

    def _check_length(self, text: str) -> None:
        """Refuse a message that is too long.

        Raises:
            RequestInvalidError: It is.
        """
        longest = self._terms.message_characters
        if len(text) > longest:
            raise RequestInvalidError(f"A message has at most {longest} characters.", status=422)


def _is_id(text: str | None) -> bool:
    return text is None or (len(text) <= _ID_CHARACTERS and text.isprintable())


def _known(asked: AgentRequest) -> Identity:
    identity = identity_of(asked.request) if asked.request is not None else None
    return identity or _nobody(asked.owner)


def _nobody(owner: str | None) -> Identity:
    """Who asks where the application has no identities: whoever its `owner` function names, or everybody."""
    return Identity(tenant="", subject=owner or "")
