"""Tickets: a run's log for who cannot send headers. Once, soon, that run, and nothing else."""

import itertools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from tailrace import Tailrace
from tailrace.testing import FakeClock
from tailrace.web.owners import expires
from tests.integration.support.apps import chat_app
from tests.integration.support.client import Reply, fetch, open_stream
from tests.integration.support.frames import events_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script
from tests.integration.support.stores import SHARED_STORES, STORES, a_store
from tests.integration.support.tokens import now_seconds

Serve = Callable[..., AppServer]

ANN = {"authorization": "ann"}
BOB = {"authorization": "bob"}
HEARTBEAT_SECONDS = 0.2


def signed_in(request: Request) -> str:
    owner = request.headers.get("authorization")
    if owner is None:
        raise HTTPException(401, "sign in")
    return owner


class Run(NamedTuple):
    """A run of ann's."""

    server: AppServer
    url: str

    def ticket(self, headers: dict[str, str] = ANN, query: str = "") -> Reply:
        return fetch(self.server.port, "POST", f"{self.url}/ticket{query}", headers)

    def ticket_text(self) -> str:
        return str(self.ticket().json()["ticket"])

    def events(
        self, ticket: str, *, method: str = "GET", rest: str = "", headers: dict[str, str] | None = None
    ) -> Reply:
        return fetch(self.server.port, method, f"{self.url}/events?ticket={ticket}{rest}", headers)


def started(server: AppServer) -> Run:
    location = fetch(server.port, "POST", "/chat", ANN).head["location"]
    return Run(server, location.removesuffix("/events"))


@pytest.fixture
def run(serve: Serve) -> Run:
    return started(serve(chat_app(Tailrace(owner=signed_in), Script("one ", "two"))))


def test_a_ticket_opens_the_runs_stream_without_a_header(run: Run) -> None:
    before_ms = now_seconds() * 1_000
    reply = run.ticket()
    ticket = reply.json()

    stream = fetch(run.server.port, "GET", str(ticket["events_url"]))

    assert (reply.status, reply.head["cache-control"]) == (201, "no-store")
    assert set(ticket) == {"ticket", "expires_at_ms", "events_url"}
    assert ticket["events_url"] == f"{run.url}/events?ticket={ticket['ticket']}"
    assert isinstance(ticket["expires_at_ms"], int)
    assert 30_000 <= ticket["expires_at_ms"] - before_ms <= 60_000
    assert stream.body == fetch(run.server.port, "GET", f"{run.url}/events", ANN).body
    assert stream.head["location"] == f"{run.url}/events"


def test_a_ticket_says_nothing_of_its_owner(run: Run) -> None:
    tickets = {run.ticket_text() for _ in range(3)}

    assert len(tickets) == 3
    assert all(len(ticket) >= 40 and "ann" not in ticket for ticket in tickets)


def test_a_ticket_is_good_for_what_the_stream_is_asked_for(run: Run) -> None:
    ticket = run.ticket(query="?dialect=tokens").json()

    reply = fetch(run.server.port, "GET", str(ticket["events_url"]))
    after = run.events(run.ticket_text(), rest="&after=2")
    by_header = run.events(run.ticket_text(), headers={"last-event-id": "2"})

    assert reply.body == fetch(run.server.port, "GET", f"{run.url}/events?dialect=tokens", ANN).body
    assert events_of(after.body)[0].id == "3"
    assert after.body == by_header.body


def test_a_ticket_reads_the_log_too(run: Run) -> None:
    reply = fetch(run.server.port, "GET", f"{run.url}/log?offset=-1&ticket={run.ticket_text()}")

    assert reply.body == fetch(run.server.port, "GET", f"{run.url}/log?offset=-1", ANN).body


def test_a_ticket_is_good_for_nothing_else(run: Run) -> None:
    ticket, port = run.ticket_text(), run.server.port

    replies = [
        fetch(port, "GET", f"{run.url}?ticket={ticket}"),
        fetch(port, "POST", f"{run.url}/cancel?ticket={ticket}"),
        fetch(port, "POST", f"{run.url}/ticket?ticket={ticket}"),
        fetch(port, "GET", f"/runs/?ticket={ticket}"),
        fetch(port, "GET", f"/runs/feed?runs={run.url.split('/')[2]}&ticket={ticket}"),
        fetch(port, "POST", f"/chat?ticket={ticket}"),
        run.events(ticket, method="HEAD"),
    ]

    assert {reply.status for reply in replies} == {401}
    assert run.events(ticket).status == 200


