"""The tail of a file: what its other users have committed since the last look."""

import sqlite3
from collections.abc import Container
from typing import NamedTuple

__all__ = ["News", "Tail"]

#: Rows of others that are read at once.
_ROWS = 1_000
#: Beyond this many bytes of records, followers are told to look at the log themselves.
_CARRIED_BYTES = 4 * 1024**2

_ENDS = "SELECT (SELECT ifnull(max(g), 0) FROM log), (SELECT ifnull(max(g), 0) FROM signal)"
_LOG = """
    SELECT log.g, run.run_id FROM log JOIN run ON run.id = log.run
    WHERE log.g > ? AND log.g <= ? AND log.origin <> ? ORDER BY log.g LIMIT ?
"""
_ROW = "SELECT first, state, data FROM log WHERE g = ?"
_SIGNALS_BEFORE = "SELECT ifnull((SELECT g FROM signal WHERE at_ms < ? ORDER BY g DESC LIMIT 1), 0)"
_SIGNALS = "SELECT g, topic, run_id, text FROM signal WHERE g > ? AND g <= ? AND origin <> ? ORDER BY g LIMIT ?"


class News(NamedTuple):
    """What is new, in order.

    Attributes:
        rows: Run id, first number, state and data of what was appended to the runs that somebody wants.
        looks: Ids of runs whose log is to be looked at.
        signals: Topics and texts.
    """

    rows: list[tuple[str, int, int, bytes]]
    looks: list[str]
    signals: list[tuple[str, str]]


class Tail:
    """A place in what is committed to a file, seen from one connection."""

    def __init__(self) -> None:
        self._log_g = 0
        self._signal_g = 0
        self._version: int | None = None

    def seek(self, db: sqlite3.Connection, *, since_ms: int) -> None:
        """Skip the log as it is, and the signals from before `since_ms`, which nobody here has listened for."""
        self._log_g, _ = db.execute(_ENDS).fetchone()
        (self._signal_g,) = db.execute(_SIGNALS_BEFORE, (since_ms,)).fetchone()

    def moved(self, db: sqlite3.Connection) -> bool:
        """Whether anything was committed since the last look, cheaply; to be asked outside of transactions."""
        before = self._version
        (self._version,) = db.execute("PRAGMA data_version").fetchone()
        return self._version != before

    def read(self, db: sqlite3.Connection, *, origin: int, wanted: Container[str]) -> News:
        """What others than `origin` have committed since the last look, inside a transaction.

        Args:
            db: The connection.
            origin: Whose own commits are left out.
            wanted: The runs whose rows are read.
        """
        log_end, signal_end = db.execute(_ENDS).fetchone()
        appended = db.execute(_LOG, (self._log_g, log_end, origin, _ROWS)).fetchall()
        signals = db.execute(_SIGNALS, (self._signal_g, signal_end, origin, _ROWS)).fetchall()
        self._log_g = appended[-1][0] if len(appended) == _ROWS else log_end
        self._signal_g = signals[-1][0] if len(signals) == _ROWS else signal_end
        if _ROWS in {len(appended), len(signals)}:
            self._version = None
        news = News([], [], [])
        carried = 0
        for g, run_id in appended:
            if run_id not in wanted:
                continue
            if carried > _CARRIED_BYTES:
                news.looks.append(run_id)
                continue
            first, state, data = db.execute(_ROW, (g,)).fetchone()
            carried += len(data)
            news.rows.append((run_id, first, state, data))
        for _, topic, run_id, text in signals:
            if topic is None:
                news.looks.append(run_id)
            else:
                news.signals.append((topic, text))
        return news
