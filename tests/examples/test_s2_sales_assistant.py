"""The sales assistant: with curl as it is documented, a reader that knows no better, and a page of another origin."""

import contextlib
import socket
import subprocess
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.async_api import Page, expect

from tailrace.wire.sse import ServerSentEvent
from tests.examples.program import EXAMPLES, Program
from tests.examples.serving import PATIENCE_MS, Site, post_json, serving
from tests.integration.support.client import fetch, open_stream
from tests.integration.support.frames import events_of
from tests.tcp_proxy import TcpProxy

READERS = Path(__file__).parent / "readers"
SHOP, STRANGER = "https://shop.example", "https://stranger.example"
ORDER = ["chunk", "tool_use", "tool_output", "chunk", "end"]
WEATHER = "What is the weather?"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving("s2_sales_assistant.web:app", {"PACE": "0.2", "SHOP_ORIGINS": SHOP}) as site:
        yield site


@pytest.fixture(scope="module")
def slow_site() -> Iterator[Site]:
    """Whose answers do not end before they are looked at."""
    with serving("s2_sales_assistant.web:app", {"PACE": "600"}) as site:
        yield site


def ask(site: Site, query: str, headers: dict[str, str] | None = None, session: str = "test123") -> list[Any]:
    reply = post_json(site.port, "/query", {"query": query, "session_id": session}, headers)
    assert reply.status == 200, reply.body
    return events_of(reply.body)


def names(events: list[ServerSentEvent]) -> list[str]:
    """The names in order, chunks that follow each other as one."""
    return [name for name, _ in groupby(event.event for event in events)]


def text_of(events: list[ServerSentEvent]) -> str:
    return "".join(event.data for event in events if event.event == "chunk")


def outputs(events: list[ServerSentEvent]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(event.data) for event in events if event.event == "tool_output"]


def visitor(site: Site) -> dict[str, str]:
    """The cookie of somebody new."""
    reply = post_json(site.port, "/query", {"query": "hello", "session_id": "first"})
    return {"cookie": reply.head["set-cookie"].partition(";")[0]}


# The contract --------------------------------------------------------------------------------------------------------


def test_the_command_of_the_documentation_works_as_it_is(site: Site, require_program: Callable[..., str]) -> None:
    curl = require_program("curl")
    command = (
        f"{curl} -s -N -X POST -H 'Content-Type: application/json' "
        """-d '{"query": "What is the weather?", "session_id": "test123"}' """
        f"{site.url}/query"
    )

    output = subprocess.run(["/bin/sh", "-c", command], check=True, capture_output=True, timeout=50).stdout

    events = events_of(output)
    assert names(events) == ORDER
    assert output.endswith(b"event: end\ndata: \n\n: end\n")


def test_the_events_come_in_the_order_and_with_the_payloads_that_clients_know(site: Site) -> None:
    events = ask(site, WEATHER)

    (output,) = outputs(events)
    assert names(events) == ORDER
    assert [event.data for event in events if event.event == "tool_use"] == ["get_weather"]
    assert output["name"] == "get_weather"
    assert set(output["output"]) == {"temperature", "conditions", "city"}
    assert output["output"]["city"] == "San Francisco"
    assert events[-1].data == ""
    assert len([event for event in events if event.event == "chunk"]) > 10


def test_a_reader_of_this_vocabulary_reads_all_of_it(site: Site, require_program: Callable[..., str]) -> None:
    def heard(query: str) -> list[list[Any]]:
        command = [require_program("node"), str(READERS / "sales_assistant.mjs"), f"{site.url}/query", query, "s"]
        output = subprocess.run(command, check=True, capture_output=True, timeout=50).stdout
        return msgspec.json.decode(output, type=list[list[Any]])

    weather, hello = heard(WEATHER), heard("hello")

    assert [name for name, _ in groupby(name for name, _ in weather)] == ORDER
    assert weather[-1] == ["end", ""]
    assert "".join(data for name, data in hello if name == "chunk") == (
        "Welcome to SuperCar! I am a script, not a model.\nAsk me what the weather is like."
    )


# The faults ----------------------------------------------------------------------------------------------------------


