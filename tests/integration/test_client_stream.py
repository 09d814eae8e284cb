"""`open_stream` against real servers: with a thread and with a task, with its own client and with those of others."""

import asyncio
import math
import time
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from tailrace import Tailrace
from tailrace.client import Attempt, EventStream, open_stream
from tailrace.errors import NotAStreamError, RequestRefusedError, StreamBrokenError
from tailrace.wire.dialects.registry import DIALECTS
from tailrace.wire.sse import ServerSentEvent
from tests.integration.support.apps import chat_app
from tests.integration.support.client import BOUND_SECONDS
from tests.integration.support.scripted import CUT, Answer, ScriptedServer, frame, stream
from tests.integration.support.server import AppServer
from tests.integration.support.sources import FAILING_RUN, Gate, Script
from tests.interop.cutting_proxy import CuttingProxy

Serve = Callable[..., AppServer]
Read = Callable[..., list[ServerSentEvent]]

#: Nobody waits long for a server in the same process.
SOON: dict[str, Any] = {"base_seconds": 0.02}
#: Of what shall happen at once: far from any time-out, and far from what a busy machine needs.
AT_ONCE_SECONDS = 2.0
END = frame(9, event="run.completed")


def read_by_thread(url: str, **options: Any) -> list[ServerSentEvent]:  # noqa: ANN401  of `open_stream`
    return list(open_stream(url, **{**SOON, **options}))


def read_by_task(url: str, **options: Any) -> list[ServerSentEvent]:  # noqa: ANN401
    async def read() -> list[ServerSentEvent]:
        return [event async for event in open_stream(url, **{**SOON, **options})]

    return asyncio.run(read())


def with_client(make: Callable[[], Any]) -> Read:
    def read(url: str, **options: Any) -> list[ServerSentEvent]:  # noqa: ANN401
        with make() as client:
            return read_by_thread(url, client=client, **options)

    return read


def with_async_client(make: Callable[[], Any]) -> Read:
    async def read_with(url: str, **options: Any) -> list[ServerSentEvent]:  # noqa: ANN401
        async with make() as client:
            return [event async for event in open_stream(url, client=client, **{**SOON, **options})]

    def read(url: str, **options: Any) -> list[ServerSentEvent]:  # noqa: ANN401
        return asyncio.run(read_with(url, **options))

    return read


WAYS: dict[str, Read] = {
    "a thread": read_by_thread,
    "a task": read_by_task,
    "httpx2": with_client(httpx2.Client),
    "httpx2 async": with_async_client(httpx2.AsyncClient),
    "httpx": with_client(httpx.Client),
    "httpx async": with_async_client(httpx.AsyncClient),
}
OWN: dict[str, Read] = {name: WAYS[name] for name in ("a thread", "a task")}

every_way = pytest.mark.parametrize("read", WAYS.values(), ids=WAYS)
both_ways = pytest.mark.parametrize("read", OWN.values(), ids=OWN)


def url_of(server: AppServer, path: str = "/") -> str:
    return f"http://127.0.0.1:{server.port}{path}"


def ids(events: list[ServerSentEvent]) -> list[str]:
    return [event.id for event in events]


# Dropped connections --------------------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("how", ["reset", "half", "eof"])
def test_a_run_is_read_whole_over_broken_connections(serve: Serve, read: Read, how: str) -> None:
    script = Script(*FAILING_RUN)
    server = serve(chat_app(Tailrace(), script))

    with CuttingProxy(server.port) as proxy:
        events = read(f"{proxy.url}/~x:{how}:3,5/chat")

    assert [event.id.partition(":")[2] or event.id for event in events] == [str(seq) for seq in range(1, 23)]
    assert events[-1].event == "run.failed"
    assert (script.opened, proxy.cuts) == (1, 1)


@both_ways
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_is_read_to_its_end_over_broken_connections(serve: Serve, read: Read, dialect: str) -> None:
    script = Script(*FAILING_RUN)
    server = serve(chat_app(Tailrace(), script))
    with open_stream(url_of(server, "/chat"), method="POST") as started:
        started.connect()
        path = str(started.location).removeprefix(url_of(server, ""))
    whole = read(url_of(server, f"{path}?dialect={dialect}"), dialect=dialect)

    with CuttingProxy(server.port) as proxy:
        events = read(f"{proxy.url}/~x:half:2{path}?dialect={dialect}", dialect=dialect)

    assert (events, script.opened, proxy.cuts) == (whole, 1, 1)


