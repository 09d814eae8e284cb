"""What a transport that resumes passes on, what it asks, and when it gives up; without a socket."""

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import Any, TypeAlias

import httpx2
import pytest

from tailrace.client.commands import Attempt
from tailrace.client.transport import ResumingTransport
from tailrace.errors import FrameTooLargeError, NotAStreamError, RequestRefusedError, StreamBrokenError, TailraceError

URL = "https://api.example/v1/chat"
LOG = "https://api.example/runs/r/events?dialect=tokens"
HERE = {"content-type": "text/event-stream; charset=utf-8", "location": "/runs/r/events?dialect=tokens"}
SECRETS = {"authorization": "Bearer a", "cookie": "b", "x-api-key": "c"}

FRAMES = [b'id: %d\ndata: {"token":"%d"}\n\n' % (number, number) for number in range(1, 5)]
DONE = b"id: 5\ndata: [DONE]\n\n"
END = b": end\n"
WHOLE = b"".join(FRAMES) + DONE + END

LOST = httpx2.ReadError("the connection was reset")


class Body(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """Chunks, and then an error or the end."""

    def __init__(self, *items: bytes | Exception) -> None:
        self.is_closed = False
        self.taken = 0
        self._items = items

    def __iter__(self) -> Iterator[bytes]:
        for item in self._items:
            self.taken += 1
            if isinstance(item, Exception):
                raise item
            yield item

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk

    def close(self) -> None:
        self.is_closed = True

    async def aclose(self) -> None:
        self.close()


Answer: TypeAlias = httpx2.Response | Exception


def answer(*items: bytes | Exception, status: int = 200, headers: dict[str, str] | None = None) -> httpx2.Response:
    return httpx2.Response(status, headers={**HERE, **(headers or {})}, stream=Body(*items))


def refusal(status: int, body: bytes = b"{}", headers: dict[str, str] | None = None) -> httpx2.Response:
    return httpx2.Response(status, headers={"content-type": "application/json", **(headers or {})}, stream=Body(body))


class Server:
    """Gives one answer after another; an exception is that nobody answers. Cancels are taken down beside."""

    def __init__(self, *answers: Answer, cancelling: Answer | None = None) -> None:
        self.requests: list[httpx2.Request] = []
        self.cancels: list[httpx2.Request] = []
        self.transport = httpx2.MockTransport(self._answer)
        self._answers = iter(answers)
        self._cancelling = cancelling or httpx2.Response(202)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/cancel"):
            self.cancels.append(request)
            given = self._cancelling
        else:
            self.requests.append(request)
            given = next(self._answers)
        if isinstance(given, Exception):
            raise given
        return given

    @property
    def resumes(self) -> list[tuple[str, str, str | None]]:
        """What was asked after the first request: how, where, and after which id."""
        return [(each.method, str(each.url), each.headers.get("last-event-id")) for each in self.requests[1:]]


#: Takes so many pieces of the answer, or all of them.
Read: TypeAlias = Callable[..., list[bytes]]


def _transport(server: Server, options: dict[str, Any]) -> ResumingTransport:
    options.setdefault("base_seconds", 1e-9)
    return ResumingTransport(server.transport, **options)


def read_sync(
    server: Server,
    *,
    pieces: int | None = None,
    method: str = "POST",
    sends: dict[str, str] | None = None,
    **options: Any,  # noqa: ANN401  those of the transport
) -> list[bytes]:
    with (
        httpx2.Client(transport=_transport(server, options)) as client,
        client.stream(method, URL, headers=sends) as response,
    ):
        return list(islice(response.iter_raw(), pieces))


def read_async(
    server: Server,
    *,
    pieces: int | None = None,
    method: str = "POST",
    sends: dict[str, str] | None = None,
    **options: Any,  # noqa: ANN401  those of the transport
) -> list[bytes]:
    async def read() -> list[bytes]:
        taken: list[bytes] = []
        async with (
            httpx2.AsyncClient(transport=_transport(server, options)) as client,
            client.stream(method, URL, headers=sends) as response,
        ):
            async for piece in response.aiter_raw():
                taken.append(piece)
                if len(taken) == pieces:
                    break
        return taken

    return asyncio.run(read())


@pytest.fixture(params=[read_sync, read_async], ids=["sync", "async"])
def read(request: pytest.FixtureRequest) -> Read:
    """A reader of either kind."""
    reader: Read = request.param
    return reader


def cause_of(read: Read, server: Server, **options: Any) -> TailraceError:  # noqa: ANN401
    """Why a reading fails."""
    with pytest.raises(httpx2.RemoteProtocolError) as raised:
        read(server, **options)
    assert isinstance(raised.value.__cause__, TailraceError)
    return raised.value.__cause__


# What is passed on


@pytest.mark.parametrize(
    "breaks",
    [
        pytest.param([LOST], id="reset"),
        pytest.param([], id="eof between frames"),
        pytest.param([FRAMES[2][:9]], id="eof in mid-frame"),
        pytest.param([FRAMES[2][:9], LOST], id="reset in mid-frame"),
        pytest.param([FRAMES[2][:-1]], id="eof before the last byte"),
        pytest.param([httpx2.ReadTimeout("")], id="silence"),
    ],
)
def test_a_break_is_not_seen(read: Read, breaks: list[bytes | Exception]) -> None:
    server = Server(answer(FRAMES[0], FRAMES[1], *breaks), answer(FRAMES[2], FRAMES[3] + DONE + END))

    assert b"".join(read(server)) == WHOLE
    assert server.resumes == [("GET", LOG, "2")]


def test_a_stream_may_be_resumed_as_often_as_it_breaks(read: Read) -> None:
    server = Server(
        answer(FRAMES[0][:5]),
        httpx2.ConnectError("nobody is there"),
        refusal(503),
        answer(FRAMES[0], LOST),
        answer(LOST),
        answer(*FRAMES[1:3], FRAMES[3][:1]),
        answer(FRAMES[3], DONE, END),
    )

    assert b"".join(read(server)) == WHOLE
    assert [cursor for _, _, cursor in server.resumes] == [None, None, None, "1", "1", "3"]


def test_only_whole_frames_and_comments_are_passed_on_and_at_once(read: Read) -> None:
    whole = WHOLE.replace(END, b": hb\n" + END)
    pieces = [b": hb\n", b": h", b"b\n", FRAMES[0][:4], FRAMES[0][4:], *FRAMES[1:], DONE, b": hb\n", END]

    assert read(Server(answer(*pieces))) == [b": hb\n", b": hb\n", *FRAMES, DONE, b": hb\n", END][:8]
    assert b"".join(read(Server(answer(*[bytes([byte]) for byte in whole])))) == WHOLE.replace(END, b": hb\n")


def test_a_frame_that_was_passed_on_is_not_passed_on_again(read: Read) -> None:
    server = Server(answer(*FRAMES[:3], LOST), answer(*FRAMES, DONE, END))

    assert b"".join(read(server)) == WHOLE


def test_what_the_server_says_to_the_transport_alone_is_not_passed_on(read: Read) -> None:
    leaving = b"retry: 100\nevent: reconnect\ndata: {}\n\n"
    server = Server(answer(*FRAMES[:2], leaving), answer(*FRAMES[2:], DONE, END))

    assert b"".join(read(server, max_seconds=0.001, max_attempts=1)) == WHOLE
    assert server.requests[0].headers["tailrace-client"].startswith("python/")


def test_a_frame_without_data_is_passed_on_as_it_is(read: Read) -> None:
    body = b"retry: 3000\n\n" + FRAMES[0] + b"id: 1.1\n\nevent: nothing\n\n\n" + DONE + END

    assert b"".join(read(Server(answer(body)))) == body


def test_a_stream_that_is_compressed_is_unpacked(read: Read) -> None:
    packed = gzip.compress(b"".join(FRAMES))
    server = Server(
        answer(packed[:40], packed[40:], headers={"content-encoding": "gzip", "content-length": "999"}),
        answer(DONE, END),
    )

    assert b"".join(read(server)) == WHOLE
    assert "gzip" in server.requests[0].headers["accept-encoding"]
    assert server.requests[1].headers["accept-encoding"] == "identity"


def test_the_client_sees_the_first_answer() -> None:
    first = answer(
        *FRAMES, DONE, END, headers={"content-length": "999", "content-encoding": "identity", "x-request-id": "q"}
    )

    with (
        httpx2.Client(transport=ResumingTransport(Server(first).transport)) as client,
        client.stream("POST", URL) as response,
    ):
        headers = dict(response.headers)

    assert headers == {**HERE, "x-request-id": "q"}


@pytest.mark.parametrize(
    "other",
    [
        lambda: answer(*FRAMES, status=404),
        lambda: answer(*FRAMES, headers={"content-type": "text/event-stream-but-not-quite"}),
        lambda: httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Body(*FRAMES)),
        lambda: httpx2.Response(302, headers={"location": "/elsewhere"}, stream=Body(b"")),
        lambda: refusal(429),
    ],
    ids=["not ok", "no stream", "no location", "redirect", "refusal"],
)
def test_every_other_answer_passes_untouched(other: Callable[[], httpx2.Response]) -> None:
    given = other()
    transport = ResumingTransport(Server(given).transport)

    assert transport.handle_request(httpx2.Request("POST", URL)) is given
    given = other()
    transport = ResumingTransport(Server(given).transport)
    assert asyncio.run(transport.handle_async_request(httpx2.Request("POST", URL))) is given


