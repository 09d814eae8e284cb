"""Reading runs: to the end, with all that holds for every log, or as far as a test needs."""

import asyncio

from tailrace.events import TERMINAL_TYPES, Entry, RunStarted, decode_record, event_type
from tailrace.runtime.run import Run
from tailrace.runtime.runs import Runs
from tailrace.stores.contract import OPEN
from tailrace.testing import FaultyStore, collect

BOUND_SECONDS = 10.0


async def finish(runs: Runs, run: Run) -> list[Entry]:
    """Read a run to its end and check its log, as the reader sees it and as the store, faults aside, has it."""
    entries = await collect(run, timeout_seconds=BOUND_SECONDS)
    types = [event_type(entry.event) for entry in entries]
    store = runs.store.inner if isinstance(runs.store, FaultyStore) else runs.store
    page = await store.read(run.id, 0, limit=len(entries) + 1)
    records, info = page.records, page.info
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert isinstance(entries[0].event, RunStarted)
    assert [kind for kind in types if kind in TERMINAL_TYPES] == types[-1:]
    assert [decode_record(seq, record) for seq, record in enumerate(records, 1)] == entries
    assert info.state != OPEN
    return entries


async def read_until(runs: Runs, run_id: str, count: int) -> list[Entry]:
    """Read a run from its beginning until `count` entries have been seen."""
    follower = runs.follower(run_id)
    entries: list[Entry] = []
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            while True:
                entries += await follower.read()
                if len(entries) >= count or follower.ended:
                    return entries
                await follower.wait()
    finally:
        follower.close()
