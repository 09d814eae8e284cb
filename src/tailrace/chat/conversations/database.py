"""A database as this package uses one: opened, migrated, asked in transactions; and its failures in our own words.

SQLite and PostgreSQL, each by its asynchronous driver. A transaction that writes is begun so that it never has to wait
for a lock in its middle; what a driver says is neither raised nor logged, as it may name hosts, users, and what users
wrote.
"""

import asyncio
import contextlib
import importlib.util
import logging
import sqlite3
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from tailrace.chat.conversations.migrating import load_steps, upgrade
from tailrace.chat.conversations.refusals import ConversationsUnavailableError
from tailrace.errors import StoreSetupError

__all__ = ["Database"]

_logger = logging.getLogger("tailrace")

_FORMS = "sqlite:///path or postgresql://user:password@host/database"
_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
#: What the URL of a PostgreSQL may have after `?`, and what the driver calls it. `host` is the folder of a socket.
_OPTIONS = {"host": "host", "port": "port", "ssl": "ssl", "sslmode": "ssl"}

_CONNECT_SECONDS = 5.0
_LOCK_SECONDS = 5.0
_CLOSE_SECONDS = 2.0
#: Between two attempts to give an SQLite file its journal, which nobody is queued for.
_RETRY_SECONDS = 0.05
#: Large tables may need a while, and the other workers wait for the one that is at it.
_MIGRATION_SECONDS = 600
#: Any number, as long as every version takes the same.
_MIGRATION_LOCK = 0x7461_696C_7261_6365

#: An execution option: the transaction reads only.
_READS = "tailrace_reads"

_SQLITE_REASONS = {
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_NOTADB: "is no SQLite database",
    sqlite3.SQLITE_PERM: "cannot be opened",
    sqlite3.SQLITE_READONLY: "cannot be written",
    sqlite3.SQLITE_BUSY: "is locked by another program",
}
#: By the class of the SQLSTATE or, where it says more, by all of it.
_POSTGRES_REASONS = {
    "28": "refuses the user or the password",
    "3D": "has no such database",
    "42501": "does not let this user make tables",
    "53": "has no room for another connection",
    "57": "is starting or stopping",
}


class Database:
    """One database; used from one event loop.

    Attributes:
        dialect: `sqlite` or `postgresql`.
    """

    def __init__(self, url: str, *, connections: int = 5, timeout_seconds: float = 10.0) -> None:
        """Describe it; nothing is opened.

        Args:
            url: `sqlite:///path` (four slashes for a path from the root) or `postgresql://user:password@host/database`.
            connections: How many there are at most.
            timeout_seconds: How long a statement may take on PostgreSQL, and how long one waits for a connection; the
                whole of a transaction takes twice as long at most, and a moment for giving up.

        Raises:
            StoreSetupError: The URL is no such URL, or the driver is not installed.
        """
        self._url = _driver_url(url)
        self.dialect = self._url.get_backend_name()
        # For a server that does not even refuse: as long for a connection as for the work.
        self._seconds = 2 * timeout_seconds
        # One process's transactions would otherwise find SQLite locked by each other, and poll.
        self._turn = asyncio.Lock() if self.dialect == "sqlite" else contextlib.nullcontext()
        self._engine = create_async_engine(
            _connect_url(self._url),
            poolclass=AsyncAdaptedQueuePool,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=timeout_seconds,
            pool_pre_ping=True,
            # What users wrote is not for the log.
            hide_parameters=True,
            connect_args=_connect_args(self.dialect, timeout_seconds),
        )
        self._reader = self._engine.execution_options(**{_READS: True})
        if self.dialect == "sqlite":
            event.listen(self._engine.sync_engine, "connect", _set_up_sqlite)
            event.listen(self._engine.sync_engine, "begin", _begin_sqlite)
            event.listen(self._engine.sync_engine, "invalidate", _give_up_sqlite)

    @property
    def engine(self) -> AsyncEngine:
        """For those who look at the tables themselves."""
        return self._engine

    async def open(self) -> None:
        """Connect, and lead the database to the version of this code; of many who do so at once, one does.

        Raises:
            StoreSetupError: It cannot be reached or used, or is newer than this code. The reason holds no password.
        """
        try:
            with self._setup_errors():
                await self._migrate()
        except BaseException:
            await self._engine.dispose()
            raise

    async def _migrate(self) -> None:
        steps = await asyncio.to_thread(load_steps)
        if self.dialect == "sqlite":
            await asyncio.to_thread(_check_folder, self._url)
            await self._enter_wal()
        # On SQLite the transaction itself is the lock.
        async with self._engine.begin() as connection:
            if self.dialect == "postgresql":
                await connection.execute(text(f"SET LOCAL statement_timeout = '{_MIGRATION_SECONDS}s'"))
                await connection.execute(text(f"SET LOCAL lock_timeout = '{_MIGRATION_SECONDS}s'"))
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            await connection.run_sync(upgrade, steps)

    async def aclose(self) -> None:
        """Close all connections; may be called more than once."""
        # A server that says nothing says no farewell either.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._engine.dispose()

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection]:
        """A transaction that writes nothing.

        Raises:
            ConversationsUnavailableError: There was no answer.
        """
        with _answers():
            async with asyncio.timeout(self._seconds), self._reader.begin() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncGenerator[AsyncConnection]:
        """A transaction; all of it happens, or nothing.

        Raises:
            ConversationsUnavailableError: There was no answer, and what happened is unknown.
            IntegrityError: A key is taken.
        """
        with _answers():
            async with asyncio.timeout(self._seconds), self._turn, self._engine.begin() as connection:
                yield connection

    async def _enter_wal(self) -> None:
        """Let readers go on while somebody writes; the file remembers it.

        Raises:
            OperationalError: The file cannot be used.
        """
        deadline = asyncio.get_running_loop().time() + _LOCK_SECONDS
        while True:
            try:
                async with self._engine.connect() as connection:
                    # Outside of a transaction, which this has to be.
                    driver: Any = (await connection.get_raw_connection()).driver_connection
                    await driver.execute_fetchall("PRAGMA journal_mode = WAL")
                    return
            except sqlite3.OperationalError as error:
                locked = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not locked or asyncio.get_running_loop().time() >= deadline:
                    raise
            await asyncio.sleep(_RETRY_SECONDS)

    @contextlib.contextmanager
    def _setup_errors(self) -> Any:  # noqa: ANN401  a context manager
        try:
            yield
        except (SQLAlchemyError, OSError, sqlite3.Error) as error:
            raise StoreSetupError(f"the database of the conversations {self._reason(error)}") from None

    def _reason(self, error: Exception) -> str:
        cause = _driver_error(error)
        if self.dialect == "sqlite":
            number = getattr(cause, "sqlite_errorcode", 0) & 0xFF
            return f"({self._url.database}) {_SQLITE_REASONS.get(number, 'cannot be used')}"
        place = f"({self._url.render_as_string(hide_password=True).partition('@')[2]})"
        state = str(getattr(cause, "sqlstate", None) or "")
        reason = _POSTGRES_REASONS.get(state) or _POSTGRES_REASONS.get(state[:2])
        if reason is None:
            reason = f"cannot be used (SQLSTATE {state})" if state else "does not answer"
        return f"{place} {reason}"


