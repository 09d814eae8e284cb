"""The promises about beginning a run and writing to it."""

import asyncio

from tailrace.errors import FencedError, FingerprintError, GapError, RunNotFoundError
from tailrace.stores.contract import OPEN, Ack, Lease, Write
from tailrace.testing.store_suite.calls import (
    DONE,
    FAILED,
    OpeningSuite,
    append,
    begin,
    cancel_after,
    gap_of,
    produce,
    records_of,
    refusal,
)

__all__ = ["WritingSuite"]


class WritingSuite(OpeningSuite):
    """Who gets the lease, what is accepted, and what is answered."""

    # Beginning -----------------------------------------------------------------------------------------------------

    async def test_of_many_who_create_a_run_one_gets_the_lease(self) -> None:
        async with self._open() as store:
            calls = [store.create("run", owner="ada", thread=None, fingerprint=b"f") for _ in range(20)]

            leases = [lease for lease in await asyncio.gather(*calls) if lease is not None]

            assert len(leases) == 1
            assert (await store.info("run")).token == leases[0].token

    async def test_every_lease_has_a_token_of_its_own(self) -> None:
        async with self._open() as store:
            leases = [await begin(store, f"run-{number}") for number in range(20)]

            assert len({lease.token for lease in leases}) == 20

    async def test_an_existing_run_of_the_same_request_is_no_error(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"end", final=DONE)

            again = await store.create("run", owner="ada", thread="t", fingerprint=b"f")

            assert again is None
            assert await records_of(store, "run") == [b"end"]

    async def test_another_fingerprint_or_owner_is_refused(self) -> None:
        async with self._open() as store:
            await begin(store)

            await refusal(store.create("run", owner="ada", thread="t", fingerprint=b"other"), FingerprintError)
            await refusal(store.create("run", owner="eve", thread="t", fingerprint=b"f"), FingerprintError)
            await refusal(store.create("run", owner=None, thread="t", fingerprint=b"f"), FingerprintError)

    async def test_a_new_run_is_open_and_empty_and_says_whose_it_is(self) -> None:
        async with self._open() as store:
            lease = await begin(store)

            info = await store.info("run")

            assert (info.run_id, info.owner, info.thread) == ("run", "ada", "t")
            assert (info.state, info.last, info.token, info.cancel) == (OPEN, 0, lease.token, None)

    async def test_a_lost_run_is_restored_empty_under_its_own_lease(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a")
            await store.purge("run")

            await store.restore(lease, owner="ada", thread="t", fingerprint=b"f")

            info = await store.info("run")
            assert (info.owner, info.thread, info.last, info.token) == ("ada", "t", 0, lease.token)
            assert await append(store, lease, 1, b"a", b"b") == Ack(2)
            assert await store.create("run", owner="ada", thread="t", fingerprint=b"f") is None
            assert await store.active(owner="ada") == ["run"]

    async def test_a_run_that_is_still_there_survives_being_restored(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a")

            await store.restore(lease, owner="ada", thread="t", fingerprint=b"f")

            assert await records_of(store, "run") == [b"a"]

    async def test_a_run_is_not_restored_over_another_producers(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a")
            old = Lease("run", "old")

            await refusal(store.restore(old, owner="ada", thread="t", fingerprint=b"f"), FencedError)

            assert (await store.info("run")).token == lease.token
            assert await records_of(store, "run") == [b"a"]

    # Writing -------------------------------------------------------------------------------------------------------

    async def test_records_are_numbered_from_1_without_a_hole(self) -> None:
        async with self._open() as store:
            lease = await begin(store)

            answers = [await append(store, lease, 1, b"a", b"b"), await append(store, lease, 3, b"c")]

            assert answers == [Ack(2), Ack(3)]
            assert await records_of(store, lease.run_id) == [b"a", b"b", b"c"]
            assert (await store.info(lease.run_id)).last == 3

    async def test_a_record_may_be_any_bytes(self) -> None:
        records = [b"", b"\n", b"\0", b"\r\n\r\n", b"\xff\xfe", "snow ☃".encode(), bytes(range(256)), b"x" * 1024**2]
        async with self._open() as store:
            lease = await begin(store)

            await append(store, lease, 1, *records)

            assert await records_of(store, lease.run_id) == records

    async def test_a_write_that_is_in_the_log_already_is_acknowledged_and_not_stored_again(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a", b"b", b"c")

            answers = [await append(store, lease, 1, b"a", b"b", b"c"), await append(store, lease, 2, b"b")]

            assert answers == [Ack(3), Ack(3)]
            assert await records_of(store, lease.run_id) == [b"a", b"b", b"c"]

    async def test_a_write_that_overlaps_in_part_is_a_gap_and_stores_nothing(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a", b"b")

            answer = await append(store, lease, 2, b"b", b"c")

            assert gap_of(answer) == 2
            assert await records_of(store, lease.run_id) == [b"a", b"b"]

    async def test_a_write_that_leaves_a_hole_is_a_gap_and_stores_nothing(self) -> None:
        async with self._open() as store:
            lease = await begin(store)

            answers = [await append(store, lease, 2, b"b"), await append(store, lease, 3, b"c", final=DONE)]

            assert [gap_of(answer) for answer in answers] == [0, 0]
            assert await records_of(store, lease.run_id) == []
            assert (await store.info(lease.run_id)).state == OPEN

    async def test_records_and_the_final_state_arrive_together(self) -> None:
        async with self._open() as store:
            lease = await begin(store)

            answer = await append(store, lease, 1, b"a", b"end", final=DONE)

            info = await store.info(lease.run_id)
            assert answer == Ack(2)
            assert (info.state, info.last) == (DONE, 2)

    async def test_a_repeated_final_write_is_acknowledged(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a")
            await append(store, lease, 2, b"end", final=DONE)

            answers = [
                await append(store, lease, 2, b"end", final=DONE),
                await append(store, lease, 1, b"a", b"end", final=DONE),
                await append(store, lease, 1, b"a"),
            ]

            assert answers == [Ack(2), Ack(2), Ack(2)]
            assert await records_of(store, lease.run_id) == [b"a", b"end"]

    async def test_nothing_new_is_written_after_the_final_state(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"end", final=DONE)

            answers = [
                await append(store, lease, 2, b"more"),
                await append(store, lease, 2, b"end", final=DONE),
                await append(store, lease, 1, b"end", final=FAILED),
                await append(store, lease, 2),
            ]

            info = await store.info(lease.run_id)
            assert [type(answer) for answer in answers] == [FencedError] * 4
            assert (info.state, info.last) == (DONE, 1)

    async def test_a_foreign_token_writes_nothing(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a")
            beat = (await store.info(lease.run_id)).beat
            foreign = Lease(lease.run_id, "foreign")

            answers = [
                await append(store, foreign, 2, b"b"),
                await append(store, foreign, 1, b"a"),
                await append(store, foreign, 2, b"end", final=DONE),
                await append(store, foreign, 2),
            ]

            info = await store.info(lease.run_id)
            assert [type(answer) for answer in answers] == [FencedError] * 4
            assert (info.state, info.last, info.beat) == (OPEN, 1, beat)

    async def test_a_write_without_records_is_a_heartbeat(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a")
            before = await store.info(lease.run_id)

            answer = await append(store, lease, 2)

            after = await store.info(lease.run_id)
            assert answer == Ack(1)
            assert after.beat > before.beat
            assert after.last == 1

    async def test_a_heartbeat_that_expects_another_end_of_the_log_is_a_gap(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a")

            answer = await append(store, lease, 9)

            assert gap_of(answer) == 1

    async def test_every_accepted_write_beats(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            beats = [(await store.info(lease.run_id)).beat]

            for seq in range(1, 5):
                await append(store, lease, seq, b"a")
                beats.append((await store.info(lease.run_id)).beat)

            assert beats == sorted(set(beats))

    async def test_answers_stand_in_the_order_of_the_writes(self) -> None:
        async with self._open() as store:
            one, two = await begin(store, "run-1"), await begin(store, "run-2")

            answers = await store.commit(
                [
                    Write(two, 1, [b"a", b"b"]),
                    Write(Lease("nowhere", "token"), 1, [b"a"]),
                    Write(one, 1, [b"c"]),
                    Write(one, 5, [b"hole"]),
                    Write(one, 2, [b"d"], DONE),
                ]
            )

            assert [type(answer) for answer in answers] == [Ack, RunNotFoundError, Ack, GapError, Ack]
            assert (answers[0], answers[2], answers[4]) == (Ack(2), Ack(1), Ack(2))
            assert await records_of(store, "run-1") == [b"c", b"d"]
            assert await records_of(store, "run-2") == [b"a", b"b"]

    async def test_no_writes_have_no_answers(self) -> None:
        async with self._open() as store:
            assert list(await store.commit([])) == []

    async def test_many_producers_write_at_once(self) -> None:
        async with self._open() as store:
            leases = [await begin(store, f"run-{number}") for number in range(20)]

            logs = await asyncio.gather(*[produce(store, lease, batches=10) for lease in leases])

            assert [await records_of(store, lease.run_id) for lease in leases] == logs

    async def test_a_cancelled_write_leaves_the_store_usable_and_may_be_repeated(self) -> None:
        async with self._open() as store:
            lease = await begin(store)

            for seq in range(1, 9):
                await cancel_after(seq - 1, append(store, lease, seq, b"a"))

                assert await append(store, lease, seq, b"a") == Ack(seq)

            assert await records_of(store, lease.run_id) == [b"a"] * 8
