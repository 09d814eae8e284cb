"""Streams that clients create and append to, kept in a log store: a stream is a log whose producers are its clients.

No process owns a stream. Whoever appends reads on to the end, writes behind it, and reads back what is there: of two
that write at the same time one finds the other's record in its place, and begins again. So any worker serves any
stream, and the lease that a store gives out at creation is everybody's.

The store must be one of its own. In a store of runs an open log that is quiet for a while counts as a lost run.
"""

import asyncio
import contextlib
import random
import secrets
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from tailrace.errors import FencedError, GapError, RunNotFoundError, StoreError, StoreUnavailableError
from tailrace.runtime.clock import Clock
from tailrace.runtime.keys import derive_run_id
from tailrace.runtime.ledger import (
    Append,
    Ledger,
    Opening,
    Step,
    StreamLimits,
    Verdict,
    encode_fact,
    encode_message,
    message_of,
)
from tailrace.stores.contract import OPEN, Batch, Info, Lease, Page, RunStore, Stop, Write

__all__ = ["Creation", "StreamReader", "StreamView", "Streams", "new_nonce"]

Creation: TypeAlias = Literal["created", "found", "too_many"]

#: Not fewer than come with one append: some stores read an append whole, however few of it are wanted.
_READ_RECORDS = 2_048
#: Between losing a place and taking the next one others may be faster, but somebody always is the first.
_ATTEMPTS = 64
#: Streams that this process remembers the state of.
_VIEWS = 1_024
#: Of each stream that is followed here, what was appended last, for all its followers.
_RECENT_BYTES = 256 * 1024
#: A hint may get lost: after so long the log is looked at anyway.
_SILENCE_SECONDS = 5.0
#: Streams that are looked at when one is created, so that what has expired makes room.
_LOOKS = 8
#: The final state of a log that is about to be removed.
_REMOVED = 1
_FINGERPRINT = b"stream"
_CROWDED = "others write to this stream all the time"


class _Read(NamedTuple):
    """A log that was read to its end: how it was then, and the first record that was new."""

    info: Info
    first: bytes | None


