"""What the tests of examples share: a Redis, and a browser."""

from collections.abc import AsyncGenerator, Callable, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright

from tests.redis_server import RedisServer

_PATIENCE_MS = 20_000


@pytest.fixture(scope="module")
def redis_url(require_program: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server that the programs of the module share."""
    program = require_program("redis-server", "valkey-server")
    with RedisServer(program, tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest_asyncio.fixture
async def page(require_program: Callable[..., str]) -> AsyncGenerator[Page]:
    """A page of a browser without a past."""
    executable = require_program("chromium", "chromium-browser")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=arguments)
        page = await browser.new_page()
        page.set_default_timeout(_PATIENCE_MS)
        yield page
        await browser.close()