@every_way
def test_a_post_is_sent_once_and_resumed_where_the_log_is_with_fresh_headers(serve: Serve, read: Read) -> None:
    app = ScriptedServer(stream(frame(1), frame(2), CUT, location="/log?x=1"), stream(frame(3, event="run.completed")))
    server = serve(app)
    attempts: list[Attempt] = []

    def headers(attempt: Attempt) -> dict[str, str]:
        attempts.append(attempt)
        return {"authorization": f"Bearer {attempt.number}"}

    events = read(url_of(server, "/chat"), method="POST", json={"message": "ü"}, headers=headers)

    assert ids(events) == ["1", "2", "3"]
    first, second = app.asked
    assert (first.method, first.path, first.body) == ("POST", "/chat", '{"message":"ü"}'.encode())
    assert (second.method, second.path, second.body) == ("GET", "/log", b"")
    assert second.headers["last-event-id"] == "2"
    assert "content-type" not in second.headers
    assert [each.headers["authorization"] for each in app.asked] == ["Bearer 1", "Bearer 2"]
    assert {each.headers["tailrace-client"] for each in app.asked} == {"python/0.1.0"}
    assert attempts == [Attempt(1), Attempt(2)]


@both_ways
def test_an_id_that_is_not_ascii_comes_back_as_it_was(serve: Serve, read: Read) -> None:
    app = ScriptedServer(stream(frame("grüß-終"), CUT), stream(b": end\n"))

    read(url_of(serve(app)), dialect="raw")

    assert app.asked[1].headers["last-event-id"] == "grüß-終"


@every_way
def test_a_refused_token_is_refreshed_at_once(serve: Serve, read: Read) -> None:
    app = ScriptedServer(Answer(status=401), stream(END))
    statuses: list[int | None] = []

    def headers(attempt: Attempt) -> dict[str, str]:
        statuses.append(attempt.status)
        return {"authorization": f"Bearer {attempt.number}"}

    read(url_of(serve(app)), headers=headers, last_event_id="8")

    assert statuses == [None, 401]
    assert [each.headers["authorization"] for each in app.asked] == ["Bearer 1", "Bearer 2"]


def test_a_task_may_await_its_headers(serve: Serve) -> None:
    app = ScriptedServer(stream(END))

    async def headers(attempt: Attempt) -> dict[str, str]:
        await asyncio.sleep(0)
        return {"x-number": str(attempt.number)}

    read_by_task(url_of(serve(app)), headers=headers, last_event_id="8")

    assert app.asked[0].headers["x-number"] == "1"


@both_ways
def test_a_function_for_headers_that_raises_ends_the_stream(serve: Serve, read: Read) -> None:
    app = ScriptedServer(stream(frame(1), CUT))

    def headers(attempt: Attempt) -> dict[str, str]:
        if attempt.number > 1:
            raise LookupError("no token")
        return {}

    with pytest.raises(LookupError, match="no token"):
        read(url_of(serve(app)), headers=headers)

    assert len(app.asked) == 1


# Answers --------------------------------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("status", [400, 404, 409])
def test_a_refusal_is_raised_after_one_request(serve: Serve, read: Read, status: int) -> None:
    body = b'{"error": {"code": "no_luck", "message": "No luck."}}'
    app = ScriptedServer(Answer((body,), status, {"content-type": "application/json"}))

    with pytest.raises(RequestRefusedError, match=f"the server answered {status}: No luck") as caught:
        read(url_of(serve(app)))

    assert (caught.value.status, caught.value.error_code, len(app.asked)) == (status, "no_luck", 1)


@every_way
def test_a_page_is_no_stream(serve: Serve, read: Read) -> None:
    app = ScriptedServer(Answer((b"<html>",), 200, {"content-type": "text/html"}))

    with pytest.raises(NotAStreamError, match="the answer is text/html, not text/event-stream"):
        read(url_of(serve(app)))

    assert len(app.asked) == 1


@every_way
def test_a_server_that_is_away_is_tried_again_so_often(read: Read) -> None:
    with pytest.raises(StreamBrokenError) as caught:
        read("http://127.0.0.1:1/", max_attempts=3)

    assert caught.value.attempts == 3


@both_ways
def test_what_may_pass_is_waited_for(serve: Serve, read: Read) -> None:
    app = ScriptedServer(Answer(status=503), Answer(status=429, headers={"retry-after": "1"}), stream(END))

    events = read(url_of(serve(app)), last_event_id="8")

    assert ids(events) == ["9"]
    assert app.asked[2].at - app.asked[1].at >= 1.0


