"""A turn stands in the database from its beginning, ends once, and is paid for once; in any database."""

import asyncio
import contextlib
from datetime import date

import msgspec
import pytest

from tailrace.chat.conversations.bounds import Bounds
from tailrace.chat.conversations.refusals import (
    ConversationLimitError,
    ConversationNotFoundError,
    TurnConflictError,
)
from tailrace.chat.conversations.store import Conversations
from tailrace.chat.identity.contract import Identity
from tailrace.events import Usage
from tailrace.fold import Failure, Part, ReasoningPart, TextPart, ToolPart
from tailrace.testing import FakeClock
from tailrace.web.errors import RequestInvalidError
from tests.conversations.conftest import OpenWorker
from tests.conversations.talking import ADA, BOB, ask, ended, talk, texts, turn

FIRST_DAY = date(1970, 1, 1)


async def test_a_turn_begins_with_both_of_its_messages(store: Conversations) -> None:
    begun = await ask(store, "What is a run?", "r1", model="m")

    shown = await store.get(ADA.owner, "c1")
    question, answer = shown.messages
    assert (begun.text, begun.history, begun.message_id) == ("What is a run?", [], question.id)
    assert (question.role, question.status, question.text) == ("user", "completed", "What is a run?")
    assert (answer.role, answer.status, answer.text) == ("assistant", "running", "")
    assert (answer.id, answer.run_id, answer.model, answer.parent_id) == ("answer-r1", "ada-r1", "m", question.id)
    assert (shown.head_id, shown.title) == ("answer-r1", "What is a run?")


async def test_a_turn_is_begun_once_however_often_it_is_begun(store: Conversations) -> None:
    begun = await ask(store, "Hello", "r1")

    assert await ask(store, "Hello", "r1") == begun
    assert len((await store.get(ADA.owner, "c1", tree=True)).messages) == 2


async def test_a_hundred_turns_begin_at_once_in_one_conversation(open_worker: OpenWorker) -> None:
    # On a busy machine the last one waits for long.
    workers = [await open_worker(timeout_seconds=50), await open_worker(timeout_seconds=50)]
    store: Conversations = workers[0]

    await asyncio.gather(*(ask(workers[n % 2], f"Question {n}", f"r{n}") for n in range(100)))

    tree = (await store.get(ADA.owner, "c1", tree=True)).messages
    assert len(tree) == 200
    assert {message.text for message in tree if message.role == "user"} == {f"Question {n}" for n in range(100)}
    assert len({message.id for message in tree}) == 200


async def test_a_hundred_turns_begin_at_once_in_a_conversation_each(open_worker: OpenWorker) -> None:
    store: Conversations = await open_worker(timeout_seconds=50)
    await asyncio.gather(*(ask(store, "Hello", f"r{n}", thread=f"c{n}") for n in range(100)))

    page = await store.list(ADA.owner, limit=100)
    assert {each.id for each in page.conversations} == {f"c{n}" for n in range(100)}


async def test_the_same_turn_begun_by_many_at_once_is_one(store: Conversations, open_worker: OpenWorker) -> None:
    other: Conversations = await open_worker()

    begun = await asyncio.gather(*(ask(worker, "Hello", "r1") for worker in [store, other] * 5))

    assert len({each.message_id for each in begun}) == 1
    assert len((await store.get(ADA.owner, "c1", tree=True)).messages) == 2


async def test_history_is_what_was_said_before_on_the_branch(store: Conversations) -> None:
    await talk(store, "One", "r1", "First")
    await talk(store, "Two", "r2", "Second")

    begun = await ask(store, "Three", "r3")

    assert texts(begun.history) == ["One", "First", "Two", "Second"]
    assert [message.role for message in begun.history] == ["user", "assistant"] * 2


async def test_an_answer_is_given_anew_beside_the_other(store: Conversations) -> None:
    begun = await talk(store, "One", "r1", "First")
    await talk(store, "Two", "r2", "Second")

    again = await talk(store, "ignored", "r3", "Better", message_id=begun.message_id)

    shown = (await store.get(ADA.owner, "c1")).messages
    assert (again.text, again.history, again.message_id) == ("One", [], begun.message_id)
    assert texts(shown) == ["One", "Better"]
    assert shown[1].siblings == ["answer-r1", "answer-r3"]
    assert len((await store.get(ADA.owner, "c1", tree=True)).messages) == 5