def test_every_ticket_that_is_not_good_gets_the_same_answer(serve: Serve) -> None:
    clock = FakeClock()
    server = serve(chat_app(Tailrace(owner=signed_in, clock=clock), Script("one")))
    run, other = started(server), started(server)
    used, old, foreign = run.ticket_text(), run.ticket_text(), other.ticket_text()
    run.events(used)
    kinds = {
        "used": run.events(used),
        "foreign": run.events(foreign),
        "forged": run.events("A" * 43),
        "empty": run.events(""),
        "giant": run.events("A" * 4_000),
        "strange": run.events("%00%ff%ed%a0%80"),
        "two": run.events(f"{run.ticket_text()}&ticket={run.ticket_text()}"),
        "with a header": run.events(used, headers=ANN),
        "a run that is not": fetch(server.port, "GET", f"/runs/nowhere/events?ticket={foreign}"),
        "on the log": fetch(server.port, "GET", f"{run.url}/log?ticket={used}"),
    }
    clock.advance(60)
    kinds["old"] = run.events(old)

    assert {reply.body for reply in kinds.values()} == {kinds["used"].body}, kinds
    assert {reply.status for reply in kinds.values()} == {401}
    assert kinds["used"].error_code == "ticket_invalid"
    assert kinds["used"].head["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("headers", [BOB, {}])
def test_who_may_not_read_a_run_gets_no_ticket_to_it(run: Run, headers: dict[str, str]) -> None:
    unknown = fetch(run.server.port, "POST", "/runs/nowhere/ticket", headers)
    reply = run.ticket(headers)

    assert reply.status == unknown.status == (404 if headers else 401)


def test_without_owners_there_are_no_tickets(serve: Serve) -> None:
    run = started(serve(chat_app(Tailrace(), Script("one"))))

    assert (run.ticket().status, run.ticket().error_code) == (404, "run_not_found")
    assert run.events("A" * 43).status == 401


def test_a_run_has_so_many_unused_tickets_and_no_more(serve: Serve) -> None:
    clock = FakeClock()
    run = started(serve(chat_app(Tailrace(owner=signed_in, clock=clock), Script("one"))))

    tickets = list(itertools.takewhile(lambda reply: reply.status == 201, (run.ticket() for _ in range(99))))
    refused = run.ticket()
    run.events(str(tickets[0].json()["ticket"]))
    after_use = run.ticket()
    clock.advance(46)
    later = run.ticket()

    assert len(tickets) == 16
    assert (refused.status, refused.error_code, refused.head["retry-after"]) == (429, "too_many_tickets", "45")
    assert (after_use.status, later.status) == (201, 201)


def test_a_dialect_that_is_not_uses_up_no_ticket(run: Run) -> None:
    ticket = run.ticket_text()

    assert run.events(ticket, rest="&dialect=nonsense").error_code == "dialect_not_found"
    assert run.events(ticket, rest="&after=nonsense").error_code == "cursor_invalid"
    assert run.events(ticket).status == 200


def test_a_ticket_is_in_no_log_of_ours(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        ticket = run.ticket_text()
        run.events(ticket)
        run.events(ticket)

    # The server's own access log, if somebody turns it on, has the URL of a ticket that is used by then.
    assert not [record for record in caplog.records if record.name == "tailrace" and ticket in record.getMessage()]


# The identity behind it ----------------------------------------------------------------------------------------------


def test_a_stream_by_ticket_ends_with_the_identity_that_took_the_ticket(serve: Serve) -> None:
    clock, gate = FakeClock(), Gate()
    until = clock.time_ms() / 1_000 + 20

    def owner(request: Request) -> str:
        expires(request, until)
        return signed_in(request)

    tail = Tailrace(owner=owner, clock=clock, heartbeat_seconds=HEARTBEAT_SECONDS)
    server = serve(chat_app(tail, Script("one", gate)))
    with open_stream(server.port, "POST", "/chat", ANN) as start:
        run = Run(server, start.head["location"].removesuffix("/events"))
        ticket = run.ticket().json()
        with open_stream(server.port, "GET", str(ticket["events_url"])) as stream:
            stream.next_of("text.delta")
            clock.advance(20)
            last = stream.rest()[-1]
    gate.open()

    assert ticket["expires_at_ms"] == round(until * 1_000)
    assert (last.event, last.data) == ("reconnect", '{"reason":"expired"}')


# Workers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STORES)
def test_of_many_who_come_with_a_ticket_one_gets_in(
    serve: Serve, tmp_path: Path, require_program: Callable[..., str], kind: str
) -> None:
    with a_store(kind, tmp_path, require_program) as url:
        run = started(serve(chat_app(Tailrace(url, owner=signed_in), Script("one"))))
        with ThreadPoolExecutor(8) as threads:
            for _ in range(5):
                replies = list(threads.map(run.events, [run.ticket_text()] * 8))

                assert sorted(reply.status for reply in replies) == [200, *[401] * 7]


@pytest.mark.parametrize("kind", SHARED_STORES)
def test_of_two_workers_that_are_shown_a_ticket_one_lets_it_in(
    serve: Serve, tmp_path: Path, require_program: Callable[..., str], kind: str
) -> None:
    with a_store(kind, tmp_path, require_program) as url:
        here, there = (serve(chat_app(Tailrace(url, owner=signed_in), Script("one"))) for _ in range(2))
        run = started(here)
        workers = [run, Run(there, run.url)] * 4
        with ThreadPoolExecutor(8) as threads:
            for _ in range(10):
                replies = list(threads.map(Run.events, workers, itertools.repeat(run.ticket_text())))

                assert sorted(reply.status for reply in replies) == [200, *[401] * 7]
        assert Run(there, run.url).events(run.ticket_text()).status == 200
