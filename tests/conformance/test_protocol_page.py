"""The protocol's page names every scenario, each where the duty is that it tests, and none that does not exist."""

import re
from pathlib import Path

import pytest

from tailrace import errors
from tailrace.web.errors import EarlyFailureError, RefusedError
from tailrace.web.headers import stream_headers
from tailrace.web.multiplex import FEED_RUNS, FEED_THREADS
from tailrace.web.owners import IdentityExpiredError
from tailrace.web.tickets import TicketInvalidError, TooManyTicketsError
from tailrace.wire.cursor import RUN_ID_PATTERN, Cursor
from tailrace.wire.dialects.registry import DIALECTS
from tests.conformance.client_cases import CASES

_PAGE = (Path(__file__).parents[2] / "spec" / "PROTOCOL.md").read_text(encoding="utf-8")
_CODE = re.compile(r"`([^`]+)`")
_SCENARIO = re.compile(r"`([cn][0-9]{2}-[a-z0-9-]+)`")
_REFUSALS = (EarlyFailureError, RefusedError, IdentityExpiredError, TicketInvalidError, TooManyTicketsError)


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the table under a heading row, in order."""
    table = _PAGE.partition(f"{heading}\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[1:]]


def test_every_scenario_is_named_once_under_its_duty() -> None:
    duties = _PAGE.partition("## 13. What a client does")[2]

    assert sorted(_SCENARIO.findall(duties)) == sorted(case.name for case in CASES)


def test_every_scenario_named_exists() -> None:
    assert set(_SCENARIO.findall(_PAGE)) <= {case.name for case in CASES}


def test_the_page_knows_how_every_dialect_ends() -> None:
    told = {name for dialects, _ in rows_of("| Dialect | Its terminal event |") for name in _CODE.findall(dialects)}

    assert told == set(DIALECTS)


def test_the_headers_of_a_stream_are_as_the_page_says() -> None:
    told = {_CODE.findall(name)[0]: value.strip("`") for name, value in rows_of("| Header | |")}
    sent = {name.decode(): value.decode() for name, value in stream_headers({})}

    assert {name: value for name, value in told.items() if name != "location"} == sent


def test_every_code_on_the_page_is_one_of_ours() -> None:
    ours = {getattr(errors, name).code for name in errors.__all__} | {refusal.code for refusal in _REFUSALS}
    told = {code for _, codes, _ in rows_of("| Status | `code` | When |") for code in _CODE.findall(codes)}

    assert told <= ours


@pytest.mark.parametrize("text", ["7", "7.2", "r1:7", "r1:7.2", "9" * 15])
def test_the_forms_of_cursors_are_read(text: str) -> None:
    assert str(Cursor.parse(text)) == text


def test_run_ids_and_bounds_are_as_the_page_says() -> None:
    assert f"`{RUN_ID_PATTERN}`" in _PAGE
    assert f"At most {FEED_RUNS} runs and {FEED_THREADS} threads" in " ".join(_PAGE.split())