async def test_a_question_is_asked_otherwise_beside_the_other(store: Conversations) -> None:
    await talk(store, "One", "r1", "First")
    before = await talk(store, "Two", "r2", "Second")

    edited = await talk(store, "Other two", "r3", "Third", after=["unknown", "answer-r1", "answer-r2"])

    shown = (await store.get(ADA.owner, "c1")).messages
    assert texts(edited.history) == ["One", "First"]
    assert texts(shown) == ["One", "First", "Other two", "Third"]
    assert shown[2].siblings == [before.message_id, edited.message_id]


async def test_the_first_question_is_asked_otherwise(store: Conversations) -> None:
    first = await talk(store, "One", "r1", "First")

    edited = await talk(store, "Other one", "r2", "Second", after=[""])

    shown = (await store.get(ADA.owner, "c1")).messages
    assert edited.history == []
    assert texts(shown) == ["Other one", "Second"]
    assert shown[0].siblings == [first.message_id, edited.message_id]


async def test_a_question_after_nothing_that_is_known_follows_the_head(store: Conversations) -> None:
    await talk(store, "One", "r1", "First")

    begun = await ask(store, "Two", "r2", after=["unknown", "\0", "x" * 1_000])

    assert texts(begun.history) == ["One", "First"]


async def test_an_answer_goes_on_without_a_question(store: Conversations) -> None:
    first = await talk(store, "One", "r1", "First")

    begun = await talk(store, "", "r2", "and more")

    shown = (await store.get(ADA.owner, "c1")).messages
    assert (begun.text, texts(begun.history), begun.message_id) == ("", ["One", "First"], first.message_id)
    assert texts(shown) == ["One", "First", "and more"]


async def test_nothing_is_not_answered(store: Conversations) -> None:
    with pytest.raises(RequestInvalidError):
        await ask(store, "", "r1")

    assert (await store.list(ADA.owner)).conversations == []


async def test_the_answers_of_others_are_not_answered(store: Conversations) -> None:
    await talk(store, "One", "r1", "First")

    with pytest.raises(TurnConflictError):
        await ask(store, "Two", "r2", message_id="answer-r1")


@pytest.mark.parametrize("change", [{"answer_id": "answer-r1"}, {"message_id": "mine", "answer_id": "mine"}])
async def test_an_id_is_given_once_in_a_conversation(store: Conversations, change: dict[str, str]) -> None:
    await talk(store, "One", "r1", "First")

    with pytest.raises(TurnConflictError):
        await ask(store, "Two", "r2", **change)

    assert len((await store.get(ADA.owner, "c1", tree=True)).messages) == 2


async def test_a_run_is_of_one_conversation(store: Conversations) -> None:
    await ask(store, "One", "r1")

    with pytest.raises(TurnConflictError):
        await ask(store, "One", "r1", thread="c2")


async def test_an_answer_is_kept_as_it_was_said(store: Conversations) -> None:
    parts: list[Part] = [
        ReasoningPart(id="p1", text="hm", done=True, signature="s"),
        ToolPart(call_id="t1", name="clock", state="done", input={"city": "Tokyo"}, output={"at": [1, 2.5, None]}),
        TextPart(id="p2", text="It is late.\n", done=True, citations=[{"url": "https://example.com"}]),
    ]
    usage = [Usage(input_tokens=10, output_tokens=5, provider="p", model="m")]
    await ask(store, "What time is it?", "r1")

    assert await store.finish(
        "ada-r1", ended(parts=parts, usage=usage, model="m", finish_reason="stop", suggestions=["And now?"])
    )

    answer = (await store.get(ADA.owner, "c1")).messages[1]
    assert answer.parts == parts
    assert (answer.status, answer.text, answer.finish_reason) == ("completed", "It is late.\n", "stop")
    assert (answer.usage, answer.suggestions, answer.model) == (usage, ["And now?"], "m")


async def test_the_messages_of_a_run_are_one_answer(store: Conversations) -> None:
    reduced = ended("First, ")
    reduced.messages.append(msgspec.structs.replace(reduced.messages[0], id="m2", parts=[TextPart(text="then.")]))
    reduced.messages.insert(0, msgspec.structs.replace(reduced.messages[0], role="user"))
    await ask(store, "Hello", "r1")

    await store.finish("ada-r1", reduced)

    assert texts((await store.get(ADA.owner, "c1")).messages) == ["Hello", "First, then."]