# The end


@pytest.mark.parametrize("last", [(), (LOST,), (END[:3],)])
def test_after_the_last_frame_nothing_is_asked_any_more(read: Read, last: tuple[bytes | Exception, ...]) -> None:
    server = Server(answer(*FRAMES, DONE, *last))

    assert b"".join(read(server)) == WHOLE.removesuffix(END)
    assert server.resumes == []


def test_nothing_is_read_after_the_end(read: Read) -> None:
    body = Body(*FRAMES, DONE, END, LOST)
    server = Server(httpx2.Response(200, headers=HERE, stream=body))

    assert b"".join(read(server)) == WHOLE
    assert (body.taken, body.is_closed) == (6, True)


def test_a_run_that_has_ended_is_told_by_204(read: Read) -> None:
    server = Server(answer(*FRAMES, LOST), httpx2.Response(204))

    assert b"".join(read(server)) == b"".join(FRAMES)


def test_a_dialect_that_is_not_known_here_ends_by_the_comment(read: Read) -> None:
    there = {"location": "/runs/r/events?dialect=esperanto"}
    server = Server(answer(*FRAMES, DONE, headers=there), answer(DONE.replace(b"5", b"6"), END, headers=there))

    assert b"".join(read(server)) == b"".join(FRAMES) + DONE + DONE.replace(b"5", b"6") + END


