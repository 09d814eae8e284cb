"""The promises of `tailrace.stores.contract` as tests, for any log store.

    TestMyStore = store_suite(lambda: MyStore(…))

in a module that pytest collects, with pytest-asyncio in auto mode. Calling
`pytest.register_assert_rewrite("tailrace.testing.store_suite")` before the import makes failures tell their values.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeVar

from tailrace.errors import FencedError, FingerprintError, GapError, RunNotFoundError, StoreError
from tailrace.stores.contract import OPEN, Ack, Lease, RunStore, Write

__all__ = ["StoreSuite", "store_suite"]

#: Two different final states; what they mean is not the store's business.
_DONE = 1
_FAILED = 2
_MANY = 1_000
_HINT_SECONDS = 5.0

_E = TypeVar("_E", bound=Exception)


def store_suite(factory: Callable[[], RunStore]) -> "type[StoreSuite]":
    """The suite for the stores that `factory` makes: each call gives a new and empty one, which the suite closes."""

    class Suite(StoreSuite):
        def make(self) -> RunStore:
            return factory()

    return Suite


class StoreSuite:
    """One test per promise; a subclass says how a store is made."""

    def make(self) -> RunStore:
        """A new, empty store."""
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncGenerator[RunStore]:
        store = self.make()
        try:
            yield store
        finally:
            await store.aclose()

    # Writing ---------------------------------------------------------------------------------------------------------

    async def test_records_are_numbered_from_1_without_a_hole(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)

            answers = [await _append(store, lease, 1, b"a", b"b"), await _append(store, lease, 3, b"c")]

            assert answers == [Ack(2), Ack(3)]
            assert await _records(store, lease.run_id) == [b"a", b"b", b"c"]
            assert (await store.info(lease.run_id)).last == 3

    async def test_a_record_may_be_any_bytes(self) -> None:
        records = [b"", b"\n", b"\0", b"\r\n\r\n", b"\xff\xfe", "snow ☃".encode(), bytes(range(256)), b"x" * 1024**2]
        async with self._open() as store:
            lease = await _begin(store)

            await _append(store, lease, 1, *records)

            assert await _records(store, lease.run_id) == records

    async def test_a_write_that_is_in_the_log_already_is_acknowledged_and_not_stored_again(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)
            await _append(store, lease, 1, b"a", b"b", b"c")

            answers = [await _append(store, lease, 1, b"a", b"b", b"c"), await _append(store, lease, 2, b"b")]

            assert answers == [Ack(3), Ack(3)]
            assert await _records(store, lease.run_id) == [b"a", b"b", b"c"]

    async def test_a_write_that_overlaps_in_part_is_a_gap_and_stores_nothing(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)
            await _append(store, lease, 1, b"a", b"b")

            answer = await _append(store, lease, 2, b"b", b"c")

            assert _gap(answer) == 2
            assert await _records(store, lease.run_id) == [b"a", b"b"]

    async def test_a_write_that_leaves_a_hole_is_a_gap_and_stores_nothing(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)

            answers = [await _append(store, lease, 2, b"b"), await _append(store, lease, 3, b"c", final=_DONE)]

            assert [_gap(answer) for answer in answers] == [0, 0]
            assert await _records(store, lease.run_id) == []
            assert (await store.info(lease.run_id)).state == OPEN

    async def test_records_and_the_final_state_arrive_together(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)

            answer = await _append(store, lease, 1, b"a", b"end", final=_DONE)

            info = await store.info(lease.run_id)
            assert answer == Ack(2)
            assert (info.state, info.last) == (_DONE, 2)

    async def test_a_repeated_final_write_is_acknowledged(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)
            await _append(store, lease, 1, b"a")
            await _append(store, lease, 2, b"end", final=_DONE)

            answers = [
                await _append(store, lease, 2, b"end", final=_DONE),
                await _append(store, lease, 1, b"a", b"end", final=_DONE),
                await _append(store, lease, 1, b"a"),
            ]

            assert answers == [Ack(2), Ack(2), Ack(2)]
            assert await _records(store, lease.run_id) == [b"a", b"end"]

    async def test_nothing_new_is_written_after_the_final_state(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)
            await _append(store, lease, 1, b"end", final=_DONE)

            answers = [
                await _append(store, lease, 2, b"more"),
                await _append(store, lease, 2, b"end", final=_DONE),
                await _append(store, lease, 1, b"end", final=_FAILED),
                await _append(store, lease, 2),
            ]

            info = await store.info(lease.run_id)
            assert [type(answer) for answer in answers] == [FencedError] * 4
            assert (info.state, info.last) == (_DONE, 1)

    async def test_a_foreign_token_writes_nothing(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)
            await _append(store, lease, 1, b"a")
            beat = (await store.info(lease.run_id)).beat
            foreign = Lease(lease.run_id, "foreign")

            answers = [
                await _append(store, foreign, 2, b"b"),
                await _append(store, foreign, 1, b"a"),
                await _append(store, foreign, 2, b"end", final=_DONE),
                await _append(store, foreign, 2),
            ]

            info = await store.info(lease.run_id)
            assert [type(answer) for answer in answers] == [FencedError] * 4
            assert (info.state, info.last, info.beat) == (OPEN, 1, beat)

    async def test_a_write_without_records_is_a_heartbeat(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)
            await _append(store, lease, 1, b"a")
            before = await store.info(lease.run_id)

            answer = await _append(store, lease, 2)

            after = await store.info(lease.run_id)
            assert answer == Ack(1)
            assert after.beat > before.beat
            assert after.last == 1

    async def test_a_heartbeat_that_expects_another_end_of_the_log_is_a_gap(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)
            await _append(store, lease, 1, b"a")

            answer = await _append(store, lease, 9)

            assert _gap(answer) == 1

    async def test_every_accepted_write_beats(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)
            beats = [(await store.info(lease.run_id)).beat]

            for seq in range(1, 5):
                await _append(store, lease, seq, b"a")
                beats.append((await store.info(lease.run_id)).beat)

            assert beats == sorted(set(beats))

    async def test_answers_stand_in_the_order_of_the_writes(self) -> None:
        async with self._open() as store:
            one, two = await _begin(store, "run-1"), await _begin(store, "run-2")

            answers = await store.commit(
                [
                    Write(two, 1, [b"a", b"b"]),
                    Write(Lease("nowhere", "token"), 1, [b"a"]),
                    Write(one, 1, [b"c"]),
                    Write(one, 5, [b"hole"]),
                    Write(one, 2, [b"d"], _DONE),
                ]
            )

            assert [type(answer) for answer in answers] == [Ack, RunNotFoundError, Ack, GapError, Ack]
            assert (answers[0], answers[2], answers[4]) == (Ack(2), Ack(1), Ack(2))
            assert await _records(store, "run-1") == [b"c", b"d"]
            assert await _records(store, "run-2") == [b"a", b"b"]

    async def test_a_cancelled_write_leaves_the_store_usable_and_may_be_repeated(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)

            for seq in range(1, 9):
                task = asyncio.create_task(_append(store, lease, seq, b"a"))
                for _ in range(seq - 1):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                assert await _append(store, lease, seq, b"a") == Ack(seq)

            assert await _records(store, lease.run_id) == [b"a"] * 8

    # Beginning -------------------------------------------------------------------------------------------------------

    async def test_of_many_who_create_a_run_one_gets_the_lease(self) -> None:
        async with self._open() as store:
            calls = [store.create("run", owner="ada", thread=None, fingerprint=b"f") for _ in range(20)]

            leases = [lease for lease in await asyncio.gather(*calls) if lease is not None]

            assert len(leases) == 1
            assert (await store.info("run")).token == leases[0].token

    async def test_every_lease_has_a_token_of_its_own(self) -> None:
        async with self._open() as store:
            leases = [await _begin(store, f"run-{number}") for number in range(20)]

            assert len({lease.token for lease in leases}) == 20

    async def test_an_existing_run_of_the_same_request_is_no_error(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)
            await _append(store, lease, 1, b"end", final=_DONE)

            again = await store.create("run", owner="ada", thread="t", fingerprint=b"f")

            assert again is None
            assert await _records(store, "run") == [b"end"]

    async def test_another_fingerprint_or_owner_is_refused(self) -> None:
        async with self._open() as store:
            await _begin(store)

            await _refusal(store.create("run", owner="ada", thread="t", fingerprint=b"other"), FingerprintError)
            await _refusal(store.create("run", owner="eve", thread="t", fingerprint=b"f"), FingerprintError)
            await _refusal(store.create("run", owner=None, thread="t", fingerprint=b"f"), FingerprintError)

    async def test_a_new_run_is_open_and_empty_and_says_whose_it_is(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)

            info = await store.info("run")

            assert (info.run_id, info.owner, info.thread) == ("run", "ada", "t")
            assert (info.state, info.last, info.token, info.cancel) == (OPEN, 0, lease.token, None)

    async def test_a_lost_run_is_restored_empty_under_its_own_lease(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)
            await _append(store, lease, 1, b"a")
            await store.purge("run")

            await store.restore(lease, owner="ada", thread="t", fingerprint=b"f")

            info = await store.info("run")
            assert (info.owner, info.thread, info.last, info.token) == ("ada", "t", 0, lease.token)
            assert await _append(store, lease, 1, b"a", b"b") == Ack(2)
            assert await store.create("run", owner="ada", thread="t", fingerprint=b"f") is None
            assert await store.active(owner="ada") == ["run"]

    async def test_a_run_that_is_still_there_survives_being_restored(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)
            await _append(store, lease, 1, b"a")

            await store.restore(lease, owner="ada", thread="t", fingerprint=b"f")

            assert await _records(store, "run") == [b"a"]

    async def test_a_run_is_not_restored_over_another_producers(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)
            await _append(store, lease, 1, b"a")
            old = Lease("run", "old")

            await _refusal(store.restore(old, owner="ada", thread="t", fingerprint=b"f"), FencedError)

            assert (await store.info("run")).token == lease.token
            assert await _records(store, "run") == [b"a"]

    # Reading ---------------------------------------------------------------------------------------------------------

    async def test_reading_from_any_place_gives_the_rest_of_the_log(self) -> None:
        records = [b"%d" % number for number in range(1, 21)]
        async with self._open() as store:
            lease = await _begin(store)
            for start in range(0, 20, 5):
                await _append(store, lease, start + 1, *records[start : start + 5])

            for after in range(22):
                found, info = await store.read("run", after, limit=_MANY)

                assert list(found) == records[after:]
                assert info.last == 20

    async def test_a_read_gives_no_more_than_it_was_asked_for(self) -> None:
        records = [b"%d" % number for number in range(1, 21)]
        async with self._open() as store:
            lease = await _begin(store)
            await _append(store, lease, 1, *records[:7])
            await _append(store, lease, 8, *records[7:], final=_DONE)

            for limit in (1, 2, 7, 19, 20, 21):
                for after in range(20):
                    found, info = await store.read("run", after, limit=limit)

                    assert list(found) == records[after : after + limit]
                    assert (info.last, info.state) == (20, _DONE)

    async def test_an_unknown_run_is_not_found(self) -> None:
        async with self._open() as store:
            await _refusal(store.info("nowhere"), RunNotFoundError)
            await _refusal(store.read("nowhere", 0, limit=1), RunNotFoundError)
            await _refusal(store.cancel("nowhere", "user"), RunNotFoundError)

            answer = await _append(store, Lease("nowhere", "token"), 1, b"a")

            assert isinstance(answer, RunNotFoundError)

    # Cancelling ------------------------------------------------------------------------------------------------------

    async def test_a_cancel_rides_on_every_later_acknowledgement(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)

            accepted = await store.cancel("run", "superseded")

            answers = [
                await _append(store, lease, 1, b"a"),
                await _append(store, lease, 1, b"a"),
                await _append(store, lease, 2),
                await _append(store, lease, 2, b"end", final=_DONE),
            ]
            assert accepted
            assert answers == [Ack(last, "superseded") for last in (1, 1, 1, 2)]
            assert (await store.info("run")).cancel == "superseded"

    async def test_the_first_reason_stays(self) -> None:
        async with self._open() as store:
            await _begin(store)

            accepted = [await store.cancel("run", "user"), await store.cancel("run", "abandoned")]

            assert accepted == [True, True]
            assert (await store.info("run")).cancel == "user"

    async def test_a_final_run_is_not_cancelled(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)
            await _append(store, lease, 1, b"end", final=_DONE)

            accepted = await store.cancel("run", "user")

            assert not accepted
            assert (await store.info("run")).state == _DONE

    # Hints -----------------------------------------------------------------------------------------------------------

    async def test_a_hint_comes_for_records_and_for_a_cancel(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)
            hinted = asyncio.Event()
            unsubscribe = store.subscribe("run", hinted.set)

            for change in (_append(store, lease, 1, b"a"), store.cancel("run", "user")):
                hinted.clear()
                await change
                async with asyncio.timeout(_HINT_SECONDS):
                    await hinted.wait()

            unsubscribe()

    async def test_whoever_unsubscribed_gets_no_hint(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)
            gone, stays = asyncio.Event(), asyncio.Event()
            unsubscribe = store.subscribe("run", gone.set)
            unsubscribe_other = store.subscribe("run", stays.set)
            unsubscribe()
            unsubscribe()

            await _append(store, lease, 1, b"a")

            async with asyncio.timeout(_HINT_SECONDS):
                await stays.wait()
            assert not gone.is_set()
            unsubscribe_other()

    async def test_a_subscription_to_an_unknown_run_is_harmless(self) -> None:
        async with self._open() as store:
            unsubscribe = store.subscribe("nowhere", lambda: None)

            unsubscribe()
            unsubscribe()

    # The index -------------------------------------------------------------------------------------------------------

    async def test_open_runs_are_found_by_owner_and_by_thread_newest_first(self) -> None:
        async with self._open() as store:
            for run_id, owner, thread in (
                ("run-1", "ada", "t"),
                ("run-2", "eve", "t"),
                ("run-3", "ada", "u"),
                ("run-4", "ada", None),
                ("run-5", None, "t"),
            ):
                await store.create(run_id, owner=owner, thread=thread, fingerprint=b"")

            assert await store.active(owner="ada") == ["run-4", "run-3", "run-1"]
            assert await store.active(thread="t") == ["run-5", "run-2", "run-1"]
            assert await store.active(owner="ada", thread="t") == ["run-1"]
            assert await store.active(owner="nobody") == []
            assert await store.active(owner="ada", limit=2) == ["run-4", "run-3"]

    async def test_a_final_run_is_not_active(self) -> None:
        async with self._open() as store:
            lease = await _begin(store)

            await _append(store, lease, 1, b"end", final=_DONE)

            assert await store.active(owner="ada") == []

    async def test_a_purged_run_leaves_nothing_behind(self) -> None:
        async with self._open() as store:
            old = await _begin(store)
            await _append(store, old, 1, b"old")
            await store.cancel("run", "user")

            await store.purge("run")
            await store.purge("run")

            await _refusal(store.info("run"), RunNotFoundError)
            assert await store.active(owner="ada") == []
            new = await store.create("run", owner="eve", thread=None, fingerprint=b"other")
            assert new is not None
            assert new.token != old.token
            assert isinstance(await _append(store, old, 2, b"zombie"), FencedError)
            assert await _append(store, new, 1, b"new") == Ack(1)
            assert await _records(store, "run") == [b"new"]

    async def test_the_secret_is_made_once(self) -> None:
        async with self._open() as store:
            secrets = await asyncio.gather(*[store.secret() for _ in range(5)])

            assert len(set(secrets)) == 1
            assert len(secrets[0]) == 32


async def _begin(store: RunStore, run_id: str = "run") -> Lease:
    lease = await store.create(run_id, owner="ada", thread="t", fingerprint=b"f")
    assert lease is not None
    assert lease.run_id == run_id
    return lease


async def _append(store: RunStore, lease: Lease, first: int, *records: bytes, final: int = OPEN) -> Ack | StoreError:
    (answer,) = await store.commit([Write(lease, first, records, final)])
    return answer


async def _records(store: RunStore, run_id: str) -> Sequence[bytes]:
    records, _ = await store.read(run_id, 0, limit=_MANY)
    return list(records)


def _gap(answer: Ack | StoreError) -> int:
    """Where the log ends, as a gap says."""
    assert isinstance(answer, GapError), answer
    return answer.last


async def _refusal(call: Awaitable[object], kind: type[_E]) -> _E:
    """What the call raised.

    Raises:
        AssertionError: Nothing.
    """
    try:
        outcome = await call
    except kind as error:
        return error
    raise AssertionError(f"{outcome!r} instead of {kind.__name__}")
