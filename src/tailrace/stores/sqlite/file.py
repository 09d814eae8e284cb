"""The file of an SQLite store: opened, known to be ours, laid out.

Nothing is written to a file before it is known to be ours, or empty. Who opens a connection uses and closes it in the
same thread.
"""

import contextlib
import secrets
import sqlite3
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeVar

from tailrace.errors import StoreSetupError, StoreUnavailableError

__all__ = ["Identity", "open_reader", "open_writer", "transaction"]

_T = TypeVar("_T")

#: How long a statement waits for a lock that another process holds.
_BUSY_SECONDS = 5.0
_BUSY_RETRY_SECONDS = 0.01
#: Marks the file as ours, at offset 68 of its header: "tail".
_APPLICATION_ID = 0x7461696C
_FORMAT = 1
_HEADER_BYTES = 100
#: A journal that once grew, because a checkpoint had to wait, is cut back to this.
_JOURNAL_BYTES = 64 * 1024**2

# `log` has no second index: each would double what a commit writes, and a reader needs none, because it scans from the
# run's first row to its last. AUTOINCREMENT, because a number must not come again after its row has been removed.
_SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    """
    CREATE TABLE run (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id TEXT NOT NULL UNIQUE,
        owner TEXT,
        thread TEXT,
        fingerprint BLOB NOT NULL,
        token TEXT NOT NULL,
        state INTEGER NOT NULL DEFAULT 0,
        last INTEGER NOT NULL DEFAULT 0,
        beat INTEGER NOT NULL DEFAULT 0,
        cancel TEXT,
        expires_ms INTEGER NOT NULL,
        first_g INTEGER NOT NULL,
        last_g INTEGER NOT NULL DEFAULT 0
    )
    """,
    "CREATE INDEX open_by_owner ON run (owner) WHERE state = 0",
    "CREATE INDEX open_by_thread ON run (thread) WHERE state = 0",
    "CREATE INDEX run_by_thread ON run (thread) WHERE thread IS NOT NULL",
    """
    CREATE TABLE log (
        g INTEGER PRIMARY KEY AUTOINCREMENT,
        origin INTEGER NOT NULL,
        run INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        state INTEGER NOT NULL,
        data BLOB NOT NULL
    )
    """,
    "CREATE TABLE block (run INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TRIGGER block_goes_with_run AFTER DELETE ON run BEGIN DELETE FROM block WHERE run = old.id; END",
    """
    CREATE TABLE signal (
        g INTEGER PRIMARY KEY AUTOINCREMENT,
        origin INTEGER NOT NULL,
        topic TEXT,
        run_id TEXT,
        text TEXT NOT NULL,
        at_ms INTEGER NOT NULL
    )
    """,
)

#: Came later: a file without them is given them.
_NOTES = (
    """
    CREATE TABLE IF NOT EXISTS note (
        run INTEGER NOT NULL,
        name TEXT NOT NULL,
        data BLOB NOT NULL,
        expires_ms INTEGER NOT NULL,
        PRIMARY KEY (run, name)
    ) WITHOUT ROWID
    """,
    """
    CREATE TRIGGER IF NOT EXISTS notes_go_with_run AFTER DELETE ON run BEGIN DELETE FROM note WHERE run = old.id; END
    """,
)

_SETUP_REASONS = {
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_NOTADB: "is no SQLite database",
    sqlite3.SQLITE_PERM: "cannot be opened",
    sqlite3.SQLITE_READONLY: "cannot be written",
}


class Identity:
    """Who uses the file.

    Attributes:
        origin: A number that no other user of the file has, now or later.
        secret: The 32 random bytes that all of them share.
    """

    __slots__ = ("origin", "secret")

    def __init__(self, origin: int, secret: bytes) -> None:
        self.origin = origin
        self.secret = secret


