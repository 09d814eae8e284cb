"""A reader that leaves: by default the run does not notice; where it was asked to, it ends when nobody is left."""

from collections.abc import Callable

import pytest

from tailrace import Tailrace
from tests.integration.support.apps import chat_app
from tests.integration.support.client import NEVER_SECONDS, Connection, fetch, open_stream
from tests.integration.support.frames import events_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script

Serve = Callable[..., AppServer]


def last_event_of(server: AppServer, url: str) -> str:
    """The type and data of a run's last event, which is awaited."""
    last = events_of(fetch(server.port, "GET", url).body)[-1]
    return f"{last.event} {last.data}"


@pytest.mark.parametrize("leave", [Connection.close, Connection.abort])
def test_a_run_goes_on_when_its_starter_leaves(serve: Serve, leave: Callable[[Connection], None]) -> None:
    gate = Gate()
    source = Script("a", gate, "b")
    tail = Tailrace(heartbeat_seconds=NEVER_SECONDS)
    server = serve(chat_app(tail, source))

    with open_stream(server.port, "POST", "/chat") as stream:
        stream.next_of("text.delta")
        url = stream.head["location"]
        leave(stream.connection)
    server.eventually(lambda: tail.stream_count == 0)
    still = (server.evaluate(lambda: tail.live_count), source.is_closed)
    gate.open()

    assert still == (1, False)
    assert last_event_of(server, url).startswith("run.completed")
    assert source.taken == 2


def test_a_run_goes_on_when_its_starter_leaves_before_the_first_event(serve: Serve) -> None:
    gate = Gate()
    source = Script(gate, "a")
    tail = Tailrace(early_seconds=0.1, heartbeat_seconds=NEVER_SECONDS)
    server = serve(chat_app(tail, source))
    key = {"idempotency-key": "one long and random key"}

    with Connection(server.port) as connection:
        connection.send("POST", "/chat", key)
        gate.await_arrival()
    server.eventually(lambda: server.connection_count == 0 and tail.stream_count == 0)
    gate.open()
    reply = fetch(server.port, "POST", "/chat", key)

    assert [event.event for event in events_of(reply.body)] == ["run.started", "text.delta", "run.completed"]
    assert source.opened == 1


def test_a_run_that_may_not_be_alone_is_cancelled_when_its_starter_leaves(serve: Serve) -> None:
    source = Script("a", Gate())
    server = serve(chat_app(Tailrace(heartbeat_seconds=NEVER_SECONDS), source, on_disconnect="cancel"))

    with open_stream(server.port, "POST", "/chat") as stream:
        stream.next_of("text.delta")
        url = stream.head["location"]

    source.await_closing()
    last = last_event_of(server, url)
    assert last.startswith("run.cancelled")
    assert '"reason":"disconnect"' in last


def test_a_client_that_waits_for_a_document_and_leaves_is_a_reader_that_leaves(serve: Serve) -> None:
    gate = Gate()
    source = Script("a", gate)
    server = serve(chat_app(Tailrace(heartbeat_seconds=NEVER_SECONDS), source, on_disconnect="cancel"))

    with Connection(server.port) as connection:
        connection.send("POST", "/chat", {"accept": "application/json"})
        gate.await_arrival()

    source.await_closing()


def test_a_second_reader_keeps_a_run_alive_and_the_last_one_takes_it_along(serve: Serve) -> None:
    gates = Gate(), Gate()
    source = Script("a", gates[0], "b", gates[1])
    tail = Tailrace(heartbeat_seconds=NEVER_SECONDS)
    server = serve(chat_app(tail, source, on_disconnect="cancel"))

    with open_stream(server.port, "POST", "/chat") as first:
        first.next_of("text.delta")
        url = first.head["location"]
        with open_stream(server.port, "GET", url) as second:
            second.next_of("text.delta")
            first.connection.close()
            server.eventually(lambda: tail.stream_count == 1)
            gates[0].open()
            came = second.next_of("text.delta")

    source.await_closing()
    assert '"delta":"b"' in came.data
    assert last_event_of(server, url).startswith("run.cancelled")


def test_a_reader_that_comes_back_within_the_grace_keeps_the_run_alive(serve: Serve) -> None:
    gate = Gate()
    source = Script("a", gate, "b")
    tail = Tailrace(heartbeat_seconds=0.2)
    server = serve(chat_app(tail, source, on_disconnect="cancel", grace_seconds=0.5))

    with open_stream(server.port, "POST", "/chat") as first:
        first.next_of("text.delta")
        url = first.head["location"]
    with open_stream(server.port, "GET", url, {"last-event-id": "2"}) as second:
        # By then the grace, counted from the moment when the first one left, is long over.
        while second.comments.count("hb") < 6:
            second.read_more()
        gate.open()
        rest = second.rest()

    assert [event.event for event in rest] == ["text.delta", "run.completed"]


def test_a_run_is_cancelled_when_nobody_comes_back_within_the_grace(serve: Serve) -> None:
    source = Script("a", Gate())
    server = serve(
        chat_app(Tailrace(heartbeat_seconds=NEVER_SECONDS), source, on_disconnect="cancel", grace_seconds=0.3)
    )

    with open_stream(server.port, "POST", "/chat") as stream:
        stream.next_of("text.delta")
        url = stream.head["location"]

    source.await_closing()
    assert last_event_of(server, url).startswith("run.cancelled")
