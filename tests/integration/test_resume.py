"""A URL that names no run and finds the caller's: which run it reads, from where, and for whom."""

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from tailrace import Tailrace
from tests.integration.support.client import fetch, open_stream
from tests.integration.support.frames import events_of, frames_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script

Serve = Callable[..., AppServer]


def latest_app(tail: Tailrace, *scripts: Script) -> FastAPI:
    """`POST /start` starts the next script, `GET /latest` reads the run that the cookie `run` names."""
    app = FastAPI()
    tail.install(app, "/runs")
    waiting = list(scripts)

    @app.post("/start")
    async def start(request: Request) -> dict[str, str]:
        return {"run_id": (await tail.start(waiting.pop(0), owner=await tail.owner(request))).id}

    @app.post("/latest")
    @app.get("/latest")
    @app.head("/latest")
    async def latest(request: Request) -> Response:
        response = tail.resume(request.cookies.get("run"))
        response.headers["x-mine"] = "yes"
        return response

    return app


def start(server: AppServer, headers: dict[str, str] | None = None) -> str:
    return str(fetch(server.port, "POST", "/start", headers).json()["run_id"])


@pytest.fixture
def two_runs(serve: Serve) -> tuple[AppServer, str, str]:
    server = serve(latest_app(Tailrace(), Script("a", "b"), Script("c", "d")))
    return server, start(server), start(server)


def test_it_reads_the_run_it_was_given_and_its_ids_name_the_run(two_runs: tuple[AppServer, str, str]) -> None:
    server, first, _ = two_runs

    reply = fetch(server.port, "GET", "/latest", {"cookie": f"run={first}"})

    assert [event.id for event in events_of(reply.body)] == [f"{first}:{number}" for number in (1, 2, 3, 4)]
    assert (reply.head["location"], reply.head["x-mine"]) == (f"/runs/{first}/events", "yes")


def test_a_reader_that_returns_goes_on_in_its_own_run_whatever_the_application_says(
    two_runs: tuple[AppServer, str, str],
) -> None:
    server, first, second = two_runs
    whole = fetch(server.port, "GET", "/latest", {"cookie": f"run={first}"}).body

    reply = fetch(server.port, "GET", "/latest", {"cookie": f"run={second}", "last-event-id": f"{first}:2"})

    assert frames_of(reply.body) == frames_of(whole)[2:]


def test_a_reader_that_has_seen_all_gets_204_and_other_methods_an_empty_stream(
    two_runs: tuple[AppServer, str, str],
) -> None:
    server, first, second = two_runs
    fetch(server.port, "GET", "/latest", {"cookie": f"run={first}"})
    seen = {"cookie": f"run={second}", "last-event-id": f"{first}:4"}

    assert fetch(server.port, "GET", "/latest", seen).status == 204
    assert fetch(server.port, "POST", "/latest", seen).body == b": end\n"


def test_a_run_that_has_said_nothing_yet_keeps_nobody_waiting_for_the_headers(serve: Serve) -> None:
    gate = Gate()
    server = serve(latest_app(Tailrace(early_seconds=600), Script(gate, "a")))
    run_id = start(server)

    with open_stream(server.port, "GET", "/latest", {"cookie": f"run={run_id}"}) as reader:
        first = reader.next()
        gate.open()
        rest = reader.rest()

    assert (first.event, rest[-1].event) == ("run.started", "run.completed")


def test_a_client_that_prefers_json_gets_the_document(two_runs: tuple[AppServer, str, str]) -> None:
    server, first, _ = two_runs

    reply = fetch(server.port, "GET", "/latest", {"cookie": f"run={first}", "accept": "application/json"})

    assert reply.json()["text"] == "ab"


def test_head_has_the_headers_of_a_stream_and_no_body(two_runs: tuple[AppServer, str, str]) -> None:
    server, first, _ = two_runs

    reply = fetch(server.port, "HEAD", "/latest", {"cookie": f"run={first}"})

    assert (reply.status, reply.head["content-type"], reply.body) == (200, "text/event-stream", b"")


def test_head_of_a_run_of_somebody_else_is_404(serve: Serve) -> None:
    tail = Tailrace(owner=lambda request: request.headers.get("authorization"))
    server = serve(latest_app(tail, Script("a")))
    run_id = start(server, {"authorization": "ann"})

    statuses = [
        fetch(server.port, "HEAD", "/latest", {"cookie": f"run={run_id}", **who}).status
        for who in ({"authorization": "ann"}, {"authorization": "bob"}, {})
    ]

    assert statuses == [200, 404, 404]


@pytest.mark.parametrize("cookie", ["", "run=", "run=AAAAAAAAAAAAAAAAAAAAAAAAAA"])
def test_no_run_and_one_that_is_unknown_are_404(two_runs: tuple[AppServer, str, str], cookie: str) -> None:
    server, _, _ = two_runs

    reply = fetch(server.port, "GET", "/latest", {"cookie": cookie})

    assert (reply.status, reply.error_code) == (404, "run_not_found")


def test_neither_the_application_nor_a_place_leads_to_anothers_run(serve: Serve) -> None:
    server = serve(latest_app(Tailrace(owner=lambda request: request.headers.get("x-user")), Script("a")))
    run_id = start(server, {"x-user": "ann"})

    def statuses(user: str) -> list[int]:
        attempts = ({"cookie": f"run={run_id}"}, {"last-event-id": f"{run_id}:1"})
        return [fetch(server.port, "GET", "/latest", {"x-user": user, **attempt}).status for attempt in attempts]

    assert (statuses("ann"), statuses("bob")) == ([200, 200], [404, 404])
