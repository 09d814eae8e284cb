"""The beginning of a turn: a question and the answer to come, in one transaction."""

import secrets
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from tailrace.chat.conversations.answers import encoded, encoded_parts, with_results
from tailrace.chat.conversations.bounds import Bounds
from tailrace.chat.conversations.branches import branch, of_conversation
from tailrace.chat.conversations.contract import BegunTurn, NewTurn
from tailrace.chat.conversations.records import text_of
from tailrace.chat.conversations.refusals import (
    ConversationLimitError,
    ConversationNotFoundError,
    TurnConflictError,
)
from tailrace.chat.conversations.rows import (
    ID_CHARACTERS,
    history_of,
    is_id,
    is_text,
    lock_conversation,
    model_name,
    parts_of_row,
    the_conversation,
    titled,
)
from tailrace.chat.conversations.tables import conversations, messages, turns
from tailrace.chat.conversations.wording import searchable, title_of
from tailrace.fold import TextPart
from tailrace.web.errors import RequestInvalidError

__all__ = ["Beginning", "check_turn"]

#: An index of PostgreSQL takes 2,700 bytes for a whole key.
_OWNER_BYTES = 1_024
#: An answer that is written once more, or on.
_AGAIN: dict[str, Any] = {
    "status": "running",
    "failure": None,
    "finish_reason": None,
    "usage": None,
    "finished_at_ms": None,
}


def check_turn(turn: NewTurn, bounds: Bounds) -> None:
    """Refuse what no row may hold.

    Raises:
        RequestInvalidError: It is too long, or an id cannot be one.
    """
    if len(turn.text) > bounds.text_characters:
        raise RequestInvalidError(f"A message has at most {bounds.text_characters} characters.", status=413)
    ids = [turn.conversation_id, turn.run_id, turn.answer_id]
    if turn.message_id is not None:
        ids.append(turn.message_id)
    if not all(is_id(each) for each in ids):
        raise RequestInvalidError(f"An id has 1 to {ID_CHARACTERS} characters, and no null character.", status=422)
    owner = turn.identity.owner
    if not is_text(owner) or len(owner.encode()) > _OWNER_BYTES:
        raise RequestInvalidError("The name of the user cannot be kept.", status=422)


