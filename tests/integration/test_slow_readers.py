"""A reader that takes nothing costs little, disturbs nobody, and is dropped in time."""

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest

from tailrace import Tailrace
from tailrace.web.server import ResettingH11Protocol, protocol_class
from tests.integration.support.apps import chat_app
from tests.integration.support.client import Connection, fetch, open_stream
from tests.integration.support.frames import events_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script

Serve = Callable[..., AppServer]

#: More than the kernel takes off our hands for one connection.
LARGE_RUN = ["x" * 60_000] * 200
SEND_TIMEOUT_SECONDS = 0.5
#: When uvicorn begins to wait for a reader, and what we may have added by then: one write, with a frame too many.
HIGH_WATER_BYTES = 64 * 1024
UNSENT_BOUND_BYTES = 256 * 1024

RESETTING = [pytest.param(protocol_class(), id="httptools"), pytest.param(ResettingH11Protocol, id="h11")]


@contextmanager
def stuck_reader(server: AppServer, method: str, target: str) -> Generator[Connection]:
    """A client that reads the headers and nothing else, until it is told to."""
    with server.connect(receive_buffer_bytes=4096) as connection:
        connection.send(method, target)
        connection.head()
        yield connection


@pytest.mark.parametrize("protocol", RESETTING)
def test_a_reader_that_takes_nothing_is_dropped_with_its_connection(
    serve: Serve, protocol: type[asyncio.Protocol], caplog: pytest.LogCaptureFixture
) -> None:
    tail = Tailrace(send_timeout_seconds=SEND_TIMEOUT_SECONDS)
    server = serve(chat_app(tail, Script(*LARGE_RUN)), http=protocol)

    with stuck_reader(server, "POST", "/chat") as reader:
        server.eventually(lambda: server.connection_count == 0 and tail.stream_count == 0)
        reader.read_to_end()

    assert not reader.whole
    assert [record.getMessage() for record in caplog.records if record.name == "uvicorn.error"] == []


@pytest.mark.parametrize("protocol", ["httptools", "h11"])
def test_a_reader_that_takes_nothing_is_dropped_under_a_server_that_cannot_reset(serve: Serve, protocol: str) -> None:
    tail = Tailrace(send_timeout_seconds=SEND_TIMEOUT_SECONDS)
    server = serve(chat_app(tail, Script(*LARGE_RUN)), http=protocol)

    with stuck_reader(server, "POST", "/chat") as reader:
        server.eventually(lambda: tail.stream_count == 0)
        reader.read_to_end()

    assert not reader.whole


def test_what_waits_for_a_reader_that_takes_nothing_is_bounded(serve: Serve) -> None:
    tail = Tailrace()
    server = serve(chat_app(tail, Script(*LARGE_RUN)))

    with stuck_reader(server, "POST", "/chat"), stuck_reader(server, "POST", "/chat"):
        server.eventually(lambda: tail.live_count == 0 and server.unsent_bytes > 2 * HIGH_WATER_BYTES)
        unsent_bytes = server.evaluate(lambda: server.unsent_bytes)

    assert unsent_bytes < 2 * UNSENT_BOUND_BYTES


def test_a_run_and_its_other_readers_do_not_wait_for_one_that_takes_nothing(serve: Serve) -> None:
    tail = Tailrace()
    gate = Gate()
    server = serve(chat_app(tail, Script("first", gate, *LARGE_RUN)))

    with open_stream(server.port, "POST", "/chat") as reader:
        reader.next_of("text.delta")
        url = reader.head["location"]
        with stuck_reader(server, "GET", url):
            gate.open()
            rest = reader.rest()
            late = fetch(server.port, "GET", f"{url}?merge=0")
            server.eventually(lambda: tail.stream_count == 1)

    assert rest[-1].event == "run.completed"
    assert len(events_of(late.body)) == len(LARGE_RUN) + 3


def test_a_reader_that_takes_its_time_gets_everything_and_is_not_dropped(serve: Serve) -> None:
    tail = Tailrace()
    server = serve(chat_app(tail, Script(*LARGE_RUN)))

    with stuck_reader(server, "POST", "/chat") as reader:
        server.eventually(lambda: tail.stream_count == 1 and tail.live_count == 0)
        body = reader.read_to_end()

    assert reader.whole
    assert body.endswith(b": end\n")


def test_a_reader_that_was_dropped_comes_back_where_it_was(serve: Serve) -> None:
    tail = Tailrace(send_timeout_seconds=SEND_TIMEOUT_SECONDS)
    server = serve(chat_app(tail, Script(*LARGE_RUN)))

    with server.connect(receive_buffer_bytes=4096) as connection:
        connection.send("POST", "/chat")
        url = connection.head()["location"]
        server.eventually(lambda: tail.stream_count == 0)
        events = events_of(connection.read_to_end())
    rest = events_of(fetch(server.port, "GET", f"{url}?merge=0", {"last-event-id": events[-1].id}).body)

    ids = [event.id for event in [*events, *rest]]
    assert ids == [str(number) for number in range(1, len(LARGE_RUN) + 3)]


def test_a_drain_does_not_wait_for_a_reader_that_takes_nothing(serve: Serve) -> None:
    tail = Tailrace(send_timeout_seconds=600)
    server = serve(chat_app(tail, Script(*LARGE_RUN)))

    with stuck_reader(server, "POST", "/chat") as reader:
        server.eventually(lambda: tail.stream_count == 1 and tail.live_count == 0)
        began_at = time.monotonic()
        server.call(tail.drain(1.0))
        drained_seconds = time.monotonic() - began_at
        streams_left = server.evaluate(lambda: tail.stream_count)
        reader.read_to_end()

    assert streams_left == 0
    assert drained_seconds < 5
    assert not reader.whole
