"""Each scripted fault happens as it was asked for, and to nothing else."""

import asyncio

import pytest

from tailrace.errors import FencedError, GapError, RunNotFoundError, StoreError, StoreUnavailableError
from tailrace.stores.contract import OPEN, Ack, Lease, Write
from tailrace.stores.memory import MemoryStore
from tailrace.testing import FakeClock, FaultyStore

DONE = 1


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore(monotonic=FakeClock().monotonic))


async def begin(store: FaultyStore, *records: bytes, final: int = OPEN) -> Lease:
    lease = await store.create("run", owner=None, thread=None, fingerprint=b"")
    assert lease is not None
    if records:
        assert await append(store, lease, 1, *records, final=final) == Ack(len(records))
    return lease


async def append(store: FaultyStore, lease: Lease, first: int, *records: bytes, final: int = OPEN) -> Ack | StoreError:
    (answer,) = await store.commit([Write(lease, first, records, final)])
    return answer


async def seen(store: FaultyStore) -> tuple[list[bytes], int]:
    """The records, and the state."""
    page = await store.read("run", 0, limit=100)
    records, info = page.records, page.info
    assert info == await store.info("run")
    assert info.last == len(records)
    return list(records), info.state


# Unavailable -----------------------------------------------------------------------------------------------------


async def test_an_outage_before_the_call_changes_nothing(store: FaultyStore) -> None:
    lease = await begin(store)
    store.unavailable(1)

    with pytest.raises(StoreUnavailableError):
        await append(store, lease, 1, b"a")

    assert await seen(store) == ([], OPEN)


async def test_an_outage_after_the_call_hides_that_it_was_done(store: FaultyStore) -> None:
    lease = await begin(store)
    store.unavailable(1, applied=True)

    with pytest.raises(StoreUnavailableError):
        await append(store, lease, 1, b"a")

    assert await seen(store) == ([b"a"], OPEN)
    assert await append(store, lease, 1, b"a") == Ack(1)


async def test_an_outage_is_over_after_so_many_calls(store: FaultyStore) -> None:
    lease = await begin(store)
    store.unavailable(2)

    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await append(store, lease, 1, b"a")

    assert await append(store, lease, 1, b"a") == Ack(1)


async def test_an_outage_of_one_operation_leaves_the_others_alone(store: FaultyStore) -> None:
    lease = await begin(store)
    store.unavailable(1, operation="read")

    assert await append(store, lease, 1, b"a") == Ack(1)
    with pytest.raises(StoreUnavailableError):
        await store.read("run", 0, limit=1)


async def test_a_healed_store_answers_again(store: FaultyStore) -> None:
    lease = await begin(store)
    store.unavailable(1_000)
    store.delay(asyncio.Event())

    store.heal()

    assert await append(store, lease, 1, b"a") == Ack(1)


# Slow ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("applied", "records"), [(False, []), (True, [b"a"])])
async def test_a_gate_stops_a_call_before_or_after_it_is_done(
    store: FaultyStore, *, applied: bool, records: list[bytes]
) -> None:
    lease = await begin(store)
    gate = asyncio.Event()
    store.delay(gate, applied=applied)

    call = asyncio.create_task(append(store, lease, 1, b"a"))
    await store.paused()
    meanwhile = await seen(store)
    gate.set()

    assert meanwhile == (records, OPEN)
    assert await call == Ack(1)


async def test_a_delay_may_be_a_time(store: FaultyStore) -> None:
    lease = await begin(store)
    store.delay(0)

    call = asyncio.create_task(append(store, lease, 1, b"a"))
    await store.paused()

    assert await call == Ack(1)


# Forgetful -------------------------------------------------------------------------------------------------------


async def test_forgotten_records_are_not_there(store: FaultyStore) -> None:
    lease = await begin(store, b"a", b"b", b"c")

    await store.forget("run", 2)

    assert await seen(store) == ([b"a"], OPEN)
    assert gap(await append(store, lease, 4, b"d")) == 1
    assert gap(await append(store, lease, 4)) == 1
    assert gap(await append(store, lease, 1, b"a", b"b")) == 1


async def test_forgotten_records_are_healed_by_sending_them_again(store: FaultyStore) -> None:
    lease = await begin(store, b"a", b"b", b"c")
    await store.forget("run", 2)

    answers = [
        await append(store, lease, 1, b"a"),
        await append(store, lease, 2),
        await append(store, lease, 2, b"b"),
        await append(store, lease, 3, b"c", b"d"),
        await append(store, lease, 5, b"e"),
    ]

    assert answers == [Ack(1), Ack(1), Ack(2), Ack(4), Ack(5)]
    assert await seen(store) == ([b"a", b"b", b"c", b"d", b"e"], OPEN)


