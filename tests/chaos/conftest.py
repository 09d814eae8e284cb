"""Stores, clients and figures of the chaos suite."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import httpx2
import pytest

from tests.chaos.figures import Figures, scenario_of
from tests.chaos.rounds import ROUNDS
from tests.redis_server import RedisServer

_FOLDER = "tests/chaos/"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if ROUNDS > 1:
        metafunc.fixturenames.append("chaos_round")
        metafunc.parametrize("chaos_round", range(1, ROUNDS + 1), ids=lambda number: f"round{number}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed, failed, broken = (_reports(terminalreporter, outcome) for outcome in ("passed", "failed", "error"))
    if passed or failed or broken:
        figures = Figures()
        for report in (*passed, *failed, *broken):
            for name, value in report.user_properties:
                figures.note(scenario_of(report.nodeid), name, cast("float", value))
        terminalreporter.section("chaos")
        for line in figures.table(_scenarios(passed), _scenarios([*failed, *broken])):
            terminalreporter.write_line(line)


def _reports(terminalreporter: pytest.TerminalReporter, outcome: str) -> list[pytest.TestReport]:
    reports = cast("list[pytest.TestReport]", terminalreporter.stats.get(outcome, []))
    return [report for report in reports if report.nodeid.startswith(_FOLDER)]


def _scenarios(reports: list[pytest.TestReport]) -> list[str]:
    return [scenario_of(report.nodeid) for report in reports]


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str, float], None]:
    """Note a number for the table at the end: added up, or shown as a range if its name begins with `seconds`."""
    return record_property


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    """Patient with a silent stream, as a stream may be silent; impatient with a connection."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    timeout = httpx2.Timeout(20.0)
    async with httpx2.AsyncClient(limits=limits, timeout=timeout, trust_env=False) as made:
        yield made


@pytest.fixture
def start_redis(require_program: Callable[..., str], tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Start a server with lines of redis.conf, for this test alone; without any it keeps nothing when it is killed."""
    program = require_program("redis-server", "valkey-server")
    numbers = itertools.count()
    with ExitStack() as servers:
        yield lambda *config: servers.enter_context(RedisServer(program, tmp_path / f"redis-{next(numbers)}", *config))


@pytest.fixture(params=["off", "everysec"])
def persistence(request: pytest.FixtureRequest) -> str:
    """When Redis writes its append-only file."""
    return str(request.param)


@pytest.fixture
def redis_server(persistence: str, start_redis: Callable[..., RedisServer]) -> RedisServer:
    """A Redis of the test's own, which keeps nothing or a log of its own when it is killed."""
    return start_redis(*(() if persistence == "off" else ("appendonly yes", f"appendfsync {persistence}")))


@pytest.fixture
def forgetful_redis(start_redis: Callable[..., RedisServer]) -> RedisServer:
    """A Redis that has nothing when it comes back."""
    return start_redis()


@pytest.fixture(params=["redis", "sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of each store that processes can share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'runs.db'}"
    server: RedisServer = request.getfixturevalue("forgetful_redis")
    return server.url
