"""A faulty store fails as its script says, and never contradicts itself."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tailrace.errors import FencedError, GapError, RunNotFoundError, StoreUnavailableError
from tailrace.stores.contract import OPEN, Ack, Batch, Lease, Write
from tailrace.stores.memory import MemoryStore
from tailrace.testing import FakeClock, FaultyStore
from tailrace.testing.faulty_store import Operation

DONE = 1
FAILED = 2


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore(monotonic=FakeClock().monotonic))


@pytest.fixture
def hints() -> list[Batch | None]:
    return []


async def begin(store: FaultyStore, *records: bytes) -> Lease:
    lease = await store.create("run", owner=None, thread=None, fingerprint=b"")
    assert lease is not None
    if records:
        assert await append(store, lease, 1, *records) == Ack(len(records))
    return lease


async def append(store: FaultyStore, lease: Lease, first: int, *records: bytes, final: int = OPEN) -> object:
    (answer,) = await store.commit([Write(lease, first, records, final)])
    return answer


async def records_of(store: FaultyStore) -> list[bytes]:
    return list((await store.read("run", 0, limit=100)).records)


CALLS: dict[Operation, Callable[[FaultyStore], Awaitable[object]]] = {
    "open": lambda store: store.open(),
    "secret": lambda store: store.secret(),
    "create": lambda store: store.create("run", owner=None, thread=None, fingerprint=b""),
    "restore": lambda store: store.restore(Lease("new", "token"), owner=None, thread=None, fingerprint=b""),
    "commit": lambda store: store.commit([]),
    "compact": lambda store: store.compact("run", b"block"),
    "cancel": lambda store: store.cancel("run", "user"),
    "info": lambda store: store.info("run"),
    "read": lambda store: store.read("run", 0, limit=1),
    "signal": lambda store: store.signal("topic", "text"),
    "active": lambda store: store.active(),
    "latest": lambda store: store.latest("t", owner=None),
    "purge": lambda store: store.purge("run"),
}


@pytest.mark.parametrize("operation", CALLS)
async def test_any_call_can_be_made_to_fail(store: FaultyStore, operation: Operation) -> None:
    await begin(store)
    store.unavailable(1, operation=operation)

    with pytest.raises(StoreUnavailableError):
        await CALLS[operation](store)

    await CALLS[operation](store)


async def test_a_seal_can_be_made_to_fail_before_and_after_it_was_done(store: FaultyStore) -> None:
    await begin(store, b"a")
    seen = await store.info("run")

    store.unavailable(1, operation="seal")
    with pytest.raises(StoreUnavailableError):
        await store.seal(seen, b"end", FAILED)
    before = await store.info("run")
    store.unavailable(1, applied=True, operation="seal")
    with pytest.raises(StoreUnavailableError):
        await store.seal(seen, b"end", FAILED)

    assert before == seen
    assert (await store.info("run")).state == FAILED


async def test_a_delayed_call_waits_for_its_gate(store: FaultyStore) -> None:
    lease = await begin(store)
    gate = asyncio.Event()
    store.delay(gate)
    write = asyncio.create_task(append(store, lease, 1, b"a"))
    await store.paused()
    before = await records_of(store)

    gate.set()

    assert await write == Ack(1)
    assert (before, await records_of(store)) == ([], [b"a"])


async def test_forgotten_records_come_back_as_the_producer_sends_them_again(
    store: FaultyStore, hints: list[Batch | None]
) -> None:
    lease = await begin(store, b"a", b"b")
    await append(store, lease, 3, b"end", final=DONE)
    store.subscribe("run", hints.append)

    await store.forget("run", 2)

    info = await store.info("run")
    assert (info.last, info.state) == (1, OPEN)
    assert await records_of(store) == [b"a"]
    gap = await append(store, lease, 3, b"end", final=DONE)
    assert isinstance(gap, GapError)
    assert gap.last == 1
    assert await append(store, lease, 2, b"b", b"end", final=DONE) == Ack(3)
    assert await records_of(store) == [b"a", b"b", b"end"]
    assert (await store.info("run")).state == DONE
    assert hints == [None]


async def test_other_bytes_under_an_acknowledged_number_are_noticed(store: FaultyStore) -> None:
    lease = await begin(store, b"a")
    await store.lose("run")
    await store.restore(lease, owner=None, thread=None, fingerprint=b"")

    with pytest.raises(AssertionError, match="other bytes under number 1"):
        await append(store, lease, 1, b"b")


async def test_a_run_whose_end_is_hidden_is_not_compacted(store: FaultyStore) -> None:
    lease = await begin(store, b"a")
    await append(store, lease, 2, b"end", final=DONE)
    await store.forget("run", 1)

    assert not await store.compact("run", b"block")


async def test_a_seal_brings_a_hidden_end_into_sight(store: FaultyStore, hints: list[Batch | None]) -> None:
    await begin(store, b"a", b"b")
    await store.forget("run", 1)
    store.subscribe("run", hints.append)
    seen = await store.info("run")

    sealed = await store.seal(seen, b"end", FAILED)

    assert sealed
    assert await records_of(store) == [b"a", b"b", b"end"]
    assert hints == [None, Batch(3, [b"end"], FAILED)]


async def test_a_seal_of_what_is_no_longer_so_is_refused_for_a_hidden_end_too(store: FaultyStore) -> None:
    await begin(store, b"a", b"b")
    seen = await store.info("run")
    await store.forget("run", 1)

    assert not await store.seal(seen, b"end", FAILED)

    assert await records_of(store) == [b"a"]


async def test_a_lost_run_is_gone(store: FaultyStore) -> None:
    lease = await begin(store, b"a")

    await store.lose("run")

    assert isinstance(await append(store, lease, 2, b"b"), RunNotFoundError)


async def test_a_fenced_producer_writes_nothing(store: FaultyStore) -> None:
    lease = await begin(store, b"a")

    store.fence("run")

    assert isinstance(await append(store, lease, 2, b"b"), FencedError)
    with pytest.raises(FencedError):
        await store.restore(lease, owner=None, thread=None, fingerprint=b"")


async def test_dropped_hints_and_signals_do_not_come(store: FaultyStore, hints: list[Batch | None]) -> None:
    heard: list[str] = []
    lease = await begin(store)
    store.subscribe("run", hints.append)
    store.listen("topic", heard.append)
    store.drop_hints()

    await append(store, lease, 1, b"a")
    await store.signal("topic", "text")

    assert (hints, heard) == ([], [])


async def test_doubled_hints_and_signals_come_twice(store: FaultyStore, hints: list[Batch | None]) -> None:
    heard: list[str] = []
    lease = await begin(store)
    store.subscribe("run", hints.append)
    store.listen("topic", heard.append)
    store.double_hints()

    await append(store, lease, 1, b"a")
    await store.signal("topic", "text")

    assert hints == [Batch(1, (b"a",), OPEN)] * 2
    assert heard == ["text", "text"]


async def test_stripped_hints_carry_nothing(store: FaultyStore, hints: list[Batch | None]) -> None:
    lease = await begin(store)
    store.subscribe("run", hints.append)
    store.strip_hints()

    await append(store, lease, 1, b"a")

    assert hints == [None]


async def test_held_hints_come_late_and_in_the_wrong_order(store: FaultyStore, hints: list[Batch | None]) -> None:
    heard: list[str] = []
    lease = await begin(store)
    store.subscribe("run", hints.append)
    store.listen("topic", heard.append)
    store.hold_hints()
    await append(store, lease, 1, b"a")
    await append(store, lease, 2, b"b")
    await store.signal("topic", "one")
    await store.signal("topic", "two")
    before = [*hints, *heard]

    store.heal()

    assert before == []
    assert hints == [Batch(2, (b"b",), OPEN), Batch(1, (b"a",), OPEN)]
    assert heard == ["two", "one"]


async def test_a_hint_does_not_show_what_is_hidden(store: FaultyStore, hints: list[Batch | None]) -> None:
    lease = await begin(store, b"a", b"b")
    await store.forget("run", 1)
    store.subscribe("run", hints.append)

    await store.inner.commit([Write(lease, 3, [b"c"])])

    assert hints == [None]


async def test_what_was_held_does_not_reach_whoever_has_left(store: FaultyStore, hints: list[Batch | None]) -> None:
    heard: list[str] = []
    lease = await begin(store)
    stops = [store.subscribe("run", hints.append), store.listen("topic", heard.append)]
    store.hold_hints()
    await append(store, lease, 1, b"a")
    await store.signal("topic", "text")
    for stop in stops:
        stop()

    store.heal()

    assert (hints, heard) == ([], [])
