"""Users, what they ask, and how runs end, in few words."""

from collections.abc import Sequence
from typing import Any

import msgspec

from tailrace.chat.conversations.contract import BegunTurn, NewTurn
from tailrace.chat.conversations.store import Conversations
from tailrace.chat.identity.contract import Identity
from tailrace.events import Usage
from tailrace.fold import Message, Part, Reduced, RunStatus, TextPart

__all__ = ["ADA", "BOB", "ask", "ended", "talk", "texts", "turn"]

ADA = Identity(tenant="acme", subject="ada")
BOB = Identity(tenant="acme", subject="bob")


def turn(text: str, run: str, *, identity: Identity = ADA, thread: str = "c1", **more: Any) -> NewTurn:  # noqa: ANN401  fields of `NewTurn`
    """A turn; its run's and answer's ids begin with its owner's name, as they are never shared."""
    name = identity.subject
    asked = NewTurn(
        identity=identity, conversation_id=thread, text=text, run_id=f"{name}-{run}", answer_id=f"answer-{run}"
    )
    return msgspec.structs.replace(asked, **more)


async def ask(store: Conversations, text: str, run: str, **more: Any) -> BegunTurn:  # noqa: ANN401  see `turn`
    """Begin a turn."""
    return await store.begin(turn(text, run, **more))


def ended(
    text: str = "",
    *,
    status: RunStatus = "completed",
    usage: Sequence[Usage] = (),
    parts: Sequence[Part] | None = None,
    **more: Any,  # noqa: ANN401  fields of `Reduced`
) -> Reduced:
    """A run that said this."""
    said: list[Part] = [TextPart(id="p1", text=text, done=True)] if text else []
    if parts is not None:
        said = list(parts)
    messages = [Message(id="m1", role="assistant", parts=said)] if said else []
    return Reduced(status=status, messages=messages, usage=list(usage), **more)


async def talk(store: Conversations, text: str, run: str, answer: str, **more: Any) -> BegunTurn:  # noqa: ANN401  see `turn`
    """A whole turn."""
    asked = turn(text, run, **more)
    begun = await store.begin(asked)
    assert await store.finish(asked.run_id, ended(answer))
    return begun


def texts(messages: Sequence[Any]) -> list[str]:
    """What each says."""
    return [message.text for message in messages]
