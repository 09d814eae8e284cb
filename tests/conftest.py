"""What suites share: a guard against a blocked event loop, an honest answer about missing programs, and a browser."""

import shutil
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import cast

import pytest
import pytest_asyncio
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings
from playwright.async_api import Page, async_playwright

from tests.missing import missing

_PAGE_PATIENCE_MS = 20_000

# A busy machine is no bug, so no verdict of a property test depends on speed. The unit suite is run all the time and
# takes seconds; what fifty examples a run miss today, other fifty find tomorrow: `--hypothesis-profile=long` for more.
settings.register_profile("tailrace", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", max_examples=1_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tailrace")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests have measured and recorded; the chaos suite has a table of its own."""
    reports = cast("list[pytest.TestReport]", terminalreporter.stats.get("passed", []))
    lines = [
        f"{report.nodeid.rpartition('::')[2]}: {name} {value:,.2f}"
        for report in reports
        for name, value in report.user_properties
        if isinstance(value, int | float) and not report.nodeid.startswith("tests/chaos/")
    ]
    if lines:
        terminalreporter.section("figures")
        for line in sorted(lines):
            terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def a_blocking_call_on_the_event_loop_fails() -> Iterator[None]:
    """Make tailrace raise `blockbuster.BlockingError` where it would block the loop it runs on."""
    with blockbuster_ctx("tailrace") as guard:
        for function in guard.functions.values():
            # Once per connection asyncpg looks for the certificates and passwords of libpq in files of the user's home.
            function.can_block_in("asyncpg/connect_utils.py", "_parse_connect_dsn_and_args")
        yield


@pytest.fixture(scope="session")
def require_program() -> Callable[..., str]:
    """The path of a program a test cannot do without, asked for by the names it goes by.

    Where none of the names is installed the test is skipped; it fails if the environment has `CI=true`.
    """

    def require(*names: str) -> str:
        path = next(filter(None, map(shutil.which, names)), None)
        return path or missing(f"not installed: {' or '.join(names)}")

    return require


@pytest_asyncio.fixture
async def page(require_program: Callable[..., str]) -> AsyncGenerator[Page]:
    """A page of a browser without a past."""
    executable = require_program("chromium", "chromium-browser")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=arguments)
        page = await browser.new_page()
        page.set_default_timeout(_PAGE_PATIENCE_MS)
        yield page
        await browser.close()
