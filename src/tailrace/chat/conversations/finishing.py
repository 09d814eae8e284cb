"""The end of a turn: its answer as it was said, and what it has used, in one transaction and once."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from tailrace.chat.conversations.answers import encoded, encoded_parts, parts_of, usage_of
from tailrace.chat.conversations.branches import of_conversation
from tailrace.chat.conversations.records import text_of
from tailrace.chat.conversations.rows import decoded_parts, lock_conversation, model_name, the_conversation
from tailrace.chat.conversations.tables import conversations, messages, turns, usage_daily
from tailrace.chat.conversations.wording import plain, searchable, whole
from tailrace.events import Usage
from tailrace.fold import Reduced

__all__ = ["encoded_suggestions", "finish_turn", "take_turn"]

_SUGGESTIONS = 8
_SUGGESTION_CHARACTERS = 300


def encoded_suggestions(items: Sequence[str]) -> str:
    """As many as there is room for, as JSON text."""
    return encoded([whole(item)[:_SUGGESTION_CHARACTERS] for item in items[:_SUGGESTIONS]])


async def take_turn(connection: AsyncConnection, run_id: str, *, begun_until_ms: int | None) -> Row[Any] | None:
    """The open turn of a run, which is open no more; nothing if another has it, or it has begun again since."""
    wanted = turns.c.run_id == run_id
    if begun_until_ms is not None:
        wanted &= turns.c.begun_at_ms <= begun_until_ms
    found = await connection.execute(select(turns.c.owner, turns.c.conversation_id).where(wanted))
    if (place := found.one_or_none()) is None:
        return None
    # The conversation first, and then what is of it, as everybody does: so no two wait for each other.
    await lock_conversation(connection, place.owner, place.conversation_id)
    return (await connection.execute(delete(turns).where(wanted).returning(turns))).one_or_none()


async def finish_turn(
    connection: AsyncConnection,
    turn: Row[Any],
    reduced: Reduced,
    *,
    insert: Any,  # noqa: ANN401  the dialect's, with `on_conflict_do_update`
    limit_bytes: int,
    now_ms: int,
) -> None:
    """Write down a turn that was taken."""
    usage = usage_of(reduced, input_characters=turn.input_characters, model=turn.model)
    the_answer = of_conversation(turn.owner, turn.conversation_id) & (messages.c.run_id == turn.run_id)
    before = (await connection.execute(select(messages.c.parts).where(the_answer))).scalar()
    # It is gone with its conversation; what it has used is paid for.
    if before is not None:
        answer = _answer(reduced, usage, before=before, limit_bytes=limit_bytes)
        await connection.execute(update(messages).where(the_answer).values(**answer, finished_at_ms=now_ms))
        added_bytes = len(answer["parts"].encode()) - len(before.encode())
        await connection.execute(
            update(conversations)
            .where(the_conversation(turn.owner, turn.conversation_id))
            .values(size_bytes=conversations.c.size_bytes + added_bytes, updated_at_ms=now_ms)
        )
    for row in _debits(turn, usage):
        added = insert(usage_daily).values(**row)
        sums = {name: usage_daily.c[name] + added.excluded[name] for name in _COUNTS}
        await connection.execute(
            added.on_conflict_do_update(index_elements=list(usage_daily.primary_key.columns), set_=sums)
        )


_COUNTS = ("requests", "input_tokens", "output_tokens")


def _answer(reduced: Reduced, usage: list[Usage], *, before: str, limit_bytes: int) -> dict[str, Any]:
    """The columns of the answer that its run decides; what was said before, by a run that this one goes on, stays."""
    said = [*decoded_parts(before), *parts_of(reduced)]
    reasons = [message.finish_reason for message in reduced.messages if message.finish_reason]
    reason = reduced.finish_reason or next(reversed(reasons), None)
    columns = {
        "status": reduced.status,
        "parts": encoded_parts(said, limit_bytes=limit_bytes),
        "search": searchable(text_of(said)),
        "finish_reason": None if reason is None else plain(reason),
        "usage": encoded(usage),
        "failure": None if reduced.failure is None else encoded(reduced.failure),
        "model": model_name(reduced.model),
        "suggestions": encoded_suggestions(reduced.suggestions) if reduced.suggestions else None,
    }
    # Both may have been written down before.
    optional = {"model", "suggestions"}
    return {name: value for name, value in columns.items() if value is not None or name not in optional}


def _debits(turn: Row[Any], usage: list[Usage]) -> list[dict[str, Any]]:
    """A row of the day for each model, in one order, so that no two transactions wait for each other."""
    used: dict[str, tuple[int, int]] = {}
    for count in usage:
        model = model_name(count.model) or turn.model or ""
        before = used.get(model, (0, 0))
        used[model] = (before[0] + (count.input_tokens or 0), before[1] + (count.output_tokens or 0))
    return [
        {
            "tenant": turn.tenant,
            "day": datetime.fromtimestamp(turn.begun_at_ms / 1000, UTC).date(),
            "owner": turn.owner,
            "model": model,
            # Whatever the number of its models, the turn is one request.
            "requests": int(place == 0),
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
        }
        for place, (model, (input_tokens, output_tokens)) in enumerate(sorted(used.items()))
    ]