# What is asked


def test_a_resume_repeats_what_the_client_said_of_itself_and_nothing_of_the_body(read: Read) -> None:
    server = Server(answer(FRAMES[0]), answer(*FRAMES[1:], DONE, END))
    sends = {**SECRETS, "accept": "application/json", "content-type": "application/json", "idempotency-key": "k"}

    read(server, sends={**sends, "last-event-id": "0"})

    headers = server.requests[1].headers
    assert {name: headers[name] for name in SECRETS} == SECRETS
    assert (headers["accept"], headers["last-event-id"], headers["host"]) == ("text/event-stream", "1", "api.example")
    assert headers["user-agent"].startswith("python-httpx2")
    assert headers.keys().isdisjoint({"content-type", "content-length", "idempotency-key"})
    assert server.requests[1].read() == b""


def test_another_origin_is_told_nothing_of_the_client(read: Read) -> None:
    elsewhere = {"location": "https://logs.example/runs/r/events?dialect=tokens"}
    server = Server(answer(FRAMES[0], headers=elsewhere), answer(*FRAMES[1:], DONE, END, headers=elsewhere))

    body = b"".join(read(server, sends=SECRETS, headers={"x-token": "d"}))

    assert body == WHOLE
    assert server.requests[1].headers.keys() == {
        *("accept", "accept-encoding", "cache-control", "host", "last-event-id", "tailrace-client"),
    }


def test_a_redirect_to_another_origin_is_followed_and_told_nothing(read: Read) -> None:
    away = {"location": "https://logs.example/r"}
    server = Server(
        answer(FRAMES[0]),
        httpx2.Response(307, headers=away),
        answer(FRAMES[1]),
        answer(*FRAMES[2:], DONE, END),
    )

    assert b"".join(read(server, sends=SECRETS)) == WHOLE
    assert server.requests[2].headers.keys().isdisjoint(SECRETS)


def test_headers_are_made_for_each_request_of_the_transport(read: Read) -> None:
    asked: list[Attempt] = []

    def fresh(attempt: Attempt) -> dict[str, str]:
        asked.append(attempt)
        return {"Authorization": f"Bearer {attempt.number}"}

    server = Server(answer(FRAMES[0]), refusal(401), refusal(503), answer(*FRAMES[1:], LOST))
    read(server, pieces=4, sends=SECRETS, headers=fresh)

    sent = [request.headers["authorization"] for request in [*server.requests, *server.cancels]]
    assert sent == ["Bearer a", "Bearer 2", "Bearer 3", "Bearer 4", "Bearer 5"]
    assert asked == [Attempt(2), Attempt(3, 401), Attempt(4, 503), Attempt(5)]