async def test_the_first_end_of_a_turn_is_its_end(store: Conversations) -> None:
    await talk(store, "Hello", "r1", "Right")

    assert not await store.finish("ada-r1", ended("Wrong"))
    assert not await store.interrupt("ada-r1")
    assert not await store.finish("unknown", ended("Wrong"))
    assert texts(await store.messages("c1", ADA.owner)) == ["Hello", "Right"]


async def test_a_run_that_goes_on_finishes_nothing(store: Conversations) -> None:
    await ask(store, "Hello", "r1")

    with pytest.raises(ValueError, match="not ended"):
        await store.finish("ada-r1", ended("so far", status="running"))


async def test_a_failure_is_kept_with_what_was_said_before_it(store: Conversations) -> None:
    failure = Failure(code="provider_down", message="The model is down.", correlation_id="abc")
    await ask(store, "Hello", "r1")

    await store.finish("ada-r1", ended("Half an ans", status="failed", failure=failure))

    answer = (await store.get(ADA.owner, "c1")).messages[1]
    assert (answer.status, answer.failure, answer.text) == ("failed", failure, "Half an ans")
    assert texts(await store.messages("c1", ADA.owner)) == ["Hello", "Half an ans"]


async def test_a_turn_that_said_nothing_may_begin_again(store: Conversations) -> None:
    begun = await ask(store, "Hello", "r1")
    await store.finish("ada-r1", ended(status="failed", failure=Failure(code="error")))

    assert await ask(store, "Hello", "r1") == begun

    assert (await store.get(ADA.owner, "c1")).messages[1].status == "running"
    assert await store.finish("ada-r1", ended("Hi"))
    assert (await store.get(ADA.owner, "c1")).messages[1].failure is None


async def test_a_turn_that_begins_again_is_not_taken_for_lost(store: Conversations, clock: FakeClock) -> None:
    await ask(store, "Hello", "r1")
    begun_at_ms = clock.time_ms()
    clock.advance(1)
    await ask(store, "Hello", "r1")

    assert not await store.interrupt("ada-r1", begun_until_ms=begun_at_ms)
    assert await store.finish("ada-r1", ended("Hi"))


async def test_a_turn_that_is_over_does_not_begin_again(store: Conversations) -> None:
    await talk(store, "Hello", "r1", "Hi")

    with pytest.raises(TurnConflictError):
        await ask(store, "Hello", "r1")


async def test_history_has_no_answers_without_a_word(store: Conversations) -> None:
    await ask(store, "One", "r1")
    await store.interrupt("ada-r1")
    await ask(store, "Two", "r2")

    begun = await ask(store, "Three", "r3")

    assert texts(begun.history) == ["One", "Two"]
    assert texts(await store.messages("c1", ADA.owner)) == ["One", "Two", "Three"]


async def test_history_is_the_owners_only(store: Conversations) -> None:
    await talk(store, "Hello", "r1", "Hi")

    assert list(await store.messages("c1", BOB.owner)) == []
    assert list(await store.messages("c1", None)) == []
    assert list(await store.messages("\0", ADA.owner)) == []


async def test_suggestions_may_come_later(store: Conversations) -> None:
    await talk(store, "Hello", "r1", "Hi")

    await store.add_suggestions("ada-r1", ["x" * 1_000, "And\0 \ud800?"] + ["more"] * 20)

    suggestions = (await store.get(ADA.owner, "c1")).messages[1].suggestions or []
    assert suggestions[:2] == ["x" * 300, "And\0 \ufffd?"]
    assert len(suggestions) == 8


# What it costs -------------------------------------------------------------------------------------------------------


async def test_what_was_used_is_summed_by_tenant_and_day(store: Conversations, clock: FakeClock) -> None:
    used = [Usage(input_tokens=10, output_tokens=5, model="m"), Usage(input_tokens=1, output_tokens=1, model="n")]
    today = date(2023, 11, 14)
    for run, identity in enumerate([ADA, ADA, BOB, Identity(tenant="other", subject="eve")]):
        asked = turn("Hello", f"r{run}", identity=identity, thread=f"c{run}")
        await store.begin(asked)
        await store.finish(asked.run_id, ended("Hi", usage=used))
    clock.advance(86_400)
    await ask(store, "Later", "r9", thread="c9")
    await store.finish("ada-r9", ended("Hi", usage=used[:1]))

    assert await store.spent_tokens("acme", today) == 3 * 17 + 15
    assert await store.spent_tokens("acme", date(2023, 11, 15)) == 15
    assert await store.spent_tokens("acme", date(2023, 11, 16)) == 0
    assert await store.spent_tokens("other", today) == 17