class StreamView:
    """A stream as this process knows it. Every method finds out first what others have done.

    Attributes:
        id: The stream's.
        ledger: What its records amount to, as far as they were read.
    """

    def __init__(self, stream_id: str, store: RunStore, clock: Clock, limits: StreamLimits) -> None:
        """Nothing is known yet."""
        self.ledger = Ledger()
        self.id = stream_id
        self._store = store
        self._clock = clock
        self._limits = limits
        self._token = ""
        self._lock = asyncio.Lock()
        self._stale = True
        self._looked_at = 0.0
        self._recent: deque[tuple[int, bytes]] = deque()
        self._recent_from = 0
        self._recent_bytes = 0
        self._readers: set[StreamReader] = set()
        self._unsubscribe: Stop | None = None

    @property
    def is_followed(self) -> bool:
        """Whether somebody here waits for more."""
        return bool(self._readers)

    # Reading ---------------------------------------------------------------------------------------------------------

    async def look(self, *, is_read: bool = False) -> None:
        """Bring the ledger up to date; a read prolongs the stream's life.

        Raises:
            RunNotFoundError: There is no such stream, or no longer.
            StoreUnavailableError: The store gave no answer.
        """
        async with self._lock:
            await self._living()
            if is_read and self.ledger.wants_touch(self._clock.time_ms(), self._limits):
                # Whoever is faster prolongs it as well.
                await self._store.commit([self._write([encode_fact(Step(new_nonce(), self._clock.time_ms()))])])

    async def page(self, after: int, max_bytes: int) -> tuple[list[bytes], int]:
        """The messages after a number, as many as reach `max_bytes`; and the number of the last one.

        Raises:
            RunNotFoundError: The stream is gone.
            StoreUnavailableError: The store gave no answer.
        """
        async with self._lock:
            if self._stale:
                await self._living()
            if after >= self.ledger.last:
                return [], after
            if self._readers and after >= self._recent_from:
                return _up_to([found for found in self._recent if found[0] > after], max_bytes, after)
        return await self._read_page(after, max_bytes)

    async def _read_page(self, after: int, max_bytes: int) -> tuple[list[bytes], int]:
        found: list[tuple[int, bytes]] = []
        size, reached = 0, after
        while size < max_bytes and reached < self.ledger.last:
            page = await self._store.read(self.id, reached, limit=_READ_RECORDS)
            if page.info.token != self._token or not page.records:
                raise RunNotFoundError(self.id)
            for record in page.records:
                reached += 1
                message = message_of(record)
                if message is not None:
                    found.append((reached, message))
                    size += len(message)
        return _up_to(found, max_bytes, after)

    def follow(self, reader: "StreamReader") -> None:
        """Let a reader know when there may be more."""
        if self._unsubscribe is None:
            self._unsubscribe = self._store.subscribe(self.id, self._hinted)
            self._recent_from = self.ledger.last
            self._stale = True
        self._readers.add(reader)

    def unfollow(self, reader: "StreamReader") -> None:
        """Forget a reader."""
        self._readers.discard(reader)
        if not self._readers and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
            self._recent.clear()
            self._recent_bytes = 0

    def suspect(self) -> None:
        """Look at the log with the next read, if that was not done for long: a hint may have got lost."""
        if asyncio.get_running_loop().time() - self._looked_at >= _SILENCE_SECONDS:
            self._stale = True

    def _hinted(self, _: Batch | None) -> None:
        self._stale = True
        for reader in tuple(self._readers):
            reader.wake()

    # Writing ---------------------------------------------------------------------------------------------------------

    async def open(self, opening: Opening, messages: Sequence[bytes]) -> bool:
        """Write the first record, with the first messages; False if there is one.

        Raises:
            RunNotFoundError: The log is gone.
            StoreUnavailableError: The store gave no answer.
        """
        records = [encode_fact(opening), *map(encode_message, messages)]
        async with self._lock:
            for _ in range(_ATTEMPTS):
                await self._read_on()
                if self.ledger.opening is not None:
                    return False
                if await self._wrote(records):
                    return True
        raise StoreUnavailableError(_CROWDED)

    async def append(self, append: Append) -> tuple[Verdict, int]:
        """Append, if it may be.

        Returns:
            What became of it, and the number of the last message then; others may have appended since.

        Raises:
            RunNotFoundError: There is no such stream, or no longer.
            StoreUnavailableError: The store gave no answer; whether it was appended is unknown.
        """
        async with self._lock:
            for _ in range(_ATTEMPTS):
                await self._living()
                verdict = self.ledger.judge(append, self._limits)
                place, last = self.ledger.length, self.ledger.last
                if verdict.outcome != "appended":
                    return verdict, last
                step = Step(new_nonce(), self._clock.time_ms(), append.closes, append.mark, append.seq)
                if await self._wrote([encode_fact(step), *map(encode_message, verdict.messages)]):
                    return verdict, place + 1 + len(verdict.messages) if verdict.messages else last
        raise StoreUnavailableError(_CROWDED)

    async def remove(self, *, expired: bool = False) -> bool:
        """End the stream; of several that try, one does it. With `expired`, only if it has outlived its terms.

        Raises:
            RunNotFoundError: There is none.
            StoreUnavailableError: The store gave no answer.
        """
        async with self._lock:
            for _ in range(_ATTEMPTS):
                info = (await self._read_on() if expired else await self._living()).info
                if expired and not self.ledger.is_expired(self._clock.time_ms(), self._limits):
                    return False
                # Nothing can be written after it, so what is purged is what was looked at.
                farewell = encode_fact(Step(new_nonce(), self._clock.time_ms()))
                if await self._store.seal(info, farewell, _REMOVED):
                    await self._store.purge(self.id)
                    self._forget("")
                    return True
        raise StoreUnavailableError(_CROWDED)

    async def _wrote(self, records: Sequence[bytes]) -> bool:
        """Write behind what was read, and read on; False if somebody else has written there.

        Raises:
            RunNotFoundError: The log is gone.
            StoreUnavailableError: The store gave no answer.
        """
        (answer,) = await self._store.commit([self._write(records)])
        if isinstance(answer, StoreError) and not isinstance(answer, GapError | FencedError):
            raise answer
        # A store takes a write of numbers that it has for one that comes again: what is there has to be seen.
        return (await self._read_on()).first == records[0]

    def _write(self, records: Sequence[bytes]) -> Write:
        self._stale = True
        return Write(Lease(self.id, self._token), self.ledger.length + 1, records)

    # What is there ---------------------------------------------------------------------------------------------------

    async def _living(self) -> _Read:
        """The log, read to its end, of a stream that has begun and not expired.

        Raises:
            RunNotFoundError: There is none.
        """
        found = await self._read_on()
        ledger = self.ledger
        if ledger.opening is None or ledger.is_expired(self._clock.time_ms(), self._limits):
            raise RunNotFoundError(self.id)
        return found

    async def _read_on(self) -> _Read:
        """Read to the end of the log.

        Raises:
            RunNotFoundError: There is none, or it is being removed.
        """
        first: bytes | None = None
        while True:
            page = await self._read_more()
            info = page.info
            if info.state != OPEN:
                raise RunNotFoundError(self.id)
            if info.token != self._token or info.last < self.ledger.length:
                # Another stream of the same name, or a store that has lost the end of this one.
                had_read = self.ledger.length > 0
                self._forget(info.token)
                if had_read:
                    continue
            for record in page.records:
                first = first or record
                self._take(record)
            if not page.records or self.ledger.length >= info.last:
                return _Read(info, first)

    async def _read_more(self) -> Page:
        # What is told from here on is news.
        self._stale = False
        self._looked_at = asyncio.get_running_loop().time()
        try:
            return await self._store.read(self.id, self.ledger.length, limit=_READ_RECORDS)
        except BaseException:
            self._stale = True
            raise

    def _take(self, record: bytes) -> None:
        message = self.ledger.take(record)
        if message is None or not self._readers:
            return
        self._recent.append((self.ledger.length, message))
        self._recent_bytes += len(message)
        while self._recent_bytes > _RECENT_BYTES:
            self._recent_from, dropped = self._recent.popleft()
            self._recent_bytes -= len(dropped)

    def _forget(self, token: str) -> None:
        self.ledger = Ledger()
        self._token = token
        self._recent.clear()
        self._recent_from = self._recent_bytes = 0


