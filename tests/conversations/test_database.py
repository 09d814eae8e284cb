"""The database is led to the version of the code by whoever opens it, and its failures are told in our words."""

import asyncio
import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, event, text

from tailrace.chat.conversations.contract import BegunTurn
from tailrace.chat.conversations.refusals import ConversationsUnavailableError
from tailrace.chat.conversations.store import Conversations
from tailrace.chat.conversations.tables import METADATA, VERSION_TABLE
from tailrace.errors import StoreSetupError
from tests.conversations.talking import ADA, ask, talk, texts
from tests.postgres_server import PASSWORD, PostgresServer


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database that nobody has opened yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return asyncio.run(server.create_database())


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
    )
    return list(compare_metadata(context, METADATA))


async def test_migrations_make_the_tables_that_the_code_has(new_url: str) -> None:
    async with Conversations(new_url) as store, store.database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_many_workers_open_a_new_database_at_once(new_url: str) -> None:
    workers = [Conversations(new_url, connections=1) for _ in range(8)]

    await asyncio.gather(*(worker.open() for worker in workers))

    await talk(workers[0], "Hello", "r1", "Hi")
    assert texts(await workers[-1].messages("c1", ADA.owner)) == ["Hello", "Hi"]
    for worker in workers:
        await worker.aclose()


async def test_what_was_written_is_there_after_another_opening(new_url: str) -> None:
    async with Conversations(new_url) as store:
        await talk(store, "Hello", "r1", "Hi")

    async with Conversations(new_url) as store:
        assert texts(await store.messages("c1", ADA.owner)) == ["Hello", "Hi"]


async def test_a_database_that_is_newer_than_the_code_is_left_alone(new_url: str) -> None:
    async with Conversations(new_url) as store, store.database.engine.begin() as connection:
        await connection.execute(text("UPDATE conversations_version SET version_num = '9999'"))

    with pytest.raises(StoreSetupError, match=r"newer than this version of tailrace .*9999"):
        await Conversations(new_url).open()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "chat.db",
        "s3cret",
        "mysql://root:s3cret@host/db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite://host/chat.db",
        "sqlite:///chat.db?mode=ro",
        "postgresql://ada:s3cret@host:port/db",
        "postgresql://ada:s3cret@host/db?passfile=x",
    ],
)
def test_a_url_that_cannot_be_used_is_told_without_its_password(url: str) -> None:
    with pytest.raises(StoreSetupError) as told:
        Conversations(url)

    assert "s3cret" not in str(told.value)


async def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreSetupError, match="does not exist"):
        await Conversations(f"sqlite:///{tmp_path / 'nowhere' / 'chat.db'}").open()


async def test_a_file_that_is_no_database_is_told_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes, and many of them\n" * 100, encoding="utf-8")

    with pytest.raises(StoreSetupError, match="is no SQLite database"):
        await Conversations(f"sqlite:///{path}").open()

    assert path.read_text(encoding="utf-8").startswith("my notes")


async def test_a_path_may_have_any_characters(tmp_path: Path) -> None:
    path = tmp_path / "my chat #1 100% é.db"

    async with Conversations(f"sqlite:///{path}") as store:
        await talk(store, "Hello", "r1", "Hi")

    assert path.exists()