@both_ways
def test_credentials_do_not_go_where_a_redirect_leads(serve: Serve, read: Read) -> None:
    elsewhere = ScriptedServer(stream(END))
    target = url_of(serve(elsewhere))
    app = ScriptedServer(
        Answer(status=308, headers={"location": "/there"}), Answer(status=307, headers={"location": target})
    )

    read(
        url_of(serve(app)),
        method="POST",
        json={"a": 1},
        last_event_id="8",
        headers={"Authorization": "Bearer x", "Cookie": "a=b", "X-Mine": "y"},
    )

    assert [(each.method, each.path) for each in app.asked] == [("POST", "/"), ("POST", "/there")]
    assert {each.headers["authorization"] for each in app.asked} == {"Bearer x"}
    (asked,) = elsewhere.asked
    assert (asked.method, asked.body) == ("POST", b'{"a":1}')
    assert asked.headers.keys() & {"authorization", "cookie", "x-mine"} == set()


def test_credentials_of_the_http_client_stay_at_home_as_well(serve: Serve) -> None:
    elsewhere = ScriptedServer(stream(END))
    app = ScriptedServer(Answer(status=307, headers={"location": url_of(serve(elsewhere))}))

    own = {"cookie": "a=b", "x-api-key": "k", "user-agent": "mine"}
    with httpx2.Client(auth=("ann", "secret"), headers=own) as client:
        list(open_stream(url_of(serve(app)), client=client, last_event_id="8"))

    (at_home,) = app.asked
    assert at_home.headers["authorization"].startswith("Basic ")
    assert at_home.headers["x-api-key"] == "k"
    (asked,) = elsewhere.asked
    assert asked.headers.keys() & {"authorization", "cookie", "x-api-key"} == set()
    assert (asked.headers["user-agent"], asked.headers["last-event-id"]) == ("mine", "8")


def packed(encoding: str, *parts: bytes) -> list[bytes]:
    """Parts that can each be unpacked when they have come."""
    packer = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
    return [packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in parts]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_stream_is_read_as_it_comes(serve: Serve, encoding: str) -> None:
    gate = Gate()
    first, last = packed(encoding, frame(1), frame(2, event="run.completed"))
    app = ScriptedServer(stream(first, gate.passed, last, content_encoding=encoding))
    seen: list[str] = []

    for event in open_stream(url_of(serve(app))):
        seen.append(event.id)
        # The second part is sent only when the first one was read.
        gate.open()

    assert (seen, len(app.asked)) == (["1", "2"], 1)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_stream_is_read_by_a_task_as_it_comes(serve: Serve, encoding: str) -> None:
    gate = Gate()
    first, last = packed(encoding, frame(1), frame(2, event="run.completed"))
    app = ScriptedServer(stream(first, gate.passed, last, content_encoding=encoding))
    seen: list[str] = []

    async for event in open_stream(url_of(serve(app))):
        seen.append(event.id)
        gate.open()

    assert (seen, len(app.asked)) == (["1", "2"], 1)


# Silence --------------------------------------------------------------------------------------------------------------


@both_ways
def test_a_connection_without_a_byte_is_given_up(serve: Serve, read: Read) -> None:
    app = ScriptedServer(stream(frame(1), Gate().passed), stream(frame(2, event="run.completed")))

    events = read(url_of(serve(app)), idle_seconds=0.3)

    assert ids(events) == ["1", "2"]
    assert len(app.asked) == 2


@both_ways
def test_a_server_that_does_not_answer_is_given_up(serve: Serve, read: Read) -> None:
    never = Gate()
    app = ScriptedServer(Answer((never.passed,)), stream(END))

    assert ids(read(url_of(serve(app)), idle_seconds=0.3, last_event_id="8")) == ["9"]


async def _pause() -> None:
    await asyncio.sleep(0.15)


@both_ways
def test_heartbeats_keep_a_connection(serve: Serve, read: Read) -> None:
    app = ScriptedServer(stream(*(piece for _ in range(6) for piece in (_pause, b": hb\n")), END))

    assert ids(read(url_of(serve(app)), idle_seconds=0.5, last_event_id="8")) == ["9"]

    assert len(app.asked) == 1


@both_ways
def test_heartbeats_alone_are_no_progress(serve: Serve, read: Read) -> None:
    beats = [piece for _ in range(100) for piece in (_pause, b": hb\n")]
    app = ScriptedServer(stream(frame(1), *beats), stream(frame(2, event="run.completed")))

    assert ids(read(url_of(serve(app)), progress_seconds=0.4)) == ["1", "2"]


# Closing --------------------------------------------------------------------------------------------------------------


