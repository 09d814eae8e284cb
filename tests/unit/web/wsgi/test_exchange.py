"""One request between the loop's thread and the server's."""

import contextvars
import errno
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace.web.writer import StreamAbortedError
from tailrace.web.wsgi.exchange import Body, Exchange
from tailrace.web.wsgi.loop import LoopThread

BOUND_SECONDS = 20.0
CHUNK = b"x" * 1024
HEAD: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
STREAM: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
END: Message = {"type": "http.response.body"}


def piece(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}


@asynccontextmanager
async def nothing() -> AsyncGenerator[None]:
    yield


class Request:
    """One request, and what became of it."""

    def __init__(self, loop: LoopThread, app: ASGIApp, body: bytes = b"") -> None:
        self.cuts = 0
        self.left = 0
        self.exchange = Exchange(body, self._cut)
        self.body = Body(self.exchange, loop, self._leave)
        loop.submit(self.exchange.run(app, {"type": "http", "abort": self.exchange.abort}), contextvars.copy_context())

    def _cut(self) -> None:
        self.cuts += 1

    def _leave(self) -> None:
        self.left += 1


@pytest.fixture
def call() -> Iterator[Callable[..., Request]]:
    """Call an application."""
    loop = LoopThread(nothing)

    def request(app: ASGIApp, body: bytes = b"") -> Request:
        return Request(loop, app, body)

    yield request
    loop.stop(BOUND_SECONDS)


def sending(*messages: Message) -> ASGIApp:
    async def app(_: Scope, __: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def test_a_response_comes_through_as_it_is(call: Callable[..., Request]) -> None:
    request = call(sending(HEAD, piece(b"a"), piece(b""), piece(b"b"), END))

    head, body = request.body.head(), b"".join(request.body)

    assert (head.status, head.get(b"content-type"), head.get(b"location")) == (200, b"text/plain", None)
    assert body == b"ab"


def test_the_body_of_the_request_is_received(call: Callable[..., Request]) -> None:
    async def echo(_: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        await send(HEAD)
        await send({"type": "http.response.body", "body": message["body"], "more_body": message["more_body"]})

    request = call(echo, b"hello")
    request.body.head()

    assert b"".join(request.body) == b"hello"


def test_what_is_raised_before_the_response_is_raised_to_the_server(call: Callable[..., Request]) -> None:
    async def failing(*_: object) -> None:
        raise LookupError("no")

    async def silent(*_: object) -> None:
        pass

    with pytest.raises(LookupError):
        call(failing).body.head()
    with pytest.raises(RuntimeError, match="no response"):
        call(silent).body.head()


@pytest.mark.parametrize("how", ["returns", "aborts", "fails"])
def test_a_body_that_is_not_whole_is_no_clean_end(
    call: Callable[..., Request], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send(HEAD)
        await send(piece(b"a"))
        if how == "aborts":
            raise StreamAbortedError
        if how == "fails":
            raise LookupError("no")

    request = call(app)
    request.body.head()

    assert next(request.body) == b"a"
    with pytest.raises(ConnectionResetError) as raised:
        next(request.body)
    assert raised.value.errno == errno.ECONNRESET
    assert request.cuts == (how == "aborts")
    assert ("a response failed" in caplog.text) == (how == "fails")


def test_an_application_can_have_the_connection_cut(call: Callable[..., Request]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        scope["abort"]()
        await receive()
        await receive()

    request = call(app)
    request.body.head()

    with pytest.raises(ConnectionResetError):
        next(request.body)
    assert request.cuts == 1
    request.body.close()


def test_what_waits_for_the_server_is_bounded(call: Callable[..., Request]) -> None:
    sent: list[int] = []
    full, over = threading.Event(), threading.Event()

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send(HEAD)
        for number in range(200):
            if number == 64:
                full.set()
            await send(piece(CHUNK))
            sent.append(number)
        await send(END)
        over.set()

    request = call(app)
    request.body.head()
    assert full.wait(BOUND_SECONDS)
    sent_before = len(sent)
    ahead = len(request.exchange.chunks)
    body = b"".join(request.body)

    assert over.wait(BOUND_SECONDS)
    assert (sent_before, ahead) == (64, 64)
    assert body == CHUNK * 200


def test_an_application_that_waits_for_room_goes_on_when_the_client_is_gone(call: Callable[..., Request]) -> None:
    full, over = threading.Event(), threading.Event()

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await send(piece(CHUNK * 64))
        full.set()
        await send(piece(CHUNK))
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        over.set()

    request = call(app)
    request.body.head()
    assert full.wait(BOUND_SECONDS)
    request.body.close()
    request.body.close()

    assert over.wait(BOUND_SECONDS)
    assert request.left == 1


def test_a_stream_that_is_quiet_says_hello_and_no_other_response_does(call: Callable[..., Request]) -> None:
    ends = [threading.Event(), threading.Event()]

    def quiet(head: Message, end: threading.Event) -> ASGIApp:
        async def app(_: Scope, receive: Receive, send: Send) -> None:
            await send(head)
            await receive()
            await receive()
            end.set()

        return app

    stream = call(quiet(STREAM, ends[0]))
    stream.body.head()
    hello = next(stream.body)
    stream.body.close()
    busy = call(sending(STREAM, piece(b"at once"), END))
    busy.body.head()

    assert hello == b": hb\n"
    assert ends[0].wait(BOUND_SECONDS)
    assert b"".join(busy.body).endswith(b"at once")


def test_a_response_that_nobody_has_any_more_is_left(call: Callable[..., Request]) -> None:
    gone = threading.Event()

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await send(STREAM)
        await receive()
        await receive()
        gone.set()

    request = call(app)
    request.body.head()
    del request.body

    assert gone.wait(BOUND_SECONDS)
    assert request.left == 1
