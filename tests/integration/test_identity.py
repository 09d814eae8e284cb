"""Tokens, cookies, other origins and names at a real server: what each browser and program is answered."""

from collections.abc import Callable

import msgspec
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from tailrace import Tailrace
from tailrace.chat.identity.anonymous import Anonymous
from tailrace.chat.identity.contract import owner_by
from tailrace.chat.identity.cors import ALLOWED_HEADERS, EXPOSED_HEADERS, add_cors
from tailrace.chat.identity.guard import Origins, Proof
from tailrace.chat.identity.tokens import Tokens
from tailrace.web.errors import RefusedError
from tests.integration.support.client import Reply, fetch, open_stream
from tests.integration.support.frames import events_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script
from tests.integration.support.tokens import RULES, bearer, token

Serve = Callable[..., AppServer]

APP, EVIL = "https://app.example", "https://evil.example"


class BusyError(RefusedError):
    """As a limit would refuse."""

    code = "busy"


def served(serve: Serve, source: Script, *, proof: Proof = "cookie", origins: tuple[str, ...] = (APP,)) -> AppServer:
    """A chat for whoever proves who it is in this way."""
    allowed = Origins.parse(origins, proof=proof)
    rules = msgspec.structs.replace(RULES, cookie="session" if proof == "cookie" else None)
    identify = Anonymous(origins=allowed).identify if proof == "none" else Tokens(rules, origins=allowed).identify
    tail = Tailrace(owner=owner_by(identify), heartbeat_seconds=0.2)
    app = FastAPI()
    tail.install(app, "/runs")
    add_cors(app, allowed)

    async def chat(request: Request) -> Response:
        await identify(request)
        return tail.stream(source)

    async def busy(_: Request) -> Response:
        raise BusyError("Too many requests.", status=429, retry_after_seconds=7)

    app.add_route("/chat", chat, methods=["POST"])
    app.add_route("/busy", busy)
    return serve(app)


@pytest.fixture
def server(serve: Serve) -> AppServer:
    return served(serve, Script("one ", "two"))


def test_a_bearer_token_opens_its_owners_runs_and_no_others(server: AppServer) -> None:
    started = fetch(server.port, "POST", "/chat", bearer())
    url = started.head["location"]

    answers = {
        "own": fetch(server.port, "GET", url, bearer()),
        "colleague": fetch(server.port, "GET", url, bearer(token(sub="bob"))),
        "tenant": fetch(server.port, "GET", url, bearer(token(tenant="rival"))),
        "nobody": fetch(server.port, "GET", url),
        "expired": fetch(server.port, "GET", url, bearer(token(-60))),
        "forged": fetch(server.port, "GET", url, bearer(token(aud="mail"))),
        "homeless": fetch(server.port, "GET", url, bearer(token(tenant=""))),
    }

    assert {name: reply.status for name, reply in answers.items()} == {
        "own": 200,
        "colleague": 404,
        "tenant": 404,
        "nobody": 401,
        "expired": 401,
        "forged": 401,
        "homeless": 403,
    }
    assert answers["own"].body == started.body
    codes = [answers[name].error_code for name in ("nobody", "expired", "forged", "homeless")]
    assert codes == ["unauthenticated", "token_expired", "token_invalid", "forbidden"]
    assert answers["nobody"].head["www-authenticate"] == "Bearer"


def test_a_start_is_refused_in_words_of_its_dialect_before_anything_runs(serve: Serve) -> None:
    source = Script("one")
    server = served(serve, source)

    replies = [fetch(server.port, "POST", "/chat", headers) for headers in ({}, bearer("nonsense"), bearer(token(-60)))]

    assert [reply.error_code for reply in replies] == ["unauthenticated", "token_invalid", "token_expired"]
    assert source.opened == 0