STATES: dict[str, tuple[Answer, Callable[[EventStream, ScriptedServer], bool]]] = {
    "connecting": (Answer((Gate().passed,)), lambda _, app: app.open == 1),
    "open": (stream(frame(1), Gate().passed), lambda events, _: events.last_event_id == "1"),
    "waiting": (
        Answer(status=503, headers={"retry-after": "200"}),
        lambda events, _: events.connection.state == "waiting",
    ),
}


@pytest.mark.parametrize("state", STATES)
def test_another_thread_may_close_at_any_time(serve: Serve, state: str) -> None:
    answer, is_reached = STATES[state]
    app = ScriptedServer(answer)
    server = serve(app)
    events = open_stream(url_of(server))

    with ThreadPoolExecutor() as threads:
        reading = threads.submit(lambda: list(events))
        server.eventually(lambda: is_reached(events, app))
        began = time.monotonic()
        events.close()
        reading.result(BOUND_SECONDS)
        took = time.monotonic() - began

    assert took < AT_ONCE_SECONDS
    assert events.connection.state == "closed"
    server.eventually(lambda: app.open == 0)
    assert len(app.asked) == 1


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("how", ["aclose", "cancel"])
async def test_another_task_may_close_or_cancel_at_any_time(serve: Serve, state: str, how: str) -> None:
    answer, is_reached = STATES[state]
    app = ScriptedServer(answer)
    server = serve(app)
    events = open_stream(url_of(server))

    async def read() -> None:
        async for _ in events:
            pass

    reading = asyncio.create_task(read())
    await asyncio.to_thread(server.eventually, lambda: is_reached(events, app))
    began = time.monotonic()
    if how == "aclose":
        await events.aclose()
        await reading
    else:
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    took = time.monotonic() - began

    assert took < AT_ONCE_SECONDS
    assert events.connection.state == "closed"
    await asyncio.to_thread(server.eventually, lambda: app.open == 0)
    assert len(app.asked) == 1


def test_leaving_a_loop_closes_the_connection(serve: Serve) -> None:
    app = ScriptedServer(stream(frame(1), Gate().passed))
    server = serve(app)

    for _ in open_stream(url_of(server)):
        break

    server.eventually(lambda: app.open == 0)
    assert (len(app.asked), app.gone) == (1, 1)


@pytest.mark.parametrize("ends", [False, True], ids=["the program goes on", "the program ends"])
def test_leaving_an_async_loop_closes_the_connection(
    serve: Serve, caplog: pytest.LogCaptureFixture, ends: bool
) -> None:
    app = ScriptedServer(stream(frame(1), Gate().passed))
    server = serve(app)

    async def program() -> None:
        async for _ in open_stream(url_of(server)):
            break
        if not ends:
            await asyncio.to_thread(server.eventually, lambda: app.open == 0)

    asyncio.run(program())

    server.eventually(lambda: app.open == 0)
    assert (len(app.asked), app.gone) == (1, 1)
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []


def test_an_error_in_the_loop_closes_the_connection_and_another_stream_goes_on(serve: Serve) -> None:
    app = ScriptedServer(stream(frame(1) + frame(2), Gate().passed), stream(frame(2), frame(3, event="run.completed")))
    server = serve(app)
    events = open_stream(url_of(server))

    def stumble() -> None:
        for _ in events:
            raise LookupError

    with pytest.raises(LookupError):
        stumble()
    server.eventually(lambda: app.open == 0)
    rest = list(open_stream(url_of(server), last_event_id=events.last_event_id))

    assert ids(rest) == ["2", "3"]


async def test_a_wait_may_be_cut_short(serve: Serve) -> None:
    app = ScriptedServer(Answer(status=503, headers={"retry-after": "200"}), stream(END))
    server = serve(app)
    events = open_stream(url_of(server), last_event_id="8")

    async def read() -> list[str]:
        return [event.id async for event in events]

    reading = asyncio.create_task(read())
    await asyncio.to_thread(server.eventually, lambda: events.connection.state == "waiting")
    connection = events.connection
    events.retry_now()

    assert await reading == ["9"]
    assert (connection.attempt, connection.error) == (1, "the server answered 503")
    assert connection.retry_at is not None
    assert connection.retry_at > datetime.now(UTC).timestamp() + 100


def test_a_thread_may_be_told_not_to_wait(serve: Serve) -> None:
    app = ScriptedServer(Answer(status=503, headers={"retry-after": "200"}), stream(END))
    server = serve(app)
    events = open_stream(url_of(server), last_event_id="8")

    with ThreadPoolExecutor() as threads:
        reading = threads.submit(lambda: [event.id for event in events])
        server.eventually(lambda: events.connection.state == "waiting")
        events.retry_now()

        assert reading.result(BOUND_SECONDS) == ["9"]


