"""A page elsewhere takes a ticket with its token, and reads the run by the browser's EventSource, which has none."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.async_api import Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tailrace import Tailrace
from tailrace.chat.identity.contract import owner_by
from tailrace.chat.identity.cors import add_cors
from tailrace.chat.identity.guard import Origins
from tailrace.chat.identity.tokens import Tokens
from tests.integration.support.server import AppServer
from tests.integration.support.tokens import RULES, token
from tests.interop.story import story

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

#: Starts a run, takes a ticket, reads the run by it, and tries the same URL again.
READ = """
async ({server, token}) => {
  const headers = {authorization: `Bearer ${token}`}
  const started = await fetch(`${server}/chat`, {method: "POST", headers})
  const location = started.headers.get("location")
  await started.text()
  const refused = await fetch(server + location)
  const taken = await fetch(server + location.replace("/events", "/ticket"), {method: "POST", headers})
  const {events_url} = await taken.json()
  const read = () => new Promise((resolve) => {
    const source = new EventSource(server + events_url)
    const seen = []
    source.addEventListener("text.delta", (event) => seen.push(JSON.parse(event.data).delta))
    source.addEventListener("run.completed", (event) => {
      source.close()
      resolve({text: seen.join(""), last: event.lastEventId})
    })
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve("closed for good") }
  })
  return {status: refused.status, error: (await refused.json()).error.code, first: await read(), second: await read()}
}
"""


@pytest.fixture
def site(serve: Callable[..., AppServer]) -> AppServer:
    """Where the page is."""

    async def page(_: Request) -> Response:
        return HTMLResponse("<!doctype html><title>reader</title>")

    return serve(Starlette(routes=[Route("/", page)]))


@pytest.fixture
def server(serve: Callable[..., AppServer], site: AppServer) -> AppServer:
    """Where the runs are: for its browser another origin."""
    tail = Tailrace(owner=owner_by(Tokens(RULES).identify))

    async def chat(_: Request) -> Response:
        return tail.stream(story)

    app = Starlette(routes=[Route("/chat", chat, methods=["POST"])])
    tail.install(app, "/runs")
    add_cors(app, Origins.parse([f"http://127.0.0.1:{site.port}"], proof="bearer"))
    return serve(app)


async def test_a_ticket_is_good_for_one_eventsource(page: Page, site: AppServer, server: AppServer) -> None:
    await page.goto(f"http://127.0.0.1:{site.port}/")

    order = {"server": f"http://127.0.0.1:{server.port}", "token": token()}
    told: dict[str, Any] = await page.evaluate(READ, order)

    assert (told["status"], told["error"]) == (401, "unauthenticated")
    assert told["first"]["text"]
    assert int(told["first"]["last"]) > 1
    assert told["second"] == "closed for good"