class StreamReader:
    """One reader of one stream, closed by whoever opened it.

    Attributes:
        cursor: The number of the last message it has.
    """

    def __init__(self, view: StreamView) -> None:
        """Begin at the beginning of a stream that was looked at."""
        self.cursor = 0
        self._view = view
        self._opening = view.ledger.opening
        self._news = asyncio.Event()
        self._following = False

    async def read(self, max_bytes: int) -> list[bytes]:
        """What follows, at least one message if there is one.

        Raises:
            RunNotFoundError: The stream is gone.
            StoreUnavailableError: The store gave no answer.
        """
        messages, cursor = await self._view.page(self.cursor, max_bytes)
        if self._view.ledger.opening != self._opening:
            # Another stream has taken the name, with numbers of its own.
            raise RunNotFoundError(self._view.id)
        self.cursor = cursor
        return messages

    async def wait(self) -> None:
        """Wait until there may be more, or for `wake`."""
        if not self._following:
            # What came before this was not told.
            self._following = True
            self._view.follow(self)
            return
        try:
            async with asyncio.timeout(_SILENCE_SECONDS):
                await self._news.wait()
        except TimeoutError:
            self._view.suspect()
        self._news.clear()

    def wake(self) -> None:
        """Let `wait` return."""
        self._news.set()

    def close(self) -> None:
        """Leave."""
        self._view.unfollow(self)


class Streams:
    """The streams of one store."""

    def __init__(self, store: RunStore, *, clock: Clock, limits: StreamLimits) -> None:
        """Take the store, which nothing else uses."""
        self.store = store
        self.clock = clock
        self.limits = limits
        self._views: OrderedDict[str, StreamView] = OrderedDict()
        self._secret: bytes | None = None

    async def id_of(self, name: str, *, owner: str | None, kind: str) -> str:
        """The id of the stream that an owner's name stands for, whether or not it exists.

        Raises:
            KeyInvalidError: The name is empty, longer than 256 characters, or, without an owner, shorter than 20.
            StoreUnavailableError: The store, which keeps the secret, gave no answer.
        """
        if self._secret is None:
            self._secret = await self.store.secret()
        return derive_run_id(self._secret, owner=owner, kind=kind, key=name)

    def view(self, stream_id: str) -> StreamView:
        """A stream, whether or not it exists."""
        view = self._views.get(stream_id)
        if view is None:
            view = self._views[stream_id] = StreamView(stream_id, self.store, self.clock, self.limits)
            self._shrink()
        self._views.move_to_end(stream_id)
        return view

    def _shrink(self) -> None:
        """Forget what was not asked for lately; whoever still has it goes on with it."""
        excess = len(self._views) - _VIEWS
        idle = [stream_id for stream_id, view in self._views.items() if not view.is_followed] if excess > 0 else []
        for stream_id in idle[:excess]:
            del self._views[stream_id]

    async def create(
        self, stream_id: str, opening: Opening, messages: Sequence[bytes], *, owner: str
    ) -> tuple[Creation, StreamView]:
        """Create a stream, find it, or find that its owner has as many as may be.

        Raises:
            StoreUnavailableError: The store gave no answer.
        """
        view = self.view(stream_id)
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(RunNotFoundError):
                await view.look()
                return "found", view
            if not await self._has_room(owner):
                return "too_many", view
            with contextlib.suppress(RunNotFoundError):
                await view.remove(expired=True)
            await self.store.create(stream_id, owner=owner, thread=None, fingerprint=_FINGERPRINT)
            with contextlib.suppress(RunNotFoundError):
                if await view.open(opening, messages):
                    return "created", view
        raise StoreUnavailableError(_CROWDED)

    async def _has_room(self, owner: str) -> bool:
        """Whether an owner may have another stream; removes what has expired among a few of them."""
        found = await self.store.active(owner=owner, limit=self.limits.max_streams)
        gone = 0
        for stream_id in random.sample(found, min(_LOOKS, len(found))):
            with contextlib.suppress(RunNotFoundError):
                gone += await self.view(stream_id).remove(expired=True)
        return len(found) - gone < self.limits.max_streams


def new_nonce() -> str:
    """What makes a record different from every other one."""
    return secrets.token_hex(8)


def _up_to(found: Sequence[tuple[int, bytes]], max_bytes: int, after: int) -> tuple[list[bytes], int]:
    """Messages until they reach `max_bytes`, and the number of the last of them."""
    messages: list[bytes] = []
    size = 0
    for number, message in found:
        if size >= max_bytes:
            break
        messages.append(message)
        size += len(message)
        after = number
    return messages, after
