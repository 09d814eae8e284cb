"""What a turn of a conversation is to the store of conversations, when it begins and when it has ended."""

from collections.abc import Sequence

import msgspec

from tailrace.chat.identity.contract import Identity
from tailrace.fold import Message

__all__ = ["BegunTurn", "NewTurn"]


class NewTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A user's message and the answer that begins.

    Attributes:
        identity: Whose conversation it is.
        conversation_id: The conversation; it begins if the owner has none of this id. Unique per owner only.
        text: What the user wrote.
        run_id: The run that answers.
        answer_id: The id of the answer's message, the same as in the run's log.
        message_id: The id of the user's message, if the client gave it one. A message of this conversation that is
            known by it is answered anew, beside its other answers.
        after: Ids of messages that the user's may follow, best first; the first known one counts. Without one it
            follows the conversation's head. An empty id means: it is the first message.
        continues: The answer that goes on, as the client has it, if the last word is not the user's: what tools that
            run at the client gave is taken over into calls that were left open, and nothing else. If it has the
            answer's id, the answer is written on there.
        model: What answers.
    """

    identity: Identity
    conversation_id: str
    text: str
    run_id: str
    answer_id: str
    message_id: str | None = None
    after: Sequence[str] | None = None
    continues: Message | None = None
    model: str | None = None


class BegunTurn(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the database once a turn has begun.

    Attributes:
        conversation_id: The conversation.
        message_id: The user's message.
        text: What it says: of a message that is answered anew, what it said before; nothing if an answer goes on.
        history: The messages before it, oldest first.
    """

    conversation_id: str
    message_id: str
    text: str
    history: Sequence[Message]
