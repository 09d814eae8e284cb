"""Two steps: start, then listen. Over a real socket, with curl, and with pages that know no better."""

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.async_api import Page, Response, Route, expect

from tailrace.wire.sse import ServerSentEvent
from tests.examples.serving import PATIENCE_MS, Site, post_json, serving
from tests.integration.support.client import fetch, open_stream
from tests.integration.support.frames import events_of
from tests.tcp_proxy import TcpProxy

PAGE = (Path(__file__).parent / "readers" / "two_step_page.html").read_text(encoding="utf-8")
#: After a stream has ended, a browser asks again within 3 s.
ASKS_AGAIN_SECONDS = 7.0


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving("s0_two_step.web:app", {"PACE": "0.1"}) as site:
        yield site


@pytest.fixture(scope="module")
def slow_site() -> Iterator[Site]:
    """Whose runs do not end before they are looked at."""
    with serving("s0_two_step.web:app", {"PACE": "600"}) as site:
        yield site


class Start(NamedTuple):
    """The answer to the first step; `cookie` is what the browser sends from then on."""

    answer: dict[str, object]
    cookie: dict[str, str]
    set_cookie: str

    @property
    def run_id(self) -> str:
        return str(self.answer["run_id"])


def start(site: Site, question: str, cookie: dict[str, str] | None = None) -> Start:
    reply = post_json(site.port, "/start-events/", {"question": question}, cookie)
    assert reply.status == 200, reply.body
    set_cookie = reply.head["set-cookie"]
    return Start(reply.json(), {"cookie": set_cookie.partition(";")[0]}, set_cookie)


def listen(site: Site, headers: dict[str, str]) -> list[ServerSentEvent]:
    return events_of(fetch(site.port, "GET", "/stream-events/", headers).body)


def messages(events: list[ServerSentEvent]) -> list[str]:
    """What an `onmessage` gets."""
    return [event.data for event in events if event.event == "message"]


def texts(question: str) -> list[str]:
    return [f"Event {number} for question: {question}" for number in range(1, 6)]


# The contract --------------------------------------------------------------------------------------------------------


def test_what_was_started_is_heard_as_plain_text_however_soon_one_listens(site: Site) -> None:
    started = start(site, "Why?")

    reply = fetch(site.port, "GET", "/stream-events/", started.cookie)

    assert started.answer == {
        "message": "Event generation started",
        "run_id": started.run_id,
        "events_url": f"/runs/{started.run_id}/events?dialect=text",
    }
    assert reply.head["content-type"] == "text/event-stream"
    assert reply.head["cache-control"] == "no-store, no-transform"
    assert b"data: Event 3 for question: Why?\n" in reply.body
    events = events_of(reply.body)
    assert messages(events) == texts("Why?")
    assert all(event.id.startswith(f"{started.run_id}:") for event in events)
    by_url = fetch(site.port, "GET", str(started.answer["events_url"]), started.cookie)
    assert messages(events_of(by_url.body)) == texts("Why?")


def test_curl_needs_a_cookie_jar_and_nothing_more(
    site: Site, require_program: Callable[..., str], tmp_path: Path
) -> None:
    curl = [require_program("curl"), "-sN", "-b", str(tmp_path / "jar"), "-c", str(tmp_path / "jar")]
    post = [*curl, f"{site.url}/start-events/", "-H", "Content-Type: application/json", "-d", '{"question": "Why?"}']

    subprocess.run(post, check=True, capture_output=True, timeout=50)
    stream = subprocess.run([*curl, f"{site.url}/stream-events/"], check=True, capture_output=True, timeout=50).stdout

    assert messages(events_of(stream)) == texts("Why?")


def test_the_cookie_is_for_the_server_only(site: Site) -> None:
    cookie = SimpleCookie(start(site, "Why?").set_cookie)["session"]

    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "lax", "/")


# The faults ----------------------------------------------------------------------------------------------------------


