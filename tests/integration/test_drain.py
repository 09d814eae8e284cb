"""A drain: what each kind of reader is told when the process is about to go, and what it may still finish."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from starlette.applications import Starlette
from starlette.routing import Route

from tailrace import EventStream, Tailrace
from tailrace.stores.memory import MemoryStore
from tests.integration.support.apps import answering, chat_app
from tests.integration.support.client import Connection, EventReader, fetch, open_stream
from tests.integration.support.frames import entry_of, events_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script, SyncScript

Serve = Callable[..., AppServer]

#: Of a drain that a test lets come to its end, and of one that has to interrupt what is left.
GRACE_SECONDS = 15.0
SHORT_SECONDS = 2.0


class SharedStore(MemoryStore):
    """Says that another process could go on reading."""

    def __init__(self) -> None:
        """Keep everything in memory all the same."""
        super().__init__(monotonic=time.monotonic)

    @property
    def shared(self) -> bool:
        """So it says."""
        return True


def while_draining(server: AppServer, tail: Tailrace, meanwhile: Callable[[], None]) -> None:
    """Do something while a drain goes on, which it has to let come to its end."""
    with ThreadPoolExecutor(1) as threads:
        drained = threads.submit(server.call, tail.drain(GRACE_SECONDS))
        server.eventually(lambda: tail.draining)
        meanwhile()
        drained.result()


def assert_told_to_come_back(stream: EventReader) -> None:
    """It got one frame without id that says when, and a clean end that is not the end of the run."""
    (frame,) = stream.rest()
    assert (frame.event, frame.data) == ("reconnect", "{}")
    assert stream.raw.count(b"\nid: ") + stream.raw.startswith(b"id: ") == 2
    assert stream.retry_ms is not None
    assert 1000 <= stream.retry_ms <= 10_000
    assert stream.comments == []
    assert stream.connection.whole


def test_without_a_shared_store_readers_stay_to_the_end_of_their_run(serve: Serve) -> None:
    gate = Gate()
    tail = Tailrace()
    server = serve(chat_app(tail, Script("a", gate, "b")))

    with open_stream(server.port, "POST", "/chat") as stream:
        stream.next_of("text.delta")
        while_draining(server, tail, gate.open)
        rest = stream.rest()

    assert [event.event for event in rest] == ["text.delta", "run.completed"]
    assert stream.comments == ["end"]


def test_with_a_shared_store_readers_that_come_back_are_told_to(serve: Serve) -> None:
    gate = Gate()
    tail = Tailrace(SharedStore())
    server = serve(chat_app(tail, Script("a", gate, "b")))

    with open_stream(server.port, "POST", "/chat") as stream:
        stream.next_of("text.delta")

        def meanwhile() -> None:
            assert_told_to_come_back(stream)
            gate.open()

        while_draining(server, tail, meanwhile)
    rest = fetch(server.port, "GET", stream.head["location"], {"last-event-id": stream.last_event_id})

    assert stream.last_event_id == "2"
    assert [event.event for event in events_of(rest.body)] == ["text.delta", "run.completed"]


def test_with_a_shared_store_clients_that_know_no_resume_stay_to_the_end_of_their_run(serve: Serve) -> None:
    gate = Gate()
    tail = Tailrace(SharedStore())
    server = serve(chat_app(tail, Script("a", gate, "b"), dialect="tokens"))

    with open_stream(server.port, "POST", "/chat") as stays:
        stays.next()
        url = stays.head["location"]
        with open_stream(server.port, "GET", url, {"tailrace-client": "test"}) as comes_back:
            comes_back.next()
            comes_back.next()

            def meanwhile() -> None:
                assert_told_to_come_back(comes_back)
                gate.open()

            while_draining(server, tail, meanwhile)
            rest = stays.rest()

    assert [event.data for event in rest][-2:] == ['{"token":"b"}', "[DONE]"]
    assert stays.comments == ["end"]


def test_what_has_not_finished_in_time_is_interrupted_and_its_readers_are_told(serve: Serve) -> None:
    source = Script("a", Gate())
    tail = Tailrace()
    server = serve(chat_app(tail, source))

    with open_stream(server.port, "POST", "/chat") as stream:
        stream.next_of("text.delta")
        server.call(tail.drain(SHORT_SECONDS))
        rest = stream.rest()
        left = server.evaluate(lambda: (tail.live_count, tail.stream_count))

    assert [event.event for event in rest] == ["run.interrupted"]
    assert stream.comments == ["end"]
    assert stream.connection.whole
    assert source.is_closed
    assert left == (0, 0)


def test_a_client_that_waits_for_a_document_gets_what_there_is(serve: Serve) -> None:
    gate = Gate()
    tail = Tailrace()
    server = serve(chat_app(tail, Script("a", gate)))

    with Connection(server.port) as connection:
        connection.send("POST", "/chat", {"accept": "application/json"})
        gate.await_arrival()
        server.call(tail.drain(SHORT_SECONDS))
        reply = connection.reply()

    assert reply.status == 200
    assert (reply.json()["status"], reply.json()["text"]) == ("interrupted", "a")


def test_a_run_that_is_drained_can_be_read_until_the_process_goes(serve: Serve) -> None:
    tail = Tailrace()
    server = serve(chat_app(tail, Script("a", Gate())))

    with open_stream(server.port, "POST", "/chat") as stream:
        url = stream.head["location"]
        server.call(tail.drain(SHORT_SECONDS))
        stream.rest()
    again = fetch(server.port, "GET", url)

    assert again.body == stream.raw
    assert entry_of(events_of(again.body)[-1]).seq == 3


def test_a_stream_without_a_log_that_is_opened_while_the_server_drains_is_ended_too(serve: Serve) -> None:
    gate, source = Gate(), Script("a", Gate())
    tail = Tailrace()
    app = Starlette(
        routes=[
            Route("/chat", answering(lambda: tail.stream(Script("a", gate))), methods=["POST"]),
            Route("/stream", answering(lambda: EventStream(source))),
        ]
    )
    tail.install(app, "/runs")
    server = serve(app)

    with open_stream(server.port, "POST", "/chat") as holds_up, ExitStack() as opened_late:
        holds_up.next_of("text.delta")
        late: list[EventReader] = []

        def meanwhile() -> None:
            late.append(opened_late.enter_context(open_stream(server.port, "GET", "/stream")))
            late[0].next_of("text.delta")
            gate.open()

        while_draining(server, tail, meanwhile)
        rest = late[0].rest()

    assert [event.event for event in rest] == ["run.interrupted"]
    assert late[0].comments == ["end"]
    assert source.is_closed


def test_a_source_that_does_not_close_does_not_hold_up_a_drain(serve: Serve) -> None:
    gate = Gate()
    tail = Tailrace()
    server = serve(chat_app(tail, SyncScript("a", gate, "b")))

    with open_stream(server.port, "POST", "/chat") as stream:
        stream.next_of("text.delta")
        server.call(tail.drain(SHORT_SECONDS))
        rest = stream.rest()
        abandoned = server.evaluate(lambda: tail.abandoned_count)
    gate.open()

    assert [event.event for event in rest] == ["run.interrupted"]
    assert abandoned == 1
    server.eventually(lambda: tail.abandoned_count == 0)
