"""Each of uvicorn's HTTP implementations carries a stream, ends it, and lets it be resumed."""

import asyncio
from collections.abc import Callable

import httpx2
import pytest

from tailrace import Tailrace
from tailrace.web.server import ResettingH11Protocol, protocol_class
from tests.integration.support.apps import chat_app
from tests.integration.support.client import NEVER_SECONDS, Connection, fetch, open_stream
from tests.integration.support.frames import events_of, frames_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script

Serve = Callable[..., AppServer]

each_protocol = pytest.mark.parametrize(
    "protocol",
    [
        pytest.param(protocol_class(), id="our httptools"),
        pytest.param(ResettingH11Protocol, id="our h11"),
        pytest.param("httptools", id="uvicorn's httptools"),
        pytest.param("h11", id="uvicorn's h11"),
    ],
)
Protocol = type[asyncio.Protocol] | str


def test_where_httptools_is_missing_the_protocol_is_the_one_on_h11(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "httptools", None)

    assert protocol_class() is ResettingH11Protocol


@each_protocol
def test_a_stream_arrives_event_by_event_ends_and_is_resumed(serve: Serve, protocol: Protocol) -> None:
    gate = Gate()
    server = serve(chat_app(Tailrace(), Script("a", gate, "b")), http=protocol)

    with open_stream(server.port, "POST", "/chat") as stream:
        stream.next_of("text.delta")
        gate.open()
        stream.rest()
    again = fetch(server.port, "GET", stream.head["location"], {"last-event-id": "2"})

    assert stream.connection.whole
    assert stream.raw.endswith(b": end\n")
    assert frames_of(again.body) == frames_of(stream.raw)[2:]
    assert again.whole


@each_protocol
def test_a_connection_serves_one_stream_after_the_other(serve: Serve, protocol: Protocol) -> None:
    server = serve(chat_app(Tailrace(), Script("a")), http=protocol)
    bodies: list[bytes] = []

    with Connection(server.port) as connection:
        for _ in range(3):
            connection.send("POST", "/chat")
            bodies.append(connection.reply().body)

    assert [len(events_of(body)) for body in bodies] == [3, 3, 3]


@each_protocol
def test_two_requests_sent_at_once_are_answered_one_after_the_other(serve: Serve, protocol: Protocol) -> None:
    server = serve(chat_app(Tailrace(), Script("a")), http=protocol)

    with Connection(server.port) as connection:
        connection.send("POST", "/chat")
        connection.send("POST", "/chat")
        first, second = connection.reply(), connection.reply()

    assert [len(events_of(reply.body)) for reply in (first, second)] == [3, 3]
    assert first.head["location"] != second.head["location"]


@each_protocol
def test_a_reader_that_aborts_is_noticed_and_the_run_goes_on(serve: Serve, protocol: Protocol) -> None:
    gate = Gate()
    tail = Tailrace(heartbeat_seconds=NEVER_SECONDS)
    server = serve(chat_app(tail, Script("a", gate, "b")), http=protocol)

    with open_stream(server.port, "POST", "/chat") as stream:
        stream.next_of("text.delta")
        url = stream.head["location"]
        stream.connection.abort()
        server.eventually(lambda: tail.stream_count == 0 and server.connection_count == 0)
    gate.open()

    assert events_of(fetch(server.port, "GET", url).body)[-1].event == "run.completed"


@each_protocol
def test_a_client_library_reads_a_stream_and_a_document(serve: Serve, protocol: Protocol) -> None:
    server = serve(chat_app(Tailrace(), Script("a", "b")), http=protocol)

    with httpx2.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        with client.stream("POST", "/chat") as response:
            body = b"".join(response.iter_raw())
        document = client.post("/chat", headers={"accept": "application/json"})

    assert [event.id for event in events_of(body)] == ["1", "2", "3", "4"]
    assert document.json()["text"] == "ab"
