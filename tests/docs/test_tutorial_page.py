"""The page of the tutorial, in a real browser: it answers, goes on after a reload, and stops."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.docs.pages import blocks
from tests.integration.support.server import AppServer

pytestmark = pytest.mark.browser

_PATIENCE_MS = 20_000


@pytest.fixture
def tutorial(folder: Path) -> Iterator[AppServer]:
    """The two files of the tutorial, served as they are."""
    for block in blocks("docs/tutorial/first-stream.md"):
        if block.mark.startswith("file: "):
            (folder / block.mark.removeprefix("file: ")).write_text(block.text, encoding="utf-8")
    with AppServer(importlib.import_module("main").app) as server:
        yield server


async def test_an_answer_goes_on_after_a_reload_and_can_be_stopped(tutorial: AppServer, page: Page) -> None:
    end = page.locator("#end")
    answer = page.locator("#answer")
    await page.goto(f"http://127.0.0.1:{tutorial.port}/")

    await page.get_by_role("button", name="Ask").click()
    await expect(answer).to_contain_text("You asked", timeout=_PATIENCE_MS)
    await page.reload()
    await expect(end).to_have_text("run.completed", timeout=_PATIENCE_MS)

    asked = "Why is the sky blue?"
    assert await answer.text_content() == f"You asked: {asked} A real agent would call a model here. "
    assert await page.locator("#question").text_content() == asked

    await page.get_by_role("button", name="Ask").click()
    await expect(end).to_have_text("", timeout=_PATIENCE_MS)
    await page.get_by_role("button", name="Stop").click()
    await expect(end).to_have_text("run.cancelled", timeout=_PATIENCE_MS)
