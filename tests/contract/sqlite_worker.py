"""Another worker on an SQLite store, in a process of its own: does one task, talks in lines, waits for lines.

Run as `python sqlite_worker.py TASK PATH`.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable

from tailrace.stores.contract import Ack, Lease, RunStore, Write
from tailrace.stores.sqlite import SqliteStore

RUN = "run"
BATCH = 3
BATCHES = 50
DONE = 1
CREATED_RUNS = 50


def record(seq: int) -> bytes:
    """What every worker writes under a number."""
    return b"record %d" % seq


def say(word: object) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def word() -> str:
    """The next line from whoever started this process."""
    line: str = await asyncio.to_thread(sys.stdin.readline)
    return line.strip()


@contextlib.asynccontextmanager
async def opened(path: str) -> AsyncGenerator[RunStore]:
    store = SqliteStore(path)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


async def begin(store: RunStore) -> Lease:
    lease = await store.create(RUN, owner=None, thread=None, fingerprint=b"")
    assert lease is not None
    say("begun")
    return lease


async def append(store: RunStore, lease: Lease, first: int, count: int, *, final: int = 0) -> Ack:
    write = Write(lease, first, [record(seq) for seq in range(first, first + count)], final)
    (answer,) = await store.commit([write])
    assert isinstance(answer, Ack), answer
    return answer


async def write_for_ever(path: str) -> None:
    """Say the number of the last record after every acknowledgement."""
    async with opened(path) as store:
        lease = await begin(store)
        last = 0
        while True:
            last = (await append(store, lease, last + 1, BATCH)).last
            say(last)


async def write_a_run(path: str) -> None:
    """Once told to."""
    async with opened(path) as store:
        lease = await begin(store)
        await word()
        for number in range(BATCHES):
            await append(store, lease, number * BATCH + 1, BATCH, final=DONE if number == BATCHES - 1 else 0)


async def write_until_cancelled(path: str) -> None:
    """Heartbeats, until one is answered with the reason of a cancel, which is said."""
    async with opened(path) as store:
        lease = await begin(store)
        looked = asyncio.Event()
        store.subscribe(RUN, lambda _: looked.set())
        # As every follower does: what happens after this is hinted at.
        await store.info(RUN)
        say("following")
        await looked.wait()
        say((await append(store, lease, 1, 0)).cancel)


async def listen(path: str) -> None:
    """Say the first signal."""
    async with opened(path) as store:
        heard = asyncio.Queue[str]()
        store.listen("topic", heard.put_nowait)
        say("listening")
        say(await heard.get())


async def create(path: str) -> None:
    """Once told to, open the store, and say of which of many runs this worker got the lease."""
    say("ready")
    await word()
    async with opened(path) as store:
        names = [f"run-{number}" for number in range(CREATED_RUNS)]
        leases = await asyncio.gather(*[store.create(name, owner=None, thread=None, fingerprint=b"") for name in names])
    say(" ".join(lease.run_id for lease in leases if lease is not None))


TASKS: dict[str, Callable[[str], Awaitable[None]]] = {
    task.__name__: task for task in (write_for_ever, write_a_run, write_until_cancelled, listen, create)
}


async def main(task: str, path: str) -> None:
    await TASKS[task](path)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
