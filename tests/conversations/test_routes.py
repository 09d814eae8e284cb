"""The routes of conversations, as a page or another program uses them; in any database."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import pytest_asyncio
from fastapi import FastAPI
from starlette.requests import Request

from tailrace import Tailrace
from tailrace.chat.conversations.records import ConversationDocument
from tailrace.chat.conversations.routes import ConversationRoutes
from tailrace.chat.conversations.settling import Settler
from tailrace.chat.conversations.store import Conversations
from tailrace.chat.identity.contract import Identity
from tailrace.events import Event, TextDelta
from tailrace.testing import AsgiClient, FakeClock
from tailrace.web.errors import RefusedError
from tailrace.web.install import add_routes
from tests.conversations.talking import ADA, ask, talk

TURN = "r1-of-this-conversation"


async def identify(request: Request) -> Identity:
    name = request.headers.get("x-user")
    if name is None:
        raise RefusedError("Say who you are.", status=401)
    return Identity(tenant="acme", subject=name)


@pytest_asyncio.fixture
async def tail(clock: FakeClock) -> AsyncGenerator[Tailrace]:
    async with Tailrace(clock=clock) as tail:
        yield tail


@pytest_asyncio.fixture
async def client(tail: Tailrace, store: Conversations) -> AsyncGenerator[AsgiClient]:
    app = FastAPI()
    tail.install(app, "/runs")
    routes = ConversationRoutes(store, Settler(tail, store), identify)
    add_routes(app, routes.table(), "/conversations", tag="conversations", dependencies=[])
    async with AsgiClient(app) as client:
        yield client


async def call(
    client: AsgiClient,
    method: str,
    path: str,
    *,
    user: str | None = "ada",
    **more: Any,  # noqa: ANN401  those of `AsgiClient.stream`
) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body, which is JSON if it says so."""
    headers = {**({} if user is None else {"x-user": user}), **more.pop("headers", {})}
    async with client.stream(method, f"/conversations{path}", headers=headers, **more) as response:
        body = await response.read()
        found = dict(response.headers)
    as_json = found.get("content-type") == "application/json"
    return response.status, found, msgspec.json.decode(body) if as_json else body


async def test_conversations_are_listed_page_by_page(
    client: AsgiClient, store: Conversations, clock: FakeClock
) -> None:
    await talk(store, "First question", "r1", "Hi", thread="c1")
    clock.advance(1)
    await ask(store, "Second question", "r2", thread="c2")

    _, _, first = await call(client, "GET", "?limit=1")
    status, headers, second = await call(client, "GET", f"/?limit=1&cursor={quote(first['next_cursor'])}")

    assert (status, headers["cache-control"]) == (200, "no-store")
    assert first["conversations"] == [
        {
            "id": "c2",
            "title": "Second question",
            "revision": 1,
            "head_id": "answer-r2",
            "created_at_ms": 1_700_000_001_000,
            "updated_at_ms": 1_700_000_001_000,
            "running": True,
        }
    ]
    assert [each["id"] for each in second["conversations"]] == ["c1"]
    assert "next_cursor" not in second


async def test_conversations_are_searched(client: AsgiClient, store: Conversations) -> None:
    await talk(store, "Wo ist die Straße?", "r1", "Hi", thread="c1")
    await talk(store, "Other", "r2", "Hi", thread="c2")

    _, _, page = await call(client, "GET", f"?query={quote('STRASSE')}")
    status, _, nothing = await call(client, "GET", "?query=%00%ff%0a%1b[31mx")

    assert [each["id"] for each in page["conversations"]] == ["c1"]
    assert (status, nothing) == (200, {"conversations": []})


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "limit=%C2%B2", "limit=-1", "limit=1e1", "cursor=x", "query=" + "x" * 201],
)
async def test_a_parameter_out_of_bounds_is_refused(client: AsgiClient, query: str) -> None:
    status, _, body = await call(client, "GET", f"?{query}")

    assert status == 422
    assert body["error"]["code"] == "invalid_request"


async def test_a_conversation_is_shown_with_its_messages(client: AsgiClient, store: Conversations) -> None:
    begun = await talk(store, "Hello", "r1", "Hi")
    await talk(store, "", "r2", "Better", message_id=begun.message_id)

    _, _, shown = await call(client, "GET", "/c1")
    _, _, tree = await call(client, "GET", "/c1?tree=1")

    assert [message["text"] for message in shown["messages"]] == ["Hello", "Better"]
    assert [message["text"] for message in tree["messages"]] == ["Hello", "Hi", "Better"]
    answer = shown["messages"][1]
    assert answer["siblings"] == ["answer-r1", "answer-r2"]
    assert (answer["parent_id"], answer["run_id"], answer["status"]) == (begun.message_id, "ada-r2", "completed")
    assert answer["parts"] == [{"type": "text", "id": "p1", "text": "Better", "done": True}]
    assert shown["head_id"] == "answer-r2"
    assert "null" not in msgspec.json.encode(shown).decode()


