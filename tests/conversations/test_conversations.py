"""Conversations are found, shown, renamed and deleted by their owners only; in any database."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tailrace.chat.conversations.refusals import ConversationNotFoundError, RevisionConflictError
from tailrace.chat.conversations.store import Conversations
from tailrace.testing import FakeClock
from tailrace.web.errors import RequestInvalidError
from tests.conversations.conftest import OpenWorker
from tests.conversations.talking import ADA, BOB, ask, talk, texts


async def found(store: Conversations, query: str) -> set[str]:
    return {each.id for each in (await store.list(ADA.owner, query=query)).conversations}


async def test_the_conversation_that_changed_last_comes_first(store: Conversations, clock: FakeClock) -> None:
    for name in ("c1", "c2", "c3"):
        clock.advance(1)
        await talk(store, "Hello", f"r-{name}", "Hi", thread=name)
    clock.advance(1)
    await ask(store, "More", "r4", thread="c1")

    listed = (await store.list(ADA.owner)).conversations

    assert [(each.id, each.running) for each in listed] == [("c1", True), ("c3", False), ("c2", False)]


async def test_pages_follow_each_other_without_a_gap(store: Conversations, clock: FakeClock) -> None:
    for n in range(7):
        clock.advance(n % 2)
        await ask(store, "Hello", f"r{n}", thread=f"c{n}")

    pages = [await store.list(ADA.owner, limit=3)]
    while (cursor := pages[-1].next_cursor) is not None:
        pages.append(await store.list(ADA.owner, limit=3, cursor=cursor))

    listed = [each.id for page in pages for each in page.conversations]
    assert [len(page.conversations) for page in pages] == [3, 3, 1]
    assert sorted(listed) == [f"c{n}" for n in range(7)]
    assert listed[-1] == "c0"


async def test_a_page_that_ends_with_the_last_one_has_no_cursor(store: Conversations) -> None:
    await ask(store, "Hello", "r1")

    assert (await store.list(ADA.owner, limit=1)).next_cursor is None


async def test_what_is_no_cursor_is_refused(store: Conversations) -> None:
    for cursor in ["x", "é", "W10=", "WzEsIiJd", "WzEsMl0=", "Wy0xLCJhIl0=", "WzFlOTksImEiXQ==", "\0"]:
        with pytest.raises(RequestInvalidError):
            await store.list(ADA.owner, cursor=cursor)


async def test_a_page_has_a_size(store: Conversations) -> None:
    for limit in (0, -1, 101):
        with pytest.raises(RequestInvalidError):
            await store.list(ADA.owner, limit=limit)


async def test_search_finds_titles_and_text_of_both_whatever_their_case(store: Conversations) -> None:
    await talk(store, "Wo ist die STRASSE?", "r1", "In Łódź.", thread="c1")
    await talk(store, "Anything else", "r2", "ÀÉÎ — 100%_sure\\", thread="c2")
    await store.rename(ADA.owner, "c2", "Großer Titel")

    assert await found(store, "straße") == {"c1"}
    assert await found(store, "łódź") == {"c1"}
    assert await found(store, "ÅÄ") == set()
    assert await found(store, "àéî") == {"c2"}
    assert await found(store, "GROSSER") == {"c2"}
    assert await found(store, "100%_S") == {"c2"}
    assert await found(store, "100_") == set()
    assert await found(store, "sure\\") == {"c2"}
    assert await found(store, "%") == {"c2"}
    assert await found(store, "die\n\tstrasse\0") == {"c1"}
    assert await found(store, "\ud800") == set()
    assert await found(store, "  \n") == {"c1", "c2"}


async def test_search_looks_into_branches_that_are_not_shown(store: Conversations) -> None:
    await talk(store, "One", "r1", "Hidden treasure")
    await talk(store, "Two", "r2", "Second", after=[""])

    assert await found(store, "treasure") == {"c1"}


async def test_a_search_in_pages_finds_everything(
    store: Conversations, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.chat.conversations.listing._SEARCHED_CONVERSATIONS", 3)
    for n in range(10):
        clock.advance(1)
        await ask(store, "needle" if n in {0, 5, 6} else "hay", f"r{n}", thread=f"c{n}")

    pages = [await store.list(ADA.owner, query="needle", limit=1)]
    while (cursor := pages[-1].next_cursor) is not None:
        pages.append(await store.list(ADA.owner, query="needle", limit=1, cursor=cursor))

    assert [each.id for page in pages for each in page.conversations] == ["c6", "c5", "c0"]
    assert len(pages) <= 7


async def test_a_query_has_a_greatest_length(store: Conversations) -> None:
    with pytest.raises(RequestInvalidError):
        await store.list(ADA.owner, query="x" * 201)


async def test_a_title_is_the_first_question_in_one_line(store: Conversations) -> None:
    await ask(
        store, "  What\n\nis\0 a\u202e log? " + "And why is it so long that nobody reads it to its end? " * 3, "r1"
    )
    await ask(store, "Something else", "r2")

    title = (await store.get(ADA.owner, "c1")).title
    assert title == "What is a log? And why is it so long that nobody reads it…"


async def test_a_users_title_stays(store: Conversations) -> None:
    await ask(store, "Hello", "r1")

    await store.rename(ADA.owner, "c1", "By a model", source="model")
    assert (await store.get(ADA.owner, "c1")).title == "By a model"
    await store.rename(ADA.owner, "c1", "  My \n own " + "x" * 300)
    await store.rename(ADA.owner, "c1", "By a model", source="model")

    title = (await store.get(ADA.owner, "c1")).title
    assert title.startswith("My own xxx")
    assert len(title) == 200


@pytest.mark.parametrize("title", ["", " \n", "\0\x1f"])
async def test_a_title_can_be_seen(store: Conversations, title: str) -> None:
    await ask(store, "Hello", "r1")

    with pytest.raises(RequestInvalidError):
        await store.rename(ADA.owner, "c1", title)


async def test_another_branch_is_shown_down_to_its_newest_leaf(store: Conversations) -> None:
    first = await talk(store, "One", "r1", "First")
    await talk(store, "Two", "r2", "Second")
    await talk(store, "One again", "r3", "Third", after=[""])

    shown = await store.set_head(ADA.owner, "c1", first.message_id)

    assert shown.head_id == "answer-r2"
    assert texts((await store.get(ADA.owner, "c1")).messages) == ["One", "First", "Two", "Second"]
    assert texts(await store.messages("c1", ADA.owner)) == ["One", "First", "Two", "Second"]
    begun = await ask(store, "Three", "r4")
    assert texts(begun.history) == ["One", "First", "Two", "Second"]


@pytest.mark.parametrize("message_id", ["unknown", "", "\0", "\ud800"])
async def test_only_a_message_of_the_conversation_can_be_shown(store: Conversations, message_id: str) -> None:
    await ask(store, "Hello", "r1")
    await ask(store, "Hello", "r2", thread="c2", message_id="unknown-here")

    with pytest.raises(ConversationNotFoundError):
        await store.set_head(ADA.owner, "c1", message_id)


async def test_who_has_seen_an_older_revision_changes_nothing(store: Conversations) -> None:
    await ask(store, "Hello", "r1")
    seen = (await store.get(ADA.owner, "c1")).revision

    renamed = await store.rename(ADA.owner, "c1", "Mine", revision=seen)
    with pytest.raises(RevisionConflictError) as conflict:
        await store.rename(ADA.owner, "c1", "Late", revision=seen)

    assert renamed.revision == conflict.value.revision == seen + 1
    assert (await store.get(ADA.owner, "c1")).title == "Mine"


async def test_of_many_who_change_the_same_revision_one_does(store: Conversations, open_worker: OpenWorker) -> None:
    other: Conversations = await open_worker()
    await ask(store, "Hello", "r1")
    seen = (await store.get(ADA.owner, "c1")).revision

    done = await asyncio.gather(
        *((store, other)[n % 2].rename(ADA.owner, "c1", f"Title {n}", revision=seen) for n in range(10)),
        return_exceptions=True,
    )

    assert sum(not isinstance(each, BaseException) for each in done) == 1
    assert {type(each) for each in done if isinstance(each, BaseException)} == {RevisionConflictError}


async def test_a_deleted_conversation_is_gone_with_its_messages(store: Conversations) -> None:
    await talk(store, "Hello", "r1", "Hi")

    assert await store.delete(ADA.owner, "c1") == []

    with pytest.raises(ConversationNotFoundError):
        await store.get(ADA.owner, "c1")
    with pytest.raises(ConversationNotFoundError):
        await store.delete(ADA.owner, "c1")
    await ask(store, "Again", "r2")
    assert texts((await store.get(ADA.owner, "c1", tree=True)).messages) == ["Again", ""]


CALLS: list[Callable[[Conversations, str, str], Awaitable[object]]] = [
    lambda store, owner, name: store.get(owner, name),
    lambda store, owner, name: store.get(owner, name, tree=True),
    lambda store, owner, name: store.rename(owner, name, "Mine"),
    lambda store, owner, name: store.set_head(owner, name, "answer-r1"),
    lambda store, owner, name: store.delete(owner, name),
]


@pytest.mark.parametrize("call", CALLS)
async def test_what_is_anothers_is_as_if_it_were_not_there(
    store: Conversations, call: Callable[[Conversations, str, str], Awaitable[object]]
) -> None:
    await talk(store, "Hello", "r1", "Hi")

    for name in ("c1", "unknown", "\0", "\ud800", "x" * 1_000):
        with pytest.raises(ConversationNotFoundError) as refused:
            await call(store, BOB.owner, name)

        assert (refused.value.status, str(refused.value)) == (404, "There is no such conversation.")
    assert (await store.get(ADA.owner, "c1")).title == "Hello"


async def test_owners_with_the_same_ids_never_meet(store: Conversations) -> None:
    for identity in (ADA, BOB):
        name = identity.subject
        await talk(store, f"I am {name}", "r1", f"Hello {name}", identity=identity, message_id="m1")

    await store.rename(BOB.owner, "c1", "Of Bob")
    await store.delete(ADA.owner, "c1")

    assert texts((await store.get(BOB.owner, "c1")).messages) == ["I am bob", "Hello bob"]
    assert (await store.list(ADA.owner)).conversations == []