async def test_two_workers_that_finish_a_turn_pay_for_it_once(store: Conversations, open_worker: OpenWorker) -> None:
    other: Conversations = await open_worker()
    used = [Usage(input_tokens=100, output_tokens=11, model="m")]
    for n in range(20):
        await ask(store, "Hello", f"r{n}", thread=f"c{n % 3}")

    finished = await asyncio.gather(
        *(worker.finish(f"ada-r{n}", ended("Hi", usage=used)) for n in range(20) for worker in (store, other, store))
    )

    assert sum(finished) == 20
    assert await store.spent_tokens("acme", FIRST_DAY) == 20 * 111


async def test_the_tokens_of_a_run_that_was_stopped_are_estimated(store: Conversations) -> None:
    await ask(store, "x" * 400, "r1")

    await store.finish("ada-r1", ended("y" * 200, status="cancelled"))

    (usage,) = (await store.get(ADA.owner, "c1")).messages[1].usage or []
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (100, 50, True)
    assert await store.spent_tokens("acme", FIRST_DAY) == 150


async def test_a_turn_of_a_deleted_conversation_is_paid_for(store: Conversations) -> None:
    await ask(store, "Hello", "r1")

    assert await store.delete(ADA.owner, "c1") == ["ada-r1"]

    assert [each.run_id for each in await store.unsettled(before_ms=2**62)] == ["ada-r1"]
    assert await store.finish("ada-r1", ended("Hi", usage=[Usage(input_tokens=3, output_tokens=4)]))
    assert await store.spent_tokens("acme", FIRST_DAY) == 7
    with pytest.raises(ConversationNotFoundError):
        await store.get(ADA.owner, "c1")


async def test_a_turn_of_a_deleted_conversation_does_not_bring_it_back(store: Conversations) -> None:
    await ask(store, "Hello", "r1")
    await store.delete(ADA.owner, "c1")

    with pytest.raises(ConversationNotFoundError):
        await ask(store, "Hello", "r1")

    assert (await store.list(ADA.owner)).conversations == []


async def test_deleting_while_turns_begin_and_end_leaves_no_loose_ends(
    store: Conversations, open_worker: OpenWorker
) -> None:
    other: Conversations = await open_worker()

    async def delete() -> None:
        with contextlib.suppress(ConversationNotFoundError):
            await other.delete(ADA.owner, "c1")

    for n in range(10):
        await ask(store, "Hello", f"a{n}")
        await asyncio.gather(ask(store, "Hello", f"b{n}"), delete(), store.finish(f"ada-a{n}", ended("Hi")))
        await store.finish(f"ada-b{n}", ended("Hi"))

    assert await store.unsettled(before_ms=2**62) == []


async def test_open_turns_come_in_pages_oldest_first(store: Conversations, clock: FakeClock) -> None:
    for n in range(5):
        clock.advance(n % 2)
        await ask(store, "Hello", f"r{n}")
    now = clock.time_ms()

    first = await store.unsettled(before_ms=now + 1, limit=3)
    rest = await store.unsettled(before_ms=now + 1, limit=3, after=first[-1])

    assert [each.run_id for each in [*first, *rest]] == [f"ada-r{n}" for n in range(5)]
    assert [each.run_id for each in await store.unsettled(before_ms=now)] == ["ada-r0", "ada-r1", "ada-r2"]


# Bounds --------------------------------------------------------------------------------------------------------------


async def test_a_message_has_a_greatest_length(open_worker: OpenWorker) -> None:
    store: Conversations = await open_worker(bounds=Bounds(text_characters=10))

    await ask(store, "x" * 10, "r1")
    with pytest.raises(RequestInvalidError):
        await ask(store, "x" * 11, "r2")


async def test_a_conversation_has_so_many_messages(open_worker: OpenWorker) -> None:
    store: Conversations = await open_worker(bounds=Bounds(messages=5))
    await talk(store, "One", "r1", "First")
    await talk(store, "Two", "r2", "Second")

    with pytest.raises(ConversationLimitError):
        await ask(store, "Three", "r3")
    await ask(store, "Three", "r4", thread="c2")


