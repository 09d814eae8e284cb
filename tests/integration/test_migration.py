"""One generator under another library and under ours: what a reader sees is the same, and then it is told the end."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import fastapi.sse
import httpx
import msgspec
import pytest
import sse_starlette
from fastapi import FastAPI
from httpx_sse import connect_sse
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from tailrace import EventStream, Tailrace
from tests.integration.support.apps import answering, chat_app
from tests.integration.support.client import BOUND_SECONDS, fetch
from tests.integration.support.frames import events_of, last_id_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Script

Serve = Callable[..., AppServer]
Seen = list[tuple[str, Any]]
Read = Callable[[int, str, str], Seen]

END = ("run.ended", '{"status":"completed"}')


class Place(BaseModel):
    city: str


#: What a generator under sse-starlette may yield, but for bytes and for what becomes text only by `str()`.
FOR_SSE_STARLETTE: list[object] = [
    "Hel",
    " lo\n",
    "two\r\nlines\r",
    "data: not a frame\n\nid: 9",
    "\ufeff\u2028\x85 odd",
    {"data": "unnamed"},
    {"data": ""},
    {"event": "weather", "data": '{"city": "Paris"}', "id": "w1", "retry": 5_000},
    {"event": "message", "data": "named as if it were not"},
    {"event": "ticks", "data": 5},
    sse_starlette.ServerSentEvent("a\nb", event="token", id="7", retry=3_000, comment="c"),
    sse_starlette.JSONServerSentEvent({"a": ["ä"]}, event="json"),
]

#: What a path operation of FastAPI may yield as a frame; anything else it yields is JSON, ours is text or refused.
FOR_FASTAPI: list[object] = [
    fastapi.sse.ServerSentEvent(data={"city": "Paris"}, event="weather", id="w1", retry=5_000),
    fastapi.sse.ServerSentEvent(data="text in quotes\n", event="token"),
    fastapi.sse.ServerSentEvent(data=[1, 2.5, True, "ä"]),
    fastapi.sse.ServerSentEvent(data=Place(city="Rome"), event="place"),
    fastapi.sse.ServerSentEvent(raw_data="two\nlines", event="raw"),
    fastapi.sse.ServerSentEvent(raw_data=""),
    fastapi.sse.ServerSentEvent(raw_data="[DONE]"),
]

#: Frames without data, which no reader of events sees. What reads lines may: httpx-sse, for one, sees empty events.
SILENT: list[object] = [
    {"comment": "ping"},
    {"event": "never_dispatched"},
    {"id": "7", "retry": 10},
    sse_starlette.ServerSentEvent(comment="ping"),
    sse_starlette.ServerSentEvent(event="never_dispatched"),
]


def by_ours(port: int, method: str, path: str) -> Seen:
    """What the reader of this library sees."""
    return [(event.event, event.data) for event in events_of(fetch(port, method, path).body)]


def by_httpx_sse(port: int, method: str, path: str) -> Seen:
    """What a reader sees that knows nothing of this library."""
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=BOUND_SECONDS, trust_env=False) as client,
        connect_sse(client, method, path) as source,
    ):
        return [(event.event, event.data) for event in source.iter_sse()]


readers = pytest.mark.parametrize("read", [by_ours, by_httpx_sse])


async def async_items(items: list[object]) -> AsyncIterator[object]:
    for item in items:
        yield item


def sync_items(items: list[object]) -> Iterator[object]:
    yield from items


def both_of(generate: Callable[[], Any]) -> Starlette:
    """The same generator under sse-starlette and under ours."""
    made: dict[str, Callable[[], Response]] = {
        "/theirs": lambda: sse_starlette.EventSourceResponse(generate()),
        "/ours": lambda: EventStream(generate(), dialect="text"),
    }
    return Starlette(routes=[Route(path, answering(make), methods=["GET", "POST"]) for path, make in made.items()])


@readers
@pytest.mark.parametrize("generate", [async_items, sync_items])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_was_sent_by_sse_starlette_is_sent_as_it_was(
    serve: Serve, read: Read, generate: Callable[[list[object]], Any], method: str
) -> None:
    server = serve(both_of(lambda: generate(FOR_SSE_STARLETTE)))

    before, after = read(server.port, method, "/theirs"), read(server.port, method, "/ours")

    assert len(before) == len(FOR_SSE_STARLETTE)
    assert after == [*before, END]


def test_what_no_reader_saw_is_not_sent(serve: Serve) -> None:
    server = serve(both_of(lambda: async_items(["a", *SILENT, "b"])))

    before, after = by_ours(server.port, "GET", "/theirs"), by_ours(server.port, "GET", "/ours")

    assert before == [("message", "a"), ("message", "b")]
    assert after == [*before, END]


@readers
def test_what_was_sent_by_fastapi_is_sent_as_it_was(serve: Serve, read: Read) -> None:
    app = FastAPI()

    @app.get("/theirs", response_class=fastapi.sse.EventSourceResponse)
    async def theirs() -> AsyncIterator[fastapi.sse.ServerSentEvent]:
        async for item in async_items(FOR_FASTAPI):
            assert isinstance(item, fastapi.sse.ServerSentEvent)
            yield item

    @app.get("/ours")
    async def ours() -> Response:
        return EventStream(async_items(FOR_FASTAPI), dialect="text")

    server = serve(app)

    before, after = read(server.port, "GET", "/theirs"), read(server.port, "GET", "/ours")

    assert len(before) == len(FOR_FASTAPI)
    assert _values(after) == [*_values(before), *_values([END])]


def _values(seen: Seen) -> Seen:
    """JSON as what it says: where its spaces are is nobody's business."""
    read: Seen = []
    for name, data in seen:
        value = data
        with suppress(msgspec.DecodeError):
            value = msgspec.json.decode(data)
        read.append((name, value))
    return read


def test_a_failure_that_used_to_cut_the_stream_is_its_last_event(serve: Serve) -> None:
    async def failing() -> AsyncIterator[str]:
        yield "so far"
        raise RuntimeError("a secret")

    server = serve(Starlette(routes=[Route("/", answering(lambda: EventStream(failing(), dialect="text")))]))

    *_, (name, data) = by_ours(server.port, "GET", "/")

    assert name == "run.ended"
    assert msgspec.json.decode(data) == {
        "status": "failed",
        "error": {"code": "error", "message": "Something went wrong."},
    }


@pytest.mark.parametrize("dialect", ["text", "steps"])
def test_a_page_that_connects_again_after_the_end_is_told_to_stop_and_starts_nothing(
    serve: Serve, dialect: str
) -> None:
    source = Script("a", {"event": "ticks", "data": 5})
    server = serve(chat_app(Tailrace(), source, dialect=dialect))

    first = fetch(server.port, "GET", "/chat")
    again = fetch(server.port, "GET", "/chat", {"last-event-id": last_id_of(first.body)})

    assert [event.data for event in events_of(first.body) if event.event == "ticks"] == ["5"]
    assert (again.status, again.body) == (204, b"")
    assert source.opened == 1


def test_bytes_are_refused_with_advice(serve: Serve) -> None:
    source: list[object] = ["a", b"data: b\n\n"]
    server = serve(Starlette(routes=[Route("/", answering(lambda: EventStream(iter(source), dialect="text")))]))

    *_, (_, data) = by_ours(server.port, "GET", "/")

    assert "got bytes, expected str" in data
    assert "leave" in data
