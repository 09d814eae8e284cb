"""Whose run it is, asked in one place: dependencies guard the routes, owners their runs."""

from collections.abc import Callable
from typing import Annotated

import msgspec
import pytest
from fastapi import Depends, FastAPI, Header
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from tailrace import RunResponse, Tailrace
from tailrace.web.owners import OwnerOf
from tests.integration.support.apps import answering, chat_app
from tests.integration.support.client import Reply, fetch, open_stream
from tests.integration.support.frames import frames_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script

Serve = Callable[..., AppServer]

ANN = {"authorization": "ann"}
BOB = {"authorization": "bob"}


def by_header(request: Request) -> str | None:
    """The owner is who the header says; nobody without it."""
    return request.headers.get("authorization")


async def by_header_later(request: Request) -> str | None:
    """As `by_header`, for an application that asks somebody else."""
    return by_header(request)


def signed_in_only(request: Request) -> str:
    """As `by_header`, and a stranger is refused."""
    owner = by_header(request)
    if owner is None:
        raise HTTPException(401, "sign in", {"www-authenticate": "Bearer"})
    return owner


def ask_every_route(server: AppServer, run_url: str, headers: dict[str, str]) -> list[Reply]:
    """The answers of all routes that name a run."""
    return [
        fetch(server.port, "GET", run_url, headers),
        fetch(server.port, "GET", f"{run_url}/", headers),
        fetch(server.port, "HEAD", f"{run_url}/events", headers),
        fetch(server.port, "GET", f"{run_url}/events", headers),
        fetch(server.port, "GET", f"{run_url}/events/?dialect=tokens", headers),
        fetch(server.port, "GET", f"{run_url}/events", {**headers, "last-event-id": "1"}),
        fetch(server.port, "GET", f"{run_url}/log", headers),
        fetch(server.port, "POST", f"{run_url}/cancel", headers),
    ]


def statuses(replies: list[Reply]) -> set[int]:
    """The different statuses among them."""
    return {reply.status for reply in replies}


# Dependencies --------------------------------------------------------------------------------------------------------


def require_token(token: Annotated[str | None, Header()] = None) -> None:
    """A FastAPI dependency as applications have them."""
    if token != "open sesame":
        raise HTTPException(403, "no")


@pytest.mark.parametrize("given_to", ["application", "install"])
def test_dependencies_guard_every_run_route(serve: Serve, given_to: str) -> None:
    guard = [Depends(require_token)]
    tail = Tailrace(owner=lambda _: "everybody")
    app = FastAPI(dependencies=guard if given_to == "application" else [])
    source = Script("a", Gate())

    @app.post("/chat", dependencies=guard)
    async def chat() -> RunResponse:
        return tail.stream(source)

    tail.install(app, "/runs", dependencies=guard if given_to == "install" else [])
    server = serve(app)
    token = {"token": "open sesame"}

    with open_stream(server.port, "POST", "/chat", token) as stream:
        run_url = stream.head["location"].removesuffix("/events")
        stream.next_of("text.delta")
        refused = [*ask_every_route(server, run_url, {}), fetch(server.port, "GET", "/runs")]
        listed = fetch(server.port, "GET", "/runs", token)
        cancelled = fetch(server.port, "POST", f"{run_url}/cancel", token)
        stream.rest()

    assert statuses(refused) == {403}
    assert listed.status == 200
    assert cancelled.status == 202


def test_dependencies_are_refused_where_they_would_guard_nothing() -> None:
    with pytest.raises(ValueError, match="FastAPI"):
        Tailrace().install(Starlette(), "/runs", dependencies=[Depends(require_token)])


# Owners --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", [by_header, by_header_later, signed_in_only])
def test_a_run_of_somebody_else_is_404_on_every_route(serve: Serve, owner: OwnerOf) -> None:
    source = Script("a", Gate())
    server = serve(chat_app(Tailrace(owner=owner), source))

    with open_stream(server.port, "POST", "/chat", ANN) as stream:
        run_url = stream.head["location"].removesuffix("/events")
        stream.next_of("text.delta")
        to_bob = ask_every_route(server, run_url, BOB)
        to_ann = fetch(server.port, "GET", run_url, ANN)
        came_back = fetch(server.port, "POST", "/chat", {**BOB, "last-event-id": f"{run_url.split('/')[2]}:1"})
        fetch(server.port, "POST", f"{run_url}/cancel", ANN)
        stream.rest()

    assert statuses(to_bob) == {404}
    assert came_back.status == 404
    assert (to_ann.status, to_ann.json()["status"]) == (200, "running")
    assert source.opened == 1


def test_the_answer_for_a_run_of_somebody_else_is_the_one_for_a_run_that_never_was(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(owner=by_header), Script("a")))
    run_url = fetch(server.port, "POST", "/chat", ANN).head["location"].removesuffix("/events")

    others = ask_every_route(server, run_url, BOB)
    missing = ask_every_route(server, f"/runs/{'x' * 26}", BOB)

    assert [(reply.status, reply.body) for reply in others] == [(reply.status, reply.body) for reply in missing]


