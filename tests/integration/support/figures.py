"""Figures that a test has measured, shown in a section of their own when pytest has ended, and kept in its report."""

import pytest

__all__ = ["note_figure"]

_NAME = "integration-figures"


class _Figures:
    """A plugin of pytest."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("figures")
        for line in sorted(self.lines):
            terminalreporter.write_line(line)


def note_figure(request: pytest.FixtureRequest, name: str, value: float) -> None:
    """Note what the test of this request has measured; `name` says the unit."""
    plugins = request.config.pluginmanager
    figures: object = plugins.get_plugin(_NAME)
    if not isinstance(figures, _Figures):
        figures = _Figures()
        plugins.register(figures, _NAME)
    figures.lines.append(f"{request.node.name}: {name} {round(value, 2):,}")
    request.node.user_properties.append((name, value))