async def test_a_conversation_has_so_many_bytes(open_worker: OpenWorker) -> None:
    store: Conversations = await open_worker(bounds=Bounds(conversation_bytes=1_000))
    await talk(store, "One", "r1", "x" * 1_000)

    with pytest.raises(ConversationLimitError):
        await ask(store, "Two", "r2")


async def test_an_owner_has_so_many_conversations(open_worker: OpenWorker) -> None:
    store: Conversations = await open_worker(bounds=Bounds(conversations=2))
    await ask(store, "One", "r1", thread="c1")
    await ask(store, "Two", "r2", thread="c2")

    with pytest.raises(ConversationLimitError):
        await ask(store, "Three", "r3", thread="c3")
    await ask(store, "More", "r4", thread="c2")
    await ask(store, "Three", "r5", thread="c3", identity=BOB)


async def test_an_answer_that_is_too_large_loses_what_tools_gave_first(open_worker: OpenWorker) -> None:
    store: Conversations = await open_worker(bounds=Bounds(parts_bytes=2_000))
    tool = ToolPart(call_id="t1", name="search", state="done", input={"q": "x"}, output="y" * 5_000)
    await ask(store, "Hello", "r1")

    await store.finish("ada-r1", ended(parts=[tool, TextPart(text="Found it.", done=True)]))

    search, text = (await store.get(ADA.owner, "c1")).messages[1].parts
    assert search == ToolPart(call_id="t1", name="search", state="done")
    assert text == TextPart(text="Found it.", done=True)


# Text ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["a\0b", "\x01\x1b[31m\x7f", "\u2028\u202e\ufeff\ufffe", "🧵 \U0010ffff", "\r\n\t '\";--"]
)
async def test_text_is_kept_to_the_letter(store: Conversations, text: str) -> None:
    await talk(store, text, "r1", text)
    await ask(store, "Two", "r2", thread="c2")
    tool = ToolPart(call_id=text, name=text, state="error", error={"code": text, "message": text}, input={text: [text]})
    await store.finish("ada-r2", ended(parts=[tool], status="failed", failure=Failure(code=text), model=text))

    assert texts((await store.get(ADA.owner, "c1")).messages) == [text, text]
    answer = (await store.get(ADA.owner, "c2")).messages[1]
    assert (answer.parts, answer.failure) == ([tool], Failure(code=text))


async def test_half_of_a_character_is_replaced_and_no_error(store: Conversations) -> None:
    await talk(store, "a\ud800b", "r1", "c\udfffd", model="\ud800\0")

    shown = await store.get(ADA.owner, "c1")
    assert texts(shown.messages) == ["a\ufffdb", "c\ufffdd"]
    assert shown.title == "a\ufffdb"
    assert shown.messages[1].model == "\ufffd\ufffd"


@pytest.mark.parametrize("field", ["conversation_id", "answer_id", "run_id", "message_id"])
async def test_what_cannot_be_an_id_is_refused(store: Conversations, field: str) -> None:
    for bad in ("", "\0", "\ud800", "x" * 129):
        with pytest.raises(RequestInvalidError):
            await ask(store, "Hello", "r1", **{field: bad})


@pytest.mark.parametrize("subject", ["x" * 1_024, "\ud800"])
async def test_a_user_who_cannot_be_kept_is_refused(store: Conversations, subject: str) -> None:
    with pytest.raises((RequestInvalidError, UnicodeEncodeError)):
        await ask(store, "Hello", "r1", identity=Identity(tenant="acme", subject=subject), run_id="r", answer_id="a")


async def test_ids_of_the_greatest_size_fit(store: Conversations) -> None:
    name = "🧵" * 128
    user = Identity(tenant="acme", subject="é" * 500)

    await ask(store, "Hello", "r1", identity=user, thread=name, message_id=name, run_id="🧵" * 127)

    assert (await store.get(user.owner, name)).messages[0].id == name


async def test_a_turn_may_begin_again_while_its_end_is_written_down(store: Conversations) -> None:
    for n in range(20):
        await ask(store, "Hello", f"r{n}", thread=f"c{n}")

        begun, _ = await asyncio.gather(
            ask(store, "Hello", f"r{n}", thread=f"c{n}"), store.finish(f"ada-r{n}", ended(status="failed"))
        )

        assert begun.text == "Hello"
