"""EventSource, of npm and of Chromium, reads a run in every dialect it can read, and loses nothing wherever it is cut.

It comes back by itself, after about three seconds, with the last id it was given: all cuts are tried at once.
"""

import json
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tailrace import Tailrace
from tailrace.wire.sse import Decoder
from tests.integration.support.client import fetch
from tests.integration.support.server import AppServer
from tests.interop.conftest import Node
from tests.interop.cutting_proxy import CuttingProxy
from tests.interop.story import story

Cuts = Callable[[int], CuttingProxy]
Frame = list[str]

HOWS = ("reset", "half", "eof")
DIALECTS = ("native", "text", "steps", "chunks", "tokens")

#: What `js/eventsource.mjs` runs too.
_READER = (Path(__file__).parent / "js" / "read_streams.js").read_text(encoding="utf-8")
READ = f"(order) => ({_READER})(EventSource, order)"


@pytest.fixture
def server(serve: Callable[..., AppServer]) -> AppServer:
    """Starts a run for every request; nothing names the run but the ids of its frames."""
    tail = Tailrace()

    async def start(request: Request) -> Response:
        return tail.stream(story, dialect=request.query_params["dialect"])

    async def page(_: Request) -> Response:
        return HTMLResponse("<!doctype html><title>reader</title>")

    routes = [Route("/start", start), Route("/", page)]
    middleware = [Middleware(CORSMiddleware, allow_origins=["*"], expose_headers=["location"])]
    app = Starlette(routes=routes, middleware=middleware)
    tail.install(app, "/runs")
    return serve(app)


@pytest_asyncio.fixture
async def tab(require_program: Callable[..., str], server: AppServer) -> AsyncGenerator[Page]:
    executable = require_program("chromium", "chromium-browser")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable, args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        page = await browser.new_page()
        await page.goto(f"http://127.0.0.1:{server.port}/")
        yield page
        await browser.close()


def whole(server: AppServer, dialect: str) -> list[Frame]:
    """Every frame of the run, read without a cut."""
    body = fetch(server.port, "GET", f"/start?dialect={dialect}").body
    return [[event.event, event.data, event.id.rpartition(":")[2]] for event in Decoder().feed(body)]


def order(urls: list[str], frames: list[Frame]) -> dict[str, Any]:
    """What to read: the names to listen to, and the frame that is the last one, by its data if it has no name."""
    event, data, _ = frames[-1]
    last = {"event": event, "data": data if event == "message" else None}
    return {"urls": urls, "names": sorted({frame[0] for frame in frames}), "last": last}


def without_times(frames: list[Frame]) -> list[Frame]:
    """The frames as they are in every run of the story: no clock, no random id."""
    return [[event, "" if data.startswith("{") else data, place] for event, data, place in frames]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_eventsource_of_npm_loses_nothing(node: Node, server: AppServer, cuts: Cuts, dialect: str) -> None:
    expected = whole(server, dialect)
    proxy = cuts(server.port)
    places = range(1, len(expected))
    urls = [f"{proxy.url}/~{how}{k}:{how}:{k}/start?dialect={dialect}" for how in HOWS for k in places]

    readings = node.run("eventsource.mjs", json.dumps(order(urls, expected)))

    assert proxy.cuts == len(urls)
    for url, frames in zip(urls, readings, strict=True):
        assert without_times(frames) == without_times(expected), url


@pytest.mark.browser
@pytest.mark.timeout(120)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_eventsource_of_a_browser_loses_nothing(
    tab: Page, server: AppServer, cuts: Cuts, dialect: str
) -> None:
    expected = whole(server, dialect)
    # A browser opens six connections to an address.
    proxies = [cuts(server.port) for _ in range(len(HOWS) * len(expected) // 6 + 1)]
    places = [(how, k) for how in HOWS for k in range(1, len(expected))]
    urls = [
        f"{proxies[index // 6].url}/~{how}{k}:{how}:{k}/start?dialect={dialect}"
        for index, (how, k) in enumerate(places)
    ]

    readings = await tab.evaluate(READ, order(urls, expected))

    assert sum(proxy.cuts for proxy in proxies) == len(urls)
    for url, frames in zip(urls, readings, strict=True):
        assert without_times(frames) == without_times(expected), url
