"""Each of our clients passes the language-neutral cases of `spec/conformance/client.yaml`.

The scripts are played by a server on plain sockets, on a thread of its own; what it saw decides, beside what the
clients say.
"""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.conformance.client_cases import CASES, Case
from tests.conformance.client_cases import check as check_case
from tests.conformance.drivers import DRIVERS, Driver
from tests.conformance.scripted_server import Play, ScriptedServer

#: Groups that a harness tests itself; see `test_client_load.py`.
_BY_HARNESS = {"C13", "C17"}
_LOOK_SECONDS = 0.005


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture(scope="module")
def driver_of(require_program: Callable[..., str]) -> Iterator[Callable[[str], Driver]]:
    """The driver of a client, started when it is first asked for."""
    started: dict[str, Driver] = {}

    def driver(name: str) -> Driver:
        if name not in started:
            started[name] = DRIVERS[name](require_program)
        return started[name]

    yield driver
    for one in started.values():
        one.close()


def _played_out(case: Case, play: Play) -> None:
    """Wait as long as the case says that nothing more may come, and for a closing that it expects."""
    until = time.monotonic() + max(case.expect.quiet_ms / 1_000, _LOOK_SECONDS)
    latest = until + 1
    while (now := time.monotonic()) < until or (
        case.expect.closes_within_ms is not None and now < latest and play.seen and play.seen[-1].closed_at is None
    ):
        time.sleep(_LOOK_SECONDS)


@pytest.mark.parametrize(
    ("case", "client"),
    [
        pytest.param(case, name, id=f"{case.name}-{name}")
        for case in CASES
        for name, kind in DRIVERS.items()
        if kind.features.issuperset(case.needs)
    ],
)
def test_a_client_does_what_the_case_says(
    case: Case, client: str, server: ScriptedServer, driver_of: Callable[[str], Driver]
) -> None:
    driver = driver_of(client)
    play = server.play(case.answers)

    did = driver.run(case.call, case.act, play.base, case.wants)
    _played_out(case, play)

    check_case(case, did, play)


def test_no_two_cases_have_the_same_name() -> None:
    names = [case.name for case in CASES]

    assert len(set(names)) == len(names)


def test_every_group_has_a_case() -> None:
    covered = {group for case in CASES for group in case.covers}

    assert {f"C{number}" for number in range(1, 25)} - _BY_HARNESS <= covered
    assert {f"N{number}" for number in range(1, 9)} <= covered
