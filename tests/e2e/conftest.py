"""A real `tailrace serve` and a real Chromium for the browser tests; both are stopped when the module is done."""

import contextlib
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, async_playwright

from tests.chat_environment import chat_environment
from tests.e2e.chat_server import ChatServer

_HERE = Path(__file__).parent
_CHROMIUM_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_SERVE = "from tailrace.cli import main; main()"


@pytest.fixture(scope="module")
def chat_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[ChatServer]:
    marks = tmp_path_factory.mktemp("e2e") / "marks.txt"
    marks.touch()
    command = [sys.executable, "-c", _SERVE, "serve", "agent:agent", "--port", "0", "--grace-seconds", "2"]
    environment = {**chat_environment(marks.parent), "E2E_MARKS": str(marks), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=_HERE, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield ChatServer(_announced_url(process), marks)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=20)
            process.kill()


def _announced_url(process: "subprocess.Popen[str]") -> str:
    """Read the server's output until it says where it listens."""
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if match := re.search(r"running on (http://[\d.]+:\d+)", line):
            return match[1]
    raise RuntimeError("the server ended: " + "".join(lines))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(require_program: Callable[..., str]) -> AsyncGenerator[Browser]:
    executable = require_program("chromium", "chromium-browser")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=list(_CHROMIUM_ARGUMENTS))
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser, chat_server: ChatServer) -> AsyncGenerator[BrowserContext]:
    """One person's browser: its tabs share storage; whatever the page complains about fails the test."""
    context = await browser.new_context(base_url=chat_server.url)
    complaints: list[str] = []
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield context
    await context.close()
    assert complaints == []