def open_writer(path: Path, *, synchronous: str) -> tuple[sqlite3.Connection, Identity]:
    """A connection that writes, as a new user of the file, which is made if there is none.

    Raises:
        StoreSetupError: The file cannot be used, or is somebody else's.
        StoreUnavailableError: Another process holds it locked.
    """
    if str(path) == ":memory:":
        raise StoreSetupError("a store in SQLite needs a file; for one in memory use memory://")
    with _setup_errors(path), contextlib.ExitStack() as undo:
        if not path.parent.is_dir():
            raise StoreSetupError(f"the directory of {path} does not exist")
        if path.is_file() and 0 < path.stat().st_size < _HEADER_BYTES:
            # SQLite takes a file of one byte for an empty one.
            raise StoreSetupError(f"{path} is no SQLite database")
        db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        undo.callback(db.close)
        with transaction(db):
            if not _is_ours(db, path):
                _lay_out(db)
            for statement in _NOTES:
                db.execute(statement)
            identity = _identify(db)
        _enter_wal(db, path)
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
        undo.pop_all()
    return db, identity


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads a file which a writer has opened.

    Raises:
        StoreSetupError: The file cannot be used.
        StoreUnavailableError: Another process holds it locked.
    """
    with _setup_errors(path), contextlib.ExitStack() as undo:
        db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        undo.callback(db.close)
        db.execute("PRAGMA query_only = ON")
        undo.pop_all()
    return db


@contextlib.contextmanager
def transaction(db: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Generator[None]:
    """All or nothing of what the block does."""
    db.execute(begin)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # A full disk, among others, has ended the transaction already.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _setup_errors(path: Path) -> Generator[None]:
    try:
        yield
    except sqlite3.Error as error:
        reason = _SETUP_REASONS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
        if reason is None:
            raise StoreUnavailableError(str(error)) from error
        raise StoreSetupError(f"{path} {reason}: {error}") from error
    except OSError as error:
        # A directory on the way that may not be entered, or a name that is too long.
        raise StoreSetupError(f"{path} cannot be opened: {error.strerror}") from error


def _is_ours(db: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is laid out; False if it is empty.

    Raises:
        StoreSetupError: It is somebody else's, or of another format.
    """
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    (format_,) = db.execute("PRAGMA user_version").fetchone()
    (objects,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application_id == _APPLICATION_ID:
        if format_ != _FORMAT:
            raise StoreSetupError(f"{path} has format {format_}, this version of tailrace reads format {_FORMAT}")
        return True
    if application_id or format_ or objects:
        raise StoreSetupError(f"{path} is the database of another application; give tailrace a file of its own")
    return False


def _lay_out(db: sqlite3.Connection) -> None:
    for statement in _SCHEMA:
        db.execute(statement)
    db.executemany(
        "INSERT INTO meta VALUES (?, ?)", [("secret", secrets.token_bytes(32)), ("origin", 0), ("swept_ms", 0)]
    )
    db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {_FORMAT}")


def _identify(db: sqlite3.Connection) -> Identity:
    db.execute("UPDATE meta SET value = value + 1 WHERE name = 'origin'")
    found = dict(db.execute("SELECT name, value FROM meta").fetchall())
    return Identity(found["origin"], found["secret"])


def _enter_wal(db: sqlite3.Connection, path: Path) -> None:
    """Have the file written by a log beside it, so that readers do not wait for writers; once done, it stays so.

    Raises:
        StoreSetupError: The file system cannot do it.
    """
    (mode,) = _when_not_busy(lambda: db.execute("PRAGMA journal_mode = WAL").fetchone())
    if mode != "wal":
        raise StoreSetupError(f"{path} is on a file system that cannot share memory; SQLite needs a local disk")


def _when_not_busy(act: Callable[[], _T]) -> _T:
    """Wait as SQLite does elsewhere: where several switch a new file at once, it lets one of them fail.

    Raises:
        OperationalError: It took too long, or is something else.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            return act()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(_BUSY_RETRY_SECONDS)
