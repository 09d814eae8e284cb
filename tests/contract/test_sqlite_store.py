"""What the SQLite store promises beyond the contract: about processes that are killed, and files that are no good."""

import asyncio
import contextlib
import os
import sqlite3
import sys
import threading
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from pathlib import Path
from typing import Any, Literal

import pytest

import tailrace
from tailrace.errors import RunNotFoundError, StoreSetupError, StoreUnavailableError
from tailrace.stores.contract import OPEN, Ack, Batch, Lease, RunStore, Write
from tailrace.stores.sqlite import SqliteStore
from tailrace.testing import FakeClock
from tailrace.testing.store_suite.calls import Inbox, following, opened, produce
from tests.contract import sqlite_worker

PATIENCE_SECONDS = 30.0
RETENTION_SECONDS = 60.0
LIVE_SECONDS = 600.0
DONE = 1
LOCKED_SECONDS = 0.05

#: As it is before a test replaces it for the store.
connect = sqlite3.connect


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@contextlib.asynccontextmanager
async def worker(task: Callable[[str], Awaitable[None]], path: Path) -> AsyncGenerator[Process]:
    """Another process on the store, which is killed at the end if it still runs."""
    environment = {**os.environ, "PYTHONPATH": str(Path(tailrace.__file__).parents[1])}
    process = await asyncio.create_subprocess_exec(
        sys.executable, sqlite_worker.__file__, task.__name__, str(path), stdin=PIPE, stdout=PIPE, env=environment
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def line(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        return (await process.stdout.readline()).decode().strip()


async def tell(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"go\n")
    await process.stdin.drain()


async def begin(store: RunStore, run_id: str = "run") -> Lease:
    lease = await store.create(run_id, owner=None, thread=None, fingerprint=b"")
    assert lease is not None
    return lease


async def append(store: RunStore, lease: Lease, first: int, *records: bytes, final: int = OPEN) -> object:
    (answer,) = await store.commit([Write(lease, first, records, final)])
    return answer


async def records_of(store: RunStore, run_id: str) -> list[bytes]:
    return list((await store.read(run_id, 0, limit=1_000_000)).records)


@contextlib.contextmanager
def connected(path: Path) -> Generator[sqlite3.Connection]:
    """A look at the file from beside the store."""
    with contextlib.closing(connect(path, isolation_level=None)) as db:
        yield db


async def counted(path: Path, query: str, count: int) -> bool:
    """Wait until a query counts so many rows; False if that takes too long."""
    return await asyncio.to_thread(watch, path, query, count)


def watch(path: Path, query: str, count: int) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    with connected(path) as db:
        while db.execute(query).fetchone() != (count,):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
    return True


# Several processes ---------------------------------------------------------------------------------------------------


async def test_a_killed_writer_loses_nothing_that_was_acknowledged(path: Path) -> None:
    async with worker(sqlite_worker.write_for_ever, path) as process:
        assert await line(process) == "begun"
        acknowledged = 0
        while acknowledged < 100 * sqlite_worker.BATCH:
            acknowledged = int(await line(process))
        process.kill()
        while said := await line(process):
            acknowledged = int(said)

    async with opened(SqliteStore(path)) as store:
        found = await records_of(store, sqlite_worker.RUN)
        with connected(path) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert len(found) >= acknowledged
        assert found == [sqlite_worker.record(seq) for seq in range(1, len(found) + 1)]
        assert await store.seal(await store.info(sqlite_worker.RUN), b"end", DONE)
        assert await records_of(store, sqlite_worker.RUN) == [*found, b"end"]


async def test_a_run_of_one_process_is_followed_in_another(path: Path) -> None:
    async with worker(sqlite_worker.write_a_run, path) as process:
        assert await line(process) == "begun"
        async with opened(SqliteStore(path)) as store, following(store, sqlite_worker.RUN) as followed:
            await tell(process)

            log = await followed

    assert log == [sqlite_worker.record(seq) for seq in range(1, sqlite_worker.BATCH * sqlite_worker.BATCHES + 1)]


async def test_a_cancel_crosses_processes(path: Path) -> None:
    async with worker(sqlite_worker.write_until_cancelled, path) as process, opened(SqliteStore(path)) as store:
        assert [await line(process) for _ in range(2)] == ["begun", "following"]

        assert await store.cancel(sqlite_worker.RUN, "user")

        assert await line(process) == "user"


async def test_a_signal_crosses_processes(path: Path) -> None:
    async with worker(sqlite_worker.listen, path) as process, opened(SqliteStore(path)) as store:
        assert await line(process) == "listening"
        said = asyncio.create_task(line(process))

        while not said.done():
            await store.signal("other topic", "wrong")
            await store.signal("topic", "right")
            await asyncio.wait({said}, timeout=0.2)

        assert await said == "right"


async def test_of_many_processes_that_create_a_run_one_gets_the_lease(path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(worker(sqlite_worker.create, path)) for _ in range(4)]
        assert [await line(process) for process in processes] == ["ready"] * 4

        for process in processes:
            await tell(process)
        begun = [run_id for process in processes for run_id in (await line(process)).split()]

    assert sorted(begun) == sorted(f"run-{number}" for number in range(sqlite_worker.CREATED_RUNS))


# Locks and full disks ------------------------------------------------------------------------------------------------


async def test_a_write_waits_for_a_lock(path: Path) -> None:
    async with opened(SqliteStore(path)) as store:
        lease = await begin(store)
        with connected(path) as db:
            db.execute("BEGIN IMMEDIATE")
            write = asyncio.create_task(append(store, lease, 1, b"a"))
            # What is read does not wait.
            assert await records_of(store, "run") == []
            assert not write.done()
            db.execute("COMMIT")

        assert await write == Ack(1)


async def test_a_lock_that_stays_makes_the_store_unavailable_and_the_write_may_be_repeated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.stores.sqlite.file._BUSY_SECONDS", LOCKED_SECONDS)
    async with opened(SqliteStore(path)) as store:
        lease = await begin(store)
        with connected(path) as db:
            db.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailableError, match="locked"):
                await append(store, lease, 1, b"a")
            db.execute("COMMIT")

        assert await append(store, lease, 1, b"a") == Ack(1)
        assert await records_of(store, "run") == [b"a"]


async def test_a_file_that_stays_locked_cannot_be_opened_now_and_can_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.stores.sqlite.file._BUSY_SECONDS", LOCKED_SECONDS)
    store = SqliteStore(path)
    with connected(path) as db:
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailableError, match="locked"):
            await store.open()
        db.execute("COMMIT")

    async with opened(store):
        await begin(store)


