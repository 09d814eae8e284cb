"""An agent's steps: every route over a real socket, and pages that know no better, which no longer start it twice."""

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.async_api import Page, Request, Response, expect

from tailrace.wire.sse import ServerSentEvent
from tests.examples.program import Program
from tests.examples.serving import PATIENCE_MS, Site, post_json, serving
from tests.integration.support.client import Reply, fetch, open_stream
from tests.integration.support.frames import events_of
from tests.tcp_proxy import TcpProxy

READERS = Path(__file__).parent / "readers"
AGENT = "/agent/stream?query=Who+are+you"
TOTAL_SECONDS = 2.0
SLACK_SECONDS = 2.0
#: For as long the connections of a page are cut, and it comes back every 3 s.
CUTTING_SECONDS = 15.0
ANSWER = "You asked: Who are you\nThat is 3 words. I am a script and know no more than that."


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving("s4_agent_steps.web:app", {"PACE": "0.1", "GRACE_SECONDS": "0.3"}) as site:
        yield site


@pytest.fixture(scope="module")
def slow_site() -> Iterator[Site]:
    """Whose work does not end before it is looked at."""
    with serving("s4_agent_steps.web:app", {"PACE": "600", "TOTAL_SECONDS": "600"}) as site:
        yield site


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """Another origin, with the pages that know no better."""
    command = ("-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(READERS))
    with Program(*command, environment={}) as program:
        port = program.until_says(r"port (\d+)")[1]
        yield f"http://127.0.0.1:{port}"


def get(site: Site, target: str, headers: dict[str, str] | None = None) -> list[ServerSentEvent]:
    reply = fetch(site.port, "GET", target, headers)
    assert reply.status == 200, reply.body
    return events_of(reply.body)


def names(events: list[ServerSentEvent]) -> list[str]:
    """The names in order, those that follow each other as one."""
    return [name for name, _ in groupby(event.event for event in events)]


def data_of(events: list[ServerSentEvent], name: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(event.data) for event in events if event.event == name]


def text_of(events: list[ServerSentEvent]) -> str:
    return "".join(data["token"] for data in data_of(events, "token"))


def generations(site: Site, name: str) -> int:
    """How often the work of this name was begun."""
    return site.program.output.count(f"{name} began")


def until_over(site: Site, name: str, times: int) -> None:
    """Wait until the work of this name has ended so many times."""
    site.program.until_says(rf"(?:{name} is over[\s\S]*?){{{times}}}")


# The contract --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "order"),
    [
        ("GET", "/stream", ["status", "message", "complete"]),
        ("GET", "/stream/hello", ["status", "token", "complete"]),
        ("GET", "/stream/progress", ["status", "progress", "complete"]),
        ("GET", "/countdown/3", ["status", "countdown", "complete"]),
        ("GET", "/process/stream", ["status", *["result", "status"] * 4, "result", "complete"]),
        ("GET", AGENT, ["status", "thinking", "tool", "token", "complete"]),
        ("POST", "/agent/process/stream?query=Hi", ["status", "thinking", "tool", "token", "complete"]),
        ("GET", "/agent/think/stream?query=Why", ["status", "thought", "complete"]),
        ("GET", "/stream/safe", ["status", "error"]),
        ("GET", "/tasks/t-1/progress/stream", ["status", "progress", "complete"]),
        ("POST", "/tasks/t-1/execute/stream", ["status", "progress", "complete"]),
    ],
)
def test_each_route_streams_its_events_and_one_end(site: Site, method: str, target: str, order: list[str]) -> None:
    reply = fetch(site.port, method, target)

    events = events_of(reply.body)
    assert (reply.status, reply.head["content-type"], reply.whole) == (200, "text/event-stream", True)
    assert names(events) == order
    assert sum(event.event in {"complete", "error"} for event in events) == 1


