"""Conversations in a database: what stands in it is changed in one transaction, or not at all.

A turn is begun before anything is answered and finished once, by whoever comes first; so a crash leaves an answer that
is known to be unfinished, and the tokens of an answer are paid for once. Every method takes the owner, or a run that
only the owner could have started.
"""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from datetime import date
from typing import Any, Literal, Self

from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from tailrace.chat.conversations.beginning import Beginning, check_turn
from tailrace.chat.conversations.bounds import Bounds
from tailrace.chat.conversations.branches import branch, children, newest_leaf, of_conversation
from tailrace.chat.conversations.contract import BegunTurn, NewTurn
from tailrace.chat.conversations.database import Database
from tailrace.chat.conversations.finishing import encoded_suggestions, finish_turn, take_turn
from tailrace.chat.conversations.listing import Listing
from tailrace.chat.conversations.records import ConversationDocument, ConversationPage, ConversationSummary, OpenTurn
from tailrace.chat.conversations.refusals import (
    ConversationNotFoundError,
    RevisionConflictError,
    TurnConflictError,
)
from tailrace.chat.conversations.rows import (
    find_conversation,
    history_of,
    is_id,
    lock_conversation,
    message_of,
    open_turns,
    running_among,
    summary_of,
    the_conversation,
    titled,
)
from tailrace.chat.conversations.tables import conversations, messages, turns, usage_daily
from tailrace.chat.conversations.wording import one_line, plain
from tailrace.fold import Failure, Message, Reduced
from tailrace.runtime.clock import Clock, SystemClock
from tailrace.web.errors import RequestInvalidError

__all__ = ["Conversations"]

