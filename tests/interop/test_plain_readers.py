"""Readers without a protocol of their own: httpx-sse, which leaves coming back to its user, and curl."""

import subprocess
from collections.abc import Callable, Iterator

import httpx
import httpx_sse
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tailrace import Tailrace
from tailrace.wire.dialects.registry import DIALECTS
from tests.integration.support.server import AppServer
from tests.interop.cutting_proxy import CuttingProxy
from tests.interop.story import story

Cuts = Callable[[int], CuttingProxy]
Frame = tuple[str, str, str]

_BOUND_SECONDS = 20.0


@pytest.fixture
def server(serve: Callable[..., AppServer]) -> AppServer:
    tail = Tailrace()

    async def start(request: Request) -> Response:
        return tail.stream(story, dialect=request.query_params["dialect"])

    app = Starlette(routes=[Route("/start", start, methods=["POST"])])
    tail.install(app, "/runs")
    return serve(app)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=_BOUND_SECONDS) as client:
        yield client


def read(
    client: httpx.Client, url: str, frames: list[Frame], *, method: str = "GET", after: str | None = None
) -> httpx.Response:
    """Add what an answer has to `frames`; httpx raises if it breaks."""
    headers = {} if after is None else {"last-event-id": after}
    with httpx_sse.connect_sse(client, method, url, headers=headers) as source:
        frames.extend((event.event, event.data, event.id) for event in source.iter_sse())
        return source.response


@pytest.mark.parametrize("dialect", DIALECTS)
def test_httpx_sse_has_all_of_a_run_that_it_comes_back_to(
    client: httpx.Client, server: AppServer, cuts: Cuts, dialect: str
) -> None:
    whole: list[Frame] = []
    location = read(client, f"http://127.0.0.1:{server.port}/start?dialect={dialect}", whole, method="POST").headers[
        "location"
    ]
    proxy = cuts(server.port)

    for k in range(1, len(whole)):
        frames: list[Frame] = []
        with pytest.raises(httpx.TransportError):
            read(client, f"{proxy.url}/~{k}:half:{k}{location}", frames)
        assert frames == whole[:k]
        read(client, f"{proxy.url}{location}", frames, after=frames[-1][2])
        assert frames == whole, k


@pytest.mark.parametrize("dialect", DIALECTS)
def test_curl_prints_the_stream_as_it_is(server: AppServer, require_program: Callable[..., str], dialect: str) -> None:
    curl = require_program("curl")
    url = f"http://127.0.0.1:{server.port}/start?dialect={dialect}"

    printed = subprocess.run(
        [curl, "-sN", "-X", "POST", url], capture_output=True, timeout=_BOUND_SECONDS, check=True
    ).stdout

    assert printed.endswith(b"\n\n: end\n")
    assert b"\r" not in printed
    assert printed.count(b"\n\n") == printed.count(b"\nid: ") + printed.startswith(b"id: ")