def test_headers_may_be_awaited_by_an_async_client_only() -> None:
    async def fresh(attempt: Attempt) -> dict[str, str]:
        await asyncio.sleep(0)
        return {"authorization": str(attempt.number)}

    def server() -> Server:
        return Server(answer(FRAMES[0]), answer(*FRAMES[1:], DONE, END))

    awaited = server()
    read_async(awaited, headers=fresh)

    assert awaited.requests[1].headers["authorization"] == "2"
    with pytest.raises(TypeError, match="async"):
        read_sync(server(), headers=fresh)


def test_what_a_function_for_headers_raises_is_raised_to_the_reader_and_cancels_nothing(read: Read) -> None:
    def fresh(_: Attempt) -> dict[str, str]:
        raise LookupError("no token")

    server = Server(answer(FRAMES[0]))

    with pytest.raises(LookupError):
        read(server, headers=fresh)
    assert server.cancels == []


@pytest.mark.parametrize(("idle_seconds", "patience"), [(36.0, 36.0), (None, 600.0)])
def test_while_a_stream_is_read_the_idle_time_stands_in_for_the_read_timeout(
    read: Read, idle_seconds: float | None, patience: float
) -> None:
    reads: list[float] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        timeout = request.extensions["timeout"]
        reads.append(timeout["read"])

        class Looking(Body):
            def __iter__(self) -> Iterator[bytes]:
                reads.append(timeout["read"])
                yield from super().__iter__()

        body = Looking(FRAMES[0]) if request.method == "POST" else Looking(*FRAMES[1:], DONE, END)
        return httpx2.Response(200, headers=HERE, stream=body)

    server = Server()
    server.transport = httpx2.MockTransport(handle)
    request = httpx2.Request("POST", URL, extensions={"timeout": httpx2.Timeout(600.0).as_dict()})
    transport = ResumingTransport(server.transport, base_seconds=1e-9, idle_seconds=idle_seconds)
    if read is read_sync:
        list(transport.handle_request(request).iter_raw())
    else:
        asyncio.run(_drained(transport, request))

    assert reads == [600.0, patience, patience, patience]


async def _drained(transport: ResumingTransport, request: httpx2.Request) -> None:
    async for _ in (await transport.handle_async_request(request)).aiter_raw():
        pass


# Giving up


def test_a_refusal_is_the_end_of_it(read: Read) -> None:
    told = b'{"error": {"code": "run_not_found", "message": "There is no such run."}}'
    server = Server(answer(FRAMES[0]), refusal(404, told))

    error = cause_of(read, server)

    assert isinstance(error, RequestRefusedError)
    assert (error.status, error.error_code, error.message) == (404, "run_not_found", "There is no such run.")
    assert server.cancels == []


def test_a_token_that_is_refused_twice_is_the_end_of_it(read: Read) -> None:
    server = Server(answer(FRAMES[0]), refusal(401), refusal(401))

    def fresh(attempt: Attempt) -> dict[str, str]:
        return {"authorization": str(attempt.number)}

    error = cause_of(read, server, headers=fresh)

    assert isinstance(error, RequestRefusedError)
    assert error.status == 401


def test_what_is_no_stream_is_the_end_of_it(read: Read) -> None:
    server = Server(answer(FRAMES[0]), httpx2.Response(200, html="<p>Welcome</p>"))

    assert isinstance(cause_of(read, server), NotAStreamError)


def test_attempts_come_to_an_end(read: Read) -> None:
    server = Server(answer(FRAMES[0]), *[answer(b": hb\n", LOST) for _ in range(3)])

    error = cause_of(read, server, max_attempts=3)

    assert isinstance(error, StreamBrokenError)
    assert len(server.requests) == 4
    assert server.cancels == []


def test_a_frame_beyond_the_bound_is_the_end_of_it(read: Read) -> None:
    server = Server(answer(*FRAMES, b"data: " + b"x" * 1000))

    assert isinstance(cause_of(read, server, max_event_bytes=100), FrameTooLargeError)
    assert server.cancels == []


