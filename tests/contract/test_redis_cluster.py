"""The Redis store keeps its promises on a cluster too, while slots move and when a node is lost."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from tailrace.stores.contract import RunStore
from tailrace.stores.redis import RedisStore
from tailrace.testing import StoreSuite
from tailrace.testing.store_suite import SharedStoreSuite
from tests.contract.test_redis_outages import RUNS, Producer, live_through
from tests.redis_server import RedisNodes, wait_until

pytestmark = pytest.mark.redis

MOVED_SLOTS = 3


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
            slot = key_slot(f"{{{run_id}}}".encode())
            if cluster.home_of(slot) is source and len(moved) < MOVED_SLOTS:
                await asyncio.to_thread(cluster.move_slot, slot, source=source, target=target)
                moved.append(slot)
                await producer.advance(1)

    producer = await live_through(cluster.url, move)

    assert len(moved) == MOVED_SLOTS
    assert producer.resent == 0


async def test_a_lost_node_costs_no_reader_anything(redis_program: str, tmp_path: Path) -> None:
    """Its replica takes over, maybe without the last of what was acknowledged."""
    with RedisNodes(redis_program, tmp_path, replica=True) as nodes:
        lost, replica = nodes.nodes[0], nodes.nodes[-1]

        async def lose(producer: Producer) -> None:
            lost.kill()
            await producer.until(lambda: producer.unanswered > 0)
            await asyncio.to_thread(wait_until, lambda: replica.info("replication")["role"] == "master")

        await live_through(nodes.url, lose)
