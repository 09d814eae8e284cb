"""How long the memory store keeps what has ended."""

import pytest

from tailrace.errors import RunNotFoundError
from tailrace.stores.contract import Ack, Batch, Lease, Write
from tailrace.stores.memory import MemoryStore
from tailrace.testing import FakeClock

RETENTION_SECONDS = 900
DONE = 1


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> MemoryStore:
    return MemoryStore(monotonic=clock.monotonic, retention_seconds=RETENTION_SECONDS, max_bytes=100)


async def begin(store: MemoryStore, run_id: str) -> Lease:
    lease = await store.create(run_id, owner=None, thread=None, fingerprint=b"")
    assert lease is not None
    return lease


async def end(store: MemoryStore, run_id: str, *, size: int = 1) -> Lease:
    lease = await begin(store, run_id)
    assert await store.commit([Write(lease, 1, [b"x" * size], DONE)]) == [Ack(1)]
    return lease


async def kept(store: MemoryStore, *run_ids: str) -> list[str]:
    found: list[str] = []
    for run_id in run_ids:
        try:
            await store.info(run_id)
        except RunNotFoundError:
            continue
        found.append(run_id)
    return found


async def test_a_final_run_is_kept_as_long_as_the_retention(store: MemoryStore, clock: FakeClock) -> None:
    await end(store, "run")

    clock.advance(RETENTION_SECONDS - 1)
    before = await kept(store, "run")
    clock.advance(1)
    after = await kept(store, "run")

    assert (before, after) == (["run"], [])


async def test_an_open_run_is_kept_for_ever(store: MemoryStore, clock: FakeClock) -> None:
    lease = await begin(store, "run")
    await store.commit([Write(lease, 1, [b"a"])])

    clock.advance(RETENTION_SECONDS * 1_000)

    assert await store.commit([Write(lease, 2, [b"b"])]) == [Ack(2)]
    assert (await store.info("run")).last == 2


async def test_reading_does_not_prolong_the_retention(store: MemoryStore, clock: FakeClock) -> None:
    await end(store, "run")

    for _ in range(RETENTION_SECONDS - 1):
        clock.advance(1)
        await store.read("run", 0, limit=1)
    clock.advance(1)

    with pytest.raises(RunNotFoundError):
        await store.read("run", 0, limit=1)


async def test_repeating_the_final_write_does_not_prolong_the_retention(store: MemoryStore, clock: FakeClock) -> None:
    lease = await end(store, "run")
    clock.advance(RETENTION_SECONDS - 1)

    await store.commit([Write(lease, 1, [b"x"], DONE)])
    clock.advance(1)

    assert await kept(store, "run") == []


async def test_a_key_is_free_again_when_its_run_has_expired(store: MemoryStore, clock: FakeClock) -> None:
    await end(store, "run")
    assert await store.create("run", owner=None, thread=None, fingerprint=b"") is None

    clock.advance(RETENTION_SECONDS)

    await begin(store, "run")
    assert (await store.info("run")).last == 0


async def test_beyond_the_byte_bound_the_oldest_final_run_goes_first(store: MemoryStore, clock: FakeClock) -> None:
    await end(store, "first", size=40)
    clock.advance(1)
    await end(store, "second", size=40)
    clock.advance(1)

    await end(store, "third", size=40)

    assert await kept(store, "first", "second", "third") == ["second", "third"]


async def test_the_byte_bound_itself_is_allowed(store: MemoryStore) -> None:
    await end(store, "first", size=50)

    await end(store, "second", size=50)

    assert await kept(store, "first", "second") == ["first", "second"]


async def test_open_runs_do_not_count_for_the_byte_bound(store: MemoryStore) -> None:
    lease = await begin(store, "open")
    await store.commit([Write(lease, 1, [b"x" * 1_000])])

    await end(store, "final", size=100)

    assert await kept(store, "open", "final") == ["open", "final"]


async def test_a_purged_run_makes_room_for_others(store: MemoryStore) -> None:
    await end(store, "first", size=60)
    await store.purge("first")

    await end(store, "second", size=60)
    await end(store, "third", size=40)

    assert await kept(store, "second", "third") == ["second", "third"]


async def test_a_compacted_run_counts_with_its_block_only(store: MemoryStore) -> None:
    await end(store, "first", size=90)
    await store.compact("first", b"x" * 10)

    await end(store, "second", size=90)

    assert await kept(store, "first", "second") == ["first", "second"]


async def test_an_old_expiry_does_not_remove_a_new_run_of_the_same_id(store: MemoryStore, clock: FakeClock) -> None:
    await end(store, "run")
    await store.purge("run")
    clock.advance(RETENTION_SECONDS - 1)
    await end(store, "run")

    clock.advance(1)

    assert await kept(store, "run") == ["run"]


async def test_an_old_expiry_does_not_remove_an_open_run_of_the_same_id(store: MemoryStore, clock: FakeClock) -> None:
    await end(store, "run")
    await store.purge("run")
    lease = await begin(store, "run")

    clock.advance(RETENTION_SECONDS)

    assert await kept(store, "run") == ["run"]
    assert await store.commit([Write(lease, 1, [b"a"])]) == [Ack(1)]


async def test_followers_hear_of_a_purge(store: MemoryStore) -> None:
    await begin(store, "run")
    hints: list[Batch | None] = []
    store.subscribe("run", hints.append)

    await store.purge("run")

    assert hints == [None]


async def test_a_closed_store_has_forgotten_everything(store: MemoryStore) -> None:
    await begin(store, "open")
    await end(store, "final")

    await store.aclose()

    assert await kept(store, "open", "final") == []


async def test_nobody_else_sees_the_logs(store: MemoryStore) -> None:
    assert not store.shared
    assert await store.secret() != await MemoryStore(monotonic=FakeClock().monotonic).secret()


async def test_an_open_run_goes_so_long_after_its_last_write_if_it_was_said_how_long(clock: FakeClock) -> None:
    store = MemoryStore(monotonic=clock.monotonic, live_seconds=60)
    silent, speaking, over = [await begin(store, run_id) for run_id in ("silent", "speaking", "over")]
    await store.commit([Write(over, 1, [b"end"], DONE)])

    clock.advance(40)
    await store.commit([Write(speaking, 1, [b"a"])])
    clock.advance(40)

    assert await kept(store, "silent", "speaking", "over") == ["speaking", "over"]
    clock.advance(30)
    assert await kept(store, "silent", "speaking", "over") == ["over"]
    await store.restore(silent, owner=None, thread=None, fingerprint=b"")
    clock.advance(61)
    assert await kept(store, "silent") == []
