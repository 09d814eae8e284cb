"""The rows of a store's file: what is asked of them and done to them, inside a transaction of the caller.

A run is one row of `run`; what one write appended to it is one row of `log`, all runs together in the order of their
commits. The log of a compacted run is one row of `block`; its log rows stay unread until they are swept.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

import msgspec

__all__ = [
    "RunRow",
    "active",
    "append",
    "begin",
    "block",
    "cancel",
    "compact",
    "drop_expired",
    "end",
    "find",
    "latest",
    "notify",
    "purge",
    "put_note",
    "records",
    "take_note",
    "unpack",
]

_FIND = """
    SELECT id, run_id, owner, thread, fingerprint, token, state, last, beat, cancel, expires_ms, first_g, last_g
    FROM run WHERE run_id = ?
"""
_BEGIN = """
    INSERT INTO run (run_id, owner, thread, fingerprint, token, expires_ms, first_g)
    VALUES (?, ?, ?, ?, ?, ?, (SELECT ifnull(max(g), 0) + 1 FROM log))
"""
_DROP_EXPIRED = "DELETE FROM run WHERE run_id = ? AND expires_ms <= ?"
_APPEND = "INSERT INTO log (origin, run, first, last, state, data) VALUES (?, ?, ?, ?, ?, ?)"
_GROW = "UPDATE run SET last = ?, last_g = ?, beat = beat + 1, expires_ms = ? WHERE id = ?"
_BEAT = "UPDATE run SET beat = beat + 1, expires_ms = ? WHERE id = ?"
# Apart from the above, because writing to `state` costs a look at both indexes.
_END = "UPDATE run SET state = ?, token = ? WHERE id = ?"
_CANCEL = "UPDATE run SET cancel = ? WHERE id = ?"
_COMPACT = "INSERT OR REPLACE INTO block (run, data) VALUES (?, ?)"
_BLOCK = "SELECT data FROM block WHERE run = ?"
_PURGE = "DELETE FROM run WHERE run_id = ?"
_DROP_NOTES = "DELETE FROM note WHERE run = ? AND expires_ms <= ?"
_COUNT_NOTES = "SELECT count(*) FROM note WHERE run = ?"
_PUT_NOTE = "INSERT OR REPLACE INTO note (run, name, data, expires_ms) VALUES (?, ?, ?, ?)"
_TAKE_NOTE = "DELETE FROM note WHERE run = ? AND name = ? RETURNING data, expires_ms"
_NOTIFY = "INSERT INTO signal (origin, topic, run_id, text, at_ms) VALUES (?, ?, ?, ?, ?)"
_FORWARD = """
    SELECT first, last, data FROM log WHERE g BETWEEN :first_g AND :last_g AND run = :run AND last > :after ORDER BY g
"""
# Without `last > :after`: the row before the first one that is wanted ends the search, it need not go on to `first_g`.
_BACKWARD = """
    SELECT first, last, data FROM log WHERE g BETWEEN :first_g AND :last_g AND run = :run ORDER BY g DESC
"""
#: By whether an owner and a thread are given. The indexes hold open runs only, however many final ones there are.
_ACTIVE = {
    (False, False): "SELECT run_id FROM run INDEXED BY open_by_owner WHERE state = 0",
    (True, False): "SELECT run_id FROM run INDEXED BY open_by_owner WHERE state = 0 AND owner = :owner",
    (False, True): "SELECT run_id FROM run INDEXED BY open_by_thread WHERE state = 0 AND thread = :thread",
    (True, True): (
        "SELECT run_id FROM run INDEXED BY open_by_thread WHERE state = 0 AND thread = :thread AND owner = :owner"
    ),
}
_LATEST = """
    SELECT run_id FROM run INDEXED BY run_by_thread
    WHERE thread = :thread AND owner IS :owner AND expires_ms > :now ORDER BY id DESC LIMIT 1
"""
_NEWEST_FIRST = " AND expires_ms > :now ORDER BY id DESC LIMIT :limit"

_pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(list[bytes]).decode


class RunRow(NamedTuple):
    """One run.

    Attributes:
        id: A number that no other run has, now or later.
        expires_ms: Unix milliseconds after which the run is gone, whether or not the row still is.
        first_g: No log row of the run is before it.
        last_g: The last log row of the run, 0 if there is none.
    """

    id: int
    run_id: str
    owner: str | None
    thread: str | None
    fingerprint: bytes
    token: str
    state: int
    last: int
    beat: int
    cancel: str | None
    expires_ms: int
    first_g: int
    last_g: int


def find(db: sqlite3.Connection, run_id: str) -> RunRow | None:
    """The row of a run, expired or not."""
    row = db.execute(_FIND, (run_id,)).fetchone()
    return None if row is None else RunRow._make(row)


def drop_expired(db: sqlite3.Connection, run_id: str, *, now_ms: int) -> None:
    """Make an expired run's id free before the sweep does."""
    db.execute(_DROP_EXPIRED, (run_id, now_ms))


