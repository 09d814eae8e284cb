"""The promises about what is read of a run, and how it is found."""

import asyncio

from tailrace.errors import FencedError, FingerprintError, RunNotFoundError
from tailrace.stores.contract import Ack, Lease
from tailrace.testing.store_suite.calls import (
    DONE,
    MANY,
    STRANGE_TEXTS,
    OpeningSuite,
    append,
    begin,
    cancel_after,
    records_of,
    refusal,
)

__all__ = ["ReadingSuite"]


class ReadingSuite(OpeningSuite):
    """What a reader gets."""

    # Reading -------------------------------------------------------------------------------------------------------

    async def test_reading_from_any_place_gives_the_rest_of_the_log(self) -> None:
        records = [b"%d" % number for number in range(1, 21)]
        async with self._open() as store:
            lease = await begin(store)
            for start in range(0, 20, 5):
                await append(store, lease, start + 1, *records[start : start + 5])

            for after in range(22):
                page = await store.read("run", after, limit=MANY)

                assert list(page.records) == records[after:]
                assert (page.info.last, page.block) == (20, None)

    async def test_a_read_gives_no_more_than_it_was_asked_for(self) -> None:
        records = [b"%d" % number for number in range(1, 21)]
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, *records[:7])
            await append(store, lease, 8, *records[7:], final=DONE)

            for limit in (1, 2, 7, 19, 20, 21):
                for after in range(20):
                    page = await store.read("run", after, limit=limit)

                    assert list(page.records) == records[after : after + limit]
                    assert (page.info.last, page.info.state) == (20, DONE)

    async def test_a_call_that_was_cancelled_spoils_no_later_answer(self) -> None:
        async with self._open() as store:
            for run_id in ("one", "two"):
                await append(store, await begin(store, run_id), 1, run_id.encode())

            for steps in range(8):
                for call in (
                    store.info("one"),
                    store.read("one", 0, limit=1),
                    store.active(),
                    store.signal("t", "one"),
                ):
                    await cancel_after(steps, call)

                    assert (await store.info("two")).run_id == "two"
                    assert await records_of(store, "two") == [b"two"]

    async def test_an_unknown_run_is_not_found(self) -> None:
        async with self._open() as store:
            await refusal(store.info("nowhere"), RunNotFoundError)
            await refusal(store.read("nowhere", 0, limit=1), RunNotFoundError)
            await refusal(store.cancel("nowhere", "user"), RunNotFoundError)

            answer = await append(store, Lease("nowhere", "token"), 1, b"a")

            assert isinstance(answer, RunNotFoundError)

    # The index -----------------------------------------------------------------------------------------------------

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

    async def test_ids_owners_and_threads_may_be_any_text(self) -> None:
        async with self._open() as store:
            leases = {
                text: await store.create(text, owner=text, thread=text, fingerprint=b"f") for text in STRANGE_TEXTS
            }

            for text, lease in leases.items():
                assert lease is not None
                assert await append(store, lease, 1, text.encode()) == Ack(1)

            for text in STRANGE_TEXTS:
                info = await store.info(text)
                assert (info.run_id, info.owner, info.thread) == (text, text, text)
                assert await records_of(store, text) == [text.encode()]
                assert await store.active(owner=text) == [text]
                assert await store.active(thread=text) == [text]
                assert await store.active(owner=text, thread=text) == [text]

    async def test_an_empty_owner_is_not_nobody(self) -> None:
        async with self._open() as store:
            await store.create("empty", owner="", thread="", fingerprint=b"")
            await store.create("nobody", owner=None, thread=None, fingerprint=b"")

            await refusal(store.create("empty", owner=None, thread="", fingerprint=b""), FingerprintError)
            await refusal(store.create("nobody", owner="", thread=None, fingerprint=b""), FingerprintError)
            empty, nobody = await store.info("empty"), await store.info("nobody")
            assert (empty.owner, empty.thread) == ("", "")
            assert (nobody.owner, nobody.thread) == (None, None)
            assert await store.active(owner="") == ["empty"]
            assert await store.active(thread="") == ["empty"]

    async def test_the_run_that_began_last_in_a_thread_is_found_open_or_final(self) -> None:
        async with self._open() as store:
            assert await store.latest("t", owner="ada") is None
            first, second = await begin(store, "run-1"), await begin(store, "run-2")
            for run_id, owner, thread in (("run-3", "eve", "t"), ("run-4", "ada", "u"), ("run-5", None, "t")):
                await store.create(run_id, owner=owner, thread=thread, fingerprint=b"")

            await append(store, first, 1, b"later than the second")
            assert await store.latest("t", owner="ada") == "run-2"
            await append(store, second, 1, b"end", final=DONE)
            await append(store, first, 2, b"end", final=DONE)

            assert await store.latest("t", owner="ada") == "run-2"
            assert await store.latest("t", owner="eve") == "run-3"
            assert await store.latest("t", owner=None) == "run-5"
            assert await store.latest("t", owner="nobody") is None
            await store.purge("run-2")
            assert await store.latest("t", owner="ada") in {None, "run-1"}

    async def test_a_final_run_is_not_active(self) -> None:
        async with self._open() as store:
            lease = await begin(store)

            await append(store, lease, 1, b"end", final=DONE)

            assert await store.active(owner="ada") == []

    async def test_a_purged_run_leaves_nothing_behind(self) -> None:
        async with self._open() as store:
            old = await begin(store)
            await append(store, old, 1, b"old")
            await store.cancel("run", "user")

            await store.purge("run")
            await store.purge("run")

            await refusal(store.info("run"), RunNotFoundError)
            assert await store.active(owner="ada") == []
            new = await store.create("run", owner="eve", thread=None, fingerprint=b"other")
            assert new is not None
            assert new.token != old.token
            assert isinstance(await append(store, old, 2, b"zombie"), FencedError)
            assert await append(store, new, 1, b"new") == Ack(1)
            assert await records_of(store, "run") == [b"new"]

    async def test_the_secret_is_made_once(self) -> None:
        async with self._open() as store:
            secrets = await asyncio.gather(*[store.secret() for _ in range(5)])

            assert len(set(secrets)) == 1
            assert len(secrets[0]) == 32
