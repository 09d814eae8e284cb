"""Stores, clients and figures of the chaos suite. `CHAOS_ROUNDS` says how often each test is repeated."""

import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.redis_server import RedisServer

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))
_FIGURES: dict[str, list[float]] = defaultdict(list)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if ROUNDS > 1:
        metafunc.fixturenames.append("chaos_round")
        metafunc.parametrize("chaos_round", range(1, ROUNDS + 1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _FIGURES:
        told = (f"{name} {_told(values)}" for name, values in sorted(_FIGURES.items()))
        terminalreporter.write_line(f"chaos: rounds {ROUNDS}; {'; '.join(told)}")


def _told(values: list[float]) -> str:
    if all(float(value).is_integer() for value in values):
        return f"{sum(values):.0f}"
    return f"{min(values):.2f}-{max(values):.2f} (n={len(values)})"


@pytest.fixture
def figure() -> Callable[[str, float], None]:
    """Note a number for the line at the end: whole ones are added up, of others the least and the most are shown."""
    return lambda name, value: _FIGURES[name].append(value)


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    """Patient with a silent stream, as a stream may be silent; impatient with a connection."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    timeout = httpx2.Timeout(20.0)
    async with httpx2.AsyncClient(limits=limits, timeout=timeout, trust_env=False) as made:
        yield made


@pytest.fixture(params=["off", "everysec"])
def persistence(request: pytest.FixtureRequest) -> str:
    """When Redis writes its append-only file."""
    return str(request.param)


@pytest.fixture
def redis_server(persistence: str, require_program: Callable[..., str], tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, which keeps nothing or a log of its own when it is killed."""
    config = () if persistence == "off" else ("appendonly yes", f"appendfsync {persistence}")
    with RedisServer(_redis_program(require_program), tmp_path / "redis", *config) as server:
        yield server


@pytest.fixture
def forgetful_redis(require_program: Callable[..., str], tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that has nothing when it comes back."""
    with RedisServer(_redis_program(require_program), tmp_path / "redis") as server:
        yield server


@pytest.fixture(params=["redis", "sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of each store that processes can share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'runs.db'}"
    server: RedisServer = request.getfixturevalue("forgetful_redis")
    return server.url


def _redis_program(require_program: Callable[..., str]) -> str:
    return require_program("redis-server", "valkey-server")
