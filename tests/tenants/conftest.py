"""One deployment for all tests of this folder; each test has users of its own."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Iterator

import httpx2
import pytest
import pytest_asyncio

from tests.missing import missing
from tests.postgres_server import PostgresServer, postgres_programs
from tests.redis_server import RedisServer
from tests.tenants.people import User
from tests.tenants.site import Gates, Site, Worker

_tenants = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    programs = postgres_programs()
    if programs is None:
        missing("not installed: PostgreSQL (initdb and postgres)")
    with PostgresServer(programs) as server:
        yield server


@pytest.fixture(scope="session")
def site(
    require_program: Callable[..., str], postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """With an empty database and an empty store."""
    program = require_program("redis-server", "valkey-server")
    with RedisServer(program, tmp_path_factory.mktemp("redis")) as redis, Gates() as gates:
        yield Site(store=redis.url, database=asyncio.run(postgres.create_database()), gates=gates)


@pytest.fixture(scope="session")
def workers(site: Site) -> Iterator[list[Worker]]:
    """Two that nobody kills."""
    with site.workers(2) as started:
        yield started


@pytest.fixture
def ann() -> User:
    """Of a tenant of this test."""
    return User(f"tenant-{next(_tenants)}", "ann")


@pytest.fixture
def bob(ann: User) -> User:
    """Of the same tenant."""
    return User(ann.tenant, "bob")


@pytest.fixture
def rival() -> User:
    """Of another tenant, with the name of the first user."""
    return User(f"tenant-{next(_tenants)}", "ann")


@pytest_asyncio.fixture
async def client() -> AsyncGenerator[httpx2.AsyncClient]:
    """Patient with a silent stream, as a stream may be silent."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx2.AsyncClient(limits=limits, timeout=httpx2.Timeout(30.0), trust_env=False) as made:
        yield made
