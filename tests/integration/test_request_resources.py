"""What belongs to a request, its dependencies and background tasks, and how long it lasts beside a run."""

import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Literal

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI

from tailrace import RunResponse, Tailrace
from tests.integration.support.client import BOUND_SECONDS, NEVER_SECONDS, fetch, open_stream
from tests.integration.support.frames import events_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script

Serve = Callable[..., AppServer]


class Request:
    """What one application did for its requests."""

    def __init__(self) -> None:
        """Begin with nothing done."""
        self.resource_closed = threading.Event()
        self.background_ran = threading.Event()

    async def resource(self) -> AsyncIterator[str]:
        """A dependency with `yield`, such as a database session."""
        self.resource_closed.clear()
        yield "resource"
        self.resource_closed.set()

    async def in_background(self) -> None:
        """A background task."""
        self.background_ran.set()


def app_with_resources(
    tail: Tailrace,
    request: Request,
    source: Callable[[], object],
    *,
    hold: bool = False,
    on_disconnect: Literal["detach", "cancel"] = "detach",
) -> FastAPI:
    """An application whose handler has a dependency and a background task, and one that has only the latter."""
    app = FastAPI()
    tail.install(app, "/runs")

    @app.post("/chat")
    async def chat(tasks: BackgroundTasks, resource: Annotated[str, Depends(request.resource)]) -> RunResponse:
        tasks.add_task(request.in_background)
        return tail.stream(source, hold=hold, on_disconnect=on_disconnect)

    @app.post("/bare")
    async def bare(tasks: BackgroundTasks) -> RunResponse:
        tasks.add_task(request.in_background)
        return tail.stream(source, hold=hold, on_disconnect=on_disconnect)

    return app


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the library warned of."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_reader_that_stays_has_its_resources_to_the_end(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    request = Request()
    alive: list[bool] = []

    async def source() -> AsyncIterator[str]:
        yield "a"
        alive.append(not request.resource_closed.is_set())

    server = serve(app_with_resources(Tailrace(heartbeat_seconds=NEVER_SECONDS), request, source))

    fetch(server.port, "POST", "/chat")

    assert alive == [True]
    assert request.resource_closed.wait(BOUND_SECONDS)
    assert request.background_ran.wait(BOUND_SECONDS)
    assert warnings_in(caplog) == []


@pytest.mark.parametrize("headers", [{}, {"accept": "application/json"}])
def test_with_hold_the_resources_outlive_a_reader_that_leaves(
    serve: Serve, caplog: pytest.LogCaptureFixture, headers: dict[str, str]
) -> None:
    request, gate = Request(), Gate()
    alive: list[bool] = []
    tail = Tailrace(heartbeat_seconds=NEVER_SECONDS)

    async def source() -> AsyncIterator[str]:
        yield "a"
        await gate.passed()
        alive.append(not request.resource_closed.is_set() and not request.background_ran.is_set())
        yield "b"

    server = serve(app_with_resources(tail, request, source, hold=True))

    with server.connect() as connection:
        connection.send("POST", "/chat", headers)
        gate.await_arrival()
    server.eventually(lambda: server.connection_count == 0 and tail.stream_count == 0)
    gate.open()

    assert request.background_ran.wait(BOUND_SECONDS)
    assert request.resource_closed.wait(BOUND_SECONDS)
    assert alive == [True]
    assert warnings_in(caplog) == []


def test_without_hold_the_resources_are_closed_and_that_is_said_once(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    request, gate = Request(), Gate()
    tail = Tailrace(heartbeat_seconds=NEVER_SECONDS)
    server = serve(app_with_resources(tail, request, Script("a", gate, "b")))
    urls: list[str] = []

    for _ in range(3):
        with open_stream(server.port, "POST", "/chat") as stream:
            stream.next_of("text.delta")
            urls.append(stream.head["location"])
        assert request.resource_closed.wait(BOUND_SECONDS)
        server.eventually(lambda: tail.stream_count == 0)
    running = server.evaluate(lambda: tail.live_count)
    gate.open()
    ends = [events_of(fetch(server.port, "GET", url).body)[-1].event for url in urls]

    assert running == 3
    assert ends == ["run.completed"] * 3
    (warning,) = warnings_in(caplog)
    assert "hold=True" in warning


def test_without_resources_there_is_nothing_to_warn_of(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    request = Request()
    tail = Tailrace(heartbeat_seconds=NEVER_SECONDS)
    server = serve(app_with_resources(tail, request, Script("a", Gate())))

    with open_stream(server.port, "POST", "/bare") as stream:
        stream.next_of("text.delta")

    assert request.background_ran.wait(BOUND_SECONDS)
    server.eventually(lambda: tail.stream_count == 0)
    assert warnings_in(caplog) == []


def test_hold_does_not_count_as_a_reader(serve: Serve) -> None:
    request = Request()
    source = Script("a", Gate())
    server = serve(
        app_with_resources(
            Tailrace(heartbeat_seconds=NEVER_SECONDS), request, source, hold=True, on_disconnect="cancel"
        )
    )

    with open_stream(server.port, "POST", "/chat") as stream:
        stream.next_of("text.delta")

    source.await_closing()
    assert request.resource_closed.wait(BOUND_SECONDS)