def test_tools_that_run_side_by_side_can_be_told_apart(site: Site) -> None:
    events = ask(site, "Compare the weather in Berlin and Cairo")

    given = outputs(events)
    assert [event.data for event in events if event.event == "tool_use"] == ["get_weather"] * 2
    # The second was faster, and both go by one name.
    assert [output["output"]["city"] for output in given] == ["Cairo", "Berlin"]
    assert [output["call_id"] for output in given] == ["weather_2", "weather_1"]


def test_a_tool_that_fails_does_not_end_the_answer(site: Site) -> None:
    events = ask(site, "weather in Lima")

    assert outputs(events)[0]["output"] == {"error": "The weather service knows nothing of Lima."}
    assert names(events) == ORDER


def test_a_failure_is_an_event_and_the_end_comes_after_it(site: Site) -> None:
    events = ask(site, "Please fail")

    assert [event.event for event in events[-2:]] == ["failure", "end"]
    assert msgspec.json.decode(events[-2].data)["code"] == "error"
    assert text_of(events).endswith("Something went wrong.")
    assert "hunter2" not in str(events)
    site.program.until_says("hunter2")


def test_a_session_belongs_to_who_began_it_whatever_it_is_called(site: Site) -> None:
    ann, bob = visitor(site), visitor(site)
    ask(site, "I am Ann", ann)

    hers = text_of(ask(site, "What did I ask before?", ann))
    his = text_of(ask(site, "What did I ask before?", bob))
    elsewhere = text_of(ask(site, "What did I ask before?", ann, session="another"))

    assert hers == "In this session you asked before: I am Ann."
    assert his == elsewhere == "In this session you asked before: nothing."


def test_an_answer_belongs_to_who_asked(site: Site) -> None:
    ann, bob = visitor(site), visitor(site)
    reply = post_json(site.port, "/query", {"query": WEATHER, "session_id": "test123"}, ann)
    location = reply.head["location"]

    statuses = [fetch(site.port, "GET", location, cookie).status for cookie in (ann, bob, {})]

    assert statuses == [200, 404, 404]


def test_a_query_that_is_sent_again_is_asked_once(site: Site) -> None:
    ann = visitor(site)
    sent = {**ann, "idempotency-key": "the same query, sent twice"}

    first, second = ask(site, "hello", sent), ask(site, "hello", sent)

    assert first == second
    assert text_of(ask(site, "What did I ask before?", ann)) == "In this session you asked before: hello."


def test_there_is_a_limit_to_what_one_may_ask_and_how_much_at_once(slow_site: Site) -> None:
    def status(**body: str) -> int:
        return post_json(slow_site.port, "/query", body).status

    sizes = [
        status(query="x" * 4_001, session_id="s"),
        status(query="x", session_id="s" * 129),
        status(query="x", session_id=""),
        status(query="x"),
        status(query="x" * 40_000, session_id="s"),
    ]
    body = msgspec.json.encode({"query": "hello", "session_id": "s"})
    form = fetch(slow_site.port, "POST", "/query", {"content-type": "text/plain"}, body).status
    cookie: dict[str, str] = {}
    for _ in range(4):
        sent = {"content-type": "application/json", **cookie}
        with open_stream(slow_site.port, "POST", "/query", sent, body=body) as reader:
            cookie = cookie or {"cookie": reader.head["set-cookie"].partition(";")[0]}

    refused = fetch(slow_site.port, "POST", "/query", {"content-type": "application/json", **cookie}, body)

    assert sizes == [422, 422, 422, 422, 413]
    assert form == 415
    assert (refused.status, refused.head["retry-after"]) == (429, "5")


# Other origins -------------------------------------------------------------------------------------------------------


def cors(headers: list[tuple[str, str]]) -> dict[str, str]:
    return {name: value for name, value in headers if name.startswith("access-control-allow-")}


def test_only_named_origins_may_read_with_a_cookie(site: Site) -> None:
    def answered(origin: str) -> dict[str, str]:
        query = {"query": "hello", "session_id": "s"}
        return cors(post_json(site.port, "/query", query, {"origin": origin}).head.headers)

    assert answered(SHOP) == {"access-control-allow-origin": SHOP, "access-control-allow-credentials": "true"}
    for origin in (STRANGER, "null", f"{SHOP}.evil.example", "http://shop.example"):
        assert "access-control-allow-origin" not in answered(origin)