# Load -----------------------------------------------------------------------------------------------------------------


class Flood:
    """A stream without end, as fast as it is read."""

    def __init__(self) -> None:
        self.sent = 0
        self.sending_since = math.inf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await ScriptedServer()(scope, receive, send)
            return
        await receive()
        flooding = asyncio.create_task(self._flood(send))
        while (await receive())["type"] != "http.disconnect":
            pass
        flooding.cancel()
        await asyncio.wait({flooding})

    async def _flood(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        while True:
            self.sent += 1
            body = b"id: %d\ndata: %b\n\n" % (self.sent, b"x" * 10_000)
            self.sending_since = asyncio.get_running_loop().time()
            await send({"type": "http.response.body", "body": body, "more_body": True})
            # A server with room in its buffer does not wait.
            await asyncio.sleep(0)

    @property
    def is_stuck(self) -> bool:
        """Whether the last piece was not taken for a while; to be asked in the server's loop."""
        return asyncio.get_running_loop().time() - self.sending_since > 0.5


def test_a_slow_reader_holds_the_server_back_and_loses_nothing(serve: Serve) -> None:
    app = Flood()
    server = serve(app)

    with open_stream(url_of(server), dialect="raw") as opened:
        events = iter(opened)
        first = [next(events).id for _ in range(10)]
        server.eventually(lambda: app.is_stuck)
        held_back = app.sent
        rest = [next(events).id for _ in range(held_back)]

    assert held_back * 10_000 < 16 * 1024 * 1024
    assert first + rest == [str(number) for number in range(1, held_back + 11)]


async def test_a_hundred_clients_that_are_dropped_together_do_not_come_back_together(serve: Serve) -> None:
    gate = Gate()
    dropped = stream(frame(1), gate.passed, CUT)
    app = ScriptedServer(*[dropped] * 100, stream(frame(2, event="run.completed")))
    server = serve(app)

    async def read(client: httpx2.AsyncClient) -> list[str]:
        return [event.id async for event in open_stream(url_of(server), client=client)]

    async with httpx2.AsyncClient(limits=httpx2.Limits(max_connections=None)) as client:
        reading = [asyncio.create_task(read(client)) for _ in range(100)]
        await asyncio.to_thread(server.eventually, lambda: app.open == 100)
        gate.open()
        answers = await asyncio.gather(*reading)

    came_back = [each.at for each in app.asked[100:]]
    bins = Counter(int((at - min(came_back)) * 10) for at in came_back)
    assert answers == [["1", "2"]] * 100
    assert max(bins.values()) < 35


# Misuse ---------------------------------------------------------------------------------------------------------------


def test_a_stream_is_read_once(serve: Serve) -> None:
    events = open_stream(url_of(serve(ScriptedServer(stream(END)))), last_event_id="8")
    list(events)

    with pytest.raises(ValueError, match="a stream is read once: open another one"):
        iter(events)


def test_a_closed_stream_is_not_read() -> None:
    events = open_stream("http://127.0.0.1:1/")
    events.close()

    with pytest.raises(ValueError, match="a stream is read once"):
        iter(events)


@pytest.mark.parametrize("url", ["/chat", "chat", "", "example.com/chat"])
def test_a_url_is_absolute(url: str) -> None:
    with pytest.raises(ValueError, match="is no absolute URL"):
        open_stream(url)


def test_a_client_is_one_of_httpx() -> None:
    client: Any = object()

    with pytest.raises(TypeError, match="expected a client of httpx2 or httpx, got object"):
        open_stream("http://127.0.0.1:1/", client=client)


async def test_an_async_client_is_for_tasks_and_a_sync_one_for_threads() -> None:
    async with httpx2.AsyncClient() as client:
        with pytest.raises(TypeError, match="async client: read it with `async for`"):
            iter(open_stream("http://127.0.0.1:1/", client=client))
    with httpx.Client() as sync_client, pytest.raises(TypeError, match="sync client: read it with `for`"):
        aiter(open_stream("http://127.0.0.1:1/", client=sync_client))


def test_a_thread_cannot_await_its_headers() -> None:
    async def headers(_: Attempt) -> dict[str, str]:
        return {}

    with pytest.raises(TypeError, match="cannot await its headers"):
        list(open_stream("http://127.0.0.1:1/", headers=headers))


def test_patience_that_is_none_is_refused() -> None:
    options: Any = {"patience": 3}

    with pytest.raises(TypeError, match="patience"):
        open_stream("http://127.0.0.1:1/", **options)
