"""Conversations, in memory: of each owner the newest, of each conversation the last turns.

Yours would be in a database.
"""

import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass, field

__all__ = ["Conversation", "Conversations", "Turn", "new_conversation_id"]

_OWNERS = 1_000
_CONVERSATIONS = 50
_TURNS = 20


@dataclass(slots=True)
class Turn:
    """A question and what was answered, as far as the answer came. `run_id` is the run that answers."""

    question: str
    run_id: str
    answer: str = ""


@dataclass(slots=True)
class Conversation:
    """The last turns, oldest first."""

    turns: deque[Turn] = field(default_factory=lambda: deque(maxlen=_TURNS))


class Conversations:
    """What was said, by owner and conversation; what was not used for longest is forgotten first."""

    def __init__(self) -> None:
        self._owners: OrderedDict[str, OrderedDict[str, Conversation]] = OrderedDict()

    def find(self, owner: str, conversation_id: str) -> Conversation | None:
        """This owner's conversation; another's is as unknown as one that never was."""
        return self._owners.get(owner, OrderedDict()).get(conversation_id)

    def open(self, owner: str, conversation_id: str) -> Conversation:
        """The conversation, begun if it is new."""
        owned = self._owners.setdefault(owner, OrderedDict())
        conversation = owned.setdefault(conversation_id, Conversation())
        self._owners.move_to_end(owner)
        owned.move_to_end(conversation_id)
        if len(owned) > _CONVERSATIONS:
            owned.popitem(last=False)
        if len(self._owners) > _OWNERS:
            self._owners.popitem(last=False)
        return conversation


def new_conversation_id() -> str:
    """An id that cannot be guessed."""
    return f"conv_{secrets.token_urlsafe(12)}"