async def test_a_switch_that_another_worker_makes_at_the_same_time_is_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = sqlite3.OperationalError("database is locked")
    refused.sqlite_errorcode = sqlite3.SQLITE_BUSY
    refusals = [refused, refused]

    class Refusing(sqlite3.Connection):
        def execute(self, sql: str, /, *parameters: Any) -> sqlite3.Cursor:  # noqa: ANN401  as it is there
            if "journal_mode" in sql and refusals:
                raise refusals.pop()
            return super().execute(sql, *parameters)

    monkeypatch.setattr("sqlite3.connect", connecting(factory=Refusing))
    async with opened(SqliteStore(path)) as store:
        await begin(store)

    assert refusals == []


async def test_what_its_caller_has_given_up_is_not_begun(path: Path) -> None:
    async with opened(SqliteStore(path)) as store:
        with connected(path) as db:
            db.execute("BEGIN IMMEDIATE")
            given_up = asyncio.create_task(begin(store, "given up"))
            await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.wait({given_up})
            db.execute("COMMIT")

        await begin(store)

        assert await store.active() == ["run"]


async def test_a_full_disk_makes_the_store_unavailable_and_loses_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sqlite3.connect", connecting("PRAGMA max_page_count = 64"))
        async with opened(SqliteStore(path)) as store:
            lease = await begin(store)
            acknowledged = await fill(store, lease)
            with pytest.raises(StoreUnavailableError, match="full"):
                await append(store, lease, acknowledged + 1, b"x" * 5_000)
            assert await append(store, lease, acknowledged + 1) == Ack(acknowledged)

    async with opened(SqliteStore(path)) as store:
        assert acknowledged > 10
        assert await records_of(store, "run") == [b"x" * 5_000] * acknowledged
        assert await append(store, lease, acknowledged + 1, b"x" * 5_000) == Ack(acknowledged + 1)
        assert len(await records_of(store, "run")) == acknowledged + 1


async def fill(store: RunStore, lease: Lease) -> int:
    """Append until the store cannot; how much it acknowledged."""
    acknowledged = 0
    with contextlib.suppress(StoreUnavailableError):
        while await append(store, lease, acknowledged + 1, b"x" * 5_000) == Ack(acknowledged + 1):
            acknowledged += 1
    return acknowledged


