"""The reference says what the code says: every name, field, parameter, default, code, status, option and route."""

import ast
import inspect
import re
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest

import tailrace
from tailrace import EventStream, Runs, Tailrace, errors, events, testing
from tailrace.cli.serve import serve
from tailrace.errors import TailraceError
from tailrace.runtime.limits import Limits
from tailrace.web.errors import error_response
from tailrace.web.routes import RunRoutes
from tailrace.wire.dialects.native import DIALECT
from tailrace.wire.dialects.registry import DIALECTS
from tests.docs.pages import blocks, rows, section

API = "docs/reference/api.md"
EVENTS = "docs/reference/events.md"
WIRE = "docs/reference/wire.md"
CLI = "docs/reference/cli.md"

_TITLE = "Documented"


def whole(page: str) -> str:
    """The page below its title."""
    titles = {API: "Python", EVENTS: "Events", WIRE: "The wire", CLI: "Command line"}
    return section(page, titles[page])


def codes(text: str) -> list[str]:
    """Everything that is set as code."""
    return re.findall(r"`([^`]+)`", text)


def defaults(table: str) -> dict[str, object]:
    """The second column by the first, of rows whose first two columns are code."""
    found = [(codes(row[0]), codes(row[1])) for row in rows(table)]
    return {name[0]: ast.literal_eval(default[0]) for name, default in found if name and default}


def parameters(function: Callable[..., Any]) -> dict[str, object]:
    """The parameters that have a default."""
    signature = inspect.signature(function)
    return {name: it.default for name, it in signature.parameters.items() if it.default is not it.empty}


def event_rows() -> dict[str, list[str]]:
    """The rows of the vocabulary by event type."""
    return {codes(row[0])[0]: row for row in rows(whole(EVENTS)) if len(row) == 4 and codes(row[0])}


def described(struct: type[msgspec.Struct], fields: str) -> tuple[set[str], set[str]]:
    """What a struct requires and allows, then asserted equal to what a cell of the table says."""
    raise NotImplementedError
