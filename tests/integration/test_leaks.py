"""Streams that were opened, cut, resumed and left leave nothing behind."""

import asyncio
import gc
from collections.abc import Callable
from weakref import WeakSet

from tailrace import EventStream, Tailrace
from tailrace.runtime.follower import Follower
from tests.integration.support.apps import chat_app
from tests.integration.support.client import NEVER_SECONDS, fetch, open_stream
from tests.integration.support.frames import events_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script

Serve = Callable[..., AppServer]

STREAMS = 50


class WatchedTailrace(Tailrace):
    """Remembers its followers for as long as somebody holds them."""

    def __init__(self) -> None:
        """Begin without any."""
        super().__init__(heartbeat_seconds=NEVER_SECONDS)
        self.followers: WeakSet[Follower] = WeakSet()

    def follower(self, run_id: str, after: int = 0, *, merging: bool = False) -> Follower:
        """As the original."""
        follower = super().follower(run_id, after, merging=merging)
        self.followers.add(follower)
        return follower


def names_of_tasks(server: AppServer) -> list[str]:
    """The tasks of the server's loop, but for the one that asks."""

    def names() -> list[str]:
        return sorted(task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task())

    return server.evaluate(names)


def test_streams_that_were_cut_and_resumed_leave_no_task_no_stream_and_no_follower(serve: Serve) -> None:
    tail = WatchedTailrace()
    gates: list[Gate] = []

    def source() -> object:
        gates.append(Gate())
        return Script("a", "b", gates[-1], "c")()

    server = serve(chat_app(tail, source))
    fetch(server.port, "GET", "/runs/none/events")
    committer = names_of_tasks(server)

    urls: list[str] = []
    for number in range(STREAMS):
        with open_stream(server.port, "POST", "/chat") as stream:
            stream.next_of("text.delta")
            urls.append(stream.head["location"])
            if number % 2:
                stream.connection.abort()
    for number, url in enumerate(urls):
        with open_stream(server.port, "GET", url, {"last-event-id": "2"}) as stream:
            stream.next_of("text.delta")
            if number % 2:
                continue
            gates[number].open()
            stream.rest()
    for number in range(1, STREAMS, 2):
        fetch(server.port, "POST", urls[number].replace("/events", "/cancel"))
    ends = {events_of(fetch(server.port, "GET", url).body)[-1].event for url in urls}

    server.eventually(lambda: tail.stream_count == 0 and tail.live_count == 0 and server.connection_count == 0)
    server.eventually(lambda: gc.collect() >= 0 and not tail.followers)
    assert ends == {"run.completed", "run.cancelled"}
    assert set(names_of_tasks(server)) - set(committer) == {"tailrace-committer"}
    assert len(names_of_tasks(server)) == len(committer) + 1


def test_readers_that_left_are_not_counted_as_readers(serve: Serve) -> None:
    source = Script("a", Gate())
    server = serve(chat_app(Tailrace(heartbeat_seconds=NEVER_SECONDS), source, on_disconnect="cancel", grace_seconds=1))

    with open_stream(server.port, "POST", "/chat") as first:
        first.next_of("text.delta")
        url = first.head["location"]
        for number in range(STREAMS):
            if number % 5:
                with open_stream(server.port, "GET", url) as stream:
                    stream.next_of("text.delta")
            else:
                fetch(server.port, "GET", url.removesuffix("/events"))
        closed_before = source.is_closed

    source.await_closing()
    assert not closed_before


def test_streams_without_a_log_leave_no_task(serve: Serve) -> None:
    tail = Tailrace(heartbeat_seconds=NEVER_SECONDS)
    sources = [Script("a", Gate()) for _ in range(STREAMS)]
    waiting = iter(sources)
    app = chat_app(tail, Script("x"))

    @app.get("/stream")
    async def stream_of_one() -> EventStream:
        return EventStream(next(waiting), heartbeat_seconds=NEVER_SECONDS)

    server = serve(app)
    fetch(server.port, "GET", "/runs/none")
    before = names_of_tasks(server)

    for source in sources:
        with open_stream(server.port, "GET", "/stream") as stream:
            stream.next_of("text.delta")
        source.await_closing()

    server.eventually(lambda: server.connection_count == 0)
    server.eventually(lambda: len(asyncio.all_tasks()) == len(before) + 1)
