"""What stands in the tables, as those who ask get it."""

from typing import Any

import msgspec

from tailrace.events import Usage
from tailrace.fold import Failure, Message, Part, RunStatus, TextPart

__all__ = [
    "ConversationDocument",
    "ConversationPage",
    "ConversationSummary",
    "OpenTurn",
    "StoredMessage",
    "text_of",
]


class OpenTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A turn that was begun and not finished."""

    run_id: str
    owner: str
    conversation_id: str
    answer_id: str
    begun_at_ms: int


class _Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """JSON without nulls."""


class StoredMessage(_Record, frozen=True, kw_only=True):
    """A message of a conversation.

    Attributes:
        siblings: The ids of all that follow the same message, this one included, in the order in which they came.
        text: The text parts, joined.
        usage: The tokens of the run, per (provider, model).
    """

    id: str
    role: str
    siblings: list[str]
    status: RunStatus
    parts: list[Part]
    text: str
    created_at_ms: int
    parent_id: str | None = None
    run_id: str | None = None
    finish_reason: str | None = None
    failure: Failure | None = None
    usage: list[Usage] | None = None
    suggestions: list[str] | None = None
    model: str | None = None
    finished_at_ms: int | None = None

    def folded(self) -> Message:
        """The message as agents and dialects know one."""
        return Message(id=self.id, role=self.role, parts=self.parts, finish_reason=self.finish_reason)


class ConversationSummary(_Record, frozen=True, kw_only=True):
    """A conversation without its messages; `running` if one of them is being written."""

    id: str
    title: str
    revision: int
    created_at_ms: int
    updated_at_ms: int
    running: bool
    head_id: str | None = None


class ConversationPage(_Record, frozen=True, kw_only=True):
    """Some of the conversations of an owner; there may be more if there is a cursor, even after a page without any."""

    conversations: list[ConversationSummary]
    next_cursor: str | None = None


class ConversationDocument(_Record, frozen=True, kw_only=True):
    """A conversation with the messages of the branch that is shown, or of all branches."""

    id: str
    title: str
    revision: int
    created_at_ms: int
    updated_at_ms: int
    messages: list[StoredMessage]
    head_id: str | None = None


def text_of(parts: list[Any]) -> str:
    """The text parts, joined."""
    return "".join(part.text for part in parts if isinstance(part, TextPart))
