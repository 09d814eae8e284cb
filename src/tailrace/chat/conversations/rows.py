"""Rows as records, and the few questions that everybody asks of the tables."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from tailrace.chat.conversations.records import ConversationSummary, OpenTurn, StoredMessage, text_of
from tailrace.chat.conversations.refusals import ConversationNotFoundError
from tailrace.chat.conversations.tables import conversations, turns
from tailrace.chat.conversations.wording import plain, searchable
from tailrace.events import Usage
from tailrace.fold import Failure, Message, Part

__all__ = [
    "ID_CHARACTERS",
    "decoded_parts",
    "find_conversation",
    "history_of",
    "is_id",
    "is_text",
    "lock_conversation",
    "message_of",
    "model_name",
    "open_turns",
    "parts_of_row",
    "running_among",
    "summary_of",
    "the_conversation",
    "titled",
]

#: Of any id, a client's or our own.
ID_CHARACTERS = 128
_MODEL_CHARACTERS = 128

#: The parts of a message, from JSON text.
decoded_parts: Callable[[str], list[Part]] = msgspec.json.Decoder(list[Part]).decode


def is_text(text: str) -> bool:
    """Whether every database keeps it as it is."""
    return plain(text) == text


def is_id(text: str) -> bool:
    """Whether there can be a row of this id."""
    return 0 < len(text) <= ID_CHARACTERS and is_text(text)


def model_name(name: str | None) -> str | None:
    """The name of a model as it is kept."""
    return None if name is None else plain(name)[:_MODEL_CHARACTERS]


def titled(title: str, source: str) -> dict[str, str]:
    """The columns of a title."""
    return {"title": title, "title_source": source, "title_search": searchable(title)}


def the_conversation(owner: str, conversation_id: str) -> ColumnElement[bool]:
    """Whether it is this one."""
    return (conversations.c.owner == owner) & (conversations.c.id == conversation_id)


def open_turns() -> Select[Any]:
    """The columns of `OpenTurn`, oldest first."""
    columns = (turns.c[name] for name in OpenTurn.__struct_fields__)
    return select(*columns).order_by(turns.c.begun_at_ms, turns.c.run_id)


async def lock_conversation(connection: AsyncConnection, owner: str, conversation_id: str) -> Row[Any] | None:
    """The row, which nobody else changes before this transaction ends; nothing if there is none."""
    found = await connection.execute(
        select(conversations).where(the_conversation(owner, conversation_id)).with_for_update()
    )
    return found.one_or_none()


async def find_conversation(connection: AsyncConnection, owner: str, conversation_id: str) -> Row[Any]:
    """The row.

    Raises:
        ConversationNotFoundError: There is none.
    """
    row = None
    if is_id(conversation_id):
        found = await connection.execute(select(conversations).where(the_conversation(owner, conversation_id)))
        row = found.one_or_none()
    if row is None:
        raise ConversationNotFoundError
    return row


async def running_among(connection: AsyncConnection, owner: str, conversation_ids: Sequence[str]) -> set[str]:
    """Those of the conversations that have an open turn."""
    wanted = select(turns.c.conversation_id).where(
        turns.c.owner == owner, turns.c.conversation_id.in_(conversation_ids)
    )
    return set((await connection.execute(wanted)).scalars())


def parts_of_row(row: Row[Any]) -> list[Part]:
    """The parts of a message."""
    return decoded_parts(row.parts)


def history_of(rows: Sequence[Row[Any]]) -> list[Message]:
    """What was said, whole or in part; what is being written is not there yet."""
    return [
        Message(id=row.id, role=row.role, parts=parts_of_row(row), finish_reason=row.finish_reason)
        for row in rows
        if row.status != "running" and row.parts != "[]"
    ]


def summary_of(row: Row[Any], *, running: bool) -> ConversationSummary:
    """A conversation."""
    return ConversationSummary(
        id=row.id,
        title=row.title,
        revision=row.revision,
        head_id=row.head_id,
        created_at_ms=row.created_at_ms,
        updated_at_ms=row.updated_at_ms,
        running=running,
    )


def message_of(row: Row[Any], siblings: list[str]) -> StoredMessage:
    """A message."""
    parts = parts_of_row(row)
    return StoredMessage(
        id=row.id,
        role=row.role,
        parent_id=row.parent_id,
        siblings=siblings,
        status=row.status,
        run_id=row.run_id,
        parts=parts,
        text=text_of(parts),
        finish_reason=row.finish_reason,
        failure=_decoded(row.failure, Failure),
        usage=_decoded(row.usage, list[Usage]),
        suggestions=_decoded(row.suggestions, list[str]),
        model=row.model,
        created_at_ms=row.created_at_ms,
        finished_at_ms=row.finished_at_ms,
    )


def _decoded(text: str | None, shape: Any) -> Any:  # noqa: ANN401  any JSON value
    return None if text is None else msgspec.json.decode(text, type=shape)