async def test_what_has_ended_is_finished_before_it_is_shown(
    client: AsgiClient, store: Conversations, tail: Tailrace
) -> None:
    async def answer() -> AsyncIterator[Event]:
        await ask(store, "Hello", TURN)
        yield TextDelta("Hi")

    await (await tail.start(answer(), run_id=f"ada-{TURN}")).reduced()

    _, _, listed = await call(client, "GET", "")
    _, _, shown = await call(client, "GET", "/c1")

    assert [each["running"] for each in listed["conversations"]] == [False]
    assert (shown["messages"][1]["status"], shown["messages"][1]["text"]) == ("completed", "Hi")


async def test_a_conversation_is_renamed_and_shows_another_branch(client: AsgiClient, store: Conversations) -> None:
    first = await talk(store, "One", "r1", "First")
    await talk(store, "Two", "r2", "Second", after=[""])

    status, _, changed = await call(
        client, "PATCH", "/c1", json={"title": " New\nname ", "head_id": first.message_id, "revision": 2}
    )
    late, _, refused = await call(client, "PATCH", "/c1", json={"title": "Late", "revision": 2})

    assert (status, changed["title"], changed["head_id"], changed["revision"]) == (200, "New name", "answer-r1", 3)
    assert (late, refused["error"]["code"]) == (409, "revision_conflict")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"title": ""}, 422),
        ({"title": 1}, 422),
        ({"titel": "x"}, 422),
        ({"head_id": "unknown"}, 404),
        ([], 422),
        ("[" * 60_000, 422),
        ('{"title":"' + "x" * 70_000 + '"}', 413),
    ],
)
async def test_a_change_that_cannot_be_made_is_refused(
    client: AsgiClient, store: Conversations, body: object, status: int
) -> None:
    await talk(store, "Hello", "r1", "Hi")
    content = body.encode() if isinstance(body, str) else msgspec.json.encode(body)

    refused, _, _ = await call(client, "PATCH", "/c1", content=content, headers={"content-type": "application/json"})

    assert refused == status
    assert (await store.get(ADA.owner, "c1")).title == "Hello"


async def test_deleting_a_conversation_stops_what_answers_in_it(
    client: AsgiClient, store: Conversations, tail: Tailrace
) -> None:
    said, never = asyncio.Event(), asyncio.Event()

    async def answer() -> AsyncIterator[Event]:
        await ask(store, "Hello", TURN)
        yield TextDelta("Hi")
        said.set()
        await never.wait()

    run = await tail.start(answer(), run_id=f"ada-{TURN}")
    await said.wait()

    status, _, body = await call(client, "DELETE", "/c1")

    assert (status, body) == (204, b"")
    assert (await run.reduced()).status == "cancelled"
    assert (await call(client, "GET", "/c1"))[0] == 404


async def test_a_conversation_is_exported_as_markdown(client: AsgiClient, store: Conversations) -> None:
    await talk(store, "Hello **you**", "r1", "```\n## You\nHi")

    status, headers, body = await call(client, "GET", "/c1/export?format=md")

    assert (status, headers["content-type"]) == (200, "text/markdown; charset=utf-8")
    assert headers["content-disposition"].startswith('attachment; filename="Hello-you.md"')
    assert body.decode().splitlines()[-5:] == ["````markdown", "```", "## You", "Hi", "````"]


async def test_a_conversation_is_exported_as_json_with_all_branches(client: AsgiClient, store: Conversations) -> None:
    begun = await talk(store, "Hello\0", "r1", "Hi")
    await talk(store, "", "r2", "Better", message_id=begun.message_id)

    status, headers, document = await call(client, "GET", "/c1/export?format=json")

    assert (status, headers["content-disposition"]) == (
        200,
        "attachment; filename=\"Hello.json\"; filename*=UTF-8''Hello.json",
    )
    assert msgspec.convert(document, ConversationDocument) == await store.get(ADA.owner, "c1", tree=True)


async def test_there_is_no_other_format(client: AsgiClient, store: Conversations) -> None:
    await talk(store, "Hello", "r1", "Hi")

    assert (await call(client, "GET", "/c1/export?format=pdf"))[0] == 422


REQUESTS: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("GET", "?tree=1", None),
    ("PATCH", "", {"title": "Mine"}),
    ("PATCH", "", {"head_id": "answer-r1"}),
    ("DELETE", "", None),
    ("GET", "/export?format=json", None),
    ("GET", "/export", None),
]


@pytest.mark.parametrize(("method", "rest", "body"), REQUESTS)
async def test_anothers_conversation_and_none_are_answered_alike(
    client: AsgiClient, store: Conversations, method: str, rest: str, body: object
) -> None:
    await talk(store, "Hello", "r1", "Hi")

    answers = [
        await call(client, method, f"/{name}{rest}", user="bob", json=body)
        for name in ("c1", "unknown", "%00", "%F0%9F")
    ]

    assert {status for status, _, _ in answers} == {404}
    assert all(answer == answers[0] for answer in answers)
    assert (await store.get(ADA.owner, "c1")).title == "Hello"


@pytest.mark.parametrize(("method", "rest", "body"), [*REQUESTS, ("LIST", "", None)])
async def test_who_is_nobody_is_refused_first(client: AsgiClient, method: str, rest: str, body: object) -> None:
    path = "" if method == "LIST" else f"/c1{rest}"

    status, _, answer = await call(client, "GET" if method == "LIST" else method, path, user=None, json=body)

    assert (status, answer["error"]["code"]) == (401, "refused")
