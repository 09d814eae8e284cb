"""A report that a Celery worker writes and web servers read, with a real worker, server and Redis."""

import re
import time
from collections.abc import Iterator

import msgspec
import pytest
from playwright.async_api import Page, expect

from tailrace.wire.sse import ServerSentEvent
from tests.examples.program import EXAMPLES, Program
from tests.integration.support.client import EventReader, fetch, open_stream

pytestmark = pytest.mark.redis

#: As the example has it.
LEASE_SECONDS = 3.0
#: For looks and the news.
SLACK_SECONDS = 1.0
VISITOR = {"cookie": "visitor=a"}
WORKER = ("-m", "celery", "--app", "celery_job.tasks", "worker", "--loglevel", "info", "--concurrency", "2")
#: A worker that looks for no others is ready a second earlier.
ALONE = ("--without-mingle", "--without-gossip")
PATIENCE_MS = 20_000
LISTENING = r"running on http://127\.0\.0\.1:(\d+)"


@pytest.fixture(scope="module")
def environment(redis_url: str) -> dict[str, str]:
    return {"REDIS_URL": redis_url}


@pytest.fixture(scope="module")
def shared_worker(environment: dict[str, str]) -> Iterator[Program]:
    with Program(*WORKER, *ALONE, environment=environment) as worker:
        yield worker


@pytest.fixture(scope="module")
def port(environment: dict[str, str], shared_worker: Program) -> Iterator[int]:
    """Where the web server listens, which starts at the same time as the worker."""
    with Program("-m", "uvicorn", "celery_job.web:app", "--port", "0", environment=environment) as server:
        yield int(server.until_says(LISTENING)[1])


@pytest.fixture
def worker(shared_worker: Program) -> Program:
    """A worker that is ready; a test may kill it."""
    if not shared_worker.alive:
        shared_worker.start()
    shared_worker.until_says("ready")
    return shared_worker


class Started(msgspec.Struct):
    """The answer to a POST."""

    run_id: str
    status: str
    events_url: str


def start(port: int, sections: int = 50) -> Started:
    """A report that a worker has begun to write."""
    body = msgspec.json.encode({"topic": "logs", "sections": sections})
    reply = fetch(port, "POST", "/reports", {**VISITOR, "content-type": "application/json"}, body)
    started = msgspec.json.decode(reply.body, type=Started)
    assert (reply.status, started.status) == (202, "running")
    return started


def until_text(reader: EventReader) -> list[ServerSentEvent]:
    """Events up to the fifth word."""
    return [reader.next() for _ in range(7)]


def text_of(events: list[ServerSentEvent]) -> str:
    return "".join(msgspec.json.decode(event.data)["delta"] for event in events if event.event == "text.delta")


def test_a_report_is_followed_to_its_end_and_resumed_exactly(port: int, worker: Program) -> None:
    report = start(port, sections=2)

    with open_stream(port, "GET", report.events_url, VISITOR) as reader:
        begun = until_text(reader)
    with open_stream(port, "GET", report.events_url, {**VISITOR, "last-event-id": reader.last_event_id}) as reader:
        rest = reader.rest()
    with open_stream(port, "GET", report.events_url, VISITOR) as reader:
        whole = reader.rest()

    sections = [f"{number}. A real job would ask a model about logs here. " for number in (1, 2)]
    types = [event.event for event in whole]
    assert begun + rest == whole
    assert [event.id for event in whole] == [str(number) for number in range(1, len(whole) + 1)]
    assert text_of(whole) == "".join(sections)
    assert (types.count("status"), types.count("progress"), types[-1]) == (2, 2, "run.completed")
    worker.until_says("succeeded in .*'done'")


def test_a_report_is_its_visitors_own(port: int, worker: Program) -> None:
    report = start(port, sections=1)

    statuses = [fetch(port, "GET", f"/runs/{report.run_id}", headers).status for headers in (VISITOR, {})]

    assert statuses == [200, 404]


def test_a_cancel_stops_the_job_within_a_second_and_its_task_ends_cleanly(port: int, worker: Program) -> None:
    report = start(port)
    with open_stream(port, "GET", report.events_url, VISITOR) as reader:
        until_text(reader)

        cancelled_at = time.monotonic()
        reply = fetch(port, "POST", f"/runs/{report.run_id}/cancel", VISITOR)
        last = reader.rest()[-1]
        seconds = time.monotonic() - cancelled_at

    worker.until_says("succeeded in .*'stopped'")
    assert reply.json()["accepted"]
    assert last.event == "run.cancelled"
    assert seconds < 1


def test_the_readers_of_a_killed_worker_are_told(port: int, worker: Program) -> None:
    report = start(port)
    with open_stream(port, "GET", report.events_url, VISITOR) as reader:
        until_text(reader)

        killed_at = time.monotonic()
        worker.kill()
        last = reader.rest()[-1]
        seconds = time.monotonic() - killed_at

    assert last.event == "run.interrupted"
    assert msgspec.json.decode(last.data)["reason"] == "worker_lost"
    # The last heartbeat may have been a third of a lease before.
    assert LEASE_SECONDS * 0.6 < seconds < LEASE_SECONDS + SLACK_SECONDS


@pytest.mark.browser
async def test_the_page_goes_on_after_a_reload_and_cancels(port: int, worker: Program, page: Page) -> None:
    status, text = page.locator("#status"), page.locator("#text")
    await page.goto(f"http://127.0.0.1:{port}/")

    await page.get_by_role("button", name="Write").click()
    await expect(text).to_contain_text("1. A real job", timeout=PATIENCE_MS)
    await page.reload()
    await expect(text).to_contain_text("logs here. 2.", timeout=PATIENCE_MS)
    progress = await page.locator("#progress").evaluate("bar => bar.value")
    await page.get_by_role("button", name="Cancel").click()
    await expect(status).to_have_text("run.cancelled", timeout=PATIENCE_MS)

    assert progress == pytest.approx(1 / 8)
    assert re.match(r"1\. A real job would ask a model about logs here\. 2\.", await text.text_content() or "")


@pytest.mark.browser
async def test_a_report_waits_for_a_worker_and_so_does_the_page(port: int, worker: Program, page: Page) -> None:
    worker.kill()
    await page.goto(f"http://127.0.0.1:{port}/")
    await page.get_by_label("Sections").fill("1")

    async with page.expect_response("**/reports") as answered:
        await page.get_by_role("button", name="Write").click()
    answer = await answered.value
    await expect(page.locator("#status")).to_have_text("Waiting for a worker", timeout=PATIENCE_MS)
    worker.start()
    await expect(page.locator("#status")).to_have_text("run.completed", timeout=PATIENCE_MS)

    queued = msgspec.json.decode(await answer.body(), type=Started)
    assert (answer.status, queued.status, answer.headers["retry-after"]) == (202, "queued", "1")
    assert await page.locator("#text").text_content() == "1. A real job would ask a model about logs here. "


def test_one_command_starts_everything_and_ctrl_c_stops_it(environment: dict[str, str]) -> None:
    with Program(str(EXAMPLES / "celery_job" / "run.py"), "--port", "0", environment=environment) as program:
        listening = program.until_says(LISTENING)
        program.until_says("ready")
        reply = fetch(int(listening[1]), "GET", "/")

        exit_code = program.interrupt()

    assert b"<progress" in reply.body
    assert exit_code == 0