def test_two_visitors_never_hear_each_others_answer(site: Site) -> None:
    ann, bob = start(site, "Ann's secret"), start(site, "Bob's secret")

    heard = [messages(listen(site, visitor.cookie)) for visitor in (ann, bob)]
    stolen = [
        fetch(site.port, "GET", "/stream-events/", {**bob.cookie, "last-event-id": f"{ann.run_id}:1"}),
        fetch(site.port, "GET", f"/runs/{ann.run_id}/events", bob.cookie),
        fetch(site.port, "GET", f"/runs/{ann.run_id}", bob.cookie),
        fetch(site.port, "POST", f"/runs/{ann.run_id}/cancel", bob.cookie),
    ]

    assert heard == [texts("Ann's secret"), texts("Bob's secret")]
    assert [reply.status for reply in stolen] == [404] * 4
    assert not any(b"Ann" in reply.body for reply in stolen)


@pytest.mark.parametrize("cookie", ["", "session=", "session=eyJydW4iOiAiQSJ9.aaaa.bbbb"])
def test_without_a_cookie_or_with_a_forged_one_there_is_nothing_to_hear(site: Site, cookie: str) -> None:
    reply = fetch(site.port, "GET", "/stream-events/", {"cookie": cookie} if cookie else {})

    assert (reply.status, reply.error_code) == (404, "run_not_found")


def test_a_cookie_that_was_changed_is_none(site: Site) -> None:
    name, _, value = start(site, "Why?").cookie["cookie"].partition("=")
    changed = value.replace(value[5], "A" if value[5] != "A" else "B", 1)

    assert fetch(site.port, "GET", "/stream-events/", {"cookie": f"{name}={changed}"}).status == 404


def test_two_tabs_stay_apart(site: Site) -> None:
    first = start(site, "first tab")
    with open_stream(site.port, "GET", "/stream-events/", first.cookie) as reader:
        begun = [reader.next()]

        second = start(site, "second tab", first.cookie)
        both = {**second.cookie, "last-event-id": reader.last_event_id}

    rest, other = listen(site, both), listen(site, second.cookie)
    assert messages(begun + rest) == texts("first tab")
    assert messages(other) == texts("second tab")


def test_a_listener_does_not_change_what_the_cookie_says(site: Site) -> None:
    started = start(site, "Why?")

    reply = fetch(site.port, "GET", "/stream-events/", started.cookie)

    assert reply.head.all("set-cookie") == []


def test_who_has_heard_all_of_it_gets_204(site: Site) -> None:
    started = start(site, "Why?")
    last_id = listen(site, started.cookie)[-1].id

    assert fetch(site.port, "GET", "/stream-events/", {**started.cookie, "last-event-id": last_id}).status == 204


@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n"])
def test_no_question_can_forge_an_event(site: Site, line_end: str) -> None:
    forged = ["x", "", "event: run.ended", "data: {}", "", "data: INJECTED", "id: 99", "retry: 1", "", ": end", ""]
    started = start(site, line_end.join(forged))

    events = listen(site, started.cookie)

    assert messages(events) == texts("\n".join(forged))
    assert [event.event for event in events] == ["message"] * 5 + ["run.ended"]


def test_what_went_wrong_inside_is_told_to_nobody_outside(site: Site) -> None:
    started = start(site, "fail, please")
    events = listen(site, started.cookie)
    bad_json = fetch(site.port, "POST", "/start-events/", {"content-type": "application/json"}, b'{"question": nope')
    bad_shape = post_json(site.port, "/start-events/", ["question"])

    assert messages(events) == texts("fail, please")[:4]
    assert '"status":"failed"' in events[-1].data
    assert "hunter2" not in str(events)
    site.program.until_says("hunter2")
    assert (bad_json.status, bad_json.error_code) == (422, "invalid_request")
    assert (bad_shape.status, bad_shape.error_code) == (422, "invalid_request")
    assert b"Traceback" not in bad_json.body + bad_shape.body


def test_there_is_a_limit_to_what_one_may_ask_and_how_much_at_once(slow_site: Site) -> None:
    too_long = post_json(slow_site.port, "/start-events/", {"question": "x" * 1_001}).status
    too_large = post_json(slow_site.port, "/start-events/", {"question": "x" * 20_000}).status
    plain = {"content-type": "text/plain"}
    not_json = fetch(slow_site.port, "POST", "/start-events/", plain, b'{"question": "x"}').status
    visitor = start(slow_site, "1")
    for number in (2, 3):
        start(slow_site, str(number), visitor.cookie)

    refused = post_json(slow_site.port, "/start-events/", {"question": "4"}, visitor.cookie)
    other = start(slow_site, "somebody else's")

    assert (too_long, too_large, not_json) == (422, 413, 415)
    assert (refused.status, refused.head["retry-after"]) == (429, "5")
    assert other.answer["message"] == "Event generation started"


