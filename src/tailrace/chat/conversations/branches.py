"""The tree of a conversation's messages, as questions to the database: a branch, its siblings, its newest leaf."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, select

from tailrace.chat.conversations.tables import messages

__all__ = ["branch", "children", "newest_leaf", "of_conversation"]


def of_conversation(owner: str, conversation_id: str) -> ColumnElement[bool]:
    """Whether a message is of this conversation."""
    return (messages.c.owner == owner) & (messages.c.conversation_id == conversation_id)


def branch(owner: str, conversation_id: str, leaf_id: str) -> Select[Any]:
    """The rows from the first message to this one."""
    path = (
        select(messages.c.id, messages.c.parent_id)
        .where(of_conversation(owner, conversation_id), messages.c.id == leaf_id)
        .cte("path", recursive=True)
    )
    above = messages.alias("above")
    path = path.union_all(
        select(above.c.id, above.c.parent_id).join(
            path,
            (above.c.owner == owner) & (above.c.conversation_id == conversation_id) & (above.c.id == path.c.parent_id),
        )
    )
    # A message comes after the one it follows, so their numbers are in the order of the branch.
    return (
        select(messages)
        .join(path, messages.c.id == path.c.id)
        .where(of_conversation(owner, conversation_id))
        .order_by(messages.c.position)
    )


def newest_leaf(owner: str, conversation_id: str, message_id: str) -> Select[Any]:
    """The id of the newest message among this one and those below it; thus of a leaf. Nothing if it is unknown."""
    tree = (
        select(messages.c.id, messages.c.position)
        .where(of_conversation(owner, conversation_id), messages.c.id == message_id)
        .cte("tree", recursive=True)
    )
    below = messages.alias("below")
    tree = tree.union_all(
        select(below.c.id, below.c.position).join(
            tree,
            (below.c.owner == owner) & (below.c.conversation_id == conversation_id) & (below.c.parent_id == tree.c.id),
        )
    )
    return select(tree.c.id).order_by(tree.c.position.desc()).limit(1)


def children(owner: str, conversation_id: str, parent_ids: Collection[str | None]) -> "Select[Any, Any]":
    """`parent_id` and `id` of all that follow these messages, in the order in which they came."""
    known = [parent_id for parent_id in parent_ids if parent_id is not None]
    # The empty text stands for no message: an id is never empty.
    followed = func.coalesce(messages.c.parent_id, literal(""))
    wanted = followed.in_([*known, *([""] if len(known) < len(parent_ids) else [])])
    return (
        select(messages.c.parent_id, messages.c.id)
        .where(of_conversation(owner, conversation_id), wanted)
        .order_by(messages.c.position)
    )
