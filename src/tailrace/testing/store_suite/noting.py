"""Notes: kept with a run for a while, taken once."""

import asyncio

from tailrace.errors import RunNotFoundError
from tailrace.testing.store_suite.calls import DONE, STRANGE_TEXTS, OpeningSuite, append, begin, refusal

__all__ = ["NotingSuite"]


class NotingSuite(OpeningSuite):
    """What is left with a run for whoever asks for it by name."""

    async def test_a_note_is_taken_once(self) -> None:
        async with self._open() as store:
            await begin(store)
            text = bytes(range(256))
            kept = await store.put_note("run", "note", text, live_seconds=60, most=1)

            taken = [await store.take_note("run", "note") for _ in range(3)]

            assert kept
            assert taken == [text, None, None]

    async def test_of_many_who_ask_for_a_note_one_gets_it(self) -> None:
        async with self._open() as store:
            await begin(store)
            await store.put_note("run", "note", b"text", live_seconds=60, most=1)

            taken = await asyncio.gather(*[store.take_note("run", "note") for _ in range(20)])

            assert [note for note in taken if note is not None] == [b"text"]

    async def test_notes_are_told_apart_by_run_and_name(self) -> None:
        async with self._open() as store:
            for run_id in ("run", "other"):
                await begin(store, run_id)
                for name in STRANGE_TEXTS:
                    note = f"{run_id} {name}".encode()
                    assert await store.put_note(run_id, name, note, live_seconds=60, most=len(STRANGE_TEXTS))

            for run_id in ("run", "other"):
                for name in STRANGE_TEXTS:
                    assert await store.take_note(run_id, name) == f"{run_id} {name}".encode()

    async def test_an_empty_note_is_a_note(self) -> None:
        async with self._open() as store:
            await begin(store)
            await store.put_note("run", "note", b"", live_seconds=60, most=1)

            assert await store.take_note("run", "note") == b""

    async def test_a_run_has_so_many_notes_and_no_more(self) -> None:
        async with self._open() as store:
            await begin(store)

            kept = [await store.put_note("run", f"{number}", b"", live_seconds=60, most=3) for number in range(5)]
            await store.take_note("run", "1")
            kept_later = [await store.put_note("run", f"{number}", b"", live_seconds=60, most=3) for number in (5, 6)]

            assert kept == [True, True, True, False, False]
            assert kept_later == [True, False]

    async def test_a_final_run_has_notes_too(self) -> None:
        async with self._open() as store:
            lease = await begin(store)
            await append(store, lease, 1, b"end", final=DONE)
            await store.put_note("run", "note", b"text", live_seconds=60, most=1)
            await store.compact("run", b"block")

            assert await store.take_note("run", "note") == b"text"

    async def test_an_unknown_run_has_no_notes(self) -> None:
        async with self._open() as store:
            await refusal(store.put_note("nowhere", "note", b"", live_seconds=60, most=1), RunNotFoundError)

            assert await store.take_note("nowhere", "note") is None

    async def test_notes_go_with_their_run(self) -> None:
        async with self._open() as store:
            await begin(store)
            await store.put_note("run", "note", b"text", live_seconds=60, most=1)

            await store.purge("run")
            gone = await store.take_note("run", "note")
            await begin(store)

            assert gone is None
            assert await store.take_note("run", "note") is None
            assert await store.put_note("run", "note", b"new", live_seconds=60, most=1)