class Beginning:
    """One attempt to begin one turn, within a transaction."""

    def __init__(
        self,
        connection: AsyncConnection,
        turn: NewTurn,
        *,
        insert: Any,  # noqa: ANN401  the dialect's, with `on_conflict_do_nothing`
        bounds: Bounds,
        now_ms: int,
    ) -> None:
        """Nothing is asked yet."""
        self._connection = connection
        self._turn = turn
        self._owner = turn.identity.owner
        self._insert = insert
        self._bounds = bounds
        self._now_ms = now_ms
        self._added_bytes = 0
        #: Nothing is asked: an answer follows the last message.
        self._goes_on = turn.continues is not None or not turn.text

    async def run(self) -> BegunTurn:
        """Begin the turn, or find it.

        Raises:
            RequestInvalidError: There is nothing to answer.
            ConversationNotFoundError: The conversation was deleted after this turn had begun.
            ConversationLimitError: The conversation is full, or the owner has too many.
            TurnConflictError: The turn is over, or its message is no user's.
        """
        conversation = await self._locked_or_new()
        if await self._known():
            return await self._read()
        if conversation.message_count + 2 > self._bounds.messages:
            raise ConversationLimitError(f"A conversation has at most {self._bounds.messages} messages.")
        if conversation.size_bytes >= self._bounds.conversation_bytes:
            raise ConversationLimitError("The conversation is full; begin another.")
        if await self._continued():
            await self._moved_on(conversation, conversation.message_count)
            return await self._opened()
        position = conversation.message_count
        parent_id = await self._asked()
        if parent_id is None:
            parent_id = await self._ask(position, conversation.head_id)
            position += not self._goes_on
        await self._add(
            self._turn.answer_id,
            parent_id=parent_id,
            position=position,
            role="assistant",
            status="running",
            parts="[]",
            search="",
            run_id=self._turn.run_id,
            model=model_name(self._turn.model),
        )
        await self._moved_on(conversation, position + 1)
        return await self._opened()

    async def _moved_on(self, conversation: Row[Any], message_count: int) -> None:
        """The conversation now ends in this turn's answer."""
        await self._connection.execute(
            update(conversations)
            .where(the_conversation(self._owner, self._turn.conversation_id))
            .values(
                head_id=self._turn.answer_id,
                message_count=message_count,
                size_bytes=conversation.size_bytes + self._added_bytes,
                revision=conversation.revision + 1,
                updated_at_ms=self._now_ms,
                **({} if conversation.title else titled(title_of(self._turn.text), "auto")),
            )
        )

    async def _continued(self) -> bool:
        """Take over what the client tells of an answer that goes on; whether this turn's answer is written on there.

        Raises:
            TurnConflictError: The answer is still being written.
        """
        told = self._turn.continues
        if told is None or told.id is None or not is_id(told.id):
            return False
        the_answer = of_conversation(self._owner, self._turn.conversation_id) & (messages.c.id == told.id)
        wanted = select(messages).where(the_answer, messages.c.role == "assistant")
        row = (await self._connection.execute(wanted)).one_or_none()
        if row is None:
            return False
        if row.status == "running":
            raise TurnConflictError("The answer is still being written.")
        parts = encoded_parts(with_results(parts_of_row(row), told.parts), limit_bytes=self._bounds.parts_bytes)
        self._added_bytes = len(parts.encode()) - len(row.parts.encode())
        goes_on = bool(row.id == self._turn.answer_id)
        again = {**_AGAIN, "run_id": self._turn.run_id} if goes_on else {}
        await self._connection.execute(update(messages).where(the_answer).values(parts=parts, **again))
        return goes_on

    async def _locked_or_new(self) -> Row[Any]:
        """The conversation's row, which nobody else changes before this transaction ends.

        Raises:
            ConversationLimitError: It would be a new one, and the owner has too many.
            TurnConflictError: It is being deleted.
        """
        row = await lock_conversation(self._connection, self._owner, self._turn.conversation_id)
        if row is not None:
            return row
        count = await self._connection.scalar(select(func.count()).where(conversations.c.owner == self._owner))
        if (count or 0) >= self._bounds.conversations:
            raise ConversationLimitError(f"There are at most {self._bounds.conversations} conversations.")
        await self._connection.execute(
            self._insert(conversations)
            .values(
                owner=self._owner,
                id=self._turn.conversation_id,
                tenant=self._turn.identity.tenant,
                subject=self._turn.identity.subject,
                revision=0,
                message_count=0,
                size_bytes=0,
                created_at_ms=self._now_ms,
                updated_at_ms=self._now_ms,
                **titled("", "auto"),
            )
            .on_conflict_do_nothing()
        )
        row = await lock_conversation(self._connection, self._owner, self._turn.conversation_id)
        if row is None:
            raise TurnConflictError("The conversation is being deleted.")
        return row

    async def _known(self) -> bool:
        """Whether the turn was begun before. One that ended without a word is opened again.

        Raises:
            ConversationNotFoundError: Its conversation was deleted.
            TurnConflictError: It is over, or the run is that of another conversation.
        """
        turn = self._turn
        of_run = messages.c.run_id == turn.run_id
        answer = (await self._connection.execute(select(messages).where(of_run))).one_or_none()
        if answer is None:
            opened = await self._connection.scalar(select(turns.c.run_id).where(turns.c.run_id == turn.run_id))
            if opened is not None:
                raise ConversationNotFoundError
            return False
        if (answer.owner, answer.conversation_id, answer.id) != (self._owner, turn.conversation_id, turn.answer_id):
            raise TurnConflictError("The run is another turn's.")
        if answer.status == "running":
            # Whoever knows an earlier beginning only, and takes the turn for lost, does not finish this one.
            await self._connection.execute(
                update(turns).where(turns.c.run_id == turn.run_id).values(begun_at_ms=self._now_ms)
            )
            return True
        if answer.parts != "[]":
            raise TurnConflictError("The turn is over.")
        await self._connection.execute(update(messages).where(of_run).values(**_AGAIN))
        await self._opened()
        return True

    async def _asked(self) -> str | None:
        """The user's message that is answered anew, if it is one that is known.

        Raises:
            TurnConflictError: It is known, and not a user's.
        """
        if self._turn.message_id is None:
            return None
        role = await self._connection.scalar(
            select(messages.c.role).where(
                of_conversation(self._owner, self._turn.conversation_id), messages.c.id == self._turn.message_id
            )
        )
        if role not in {None, "user"}:
            raise TurnConflictError("The message to be answered is not a user's.")
        return None if role is None else self._turn.message_id

    async def _ask(self, position: int, head_id: str | None) -> str:
        """Add the user's message; without a text, what there is already is answered.

        Returns:
            The id of what is answered.

        Raises:
            RequestInvalidError: There is nothing to answer.
        """
        parent_id = await self._parent(head_id)
        if self._goes_on:
            if parent_id is None:
                raise RequestInvalidError("There is nothing to answer.", status=422)
            return parent_id
        message_id = self._turn.message_id or f"msg_{secrets.token_hex(12)}"
        parts = encoded([TextPart(text=self._turn.text, done=True)])
        self._added_bytes += len(parts.encode())
        await self._add(
            message_id,
            parent_id=parent_id,
            position=position,
            role="user",
            status="completed",
            parts=parts,
            search=searchable(self._turn.text),
            finished_at_ms=self._now_ms,
        )
        return message_id

    async def _parent(self, head_id: str | None) -> str | None:
        """What this turn follows: the answer that goes on, the first known one of `after`, or the head."""
        told, after = self._turn.continues, self._turn.after
        if after is None:
            return head_id
        if told is not None and told.id:
            after = [told.id, *after]
        wanted = [each for each in after if not each or is_id(each)][: self._bounds.messages]
        found = await self._connection.execute(
            select(messages.c.id).where(
                of_conversation(self._owner, self._turn.conversation_id), messages.c.id.in_(wanted)
            )
        )
        known = {"", *found.scalars()}
        return next((each or None for each in wanted if each in known), head_id)

    async def _add(self, message_id: str, **values: object) -> None:
        row = {
            "owner": self._owner,
            "conversation_id": self._turn.conversation_id,
            "id": message_id,
            "created_at_ms": self._now_ms,
        }
        await self._connection.execute(messages.insert().values(**row, **values))

    async def _opened(self) -> BegunTurn:
        """Note that the turn is open."""
        begun = await self._read()
        turn = self._turn
        await self._connection.execute(
            turns.insert().values(
                run_id=turn.run_id,
                owner=self._owner,
                tenant=turn.identity.tenant,
                conversation_id=turn.conversation_id,
                answer_id=turn.answer_id,
                model=model_name(turn.model),
                input_characters=len(begun.text) + sum(len(encoded(message.parts)) for message in begun.history),
                begun_at_ms=self._now_ms,
            )
        )
        return begun

    async def _read(self) -> BegunTurn:
        turn = self._turn
        rows = (await branch(self._connection, self._owner, turn.conversation_id, turn.answer_id))[:-1]
        last = rows[-1]
        asked = last.role == "user"
        return BegunTurn(
            conversation_id=turn.conversation_id,
            message_id=next((row.id for row in reversed(rows) if row.role == "user"), last.id),
            text=text_of(parts_of_row(last)) if asked and turn.continues is None else "",
            history=history_of(rows[:-1] if asked else rows),
        )