async def test_a_forgotten_end_makes_the_run_open_until_it_is_sent_again(store: FaultyStore) -> None:
    lease = await begin(store, b"a", b"end", final=DONE)
    await store.forget("run", 1)

    open_again = await seen(store)
    cancelled = await store.cancel("run", "user")
    answer = await append(store, lease, 2, b"end", final=DONE)

    assert open_again == ([b"a"], OPEN)
    assert cancelled
    assert answer == Ack(2, "user")
    assert await seen(store) == ([b"a", b"end"], DONE)


async def test_more_may_be_forgotten_than_there_is(store: FaultyStore) -> None:
    lease = await begin(store, b"a")

    await store.forget("run", 9)

    assert await seen(store) == ([], OPEN)
    assert await append(store, lease, 1, b"a") == Ack(1)


async def test_forgetting_again_begins_where_the_log_seems_to_end(store: FaultyStore) -> None:
    await begin(store, b"a", b"b", b"c")

    await store.forget("run", 1)
    await store.forget("run", 1)

    assert await seen(store) == ([b"a"], OPEN)


async def test_a_foreign_token_does_not_heal(store: FaultyStore) -> None:
    await begin(store, b"a", b"b")
    await store.forget("run", 1)

    answer = await append(store, Lease("run", "foreign"), 2, b"b")

    assert isinstance(answer, FencedError)
    assert await seen(store) == ([b"a"], OPEN)


async def test_other_bytes_under_an_acknowledged_number_are_an_error(store: FaultyStore) -> None:
    lease = await begin(store, b"a", b"b")
    await store.forget("run", 1)

    with pytest.raises(AssertionError, match="number 2"):
        await append(store, lease, 2, b"x")


async def test_an_unknown_run_cannot_be_forgotten(store: FaultyStore) -> None:
    with pytest.raises(RunNotFoundError):
        await store.forget("nowhere", 1)


async def test_whole_and_forgotten_runs_share_one_commit(store: FaultyStore) -> None:
    forgotten = await begin(store, b"a", b"b")
    whole = await store.create("other", owner=None, thread=None, fingerprint=b"")
    assert whole is not None
    await store.forget("run", 1)

    answers = await store.commit([Write(whole, 1, [b"x"]), Write(forgotten, 2, [b"b"]), Write(whole, 2, [b"y"])])

    assert answers == [Ack(1), Ack(2), Ack(2)]


# Lost, fenced ----------------------------------------------------------------------------------------------------


async def test_a_lost_run_is_not_found_until_it_is_restored(store: FaultyStore) -> None:
    lease = await begin(store, b"a")

    await store.lose("run")

    assert isinstance(await append(store, lease, 2, b"b"), RunNotFoundError)
    await store.restore(lease, owner=None, thread=None, fingerprint=b"")
    assert await append(store, lease, 1, b"a", b"b") == Ack(2)


async def test_a_lost_run_comes_back_with_the_same_bytes(store: FaultyStore) -> None:
    lease = await begin(store, b"a")
    await store.lose("run")
    await store.restore(lease, owner=None, thread=None, fingerprint=b"")

    with pytest.raises(AssertionError, match="number 1"):
        await append(store, lease, 1, b"x")


async def test_a_run_that_begins_anew_may_hold_other_bytes(store: FaultyStore) -> None:
    await begin(store, b"a", b"b")
    await store.forget("run", 1)
    await store.purge("run")

    await begin(store, b"x", b"y")

    assert await seen(store) == ([b"x", b"y"], OPEN)


async def test_a_fenced_producer_writes_nothing_more(store: FaultyStore) -> None:
    lease = await begin(store, b"a")

    store.fence("run")

    assert isinstance(await append(store, lease, 2, b"b"), FencedError)
    with pytest.raises(FencedError):
        await store.restore(lease, owner=None, thread=None, fingerprint=b"")
    assert await seen(store) == ([b"a"], OPEN)


# Hints -----------------------------------------------------------------------------------------------------------


async def test_hints_are_lost_or_doubled_as_asked(store: FaultyStore) -> None:
    lease = await begin(store)
    hints: list[int] = []
    store.subscribe("run", lambda _: hints.append(1))
    counts: list[int] = []

    for seq, script in enumerate([store.drop_hints, store.double_hints, store.heal], 1):
        script()
        await append(store, lease, seq, b"a")
        counts.append(len(hints))

    assert counts == [0, 2, 3]


def gap(answer: Ack | StoreError) -> int:
    assert isinstance(answer, GapError)
    return answer.last
