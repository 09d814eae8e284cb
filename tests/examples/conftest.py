"""What the tests of examples share: a Redis."""

from collections.abc import Callable, Iterator

import pytest

from tests.redis_server import RedisServer


@pytest.fixture(scope="module")
def redis_url(require_program: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server that the programs of the module share."""
    program = require_program("redis-server", "valkey-server")
    with RedisServer(program, tmp_path_factory.mktemp("redis")) as server:
        yield server.url