def test_a_stream_outlives_no_token_and_a_new_one_goes_on_exactly(serve: Serve) -> None:
    gate = Gate()
    server = served(serve, Script("one ", gate, "two"))
    old = bearer(token(2))
    with open_stream(server.port, "POST", "/chat", old) as stream:
        read = stream.rest()
        url, place = stream.head["location"], {"last-event-id": stream.last_event_id}

        refused = fetch(server.port, "GET", url, {**old, **place})
        gate.open()
        rest = fetch(server.port, "GET", url, {**bearer(), **place})
        whole = fetch(server.port, "GET", url, bearer())

    assert stream.connection.whole
    assert (read[-1].event, read[-1].data) == ("reconnect", '{"reason":"expired"}')
    assert (refused.status, refused.error_code) == (401, "token_expired")
    assert [*read[:-1], *events_of(rest.body)] == events_of(whole.body)


def test_a_ticket_of_a_token_opens_a_stream(server: AppServer) -> None:
    url = fetch(server.port, "POST", "/chat", bearer()).head["location"]
    ticket = fetch(server.port, "POST", url.replace("/events", "/ticket"), bearer()).json()

    assert fetch(server.port, "GET", str(ticket["events_url"])).status == 200
    assert fetch(server.port, "GET", str(ticket["events_url"])).error_code == "ticket_invalid"


# Cookies -------------------------------------------------------------------------------------------------------------


def cookie() -> dict[str, str]:
    return {"cookie": f"session={token()}"}


def test_a_cookie_reads_from_anywhere_and_changes_only_from_its_own_site(server: AppServer) -> None:
    own = {"origin": "https://tailrace.test", "sec-fetch-site": "same-origin"}
    cross = {"origin": EVIL, "sec-fetch-site": "cross-site"}
    started = fetch(server.port, "POST", "/chat", {**cookie(), **own})
    url = started.head["location"]
    run_url = url.removesuffix("/events")

    assert fetch(server.port, "GET", url, cookie()).body == started.body
    assert fetch(server.port, "GET", url, {**cookie(), **cross}).status == 200
    refused = [
        fetch(server.port, "POST", "/chat", {**cookie(), **cross}),
        fetch(server.port, "POST", "/chat", {**cookie(), "origin": "null"}),
        fetch(server.port, "POST", "/chat", cookie()),
        fetch(server.port, "POST", f"{run_url}/cancel", {**cookie(), **cross}),
        fetch(server.port, "POST", f"{run_url}/ticket", {**cookie(), **cross}),
    ]
    assert {(reply.status, reply.error_code) for reply in refused} == {(403, "cross_site")}
    assert fetch(server.port, "POST", "/chat", {**bearer(), **cross}).status == 200
    assert (
        fetch(server.port, "POST", "/chat", {**cookie(), "origin": APP, "sec-fetch-site": "cross-site"}).status == 200
    )


# Nobody --------------------------------------------------------------------------------------------------------------


def test_a_server_without_identities_serves_this_machine_and_no_page_elsewhere(serve: Serve) -> None:
    server = served(serve, Script("one"), proof="none")
    local = {"host": f"localhost:{server.port}"}
    started = fetch(server.port, "POST", "/chat", local)
    url = started.head["location"]

    assert started.status == 200
    assert fetch(server.port, "GET", url, local).body == started.body
    rebound = [
        fetch(server.port, method, target, {"host": f"evil.example:{server.port}"})
        for method, target in (("POST", "/chat"), ("GET", url), ("GET", "/runs/"), ("POST", "/runs/x/cancel"))
    ]
    assert {(reply.status, reply.error_code) for reply in rebound} == {(421, "host_unknown")}
    page = fetch(server.port, "POST", "/chat", {**local, "origin": EVIL})
    assert (page.status, page.error_code) == (403, "cross_site")


# Other origins -------------------------------------------------------------------------------------------------------


def preflight(server: AppServer, origin: str, *headers: str, method: str = "POST") -> Reply:
    asked = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": ", ".join(headers),
    }
    return fetch(server.port, "OPTIONS", "/chat", asked)


