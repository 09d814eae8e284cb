"""What a chat's agent is asked, and what it is."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

import msgspec

from tailrace.chat.identity.contract import Identity
from tailrace.events import Event
from tailrace.fold import Message

__all__ = ["ChatAgent", "Question"]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One question of one user.

    Attributes:
        text: What the user wrote; empty if the last of the messages is not the user's.
        history: The messages before it, oldest first.
        identity: Who asks; its token is for tools, and for nothing that is kept.
        conversation_id: The conversation, if there is one.
        branch_id: Which part of the caller's business it is about; means something to tools only.
        client_tools: Tools that run at the client, as its protocol describes them.
    """

    text: str
    history: Sequence[Message] = ()
    identity: Identity
    conversation_id: str | None = None
    branch_id: str | None = None
    client_tools: Sequence[dict[str, Any]] = ()


class ChatAgent(Protocol):
    """Answers questions; one object for all of them, used by many at a time."""

    def answer(self, question: Question) -> AsyncIterator[Event | str]:
        """The answer, event by event; it may end with a terminal event. Closed by the caller, wherever it stands."""
        ...

    async def suggest(self, question: Question, answer: str) -> Sequence[str]:
        """What the user may want to ask next: at most three questions. Cancelled if it takes too long.

        Args:
            question: What was asked.
            answer: What was answered, whole.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what it holds; nobody asks it any more."""
        ...