def _driver_url(url: str) -> URL:
    """The URL for the driver.

    Raises:
        StoreSetupError: It is none of those we know.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Not even the scheme is shown: anything that is no URL may be a password.
        raise StoreSetupError(f"the URL of the conversations' database is not like {_FORMS}") from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise StoreSetupError(f"no database of conversations for {parsed.drivername!r}: use {_FORMS}")
    parsed = parsed.set(drivername=driver)
    if driver.startswith("sqlite"):
        if parsed.host or parsed.query or parsed.database in {None, "", ":memory:"}:
            raise StoreSetupError("a database in SQLite is a file, and its URL nothing but a path: sqlite:///chat.db")
        return parsed
    if importlib.util.find_spec("asyncpg") is None:
        raise StoreSetupError("a database in PostgreSQL needs its extra: pip install 'tailrace[postgres]'")
    if unknown := sorted(parsed.query.keys() - _OPTIONS.keys()):
        raise StoreSetupError(f"the URL of a PostgreSQL database has no option {unknown[0]!r} here")
    return parsed.set(query={_OPTIONS[name]: value for name, value in parsed.query.items()})


def _connect_url(url: URL) -> URL:
    if not url.drivername.startswith("sqlite"):
        return url
    # A plain path would be looked up in the current folder here, on the event loop.
    return url.set(database=f"file:{quote(str(url.database))}", query={"uri": "true"})


def _connect_args(dialect: str, timeout_seconds: float) -> Mapping[str, Any]:
    if dialect == "sqlite":
        return {"timeout": _LOCK_SECONDS}
    return {
        "timeout": _CONNECT_SECONDS,
        # Of the driver, for a server that does not even refuse.
        "command_timeout": _MIGRATION_SECONDS,
        "server_settings": {
            "application_name": "tailrace",
            "statement_timeout": f"{timeout_seconds * 1000:.0f}",
            "lock_timeout": f"{_LOCK_SECONDS * 1000:.0f}",
            "idle_in_transaction_session_timeout": f"{timeout_seconds * 1000:.0f}",
        },
    }


def _check_folder(url: URL) -> None:
    """See that the file can be made. Blocks.

    Raises:
        StoreSetupError: There is no such folder.
    """
    path = Path(str(url.database))
    if not path.parent.is_dir():
        raise StoreSetupError(f"the directory of {path} does not exist")


def _set_up_sqlite(connection: Any, _: object) -> None:  # noqa: ANN401  the driver's, adapted
    # The driver begins no transactions by itself then; `_begin_sqlite` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute(f"PRAGMA busy_timeout = {_LOCK_SECONDS * 1000:.0f}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # One that reads first and writes then would be refused if another has written in between.
    reads = connection.get_execution_options().get(_READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _give_up_sqlite(connection: Any, *_: object) -> None:  # noqa: ANN401  the driver's, adapted
    # Whoever waited for a statement is gone. To be closed is not enough: as long as a statement is not read to its end
    # the lock is kept, and nobody can write until that statement is collected as garbage.
    with contextlib.suppress(SQLAlchemyError, sqlite3.Error):
        connection.rollback()


@contextlib.contextmanager
def _answers() -> Any:  # noqa: ANN401  a context manager
    try:
        yield
    except IntegrityError:
        raise
    except (SQLAlchemyError, OSError) as error:
        cause = _driver_error(error)
        facts = (type(cause).__name__, getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None))
        _logger.warning("the database of the conversations gave no answer: %s %s", *facts)
        raise ConversationsUnavailableError from None


def _driver_error(error: BaseException) -> BaseException:
    """What the driver itself said: it has the codes."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    return error.__cause__ or error
