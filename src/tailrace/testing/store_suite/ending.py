"""The promises about how a run is ended by others than its producer, and what becomes of it."""

import asyncio

from tailrace.errors import FencedError, RunNotFoundError
from tailrace.stores.contract import Ack
from tailrace.testing.store_suite.calls import (
    DONE,
    FAILED,
    MANY,
    OpeningSuite,
    append,
    begin,
    following,
    records_of,
    refusal,
)

__all__ = ["EndingSuite"]


class EndingSuite(OpeningSuite):
    """Cancels, seals and blocks."""

    # Cancelling ----------------------------------------------------------------------------------------------------

    async def test_a_cancel_rides_on_every_later_acknowledgement(self) -> None:
        async with self._open() as store:
            lease = await begin(store)

            accepted = await store.cancel("run", "superseded")

            answers = [
                await append(store, lease, 1, b"a"),
                await append(store, lease, 1, b"a"),
                await append(store, lease, 2),
                await append(store, lease, 2, b"end", final=DONE),
            ]
            assert accepted
            assert answers == [Ack(last, "superseded") for last in (1, 1, 1, 2)]
            assert (await store.info("run")).cancel == "superseded"

    async def test_the_first_reason_stays(self) -> None:
        async with self._open() as store:
            await begin(store)

            accepted = [await store.cancel("run", "user"), await store.cancel("run", "abandoned")]

            assert accepted == [True, True]
            assert (await store.info("run")).cancel == "user"

    async def test_a_final_run_is_not_cancelled(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"end", final=DONE)

            accepted = await store.cancel("run", "user")

            assert not accepted
            assert (await store.info("run")).state == DONE

    # Sealing -------------------------------------------------------------------------------------------------------

    async def test_a_seal_ends_a_run_with_its_record(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a", b"b")

            sealed = await store.seal(await store.info("run"), b"end", FAILED)

            page = await store.read("run", 0, limit=MANY)
            assert sealed
            assert list(page.records) == [b"a", b"b", b"end"]
            assert (page.info.state, page.info.last) == (FAILED, 3)
            assert await store.active(owner="ada") == []
            assert not await store.cancel("run", "user")

    async def test_an_empty_run_can_be_sealed(self) -> None:
        async with self._open() as store:
            await begin(store)

            assert await store.seal(await store.info("run"), b"end", FAILED)

            assert await records_of(store, "run") == [b"end"]

    async def test_a_run_that_has_beaten_since_is_not_sealed(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a")
            for seq, records in ((2, ()), (2, (b"b",))):
                seen = await store.info("run")
                await append(store, lease, seq, *records)

                assert not await store.seal(seen, b"end", FAILED)

            assert await append(store, lease, 3, b"c") == Ack(3)
            assert await records_of(store, "run") == [b"a", b"b", b"c"]

    async def test_a_final_run_is_not_sealed(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            seen = await store.info("run")
            await append(store, lease, 1, b"end", final=DONE)

            sealed = [await store.seal(each, b"late", FAILED) for each in (seen, await store.info("run"))]

            assert sealed == [False, False]
            assert (await store.info("run")).state == DONE
            assert await records_of(store, "run") == [b"end"]

    async def test_a_run_that_another_producer_has_begun_since_is_not_sealed(self) -> None:
        async with self._open() as store:
            await begin(store)
            seen = await store.info("run")
            await store.purge("run")
            unknown = await store.seal(seen, b"end", FAILED)
            await begin(store)

            assert not unknown
            assert not await store.seal(seen, b"end", FAILED)
            assert await records_of(store, "run") == []

    async def test_of_many_who_seal_a_run_one_does(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a")
            seen = await store.info("run")

            sealed = await asyncio.gather(*[store.seal(seen, b"end %d" % number, FAILED) for number in range(20)])

            assert sealed.count(True) == 1
            assert await records_of(store, "run") == [b"a", b"end %d" % sealed.index(True)]

    async def test_a_sealed_producer_is_fenced(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a")
            await store.seal(await store.info("run"), b"end", FAILED)

            answers = [
                await append(store, lease, 2, b"zombie"),
                await append(store, lease, 3, b"zombie"),
                await append(store, lease, 2),
                await append(store, lease, 3),
                await append(store, lease, 2, b"zombie", final=DONE),
            ]

            assert [type(answer) for answer in answers] == [FencedError] * 5
            assert await records_of(store, "run") == [b"a", b"end"]
            assert (await store.info("run")).state == FAILED

    async def test_followers_hear_of_a_seal(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a")
            async with following(store, "run") as followed:
                await store.seal(await store.info("run"), b"end", FAILED)

                assert await followed == [b"a", b"end"]

    # Compacting ----------------------------------------------------------------------------------------------------

    async def test_a_block_stands_for_the_records_of_a_final_run(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a", b"b")
            await append(store, lease, 3, b"end", final=DONE)
            before = await store.info("run")
            block = bytes(range(256)) * 16

            compacted = await store.compact("run", block)

            assert compacted
            assert await store.info("run") == before
            for after in range(5):
                page = await store.read("run", after, limit=1)
                assert (list(page.records), page.block, page.info) == ([], block, before)

    async def test_a_compacted_run_answers_its_producer_as_before(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a", b"end", final=DONE)
            await store.compact("run", b"block")

            answers = [
                await append(store, lease, 1, b"a", b"end", final=DONE),
                await append(store, lease, 3, b"more"),
            ]

            assert answers[0] == Ack(2)
            assert isinstance(answers[1], FencedError)
            assert await store.create("run", owner="ada", thread="t", fingerprint=b"f") is None

    async def test_a_run_may_be_compacted_again(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"end", final=DONE)

            compacted = await asyncio.gather(*[store.compact("run", b"block") for _ in range(3)])

            assert compacted == [True, True, True]
            assert (await store.read("run", 0, limit=1)).block == b"block"

    async def test_an_open_run_is_not_compacted(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a")

            assert not await store.compact("run", b"block")

            page = await store.read("run", 0, limit=MANY)
            assert (list(page.records), page.block) == ([b"a"], None)

    async def test_an_unknown_run_is_not_compacted(self) -> None:
        async with self._open() as store:
            assert not await store.compact("nowhere", b"block")

            await refusal(store.info("nowhere"), RunNotFoundError)

    async def test_a_sealed_run_is_compacted_as_others(self) -> None:
        async with self._open() as store:
            await begin(store)
            await store.seal(await store.info("run"), b"end", FAILED)

            assert await store.compact("run", b"block")

            assert (await store.read("run", 0, limit=1)).block == b"block"

    async def test_a_purged_block_is_gone(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"end", final=DONE)
            await store.compact("run", b"block")

            await store.purge("run")

            await refusal(store.read("run", 0, limit=1), RunNotFoundError)
            await begin(store)
            page = await store.read("run", 0, limit=1)
            assert (list(page.records), page.block) == ([], None)
