"""How long the soak lasts (`SOAK_SECONDS`), and its figures at the end of the run."""

import os

import pytest

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
_LINES: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _LINES:
        terminalreporter.write_line(line)


@pytest.fixture
def report() -> list[str]:
    """Lines to show when all is over."""
    return _LINES
