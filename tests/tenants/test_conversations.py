"""What a user does with conversations over HTTP, at two workers in turn: search, export, branch, delete, hydrate."""

import itertools
import json
from typing import Any

import httpx2
import msgspec
import pytest

from tailrace.chat.conversations.records import ConversationDocument
from tests.integration.support.client import Reply
from tests.integration.support.frames import events_of
from tests.tenants.belongings import ag_ui_input, ask, post, ui_message
from tests.tenants.people import User
from tests.tenants.site import Site, Worker
from tests.tenants.talking import Talk

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

QUICK_TURNS = 12


def messages_of(worker: Worker, user: User, conversation: str, query: str = "") -> list[dict[str, Any]]:
    reply: Any = ask(worker, "GET", f"/conversations/{conversation}{query}", user.headers).json()
    return list(reply["messages"])


def texts(messages: list[dict[str, Any]]) -> list[str]:
    return [message["text"] for message in messages]


def found(worker: Worker, user: User, query: str) -> list[str]:
    reply: Any = ask(worker, "GET", f"/conversations?query={query}", user.headers).json()
    return [each["id"] for each in reply["conversations"]]


async def test_search_finds_what_one_said_or_heard_and_nobody_elses(
    workers: list[Worker], ann: User, bob: User, rival: User, client: httpx2.AsyncClient
) -> None:
    for user in (ann, bob, rival):
        await Talk(client, user, "garden").say(f"Grüße an {user.tenant}/{user.name}", workers)
        await Talk(client, user, "kitchen").say("50 % salt_", workers)

    for worker, user in itertools.product(workers, (ann, bob, rival)):
        assert found(worker, user, "GR%C3%9CSSE") == ["garden"]
        assert found(worker, user, f"{user.tenant}/{user.name}!") == ["garden"]
        assert found(worker, user, "50%20%25%20s") == ["kitchen"]
        assert found(worker, user, "%25") == ["kitchen"]
        assert sorted(found(worker, user, "")) == ["garden", "kitchen"]
    assert found(workers[0], rival, ann.tenant) == []
    assert found(workers[0], ann, "an%20" + ann.tenant + "/bob") == []


async def test_an_export_is_all_that_was_said(workers: list[Worker], ann: User, client: httpx2.AsyncClient) -> None:
    talk = Talk(client, ann, "export")
    await talk.say("# No heading\n```\nfence", workers)
    await talk.say("\u202e and a second", [workers[1]])

    as_json = await talk.get(workers[1], "/export", format="json")
    as_markdown = await talk.get(workers[0], "/export")

    document = msgspec.json.decode(as_json.content, type=ConversationDocument)
    assert [message.text for message in document.messages] == [
        each for said, heard in zip(talk.said, talk.heard, strict=True) for each in (said, heard.text)
    ]
    assert as_json.headers["content-disposition"].startswith("attachment; ")
    assert as_json.headers["content-disposition"].isascii()
    assert as_markdown.headers["content-type"] == "text/markdown; charset=utf-8"
    assert as_markdown.text.count("````markdown\n# No heading\n```\nfence\n````") == 1
    assert as_markdown.text.startswith("# \\# No heading")


async def test_answering_anew_and_editing_make_siblings_and_either_can_be_shown(
    workers: list[Worker], ann: User, client: httpx2.AsyncClient
) -> None:
    talk = Talk(client, ann, "branches")
    await talk.say("one", workers)
    await talk.say("two", workers)
    question, answer, second, _ = messages_of(workers[0], ann, "branches")

    post(workers[1], "/chat", {"conversation_id": "branches", "regenerate": question["id"]}, ann.headers)
    anew = messages_of(workers[0], ann, "branches")
    await talk.say("edited", [workers[1]], parent_id=answer["id"])
    edited = messages_of(workers[0], ann, "branches")
    await talk.say("from the start", workers, parent_id="")
    started = messages_of(workers[1], ann, "branches")
    tree = messages_of(workers[1], ann, "branches", "?tree=1")
    shown = await client.patch(
        f"{workers[0].url}/conversations/branches", json={"head_id": second["id"]}, headers=ann.headers
    )

    assert texts(anew) == ["one", "one! "]
    assert anew[1]["siblings"] == [answer["id"], anew[1]["id"]]
    assert texts(edited) == ["one", "one! ", "edited", "edited! "]
    assert edited[2]["siblings"] == [second["id"], edited[2]["id"]]
    assert texts(started) == ["from the start", "from! the! start! "]
    assert started[0]["siblings"] == [question["id"], started[0]["id"]]
    assert len(tree) == 9
    assert shown.status_code == 200
    assert texts(messages_of(workers[1], ann, "branches")) == ["one", "one! ", "two", "two! "]


