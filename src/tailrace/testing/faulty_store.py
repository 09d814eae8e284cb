"""A log store that fails on request, around any store: what a network, a failover or another worker would do to it.

Faults are scripted by calls on the store and stay until they are used up or `heal` is called. Whatever it hides or
loses, it remembers, and refuses other bytes under a number that it has once acknowledged to the same lease.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Literal, TypeAlias, TypeVar

import msgspec

from tailrace.errors import FencedError, GapError, RunNotFoundError, StoreError, StoreUnavailableError
from tailrace.stores.contract import OPEN, Ack, Batch, Hint, Info, Lease, Page, RunStore, Stop, Write

__all__ = ["FaultyStore", "Operation"]

#: The calls that can be made to wait or to fail.
Operation: TypeAlias = Literal[
    "open",
    "secret",
    "create",
    "restore",
    "commit",
    "seal",
    "compact",
    "cancel",
    "info",
    "read",
    "signal",
    "active",
    "latest",
    "put_note",
    "take_note",
    "purge",
]

_T = TypeVar("_T")


class _Pause(msgspec.Struct, frozen=True):
    """What a call waits for, before the inner store acts or after it."""

    wait: float | asyncio.Event
    applied: bool


class _Outage(msgspec.Struct):
    """How many more calls fail, before the inner store acts or after it."""

    times: int
    applied: bool


class _Hidden(msgspec.Struct):
    """A run whose end is hidden: its log seems to end at `last`, and to be open."""

    last: int
    cancel: str | None = None


class _Watcher(Generic[_T]):
    """Somebody who is told things until they leave, however late these come."""

    def __init__(self, told: Callable[[_T], None]) -> None:
        self._told = told
        self.left = False

    def tell(self, item: _T) -> None:
        if not self.left:
            self._told(item)


class FaultyStore:
    """A `RunStore` that behaves like `inner` until a fault is scripted.

    Attributes:
        inner: The store underneath: use it directly to act as another process that has no faults.
    """

    def __init__(self, inner: RunStore) -> None:
        """Wrap a store; `aclose` closes it."""
        self.inner = inner
        self._pauses: dict[Operation, _Pause] = {}
        self._outages: dict[Operation, _Outage] = {}
        self._hidden: dict[str, _Hidden] = {}
        self._fenced: set[str] = set()
        self._acknowledged: dict[Lease, dict[int, bytes]] = {}
        self._copies = 1
        self._stripped = False
        self._held: list[Callable[[], None]] | None = None
        self._hints: dict[str, dict[_Watcher[Batch | None], Hint]] = {}
        self._paused: Counter[Operation] = Counter()
        self._arrived = asyncio.Event()

    # The faults ------------------------------------------------------------------------------------------------------

    def delay(self, wait: float | asyncio.Event, *, operation: Operation = "commit", applied: bool = False) -> None:
        """Make every later call wait: so many seconds, or until the event is set.

        Args:
            wait: Seconds, or a gate.
            operation: Which calls.
            applied: Whether they wait after the inner store has acted, its answer being under way.
        """
        self._pauses[operation] = _Pause(wait, applied)

    async def paused(self, operation: Operation = "commit") -> None:
        """Wait until a call of this kind waits because of `delay`."""
        while not self._paused[operation]:
            self._arrived.clear()
            await self._arrived.wait()

    def unavailable(self, times: int, *, applied: bool = False, operation: Operation = "commit") -> None:
        """Make the next calls raise `StoreUnavailableError`.

        Args:
            times: How many calls.
            applied: Whether the inner store has acted before the answer is lost.
            operation: Which calls.
        """
        self._outages[operation] = _Outage(times, applied)

    async def forget(self, run_id: str, count: int) -> None:
        """Lose the last `count` records of a run, and its final state, as a failover to a late replica does.

        They are hidden until the producer sends the same records again. Not for a compacted run.

        Raises:
            RunNotFoundError: No such run.
        """
        last = self._seen(await self.inner.info(run_id)).last
        if count > 0:
            self._hidden[run_id] = _Hidden(max(0, last - count))

    async def lose(self, run_id: str) -> None:
        """Lose a run as a whole, as a store that comes back empty does."""
        self._hidden.pop(run_id, None)
        await self.inner.purge(run_id)

    def fence(self, run_id: str) -> None:
        """Give the run to another producer: from now on the token of the first one is foreign."""
        self._fenced.add(run_id)

    def drop_hints(self) -> None:
        """Let no hint and no signal through."""
        self._copies = 0

    def double_hints(self) -> None:
        """Let every hint and every signal through twice."""
        self._copies = 2

    def strip_hints(self) -> None:
        """Take from every hint what it carries, so that it only says "look"."""
        self._stripped = True

    def hold_hints(self) -> None:
        """Keep hints and signals back until `heal`, which lets them through late, the last one first."""
        if self._held is None:
            self._held = []

    def heal(self) -> None:
        """No further call waits or fails, and hints come as they should. What was lost or fenced stays so."""
        self._pauses.clear()
        self._outages.clear()
        self._copies = 1
        self._stripped = False
        held, self._held = self._held or [], None
        for deliver in reversed(held):
            deliver()

    # The store -------------------------------------------------------------------------------------------------------

    @property
    def shared(self) -> bool:
        """As the inner store."""
        return self.inner.shared

    @property
    def commit_interval_seconds(self) -> float:
        """As the inner store."""
        return self.inner.commit_interval_seconds

    async def open(self) -> None:
        """See `RunStore.open`."""
        await self._call("open", self.inner.open)

    async def secret(self) -> bytes:
        """See `RunStore.secret`."""
        return await self._call("secret", self.inner.secret)

    async def create(self, run_id: str, *, owner: str | None, thread: str | None, fingerprint: bytes) -> Lease | None:
        """See `RunStore.create`."""

        async def create() -> Lease | None:
            lease = await self.inner.create(run_id, owner=owner, thread=thread, fingerprint=fingerprint)
            if lease is not None:
                # Whatever this id once stood for is over: another log begins.
                self._hidden.pop(run_id, None)
            return lease

        return await self._call("create", create)

    async def restore(self, lease: Lease, *, owner: str | None, thread: str | None, fingerprint: bytes) -> None:
        """See `RunStore.restore`."""

        async def restore() -> None:
            if lease.run_id in self._fenced:
                raise FencedError(lease.run_id)
            await self.inner.restore(lease, owner=owner, thread=thread, fingerprint=fingerprint)

        await self._call("restore", restore)

    async def commit(self, writes: Sequence[Write]) -> Sequence[Ack | StoreError]:
        """See `RunStore.commit`."""
        return await self._call("commit", lambda: self._commit_all(writes))

    async def seal(self, seen: Info, record: bytes, state: int) -> bool:
        """See `RunStore.seal`. The seal of a run whose end is hidden brings that end into sight again, under itself."""

        async def seal() -> bool:
            if seen.run_id not in self._hidden:
                return await self.inner.seal(seen, record, state)
            info = await self.inner.info(seen.run_id)
            if self._seen(info) != seen:
                return False
            del self._hidden[seen.run_id]
            self._look(seen.run_id)
            return await self.inner.seal(info, record, state)

        return await self._call("seal", seal)

    async def compact(self, run_id: str, block: bytes) -> bool:
        """See `RunStore.compact`."""

        async def compact() -> bool:
            return run_id not in self._hidden and await self.inner.compact(run_id, block)

        return await self._call("compact", compact)

    async def cancel(self, run_id: str, reason: str) -> bool:
        """See `RunStore.cancel`."""

        async def cancel() -> bool:
            accepted = await self.inner.cancel(run_id, reason)
            hidden = self._hidden.get(run_id)
            if hidden is not None:
                hidden.cancel = hidden.cancel or reason
            return accepted or hidden is not None

        return await self._call("cancel", cancel)

    async def info(self, run_id: str) -> Info:
        """See `RunStore.info`."""

        async def info() -> Info:
            return self._seen(await self.inner.info(run_id))

        return await self._call("info", info)

    async def read(self, run_id: str, after: int, *, limit: int) -> Page:
        """See `RunStore.read`."""

        async def read() -> Page:
            page = await self.inner.read(run_id, after, limit=limit)
            seen = self._seen(page.info)
            return Page(page.records[: max(0, seen.last - after)], seen, page.block)

        return await self._call("read", read)

    def subscribe(self, run_id: str, hint: Hint) -> Stop:
        """See `RunStore.subscribe`."""
        watcher = _Watcher(hint)

        def relay(batch: Batch | None) -> None:
            # What is hidden is not to be seen in a hint either.
            carried = None if self._stripped or run_id in self._hidden else batch
            self._relay(lambda: watcher.tell(carried))

        def stop() -> None:
            stop_inner()
            watcher.left = True
            relays = self._hints.get(run_id, {})
            relays.pop(watcher, None)
            if not relays:
                self._hints.pop(run_id, None)

        self._hints.setdefault(run_id, {})[watcher] = relay
        stop_inner = self.inner.subscribe(run_id, relay)
        return stop

    async def signal(self, topic: str, text: str) -> None:
        """See `RunStore.signal`."""
        await self._call("signal", lambda: self.inner.signal(topic, text))

    def listen(self, topic: str, heard: Callable[[str], None]) -> Stop:
        """See `RunStore.listen`."""
        watcher = _Watcher(heard)

        def stop() -> None:
            stop_inner()
            watcher.left = True

        stop_inner = self.inner.listen(topic, lambda text: self._relay(lambda: watcher.tell(text)))
        return stop

    async def active(self, *, owner: str | None = None, thread: str | None = None, limit: int = 100) -> Sequence[str]:
        """See `RunStore.active`. A run whose final state is hidden may be missing: the index is the inner store's."""
        return await self._call("active", lambda: self.inner.active(owner=owner, thread=thread, limit=limit))

    async def latest(self, thread: str, *, owner: str | None) -> str | None:
        """See `RunStore.latest`."""
        return await self._call("latest", lambda: self.inner.latest(thread, owner=owner))

    async def put_note(self, run_id: str, name: str, note: bytes, *, live_seconds: float, most: int) -> bool:
        """See `RunStore.put_note`."""
        return await self._call(
            "put_note", lambda: self.inner.put_note(run_id, name, note, live_seconds=live_seconds, most=most)
        )

    async def take_note(self, run_id: str, name: str) -> bytes | None:
        """See `RunStore.take_note`."""
        return await self._call("take_note", lambda: self.inner.take_note(run_id, name))

    async def purge(self, run_id: str) -> None:
        """See `RunStore.purge`."""

        async def purge() -> None:
            await self.inner.purge(run_id)
            self._hidden.pop(run_id, None)

        await self._call("purge", purge)

    async def aclose(self) -> None:
        """Close the inner store."""
        await self.inner.aclose()

    # How a call goes wrong -------------------------------------------------------------------------------------------

    async def _call(self, operation: Operation, act: Callable[[], Awaitable[_T]]) -> _T:
        outage = self._outages.get(operation)
        if outage is not None and outage.times:
            outage.times -= 1
        else:
            outage = None
        await self._pause(operation, applied=False)
        if outage is not None and not outage.applied:
            raise StoreUnavailableError("scripted, before the call")
        result = await act()
        await self._pause(operation, applied=True)
        if outage is not None:
            raise StoreUnavailableError("scripted, after the call")
        return result

    async def _pause(self, operation: Operation, *, applied: bool) -> None:
        pause = self._pauses.get(operation)
        if pause is None or pause.applied is not applied:
            return
        self._paused[operation] += 1
        self._arrived.set()
        try:
            await (pause.wait.wait() if isinstance(pause.wait, asyncio.Event) else asyncio.sleep(pause.wait))
        finally:
            self._paused[operation] -= 1

    def _relay(self, deliver: Callable[[], None]) -> None:
        for _ in range(self._copies):
            if self._held is None:
                deliver()
            else:
                self._held.append(deliver)

    def _look(self, run_id: str) -> None:
        """Hint at what the inner store does not know of."""
        for relay in tuple(self._hints.get(run_id, {}).values()):
            relay(None)

    # What a run seems to be ------------------------------------------------------------------------------------------

    def _seen(self, info: Info) -> Info:
        hidden = self._hidden.get(info.run_id)
        if hidden is None:
            return info
        return msgspec.structs.replace(info, state=OPEN, last=hidden.last, cancel=info.cancel or hidden.cancel)

    async def _commit_all(self, writes: Sequence[Write]) -> list[Ack | StoreError]:
        """The writes to whole runs go down in one call; the others are answered here, one by one."""
        answers: dict[int, Ack | StoreError] = {}
        plain: dict[int, Write] = {}
        for index, write in enumerate(writes):
            run_id = write.lease.run_id
            if run_id in self._fenced:
                answers[index] = FencedError(run_id)
            elif run_id in self._hidden:
                answers[index] = await self._commit_over(write, self._hidden[run_id])
            else:
                plain[index] = write
        if plain:
            answers.update(zip(plain, await self._commit_plain(list(plain.values())), strict=True))
        return [answers[index] for index in range(len(writes))]

    async def _commit_plain(self, writes: Sequence[Write]) -> Sequence[Ack | StoreError]:
        answers = await self.inner.commit(writes)
        for write, answer in zip(writes, answers, strict=True):
            if isinstance(answer, Ack):
                self._remember(write)
        return answers

    async def _commit_over(self, write: Write, hidden: _Hidden) -> Ack | StoreError:
        """A write to a run whose end is hidden: what is there already comes into sight, the rest is new."""
        run_id = write.lease.run_id
        try:
            info = await self.inner.info(run_id)
        except RunNotFoundError as error:
            return error
        if write.lease.token != info.token:
            return FencedError(run_id)
        cancel = info.cancel or hidden.cancel
        end = write.first + len(write.records) - 1
        if write.records and end <= hidden.last and write.final == OPEN:
            return Ack(hidden.last, cancel)
        if write.first != hidden.last + 1:
            return GapError(hidden.last)
        self._remember(write)
        if end > info.last:
            new = write.records[info.last - hidden.last :]
            (answer,) = await self.inner.commit([Write(write.lease, info.last + 1, new, write.final)])
            if not isinstance(answer, Ack):
                return answer
        hidden.last = end
        if end >= info.last:
            del self._hidden[run_id]
        self._look(run_id)
        return Ack(end, cancel)

    def _remember(self, write: Write) -> None:
        """Compare with what was acknowledged under the same numbers before.

        Raises:
            AssertionError: Other bytes.
        """
        known = self._acknowledged.setdefault(write.lease, {})
        for seq, record in enumerate(write.records, write.first):
            assert known.setdefault(seq, record) == record, f"other bytes under number {seq}"