async def test_a_locked_file_is_unavailable_and_then_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.chat.conversations.database._LOCK_SECONDS", 0.05)
    async with Conversations(f"sqlite:///{tmp_path / 'chat.db'}") as store:
        await talk(store, "Hello", "r1", "Hi")
        with closing(sqlite3.connect(tmp_path / "chat.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(ConversationsUnavailableError) as refused:
                await ask(store, "Two", "r2")
            # Readers go on.
            assert texts(await store.messages("c1", ADA.owner)) == ["Hello", "Hi"]
            other.execute("ROLLBACK")

        assert (refused.value.status, refused.value.retry_after_seconds) == (503, 2)
        await ask(store, "Two", "r2")


async def test_a_locked_file_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.chat.conversations.database._LOCK_SECONDS", 0.05)
    with closing(sqlite3.connect(tmp_path / "chat.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        other.execute("CREATE TABLE t (x)")

        with pytest.raises(StoreSetupError, match="is locked by another program"):
            await Conversations(f"sqlite:///{tmp_path / 'chat.db'}").open()


async def test_whoever_is_cancelled_leaves_the_store_usable(new_url: str) -> None:
    async with Conversations(new_url, connections=2) as store:
        for n in range(30):
            task = asyncio.create_task(ask(store, "Hello", f"r{n}"))
            for _ in range(n):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        await ask(store, "Hello", "last")
        tree = (await store.get(ADA.owner, "c1", tree=True)).messages
        assert len(tree) % 2 == 0


async def test_a_write_that_is_cancelled_at_any_statement_keeps_no_lock(
    new_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.chat.conversations.database._LOCK_SECONDS", 0.5)
    loop = asyncio.get_running_loop()
    # With their tracebacks, which hold on to what was going on.
    cancelled: list[object] = []
    async with Conversations(new_url) as store:
        for statement in range(10):
            task = asyncio.create_task(ask(store, "Hello", f"r{statement}", thread=f"c{statement}"))
            count = itertools.count()

            def cancel(
                *_: object,
                at: int = statement,
                count: Iterator[int] = count,
                task: "asyncio.Task[BegunTurn]" = task,
            ) -> None:
                if next(count) == at:
                    # As soon as it waits for the thread, or the server.
                    loop.call_soon(task.cancel)

            event.listen(store.database.engine.sync_engine, "before_cursor_execute", cancel)
            cancelled.extend(await asyncio.gather(task, return_exceptions=True))
            event.remove(store.database.engine.sync_engine, "before_cursor_execute", cancel)
            await ask(store, "Hello", f"after{statement}")
    assert all(isinstance(each, asyncio.CancelledError) for each in cancelled)


@pytest.mark.postgres
async def test_a_server_that_says_nothing_is_waited_for_within_bounds(postgres: PostgresServer) -> None:
    async with Conversations(await postgres.create_database(), connections=2, timeout_seconds=0.25) as store:
        await talk(store, "Hello", "r1", "Hi")
        thaw = await postgres.freeze()
        try:
            async with asyncio.timeout(20):
                for attempt in (ask(store, "Two", "r2"), store.get(ADA.owner, "c1")):
                    with pytest.raises(ConversationsUnavailableError):
                        await attempt
        finally:
            thaw()

        assert texts((await ask(store, "Two", "r3")).history) == ["Hello", "Hi"]


@pytest.mark.postgres
async def test_a_server_that_says_nothing_holds_up_no_shutdown(postgres: PostgresServer) -> None:
    async with Conversations(await postgres.create_database()) as store:
        await talk(store, "Hello", "r1", "Hi")
        thaw = await postgres.freeze()
        try:
            async with asyncio.timeout(20):
                await store.aclose()
        finally:
            thaw()


@pytest.mark.postgres
async def test_a_wrong_password_is_told_without_it(postgres: PostgresServer) -> None:
    with pytest.raises(StoreSetupError, match="refuses the user or the password") as told:
        await Conversations(postgres.url(password="s3cret")).open()

    assert "s3cret" not in str(told.value)
    assert told.value.__cause__ is None


@pytest.mark.postgres
async def test_a_database_that_is_not_there_is_told(postgres: PostgresServer) -> None:
    with pytest.raises(StoreSetupError, match="has no such database"):
        await Conversations(postgres.url("nowhere")).open()


@pytest.mark.postgres
async def test_a_server_that_stops_is_unavailable_until_it_is_back(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with Conversations(await postgres.create_database()) as store:
        await talk(store, "Hello", "r1", "Hi")
        with postgres.stopped():
            # The connection that was open, and then a new one.
            with pytest.raises(ConversationsUnavailableError):
                await ask(store, "My secret", "r2")
            with pytest.raises(ConversationsUnavailableError) as refused:
                await ask(store, "My secret", "r2")
            with pytest.raises(StoreSetupError, match="does not answer"):
                await Conversations(postgres.url()).open()

        begun = await ask(store, "My secret", "r2")

    assert texts(begun.history) == ["Hello", "Hi"]
    assert str(refused.value) == "The conversations are unavailable."
    assert "secret" not in caplog.text
    assert PASSWORD not in caplog.text


@pytest.mark.postgres
async def test_what_was_answered_outlives_a_restart_in_the_middle(postgres: PostgresServer) -> None:
    async with Conversations(await postgres.create_database()) as store:
        written: list[str] = []
        enough = asyncio.Event()

        async def write(name: str) -> None:
            for n in itertools.count():
                try:
                    await ask(store, "Hello", f"{name}{n}", thread=f"{name}{n}")
                except ConversationsUnavailableError:
                    return
                written.append(f"{name}{n}")
                if len(written) == 10:
                    enough.set()

        async with asyncio.TaskGroup() as writers:
            for name in "abc":
                writers.create_task(write(name))
            await enough.wait()
            await asyncio.to_thread(postgres.stop)
        await asyncio.to_thread(postgres.start)

        for name in written:
            assert (await store.get(ADA.owner, name)).messages[1].status == "running"