_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class Conversations:
    """All conversations of all owners; opened before its first use, from one event loop."""

    def __init__(
        self,
        url: str,
        *,
        bounds: Bounds | None = None,
        clock: Clock | None = None,
        connections: int = 5,
        timeout_seconds: float = 10.0,
    ) -> None:
        """Describe where they are kept; nothing is opened.

        Args:
            url: `sqlite:///path` (four slashes for a path from the root) or `postgresql://user:password@host/database`.
            bounds: How much there may be.
            clock: Tells the time.
            connections: How many there are to the database at most, in this process.
            timeout_seconds: How long a statement may take on PostgreSQL, and how long one waits for a connection.

        Raises:
            StoreSetupError: The URL is no such URL, or the driver is not installed.
        """
        self._database = Database(url, connections=connections, timeout_seconds=timeout_seconds)
        self._insert = _INSERTS[self._database.dialect]
        self._bounds = bounds or Bounds()
        self._clock = clock or SystemClock()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def database(self) -> Database:
        """Where they are kept."""
        return self._database

    async def open(self) -> None:
        """Connect, and lead the database to the version of this code; of many workers that do so at once, one does.

        Raises:
            StoreSetupError: It cannot be reached or used, or is newer than this code. The reason holds no password.
        """
        await self._database.open()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._database.aclose()

    # Turns -----------------------------------------------------------------------------------------------------------

    async def begin(self, turn: NewTurn) -> BegunTurn:
        """Write down a question and the answer that begins; again with the same run it changes nothing.

        A turn without a text, whose message is not known either, is an answer that goes on after the last message.
        A turn that ended before it said anything may begin again.

        Raises:
            RequestInvalidError: The text is too long, an id cannot be one, or there is nothing to answer.
            ConversationNotFoundError: The conversation was deleted after this turn had begun.
            ConversationLimitError: The conversation is full, or the owner has too many.
            TurnConflictError: An id is taken, or the turn is over.
            ConversationsUnavailableError: The database gave no answer; the same call may be repeated.
        """
        check_turn(turn, self._bounds)
        try:
            async with self._database.writing() as connection:
                now_ms = self._clock.time_ms()
                return await Beginning(connection, turn, insert=self._insert, bounds=self._bounds, now_ms=now_ms).run()
        except IntegrityError:
            raise TurnConflictError("An id of this turn is taken.") from None

    async def finish(self, run_id: str, reduced: Reduced, *, begun_until_ms: int | None = None) -> bool:
        """Write down how a turn has ended, and what it has used; the first one who does so does.

        Args:
            run_id: The turn's run.
            reduced: The run, at its end.
            begun_until_ms: Only if the turn has not begun again since, in Unix milliseconds: a run that is undone
                before its first event may be started once more under its id.

        Returns:
            False if the turn is finished already, or unknown.

        Raises:
            ValueError: The run has not ended.
            ConversationsUnavailableError: The database gave no answer; the same call may be repeated.
        """
        if reduced.status == "running":
            raise ValueError("the run has not ended")
        async with self._database.writing() as connection:
            turn = await take_turn(connection, run_id, begun_until_ms=begun_until_ms)
            if turn is None:
                return False
            limit_bytes, now_ms = self._bounds.parts_bytes, self._clock.time_ms()
            await finish_turn(connection, turn, reduced, insert=self._insert, limit_bytes=limit_bytes, now_ms=now_ms)
            return True

    async def interrupt(self, run_id: str, *, begun_until_ms: int | None = None) -> bool:
        """Finish a turn whose run is not known any more.

        Args:
            run_id: The turn's run.
            begun_until_ms: See `finish`.

        Returns:
            False if the turn is finished already, or unknown.

        Raises:
            ConversationsUnavailableError: The database gave no answer; the same call may be repeated.
        """
        lost = Reduced(run_id=run_id, status="interrupted", failure=Failure(code="worker_lost"))
        return await self.finish(run_id, lost, begun_until_ms=begun_until_ms)

    async def add_suggestions(self, run_id: str, items: Sequence[str]) -> None:
        """Put questions that the user may ask next to a turn's answer; nothing happens if that is gone.

        Raises:
            ConversationsUnavailableError: The database gave no answer.
        """
        suggestions = encoded_suggestions(items)
        async with self._database.writing() as connection:
            await connection.execute(
                update(messages).where(messages.c.run_id == run_id).values(suggestions=suggestions)
            )

    async def unsettled(self, *, before_ms: int, after: OpenTurn | None = None, limit: int = 100) -> Sequence[OpenTurn]:
        """Turns that were begun before a time and not finished, oldest first; anybody's.

        Args:
            before_ms: In Unix milliseconds.
            after: The last one of the page before.
            limit: How many at most.

        Raises:
            ConversationsUnavailableError: The database gave no answer.
        """
        wanted = open_turns().where(turns.c.begun_at_ms < before_ms)
        if after is not None:
            wanted = wanted.where(tuple_(turns.c.begun_at_ms, turns.c.run_id) > (after.begun_at_ms, after.run_id))
        async with self._database.reading() as connection:
            found = await connection.execute(wanted.limit(limit))
            return [OpenTurn(**row) for row in found.mappings()]

    async def open_turns(self, owner: str, conversation_ids: Sequence[str]) -> Sequence[OpenTurn]:
        """The turns of these conversations that are not finished, oldest first.

        Raises:
            ConversationsUnavailableError: The database gave no answer.
        """
        known = [conversation_id for conversation_id in conversation_ids if is_id(conversation_id)]
        wanted = open_turns().where(turns.c.owner == owner, turns.c.conversation_id.in_(known))
        async with self._database.reading() as connection:
            found = await connection.execute(wanted)
            return [OpenTurn(**row) for row in found.mappings()]

    async def spent_tokens(self, tenant: str, since_day: date) -> int:
        """What a tenant has used since a day of UTC, that day included: tokens in and out.

        Raises:
            ConversationsUnavailableError: The database gave no answer.
        """
        tokens = func.sum(usage_daily.c.input_tokens + usage_daily.c.output_tokens)
        wanted = select(tokens).where(usage_daily.c.tenant == plain(tenant), usage_daily.c.day >= since_day)
        async with self._database.reading() as connection:
            return int(await connection.scalar(wanted) or 0)

    # Conversations ---------------------------------------------------------------------------------------------------

    async def list(
        self, owner: str, *, query: str = "", limit: int = 50, cursor: str | None = None
    ) -> ConversationPage:
        """Conversations of an owner, the one that changed last first.

        Args:
            owner: Whose.
            query: Only those that have this in their title or in a message, whatever its case. A search looks through
                a part of many conversations and goes on with the cursor.
            limit: How many at most, 1 to 100.
            cursor: The `next_cursor` of the page before.

        Raises:
            RequestInvalidError: The cursor is none, the limit is out of bounds, or the query is too long.
            ConversationsUnavailableError: The database gave no answer.
        """
        listing = Listing(owner, query=query, limit=limit, cursor=cursor)
        async with self._database.reading() as connection:
            return await listing.read(connection)

    async def get(self, owner: str, conversation_id: str, *, tree: bool = False) -> ConversationDocument:
        """A conversation with its messages, oldest first.

        Args:
            owner: Whose.
            conversation_id: Which.
            tree: All branches, instead of the one that is shown.

        Raises:
            ConversationNotFoundError: Unknown, or another's.
            ConversationsUnavailableError: The database gave no answer.
        """
        async with self._database.reading() as connection:
            row = await find_conversation(connection, owner, conversation_id)
            if tree:
                every = select(messages).where(of_conversation(owner, conversation_id)).order_by(messages.c.position)
                rows = list(await connection.execute(every))
            else:
                rows = await branch(connection, owner, conversation_id, row.head_id)
            parent_ids = {message.parent_id for message in rows}
            siblings: dict[str | None, list[str]] = {}
            for child in await connection.execute(children(owner, conversation_id, parent_ids)):
                siblings.setdefault(child.parent_id, []).append(child.id)
        return ConversationDocument(
            id=row.id,
            title=row.title,
            revision=row.revision,
            head_id=row.head_id,
            created_at_ms=row.created_at_ms,
            updated_at_ms=row.updated_at_ms,
            messages=[message_of(message, siblings[message.parent_id]) for message in rows],
        )

    async def messages(self, thread: str, owner: str | None) -> Sequence[Message]:
        """See `tailrace.web.mounts.contract.History`: the branch that is shown, without what is being written.

        Raises:
            ConversationsUnavailableError: The database gave no answer.
        """
        if owner is None:
            return ()
        with contextlib.suppress(ConversationNotFoundError):
            async with self._database.reading() as connection:
                row = await find_conversation(connection, owner, thread)
                return history_of(await branch(connection, owner, thread, row.head_id))
        return ()

    async def rename(
        self,
        owner: str,
        conversation_id: str,
        title: str,
        *,
        source: Literal["user", "model"] = "user",
        revision: int | None = None,
    ) -> ConversationSummary:
        """Give a conversation a title; a model's does not replace a user's.

        Raises:
            RequestInvalidError: Nothing of the title can be seen.
            ConversationNotFoundError: Unknown, or another's.
            RevisionConflictError: It has another revision than the given one.
            ConversationsUnavailableError: The database gave no answer.
        """
        return await self.change(owner, conversation_id, title=title, source=source, revision=revision)

    async def set_head(
        self, owner: str, conversation_id: str, message_id: str, *, revision: int | None = None
    ) -> ConversationSummary:
        """Show another branch: the newest one that goes through a message.

        Raises:
            ConversationNotFoundError: The conversation is unknown or another's, or the message is unknown.
            RevisionConflictError: It has another revision than the given one.
            ConversationsUnavailableError: The database gave no answer.
        """
        return await self.change(owner, conversation_id, head_id=message_id, revision=revision)

    async def change(
        self,
        owner: str,
        conversation_id: str,
        *,
        title: str | None = None,
        source: Literal["user", "model"] = "user",
        head_id: str | None = None,
        revision: int | None = None,
    ) -> ConversationSummary:
        """See `rename` and `set_head`; both at once, or neither.

        Raises:
            RequestInvalidError: Nothing of the title can be seen.
            ConversationNotFoundError: The conversation is unknown or another's, or the message is unknown.
            RevisionConflictError: It has another revision than the given one.
            ConversationsUnavailableError: The database gave no answer.
        """
        async with self._changing(owner, conversation_id) as (connection, row):
            if revision is not None and revision != row.revision:
                raise RevisionConflictError(row.revision)
            values: dict[str, Any] = {}
            if title is not None and not (source == "model" and row.title_source == "user"):
                values |= titled(_title(title, self._bounds.title_characters), source)
            if head_id is not None:
                values["head_id"] = await newest_leaf(connection, owner, conversation_id, plain(head_id))
                if values["head_id"] is None:
                    raise ConversationNotFoundError("message")
            if values:
                values |= {"revision": row.revision + 1, "updated_at_ms": self._clock.time_ms()}
                this = the_conversation(owner, conversation_id)
                await connection.execute(update(conversations).where(this).values(**values))
            running = await running_among(connection, owner, [conversation_id])
            return summary_of(await find_conversation(connection, owner, conversation_id), running=bool(running))

    async def delete(self, owner: str, conversation_id: str) -> Sequence[str]:
        """Remove a conversation with all its messages. What its open turns use is still counted.

        Returns:
            The runs of its open turns, for the caller to cancel.

        Raises:
            ConversationNotFoundError: Unknown, or another's.
            ConversationsUnavailableError: The database gave no answer.
        """
        async with self._changing(owner, conversation_id) as (connection, _):
            await connection.execute(delete(conversations).where(the_conversation(owner, conversation_id)))
            wanted = select(turns.c.run_id).where(turns.c.owner == owner, turns.c.conversation_id == conversation_id)
            return list((await connection.execute(wanted)).scalars())

    @contextlib.asynccontextmanager
    async def _changing(self, owner: str, conversation_id: str) -> AsyncGenerator[tuple[AsyncConnection, Row[Any]]]:
        """A transaction in which nobody else changes the conversation.

        Raises:
            ConversationNotFoundError: Unknown, or another's.
        """
        if not is_id(conversation_id):
            raise ConversationNotFoundError
        async with self._database.writing() as connection:
            row = await lock_conversation(connection, owner, conversation_id)
            if row is None:
                raise ConversationNotFoundError
            yield connection, row


def _title(text: str, limit: int) -> str:
    """The title as it is kept.

    Raises:
        RequestInvalidError: Nothing of it can be seen.
    """
    line = one_line(text, limit=limit)
    if not line:
        raise RequestInvalidError("A title has at least one character that can be seen.", status=422)
    return line
