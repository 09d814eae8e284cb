"""ASGI for a WSGI request."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.responses import PlainTextResponse, StreamingResponse

from tailrace import Tailrace
from tailrace.errors import StoreUnavailableError
from tailrace.stores.memory import MemoryStore
from tailrace.web.wsgi.core import WsgiBridge
from tailrace.web.wsgi.places import StreamsFullError
from tailrace.wire.dialects import openai
from tailrace.wire.dialects.native import DIALECT

ENVIRON: dict[str, Any] = {
    "REQUEST_METHOD": "GET",
    "SERVER_NAME": "example.test",
    "SERVER_PORT": "80",
    "wsgi.url_scheme": "http",
}


class AwayAtFirst(MemoryStore):
    """A store that cannot be opened the first time."""

    def __init__(self) -> None:
        super().__init__(monotonic=time.monotonic)
        self.opened = 0

    async def open(self) -> None:
        self.opened += 1
        if self.opened == 1:
            raise StoreUnavailableError("no route to host 10.0.0.7")
        await super().open()


@pytest.fixture
def bridge() -> Iterator[WsgiBridge]:
    bridge = WsgiBridge(Tailrace(), max_streams=1)
    yield bridge
    bridge.close()


def test_a_short_response_is_there_and_a_long_one_comes(bridge: WsgiBridge) -> None:
    short = bridge.answer(ENVIRON, PlainTextResponse("hello"), streams=False, extra={})
    long = bridge.answer(ENVIRON, StreamingResponse(iter(["a", "b"])), streams=True, extra={})

    assert (short.status, short.body) == (200, b"hello")
    assert not isinstance(long.body, bytes)
    assert b"".join(long.body) == b"ab"


def test_a_stream_has_its_place_until_it_is_closed(bridge: WsgiBridge) -> None:
    first = bridge.answer(ENVIRON, StreamingResponse(iter("a")), streams=True, extra={})

    with pytest.raises(StreamsFullError):
        bridge.answer(ENVIRON, StreamingResponse(iter("a")), streams=True, extra={})
    brief = bridge.answer(ENVIRON, PlainTextResponse("hello"), streams=False, extra={})
    assert not isinstance(first.body, bytes)
    first.body.close()
    second = bridge.answer(ENVIRON, PlainTextResponse("hello"), streams=True, extra={})
    third = bridge.answer(ENVIRON, PlainTextResponse("hello"), streams=True, extra={})

    assert [answer.status for answer in (brief, second, third)] == [200, 200, 200]


def test_who_gets_no_place_is_refused_or_asked_to_come_back() -> None:
    error = StreamsFullError()

    refused = WsgiBridge.refusal(error, DIALECT, comes_back=False)
    asked = WsgiBridge.refusal(error, DIALECT, comes_back=True)
    cannot = WsgiBridge.refusal(error, openai.DIALECT, comes_back=True)

    assert (refused.status, asked.status) == (503, 200)
    assert b"event: reconnect" in bytes(asked.body if isinstance(asked.body, bytes) else b"")
    assert cannot.status == (200 if openai.DIALECT.resumes else 503)


def test_a_store_that_is_away_is_a_503_and_the_next_request_tries_again() -> None:
    bridge = WsgiBridge(Tailrace(AwayAtFirst()))

    away = bridge.answer(ENVIRON, PlainTextResponse("hello"), streams=True, extra={})
    back = bridge.answer(ENVIRON, PlainTextResponse("hello"), streams=True, extra={})
    bridge.close()

    assert (away.status, back.status) == (503, 200)
    assert isinstance(away.body, bytes)
    assert b"10.0.0.7" not in away.body


def test_one_of_several_workers_is_warned_once(bridge: WsgiBridge, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "tailrace")

    for _ in range(2):
        bridge.answer({**ENVIRON, "wsgi.multiprocess": True}, PlainTextResponse(""), streams=False, extra={})

    assert caplog.text.count("its store is not shared") == 1
