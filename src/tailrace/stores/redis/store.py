"""The Redis store itself: the contract's calls as scripts and commands, and their replies as its answers.

All keys of a run are on one node; the index is elsewhere, is written after the run, and is checked when it is read.
Every key has a time to live, except the secret.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Final, cast

from tailrace.errors import FencedError, FingerprintError, GapError, RunNotFoundError, StoreError, StoreSetupError
from tailrace.stores.contract import OPEN, Ack, Hint, Info, Lease, Page, Stop, Write
from tailrace.stores.redis.address import Address
from tailrace.stores.redis.channels import Channels
from tailrace.stores.redis.command import Command, Reply
from tailrace.stores.redis.index import Index, Place
from tailrace.stores.redis.inspection import check_server, inspect_server
from tailrace.stores.redis.keys import Keys, packed, unpacked
from tailrace.stores.redis.payload import decode_payload, encode_payload
from tailrace.stores.redis.refusals import error_of, is_passing
from tailrace.stores.redis.rehearsal import new_probe_id, rehearse
from tailrace.stores.redis.scripts import FENCED, NO_RUN, Scripts
from tailrace.stores.redis.wire import Wire

__all__ = ["RedisStore"]

_COMMIT_INTERVAL_SECONDS: Final = 0.005
_SECRET_BYTES: Final = 32
#: Writes and bytes that go in one command, during which the server does nothing else.
_MOST_WRITES: Final = 64
_MOST_BYTES: Final = 1024**2
#: Entries that a read asks for at first. An entry has one record or many; then it is known how many.
_FIRST_ENTRIES: Final = 256
_FEWEST_ENTRIES: Final = 16
_REFUSALS: Final = {NO_RUN: RunNotFoundError, FENCED: FencedError}
_INFO_FIELDS: Final = (b"token", b"last", b"state", b"cancel", b"beat", b"owner", b"thread")


class RedisStore:
    """Keeps logs in Redis >= 6.2, or in a Redis cluster >= 7.

    One object serves one process, with one connection for commands and one for hints to each node that it needs. What
    is asked at the same time travels together.
    """

    def __init__(
        self,
        url: str,
        *,
        retention_seconds: float = 900,
        live_seconds: float = 3600,
        timeout_seconds: float = 2,
        prefix: str = "tr",
    ) -> None:
        """Prepare; nothing is connected yet.

        Args:
            url: `redis://user:password@host:port/database`, or `rediss://` for TLS. A cluster is recognised.
            retention_seconds: How long a final run can be read.
            live_seconds: How long an open run lives, at least, after the last write to it.
            timeout_seconds: Bound on every wait for an answer.
            prefix: Of all keys and channels; stores with different prefixes share a server without meeting.

        Raises:
            StoreSetupError: The URL or the prefix cannot be used.
        """
        if not prefix or not {"{", "}"}.isdisjoint(prefix):
            raise StoreSetupError("the prefix of the Redis keys is empty or has a brace in it")
        self._timeout_seconds = timeout_seconds
        self._retention_ms = b"%d" % round(retention_seconds * 1000)
        self._live_ms = b"%d" % round(live_seconds * 1000)
        self._keys = Keys(prefix)
        self._address = Address.parse(url, timeout_seconds=timeout_seconds)
        self._wire = Wire(self._address, self._heard, timeout_seconds=timeout_seconds)
        self._index = Index(self._wire, self._keys, live_seconds=live_seconds)
        self._channels = Channels(self._wire.join, self._wire.part)

    @property
    def shared(self) -> bool:
        """Every process with the same URL and prefix sees the same logs."""
        return True

    @property
    def commit_interval_seconds(self) -> float:
        """Short against what a reader notices, long against a round trip."""
        return _COMMIT_INTERVAL_SECONDS

    async def open(self) -> None:
        """Connect, and see that the server can do all that is needed by doing it.

        Raises:
            StoreSetupError: It is too old, a replica, has another application's keys, or forbids something.
            StoreUnavailableError: It gave no answer, or cannot do it yet.
        """
        probe_id = new_probe_id()
        channel = self._keys.run(probe_id).s
        check_server(await inspect_server(self._address, timeout_seconds=self._timeout_seconds, channel=channel))
        await rehearse(self._wire, self._keys, probe_id)
        await self.secret()

    async def secret(self) -> bytes:
        """The 32 random bytes that all users of this server and prefix share.

        Raises:
            StoreUnavailableError: No answer.
            StoreError: Something else is kept under its key.
        """
        key = self._keys.secret
        new = secrets.token_bytes(_SECRET_BYTES)
        _, secret = await self._wire.ask([(b"SET", key, new, b"NX"), (b"GET", key)])
        if not isinstance(secret, bytes) or len(secret) != _SECRET_BYTES:
            raise StoreError(f"the Redis key {key.decode()} is another application's: use another prefix")
        return secret

    async def aclose(self) -> None:
        """Close the connections. What is under way may end, within the timeout."""
        await self._wire.aclose()

    # Beginning -------------------------------------------------------------------------------------------------------

    async def create(self, run_id: str, *, owner: str | None, thread: str | None, fingerprint: bytes) -> Lease | None:
        """See `RunStore.create`.

        Raises:
            FingerprintError: The run exists with another fingerprint or owner.
            StoreUnavailableError: No answer.
        """
        lease = Lease(run_id, secrets.token_hex(8))
        found = await self._create(lease, Place(owner, thread), fingerprint)
        # Its token is ours if the first answer to this very call was lost.
        if found is None or found[0] == lease.token.encode():
            return lease
        if found[1:] != [fingerprint, packed(owner)]:
            raise FingerprintError(run_id)
        return None

    async def restore(self, lease: Lease, *, owner: str | None, thread: str | None, fingerprint: bytes) -> None:
        """See `RunStore.restore`.

        Raises:
            FencedError: The run exists under another token.
            StoreUnavailableError: No answer.
        """
        found = await self._create(lease, Place(owner, thread), fingerprint)
        if found is not None and found[0] != lease.token.encode():
            raise FencedError(lease.run_id)

    async def _create(self, lease: Lease, place: Place, fingerprint: bytes) -> list[bytes] | None:
        """Make the run unless it exists; if it does, return its token, fingerprint and packed owner."""
        scripts = await self._wire.ready()
        command = scripts.create.call(
            *self._keys.run(lease.run_id),
            lease.token.encode(),
            packed(place.owner),
            packed(place.thread),
            fingerprint,
            self._live_ms,
        )
        (found,) = await self._wire.ask([command], run_id=lease.run_id)
        if isinstance(found, list):
            return cast("list[bytes]", found)
        self._index.put(lease.run_id, place, found)
        return None

    # Writing ---------------------------------------------------------------------------------------------------------

    async def commit(self, writes: Sequence[Write]) -> Sequence[Ack | StoreError]:
        """See `RunStore.commit`. One round trip."""
        scripts = await self._wire.ready()
        now = asyncio.get_running_loop().time()
        self._index.sweep(now)
        most = _MOST_WRITES if self._wire.reaches_one_node else 1
        return await self._commit(scripts, _grouped(writes, most), now)

    async def _commit(self, scripts: Scripts, groups: Sequence[Sequence[Write]], now: float) -> list[Ack | StoreError]:
        commands = [self._write(scripts, group, now) for group in groups]
        answers: list[Ack | StoreError] = []
        for group, command, reply in zip(groups, commands, await self._wire.call(commands), strict=True):
            if not isinstance(reply, Exception):
                answers += [self._answer(*answer, now) for answer in zip(group, reply, strict=True)]
            elif len(group) == 1 or isinstance(reply, StoreError) or is_passing(reply):
                answers += [error_of(reply, command, write.lease.run_id) for write in group]
            else:
                # One of them cannot be written, and none of the others shall suffer for it.
                answers += await self._commit(scripts, [[write] for write in group], now)
        return answers

    def _write(self, scripts: Scripts, writes: Sequence[Write], now: float) -> Command:
        keys: list[bytes] = []
        arguments: list[bytes] = []
        for write in writes:
            lease, before, records, final = write.lease, write.first - 1, write.records, write.final
            if final != OPEN:
                live_ms = self._retention_ms
            elif before == 0 or self._index.is_due(lease.run_id, now):
                live_ms = self._live_ms
            else:
                live_ms = b"0"
            m, s, *_ = self._keys.run(lease.run_id)
            keys += (m, s)
            arguments += (
                lease.token.encode(),
                b"%d" % before,
                b"%d" % (before + len(records)),
                b"%d" % final,
                encode_payload(write.first, records, final) if records or final else b"",
                live_ms,
            )
        return scripts.write.call_for_each(keys, arguments)

    def _answer(self, write: Write, reply: Reply, now: float) -> Ack | StoreError:
        if reply is None or isinstance(reply, bytes):
            return Ack(write.first - 1 + len(write.records), _text(reply))
        run_id = write.lease.run_id
        if isinstance(reply, int):
            if reply >= 0:
                return GapError(reply)
            self._index.forget(run_id)
            return _REFUSALS[reply](run_id)
        last, cancel, *rest = cast("list[bytes | None]", reply)
        if rest:
            owner, thread, made = rest
            place = Place(unpacked(owner), unpacked(thread))
            if write.final != OPEN:
                self._index.remove(run_id, place, kept_ms=self._retention_ms)
            elif self._index.is_due(run_id, now):
                self._index.put(run_id, place, made or b"0")
        return Ack(int(last or 0), _text(cancel))

    async def seal(self, seen: Info, record: bytes, state: int) -> bool:
        """See `RunStore.seal`.

        Raises:
            StoreUnavailableError: No answer.
        """
        scripts = await self._wire.ready()
        keys, last = self._keys.run(seen.run_id), seen.last + 1
        command = scripts.seal.call(
            keys.m,
            keys.s,
            seen.token.encode(),
            b"%d" % seen.last,
            b"%d" % (seen.beat - seen.last),
            b"%d" % last,
            b"%d" % state,
            encode_payload(last, [record], state),
            self._retention_ms,
        )
        (sealed,) = await self._wire.ask([command], run_id=seen.run_id)
        if sealed:
            self._index.remove(seen.run_id, Place(seen.owner, seen.thread), kept_ms=self._retention_ms)
        return bool(sealed)

    async def compact(self, run_id: str, block: bytes) -> bool:
        """See `RunStore.compact`.

        Raises:
            StoreUnavailableError: No answer.
        """
        scripts = await self._wire.ready()
        (done,) = await self._wire.ask([scripts.compact.call(*self._keys.run(run_id), block)], run_id=run_id)
        return bool(done)

    async def cancel(self, run_id: str, reason: str) -> bool:
        """See `RunStore.cancel`.

        Raises:
            RunNotFoundError: No such run.
            StoreUnavailableError: No answer.
        """
        scripts = await self._wire.ready()
        keys = self._keys.run(run_id)
        (accepted,) = await self._wire.ask([scripts.cancel.call(keys.m, keys.s, reason.encode())], run_id=run_id)
        return bool(accepted)

    async def put_note(self, run_id: str, name: str, note: bytes, *, live_seconds: float, most: int) -> bool:
        """See `RunStore.put_note`.

        Raises:
            RunNotFoundError: No such run.
            StoreUnavailableError: No answer.
        """
        scripts = await self._wire.ready()
        keys, live_ms = self._keys.run(run_id), b"%d" % max(1, round(live_seconds * 1000))
        command = scripts.put_note.call(keys.m, keys.n, name.encode(), note, live_ms, b"%d" % most)
        (done,) = await self._wire.ask([command], run_id=run_id)
        return bool(done)

    async def take_note(self, run_id: str, name: str) -> bytes | None:
        """See `RunStore.take_note`.

        Raises:
            StoreUnavailableError: No answer.
        """
        scripts = await self._wire.ready()
        keys = self._keys.run(run_id)
        (note,) = await self._wire.ask([scripts.take_note.call(keys.m, keys.n, name.encode())], run_id=run_id)
        return cast("bytes | None", note)

    async def purge(self, run_id: str) -> None:
        """See `RunStore.purge`.

        Raises:
            StoreUnavailableError: No answer.
        """
        scripts = await self._wire.ready()
        (place,) = await self._wire.ask([scripts.purge.call(*self._keys.run(run_id))], run_id=run_id)
        owner, thread = cast("list[bytes | None]", place)
        self._index.remove(run_id, Place(unpacked(owner), unpacked(thread)), kept_ms=b"0")

    # Reading ---------------------------------------------------------------------------------------------------------

    async def info(self, run_id: str) -> Info:
        """See `RunStore.info`.

        Raises:
            RunNotFoundError: No such run.
            StoreUnavailableError: No answer.
        """
        (fields,) = await self._wire.ask([(b"HMGET", self._keys.run(run_id).m, *_INFO_FIELDS)], run_id=run_id)
        return _info(run_id, fields)

    async def read(self, run_id: str, after: int, *, limit: int) -> Page:
        """See `RunStore.read`. One round trip, unless there is much to read.

        Raises:
            RunNotFoundError: No such run.
            StoreUnavailableError: No answer.
        """
        keys = self._keys.run(run_id)
        count = min(limit, _FIRST_ENTRIES)
        # In this order: the run is not newer than its records.
        commands = [(b"HMGET", keys.m, *_INFO_FIELDS), _range(keys.s, after, count)]
        fields, entries = await self._wire.ask(commands, run_id=run_id)
        info = _info(run_id, fields)
        records: list[bytes] = []
        seen = len(entries)
        while _take(entries, keys.s, after, records) and len(entries) == count and len(records) < limit:
            # As many as the rest will probably be in.
            count = max(_FEWEST_ENTRIES, (limit - len(records)) * seen // len(records))
            (entries,) = await self._wire.ask([_range(keys.s, after + len(records), count)], run_id=run_id)
            seen += len(entries)
        del records[limit:]
        if info.state == OPEN or (records and after + len(records) >= min(info.last, after + limit)):
            return Page(records, info)
        return await self._read_block(info, after)

    async def _read_block(self, info: Info, after: int) -> Page:
        """The page of a final run whose records are not in its stream.

        Raises:
            RunNotFoundError: They are nowhere: the run has just expired, or they were taken away.
        """
        (block,) = await self._wire.ask([(b"GET", self._keys.run(info.run_id).b)], run_id=info.run_id)
        if block is None and after < info.last:
            raise RunNotFoundError(info.run_id)
        return Page([], info, block)

    async def active(self, *, owner: str | None = None, thread: str | None = None, limit: int = 100) -> Sequence[str]:
        """See `RunStore.active`. Every run is looked at, and what is not open is taken out of the index.

        Raises:
            StoreUnavailableError: No answer.
        """
        return await self._index.active(owner, thread, limit)

    async def latest(self, thread: str, *, owner: str | None) -> str | None:
        """See `RunStore.latest`.

        Raises:
            StoreUnavailableError: No answer.
        """
        return await self._index.latest(thread, owner=owner)

    # Hints and signals -----------------------------------------------------------------------------------------------

    def subscribe(self, run_id: str, hint: Hint) -> Stop:
        """See `RunStore.subscribe`. `None` comes also whenever the subscription begins to be in force."""
        return self._channels.subscribe(self._keys.run(run_id).s, hint)

    async def signal(self, topic: str, text: str) -> None:
        """See `RunStore.signal`.

        Raises:
            StoreUnavailableError: No answer.
        """
        await self._wire.ready()
        await self._wire.ask([self._wire.publication(self._keys.signals(topic), text.encode())])

    def listen(self, topic: str, heard: Callable[[str], None]) -> Stop:
        """See `RunStore.listen`."""
        return self._channels.listen(self._keys.signals(topic), heard)

    def _heard(self, channel: bytes, payload: bytes | None) -> None:
        self._channels.heard(channel, payload)


def _grouped(writes: Sequence[Write], most: int) -> list[list[Write]]:
    """The writes in their order, those together that go in one command."""
    groups: list[list[Write]] = []
    size = _MOST_BYTES
    for write in writes:
        length = sum(map(len, write.records))
        if not groups or len(groups[-1]) == most or size + length > _MOST_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(write)
        size += length
    return groups


def _range(key: bytes, after: int, count: int) -> Command:
    """At most `count` entries that have records beyond a number: an entry's id is its last one."""
    return (b"XRANGE", key, b"(%d-0" % after, b"+", b"COUNT", b"%d" % count)


def _take(entries: Sequence[Reply], key: bytes, after: int, records: list[bytes]) -> bool:
    """Add what the entries have beyond what is there; False if there is nothing, or a hole before it.

    Raises:
        StoreError: An entry is none of ours.
    """
    for _, fields in entries:
        try:
            batch = decode_payload(fields[1])
        except ValueError:
            raise StoreError(f"the Redis key {key.decode()} is another application's: use another prefix") from None
        known = after + len(records) + 1 - batch.first
        if known < 0:
            return False
        records += batch.records[known:]
    return bool(records)


def _info(run_id: str, fields: Sequence[bytes | None]) -> Info:
    """The run that a hash tells of.

    Raises:
        RunNotFoundError: It tells of none.
    """
    token, last, state, cancel, beat, owner, thread = fields
    if token is None:
        raise RunNotFoundError(run_id)
    return Info(
        run_id=run_id,
        owner=unpacked(owner),
        thread=unpacked(thread),
        state=int(state or 0),
        last=int(last or 0),
        # Heartbeats are counted; every other write makes the log longer.
        beat=int(beat or 0) + int(last or 0),
        token=token.decode(),
        cancel=_text(cancel),
    )


def _text(kept: bytes | None) -> str | None:
    return None if kept is None else kept.decode()
