"""Streams that clients append to, as several workers serve them: nothing is lost, doubled or mixed up among them."""

import asyncio
import contextlib
from collections.abc import Sequence

import pytest

from tailrace.errors import KeyInvalidError, RunNotFoundError, StoreError, StoreUnavailableError
from tailrace.runtime.ledger import Append, Mark, Opening, StreamLimits
from tailrace.runtime.streams import StreamReader, Streams, StreamView, new_nonce
from tailrace.stores.contract import Ack, Hint, Page, Stop, Write
from tailrace.stores.memory import MemoryStore
from tailrace.testing import FakeClock, FaultyStore

OWNER = "ann"
STREAM = "s" * 26
LIMITS = StreamLimits(max_streams=3, lifetime_seconds=80)
#: More than any page.
ALL_BYTES = 2**30


class PonderingStore(MemoryStore):
    """Lets others have their turn before it answers what they could change meanwhile."""

    async def read(self, run_id: str, after: int, *, limit: int) -> Page:
        """As any store, later."""
        await asyncio.sleep(0)
        page = await super().read(run_id, after, limit=limit)
        await asyncio.sleep(0)
        return page


class SilentStore(MemoryStore):
    """Loses every hint."""

    def subscribe(self, run_id: str, hint: Hint) -> Stop:
        """To no avail."""
        return super().subscribe("another run", hint)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> MemoryStore:
    return PonderingStore(monotonic=clock.monotonic)


@pytest.fixture
def here(store: MemoryStore, clock: FakeClock) -> Streams:
    """One worker."""
    return Streams(store, clock=clock, limits=LIMITS)


@pytest.fixture
def there(store: MemoryStore, clock: FakeClock) -> Streams:
    """Another worker, with the same store."""
    return Streams(store, clock=clock, limits=LIMITS)


def opening(clock: FakeClock, ttl_seconds: int | None = None) -> Opening:
    return Opening(new_nonce(), clock.time_ms(), "text/plain", ttl_seconds)


async def created(streams: Streams, clock: FakeClock, *messages: bytes, ttl_seconds: int | None = None) -> StreamView:
    creation, view = await streams.create(STREAM, opening(clock, ttl_seconds), messages, owner=OWNER)
    assert creation == "created"
    return view


def text(body: bytes, mark: Mark | None = None) -> Append:
    return Append(body=body, media_type="text/plain", mark=mark)


async def content(streams: Streams) -> list[bytes]:
    """All messages of the stream, as a worker shows them."""
    view = streams.view(STREAM)
    await view.look()
    return await StreamReader(view).read(ALL_BYTES)


async def test_what_one_worker_appends_another_one_reads(here: Streams, there: Streams, clock: FakeClock) -> None:
    await created(here, clock, b"a")

    await there.view(STREAM).append(text(b"b"))
    await here.view(STREAM).append(text(b"c"))

    assert await content(here) == await content(there) == [b"a", b"b", b"c"]


async def test_of_many_that_append_at_once_through_two_workers_each_is_stored_once(
    here: Streams, there: Streams, clock: FakeClock
) -> None:
    await created(here, clock)
    bodies = [b"%d" % number for number in range(60)]

    appended = await asyncio.gather(
        *((here, there)[number % 2].view(STREAM).append(text(body)) for number, body in enumerate(bodies))
    )

    assert {verdict.outcome for verdict, _ in appended} == {"appended"}
    assert len({last for _, last in appended}) == len(bodies)
    assert sorted(await content(here)) == sorted(bodies)
    assert await content(here) == await content(there)


async def test_an_append_that_is_repeated_through_another_worker_is_stored_once(
    here: Streams, there: Streams, clock: FakeClock
) -> None:
    await created(here, clock)

    appended = await asyncio.gather(
        *(streams.view(STREAM).append(text(b"a", Mark("p", 0, 0))) for streams in (here, there) for _ in range(5))
    )

    assert sorted(verdict.outcome for verdict, _ in appended) == ["appended", *["duplicate"] * 9]
    assert await content(there) == [b"a"]


async def test_of_many_that_create_a_stream_at_once_one_does(here: Streams, there: Streams, clock: FakeClock) -> None:
    creations = await asyncio.gather(
        *(
            streams.create(STREAM, opening(clock), [b"%d" % number], owner=OWNER)
            for number in range(5)
            for streams in (here, there)
        )
    )

    assert sorted(creation for creation, _ in creations) == ["created", *["found"] * 9]
    assert len(await content(here)) == 1


async def test_a_creation_that_was_interrupted_is_taken_up_by_the_next(
    here: Streams, store: MemoryStore, clock: FakeClock
) -> None:
    await store.create(STREAM, owner=OWNER, thread=None, fingerprint=b"stream")

    with pytest.raises(RunNotFoundError):
        await here.view(STREAM).look()
    await created(here, clock, b"a")

    assert await content(here) == [b"a"]