def test_a_page_of_an_allowed_origin_may_send_what_clients_send(server: AppServer) -> None:
    for method in ("GET", "POST", "PATCH", "DELETE"):
        reply = preflight(server, APP, *ALLOWED_HEADERS, method=method)

        assert reply.status == 200
        assert reply.head["access-control-allow-origin"] == APP
        assert reply.head["access-control-allow-credentials"] == "true"
        allowed = reply.head["access-control-allow-headers"].lower()
        names = ("authorization", "content-type", "idempotency-key", "last-event-id", "tailrace-client")
        assert [name for name in names if name not in allowed] == []


@pytest.mark.parametrize("origin", [EVIL, "null", "https://app.example.evil.example", "http://app.example"])
def test_a_page_of_another_origin_may_not(server: AppServer, origin: str) -> None:
    reply = preflight(server, origin, "authorization")
    read = fetch(server.port, "GET", "/busy", {"origin": origin})

    assert reply.status == 400
    assert "access-control-allow-origin" not in reply.head.names | read.head.names


def test_pages_may_read_refusals_too(server: AppServer) -> None:
    origin = {"origin": APP}
    url = fetch(server.port, "POST", "/chat", {**bearer(), **origin}).head["location"]
    replies = {
        200: fetch(server.port, "GET", url, {**bearer(), **origin}),
        204: fetch(server.port, "GET", url, {**bearer(), **origin, "last-event-id": "4"}),
        401: fetch(server.port, "GET", url, origin),
        404: fetch(server.port, "GET", "/runs/nowhere", {**bearer(), **origin}),
        429: fetch(server.port, "GET", "/busy", origin),
        403: fetch(server.port, "POST", "/chat", {**bearer(token(tenant="")), **origin}),
    }

    for status, reply in replies.items():
        assert reply.status == status
        assert reply.head["access-control-allow-origin"] == APP
        assert "origin" in reply.head["vary"].lower()
        exposed = reply.head["access-control-expose-headers"].lower().split(", ")
        assert {"location", "retry-after", "stream-next-offset"} <= set(exposed)
    assert replies[429].head["retry-after"] == "7"


def test_what_is_exposed_is_all_that_answers_expose_themselves(server: AppServer) -> None:
    run_url = fetch(server.port, "POST", "/chat", bearer()).head["location"].removesuffix("/events")
    answers = [
        fetch(server.port, "GET", f"{run_url}/{what}", bearer())
        for what in ("log?offset=-1", "events", "events?dialect=ai-sdk")
    ]

    own = {name.strip() for reply in answers for name in reply.head["access-control-expose-headers"].split(",")}

    # Those of streams that clients write; the chat has none.
    written = {"stream-ttl", "stream-expires-at", "stream-sse-data-encoding"}
    assert {name for name in own if not name.startswith("producer-")} - written - set(EXPOSED_HEADERS) == set()


def test_everybody_may_come_with_a_bearer_token(serve: Serve) -> None:
    server = served(serve, Script("one"), proof="bearer", origins=("*",))

    reply = fetch(server.port, "POST", "/chat", {**bearer(), "origin": EVIL})

    assert reply.head["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in reply.head.names


def test_without_allowed_origins_nothing_is_said_to_other_pages(serve: Serve) -> None:
    server = served(serve, Script("one"), origins=())

    reply = fetch(server.port, "POST", "/chat", {**bearer(), "origin": APP})

    assert "access-control-allow-origin" not in reply.head.names


def test_a_disconnect_reaches_the_run_through_all_of_it(serve: Serve) -> None:
    gate = Gate()
    server = served(serve, Script("one", gate))
    with open_stream(server.port, "POST", "/chat", {**bearer(), "origin": APP}) as stream:
        stream.next_of("text.delta")
        url = stream.head["location"]

    gate.open()
    assert events_of(fetch(server.port, "GET", url, bearer()).body)[-1].event == "run.completed"
