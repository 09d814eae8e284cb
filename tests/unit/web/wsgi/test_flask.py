"""Runs in a Flask application, as its own test client sees them."""

import inspect
from collections.abc import AsyncGenerator, Iterator

import flask
import pytest
from flask import Flask, Request, Response, abort, request
from flask.testing import FlaskClient

from tailrace import Tailrace
from tailrace.errors import DialectNotFoundError, SourceInvalidError, StoreSetupError
from tailrace.web.flask import FlaskTailrace
from tailrace.web.wsgi.flask import RunsKeywords, StreamKeywords
from tailrace.wire.sse import Decoder


def user(of: Request) -> str:
    """Who asks, by a header that a test sends."""
    return of.headers.get("user") or abort(401)


@pytest.fixture
def tail() -> Iterator[FlaskTailrace]:
    tail = FlaskTailrace(owner=user)
    yield tail
    tail.close()


@pytest.fixture
def client(tail: FlaskTailrace) -> FlaskClient:
    app = Flask(__name__)
    tail.install(app, "/runs/")

    @app.post("/chat")
    def chat() -> Response:
        response = tail.stream(lambda: answer(request.args["word"]))
        response.headers["x-mine"] = "yes"
        response.set_cookie("seen", "1")
        return response

    @app.post("/from-here")
    def from_here() -> Response:
        async def impatient() -> AsyncGenerator[str]:
            tail.call(tail.runs.active())
            yield ""

        return tail.stream(impatient)

    return app.test_client()


async def answer(word: str) -> AsyncGenerator[str]:
    yield word
    yield flask.current_app.name


def events_of(body: bytes) -> list[str]:
    return [event.event for event in Decoder().feed(body)]


def test_a_heartbeat_is_every_five_seconds_unless_it_is_told_otherwise() -> None:
    assert FlaskTailrace().runs.heartbeat_seconds == 5
    assert FlaskTailrace(heartbeat_seconds=1, early_seconds=2).runs.early_seconds == 2


def test_its_options_are_those_of_tailrace() -> None:
    constructor, stream = inspect.signature(Tailrace).parameters, inspect.signature(Tailrace.stream).parameters

    assert {*RunsKeywords.__annotations__, "store", "owner", "heartbeat_seconds"} == {*constructor}
    assert {*StreamKeywords.__annotations__, "self", "source", "hold"} == {*stream}


def test_a_source_has_the_context_of_its_request(client: FlaskClient) -> None:
    reply = client.post("/chat?word=hello", headers={"user": "a", "accept": "application/json"})

    assert reply.json is not None
    assert reply.json["text"] == f"hello{__name__}"


def test_a_view_may_add_headers_and_cookies(client: FlaskClient) -> None:
    reply = client.post("/chat?word=hello", headers={"user": "a"})

    assert reply.headers["x-mine"] == "yes"
    assert "seen=1" in reply.headers["set-cookie"]
    assert events_of(reply.data) == ["run.started", "text.delta", "text.delta", "run.completed"]


def test_a_run_is_its_owners_on_every_route(client: FlaskClient) -> None:
    path = client.post("/chat?word=hello", headers={"user": "a"}).headers["location"]

    mine, other, nobody = (client.get(path, headers=headers) for headers in ({"user": "a"}, {"user": "b"}, {}))
    listed = client.get("/runs?thread=t", headers={"user": "a"})

    assert (mine.status_code, other.status_code, nobody.status_code) == (200, 404, 401)
    assert events_of(mine.data)[-1] == "run.completed"
    assert listed.json == {"runs": []}


def test_the_body_of_a_route_is_bounded(client: FlaskClient) -> None:
    reply = client.post("/runs/unknown/cancel", headers={"user": "a"}, data=b"x" * (1024**2 + 1))

    assert reply.status_code == 413


def test_an_async_source_that_waits_for_its_own_loop_fails(client: FlaskClient) -> None:
    reply = client.post("/from-here", headers={"user": "a"})

    assert reply.status_code == 500
    assert b"correlation id" in reply.data


def test_what_was_closed_begins_again_with_the_next_request(client: FlaskClient, tail: FlaskTailrace) -> None:
    first = client.post("/chat?word=hello", headers={"user": "a"})
    tail.close()

    second = client.post("/chat?word=hello", headers={"user": "a"})

    assert events_of(first.data) == events_of(second.data)
    assert len(events_of(second.data)) == 4


def test_an_application_finds_it_again(client: FlaskClient, tail: FlaskTailrace) -> None:
    assert client.application.extensions["tailrace"] is tail


def test_what_can_never_be_is_refused_at_once(client: FlaskClient, tail: FlaskTailrace) -> None:
    with pytest.raises(StoreSetupError):
        FlaskTailrace("nowhere://")
    with pytest.raises(ValueError, match="slash"):
        tail.install(Flask(__name__), "runs")
    with client.application.test_request_context("/"):
        with pytest.raises(SourceInvalidError):
            tail.stream("text")
        with pytest.raises(DialectNotFoundError):
            tail.stream(lambda: answer(""), dialect="unknown")
