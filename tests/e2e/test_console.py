"""The console in a real browser: reload, second tab, stop, failure, and EventSource on a run that has ended."""

import asyncio
import time

import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.e2e.chat_server import ChatServer

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

_PATIENCE_MS = 20_000


async def _ask(page: Page, message: str) -> str:
    """Send a message; the id of the run that it started."""
    await page.get_by_label("Message").fill(message)
    await page.get_by_role("button", name="Send").click()
    # Not the state: a short answer may have ended before anybody looks.
    await _at_least(page, 1)
    run_id = await page.locator("body").get_attribute("data-run")
    assert run_id
    return run_id


async def _at_least(page: Page, cursor: int) -> None:
    await page.wait_for_function(
        "cursor => Number(document.body.dataset.cursor) >= cursor", arg=cursor, timeout=_PATIENCE_MS
    )


async def _ended(page: Page, terminal: str) -> None:
    await expect(page.locator("body")).to_have_attribute("data-end", terminal, timeout=_PATIENCE_MS)


async def _answer(page: Page) -> str:
    return str(await page.locator("#answer").evaluate("element => element.textContent"))


async def test_a_reload_in_mid_answer_ends_with_the_text_of_the_log(
    context: BrowserContext, chat_server: ChatServer
) -> None:
    page = await context.new_page()
    await page.goto("/")
    run_id = await _ask(page, "count 40")
    await _at_least(page, 10)

    await page.reload()
    await _ended(page, "run.completed")

    assert await _answer(page) == chat_server.log_text(run_id) == "".join(f"{n} " for n in range(1, 41))
    assert chat_server.marked("opened count 40") == 1


async def test_a_second_tab_ends_with_the_same_text_and_nothing_twice(
    context: BrowserContext, chat_server: ChatServer
) -> None:
    first = await context.new_page()
    await first.goto("/")
    run_id = await _ask(first, "count 30")
    await _at_least(first, 5)

    second = await context.new_page()
    await second.goto(first.url)
    await _ended(first, "run.completed")
    await _ended(second, "run.completed")

    text = chat_server.log_text(run_id)
    assert text == "".join(f"{n} " for n in range(1, 31))
    assert await _answer(first) == text
    assert await _answer(second) == text
    assert chat_server.marked("opened count 30") == 1


async def test_a_new_tab_without_the_fragment_finds_the_run_that_still_goes_on(
    context: BrowserContext, chat_server: ChatServer
) -> None:
    first = await context.new_page()
    await first.goto("/")
    run_id = await _ask(first, "count 31")

    second = await context.new_page()
    await second.goto("/console")
    await _ended(second, "run.completed")

    assert await _answer(second) == chat_server.log_text(run_id)


async def test_stop_in_one_tab_ends_both_within_a_second_and_closes_the_source(
    context: BrowserContext, chat_server: ChatServer
) -> None:
    first = await context.new_page()
    await first.goto("/")
    await _ask(first, "endless")
    second = await context.new_page()
    await second.goto(first.url)
    await _at_least(second, 5)
    closed_before = chat_server.marked("closed endless")

    stopped_at = time.monotonic()
    await second.get_by_role("button", name="Stop").click()
    await asyncio.gather(_ended(first, "run.cancelled"), _ended(second, "run.cancelled"))
    took_seconds = time.monotonic() - stopped_at

    # The bound is the product's promise; the source is closed before the terminal event is written.
    assert took_seconds < 1.0
    assert chat_server.marked("closed endless") == closed_before + 1


async def test_a_failure_shows_its_code_and_correlation_id_and_no_secret(context: BrowserContext) -> None:
    page = await context.new_page()
    await page.goto("/")
    await _ask(page, "fail half-way")

    await _ended(page, "run.failed")

    shown = await page.locator("body").inner_text()
    assert "Something went wrong." in shown
    assert "hunter2" not in shown
    assert len(await _answer(page)) > 50


async def test_an_action_of_the_model_switches_the_theme(context: BrowserContext) -> None:
    page = await context.new_page()
    await page.goto("/")

    await _ask(page, "switch to dark")
    await _ended(page, "run.completed")

    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")


async def test_leaving_the_page_does_not_end_the_run(context: BrowserContext, chat_server: ChatServer) -> None:
    page = await context.new_page()
    await page.goto("/")
    run_id = await _ask(page, "count 25")
    await _at_least(page, 3)
    address = page.url

    await page.close()
    again = await context.new_page()
    await again.goto(address)
    await _ended(again, "run.completed")

    assert await _answer(again) == chat_server.log_text(run_id)
    assert chat_server.marked("opened count 25") == 1


async def test_an_eventsource_on_a_final_run_asks_exactly_once_more(context: BrowserContext) -> None:
    page = await context.new_page()
    await page.goto("/")
    run_id = await _ask(page, "count 5")
    await _ended(page, "run.completed")
    statuses: list[int] = []
    page.on("response", lambda response: statuses.append(response.status))

    seen = await page.evaluate(
        """run => new Promise(resolve => {
            const source = new EventSource(`/runs/${run}/events`)
            const seen = []
            source.addEventListener('text.delta', event => seen.push(JSON.parse(event.data).delta))
            source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve(seen) }
        })""",
        run_id,
    )

    assert seen == ["1 ", "2 ", "3 ", "4 ", "5 "]
    assert statuses == [200, 204]