def connecting(
    statement: str = "",
    *,
    trace: Callable[[str], None] | None = None,
    uri: str = "file:{}",
    factory: type[sqlite3.Connection] = sqlite3.Connection,
) -> Callable[..., sqlite3.Connection]:
    """An `sqlite3.connect` whose connections are a little different."""

    def connecting(database: Path, *, timeout: float, isolation_level: None) -> sqlite3.Connection:
        db = connect(uri.format(database), uri=True, timeout=timeout, isolation_level=isolation_level, factory=factory)
        db.execute(statement)
        db.set_trace_callback(trace)
        return db

    return connecting


# Files that cannot be used -------------------------------------------------------------------------------------------


async def refusal(path: Path) -> str:
    """What the store says of a file, in which it changes nothing."""
    before = content_of(path)
    with pytest.raises(StoreSetupError) as caught:
        await SqliteStore(path).open()
    assert content_of(path) == before
    return str(caught.value)


def content_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


async def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    assert await refusal(tmp_path / "missing" / "runs.db") == (
        f"the directory of {tmp_path / 'missing' / 'runs.db'} does not exist"
    )


async def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    long = tmp_path / ("long" * 100)
    for path in (long, long / "runs.db"):
        with pytest.raises(StoreSetupError, match="cannot be opened: File name too long"):
            await SqliteStore(path).open()


async def test_a_path_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    assert "cannot be opened" in await refusal(tmp_path)


async def test_a_database_in_memory_is_refused() -> None:
    assert "memory://" in await refusal(Path(":memory:"))


@pytest.fixture(params=[b"x", b"text", b"not a database\n" * 1_000], ids=["1 byte", "4 bytes", "15000 bytes"])
def text_file(request: pytest.FixtureRequest, path: Path) -> Path:
    path.write_bytes(request.param)
    return path


async def test_a_file_that_is_no_database_is_refused(text_file: Path) -> None:
    assert "is no SQLite database" in await refusal(text_file)


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE run (id INTEGER PRIMARY KEY)"],
        ["CREATE TABLE anything (id INTEGER PRIMARY KEY)", "PRAGMA journal_mode = WAL"],
        ["PRAGMA application_id = 7"],
        ["PRAGMA user_version = 1"],
    ],
)
async def test_the_database_of_another_application_is_refused(path: Path, statements: list[str]) -> None:
    with connected(path) as db:
        for statement in statements:
            db.execute(statement)

    assert "another application" in await refusal(path)


async def test_a_file_of_another_format_is_refused(path: Path) -> None:
    async with opened(SqliteStore(path)):
        pass
    with connected(path) as db:
        db.execute("PRAGMA user_version = 99")

    assert "format 99" in await refusal(path)


async def test_a_file_that_cannot_be_written_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(SqliteStore(path)):
        pass
    # File modes would not do: the superuser may write whatever they say.
    monkeypatch.setattr("sqlite3.connect", connecting(uri="file:{}?mode=ro"))

    assert "cannot be written" in await refusal(path)


@pytest.mark.skipif(sys.platform == "win32", reason="the kind of locks is chosen by a name that Unix has")
async def test_a_file_system_that_cannot_share_memory_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlite3.connect", connecting(uri="file:{}?vfs=unix-dotfile"))

    with pytest.raises(StoreSetupError, match="local disk"):
        await SqliteStore(path).open()


# Opening and closing -------------------------------------------------------------------------------------------------


async def test_a_store_that_is_not_open_is_unavailable(path: Path) -> None:
    store = SqliteStore(path)
    with pytest.raises(StoreUnavailableError, match="not open"):
        await begin(store)
    await store.aclose()

    await store.open()
    lease = await begin(store)
    await store.aclose()
    await store.aclose()

    for call in (store.info("run"), append(store, lease, 1, b"a"), store.secret(), store.signal("topic", "text")):
        with pytest.raises(StoreUnavailableError, match="not open"):
            await call


async def test_opening_twice_is_opening_once(path: Path) -> None:
    store = SqliteStore(path)

    await asyncio.gather(store.open(), store.open())

    assert store_threads() == ["tailrace-sqlite-reader", "tailrace-sqlite-writer"]
    await store.aclose()


async def test_closing_leaves_no_thread_and_no_file_but_the_database(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await begin(store)
    store.subscribe("run", lambda _: None)

    await store.aclose()

    assert store_threads() == []
    assert files_beside(path) == [path]


def store_threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if "sqlite" in thread.name)


def files_beside(path: Path) -> list[Path]:
    return list(path.parent.iterdir())