def test_a_question_that_comes_right_after_an_answer_follows_it(workers: list[Worker], ann: User) -> None:
    questions = [f"question {number}" for number in range(QUICK_TURNS)]
    for number, question in enumerate(questions):
        post(workers[number % 2], "/chat", {"message": question, "conversation_id": "quick"}, ann.headers)

    said = texts(messages_of(workers[0], ann, "quick"))

    assert said[::2] == questions
    assert said[1::2] == [f"question! {number}! " for number in range(QUICK_TURNS)]


def test_a_response_that_comes_right_after_an_answer_follows_it(workers: list[Worker], ann: User) -> None:
    for number in range(QUICK_TURNS):
        body = {"model": "m", "input": f"question {number}", "conversation": "quick", "stream": True}
        post(workers[number % 2], "/v1/responses", body, ann.headers)

    assert len(messages_of(workers[0], ann, "quick")) == 2 * QUICK_TURNS


async def test_deleting_stops_what_is_being_answered(
    workers: list[Worker], site: Site, ann: User, client: httpx2.AsyncClient
) -> None:
    gate = f"delete-{ann.tenant}"
    talk = Talk(client, ann, "short")
    async with client.stream(
        "POST",
        f"{workers[0].url}/chat",
        json={"message": f"Hi gate:{gate}", "conversation_id": "short"},
        headers=ann.headers,
    ) as response:
        chunks = response.aiter_raw()
        assert b"run.started" in await anext(chunks)
        deleted = await client.delete(f"{workers[1].url}/conversations/short", headers=ann.headers)
        rest = b"".join([chunk async for chunk in chunks])
    site.gates.open(gate)

    assert deleted.status_code == 204
    assert events_of(rest)[-1].event == "run.cancelled"
    assert (await talk.get(workers[0])).status_code == 404
    assert found(workers[1], ann, "") == []


# The protocols of others ---------------------------------------------------------------------------------------------


def chat(worker: Worker, user: User, **body: object) -> Reply:
    return post(worker, "/api/chat", body, user.headers)


@pytest.mark.parametrize("sends", ["the last message", "all messages"])
def test_a_chat_of_the_ai_sdk_is_written_down_once(workers: list[Worker], ann: User, sends: str) -> None:
    shown: list[dict[str, Any]] = []
    for number, text in enumerate(("one", "two", "three")):
        shown.append(ui_message(f"q{number}", text))
        chat(workers[number % 2], ann, id="ai-sdk", messages=shown if sends == "all messages" else shown[-1:])
        # As the page shows it next: with the id that the stream gave the answer.
        answer = messages_of(workers[1], ann, "ai-sdk")[-1]
        shown.append(ui_message(answer["id"], answer["text"], "assistant"))

    kept = messages_of(workers[0], ann, "ai-sdk")

    assert texts(kept) == ["one", "one! ", "two", "two! ", "three", "three! "]
    assert [message["id"] for message in kept] == [message["id"] for message in shown]
    assert len(messages_of(workers[0], ann, "ai-sdk", "?tree=1")) == len(kept)


def test_answering_anew_in_a_chat_of_the_ai_sdk_makes_a_sibling(workers: list[Worker], ann: User) -> None:
    question = ui_message("q", "one")
    chat(workers[0], ann, id="anew", messages=[question])
    first = messages_of(workers[0], ann, "anew")[-1]

    chat(workers[1], ann, id="anew", messages=[question], trigger="regenerate-message", messageId=first["id"])
    kept = messages_of(workers[0], ann, "anew")

    assert texts(kept) == ["one", "one! "]
    assert kept[1]["siblings"] == [first["id"], kept[1]["id"]]


def test_a_chat_of_the_ai_sdk_whose_question_was_edited_goes_on_from_there(workers: list[Worker], ann: User) -> None:
    chat(workers[0], ann, id="edited", messages=[ui_message("q1", "one")])
    answer = messages_of(workers[0], ann, "edited")[-1]
    before = [ui_message("q1", "one"), ui_message(answer["id"], answer["text"], "assistant")]
    chat(workers[1], ann, id="edited", messages=[*before, ui_message("q2", "two")])

    # Its `sendMessage({messageId})` gives the changed message a new id in place of the old one.
    chat(workers[0], ann, id="edited", messages=[*before, ui_message("q3", "changed")])

    kept = messages_of(workers[1], ann, "edited")
    assert texts(kept) == ["one", "one! ", "changed", "changed! "]
    assert kept[2]["siblings"] == ["q2", "q3"]


