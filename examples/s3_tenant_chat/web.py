"""The web server: `POST /chat` streams an agent's answer to a tenant's user, or gives it as JSON."""

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import msgspec
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.staticfiles import StaticFiles

from s3_tenant_chat.agent import Context, answer, suggestions
from s3_tenant_chat.conversations import Conversation, Conversations, Turn, new_conversation_id
from s3_tenant_chat.identity import DEMO, Caller, caller_of, demo_token, owner_of
from s3_tenant_chat.model import Message
from tailrace import Event, RunNotFoundError, RunResponse, Tailrace, new_run_id
from tailrace.web.body import read_json

#: Answers that one user may have under way.
RUNS_OF_ONE = 4
ANSWER_SECONDS = 120
BODY_BYTES = 32_768

app = FastAPI()
tail = Tailrace(owner=owner_of)
tail.install(app, "/runs")
app.add_middleware(
    CORSMiddleware,
    # Named pages only. The token goes in a header, so no cookies have to be let through.
    allow_origins=os.environ.get("ALLOWED_ORIGINS", "").split(),
    allow_methods=["GET", "POST"],
    allow_headers=["authorization", "content-type", "idempotency-key", "last-event-id"],
    expose_headers=["location"],
)
conversations = Conversations()


Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Question(msgspec.Struct):
    """What the page sends."""

    message: Annotated[str, msgspec.Meta(min_length=1, max_length=4_000)]
    conversation_id: Id | None = None
    branch_id: Id | None = None


async def question_of(request: Request) -> Question:
    """The body of the request, if it is small and JSON."""
    return await read_json(request, Question, limit_bytes=BODY_BYTES)


@app.post("/chat")
async def chat(
    caller: Annotated[Caller, Depends(caller_of)],
    question: Annotated[Question, Depends(question_of)],
    idempotency_key: Annotated[str | None, Header(max_length=256)] = None,
) -> RunResponse:
    owner = caller.owner
    conversation_id = question.conversation_id or new_conversation_id()
    if question.conversation_id and conversations.find(owner, conversation_id) is None:
        raise HTTPException(404, "There is no such conversation.")
    if len(await tail.active(owner=owner)) >= RUNS_OF_ONE:
        raise HTTPException(429, "Too many answers are under way.", {"retry-after": "5"})
    run_id = await tail.derive_run_id(idempotency_key, owner=owner) if idempotency_key else new_run_id()

    async def begin() -> AsyncGenerator[str | Event]:
        """Called once for a run, so a request that is sent again adds nothing to the conversation."""
        conversation = conversations.open(owner, conversation_id)
        await stop_answering(conversation)
        turn = Turn(question.message, run_id)
        conversation.turns.append(turn)
        return answer_turn(conversation, turn, Context(caller.token, question.branch_id))

    return tail.stream(
        begin,
        key=idempotency_key,
        fingerprint=[question.message, question.conversation_id],
        run_id=run_id,
        owner=owner,
        thread=conversation_id,
        dialect="tokens",
        json="unless-sse",
        timeout=ANSWER_SECONDS,
    )


async def stop_answering(conversation: Conversation) -> None:
    """A page may have stopped reading without saying more; the next question takes the place of the one before."""
    if conversation.turns:
        try:
            await tail.cancel(conversation.turns[-1].run_id, "superseded")
        except RunNotFoundError:
            return


async def answer_turn(conversation: Conversation, turn: Turn, context: Context) -> AsyncGenerator[str | Event]:
    """The run's source: the answer, kept as far as it came, and then what to ask next."""
    messages = history(conversation, turn)
    said: list[str] = []
    try:
        async with aclosing(answer(messages, context)) as pieces:
            async for piece in pieces:
                if isinstance(piece, str):
                    said.append(piece)
                yield piece
    finally:
        turn.answer = "".join(said)
    async for event in suggestions(messages):
        yield event


def history(conversation: Conversation, last: Turn) -> list[Message]:
    """What the model is told: the turns before, and the question."""
    messages: list[Message] = []
    for turn in conversation.turns:
        messages.append(Message("user", turn.question))
        if turn is not last:
            messages.append(Message("assistant", turn.answer))
    return messages


class Visitor(msgspec.Struct):
    """Who somebody wants to be, for a try."""

    tenant: Name
    user: Name


if DEMO:

    @app.post("/demo-token")
    async def sign_in(request: Request) -> dict[str, str]:
        visitor = await read_json(request, Visitor, limit_bytes=BODY_BYTES)
        return {"token": demo_token(visitor.tenant, visitor.user)}


app.mount("/", StaticFiles(directory=Path(__file__).with_name("page"), html=True))
