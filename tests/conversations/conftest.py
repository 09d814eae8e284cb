"""Conversations in each database there is, with a clock that a test moves."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import pytest_asyncio

from tailrace.chat.conversations.store import Conversations
from tailrace.chat.conversations.tables import METADATA
from tailrace.testing import FakeClock
from tests.missing import missing
from tests.postgres_server import PostgresServer, postgres_programs

#: Opens the database of a test once more, as another worker would, with other arguments than the usual.
OpenWorker: TypeAlias = Callable[..., Any]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for all tests, which take a database each; a test that stops it starts it again."""
    programs = postgres_programs()
    if programs is None:
        missing("not installed: PostgreSQL (initdb and postgres)")
    with PostgresServer(programs) as server:
        yield server


@pytest.fixture(scope="session")
def shared_database(postgres: PostgresServer) -> str:
    """To make one takes longer than most tests; this one is emptied for each."""
    return asyncio.run(_migrated(postgres))


async def _migrated(postgres: PostgresServer) -> str:
    url = await postgres.create_database()
    async with Conversations(url):
        return url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database without rows."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'chat.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    shared: str = request.getfixturevalue("shared_database")
    names = ", ".join(METADATA.tables)
    asyncio.run(server.ask(f"TRUNCATE {names}", database=shared.rpartition("/")[2]))
    return shared


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture
async def open_worker(url: str, clock: FakeClock) -> AsyncGenerator[OpenWorker]:
    async with AsyncExitStack() as workers:

        async def open_one(**options: Any) -> Conversations:  # noqa: ANN401  those of `Conversations`
            return await workers.enter_async_context(Conversations(url, clock=clock, **options))

        yield open_one


@pytest_asyncio.fixture
async def store(open_worker: OpenWorker) -> Conversations:
    """Opened."""
    worker: Conversations = await open_worker()
    return worker