def test_a_stranger_gets_the_status_that_the_owner_function_raises(serve: Serve) -> None:
    source = Script("a")
    server = serve(chat_app(Tailrace(owner=signed_in_only), source))
    run_url = fetch(server.port, "POST", "/chat", ANN).head["location"].removesuffix("/events")

    replies = [
        *ask_every_route(server, run_url, {}),
        fetch(server.port, "GET", "/runs"),
        fetch(server.port, "POST", "/chat"),
    ]

    assert statuses(replies) == {401}
    assert replies[0].head["www-authenticate"] == "Bearer"
    assert source.opened == 1


def test_a_run_of_nobody_is_not_open_to_somebody_nor_theirs_to_nobody(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(owner=by_header), Script("a")))
    of_nobody = fetch(server.port, "POST", "/chat").head["location"].removesuffix("/events")
    of_ann = fetch(server.port, "POST", "/chat", ANN).head["location"].removesuffix("/events")

    assert statuses(ask_every_route(server, of_nobody, ANN)) == {404}
    assert statuses(ask_every_route(server, of_ann, {})) == {404}
    assert fetch(server.port, "GET", "/runs").status == 404


def test_the_owner_that_a_handler_names_is_the_owner(serve: Serve) -> None:
    tail = Tailrace(owner=by_header)
    app = Starlette(routes=[Route("/chat", answering(lambda: tail.stream(Script("a"), owner="ann")), methods=["POST"])])
    tail.install(app, "/runs")
    server = serve(app)

    url = fetch(server.port, "POST", "/chat", BOB).head["location"]

    assert fetch(server.port, "GET", url, ANN).status == 200
    assert fetch(server.port, "GET", url, BOB).status == 404


def test_a_list_has_only_the_callers_running_runs_of_the_thread(serve: Serve) -> None:
    tail = Tailrace(owner=by_header)
    gate = Gate()
    app = FastAPI()
    tail.install(app, "/runs")

    @app.post("/chat/{thread}")
    async def chat(thread: str) -> RunResponse:
        return tail.stream(Script("a", gate), thread=thread)

    server = serve(app)
    fetched: dict[str, list[str | int]] = {}
    with (
        open_stream(server.port, "POST", "/chat/one", ANN) as first,
        open_stream(server.port, "POST", "/chat/two", ANN) as second,
        open_stream(server.port, "POST", "/chat/one", BOB) as third,
    ):
        urls = [stream.head["location"] for stream in (first, second, third)]
        for name, headers, query in (
            ("ann", ANN, ""),
            ("ann in one", ANN, "?thread=one"),
            ("bob", BOB, ""),
            ("bob in two", BOB, "?thread=two"),
        ):
            fetched[name] = [run["events_url"] for run in runs_in(fetch(server.port, "GET", f"/runs{query}", headers))]
        gate.open()
        for stream in (first, second, third):
            stream.rest()
    afterwards = runs_in(fetch(server.port, "GET", "/runs", ANN))

    assert fetched == {"ann": [urls[1], urls[0]], "ann in one": [urls[0]], "bob": [urls[2]], "bob in two": []}
    assert afterwards == []


def runs_in(reply: Reply) -> list[dict[str, str | int]]:
    """The runs of a list."""
    return msgspec.json.decode(reply.body, type=dict[str, list[dict[str, str | int]]])["runs"]


def test_the_same_key_of_two_owners_stands_for_two_runs(serve: Serve) -> None:
    source = Script("a")
    server = serve(chat_app(Tailrace(owner=by_header), source))
    key = {"idempotency-key": "k"}

    replies = [fetch(server.port, "POST", "/chat", {**headers, **key}) for headers in (ANN, BOB, ANN)]

    locations = [reply.head["location"] for reply in replies]
    assert locations[0] == locations[2] != locations[1]
    assert source.opened == 2


# Without owners ------------------------------------------------------------------------------------------------------


def test_without_owners_the_id_opens_a_run_and_nothing_lists_it(serve: Serve) -> None:
    gate = Gate()
    server = serve(chat_app(Tailrace(), Script("a", gate)))

    with open_stream(server.port, "POST", "/chat") as stream:
        run_url = stream.head["location"].removesuffix("/events")
        looked_at = fetch(server.port, "GET", run_url, BOB)
        listed = [fetch(server.port, "GET", path) for path in ("/runs", "/runs/", "/runs?thread=x")]
        gate.open()
        stream.rest()
    read = fetch(server.port, "GET", f"{run_url}/events", BOB)

    assert looked_at.status == 200
    assert statuses(listed) == {404}
    assert frames_of(read.body) == frames_of(stream.raw)


def test_run_ids_are_long_random_and_say_nothing(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a")))

    ids = [fetch(server.port, "POST", "/chat").head["location"].split("/")[2] for _ in range(20)]

    assert len(set(ids)) == 20
    assert {len(run_id) for run_id in ids} == {26}
    assert len({run_id[:6] for run_id in ids}) == 20