def test_a_preflight_lets_the_shop_ask_and_nobody_else(site: Site) -> None:
    def preflight(origin: str) -> tuple[int, str | None]:
        asked = {
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type",
        }
        reply = fetch(site.port, "OPTIONS", "/query", asked)
        return reply.status, cors(reply.head.headers).get("access-control-allow-origin")

    assert preflight(SHOP) == (200, SHOP)
    assert preflight(STRANGER) == (400, None)


def test_it_does_not_start_where_any_origin_may_read_with_a_cookie() -> None:
    command = ("-m", "uvicorn", "s2_sales_assistant.web:app", "--port", "0")

    with Program(*command, environment={"SHOP_ORIGINS": "*"}) as program:
        program.until_says("name the origins of yours")


@pytest.mark.browser
async def test_a_page_of_another_origin_shows_the_answer_even_if_the_connection_breaks(page: Page) -> None:
    async with TcpProxy(0) as proxy:
        with serving("s2_sales_assistant.shop:app", {"ASSISTANT_URL": f"http://127.0.0.1:{proxy.port}"}) as shop:
            environment = {"SHOP_ORIGINS": shop.url, "PACE": "0.5"}
            with serving("s2_sales_assistant.web:app", environment) as assistant:
                proxy.redirect(assistant.port)
                asked: list[str] = []
                page.on("request", lambda request: asked.append(request.method) if "/query" in request.url else None)
                await page.goto(shop.url)

                await page.get_by_role("button", name="Ask").click()
                await expect(page.locator("#tools li")).to_have_count(1, timeout=PATIENCE_MS)
                proxy.redirect(assistant.port)
                await expect(page.locator("#state")).to_have_text("Done.", timeout=PATIENCE_MS)
                text = await page.locator("#answer").inner_text()
                await page.get_by_label("Query").fill("What did I ask before?")
                await page.get_by_role("button", name="Ask").click()
                await expect(page.locator("#answer")).to_have_text(
                    f"In this session you asked before: {WEATHER}.", timeout=PATIENCE_MS
                )
                whole = text_of(ask(assistant, WEATHER))

    assert text == whole.strip()
    assert [method for method in asked if method == "POST"] == ["POST", "POST"]


@pytest.mark.browser
async def test_a_page_of_an_origin_that_is_not_named_reads_nothing(site: Site, page: Page) -> None:
    with serving("s2_sales_assistant.shop:app", {"ASSISTANT_URL": site.url}) as shop:
        await page.goto(shop.url)

        await page.get_by_role("button", name="Ask").click()

        await expect(page.locator("#state")).to_have_text("Failed to fetch", timeout=PATIENCE_MS)
        assert await page.locator("#answer").inner_text() == ""


def test_its_page_reads_streams_as_the_chat_page_does() -> None:
    ours, theirs = (EXAMPLES / name / "page" / "sse.js" for name in ("s2_sales_assistant", "s3_tenant_chat"))

    assert ours.read_text(encoding="utf-8") == theirs.read_text(encoding="utf-8")


def test_one_command_starts_both_and_ctrl_c_stops_them() -> None:
    with contextlib.ExitStack() as sockets:
        ports = [str(sockets.enter_context(bound()).getsockname()[1]) for _ in range(2)]
    with Program(str(EXAMPLES / "s2_sales_assistant" / "run.py"), *ports, environment={}) as program:
        for port in ports:
            program.until_says(rf"running on http://127\.0\.0\.1:{port}")
        page = fetch(int(ports[1]), "GET", "/")
        asked = fetch(int(ports[1]), "GET", "/assistant.json").json()

        exit_code = program.interrupt()

    assert b"SuperCar" in page.body
    assert f"connect-src 'self' http://127.0.0.1:{ports[0]};" in page.head["content-security-policy"]
    assert asked == {"url": f"http://127.0.0.1:{ports[0]}"}
    assert exit_code == 0
    assert "Traceback" not in program.output


def bound() -> socket.socket:
    """A socket on a port that is free."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener
