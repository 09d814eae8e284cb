"""How much there may be of what users can add to."""

import msgspec

__all__ = ["Bounds"]


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of conversations.

    Attributes:
        text_characters: Of a user's message.
        parts_bytes: Of an answer, as JSON; beyond it what tools gave is left out, see `answers.encoded_parts`.
        messages: Of one conversation, all its branches together.
        conversation_bytes: Of one conversation, as JSON; it may grow beyond it by one turn.
        conversations: Of one owner.
        title_characters: Of a title.
    """

    text_characters: int = 100_000
    parts_bytes: int = 1024**2
    messages: int = 2_000
    conversation_bytes: int = 16 * 1024**2
    conversations: int = 10_000
    title_characters: int = 200
