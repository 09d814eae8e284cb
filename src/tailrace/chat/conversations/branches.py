"""The tree of a conversation's messages: a branch, its siblings, its newest leaf."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, select
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from tailrace.chat.conversations.tables import messages

__all__ = ["branch", "children", "newest_leaf", "of_conversation"]


def of_conversation(owner: str, conversation_id: str) -> ColumnElement[bool]:
    """Whether a message is of this conversation."""
    return (messages.c.owner == owner) & (messages.c.conversation_id == conversation_id)


# Branches are walked here, not in the database: how that does it depends on how long it believes a conversation to be,
# and for a long one among many short ones PostgreSQL is wrong by seconds.


async def branch(connection: AsyncConnection, owner: str, conversation_id: str, leaf_id: str | None) -> list[Row[Any]]:
    """The rows from the first message to this one; none if it is unknown."""
    beside = dict(await _tree(connection, owner, conversation_id))
    path: list[str] = []
    while leaf_id is not None and leaf_id in beside:
        path.append(leaf_id)
        leaf_id = beside.pop(leaf_id)
    wanted = select(messages).where(of_conversation(owner, conversation_id)).order_by(messages.c.position)
    if beside:
        wanted = wanted.where(messages.c.id.in_(path))
    on_path = set(path)
    # Another one may have come in between.
    return [row for row in await connection.execute(wanted) if row.id in on_path]


async def newest_leaf(connection: AsyncConnection, owner: str, conversation_id: str, message_id: str) -> str | None:
    """The id of the newest message among this one and those below it; thus of a leaf. Nothing if it is unknown."""
    below: dict[str, None] = {}
    for each_id, parent_id in await _tree(connection, owner, conversation_id):
        if each_id == message_id or parent_id in below:
            below[each_id] = None
    return next(reversed(below), None)


async def _tree(connection: AsyncConnection, owner: str, conversation_id: str) -> list[tuple[str, str | None]]:
    """`id` and `parent_id` of all messages, each after the one that it follows."""
    columns = (messages.c.id, messages.c.parent_id)
    wanted = select(*columns).where(of_conversation(owner, conversation_id)).order_by(messages.c.position)
    return [(row.id, row.parent_id) for row in await connection.execute(wanted)]


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
