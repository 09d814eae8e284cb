"""`EventStream`: a source to one reader, with the same send loop and no log."""

import logging
import threading
from collections.abc import Callable, Iterator

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from tailrace import EventStream, Tailrace, TextDelta
from tests.integration.support.apps import answering
from tests.integration.support.client import BOUND_SECONDS, NEVER_SECONDS, fetch, open_stream
from tests.integration.support.frames import events_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script, SyncScript

Serve = Callable[..., AppServer]

LARGE_PIECE = "x" * 10_000
#: More than any kernel buffers for one connection, and far less than an unbounded source makes in the same time.
BOUND_BYTES = 24 * 1024 * 1024


def app_of(make: Callable[[], Response]) -> Starlette:
    """An application that answers `/stream` with what `make` returns."""
    return Starlette(routes=[Route("/stream", answering(make), methods=["GET", "POST"])])


def test_the_stream_has_no_ids_no_location_one_terminal_event_and_the_end_mark(serve: Serve) -> None:
    server = serve(app_of(lambda: EventStream(Script("a", TextDelta("b"), {"event": "chart", "data": [1]})())))

    reply = fetch(server.port, "GET", "/stream")

    events = events_of(reply.body)
    assert [event.event for event in events] == ["run.started", "text.delta", "text.delta", "chart", "run.completed"]
    assert {event.id for event in events} == {""}
    assert b"\nid:" not in reply.body
    assert reply.body.endswith(b"\n\n: end\n")
    assert reply.whole
    assert "location" not in reply.head.names
    assert reply.head["content-type"] == "text/event-stream"
    assert reply.head["cache-control"] == "no-store, no-transform"
    assert reply.head["x-accel-buffering"] == "no"


@pytest.mark.parametrize("source", [Script("a", "b"), SyncScript("a", "b")])
def test_a_source_may_be_async_or_sync_and_a_dialect_may_be_chosen(serve: Serve, source: Script | SyncScript) -> None:
    server = serve(app_of(lambda: EventStream(source, dialect="tokens", headers={"x-trace": "7"})))

    reply = fetch(server.port, "POST", "/stream")

    assert [event.data for event in events_of(reply.body)[1:]] == ['{"token":"a"}', '{"token":"b"}', "[DONE]"]
    assert reply.head["x-trace"] == "7"


@pytest.mark.parametrize("kind", [Script, SyncScript])
def test_an_event_is_on_the_wire_while_the_source_waits_for_the_next(
    serve: Serve, kind: Callable[..., Script | SyncScript]
) -> None:
    gate = Gate()
    server = serve(app_of(lambda: EventStream(kind("a", gate, "b"))))

    with open_stream(server.port, "GET", "/stream") as stream:
        first = stream.next_of("text.delta")
        gate.open()
        rest = stream.rest()

    assert '"delta":"a"' in first.data
    assert [event.event for event in rest] == ["text.delta", "run.completed"]


def test_a_silent_stream_gets_heartbeats(serve: Serve) -> None:
    gate = Gate()
    server = serve(app_of(lambda: EventStream(Script("a", gate), heartbeat_seconds=0.1)))

    with open_stream(server.port, "GET", "/stream") as stream:
        stream.until_comment("hb")
        gate.open()
        stream.rest()

    assert stream.comments[-1] == "end"


def test_a_failure_in_the_middle_is_told_and_nothing_else_is(serve: Serve) -> None:
    server = serve(app_of(lambda: EventStream(Script("a", RuntimeError("a secret")))))

    reply = fetch(server.port, "GET", "/stream")

    assert events_of(reply.body)[-1].event == "run.failed"
    assert reply.body.endswith(b": end\n")
    assert b"secret" not in reply.body


def test_an_http_exception_before_the_first_event_is_the_answer(serve: Serve) -> None:
    source = Script(HTTPException(429, "slow down", {"retry-after": "9"}))
    server = serve(app_of(lambda: EventStream(source)))

    reply = fetch(server.port, "GET", "/stream")

    assert (reply.status, reply.body) == (429, b"slow down")
    assert reply.head["retry-after"] == "9"
    assert source.is_closed