def test_a_thread_of_ag_ui_is_written_down_once_and_hydrates(workers: list[Worker], ann: User) -> None:
    shown: list[dict[str, Any]] = []
    for number, text in enumerate(("one", "two")):
        shown.append({"id": f"q{number}", "role": "user", "content": text})
        run = ag_ui_input("ag-ui", f"run-{number}", "", messages=shown)
        post(workers[number], "/agui", run, ann.headers)
        # A request that is sent again is the same turn.
        post(workers[1 - number], "/agui", run, ann.headers)
        answer = messages_of(workers[0], ann, "ag-ui")[-1]
        shown.append({"id": answer["id"], "role": "assistant", "content": answer["text"]})

    hydrated = [
        ask(worker, "GET", "/agui?threadId=ag-ui&messages=ag-ui", ann.headers).json()
        for worker in (*workers, workers[0])
    ]

    assert texts(messages_of(workers[0], ann, "ag-ui")) == ["one", "one! ", "two", "two! "]
    messages: Any = hydrated[0]["messages"]
    assert [(each["id"], each["role"], each["content"]) for each in messages] == [
        (each["id"], each["role"], each["content"]) for each in shown
    ]
    assert hydrated == [hydrated[0]] * 3
    assert (hydrated[0]["activeRun"], hydrated[0]["interrupts"]) == (None, None)


def test_a_response_continues_the_conversation_that_it_names(workers: list[Worker], ann: User) -> None:
    for number, text in enumerate(("one", "two")):
        body = {"model": "m", "input": text, "conversation": "responses", "stream": bool(number)}
        assert post(workers[number], "/v1/responses", body, ann.headers).status == 200
        assert len(messages_of(workers[1], ann, "responses")) == 2 * (number + 1)

    assert texts(messages_of(workers[0], ann, "responses")) == ["one", "one! ", "two", "two! "]


def test_an_answer_that_a_tool_of_the_page_continues_is_one_message(workers: list[Worker], ann: User) -> None:
    chat(workers[0], ann, id="tools", messages=[ui_message("q", "please call:pick")])
    answer = messages_of(workers[0], ann, "tools")[-1]
    picked = {"type": "tool-pick", "toolCallId": "call-of-pick", "state": "output-available", "input": {"from": [1, 2]}}
    parts = [{"type": "text", "text": answer["text"]}, {**picked, "output": "green"}]
    shown = [ui_message("q", "please call:pick"), {"id": answer["id"], "role": "assistant", "parts": parts}]

    reply = chat(workers[1], ann, id="tools", messages=shown)
    continued = messages_of(workers[1], ann, "tools")
    chat(workers[0], ann, id="tools", messages=[ui_message("q2", "and then")])
    kept = messages_of(workers[0], ann, "tools")

    assert b'"messageId":"%s"' % answer["id"].encode() in reply.body
    assert texts(kept) == ["please call:pick", "please! so be it! ", "and then", "and! then! "]
    assert [message["id"] for message in continued] == ["q", answer["id"]]
    assert kept[2]["parent_id"] == answer["id"]
    assert [(part["type"], part.get("output")) for part in kept[1]["parts"]] == [
        ("text", None),
        ("tool", "green"),
        ("text", None),
    ]


def test_a_tool_of_ag_uis_page_leaves_its_result_in_the_conversation(workers: list[Worker], ann: User) -> None:
    question = {"id": "q", "role": "user", "content": "please call:pick"}
    post(workers[0], "/agui", ag_ui_input("ag-ui-tools", "run-1", "", messages=[question]), ann.headers)
    answer = messages_of(workers[0], ann, "ag-ui-tools")[-1]
    call = {"id": "call-of-pick", "type": "function", "function": {"name": "pick", "arguments": '{"from":[1,2]}'}}
    said = {"id": answer["id"], "role": "assistant", "content": answer["text"], "toolCalls": [call]}
    result = {"id": "r", "role": "tool", "toolCallId": "call-of-pick", "content": "green"}

    run = ag_ui_input("ag-ui-tools", "run-2", "", messages=[question, said, result])
    post(workers[1], "/agui", run, ann.headers)
    kept = messages_of(workers[0], ann, "ag-ui-tools")
    hydrated: Any = ask(workers[0], "GET", "/agui?threadId=ag-ui-tools&messages=ag-ui", ann.headers).json()

    assert "".join(texts(kept)[1:]) == "please! so be it! "
    assert [message["id"] for message in kept][:2] == ["q", answer["id"]]
    assert "green" in json.dumps(hydrated["messages"])