def test_an_agent_thinks_uses_its_tool_and_answers_word_by_word(site: Site) -> None:
    events = get(site, AGENT)

    tools = data_of(events, "tool")
    (complete,) = data_of(events, "complete")
    assert [(data["step"], data["total"]) for data in data_of(events, "thinking")] == [(1, 2), (2, 2)]
    assert [(tool["tool"], tool["status"]) for tool in tools] == [("word_count", "calling"), ("word_count", "complete")]
    assert tools[1]["result"] == {"words": 3}
    assert text_of(events) == ANSWER
    assert complete["done"] is True
    assert complete["tokens"] == len(data_of(events, "token"))


def test_a_plan_is_shown_thought_by_thought(site: Site) -> None:
    events = get(site, "/agent/think/stream?query=Why")

    thoughts = data_of(events, "thought")
    assert [(thought["step"], thought["total"]) for thought in thoughts] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [thought["type"] for thought in thoughts] == ["analysis", "planning", "execution", "conclusion"]
    assert all(thought["thought"] for thought in thoughts)
    assert len(thoughts[1]["plan"]) == 4
    assert data_of(events, "complete")[0]["thoughts_count"] == 4


def test_a_task_has_its_id_percentages_timestamps_and_how_it_ended(site: Site) -> None:
    reply = post_json(site.port, "/tasks/execute/stream", {"task_id": "t-7", "operation": "sort"})

    events = events_of(reply.body)
    progress, (complete,) = data_of(events, "progress"), data_of(events, "complete")
    stamps = [datetime.fromisoformat(data["timestamp"]) for data in data_of(events, "status") + progress]
    assert [data["progress"] for data in progress] == [20, 40, 60, 80, 100]
    assert progress[0]["step"] == "Read the input"
    assert all(stamp.utcoffset() == timedelta(0) for stamp in stamps)
    assert {data["task_id"] for data in [*progress, complete, *data_of(events, "status")]} == {"t-7"}
    assert (complete["final_status"], complete["result"]) == ("completed", "sort: done")
    assert complete["duration_seconds"] > 0


def test_the_steps_of_a_process_have_results_and_its_slow_twin_has_only_the_last(site: Site) -> None:
    results = data_of(get(site, "/process/stream"), "result")
    twin = fetch(site.port, "POST", "/process")

    assert [(result["step"], result["progress"]) for result in results] == [(n, 20 * n) for n in range(1, 6)]
    assert results[4]["result"] == "Write it down: done"
    assert twin.head["content-type"] == "application/json"
    assert (twin.json()["result"], twin.json()["status"]) == ("Processed.", "completed")


def test_text_keeps_its_spaces_and_a_countdown_gets_to_nought(site: Site) -> None:
    assert text_of(get(site, "/stream/hello")) == "Hello from a stream,  word\nby word. — ¡Olé!"
    assert [data["remaining"] for data in data_of(get(site, "/countdown/3"), "countdown")] == [3, 2, 1, 0]
    messages = data_of(get(site, "/stream"), "message")
    assert [message["message"] for message in messages] == [f"Message {number}" for number in range(1, 6)]


def test_curl_n_shows_the_steps(site: Site, require_program: Callable[..., str]) -> None:
    command = [require_program("curl"), "-sN", f"{site.url}{AGENT}"]

    output = subprocess.run(command, check=True, capture_output=True, timeout=50).stdout

    assert text_of(events_of(output)) == ANSWER
    assert b"event: complete\ndata: {" in output


# The faults ----------------------------------------------------------------------------------------------------------


