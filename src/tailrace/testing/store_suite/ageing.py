"""The promises about time."""

from tailrace.errors import FencedError, RunNotFoundError
from tailrace.stores.contract import Ack
from tailrace.testing.store_suite.calls import DONE, FAILED, OpeningSuite, append, begin, records_of, refusal

__all__ = ["AgeingStoreSuite"]


class AgeingStoreSuite(OpeningSuite):
    """The promises about time.

    Attributes:
        live_seconds: How long a quiet open run is kept, at least.
        retention_seconds: How long a final run is kept, exactly.
    """

    live_seconds: float
    retention_seconds: float

    async def lapse(self, seconds: float) -> None:
        """Let so many seconds pass for the stores that `make` makes."""
        raise NotImplementedError

    async def test_a_quiet_run_lives_by_its_heartbeats(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"a")

            for _ in range(4):
                await self.lapse(self.live_seconds * 0.6)
                assert await append(store, lease, 2) == Ack(1)

            assert await records_of(store, "run") == [b"a"]
            assert await store.active(owner="ada") == ["run"]
            assert await append(store, lease, 2, b"end", final=DONE) == Ack(2)

    async def test_a_final_run_is_kept_for_the_retention_time_and_then_gone(self) -> None:
        async with self._open() as store:
            for run_id in ("written", "sealed", "compacted"):
                lease = await begin(store, run_id)
                if run_id == "sealed":
                    await store.seal(await store.info(run_id), b"end", FAILED)
                else:
                    await append(store, lease, 1, b"end", final=DONE)
            await store.compact("compacted", b"block")

            await self.lapse(self.retention_seconds * 0.5)
            kept = [(await store.read(run_id, 0, limit=1)).info.last for run_id in ("written", "sealed", "compacted")]
            await self.lapse(self.retention_seconds * 0.6)

            assert kept == [1, 1, 1]
            for run_id in ("written", "sealed", "compacted"):
                await refusal(store.info(run_id), RunNotFoundError)
                await refusal(store.read(run_id, 0, limit=1), RunNotFoundError)
                await refusal(store.cancel(run_id, "user"), RunNotFoundError)
                assert not await store.compact(run_id, b"late")

    async def test_a_note_has_its_time_and_then_makes_room(self) -> None:
        async with self._open() as store:
            await begin(store)
            assert await store.put_note("run", "short", b"s", live_seconds=self.live_seconds * 0.2, most=2)
            assert await store.put_note("run", "long", b"l", live_seconds=self.live_seconds * 0.8, most=2)
            assert not await store.put_note("run", "more", b"m", live_seconds=self.live_seconds * 0.8, most=2)

            await self.lapse(self.live_seconds * 0.3)

            assert await store.put_note("run", "more", b"m", live_seconds=self.live_seconds * 0.4, most=2)
            names = ("short", "long", "more")
            assert [await store.take_note("run", name) for name in names] == [None, b"l", b"m"]

    async def test_a_note_that_was_not_taken_in_time_is_gone(self) -> None:
        async with self._open() as store:
            await begin(store)
            await store.put_note("run", "note", b"text", live_seconds=self.live_seconds * 0.2, most=2)
            await store.put_note("run", "longer", b"text", live_seconds=self.live_seconds * 0.8, most=2)

            await self.lapse(self.live_seconds * 0.3)

            assert await store.take_note("run", "note") is None

    async def test_an_expired_runs_notes_are_not_those_of_the_next(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"end", final=DONE)
            await store.put_note("run", "note", b"text", live_seconds=self.retention_seconds * 10, most=1)
            await self.lapse(self.retention_seconds * 1.1)
            early = await store.take_note("run", "other")

            await begin(store)

            assert early is None
            assert await store.take_note("run", "note") is None

    async def test_an_expired_runs_id_is_free_again(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"old", final=DONE)
            await store.compact("run", b"block")
            await self.lapse(self.retention_seconds * 1.1)

            new = await store.create("run", owner="eve", thread=None, fingerprint=b"other")

            assert new is not None
            page = await store.read("run", 0, limit=1)
            assert (list(page.records), page.block, page.info.owner) == ([], None, "eve")
            assert isinstance(await append(store, lease, 1, b"old", final=DONE), FencedError)
            assert await append(store, new, 1, b"new") == Ack(1)