async def test_what_was_handed_over_before_the_close_is_written(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    lease = await begin(store)
    writes = [asyncio.create_task(append(store, lease, seq, b"%d" % seq)) for seq in range(1, 101)]
    await asyncio.sleep(0)

    await store.aclose()

    assert await asyncio.gather(*writes) == [Ack(seq) for seq in range(1, 101)]
    async with opened(SqliteStore(path)) as again:
        assert len(await records_of(again, "run")) == 100


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_has_failed_is_no_hang(path: Path) -> None:
    def no_time() -> int:
        raise OverflowError("the end of time")

    async with opened(SqliteStore(path, time_ms=no_time)) as store:
        with pytest.raises(StoreUnavailableError, match="not open"):
            await begin(store)


# Threads and transactions --------------------------------------------------------------------------------------------


async def test_what_waits_for_the_writer_goes_in_one_transaction(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, begun = asyncio.get_running_loop(), asyncio.Event()
    statements: list[str] = []

    def trace(statement: str) -> None:
        statements.append(statement)
        if statement == "BEGIN IMMEDIATE":
            loop.call_soon_threadsafe(begun.set)

    monkeypatch.setattr("sqlite3.connect", connecting(trace=trace))
    async with opened(SqliteStore(path)) as store:
        leases = [await begin(store, f"run-{number}") for number in range(20)]
        with connected(path) as db:
            db.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(0)
            begun.clear()
            first = asyncio.create_task(append(store, leases[0], 1, b"a"))
            await begun.wait()
            others = [asyncio.create_task(append(store, lease, 1, b"a")) for lease in leases[1:]]
            await asyncio.sleep(0)
            statements.clear()
            db.execute("COMMIT")

        await asyncio.gather(first, *others)

        assert statements.count("COMMIT") == 2


async def test_what_one_caller_may_not_do_leaves_the_others_alone(path: Path) -> None:
    unwritable = "\ud800"
    async with opened(SqliteStore(path)) as store:
        calls = [store.create(text, owner=None, thread=None, fingerprint=b"") for text in ("a", unwritable, "b")]

        outcomes = await asyncio.gather(*calls, store.cancel("nowhere", "user"), return_exceptions=True)

        assert [type(outcome) for outcome in outcomes] == [Lease, UnicodeEncodeError, Lease, RunNotFoundError]
        assert await store.active() == ["b", "a"]


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
async def test_the_disk_is_asked_as_often_as_was_said(
    path: Path, monkeypatch: pytest.MonkeyPatch, synchronous: Literal["NORMAL", "FULL"]
) -> None:
    statements: list[str] = []
    monkeypatch.setattr("sqlite3.connect", connecting(trace=statements.append))

    async with opened(SqliteStore(path, synchronous=synchronous)):
        pass

    assert f"PRAGMA synchronous = {synchronous}" in statements


async def test_hints_of_another_worker_carry_no_more_than_a_bound(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.stores.sqlite.tail._CARRIED_BYTES", 0)
    monkeypatch.setattr("tailrace.stores.sqlite.tail._ROWS", 3)
    async with opened(SqliteStore(path)) as here, opened(SqliteStore(path)) as there:
        lease = await begin(here)
        hints = Inbox[Batch | None]()
        there.subscribe("run", hints)
        async with following(there, "run") as followed:
            log = await produce(here, lease, batches=50)

            assert await followed == log
        assert None in hints.items


async def test_what_a_worker_wrote_itself_is_hinted_at_once(path: Path) -> None:
    async with opened(SqliteStore(path)) as here, opened(SqliteStore(path)) as there:
        lease = await begin(here)
        hints = Inbox[Batch | None]()
        here.subscribe("run", hints)
        await here.info("run")

        await append(here, lease, 1, b"here")
        await append(there, lease, 2, b"there")
        while len(hints.items) < 2:
            await hints.told(PATIENCE_SECONDS)

        assert hints.items == [Batch(1, (b"here",), OPEN), Batch(2, [b"there"], OPEN)]


async def test_many_writes_of_another_worker_are_hinted_at_one_by_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.stores.sqlite.tail._ROWS", 3)
    async with opened(SqliteStore(path)) as here, opened(SqliteStore(path)) as there:
        lease = await begin(here)
        hints = Inbox[Batch | None]()
        there.subscribe("run", hints)
        await there.info("run")

        await here.commit([Write(lease, seq, [b"%d" % seq]) for seq in range(1, 21)])
        while len(hints.items) < 20:
            await hints.told(PATIENCE_SECONDS)

        assert hints.items == [Batch(seq, [b"%d" % seq], OPEN) for seq in range(1, 21)]


# What is removed -----------------------------------------------------------------------------------------------------


def swept_store(path: Path, clock: FakeClock) -> SqliteStore:
    return SqliteStore(
        path,
        retention_seconds=RETENTION_SECONDS,
        live_seconds=LIVE_SECONDS,
        sweep_seconds=0.01,
        time_ms=clock.time_ms,
    )


async def test_a_run_nobody_writes_to_is_gone_after_a_while(path: Path, clock: FakeClock) -> None:
    async with opened(swept_store(path, clock)) as store:
        lease = await begin(store)
        clock.advance(LIVE_SECONDS - 1)
        await append(store, lease, 1)
        clock.advance(LIVE_SECONDS - 1)
        kept = await store.active()

        clock.advance(1)

        assert kept == ["run"]
        assert await store.active() == []
        with pytest.raises(RunNotFoundError):
            await store.info("run")
        assert await counted(path, "SELECT count(*) FROM run", 0)
        assert isinstance(await append(store, lease, 1), RunNotFoundError)


async def test_what_has_expired_leaves_the_file(path: Path, clock: FakeClock) -> None:
    async with opened(swept_store(path, clock)) as store:
        kept = await begin(store, "kept")
        await append(store, kept, 1, b"a")
        for number in range(10):
            lease = await begin(store, f"run-{number}")
            await append(store, lease, 1, b"a")
            await append(store, lease, 2, b"end", final=DONE)
            await store.compact(f"run-{number}", b"block")
        await store.signal("topic", "text")
        clock.advance(RETENTION_SECONDS)

        assert await counted(path, "SELECT count(*) FROM run", 1)
        assert await counted(path, "SELECT count(*) FROM log", 1)
        assert await counted(path, "SELECT count(*) FROM block", 0)
        assert await counted(path, "SELECT count(*) FROM signal", 0)

        assert await records_of(store, "kept") == [b"a"]


async def test_the_records_of_a_compacted_or_purged_run_leave_the_file(path: Path, clock: FakeClock) -> None:
    async with opened(swept_store(path, clock)) as store:
        for run_id in ("compacted", "purged", "kept"):
            lease = await begin(store, run_id)
            for seq in range(1, 11):
                await append(store, lease, seq, b"a", final=DONE if seq == 10 else OPEN)
        await store.compact("compacted", b"block")
        await store.purge("purged")
        await store.signal("topic", "text")

        clock.advance(1)
        assert await counted(path, "SELECT count(*) FROM log", 10)
        assert await counted(path, "SELECT count(*) FROM signal WHERE topic IS NOT NULL", 1)

        assert (await store.read("compacted", 0, limit=1)).block == b"block"
        assert await records_of(store, "kept") == [b"a"] * 10


async def test_hints_come_after_all_records_have_left_the_file(path: Path, clock: FakeClock) -> None:
    async with opened(swept_store(path, clock)) as here, opened(swept_store(path, clock)) as there:
        old, new = await begin(here, "old"), await begin(here, "new")
        for seq in range(1, 6):
            await append(here, old, seq, b"a")
        hints = Inbox[Batch | None]()
        there.subscribe("new", hints)
        await there.info("new")
        await here.purge("old")
        clock.advance(1)
        assert await counted(path, "SELECT count(*) FROM log", 0)

        await append(here, new, 1, b"a")

        await hints.filled()
        assert hints.items == [Batch(1, [b"a"], OPEN)]


async def test_of_many_workers_one_sweeps(path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: list[str] = []
    monkeypatch.setattr("sqlite3.connect", connecting(trace=statements.append))
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(opened(SqliteStore(path, sweep_seconds=3_600, time_ms=clock.time_ms)))

    assert sum("FROM run WHERE id >" in statement for statement in statements) == 1


# Notes ---------------------------------------------------------------------------------------------------------------


async def test_a_file_from_before_there_were_notes_is_given_them(path: Path) -> None:
    async with opened(SqliteStore(path)) as store:
        await store.create("run", owner="ada", thread=None, fingerprint=b"")
    with contextlib.closing(connect(path)) as db:
        db.execute("DROP TRIGGER notes_go_with_run")
        db.execute("DROP TABLE note")

    async with opened(SqliteStore(path)) as store:
        assert await store.put_note("run", "note", b"text", live_seconds=60, most=1)
        assert await store.take_note("run", "note") == b"text"


async def test_a_note_outlives_its_process_and_not_its_run(path: Path) -> None:
    async with opened(SqliteStore(path)) as store:
        for run_id in ("kept", "purged"):
            await store.create(run_id, owner="ada", thread=None, fingerprint=b"")
            await store.put_note(run_id, "note", b"text", live_seconds=60, most=1)

    async with opened(SqliteStore(path)) as store:
        await store.purge("purged")

        assert await store.take_note("kept", "note") == b"text"
    with contextlib.closing(connect(path)) as db:
        assert db.execute("SELECT count(*) FROM note").fetchone() == (0,)
