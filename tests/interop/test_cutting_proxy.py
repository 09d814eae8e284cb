"""The proxy of these tests breaks an answer where it is asked to, and passes on everything else."""

import http.client
from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from tailrace import Tailrace
from tests.integration.support.server import AppServer
from tests.interop.cutting_proxy import CuttingProxy
from tests.interop.story import story

Serve = Callable[..., AppServer]
Cuts = Callable[[int], CuttingProxy]


@pytest.fixture
def server(serve: Serve) -> AppServer:
    tail = Tailrace()

    async def start(_: object) -> object:
        return tail.stream(story)

    return serve(Starlette(routes=[Route("/start", start, methods=["POST"])]))


def read(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[bytes, bool]:
    """What came of an answer, and whether it came as a whole."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", path, headers=headers or {})
    body = bytearray()
    try:
        response = connection.getresponse()
        while piece := response.read1():
            body += piece
    except (http.client.IncompleteRead, ConnectionError):
        return bytes(body), False
    finally:
        connection.close()
    return bytes(body), True


def test_an_answer_breaks_after_the_frame_that_was_named(server: AppServer, cuts: Cuts) -> None:
    proxy = cuts(server.port)

    reset, eof = read(proxy.port, "/~a:reset:3/start"), read(proxy.port, "/~b:eof:4/start")
    half = read(proxy.port, "/~c:half:5/start")

    assert (reset[0].count(b"\n\n"), reset[0][-2:], reset[1]) == (3, b"\n\n", False)
    assert (eof[0].count(b"\n\n"), eof[0][-2:], eof[1]) == (4, b"\n\n", True)
    assert (half[0].count(b"\n\n"), half[0][-1:] != b"\n", half[1]) == (5, True, False)
    assert proxy.cuts == 3


def test_only_as_many_answers_break_as_places_were_named(server: AppServer, cuts: Cuts) -> None:
    proxy = cuts(server.port)

    counts = [read(proxy.port, "/~a:reset:2,5/start")[0].count(b"\n\n") for _ in range(3)]
    whole, is_whole = read(proxy.port, "/start")

    assert counts == [2, 5, whole.count(b"\n\n")]
    assert whole.endswith(b": end\n")
    assert is_whole


def test_a_header_breaks_each_answer_in_its_own_way(server: AppServer, cuts: Cuts) -> None:
    proxy = cuts(server.port)
    header = {"x-cut": "a torn:2,eof:4,half:3,reset:5"}

    answers = [read(proxy.port, "/start", header) for _ in range(5)]

    assert [(body.count(b"\n\n"), body[-1:] == b"\n", whole) for body, whole in answers[:4]] == [
        (2, False, True),
        (4, True, True),
        (3, False, False),
        (5, True, False),
    ]
    assert answers[4][0].endswith(b": end\n")
    assert proxy.cuts == 4