# Pages ---------------------------------------------------------------------------------------------------------------


async def plain_page(page: Page, url: str) -> list[Response]:
    """Load the page that knows no better from the example's own origin; the answers to its streams, from now on."""
    streams: list[Response] = []
    page.on("response", lambda response: streams.append(response) if "/stream-events/" in response.url else None)

    async def answer(route: Route) -> None:
        await route.fulfill(body=PAGE, content_type="text/html")

    await page.route("**/plain", answer)
    await page.goto(f"{url}/plain")
    return streams


async def ask(page: Page, question: str) -> None:
    await page.locator("#question").fill(question)
    await page.get_by_role("button", name="Ask").click()


def answer_to(question: str) -> str:
    return "".join(f"{text}\n" for text in texts(question))


@pytest.mark.browser
async def test_a_page_that_knows_no_end_has_the_answer_once(site: Site, page: Page) -> None:
    streams = await plain_page(page, site.url)
    began = site.program.output.count("generation began")

    await ask(page, "Why?")
    await expect(page.locator("#answer")).to_have_value(answer_to("Why?"), timeout=PATIENCE_MS)
    await page.wait_for_event("response", lambda response: response.status == 204, timeout=PATIENCE_MS)
    # What a browser would do again and again it would have done once more by now.
    await asyncio.sleep(ASKS_AGAIN_SECONDS)

    assert [response.status for response in streams] == [200, 204]
    assert await page.locator("#answer").input_value() == answer_to("Why?")
    assert site.program.output.count("generation began") == began + 1


@pytest.mark.browser
async def test_a_page_that_knows_nothing_of_runs_survives_a_broken_connection(site: Site, page: Page) -> None:
    began = site.program.output.count("generation began")
    async with TcpProxy(site.port) as proxy:
        streams = await plain_page(page, f"http://127.0.0.1:{proxy.port}")
        await ask(page, "Why?")
        await page.wait_for_function("document.getElementById('answer').value.includes('Event 1')")
        proxy.redirect(site.port)

        await expect(page.locator("#answer")).to_have_value(answer_to("Why?"), timeout=PATIENCE_MS)

    assert len(streams) == 2
    assert site.program.output.count("generation began") == began + 1


@pytest.mark.browser
async def test_two_browsers_that_ask_at_once_have_their_own_answers(site: Site, page: Page) -> None:
    assert page.context.browser is not None
    pages = [page, await page.context.browser.new_page()]
    for each in pages:
        await plain_page(each, site.url)

    await asyncio.gather(*(ask(each, name) for each, name in zip(pages, ("ann", "bob"), strict=True)))

    for each, name in zip(pages, ("ann", "bob"), strict=True):
        await expect(each.locator("#answer")).to_have_value(answer_to(name), timeout=PATIENCE_MS)


@pytest.mark.browser
async def test_the_pages_of_two_tabs_that_ask_at_once_stay_apart_and_close_their_streams(
    site: Site, page: Page
) -> None:
    assert page.context.browser is not None
    visitor = await page.context.browser.new_context()
    tabs = [await visitor.new_page(), await visitor.new_page()]
    for tab in tabs:
        await tab.goto(site.url)

    await asyncio.gather(*(ask(tab, name) for tab, name in zip(tabs, ("one", "two"), strict=True)))

    for tab, name in zip(tabs, ("one", "two"), strict=True):
        await expect(tab.locator("#state")).to_have_text("Done.", timeout=PATIENCE_MS)
        assert await tab.locator("#answer").input_value() == answer_to(name)


@pytest.mark.browser
async def test_the_page_tells_a_failure_from_an_end(site: Site, page: Page) -> None:
    await page.goto(site.url)

    await ask(page, "fail")

    await expect(page.locator("#state")).to_have_text("Something went wrong.", timeout=PATIENCE_MS)
