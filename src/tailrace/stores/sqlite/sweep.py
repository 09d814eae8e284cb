"""The sweep: removes what has expired, and the log rows that nobody can read any more, in small transactions."""

import sqlite3
from collections.abc import Iterator

from tailrace.stores.sqlite.file import transaction

__all__ = ["sweep"]

#: Rows looked at in one transaction: about a millisecond, for which the writers of all processes wait.
_PIECE_ROWS = 1_000
#: A signal is for whoever listens now.
_SIGNAL_MS = 60_000

_CLAIM = "UPDATE meta SET value = :now WHERE name = 'swept_ms' AND abs(value - :now) >= :every"
_EXPIRED_RUNS = "DELETE FROM run WHERE id > :after AND id <= :upto AND expires_ms <= :now"
_OLD_SIGNALS = "DELETE FROM signal WHERE g > :after AND g <= :upto AND abs(at_ms - :now) >= :age"
_UNREADABLE_LOG = """
    DELETE FROM log WHERE g > :after AND g <= :upto AND (
        NOT EXISTS (SELECT 1 FROM run WHERE id = log.run) OR EXISTS (SELECT 1 FROM block WHERE run = log.run)
    )
"""
_PASSES = (
    ("SELECT id FROM run WHERE id > ? ORDER BY id LIMIT ?", _EXPIRED_RUNS),
    ("SELECT g FROM signal WHERE g > ? ORDER BY g LIMIT ?", _OLD_SIGNALS),
    ("SELECT g FROM log WHERE g > ? ORDER BY g LIMIT ?", _UNREADABLE_LOG),
)


def sweep(db: sqlite3.Connection, *, now_ms: int, every_ms: int) -> Iterator[None]:
    """Sweep the file once, unless another of its users did so less than `every_ms` ago; yields between transactions."""
    with transaction(db):
        if not db.execute(_CLAIM, {"now": now_ms, "every": every_ms}).rowcount:
            return
    for keys, delete in _PASSES:
        after = 0
        while piece := db.execute(keys, (after, _PIECE_ROWS)).fetchall():
            yield
            upto = piece[-1][0]
            with transaction(db):
                db.execute(delete, {"after": after, "upto": upto, "now": now_ms, "age": _SIGNAL_MS})
            after = upto
