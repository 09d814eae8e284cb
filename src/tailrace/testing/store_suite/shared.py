"""The promises that bind several store objects on one backend."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from tailrace.errors import FencedError, RunNotFoundError
from tailrace.stores.contract import Ack, Batch, RunStore
from tailrace.testing.store_suite.calls import (
    DONE,
    FAILED,
    MANY,
    Inbox,
    OpeningSuite,
    append,
    begin,
    follow_from,
    following,
    opened,
    produce,
    records_of,
    refusal,
    signal,
)

__all__ = ["SharedStoreSuite"]


class SharedStoreSuite(OpeningSuite):
    """The promises that bind several store objects on one backend: the workers of a service."""

    def again(self, store: RunStore) -> RunStore:
        """Another store on the backend of `store`."""
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def _open_two(self) -> AsyncGenerator[tuple[RunStore, RunStore]]:
        async with self._open() as here, opened(self.again(here)) as there:
            yield here, there

    async def test_the_store_says_that_it_is_shared(self) -> None:
        async with self._open_two() as (here, there):
            assert (here.shared, there.shared) == (True, True)

    async def test_what_one_worker_has_written_the_other_reads(self) -> None:
        async with self._open_two() as (here, there):
            lease = await begin(here)

            for seq in range(1, 11):
                await append(here, lease, seq, b"%d" % seq)

                assert (await there.info("run")).last == seq
                assert list((await there.read("run", seq - 1, limit=MANY)).records) == [b"%d" % seq]
            assert await there.active(owner="ada") == ["run"]
            assert await there.info("run") == await here.info("run")

    async def test_a_lease_is_good_at_every_worker(self) -> None:
        async with self._open_two() as (here, there):
            lease = await begin(here)

            answers = [await append(store, lease, seq, b"a") for seq, store in enumerate((here, there) * 5, 1)]

            assert answers == [Ack(seq) for seq in range(1, 11)]

    async def test_of_many_workers_who_ask_for_a_note_one_gets_it(self) -> None:
        async with self._open_two() as (here, there):
            await begin(here)
            for number in range(10):
                assert await here.put_note("run", f"note-{number}", b"text", live_seconds=60, most=1)

                taken = await asyncio.gather(*[store.take_note("run", f"note-{number}") for store in (here, there) * 5])

                assert sorted(note for note in taken if note is not None) == [b"text"]

    async def test_of_many_workers_who_create_a_run_one_gets_the_lease(self) -> None:
        async with self._open_two() as workers:
            for number in range(10):
                run_id = f"run-{number}"
                leases = await asyncio.gather(
                    *[store.create(run_id, owner=None, thread=None, fingerprint=b"") for store in workers * 5]
                )

                (lease,) = [lease for lease in leases if lease is not None]
                assert [(await store.info(run_id)).token for store in workers] == [lease.token] * 2

    async def test_of_many_workers_who_seal_a_run_one_does(self) -> None:
        async with self._open_two() as workers:
            for number in range(10):
                run_id = f"run-{number}"
                await begin(workers[0], run_id)
                seen = await workers[1].info(run_id)

                sealed = await asyncio.gather(*[store.seal(seen, b"end", FAILED) for store in workers * 5])

                assert sealed.count(True) == 1
                assert [await records_of(store, run_id) for store in workers] == [[b"end"]] * 2

    async def test_a_producer_that_another_worker_has_sealed_is_fenced(self) -> None:
        async with self._open_two() as (here, there):
            lease = await begin(here)
            await append(here, lease, 1, b"a")

            assert await there.seal(await there.info("run"), b"end", FAILED)

            assert isinstance(await append(here, lease, 2, b"zombie"), FencedError)
            assert await records_of(here, "run") == [b"a", b"end"]

    async def test_a_producer_that_beats_is_not_sealed_by_another_worker(self) -> None:
        async with self._open_two() as (here, there):
            lease = await begin(here)
            seen = await there.info("run")
            await append(here, lease, 1)

            assert not await there.seal(seen, b"end", FAILED)

            assert await append(here, lease, 1, b"a") == Ack(1)

    async def test_a_cancel_of_one_worker_reaches_the_producer_at_another(self) -> None:
        async with self._open_two() as (here, there):
            lease = await begin(here)
            hints = Inbox[Batch | None]()
            stop = here.subscribe("run", hints)
            # As every follower does: what happens after this is hinted at.
            await here.info("run")

            accepted = await there.cancel("run", "user")

            assert accepted
            await hints.filled()
            assert await append(here, lease, 1, b"a") == Ack(1, "user")
            stop()

    async def test_followers_at_every_worker_get_the_same_log(self) -> None:
        async with self._open_two() as workers:
            leases = [await begin(workers[0], "at-0"), await begin(workers[1], "at-1")]
            async with asyncio.TaskGroup() as tasks:
                producing = [
                    tasks.create_task(produce(store, lease, batches=40))
                    for store, lease in zip(workers, leases, strict=True)
                ]
                following = {
                    (lease.run_id, index, place): tasks.create_task(follow_from(store, lease.run_id, place))
                    for lease in leases
                    for index, store in enumerate(workers)
                    for place in range(0, 60, 12)
                }

            logs = {lease.run_id: task.result() for lease, task in zip(leases, producing, strict=True)}
            assert {key: task.result() for key, task in following.items()} == {
                (run_id, index, place): logs[run_id][place:] for run_id, index, place in following
            }

    async def test_followers_hear_of_the_seal_of_another_worker(self) -> None:
        async with self._open_two() as (here, there):
            lease = await begin(here)
            await append(here, lease, 1, b"a")
            async with following(here, "run") as followed:
                await there.seal(await there.info("run"), b"end", FAILED)

                assert await followed == [b"a", b"end"]

    async def test_a_block_of_one_worker_is_read_at_another(self) -> None:
        async with self._open_two() as (here, there):
            lease = await begin(here)
            await append(here, lease, 1, b"end", final=DONE)

            assert await there.compact("run", b"block")

            assert (await here.read("run", 0, limit=1)).block == b"block"

    async def test_a_run_that_one_worker_purged_is_gone_for_all(self) -> None:
        async with self._open_two() as (here, there):
            lease = await begin(here)
            await append(here, lease, 1, b"a")

            await there.purge("run")

            await refusal(here.info("run"), RunNotFoundError)
            assert isinstance(await append(here, lease, 2, b"b"), RunNotFoundError)
            assert await here.active(owner="ada") == []

    async def test_a_signal_reaches_the_listeners_of_its_topic_at_every_worker(self) -> None:
        async with self._open_two() as workers:
            inboxes = [Inbox[str]() for _ in workers]
            elsewhere = Inbox[str]()
            stops = [store.listen("topic", inbox) for store, inbox in zip(workers, inboxes, strict=True)]
            stops.append(workers[1].listen("other", elsewhere))

            for index, store in enumerate(workers):
                await signal(store, "topic", f"from {index}", inboxes)

            assert [set(inbox.items) for inbox in inboxes] == [{"from 0", "from 1"}] * 2
            assert elsewhere.items == []
            for stop in stops:
                stop()

    async def test_all_workers_have_one_secret(self) -> None:
        async with self._open_two() as (here, there):
            made = await asyncio.gather(*[store.secret() for store in (here, there) * 3])

            assert len(set(made)) == 1

    async def test_the_backend_outlives_the_store(self) -> None:
        async with self._open_two() as (here, there):
            lease = await begin(there)
            await append(there, lease, 1, b"a")
            secret = await there.secret()

            await there.aclose()

            assert await records_of(here, "run") == [b"a"]
            assert await append(here, lease, 2, b"b") == Ack(2)
            assert await here.secret() == secret
