"""What one scenario does not show: a thousand clients dropped together (C17), and a reader far behind (C13)."""

import asyncio
import contextlib
import random
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator

import httpx2
import pytest

from tailrace.client import open_stream
from tailrace.client.commands import Read, Wait
from tailrace.client.machine import Machine
from tests.conformance.node_driver import NodeDriver
from tests.conformance.scripted_server import Crowd, Flood, ScriptedServer

_CLIENTS = 1_000
_BIN_SECONDS = 0.1
_MAX_SHARE = 0.2
#: A process of a thousand clients needs some tenths of a second to notice that all were dropped, on a busy machine some
#: seconds. What falls due meanwhile comes at once, in one bin: that share is allowed for, up to a bound.
_RETRY_SECONDS = 6.0
_MOST_OVERDUE_SHARE = 0.6
#: A pool looks at all of its connections for each of them.
_POOLS = 40
_BOUND_SECONDS = 100.0

_EVENT = b"data: " + b"x" * 65_000 + b"\n\n"
_EVENTS = 1_000
#: Of 65 MB. What the kernel holds for both sides of a connection is most of it.
_MOST_WRITTEN_BYTES = 24 * 1024**2
_MOST_HELD_BYTES = 16 * 1024**2
_LOOK_SECONDS = 0.05


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture(scope="module")
def node(require_program: Callable[..., str]) -> Iterator[NodeDriver]:
    driver = NodeDriver(require_program)
    yield driver
    driver.close()


def share_of_the_fullest_bin(delays: list[float]) -> float:
    """Of bins of 100 ms."""
    bins = Counter(int(delay / _BIN_SECONDS) for delay in delays)
    return max(bins.values()) / len(delays)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _BOUND_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(_LOOK_SECONDS)


def stalls(flood: Flood) -> int:
    """What was written when nothing more is taken."""
    before = -1
    while before != flood.written or not before:
        before = flood.written
        time.sleep(4 * _LOOK_SECONDS)
    return before


def drop_when_all_are_inside(server: ScriptedServer, crowd: Crowd) -> None:
    eventually(lambda: crowd.inside == _CLIENTS)
    server.loop.call_soon_threadsafe(crowd.drop)


def assert_spread(crowd: Crowd, record_property: Callable[[str, object], None]) -> None:
    assert len(crowd.back_at) == _CLIENTS
    delays = [at - crowd.dropped_at for at in crowd.back_at]
    share, overdue = share_of_the_fullest_bin(delays), min(min(delays) / _RETRY_SECONDS, _MOST_OVERDUE_SHARE)
    record_property("fullest 100 ms, % of clients", share * 100)
    record_property("of them overdue, %", overdue * 100)
    assert share < _MAX_SHARE + overdue


def first_delay(draw: Callable[[], float]) -> float:
    machine = Machine("http://host/events", random=draw)
    machine.answered(200, {"content-type": "text/event-stream"}, "http://host/events", 0.0)
    assert isinstance(machine.command, Read)
    machine.received(b'id: 1\nevent: run.started\ndata: {"type":"run.started","at_ms":1}\n\n', 0.0)
    machine.broke("reset", 0.0)
    assert isinstance(machine.command, Wait)
    return machine.command.seconds


def test_the_first_waits_of_a_thousand_python_clients_spread() -> None:
    draw = random.Random(17).random  # noqa: S311  not a secret

    delays = [first_delay(draw) for _ in range(_CLIENTS)]

    assert share_of_the_fullest_bin(delays) < _MAX_SHARE


@pytest.mark.timeout(2 * _BOUND_SECONDS)
def test_a_thousand_python_clients_dropped_together_come_back_spread(
    server: ScriptedServer, record_property: Callable[[str, object], None]
) -> None:
    crowd = server.crowd(retry_ms=int(_RETRY_SECONDS * 1_000))

    async def one(client: httpx2.AsyncClient) -> None:
        async for _ in open_stream(f"{crowd.base}/events", dialect="raw", client=client):
            pass

    async def all_of_them() -> None:
        async with contextlib.AsyncExitStack() as stack, asyncio.timeout(_BOUND_SECONDS):
            clients = [await stack.enter_async_context(httpx2.AsyncClient(verify=False)) for _ in range(_POOLS)]
            await asyncio.gather(*(one(clients[number % _POOLS]) for number in range(_CLIENTS)))

    dropping = threading.Thread(target=drop_when_all_are_inside, args=(server, crowd))
    dropping.start()
    asyncio.run(all_of_them())
    dropping.join()

    assert_spread(crowd, record_property)


@pytest.mark.timeout(2 * _BOUND_SECONDS)
def test_a_thousand_streams_of_one_node_process_come_back_spread(
    server: ScriptedServer, node: NodeDriver, record_property: Callable[[str, object], None]
) -> None:
    crowd = server.crowd(retry_ms=int(_RETRY_SECONDS * 1_000))

    all_told = node.ask("crowd", base=crowd.base, readers=_CLIENTS)
    drop_when_all_are_inside(server, crowd)
    all_told()

    assert_spread(crowd, record_property)


def test_a_thread_that_reads_slowly_holds_little(
    server: ScriptedServer, record_property: Callable[[str, object], None]
) -> None:
    flood = server.flood(_EVENT, _EVENTS)
    count = written = 0

    tracemalloc.start()
    try:
        for _ in open_stream(f"{flood.base}/events", dialect="raw"):
            count += 1
            if count == 1:
                written = stalls(flood)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    record_property("written behind a slow reader, MB", written / 1e6)
    record_property("held at most, MB", held / 1e6)
    assert count == _EVENTS
    assert written < _MOST_WRITTEN_BYTES
    assert held < _MOST_HELD_BYTES


def test_a_task_that_reads_slowly_holds_little(
    server: ScriptedServer, record_property: Callable[[str, object], None]
) -> None:
    flood = server.flood(_EVENT, _EVENTS)

    async def read() -> tuple[int, int]:
        count = written = 0
        async for _ in open_stream(f"{flood.base}/events", dialect="raw"):
            count += 1
            if count == 1:
                written = await asyncio.to_thread(stalls, flood)
        return count, written

    tracemalloc.start()
    try:
        count, written = asyncio.run(read())
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    record_property("written behind a slow reader, MB", written / 1e6)
    record_property("held at most, MB", held / 1e6)
    assert count == _EVENTS
    assert written < _MOST_WRITTEN_BYTES
    assert held < _MOST_HELD_BYTES


def test_a_slow_reader_in_node_holds_little(
    server: ScriptedServer, node: NodeDriver, record_property: Callable[[str, object], None]
) -> None:
    flood = server.flood(_EVENT, _EVENTS)
    before = node.ask("memory")()

    reading = node.ask("slow", base=flood.base)
    written = stalls(flood)
    stalled = node.ask("memory")()
    node.ask("go_on")()
    told = reading()

    held = stalled["heapUsed"] + stalled["external"] - before["heapUsed"] - before["external"]
    record_property("written behind a slow reader, MB", written / 1e6)
    record_property("held while it waits, MB", held / 1e6)
    assert told["events"] == _EVENTS
    assert told["bytes"] == _EVENTS * 65_000
    assert written < _MOST_WRITTEN_BYTES
    assert held < _MOST_HELD_BYTES
