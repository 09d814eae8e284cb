"""A repeated start finds the run of the first; a start that failed at once never was."""

import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from tailrace import RunResponse, Tailrace
from tests.integration.support.apps import chat_app
from tests.integration.support.client import Connection, Reply, fetch, open_stream
from tests.integration.support.frames import events_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, OpenedStream, Script

Serve = Callable[..., AppServer]

KEY = {"idempotency-key": "one long and random key"}
STARTERS = 20


def location_of(reply: Reply) -> str:
    """Where the run of a response is."""
    return reply.head["location"]


# A key ---------------------------------------------------------------------------------------------------------------


def test_many_starts_at_once_with_one_key_are_one_run(serve: Serve) -> None:
    gate = Gate()
    source = Script("a", gate, "b")
    server = serve(chat_app(Tailrace(), source))

    def start(_: int) -> Reply:
        with Connection(server.port) as connection:
            connection.send("POST", "/chat", KEY)
            return connection.reply()

    with ThreadPoolExecutor(STARTERS) as threads:
        starts = [threads.submit(start, number) for number in range(STARTERS)]
        gate.await_arrival()
        server.eventually(lambda: server.connection_count == STARTERS)
        gate.open()
        replies = [started.result() for started in starts]
    later = fetch(server.port, "POST", "/chat", KEY)

    assert {reply.status for reply in replies} == {200}
    assert {location_of(reply) for reply in replies} == {location_of(later)}
    assert {reply.body for reply in replies} == {later.body}
    assert source.opened == 1


def test_a_source_object_that_loses_is_closed_unused(serve: Serve) -> None:
    tail = Tailrace()
    sources: list[OpenedStream] = []
    app = FastAPI()
    tail.install(app, "/runs")

    @app.post("/chat")
    async def chat() -> RunResponse:
        sources.append(OpenedStream())
        return tail.stream(sources[-1])

    server = serve(app)

    first = fetch(server.port, "POST", "/chat", KEY)
    again = fetch(server.port, "POST", "/chat", KEY)
    came_back = fetch(server.port, "POST", "/chat", {**KEY, "last-event-id": "1"})
    refused = fetch(server.port, "POST", "/chat", {"last-event-id": "1"})

    assert again.body == first.body
    assert [came_back.status, refused.status] == [200, 400]
    assert [source.closed for source in sources[1:]] == [1, 1, 1]


@pytest.mark.parametrize("target", ["/chat?temperature=1", "/other"])
def test_the_same_key_for_another_request_is_409(serve: Serve, target: str) -> None:
    tail = Tailrace()
    source = Script("a")
    app = chat_app(tail, source)

    @app.post("/other")
    async def other() -> RunResponse:
        return tail.stream(source)

    server = serve(app)
    fetch(server.port, "POST", "/chat", KEY)

    reply = fetch(server.port, "POST", target, KEY)

    assert (reply.status, reply.error_code) == (409, "conflict")
    assert source.opened == 1


class Question(BaseModel):
    """A body."""

    text: str


def test_the_same_key_with_another_fingerprint_is_409(serve: Serve) -> None:
    tail = Tailrace()
    source = Script("a")
    app = FastAPI()
    tail.install(app, "/runs")

    @app.post("/chat")
    async def chat(question: Question) -> RunResponse:
        return tail.stream(source, fingerprint={"question": question.text})

    server = serve(app)

    def ask(body: bytes) -> Reply:
        return fetch(server.port, "POST", "/chat", {**KEY, "content-type": "application/json"}, body)

    first, same, other = ask(b'{"text":"one"}'), ask(b'{ "text": "one" }'), ask(b'{"text":"two"}')

    assert location_of(first) == location_of(same)
    assert (other.status, other.error_code) == (409, "conflict")
    assert source.opened == 1


@pytest.mark.parametrize("key", ["k", "x" * 19, "x" * 257])
def test_a_key_that_could_be_guessed_or_is_endless_is_400(serve: Serve, key: str) -> None:
    source = Script("a")
    server = serve(chat_app(Tailrace(), source))

    reply = fetch(server.port, "POST", "/chat", {"idempotency-key": key})

    assert (reply.status, reply.error_code) == (400, "key_invalid")
    assert source.opened == 0


