"""What the suites call and wait for, told in one word each."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from tailrace.errors import GapError, RunNotFoundError, StoreError
from tailrace.stores.contract import OPEN, Ack, Batch, Lease, RunStore, Write

__all__ = [
    "DONE",
    "FAILED",
    "MANY",
    "STRANGE_TEXTS",
    "Inbox",
    "OpeningSuite",
    "append",
    "begin",
    "cancel_after",
    "follow_from",
    "following",
    "gap_of",
    "opened",
    "produce",
    "records_of",
    "refusal",
    "signal",
]

#: Two different final states; what they mean is not the store's business.
DONE = 1
FAILED = 2
#: More records than a test writes.
MANY = 1_000
#: Any text that UTF-8 can carry may be an id, an owner, a thread, a topic.
STRANGE_TEXTS = (
    "run",
    "RUN",
    "run ",
    " run",
    "0",
    "-1",
    "null",
    "%",
    "*",
    "{a}b",
    "{}",
    "a:b:c",
    "a/../b?c#d&e=f",
    "'; DROP TABLE run; --",
    '"quoted"',
    "back\\slash",
    "line\nbreak\r\n",
    "tab\t",
    "nul\0byte",
    "nul\0",
    "\u00e9",
    "e\u0301",
    "\u96ea\u2603",
    "\U0001f600",
    "\u202eleft",
    "x" * 2_000,
)

#: How long something may take that comes by itself.
_PATIENCE_SECONDS = 10.0
#: A follower looks at the log after so much silence, and a signal is sent again: either may have been lost.
_SILENCE_SECONDS = 0.5
#: Small, so that most logs take several reads.
_PAGE = 7

_T = TypeVar("_T")
_E = TypeVar("_E", bound=Exception)


class OpeningSuite:
    """A suite that opens a store for each of its tests; a subclass says how it is made."""

    def make(self) -> RunStore:
        """A store with a new, empty backend."""
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncGenerator[RunStore]:
        async with opened(self.make()) as store:
            yield store


class Inbox(Generic[_T]):
    """What a subscription or a listener was told, and a way to wait for it."""

    def __init__(self) -> None:
        self.items: list[_T] = []
        self._told = asyncio.Event()

    def __call__(self, item: _T) -> None:
        self.items.append(item)
        self._told.set()

    async def filled(self) -> None:
        """Wait until there is something.

        Raises:
            TimeoutError: Nothing came.
        """
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not self.items:
                await self.told(_PATIENCE_SECONDS)

    async def told(self, seconds: float) -> None:
        """Wait until more has come since the last call, or for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._told.wait()
        self._told.clear()


@contextlib.asynccontextmanager
async def opened(store: RunStore) -> AsyncGenerator[RunStore]:
    """The store between its opening and its closing."""
    try:
        await store.open()
        yield store
    finally:
        await store.aclose()


@contextlib.asynccontextmanager
async def following(store: RunStore, run_id: str, *, after: int = 0) -> AsyncGenerator[asyncio.Task[list[bytes]]]:
    """A follower that has looked at the log once; awaited, it gives what follows `after`, to the end of the run."""
    looked = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(follow(store, run_id, after, looked))
        await looked.wait()
        yield task


async def follow(store: RunStore, run_id: str, after: int, looked: asyncio.Event | None = None) -> list[bytes]:
    """All that follows `after`, from hints where they carry what comes next, otherwise from the log."""
    hints = Inbox[Batch | None]()
    stop = store.subscribe(run_id, hints)
    records: list[bytes] = []
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                state = await _read_on(store, run_id, after, records)
                if looked is not None:
                    looked.set()
                while state == OPEN:
                    if not hints.items:
                        await hints.told(_SILENCE_SECONDS)
                    batch = hints.items.pop(0) if hints.items else None
                    if batch is None or batch.first > after + len(records) + 1:
                        break
                    known = after + len(records) + 1 - batch.first
                    records += batch.records[known:]
                    state = batch.state
                if state != OPEN:
                    return records
    finally:
        stop()


async def _read_on(store: RunStore, run_id: str, after: int, records: list[bytes]) -> int:
    """Add what the log has; the state of the run, which counts as open while its log is lost."""
    while True:
        try:
            page = await store.read(run_id, after + len(records), limit=_PAGE)
        except RunNotFoundError:
            return OPEN
        records += page.records
        if len(page.records) < _PAGE:
            return page.info.state if after + len(records) >= page.info.last else OPEN


async def follow_from(store: RunStore, run_id: str, place: int) -> list[bytes]:
    """Join when the log has reached `place`, with a cursor there."""
    hints = Inbox[Batch | None]()
    stop = store.subscribe(run_id, hints)
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while (await store.info(run_id)).last < place:
            await hints.told(_SILENCE_SECONDS)
    stop()
    return await follow(store, run_id, place)


async def produce(store: RunStore, lease: Lease, *, batches: int) -> list[bytes]:
    """Write a whole run in batches of one to three records; its log."""
    log: list[bytes] = []
    for number in range(batches):
        new = [b"%s %d.%d" % (lease.run_id.encode(), number, index) for index in range(1 + number % 3)]
        final = DONE if number == batches - 1 else OPEN
        assert await append(store, lease, len(log) + 1, *new, final=final) == Ack(len(log) + len(new))
        log += new
        await asyncio.sleep(0)
    return log


async def signal(store: RunStore, topic: str, text: str, inboxes: Sequence[Inbox[str]]) -> None:
    """Signal until it was heard, because it may get lost."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while any(text not in inbox.items for inbox in inboxes):
            await store.signal(topic, text)
            await _heard(text, inboxes)


async def _heard(text: str, inboxes: Sequence[Inbox[str]]) -> None:
    """Wait until all have heard, or for a while."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SILENCE_SECONDS):
            for inbox in inboxes:
                while text not in inbox.items:
                    await inbox.told(_SILENCE_SECONDS)


async def cancel_after(steps: int, call: Coroutine[Any, Any, object]) -> None:
    """Cancel a call when the event loop has gone round so many times, unless it is done by then."""
    task = asyncio.create_task(call)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def begin(store: RunStore, run_id: str = "run") -> Lease:
    """The lease of a new run of ada's, in the thread t."""
    lease = await store.create(run_id, owner="ada", thread="t", fingerprint=b"f")
    assert lease is not None
    assert lease.run_id == run_id
    return lease


async def append(store: RunStore, lease: Lease, first: int, *records: bytes, final: int = OPEN) -> Ack | StoreError:
    """The answer to one write; without records it is a heartbeat."""
    (answer,) = await store.commit([Write(lease, first, records, final)])
    return answer


async def records_of(store: RunStore, run_id: str) -> list[bytes]:
    """The whole log."""
    return list((await store.read(run_id, 0, limit=MANY)).records)


def gap_of(answer: Ack | StoreError) -> int:
    """Where the log ends, as a gap says."""
    assert isinstance(answer, GapError), answer
    return answer.last


async def refusal(call: Awaitable[object], kind: type[_E]) -> _E:
    """What the call raised.

    Raises:
        AssertionError: Nothing.
    """
    try:
        outcome = await call
    except kind as error:
        return error
    raise AssertionError(f"{outcome!r} instead of {kind.__name__}")