def test_another_exception_before_the_first_event_is_500_with_a_correlation_id_and_nothing_else(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(app_of(lambda: EventStream(Script(RuntimeError("a secret")))))

    reply = fetch(server.port, "GET", "/stream")

    correlation_id = reply.body.decode().partition("correlation id ")[2][:12]
    logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert (reply.status, reply.error_code) == (500, "error")
    assert b"secret" not in reply.body
    assert any(correlation_id in line for line in logged)


def test_head_starts_nothing(serve: Serve) -> None:
    source = Script("a")
    server = serve(app_of(lambda: EventStream(source)))

    head = fetch(server.port, "HEAD", "/stream")

    assert (head.status, head.head["content-type"]) == (200, "text/event-stream")
    assert source.opened == 0


def test_a_background_task_runs_after_the_stream(serve: Serve) -> None:
    ran = threading.Event()
    server = serve(app_of(lambda: EventStream(Script("a"), background=BackgroundTask(ran.set))))

    fetch(server.port, "GET", "/stream")

    assert ran.wait(BOUND_SECONDS)


# The reader leaves ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", ["close", "abort"])
def test_a_reader_that_leaves_closes_a_source_that_waits(serve: Serve, leave: str) -> None:
    source = Script("a", Gate(), "b")
    server = serve(app_of(lambda: EventStream(source, heartbeat_seconds=NEVER_SECONDS)))

    with open_stream(server.port, "GET", "/stream") as stream:
        stream.next_of("text.delta")
        if leave == "abort":
            stream.connection.abort()

    source.await_closing()
    assert source.taken == 1


def test_a_reader_that_leaves_closes_a_sync_source_on_its_thread(serve: Serve) -> None:
    closed_on: list[str] = []
    pause = threading.Event()

    def ticking() -> Iterator[str]:
        try:
            while True:
                yield "tick"
                pause.wait(0.01)
        finally:
            closed_on.append(threading.current_thread().name)
            pause.set()

    server = serve(app_of(lambda: EventStream(ticking(), heartbeat_seconds=NEVER_SECONDS)))

    with open_stream(server.port, "GET", "/stream") as stream:
        stream.next_of("text.delta")

    assert pause.wait(BOUND_SECONDS)
    assert closed_on == ["tailrace-source"]


# The reader takes nothing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Script, SyncScript])
def test_a_source_without_end_waits_for_a_reader_that_takes_nothing_and_is_closed_at_the_timeout(
    serve: Serve, kind: Callable[..., Script | SyncScript]
) -> None:
    source = kind(*[LARGE_PIECE] * 20_000)
    server = serve(app_of(lambda: EventStream(source, send_timeout_seconds=0.5)))

    with server.connect(receive_buffer_bytes=4096) as connection:
        connection.send("GET", "/stream")
        connection.head()
        source.await_closing()
        connection.read_to_end()

    assert source.taken * len(LARGE_PIECE) < BOUND_BYTES
    assert not connection.whole


def test_a_slow_reader_gets_everything(serve: Serve) -> None:
    source = Script(*[LARGE_PIECE] * 1000)
    server = serve(app_of(lambda: EventStream(source)))

    with server.connect(receive_buffer_bytes=4096) as connection:
        connection.send("GET", "/stream")
        connection.head()
        server.eventually(lambda: source.taken > 10)
        body = connection.read_to_end()

    assert len(events_of(body)) == 1002
    assert connection.whole


# The server goes down ------------------------------------------------------------------------------------------------


def test_a_drain_ends_the_stream_as_interrupted(serve: Serve) -> None:
    tail = Tailrace()
    source = Script("a", Gate())
    app = Starlette(routes=[Route("/stream", answering(lambda: EventStream(source)))])
    tail.install(app, "/runs")
    server = serve(app)

    with open_stream(server.port, "GET", "/stream") as stream:
        stream.next_of("text.delta")
        server.call(tail.drain(1.0))
        rest = stream.rest()

    assert [event.event for event in rest] == ["run.interrupted"]
    assert stream.comments == ["end"]
    assert source.is_closed