def test_an_error_that_is_no_loss_of_a_connection_is_raised_as_it_is(read: Read) -> None:
    server = Server(answer(FRAMES[0]), httpx2.UnsupportedProtocol("gopher"))

    with pytest.raises(httpx2.UnsupportedProtocol):
        read(server)


# Leaving


def test_closing_before_the_end_cancels_the_run(read: Read) -> None:
    body = Body(*FRAMES)
    server = Server(httpx2.Response(200, headers=HERE, stream=body))

    assert read(server, pieces=2, sends=SECRETS) == FRAMES[:2]

    (cancel,) = server.cancels
    assert (cancel.method, str(cancel.url)) == ("POST", "https://api.example/runs/r/cancel")
    assert {name: cancel.headers[name] for name in SECRETS} == SECRETS
    assert max(cancel.extensions["timeout"].values()) <= 5
    assert body.is_closed


@pytest.mark.parametrize("cancelling", [httpx2.ConnectError("gone"), httpx2.Response(500)])
def test_a_cancel_that_fails_is_nobodys_business(read: Read, cancelling: Answer) -> None:
    server = Server(answer(*FRAMES), cancelling=cancelling)

    assert read(server, pieces=1) == FRAMES[:1]
    assert len(server.cancels) == 1


@pytest.mark.parametrize(
    ("options", "location"),
    [
        pytest.param({"on_close": "detach", "pieces": 1}, LOG, id="asked not to"),
        pytest.param({"method": "GET", "pieces": 1}, LOG, id="started nothing"),
        pytest.param({"pieces": 5}, LOG, id="has the last frame"),
        pytest.param({}, LOG, id="has all"),
        pytest.param({"pieces": 1}, "/somewhere/else", id="no such place"),
    ],
)
def test_closing_cancels_nothing_where(read: Read, options: dict[str, Any], location: str) -> None:
    server = Server(answer(*FRAMES, DONE, END, headers={"location": location}))

    read(server, **options)

    assert server.cancels == []


def test_a_cancel_at_another_origin_is_told_nothing_of_the_client(read: Read) -> None:
    server = Server(answer(*FRAMES, headers={"location": "https://logs.example/runs/r/events"}))

    read(server, pieces=1, sends=SECRETS)

    assert server.cancels[0].url.host == "logs.example"
    assert server.cancels[0].headers.keys().isdisjoint(SECRETS)


def test_another_thread_may_close_a_stream_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 1.0)
    waits = threading.Event()
    server = Server(answer(FRAMES[0]), answer())
    transport = ResumingTransport(server.transport, base_seconds=600.0, max_seconds=600.0)

    with httpx2.Client(transport=transport) as client:
        response = client.send(client.build_request("POST", URL), stream=True)
        stream: Any = response.stream

        def close() -> None:
            assert waits.wait(10)
            stream.close()

        closing = threading.Thread(target=close)
        closing.start()
        pieces = response.iter_raw()
        assert next(pieces) == FRAMES[0]
        waits.set()
        with pytest.raises(httpx2.StreamClosed):
            next(pieces)
        closing.join(10)

    assert len(server.requests) == 1
    assert len(server.cancels) == 1


async def test_another_task_may_close_a_stream_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 1.0)
    server = Server(answer(FRAMES[0]), answer())
    transport = ResumingTransport(server.transport, base_seconds=600.0, max_seconds=600.0)

    async with httpx2.AsyncClient(transport=transport) as client:
        response = await client.send(client.build_request("POST", URL), stream=True)
        stream: Any = response.stream

        async def read() -> None:
            async for _ in response.aiter_raw():
                pass

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        await stream.aclose()
        with pytest.raises(httpx2.StreamClosed):
            await reading

    assert len(server.requests) == 1
    assert len(server.cancels) == 1


# Misuse


def test_a_transport_is_for_the_kind_of_client_that_it_was_given() -> None:
    request = httpx2.Request("GET", URL)

    with (
        ResumingTransport(httpx2.AsyncHTTPTransport(verify=False)) as transport,
        pytest.raises(TypeError, match="AsyncHTTPTransport is no transport for a sync client"),
    ):
        transport.handle_request(request)
    with (
        ResumingTransport(httpx2.HTTPTransport(verify=False)) as transport,
        pytest.raises(TypeError, match="HTTPTransport is no transport for an async client"),
    ):
        asyncio.run(transport.handle_async_request(request))


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="on_close"):
        ResumingTransport(on_close="explode")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="max_attempts"):
        ResumingTransport(max_attempts=0)
