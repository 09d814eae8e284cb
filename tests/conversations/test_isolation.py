"""Whatever two owners do with the same ids, each sees what they would see if they were alone; in any database."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.chat.conversations.refusals import ConversationNotFoundError, TurnConflictError
from tailrace.chat.conversations.store import Conversations
from tailrace.chat.identity.contract import Identity
from tailrace.testing import FakeClock
from tests.conversations.talking import ADA, BOB, ended, turn
from tests.postgres_server import PostgresServer

THREADS = st.sampled_from(["c1", "c2"])
MESSAGES = st.sampled_from(["m1", "m2", "answer-0", "answer-1"])
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from([ADA, BOB]),
        st.one_of(
            st.tuples(st.just("begin"), THREADS, MESSAGES),
            st.tuples(st.just("edit"), THREADS, MESSAGES),
            st.tuples(st.just("finish"), st.integers(0, 8)),
            st.tuples(st.just("rename"), THREADS),
            st.tuples(st.just("set_head"), THREADS, MESSAGES),
            st.tuples(st.just("delete"), THREADS),
        ),
    ),
    max_size=14,
)


async def do(store: Conversations, who: Identity, number: int, operation: tuple[Any, ...]) -> None:
    name, *of = operation
    run: dict[str, Any] = {"run": f"{number}", "identity": who, "thread": of[0]}
    match name:
        case "begin":
            await store.begin(turn(f"{who.subject} {number}", **run, message_id=of[1]))
        case "edit":
            await store.begin(turn(f"{who.subject} {number}", **run, after=[of[1]]))
        case "finish":
            await store.finish(f"{who.subject}-{of[0]}", ended(f"to {who.subject}"))
        case "rename":
            await store.rename(who.owner, of[0], f"{who.subject} {number}")
        case "set_head":
            await store.set_head(who.owner, of[0], of[1])
        case _:
            await store.delete(who.owner, of[0])


async def story(
    store: Conversations, operations: Sequence[tuple[Identity, tuple[Any, ...]]], whose: Sequence[Identity]
) -> None:
    """Do what those of `whose` do; the number of an operation is the same, whoever else does something."""
    for number, (who, operation) in enumerate(operations):
        if who in whose:
            with contextlib.suppress(ConversationNotFoundError, TurnConflictError):
                await do(store, who, number, operation)


async def all_of(store: Conversations, who: Identity) -> str:
    """Everything that an owner sees; ids that are made at random are numbered."""
    listed = await store.list(who.owner)
    documents = [await store.get(who.owner, each.id, tree=True) for each in listed.conversations]
    text = msgspec.json.encode([listed, documents]).decode()
    known: list[str] = []
    for document in documents:
        known.extend(message.id for message in document.messages if message.id.startswith("msg_"))
    for number, message_id in enumerate(known):
        text = text.replace(message_id, f"made-{number}")
    return text


async def empty(store: Conversations) -> None:
    for who in (ADA, BOB):
        for each in (await store.list(who.owner)).conversations:
            await store.delete(who.owner, each.id)
    for turn_left in await store.unsettled(before_ms=2**62):
        await store.interrupt(turn_left.run_id)


async def check(url: str, operations: Sequence[tuple[Identity, tuple[Any, ...]]]) -> None:
    # One time for all, as the clock is not what differs here.
    async with Conversations(url, clock=FakeClock()) as store:
        await empty(store)
        await story(store, operations, [ADA, BOB])
        together = [await all_of(store, who) for who in (ADA, BOB)]
        for who, other, seen in zip((ADA, BOB), (BOB, ADA), together, strict=True):
            await empty(store)
            await story(store, operations, [who])
            assert await all_of(store, who) == seen
            assert other.subject not in seen


@settings(max_examples=15)
@given(operations=OPERATIONS)
def test_owners_do_not_see_each_other_in_sqlite(operations: Sequence[tuple[Identity, tuple[Any, ...]]]) -> None:
    with TemporaryDirectory() as folder:
        asyncio.run(check(f"sqlite:///{Path(folder) / 'chat.db'}", operations))


@pytest.mark.postgres
def test_owners_do_not_see_each_other_in_postgresql(postgres: PostgresServer) -> None:
    url = asyncio.run(postgres.create_database())

    @settings(max_examples=8)
    @given(operations=OPERATIONS)
    def holds(operations: Sequence[tuple[Identity, tuple[Any, ...]]]) -> None:
        asyncio.run(check(url, operations))

    holds()
