"""Conversations of an owner, page by page, and those among them in which something was said."""

import base64
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, exists, select, tuple_
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from tailrace.chat.conversations.records import ConversationPage
from tailrace.chat.conversations.rows import is_id, running_among, summary_of
from tailrace.chat.conversations.tables import conversations, messages
from tailrace.chat.conversations.wording import searchable
from tailrace.web.errors import RequestInvalidError

__all__ = ["Listing"]

#: A search looks through so many conversations for one page; its cursor goes on after them.
_SEARCHED_CONVERSATIONS = 500
_QUERY_CHARACTERS = 200
_LISTED = 100

_NEWEST = (conversations.c.updated_at_ms.desc(), conversations.c.id.desc())
_place = tuple_(conversations.c.updated_at_ms, conversations.c.id)


class Listing:
    """One page."""

    def __init__(self, owner: str, *, query: str, limit: int, cursor: str | None) -> None:
        """Check what is wanted.

        Raises:
            RequestInvalidError: The cursor is none, the limit is out of bounds, or the query is too long.
        """
        if len(query) > _QUERY_CHARACTERS:
            raise RequestInvalidError(f"A query has at most {_QUERY_CHARACTERS} characters.", status=422)
        if not 1 <= limit <= _LISTED:
            raise RequestInvalidError(f"A page has 1 to {_LISTED} conversations.", status=422)
        self._owner = owner
        self._needle = searchable(query)
        self._limit = limit
        self._after = None if cursor is None else _read_cursor(cursor)

    async def read(self, connection: AsyncConnection) -> ConversationPage:
        """The page as it is now."""
        wanted = select(conversations).where(conversations.c.owner == self._owner)
        if self._after is not None:
            wanted = wanted.where(_place < self._after)
        wanted = wanted.order_by(*_NEWEST)
        scope = _SEARCHED_CONVERSATIONS if self._needle else self._limit
        # The last one to look at, and whether there is another behind it.
        edge = list(await connection.execute(wanted.offset(scope - 1).limit(2)))
        if edge:
            wanted = wanted.where(_place >= (edge[0].updated_at_ms, edge[0].id))
        if self._needle:
            wanted = wanted.where(_matches(self._needle))
        found = list(await connection.execute(wanted.limit(self._limit + 1)))
        rows = found[: self._limit]
        running = await running_among(connection, self._owner, [row.id for row in rows])
        last = rows[-1] if len(found) > self._limit else edge[0] if len(edge) > 1 else None
        return ConversationPage(
            conversations=[summary_of(row, running=row.id in running) for row in rows],
            next_cursor=None if last is None else _cursor(last),
        )


def _matches(needle: str) -> ColumnElement[bool]:
    said = exists().where(
        messages.c.owner == conversations.c.owner,
        messages.c.conversation_id == conversations.c.id,
        messages.c.search.contains(needle, autoescape=True),
    )
    return conversations.c.title_search.contains(needle, autoescape=True) | said


def _cursor(row: Row[Any]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([row.updated_at_ms, row.id])).decode()


def _read_cursor(cursor: str) -> tuple[int, str]:
    """What `_cursor` wrote.

    Raises:
        RequestInvalidError: It did not write this.
    """
    try:
        place = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=tuple[int, str])
    except (ValueError, msgspec.MsgspecError):
        place = (-1, "")
    if not (0 <= place[0] < 2**63 and is_id(place[1])):
        raise RequestInvalidError("The cursor is not one of this list.", status=422)
    return place