async def test_a_stream_that_was_deleted_elsewhere_is_gone_and_its_name_is_free(
    here: Streams, there: Streams, clock: FakeClock
) -> None:
    await created(here, clock, b"old", b"old")

    await there.view(STREAM).remove()
    with pytest.raises(RunNotFoundError):
        await here.view(STREAM).append(text(b"lost"))
    await created(there, clock, b"new")

    assert await content(here) == [b"new"]


async def test_an_append_to_a_stream_that_is_replaced_meanwhile_goes_to_the_new_one(
    here: Streams, there: Streams, store: MemoryStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await created(here, clock, b"old")
    commit = store.commit

    async def commit_too_late(writes: Sequence[Write]) -> Sequence[Ack | StoreError]:
        monkeypatch.undo()
        await there.view(STREAM).remove()
        await created(there, clock, b"new")
        return await commit(writes)

    monkeypatch.setattr(store, "commit", commit_too_late)
    await here.view(STREAM).append(text(b"a"))

    assert await content(here) == [b"new", b"a"]


async def test_a_reader_of_a_stream_is_not_given_the_next_one_of_its_name(
    here: Streams, there: Streams, clock: FakeClock
) -> None:
    reader = StreamReader(await created(here, clock, b"old"))
    await reader.wait()
    await reader.read(ALL_BYTES)

    await there.view(STREAM).remove()
    await created(there, clock, b"new", b"new")

    with pytest.raises(RunNotFoundError):
        await reader.read(ALL_BYTES)
    reader.close()


async def test_of_many_that_delete_one_does(here: Streams, there: Streams, clock: FakeClock) -> None:
    await created(here, clock)

    async def remove(streams: Streams) -> bool:
        with contextlib.suppress(RunNotFoundError):
            return await streams.view(STREAM).remove()
        return False

    removed = await asyncio.gather(*(remove(streams) for streams in (here, there) for _ in range(3)))

    assert sum(removed) == 1


@pytest.mark.parametrize("applied", [False, True])
async def test_an_append_whose_answer_is_lost_may_be_repeated_by_its_producer(clock: FakeClock, applied: bool) -> None:
    store = FaultyStore(MemoryStore(monotonic=clock.monotonic))
    streams = Streams(store, clock=clock, limits=LIMITS)
    view = await created(streams, clock)
    store.unavailable(1, applied=applied)
    append = text(b"a", Mark("p", 0, 0))

    with pytest.raises(StoreUnavailableError):
        await view.append(append)
    verdict, _ = await view.append(append)

    assert verdict.outcome == ("duplicate" if applied else "appended")
    assert await content(streams) == [b"a"]


async def test_a_stream_whose_store_has_lost_its_end_goes_on_from_what_is_there(clock: FakeClock) -> None:
    store = FaultyStore(MemoryStore(monotonic=clock.monotonic))
    streams = Streams(store, clock=clock, limits=LIMITS)
    view = await created(streams, clock, b"a")
    await view.append(text(b"b"))

    await store.forget(STREAM, 2)

    assert await content(streams) == [b"a"]


# Time ----------------------------------------------------------------------------------------------------------------


async def test_reading_and_appending_keep_a_stream_alive_and_looking_does_not(
    here: Streams, there: Streams, clock: FakeClock
) -> None:
    view = await created(here, clock, ttl_seconds=8)

    clock.advance(8)
    await view.look(is_read=True)
    clock.advance(8)
    await there.view(STREAM).append(text(b"a"))
    clock.advance(8)
    await view.look()
    clock.advance(1)

    with pytest.raises(RunNotFoundError):
        await view.look()
    with pytest.raises(RunNotFoundError):
        await there.view(STREAM).append(text(b"b"))


async def test_a_stream_without_a_time_to_live_goes_when_nobody_has_wanted_it_for_long(
    here: Streams, clock: FakeClock
) -> None:
    view = await created(here, clock)

    clock.advance(1.125 * LIMITS.lifetime_seconds)

    with pytest.raises(RunNotFoundError):
        await view.look()


async def test_the_name_of_a_stream_that_has_expired_is_free_for_one_of_many(
    here: Streams, there: Streams, clock: FakeClock
) -> None:
    await created(here, clock, b"old", ttl_seconds=1)
    clock.advance(2)

    creations = await asyncio.gather(
        *(streams.create(STREAM, opening(clock), [b"new"], owner=OWNER) for streams in (here, there) for _ in range(3))
    )

    assert sorted(creation for creation, _ in creations) == ["created", *["found"] * 5]
    assert await content(here) == await content(there) == [b"new"]


async def test_reads_that_prolong_a_stream_move_no_offset(here: Streams, clock: FakeClock) -> None:
    view = await created(here, clock, b"a", ttl_seconds=8)
    before = view.ledger.last

    for _ in range(5):
        clock.advance(4)
        await view.look(is_read=True)

    await view.look()
    assert view.ledger.last == before
    assert view.ledger.length == before + 5


# Bounds --------------------------------------------------------------------------------------------------------------


async def test_an_owner_has_so_many_streams_and_no_more(here: Streams, clock: FakeClock) -> None:
    creations = [
        (await here.create(f"{name}{STREAM}", opening(clock), [], owner=owner))[0]
        for name, owner in [("a", OWNER), ("b", OWNER), ("c", OWNER), ("d", OWNER), ("e", "bob")]
    ]

    assert creations == ["created", "created", "created", "too_many", "created"]


async def test_a_stream_that_has_expired_makes_room_for_another(here: Streams, clock: FakeClock) -> None:
    for name in "abc":
        await here.create(f"{name}{STREAM}", opening(clock, ttl_seconds=1), [], owner=OWNER)

    clock.advance(2)

    assert (await here.create(f"d{STREAM}", opening(clock), [], owner=OWNER))[0] == "created"


async def test_a_name_is_another_stream_for_another_owner_and_no_id_itself(here: Streams) -> None:
    ids = {
        await here.id_of("name", owner="ann", kind="stream"),
        await here.id_of("name", owner="bob", kind="stream"),
        await here.id_of("name", owner="", kind="open"),
        "name",
    }

    assert len(ids) == 4
    with pytest.raises(KeyInvalidError):
        await here.id_of("name", owner=None, kind="stream")


async def test_a_worker_remembers_a_bounded_number_of_streams(
    here: Streams, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.runtime.streams._VIEWS", 2)
    followed = await created(here, clock)
    reader = StreamReader(followed)
    await reader.wait()

    views = [here.view(f"{name}{STREAM}") for name in "abc"]

    assert here.view(STREAM) is followed
    assert here.view(f"c{STREAM}") is views[-1]
    assert here.view(f"a{STREAM}") is not views[0]
    reader.close()


# Reading -------------------------------------------------------------------------------------------------------------


async def test_a_page_ends_with_the_message_that_fills_it(here: Streams, clock: FakeClock) -> None:
    reader = StreamReader(await created(here, clock, b"aaa", b"bbb", b"ccc"))

    pages = [await reader.read(4), await reader.read(4), await reader.read(4)]

    assert pages == [[b"aaa", b"bbb"], [b"ccc"], []]


async def test_a_stream_of_many_records_is_read_whole(here: Streams, there: Streams, clock: FakeClock) -> None:
    view = await created(here, clock)
    bodies = [b"%d" % number for number in range(700)]
    for body in bodies:
        await view.append(text(body))

    assert await content(here) == await content(there) == bodies


@pytest.mark.parametrize("size", [1, 300 * 1024])
async def test_a_reader_that_waits_is_told_of_what_another_worker_appends(
    here: Streams, there: Streams, clock: FakeClock, size: int
) -> None:
    reader = StreamReader(await created(here, clock, b"old"))
    await reader.wait()
    seen = await reader.read(ALL_BYTES)

    for letter in (b"a", b"b", b"c"):
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(reader.wait())
            await there.view(STREAM).append(text(letter * size))
        assert waiting.done()
        seen += await reader.read(ALL_BYTES)

    assert seen == [b"old", b"a" * size, b"b" * size, b"c" * size]
    reader.close()


async def test_many_readers_of_a_stream_cost_the_store_no_more_than_one(
    here: Streams, there: Streams, store: MemoryStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = await created(here, clock)
    readers = [StreamReader(view) for _ in range(50)]
    for reader in readers:
        await reader.wait()
        await reader.read(ALL_BYTES)
    await there.view(STREAM).append(text(b"a"))
    reads: list[int] = []
    read = store.read

    async def counted(run_id: str, after: int, *, limit: int) -> Page:
        reads.append(after)
        return await read(run_id, after, limit=limit)

    monkeypatch.setattr(store, "read", counted)
    found = await asyncio.gather(*(reader.read(ALL_BYTES) for reader in readers))

    assert found == [[b"a"]] * 50
    assert len(reads) == 1
    for reader in readers:
        reader.close()
    assert not view.is_followed


async def test_a_hint_that_is_lost_is_made_up_for(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.runtime.streams._SILENCE_SECONDS", 0.01)
    store = SilentStore(monotonic=clock.monotonic)
    here, there = (Streams(store, clock=clock, limits=LIMITS) for _ in range(2))
    reader = StreamReader(await created(here, clock))
    await reader.wait()
    await reader.read(ALL_BYTES)

    await there.view(STREAM).append(text(b"a"))
    while not (found := await reader.read(ALL_BYTES)):
        await reader.wait()

    assert found == [b"a"]
    reader.close()