def test_a_client_cannot_name_the_run_by_its_key(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a")))
    run_id = location_of(fetch(server.port, "POST", "/chat")).split("/")[2]

    reply = fetch(server.port, "POST", "/chat", {"idempotency-key": run_id})

    assert reply.status == 200
    assert run_id not in location_of(reply)


def test_a_key_stands_for_its_run_after_the_client_has_left(serve: Serve) -> None:
    gate = Gate()
    source = Script("a", gate, "b")
    server = serve(chat_app(Tailrace(), source))

    with open_stream(server.port, "POST", "/chat", KEY) as first:
        first.next_of("text.delta")
    with open_stream(server.port, "POST", "/chat", KEY) as second:
        gate.open()
        events = second.rest()

    assert [event.event for event in events] == ["run.started", "text.delta", "text.delta", "run.completed"]
    assert source.opened == 1


# Early failures ------------------------------------------------------------------------------------------------------


class Flaky:
    """A source that fails before its first event until it is repaired."""

    def __init__(self, error: Exception) -> None:
        """Fail with `error`."""
        self.opened = 0
        self.error: Exception | None = error

    async def __call__(self) -> AsyncIterator[str]:
        """Open it, or fail."""
        self.opened += 1
        if self.error is not None:
            raise self.error
        return self._items()

    async def _items(self) -> AsyncIterator[str]:
        yield "x"


def fails_in_the_generator(error: Exception) -> Script:
    """A source that fails in its first step."""
    return Script(error)


@pytest.mark.parametrize("fails", [fails_in_the_generator, Flaky])
def test_an_http_exception_before_the_first_event_is_the_answer(
    serve: Serve, fails: Callable[[Exception], Script | Flaky]
) -> None:
    server = serve(chat_app(Tailrace(), fails(HTTPException(403, "not yours", {"x-why": "quota"}))))

    reply = fetch(server.port, "POST", "/chat", KEY)

    assert (reply.status, reply.json()) == (403, {"detail": "not yours"})
    assert reply.head["x-why"] == "quota"


@pytest.mark.parametrize("fails", [fails_in_the_generator, Flaky])
def test_another_exception_before_the_first_event_is_500_with_a_correlation_id_and_nothing_else(
    serve: Serve, fails: Callable[[Exception], Script | Flaky], caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(chat_app(Tailrace(), fails(RuntimeError("postgres://user:secret@host"))))

    reply = fetch(server.port, "POST", "/chat", KEY)

    assert (reply.status, reply.error_code) == (500, "error")
    assert b"secret" not in reply.body
    logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    correlation_id = reply.body.decode().partition("correlation id ")[2][:12]
    assert len(correlation_id) == 12
    assert any(correlation_id in line for line in logged)


@pytest.mark.parametrize("accept", ["*/*", "application/json"])
@pytest.mark.parametrize("error", [HTTPException(503, "busy"), RuntimeError("x")])
def test_a_start_that_failed_at_once_can_be_repeated_with_its_key(serve: Serve, error: Exception, accept: str) -> None:
    source = Flaky(error)
    server = serve(chat_app(Tailrace(), source))

    failed = fetch(server.port, "POST", "/chat", {**KEY, "accept": accept})
    source.error = None
    repeated = fetch(server.port, "POST", "/chat", {**KEY, "accept": accept})

    assert failed.status in {500, 503}
    assert repeated.status == 200
    assert b"run.completed" in repeated.body or b'"completed"' in repeated.body
    assert source.opened == 2


def test_all_who_wait_for_a_start_that_fails_at_once_are_told(serve: Serve) -> None:
    gate = Gate()
    source = Script(gate, HTTPException(403, "no"))
    server = serve(chat_app(Tailrace(early_seconds=15), source))

    with Connection(server.port) as first, Connection(server.port) as second:
        first.send("POST", "/chat", KEY)
        gate.await_arrival()
        second.send("POST", "/chat", KEY)
        server.eventually(lambda: server.connection_count == 2)
        gate.open()
        replies = [first.reply(), second.reply()]

    assert [reply.status for reply in replies] == [403, 403]


def test_a_failure_after_the_wait_for_the_first_event_is_the_runs_own(serve: Serve) -> None:
    gate = Gate()
    server = serve(chat_app(Tailrace(early_seconds=0.05), Script(gate, HTTPException(403, "no"))))

    with open_stream(server.port, "POST", "/chat") as stream:
        gate.open()
        events = stream.rest()

    assert stream.head.status == 200
    assert [event.event for event in events] == ["run.started", "run.failed"]
    assert stream.comments == ["end"]


def test_a_failure_after_the_first_event_is_the_runs_own(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a", HTTPException(403, "no"))))

    reply = fetch(server.port, "POST", "/chat")

    assert reply.status == 200
    assert events_of(reply.body)[-1].event == "run.failed"
