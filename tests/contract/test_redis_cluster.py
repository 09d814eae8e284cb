"""The Redis store keeps its promises on a cluster too, while slots move and when a node is lost."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from tailrace.stores.contract import Ack, RunStore, Write
from tailrace.stores.redis import RedisStore
from tailrace.testing import StoreSuite
from tailrace.testing.store_suite import SharedStoreSuite
from tests.contract.test_redis_outages import RUNS, Producer, live_through
from tests.redis_server import RedisNodes, wait_until

pytestmark = pytest.mark.redis

MOVED_SLOTS = 3
BOUND_SECONDS = 20.0


@pytest.fixture(scope="module")
def cluster(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisNodes]:
    with RedisNodes(redis_program, tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


class TestRedisStoreOnACluster(StoreSuite, SharedStoreSuite):
    @pytest.fixture(autouse=True)
    def server(self, cluster: RedisNodes) -> None:
        self.url = cluster.url

    def make(self) -> RunStore:
        return RedisStore(self.url)

    def again(self, store: RunStore) -> RunStore:
        return RedisStore(self.url)


@pytest.fixture(autouse=True)
def empty(cluster: RedisNodes) -> None:
    for node in cluster.nodes:
        node.ask("FLUSHALL")


async def test_runs_are_spread_over_the_nodes_and_each_is_on_one(cluster: RedisNodes) -> None:
    await live_through(cluster.url, nothing)

    held: list[set[bytes]] = [set(node.ask("KEYS", "tr:{*")) for node in cluster.nodes]
    assert all(held)
    for number in range(RUNS):
        keys = {f"tr:{{run-{number}}}:{name}".encode() for name in "ms"}
        assert [keys & names for names in held if keys & names] == [keys]


async def nothing(producer: Producer) -> None:
    await producer.advance(1)


async def test_slots_that_move_cost_no_reader_anything(cluster: RedisNodes) -> None:
    source, target, _ = cluster.nodes
    moved: list[int] = []

    async def move(producer: Producer) -> None:
        for run_id in producer.logs:
            slot = slot_of(run_id)
            if cluster.home_of(slot) is source and len(moved) < MOVED_SLOTS:
                await asyncio.to_thread(cluster.move_slot, slot, source=source, target=target)
                moved.append(slot)
                await producer.advance(1)

    producer = await live_through(cluster.url, move)

    assert len(moved) == MOVED_SLOTS
    assert producer.resent == 0


async def test_a_write_to_a_run_of_which_half_has_moved_waits_for_the_other_half(cluster: RedisNodes) -> None:
    source, target, _ = cluster.nodes
    run_id = next(run_id for run_id in map(str, range(1_000)) if cluster.home_of(slot_of(run_id)) is source)
    store = RedisStore(cluster.url)
    try:
        lease = await store.create(run_id, owner=None, thread=None, fingerprint=b"")
        assert lease is not None
        await store.commit([Write(lease, 1, [b"one"])])
        half_way = asyncio.Event()
        refused = threading.Event()
        loop = asyncio.get_running_loop()

        def wait_half_way() -> None:
            loop.call_soon_threadsafe(half_way.set)
            assert refused.wait(BOUND_SECONDS)

        moving = asyncio.create_task(
            asyncio.to_thread(cluster.move_slot, slot_of(run_id), source=source, target=target, between=wait_half_way)
        )
        await half_way.wait()
        writing = asyncio.create_task(store.commit([Write(lease, 2, [b"two"])]))
        await asyncio.to_thread(
            wait_until, lambda: "errorstat_TRYAGAIN" in {**source.info("errorstats"), **target.info("errorstats")}
        )
        refused.set()
        await moving

        assert await writing == [Ack(2)]
        assert (await store.read(run_id, 0, limit=9)).records == [b"one", b"two"]
    finally:
        await store.aclose()


def slot_of(run_id: str) -> int:
    slot: int = key_slot(f"{{{run_id}}}".encode())
    return slot


async def test_a_lost_node_costs_no_reader_anything(redis_program: str, tmp_path: Path) -> None:
    """Its replica takes over, maybe without the last of what was acknowledged."""
    with RedisNodes(redis_program, tmp_path, replica=True) as nodes:
        lost, replica = nodes.nodes[0], nodes.nodes[-1]

        async def lose(producer: Producer) -> None:
            lost.kill()
            await producer.until(lambda: producer.unanswered > 0)
            await asyncio.to_thread(wait_until, lambda: replica.info("replication")["role"] == "master")

        await live_through(nodes.url, lose)
