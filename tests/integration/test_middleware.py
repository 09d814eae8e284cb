"""Middleware that applications have around everything does not break a stream."""

from collections.abc import Callable

import pytest
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from tailrace import Tailrace
from tests.integration.support.apps import chat_app
from tests.integration.support.client import NEVER_SECONDS, fetch, open_stream
from tests.integration.support.frames import events_of, frames_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script

Serve = Callable[..., AppServer]

ORIGIN = {"origin": "https://page.test"}
GZIP = {"accept-encoding": "gzip"}


class Stamping(BaseHTTPMiddleware):
    """Adds a header, as any application's own middleware."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Pass the request on."""
        response = await call_next(request)
        response.headers["x-stamp"] = "7"
        return response


def stamped(app: ASGIApp) -> ASGIApp:
    """Around an application: a middleware of the usual kind."""
    return Stamping(app)


def compressed(app: ASGIApp) -> ASGIApp:
    """Around an application: what compresses whatever it can."""
    return GZipMiddleware(app, minimum_size=1)


def shared(app: ASGIApp) -> ASGIApp:
    """Around an application: what lets a page of another origin use it."""
    return CORSMiddleware(app, allow_origins=["https://page.test"], allow_methods=["*"], allow_headers=["*"])


Stack = list[Callable[[ASGIApp], ASGIApp]]

each_stack = pytest.mark.parametrize(
    "stack",
    [
        pytest.param([stamped], id="BaseHTTPMiddleware"),
        pytest.param([stamped, stamped], id="two of them"),
        pytest.param([compressed], id="GZip"),
        pytest.param([shared], id="CORS"),
        pytest.param([stamped, compressed, shared], id="all"),
    ],
)


def served(serve: Serve, tail: Tailrace, source: Script, stack: Stack) -> AppServer:
    """An application with middleware around it."""
    app = chat_app(tail, source)
    for layer in stack:
        app.add_middleware(layer)
    return serve(app)


@each_stack
def test_an_event_is_on_the_wire_while_the_source_waits_for_the_next(serve: Serve, stack: Stack) -> None:
    gate = Gate()
    server = served(serve, Tailrace(), Script("a", gate, "b"), stack)

    with open_stream(server.port, "POST", "/chat", {**ORIGIN, **GZIP}) as stream:
        first = stream.next_of("text.delta")
        gate.open()
        rest = stream.rest()

    assert '"delta":"a"' in first.data
    assert [event.event for event in rest] == ["text.delta", "run.completed"]
    assert stream.raw.endswith(b": end\n")
    assert stream.connection.whole
    assert "content-encoding" not in stream.head.names
    assert ("x-stamp" in stream.head.names) == (stamped in stack)
    assert stream.head["cache-control"] == "no-store, no-transform"


@each_stack
def test_a_reader_that_leaves_is_noticed_and_the_run_goes_on(serve: Serve, stack: Stack) -> None:
    gate = Gate()
    tail = Tailrace(heartbeat_seconds=NEVER_SECONDS)
    server = served(serve, tail, Script("a", gate, "b"), stack)

    with open_stream(server.port, "POST", "/chat", {**ORIGIN, **GZIP}) as stream:
        stream.next_of("text.delta")
        url = stream.head["location"]
    server.eventually(lambda: tail.stream_count == 0)
    gate.open()

    assert events_of(fetch(server.port, "GET", url).body)[-1].event == "run.completed"


@each_stack
def test_a_run_is_resumed_and_a_final_one_is_204(serve: Serve, stack: Stack) -> None:
    server = served(serve, Tailrace(), Script("a", "b"), stack)
    started = fetch(server.port, "POST", "/chat", {**ORIGIN, **GZIP})
    url = started.head["location"]

    rest = fetch(server.port, "GET", url, {**ORIGIN, **GZIP, "last-event-id": "2"})
    nothing = fetch(server.port, "GET", url, {**ORIGIN, **GZIP, "last-event-id": "4"})

    assert frames_of(rest.body) == frames_of(started.body)[2:]
    assert (nothing.status, nothing.body) == (204, b"")


@each_stack
def test_a_document_is_whole(serve: Serve, stack: Stack) -> None:
    server = served(serve, Tailrace(), Script("a", "b"), stack)

    reply = fetch(server.port, "POST", "/chat", {**ORIGIN, "accept": "application/json"})

    assert reply.status == 200
    assert reply.json()["text"] == "ab"


@each_stack
def test_a_reader_that_takes_nothing_is_dropped(serve: Serve, stack: Stack) -> None:
    tail = Tailrace(send_timeout_seconds=0.3)
    server = served(serve, tail, Script(*["x" * 60_000] * 200), stack)

    with server.connect(receive_buffer_bytes=4096) as connection:
        connection.send("POST", "/chat", ORIGIN)
        connection.head()
        server.eventually(lambda: server.connection_count == 0 and tail.stream_count == 0)
        connection.read_to_end()

    assert not connection.whole


# CORS ----------------------------------------------------------------------------------------------------------------


def test_a_page_of_another_origin_may_start_read_and_find_the_run(serve: Serve) -> None:
    server = served(serve, Tailrace(), Script("a"), [shared])
    asked = {
        **ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,idempotency-key,last-event-id",
    }

    preflight = fetch(server.port, "OPTIONS", "/chat", asked)
    started = fetch(server.port, "POST", "/chat", ORIGIN)

    assert preflight.status == 200
    assert preflight.head["access-control-allow-origin"] == "https://page.test"
    assert "idempotency-key" in preflight.head["access-control-allow-headers"]
    assert started.head["access-control-allow-origin"] == "https://page.test"
    assert started.head["access-control-expose-headers"] == "location"


def test_a_page_of_an_origin_that_nobody_allowed_is_not_told_that_it_may(serve: Serve) -> None:
    server = served(serve, Tailrace(), Script("a"), [shared])

    started = fetch(server.port, "POST", "/chat", {"origin": "https://evil.test"})

    assert "access-control-allow-origin" not in started.head.names
