"""A proof of identity that ends while its streams are open: they end too, the run goes on, a new proof goes on exactly.

Identities here are `name until`, Unix seconds by the server's clock, which the tests move.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from tailrace import Tailrace
from tailrace.testing import FakeClock
from tailrace.web.owners import OwnerOf, expires
from tests.integration.support.apps import chat_app
from tests.integration.support.client import Reply, fetch, open_stream
from tests.integration.support.frames import events_of, frames_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script

Serve = Callable[..., AppServer]

HELD_SECONDS = 60.0
HEARTBEAT_SECONDS = 0.2


class Place(NamedTuple):
    """A server whose clock stands, and a run that waits at a gate."""

    server: AppServer
    clock: FakeClock
    gate: Gate

    def until(self, seconds: float = HELD_SECONDS) -> dict[str, str]:
        """Headers of somebody who proves it for so long."""
        return {"authorization": f"ann {self.clock.time_ms() / 1_000 + seconds}"}

    def get(self, target: str, headers: dict[str, str]) -> Reply:
        return fetch(self.server.port, "GET", target, headers)


def owner_by(clock: FakeClock) -> OwnerOf:
    def owner(request: Request) -> str:
        name, _, until = request.headers.get("authorization", "").partition(" ")
        if not until or float(until) <= clock.time_ms() / 1_000:
            raise HTTPException(401, "sign in")
        expires(request, float(until))
        return name

    return owner


@pytest.fixture
def place(serve: Serve) -> Place:
    clock, gate = FakeClock(), Gate()
    tail = Tailrace(owner=owner_by(clock), clock=clock, heartbeat_seconds=HEARTBEAT_SECONDS)
    source = Script("one ", "two ", gate, "three ", "four")
    return Place(serve(chat_app(tail, source)), clock, gate)


def is_farewell(raw: bytes) -> bool:
    """Whether a stream ends with the frame that asks for a new proof, and with nothing after it."""
    frame = frames_of(raw)[-1]
    retry, *rest = frame.decode().splitlines()
    assert raw.endswith(frame)
    return 1_000 <= int(retry.removeprefix("retry: ")) <= 2_000 and rest == [
        "event: reconnect",
        'data: {"reason":"expired"}',
        "",
    ]


@pytest.mark.parametrize("attached", [False, True])
def test_a_stream_ends_with_its_identity_and_a_new_one_goes_on_exactly(place: Place, *, attached: bool) -> None:
    old = place.until()
    with open_stream(place.server.port, "POST", "/chat", place.until(HELD_SECONDS * 9)) as start:
        events_url = start.head["location"]
        method, target = ("GET", events_url) if attached else ("POST", "/chat")
        with open_stream(place.server.port, method, target, old) as stream:
            while "two" not in stream.next_of("text.delta").data:
                pass

            place.clock.advance(HELD_SECONDS)
            stream.rest()

            events_url = events_url if attached else stream.head["location"]
            assert is_farewell(stream.raw)
            assert stream.connection.whole
            last_id = stream.last_event_id

    refused = place.get(events_url, {**old, "last-event-id": last_id})
    place.gate.open()
    new = place.until()
    rest = place.get(events_url, {**new, "last-event-id": last_id})
    whole = place.get(events_url, new)

    assert refused.status == 401
    read = [event for event in events_of(stream.raw) if event.event != "reconnect"]
    assert [*read, *events_of(rest.body)] == events_of(whole.body)
    assert events_of(whole.body)[-1].event == "run.completed"


def test_a_reader_that_cannot_come_back_is_cut_off(place: Place) -> None:
    with open_stream(place.server.port, "POST", "/chat", place.until(HELD_SECONDS * 9)) as start:
        url = f"{start.head['location']}?dialect=openai"
        with open_stream(place.server.port, "GET", url, place.until()) as stream:
            stream.next()

            place.clock.advance(HELD_SECONDS)
            stream.rest()

    assert not stream.connection.whole
    assert b"reconnect" not in stream.raw


def test_a_client_that_says_it_comes_back_is_told_to(place: Place) -> None:
    with open_stream(place.server.port, "POST", "/chat", place.until(HELD_SECONDS * 9)) as start:
        url = f"{start.head['location']}?dialect=openai"
        with open_stream(place.server.port, "GET", url, {**place.until(), "tailrace-client": "1"}) as stream:
            stream.next()

            place.clock.advance(HELD_SECONDS)
            stream.rest()

    assert is_farewell(stream.raw)
    assert stream.connection.whole


def test_a_feed_ends_with_its_identity(place: Place) -> None:
    with open_stream(place.server.port, "POST", "/chat", place.until(HELD_SECONDS * 9)) as start:
        run_id = start.head["location"].split("/")[2]
        with open_stream(place.server.port, "GET", f"/runs/feed?runs={run_id}", place.until()) as stream:
            stream.next_of("text.delta")

            place.clock.advance(HELD_SECONDS)
            stream.rest()

    assert is_farewell(stream.raw)


def test_whoever_is_in_time_notices_nothing(place: Place) -> None:
    with open_stream(place.server.port, "POST", "/chat", place.until()) as stream:
        stream.next_of("text.delta")
        place.clock.advance(HELD_SECONDS - 1)
        stream.until_comment("hb")
        place.gate.open()

        assert stream.rest()[-1].event == "run.completed"


def test_the_first_of_several_expiries_counts(serve: Serve) -> None:
    clock, gate = FakeClock(), Gate()

    def owner(request: Request) -> str:
        for seconds in (9, 1, 5):
            expires(request, clock.time_ms() / 1_000 + seconds)
        return "ann"

    tail = Tailrace(owner=owner, clock=clock, heartbeat_seconds=HEARTBEAT_SECONDS)
    server = serve(chat_app(tail, Script("a", gate)))
    with open_stream(server.port, "POST", "/chat") as stream:
        stream.next_of("text.delta")
        clock.advance(2)
        stream.rest()

    assert is_farewell(stream.raw)
    gate.open()


# What waits by the machine's clock -----------------------------------------------------------------------------------

SHORTLY = 0.3


def test_a_document_that_is_not_ready_in_time_is_refused_and_its_run_goes_on(place: Place) -> None:
    reply = fetch(place.server.port, "POST", "/chat", {**place.until(SHORTLY), "accept": "application/json"})

    place.gate.open()
    run_url = reply.head["location"].removesuffix("/events")
    with open_stream(place.server.port, "GET", f"{run_url}/events", place.until()) as stream:
        stream.rest()
    run = place.get(run_url, place.until()).json()

    assert (reply.status, reply.error_code) == (401, "token_expired")
    assert reply.head["www-authenticate"].startswith('Bearer error="invalid_token"')
    assert (run["status"], run["text"]) == ("completed", "one two three four")


@pytest.mark.parametrize("live", ["sse", "long-poll"])
def test_a_live_read_of_the_log_is_over_with_its_identity(place: Place, live: str) -> None:
    with open_stream(place.server.port, "POST", "/chat", place.until()) as start:
        start.next_of("text.delta")
        url = start.head["location"].removesuffix("events") + f"log?offset=now&live={live}"
        began = time.monotonic()

        reply = place.get(url, place.until(SHORTLY))

    assert reply.whole
    assert reply.status == (200 if live == "sse" else 204)
    assert time.monotonic() - began < 10
    assert (live == "sse") == (b"event: control" in reply.body)