def begin(  # noqa: PLR0913  the columns of a new row
    db: sqlite3.Connection,
    run_id: str,
    token: str,
    *,
    owner: str | None,
    thread: str | None,
    fingerprint: bytes,
    expires_ms: int,
) -> None:
    """Add an open and empty run."""
    db.execute(_BEGIN, (run_id, owner, thread, fingerprint, token, expires_ms))


def append(
    db: sqlite3.Connection, run: RunRow, new: Sequence[bytes], *, origin: int, state: int, expires_ms: int
) -> None:
    """Add records to the log; without any it is a heartbeat. A final `state` is only noted in the log: see `end`."""
    if not new:
        db.execute(_BEAT, (expires_ms, run.id))
        return
    last = run.last + len(new)
    g = db.execute(_APPEND, (origin, run.id, run.last + 1, last, state, _pack(new))).lastrowid
    db.execute(_GROW, (last, g, expires_ms, run.id))


def end(db: sqlite3.Connection, run: RunRow, *, state: int, token: str) -> None:
    """Give a run its final state; another `token` shuts out whoever has the lease."""
    db.execute(_END, (state, token, run.id))


def cancel(db: sqlite3.Connection, run: RunRow, reason: str) -> None:
    """Ask the producer to stop."""
    db.execute(_CANCEL, (reason, run.id))


def compact(db: sqlite3.Connection, run: RunRow, data: bytes) -> None:
    """Let a block stand for the log."""
    db.execute(_COMPACT, (run.id, data))


def block(db: sqlite3.Connection, run: RunRow) -> bytes | None:
    """The block that stands for the log, if there is one."""
    row = db.execute(_BLOCK, (run.id,)).fetchone()
    return None if row is None else bytes(row[0])


def purge(db: sqlite3.Connection, run_id: str) -> bool:
    """Remove a run; its log rows belong to nobody then, and are swept. False if there is none."""
    return db.execute(_PURGE, (run_id,)).rowcount > 0


def put_note(  # noqa: PLR0913  the columns of a new row
    db: sqlite3.Connection, run: RunRow, name: str, data: bytes, *, expires_ms: int, now_ms: int, most: int
) -> bool:
    """Keep a note, unless the run has so many that have not expired."""
    db.execute(_DROP_NOTES, (run.id, now_ms))
    (count,) = db.execute(_COUNT_NOTES, (run.id,)).fetchone()
    if count >= most:
        return False
    db.execute(_PUT_NOTE, (run.id, name, data, expires_ms))
    return True


def take_note(db: sqlite3.Connection, run: RunRow, name: str, *, now_ms: int) -> bytes | None:
    """Remove a note; what it says unless it has expired."""
    # All rows, because the statement is done only with the last one.
    for data, expires_ms in db.execute(_TAKE_NOTE, (run.id, name)).fetchall():
        return bytes(data) if expires_ms > now_ms else None
    return None


def notify(
    db: sqlite3.Connection,
    *,
    origin: int,
    at_ms: int,
    topic: str | None = None,
    run_id: str | None = None,
    text: str = "",
) -> None:
    """Tell the other users of the file: a text to a topic, or to look at a run."""
    db.execute(_NOTIFY, (origin, topic, run_id, text, at_ms))


def records(db: sqlite3.Connection, run: RunRow, *, after: int, limit: int) -> list[bytes]:
    """At most `limit` records that follow number `after`.

    A reader who is near the end is served from the end, so that it costs nothing how much others wrote before.
    """
    if after >= run.last:
        return []
    near_end = run.last - after <= limit
    place = {"first_g": run.first_g, "last_g": run.last_g, "run": run.id, "after": after}
    rows: list[tuple[int, int, bytes]] = []
    with closing(db.execute(_BACKWARD if near_end else _FORWARD, place)) as found:
        for first, last, data in found:
            rows.append((first, last, data))
            if (first <= after + 1) if near_end else (last >= after + limit):
                break
    if near_end:
        rows.reverse()
    skip = after + 1 - rows[0][0]
    return [record for *_, data in rows for record in unpack(data)][skip : skip + limit]


def active(db: sqlite3.Connection, *, owner: str | None, thread: str | None, limit: int, now_ms: int) -> list[str]:
    """Ids of open runs, newest first."""
    query = _ACTIVE[owner is not None, thread is not None] + _NEWEST_FIRST
    found = db.execute(query, {"owner": owner, "thread": thread, "limit": limit, "now": now_ms})
    return [run_id for (run_id,) in found]


def latest(db: sqlite3.Connection, *, owner: str | None, thread: str, now_ms: int) -> str | None:
    """The id of the newest run of an owner's thread."""
    row = db.execute(_LATEST, {"owner": owner, "thread": thread, "now": now_ms}).fetchone()
    return None if row is None else row[0]
