"""A real Redis for the tests that need one."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_program(require_program: Callable[..., str]) -> str:
    return require_program("redis-server", "valkey-server")


@pytest.fixture(scope="session")
def shared_redis(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(redis_program, tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(shared_redis: RedisServer) -> RedisServer:
    """An empty server, for a test that leaves it as it was but for its keys."""
    shared_redis.ask("FLUSHALL")
    return shared_redis


@pytest.fixture
def start_redis(redis_program: str, tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Start a server with lines of redis.conf, for this test alone."""
    numbers = itertools.count()
    with ExitStack() as servers:
        yield lambda *config: servers.enter_context(
            RedisServer(redis_program, tmp_path / f"redis-{next(numbers)}", *config)
        )
