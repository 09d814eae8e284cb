"""The streaming client does to an application what a server does."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from tailrace.testing import AsgiClient

START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"X-A", b"1"), (b"x-a", b"2")]}


def chunk(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def test_a_response_that_never_ends_is_read_as_it_is_made() -> None:
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(chunk(b"first"))
        await gate.wait()
        await send(chunk(b"second"))
        await receive()
        await receive()

    async with AsgiClient(app).stream("GET", "/") as response:
        chunks = [await anext(response)]
        gate.set()
        chunks.append(await anext(response))

    assert (response.status, response.headers) == (200, {"x-a": "1, 2"})
    assert chunks == [b"first", b"second"]


async def test_leaving_the_block_tells_the_application_of_the_disconnect() -> None:
    messages: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        messages.extend([await receive(), await receive(), await receive()])
        await send(chunk(b"into the void"))

    async with AsgiClient(app).stream("POST", "/", content=b"body") as response:
        pass

    assert [message["type"] for message in messages] == ["http.request", "http.disconnect", "http.disconnect"]
    assert messages[0]["body"] == b"body"
    assert await response.read() == b""


async def test_a_request_arrives_as_it_was_sent() -> None:
    async def echo(request: Request) -> Response:
        return JSONResponse(
            {
                "method": request.method,
                "path": request.scope["path"],
                "query": request.query_params.multi_items(),
                "type": request.headers["content-type"],
                "extra": request.headers["x-extra"],
                "body": await request.json(),
            }
        )

    app = Starlette(routes=[Route("/a b", echo, methods=["PUT"])])

    async with AsgiClient(app).stream("put", "/a%20b?c=%2F", json={"d": 1}, headers={"X-Extra": "e"}) as response:
        body = await response.read()

    assert response.headers["content-type"] == "application/json"
    expected = {"method": "PUT", "path": "/a b", "query": [["c", "/"]], "type": "application/json", "extra": "e"}
    assert body == JSONResponse({**expected, "body": {"d": 1}}).body


async def test_the_lifespan_runs_around_the_block_and_its_state_reaches_requests() -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[dict[str, str]]:
        steps.append("started")
        yield {"word": "state"}
        steps.append("stopped")

    async def word(request: Request) -> Response:
        return Response(request.state.word)

    app = Starlette(routes=[Route("/", word)], lifespan=lifespan)

    async with AsgiClient(app) as client, client.stream("GET", "/") as response:
        body = await response.read()
        during = list(steps)

    assert body == b"state"
    assert (during, steps) == (["started"], ["started", "stopped"])


async def test_a_lifespan_that_fails_is_an_error() -> None:
    def open_disk() -> None:
        raise ValueError("no disk")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        open_disk()
        yield

    with pytest.raises(RuntimeError, match="startup failed"):
        async with AsgiClient(Starlette(lifespan=lifespan)):
            raise AssertionError("unreachable")


async def test_a_lifespan_that_hangs_is_an_error() -> None:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        yield
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with AsgiClient(Starlette(lifespan=lifespan), stop_seconds=0.01):
            pass


async def test_an_application_without_a_lifespan_is_served_all_the_same() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await send(START)
        await send(chunk(b"ok", more=False))

    async with AsgiClient(app) as client, client.stream("GET", "/") as response:
        assert await response.read() == b"ok"


async def test_send_waits_for_a_reader_that_is_behind() -> None:
    sent: list[int] = []
    third = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for number in range(3):
            await send(chunk(b"x" * 10))
            sent.append(number)
        third.set()
        await send(chunk(b"", more=False))

    async with AsgiClient(app, buffer_bytes=15).stream("GET", "/") as response:
        unread = list(sent)
        await anext(response)
        await third.wait()
        rest = await response.read()

    assert unread == [0, 1]
    assert rest == b"x" * 20


async def test_what_is_raised_before_the_headers_is_raised_as_it_is() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("nothing here")

    with pytest.raises(LookupError, match="nothing here"):
        async with AsgiClient(app).stream("GET", "/"):
            raise AssertionError("unreachable")


async def test_no_response_at_all_is_an_error() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        return

    with pytest.raises(RuntimeError, match="without a response"):
        async with AsgiClient(app).stream("GET", "/"):
            raise AssertionError("unreachable")


async def test_a_body_that_is_cut_is_an_error_with_its_cause() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(chunk(b"half"))
        raise LookupError("broken")

    async with AsgiClient(app).stream("GET", "/") as response:
        first = await anext(response)
        with pytest.raises(ConnectionResetError) as cut:
            await response.read()

    assert first == b"half"
    assert isinstance(cut.value.__cause__, LookupError)
    assert response.error is cut.value.__cause__


async def test_an_application_that_ignores_the_disconnect_is_an_error() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError, match="client had left"):
        async with AsgiClient(app, stop_seconds=0.01).stream("GET", "/"):
            pass


async def test_events_come_as_soon_as_they_are_complete() -> None:
    frames = [b"id: 1\ndata: a\n", b"\ndata: b\n\n: hb\n", b"event: end\ndata: c\n\n"]

    async def body() -> AsyncIterator[bytes]:
        for frame in frames:
            yield frame

    async def stream(_: Request) -> Response:
        return StreamingResponse(body())

    app = Starlette(routes=[Route("/", stream)])

    async with AsgiClient(app).stream("GET", "/") as response:
        found = [(event.event, event.data, event.id) async for event in response.events()]

    assert found == [("message", "a", "1"), ("message", "b", "1"), ("end", "c", "1")]