def test_a_reader_that_returns_reads_on_and_starts_nothing(site: Site) -> None:
    whole = get(site, AGENT)
    run_id = whole[0].id.partition(":")[0]
    before = generations(site, "answer")

    for place in (0, len(whole) // 2, len(whole) - 2):
        assert get(site, AGENT, {"last-event-id": whole[place].id}) == whole[place + 1 :]
    # What it asks for does not matter then: its place says which run is meant.
    at_the_end = [fetch(site.port, "GET", url, {"last-event-id": whole[-1].id}) for url in (AGENT, "/stream")]

    assert all(event.id.partition(":")[0] == run_id for event in whole)
    assert [reply.status for reply in at_the_end] == [204, 204]
    assert generations(site, "answer") == before


def test_a_place_in_a_run_that_is_forgotten_starts_nothing_either(site: Site) -> None:
    before = site.program.output.count(" began")

    replies = [fetch(site.port, "GET", AGENT, {"last-event-id": place}) for place in ("a" * 26 + ":3", "3", "?")]

    assert [reply.status for reply in replies] == [404, 400, 400]
    assert site.program.output.count(" began") == before


def test_a_run_can_be_come_back_to_from_its_very_first_frame(slow_site: Site) -> None:
    before = generations(slow_site, "answer")
    with open_stream(slow_site.port, "GET", AGENT) as reader:
        first = reader.next()

    with open_stream(slow_site.port, "GET", AGENT, {"last-event-id": first.id}) as reader:
        second = reader.next()

    assert (first.event, second.event) == ("status", "thinking")
    assert second.id.partition(":")[0] == first.id.partition(":")[0]
    assert generations(slow_site, "answer") == before + 1


def test_the_same_request_without_a_place_is_a_new_run(site: Site) -> None:
    runs = {get(site, "/stream/hello")[0].id.partition(":")[0] for _ in range(2)}

    assert len(runs) == 2


def test_a_failure_is_told_as_an_event_without_its_text(site: Site) -> None:
    reply = fetch(site.port, "GET", "/stream/safe")

    events = events_of(reply.body)
    (error,) = data_of(events, "error")
    assert events[-1].event == "error"
    assert (error["error"], error["type"]) == ("Something went wrong.", "error")
    assert b"hunter2" not in reply.body
    assert b"RuntimeError" not in reply.body
    site.program.until_says("hunter2")


def test_the_time_of_a_run_is_over_even_if_it_says_nothing_any_more() -> None:
    environment = {"PACE": "0.1", "TOTAL_SECONDS": str(TOTAL_SECONDS)}
    with serving("s4_agent_steps.web:app", environment) as site:
        started_at = time.monotonic()
        events = get(site, "/stream/timeout")
        seconds = time.monotonic() - started_at
        until_over(site, "hang", 1)

    (error,) = data_of(events, "error")
    assert len(data_of(events, "status")) == 3
    assert (error["error"], error["type"]) == ("The answer took too long.", "timeout")
    assert TOTAL_SECONDS - 0.5 < seconds < TOTAL_SECONDS + SLACK_SECONDS


def test_leaving_stops_the_work_only_where_that_was_asked_for(site: Site) -> None:
    counted, answered = generations(site, "count_up"), generations(site, "answer")
    with open_stream(site.port, "GET", AGENT) as reader:
        place = reader.next().id
    with open_stream(site.port, "GET", "/stream/detect-disconnect") as reader:
        counting = reader.next().id

    until_over(site, "count_up", counted + 1)
    rest = get(site, AGENT, {"last-event-id": place})
    stopped = get(site, "/stream/detect-disconnect", {"last-event-id": counting})

    assert rest[-1].event == "complete"
    assert text_of(rest) == ANSWER
    assert data_of(stopped, "complete") == [{"status": "cancelled"}]
    assert generations(site, "answer") == answered + 1


def test_many_can_be_served_at_once(slow_site: Site) -> None:
    with open_stream(slow_site.port, "GET", "/stream/progress") as reader:
        reader.next()
        started_at = time.monotonic()
        page = fetch(slow_site.port, "GET", "/")
        seconds = time.monotonic() - started_at

    assert b"<title>Agent steps</title>" in page.body
    assert seconds < SLACK_SECONDS


def test_there_are_limits_to_what_one_may_ask(site: Site) -> None:
    def status(method: str, target: str) -> int:
        return fetch(site.port, method, target).status

    def posted(**task: str) -> Reply:
        return post_json(site.port, "/tasks/execute/stream", task)

    statuses = [
        status("GET", "/agent/stream"),
        status("GET", f"/agent/stream?query={'x' * 1_001}"),
        status("GET", "/countdown/61"),
        status("GET", "/countdown/-1"),
        status("GET", "/countdown/soon"),
        status("GET", f"/tasks/{'x' * 129}/progress/stream"),
        posted(task_id="x" * 129, operation="sort").status,
        posted(task_id="x").status,
        posted(task_id="x", operation="x" * 20_000).status,
    ]

    assert statuses == [422, 422, 422, 422, 422, 422, 422, 422, 413]
    assert posted(task_id="x").json()["type"] == "invalid_request"


def test_there_is_a_limit_to_what_goes_on_at_once_and_readers_that_return_do_not_count() -> None:
    with serving("s4_agent_steps.web:app", {"PACE": "600", "RUNS_OF_ALL": "2"}) as site:
        places: list[str] = []
        for _ in range(2):
            with open_stream(site.port, "GET", AGENT) as reader:
                places.append(reader.next().id)

        refused = fetch(site.port, "GET", AGENT)
        with open_stream(site.port, "GET", AGENT, {"last-event-id": places[0]}) as reader:
            status, event = reader.head.status, reader.next().event

    assert (refused.status, refused.head["retry-after"]) == (429, "5")
    assert (status, event) == (200, "thinking")


def test_only_named_origins_may_read(elsewhere: str) -> None:
    with serving("s4_agent_steps.web:app", {"PACE": "0", "ALLOWED_ORIGINS": elsewhere}) as site:
        named = fetch(site.port, "GET", "/stream/hello", {"origin": elsewhere}).head
        other = fetch(site.port, "GET", "/stream/hello", {"origin": "https://stranger.example"}).head

    assert named["access-control-allow-origin"] == elsewhere
    assert "access-control-allow-credentials" not in named.names
    assert "access-control-allow-origin" not in other.names


# Pages ---------------------------------------------------------------------------------------------------------------


def watched(page: Page) -> tuple[list[str], list[Request]]:
    """What the page throws, and the streams that it asks for, from now on."""
    thrown: list[str] = []
    asked: list[Request] = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    page.on("request", lambda request: asked.append(request) if request.resource_type == "eventsource" else None)
    return thrown, asked


@pytest.mark.browser
async def test_a_page_elsewhere_that_throws_at_errors_no_longer_runs_the_agent_again_and_again(
    elsewhere: str, page: Page
) -> None:
    thrown, asked = watched(page)
    # A pace at which the answer takes longer than the cutting.
    with serving("s4_agent_steps.web:app", {"PACE": "4", "ALLOWED_ORIGINS": elsewhere}) as site:
        async with TcpProxy(site.port) as proxy:
            await page.goto(f"{elsewhere}/agent_steps_page.html?route={AGENT}&api=http://127.0.0.1:{proxy.port}")
            await page.get_by_role("button", name="Start").click()
            await expect(page.locator("#output")).to_contain_text("thinking", timeout=PATIENCE_MS)

            until = time.monotonic() + CUTTING_SECONDS
            while time.monotonic() < until:
                proxy.redirect(site.port)
                await asyncio.sleep(0.5)
            await expect(page.locator("#output")).to_contain_text("complete {", timeout=PATIENCE_MS)
            text, lines = await page.locator("#text").text_content(), await page.locator("#output li").all_inner_texts()
            came_back, generations_then = len(asked) - 1, generations(site, "answer")

            await page.get_by_role("button", name="Start").click()
            await expect(page.locator("#output")).to_contain_text("thinking", timeout=PATIENCE_MS)
        generations_at_last = generations(site, "answer")

    assert came_back >= 4
    assert not any("cookie" in request.headers for request in asked)
    assert any("JSON" in error for error in thrown)
    assert generations_then == 1
    assert text == ANSWER
    assert [line.split(" ")[0] for line in lines] == ["status", "thinking", "thinking", "tool", "tool", "complete"]
    assert generations_at_last == 2


@pytest.mark.browser
async def test_a_page_that_closes_nothing_at_all_asks_once_more_and_is_done(elsewhere: str, page: Page) -> None:
    with serving("s4_agent_steps.web:app", {"PACE": "0.1", "ALLOWED_ORIGINS": elsewhere}) as site:
        statuses: list[int] = []

        def note(response: Response) -> None:
            if response.url.startswith(site.url):
                statuses.append(response.status)

        page.on("response", note)
        await page.goto(f"{elsewhere}/agent_steps_page.html?endless&route={AGENT}&api={site.url}")

        await page.get_by_role("button", name="Start").click()
        await page.wait_for_event("response", lambda response: response.status == 204, timeout=PATIENCE_MS)
        # Had it been any other answer, it would ask again every 3 s.
        await asyncio.sleep(7)

        assert statuses == [200, 204]
        assert await page.locator("#text").text_content() == ANSWER
        assert generations(site, "answer") == 1


@pytest.mark.browser
async def test_a_page_that_parses_errors_shows_those_of_the_server(elsewhere: str, page: Page) -> None:
    thrown, _ = watched(page)
    with serving("s4_agent_steps.web:app", {"PACE": "0.1", "ALLOWED_ORIGINS": elsewhere}) as site:
        await page.goto(f"{elsewhere}/agent_steps_page.html?route=/stream/safe&api={site.url}")

        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#output")).to_contain_text("error", timeout=PATIENCE_MS)

    assert '"error":"Something went wrong."' in await page.locator("#output").inner_text()
    assert thrown == []


@pytest.mark.browser
@pytest.mark.parametrize(
    ("route", "state", "last"),
    [
        ("/agent/think/stream", "Complete.", "complete"),
        ("/countdown/10", "Complete.", "complete"),
        ("/tasks/42/progress/stream", "Complete.", "complete"),
        ("/stream/safe", "Failed.", "error"),
    ],
)
async def test_the_page_follows_a_run_to_its_end(site: Site, page: Page, route: str, state: str, last: str) -> None:
    thrown, asked = watched(page)
    await page.goto(site.url)
    await page.get_by_label("Route").select_option(route)

    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#state")).to_have_text(state, timeout=PATIENCE_MS)

    assert (await page.locator("#steps li").last.inner_text()).startswith(f"{last} ")
    assert await page.get_by_role("button", name="Stop").is_disabled()
    assert (len(asked), thrown) == (1, [])


@pytest.mark.browser
async def test_stop_on_the_page_stops_the_work_where_a_disconnect_does_and_start_begins_anew(
    site: Site, page: Page
) -> None:
    before = generations(site, "count_up")
    await page.goto(site.url)
    await page.get_by_label("Route").select_option("/stream/detect-disconnect")
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#steps")).to_contain_text('"count":3', timeout=PATIENCE_MS)

    await page.get_by_role("button", name="Stop").click()
    await asyncio.to_thread(until_over, site, "count_up", before + 1)
    await expect(page.locator("#state")).to_have_text("Stopped.")
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("#steps")).to_contain_text('"count":1', timeout=PATIENCE_MS)
    await page.get_by_role("button", name="Stop").click()

    assert generations(site, "count_up") == before + 2


@pytest.mark.browser
async def test_the_page_goes_on_after_a_broken_connection(page: Page) -> None:
    with serving("s4_agent_steps.web:app") as site:
        async with TcpProxy(site.port) as proxy:
            await page.goto(f"http://127.0.0.1:{proxy.port}")
            await page.get_by_label("Query").fill("Who are you")
            await page.get_by_role("button", name="Start").click()
            await expect(page.locator("#steps")).to_contain_text("tool", timeout=PATIENCE_MS)

            proxy.redirect(site.port)
            await expect(page.locator("#state")).to_have_text("Connecting again…")
            await expect(page.locator("#state")).to_have_text("Complete.", timeout=PATIENCE_MS)

            assert await page.locator("#text").text_content() == ANSWER
            assert generations(site, "answer") == 1
