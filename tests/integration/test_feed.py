"""Several runs on one stream: each from its cursor, those that begin in a thread, and nobody else's."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.applications import Starlette

from tailrace import Run, Tailrace
from tailrace.testing import AsgiClient
from tailrace.wire.sse import Decoder, ServerSentEvent

ALICE = {"x-user": "alice"}


async def counted(upto: int, gate: asyncio.Event | None = None) -> AsyncGenerator[str]:
    """Words one to `upto`; with a gate, the last one waits for it."""
    for number in range(1, upto + 1):
        if gate is not None and number == upto:
            await gate.wait()
        yield f"word{number} "


@pytest.fixture
async def client() -> AsyncGenerator[tuple[AsgiClient, Tailrace]]:
    tail = Tailrace(owner=lambda request: request.headers.get("x-user"))
    app = Starlette()
    tail.install(app, "/runs")
    async with AsgiClient(app) as client:
        yield client, tail


async def read_all(client: AsgiClient, query: str) -> list[ServerSentEvent]:
    decoder = Decoder()
    async with client.stream("GET", f"/runs/feed?{query}", headers=ALICE) as response:
        assert response.status == 200
        return [event async for chunk in response for event in decoder.feed(chunk)]


def of_run(events: list[ServerSentEvent], run: Run) -> list[int]:
    """The numbers of the run's events, in the order in which they came."""
    ids = [event.id.split(":") for event in events]
    return [int(seq) for run_id, seq in ids if run_id == run.id]


async def test_each_run_comes_from_its_cursor_to_its_end(client: tuple[AsgiClient, Tailrace]) -> None:
    http, tail = client
    first = await tail.start(counted(20), owner="alice")
    second = await tail.start(counted(5), owner="alice")

    events = await read_all(http, f"runs={first.id}:7,{second.id}")

    assert of_run(events, first) == list(range(8, 23))
    assert of_run(events, second) == list(range(1, 8))
    assert [event.event for event in events].count("run.completed") == 2


@pytest.mark.parametrize(("query", "thread"), [("thread=t", "t"), ("thread=t&thread=u&thread=t", "u")])
async def test_a_run_that_begins_in_one_of_the_threads_is_joined(
    client: tuple[AsgiClient, Tailrace], query: str, thread: str
) -> None:
    http, tail = client
    gate = asyncio.Event()
    running = await tail.start(counted(3, gate), owner="alice", thread="t")
    elsewhere = await tail.start(counted(2), owner="alice", thread="other")
    decoder = Decoder()
    seen: list[ServerSentEvent] = []
    begun: Run | None = None

    async with asyncio.timeout(10), http.stream("GET", f"/runs/feed?{query}", headers=ALICE) as response:
        async for chunk in response:
            seen += decoder.feed(chunk)
            if begun is None:
                begun = await tail.start(counted(4), owner="alice", thread=thread)
                gate.set()
            if [event.event for event in seen].count("run.completed") == 2:
                break

    assert begun is not None
    assert of_run(seen, running) == list(range(1, 6))
    assert of_run(seen, begun) == list(range(1, 7))
    assert of_run(seen, elsewhere) == []


@pytest.mark.parametrize(("merge", "is_whole"), [("", False), ("&merge=0", True)])
async def test_a_reader_far_behind_may_forbid_merging(
    client: tuple[AsgiClient, Tailrace], merge: str, is_whole: bool
) -> None:
    http, tail = client
    run = await tail.start(counted(600), owner="alice")
    await run.result()

    events = await read_all(http, f"runs={run.id}{merge}")

    assert (of_run(events, run) == list(range(1, 603))) is is_whole
    assert of_run(events, run)[-1] == 602


@pytest.mark.parametrize(
    ("query", "user", "status"),
    [
        ("", "alice", 400),
        ("runs=a:b:c", "alice", 400),
        ("runs=" + ",".join(f"run{number}" for number in range(33)), "alice", 400),
        ("&".join(f"thread=t{number}" for number in range(33)), "alice", 400),
        ("runs=unknown", "alice", 404),
        ("runs={run}", "bob", 404),
        ("runs={run}", None, 404),
        ("thread=t", None, 404),
    ],
)
async def test_what_cannot_be_fed_is_refused(
    client: tuple[AsgiClient, Tailrace], query: str, user: str | None, status: int
) -> None:
    http, tail = client
    run = await tail.start(counted(1), owner="alice")
    headers = {"x-user": user} if user else {}

    async with http.stream("GET", f"/runs/feed?{query.format(run=run.id)}", headers=headers) as response:
        assert response.status == status
