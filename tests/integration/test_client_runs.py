"""`Client` and `AsyncClient` against a real server: runs that are started, followed, cancelled and asked about."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self

import httpx
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tailrace import Tailrace, fold
from tailrace.client import RESET, AsyncClient, AsyncClientRun, Attempt, Client, ClientRun
from tailrace.errors import NotAStreamError, RequestRefusedError, RunFailedError, StreamBrokenError
from tailrace.events import Entry, RunCompleted, RunStarted, TextDelta
from tailrace.wire.dialects.native import DIALECT
from tests.integration.support.apps import chat_app
from tests.integration.support.scripted import CUT, Answer, ScriptedServer, frame, stream
from tests.integration.support.server import AppServer
from tests.integration.support.sources import FAILING_RUN, Gate, Script
from tests.interop.cutting_proxy import CuttingProxy
from tests.tcp_proxy import TcpProxy

Serve = Callable[..., AppServer]
Connect = Callable[..., Any]

JSON = {"content-type": "application/json"}
LOG = '{"type":"text.delta","delta":"%s","at_ms":5}'
DONE = '{"type":"run.completed","at_ms":6}'


@pytest.fixture(autouse=True, scope="module")
def a_first_client_reads_files() -> None:
    """Which it is to do before there is an event loop to be blocked."""
    httpx2.Client().close()


class Sync:
    """The async client's face on the sync one, so that a test is written once."""

    def __init__(self, url: str, **options: Any) -> None:  # noqa: ANN401  of `Client`
        self._client = Client(url, base_seconds=0.02, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.close()

    async def start(self, body: object, **options: Any) -> "SyncRun":  # noqa: ANN401
        return SyncRun(await asyncio.to_thread(self._client.start, body, **options))

    def attach(self, run_id: str, after: int = 0) -> "SyncRun":
        return SyncRun(self._client.attach(run_id, after))

    async def follow(self, run_id: str, after: int = 0) -> AsyncIterator[Entry]:
        for entry in await asyncio.to_thread(list, self._client.follow(run_id, after)):
            yield entry

    async def cancel(self, run_id: str) -> bool:
        return await asyncio.to_thread(self._client.cancel, run_id)

    async def info(self, run_id: str) -> fold.Reduced:
        return await asyncio.to_thread(self._client.info, run_id)


class SyncRun:
    def __init__(self, run: ClientRun) -> None:
        self._run = run

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._run, name)

    async def __aiter__(self) -> AsyncIterator[Entry]:
        entries = iter(self._run)
        nothing: Any = None
        while (entry := await asyncio.to_thread(next, entries, nothing)) is not None:
            yield entry

    async def text(self) -> str:
        return await asyncio.to_thread(self._run.text)

    async def result(self) -> fold.Reduced:
        return await asyncio.to_thread(self._run.result)

    async def cancel(self) -> bool:
        return await asyncio.to_thread(self._run.cancel)


def async_client(url: str, **options: Any) -> AsyncClient:  # noqa: ANN401
    return AsyncClient(url, base_seconds=0.02, **options)


both_clients = pytest.mark.parametrize("connect", [async_client, Sync], ids=["async", "sync"])


def url_of(server: AppServer) -> str:
    return f"http://127.0.0.1:{server.port}"


@both_clients
async def test_a_run_is_started_and_read(serve: Serve, connect: Connect) -> None:
    server = serve(chat_app(Tailrace(), Script("Hello ", "world")))

    async with connect(url_of(server)) as client:
        run = await client.start({"message": "hi"})
        run_id = run.id
        entries = [entry async for entry in run]

    assert [entry.seq for entry in entries] == [1, 2, 3, 4]
    started, hello, _, completed = [entry.event for entry in entries]
    assert isinstance(started, RunStarted)
    assert (started.run_id, run.url, run.cursor) == (run_id, f"{url_of(server)}/runs/{run_id}/events", 4)
    assert isinstance(hello, TextDelta)
    assert isinstance(completed, RunCompleted)
    assert entries[0].at_ms > 0
    assert run.connection.state == "closed"


@both_clients
async def test_a_run_has_a_text_and_a_result(serve: Serve, connect: Connect) -> None:
    server = serve(chat_app(Tailrace(), Script("Hello ", "world", RunCompleted(result={"x": 1}))))

    async with connect(url_of(server)) as client:
        run = await client.start({})
        text, result = await run.text(), await run.result()

    assert (text, result.text, result.status, result.result) == ("Hello world", "Hello world", "completed", {"x": 1})


@both_clients
async def test_what_was_read_before_is_part_of_the_result(serve: Serve, connect: Connect) -> None:
    server = serve(chat_app(Tailrace(), Script("Hello ", "world")))

    async with connect(url_of(server)) as client:
        run = await client.start({})
        async for entry in run:
            if entry.seq == 2:
                break
        rest = [entry.seq async for entry in run]
        attached = client.attach(run.id, after=3)

        assert rest == [3, 4]
        assert [entry async for entry in run] == []
        assert (await run.text(), await attached.text()) == ("Hello world", "Hello world")
        assert await client.attach(run.id, after=4).text() == "Hello world"


@both_clients
async def test_a_run_without_a_result_raises_and_its_text_is_kept(serve: Serve, connect: Connect) -> None:
    server = serve(chat_app(Tailrace(), Script(*FAILING_RUN)))

    async with connect(url_of(server)) as client:
        run = await client.start({})
        with pytest.raises(RunFailedError) as caught:
            await run.text()
        info = await client.info(run.id)

    assert (caught.value.run_id, caught.value.status, caught.value.failure) == (run.id, "failed", "error")
    assert info.status == "failed"
    assert info.text.startswith("Let me look that up.")


@both_clients
async def test_a_run_is_attached_to_and_followed_from_anywhere(serve: Serve, connect: Connect) -> None:
    server = serve(chat_app(Tailrace(), Script(*"abcdef")))

    async with connect(url_of(server)) as client:
        run = await client.start({})
        await run.text()
        attached = [entry.seq async for entry in client.attach(run.id)]
        followed = [entry.seq async for entry in client.follow(run.id, after=5)]
        nothing = [entry.seq async for entry in client.follow(run.id, after=8)]

    assert (attached, followed, nothing) == ([1, 2, 3, 4, 5, 6, 7, 8], [6, 7, 8], [])


@both_clients
async def test_a_run_is_read_whole_over_broken_connections(serve: Serve, connect: Connect) -> None:
    script = Script(*FAILING_RUN)
    server = serve(chat_app(Tailrace(), script))

    with CuttingProxy(server.port) as proxy:
        async with connect(url_of(server)) as client:
            run = await client.start({})
            with pytest.raises(RunFailedError):
                await run.result()
            whole = [entry async for entry in client.attach(run.id)]
        async with connect(f"{proxy.url}/~x:half:2") as client:
            # The URL leads through the proxy, which breaks the first answer.
            cut = [entry async for entry in client.attach(run.id)]

    assert (cut, proxy.cuts, script.opened) == (whole, 1, 1)


@both_clients
async def test_a_run_is_cancelled_by_its_readers_only_if_they_say_so(serve: Serve, connect: Connect) -> None:
    gate = Gate()
    script = Script("a", gate)
    server = serve(chat_app(Tailrace(), script))

    async with connect(url_of(server)) as client:
        run = await client.start({})
        async for entry in run:
            if entry.seq == 2:
                break
        assert (await client.info(run.id)).status == "running"
        assert await run.cancel()
        ends = [entry.event.reason async for entry in run]

        assert ends == ["user"]
        assert not await client.cancel(run.id)


@both_clients
async def test_what_is_unknown_is_refused(serve: Serve, connect: Connect) -> None:
    server = serve(chat_app(Tailrace(), Script()))

    async with connect(url_of(server)) as client:
        for asked in (client.info("x" * 26), client.cancel("x" * 26), client.attach("x" * 26).text()):
            with pytest.raises(RequestRefusedError) as caught:
                await asked
            assert (caught.value.status, caught.value.error_code) == (404, "run_not_found")


async def test_a_start_whose_answer_was_lost_is_one_run(serve: Serve) -> None:
    script = Script("once")
    server = serve(chat_app(Tailrace(), script))

    async with TcpProxy(server.port) as proxy:
        for client in (async_client(f"http://127.0.0.1:{proxy.port}"), Sync(f"http://127.0.0.1:{proxy.port}")):
            proxy.lose_next_answer()
            async with client:
                assert await (await client.start({})).text() == "once"

    assert (proxy.lost, script.opened) == (2, 2)


@both_clients
async def test_a_key_names_a_start(serve: Serve, connect: Connect) -> None:
    script = Script("once")
    server = serve(chat_app(Tailrace(), script))

    async with connect(url_of(server)) as client:
        runs = [await client.start({}, key="the first of all starts") for _ in range(2)]
        texts = [await run.text() for run in runs]

    assert (texts, len({run.id for run in runs}), script.opened) == (["once", "once"], 1, 1)


@both_clients
async def test_a_server_that_is_away_is_an_error_after_all_attempts(connect: Connect) -> None:
    async with connect("http://127.0.0.1:1", max_attempts=2) as client:
        with pytest.raises(StreamBrokenError) as caught:
            await client.start({})

    assert caught.value.attempts == 2


@both_clients
async def test_every_request_has_the_headers_of_the_client(serve: Serve, connect: Connect) -> None:
    app = ScriptedServer(
        Answer(status=401),
        stream(frame(1, LOG % "a"), CUT, location="/v1/runs/abc/events"),
        stream(frame(2, DONE, "run.completed")),
        Answer((b'{"run_id":"abc","accepted":true}',), 202, JSON),
    )
    tokens: list[Attempt] = []

    def headers(attempt: Attempt) -> dict[str, str]:
        tokens.append(attempt)
        return {"authorization": f"Bearer {len(tokens)}"}

    async with connect(f"{url_of(serve(app))}/v1/", headers=headers, start="ask", runs="answers") as client:
        run = await client.start({"q": "?"})
        assert (run.id, await run.text()) == ("abc", "a")
        assert await run.cancel()

    assert [(asked.method, asked.path) for asked in app.asked] == [
        ("POST", "/v1/ask"),
        ("POST", "/v1/ask"),
        ("GET", "/v1/runs/abc/events"),
        ("POST", "/v1/answers/abc/cancel"),
    ]
    assert [asked.headers["authorization"] for asked in app.asked] == [f"Bearer {number}" for number in (1, 2, 3, 4)]
    assert tokens == [Attempt(1), Attempt(2, 401), Attempt(3), Attempt(1)]
    assert len({asked.headers["idempotency-key"] for asked in app.asked[:2]}) == 1
    assert {asked.headers["tailrace-client"] for asked in app.asked} == {"python/0.1.0"}


@both_clients
async def test_a_start_may_be_answered_with_the_whole_run(serve: Serve, connect: Connect) -> None:
    tail = Tailrace()

    async def chat(_: Request) -> Response:
        run = await tail.start(Script("Hello ", "world"))
        reduced = await run.reduced()
        return Response(DIALECT.document(reduced), headers={"location": f"/runs/{run.id}/events"} | JSON)

    app = Starlette(routes=[Route("/chat", chat, methods=["POST"])])
    tail.install(app, "/runs")

    async with connect(url_of(serve(app))) as client:
        run = await client.start({})
        assert [entry async for entry in run] == []
        assert (await run.text(), run.cursor) == ("Hello world", 4)
        assert (await client.info(run.id)).text == "Hello world"


@both_clients
async def test_a_start_may_be_answered_with_where_to_look(serve: Serve, connect: Connect) -> None:
    app = ScriptedServer(
        Answer((b'{"run_id":"abc"}',), 202, JSON | {"location": "/runs/abc/events", "retry-after": "5"}),
        stream(frame(1, LOG % "a"), frame(2, DONE, "run.completed")),
    )

    async with connect(url_of(serve(app))) as client:
        run = await client.start({})
        assert (run.id, await run.text()) == ("abc", "a")


@both_clients
async def test_a_document_that_is_no_run_is_an_error(serve: Serve, connect: Connect) -> None:
    app = ScriptedServer(Answer((b'["no run"]',), 200, JSON))

    async with connect(url_of(serve(app))) as client:
        for asked in (client.start({}), client.info("abc"), client.cancel("abc")):
            with pytest.raises(NotAStreamError):
                await asked


@both_clients
async def test_a_log_that_begins_anew_voids_what_was_read(serve: Serve, connect: Connect) -> None:
    reset = b"event: reset\ndata: {}\n\n"
    anew = (reset, frame(1, LOG % "b"), frame(2, DONE, "run.completed"))
    app = ScriptedServer(
        stream(frame(1, LOG % "a"), CUT, location="/runs/abc/events"),
        stream(*anew),
        stream(frame(1, LOG % "a"), CUT, location="/runs/abc/events"),
        stream(*anew),
    )

    async with connect(url_of(serve(app))) as client:
        text = await (await client.start({})).text()
        entries = [entry async for entry in await client.start({})]

    assert text == "b"
    assert [entry.seq for entry in entries] == [1, 0, 1, 2]
    assert entries[1] is RESET


def test_the_http_client_may_be_anybodys(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("Hello")))

    for http in (httpx.Client(base_url=url_of(server)), httpx2.Client(base_url=url_of(server))):
        with http, Client(http=http) as client, client.start({}) as run:
            assert run.text() == "Hello"
        assert http.is_closed


def test_a_client_opens_any_stream_of_its_server(serve: Serve) -> None:
    app = ScriptedServer(stream(b"data: x\n\n", b": end\n"))

    with Client(url_of(serve(app)), headers={"x-mine": "y"}) as client:
        events = list(client.open_stream("feed", dialect="raw", max_attempts=1))

    assert [event.data for event in events] == ["x"]
    assert (app.asked[0].path, app.asked[0].headers["x-mine"]) == ("/feed", "y")


def entries_until(run: ClientRun, seq: int) -> Iterator[int]:
    for entry in run:
        yield entry.seq
        if entry.seq == seq:
            return


def test_leaving_a_run_closes_its_connection_and_no_other(serve: Serve) -> None:
    gate = Gate()
    server = serve(chat_app(Tailrace(), Script("a", gate, "b")))

    with Client(url_of(server)) as client:
        run = client.start({})
        assert list(entries_until(run, 2)) == [1, 2]
        server.eventually(lambda: server.connection_count == 0)
        gate.open()
        assert [entry.seq for entry in run] == [3, 4]


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (Client, {"http": httpx2.AsyncClient()}, "use AsyncClient"),
        (AsyncClient, {"http": httpx.Client()}, "use Client"),
        (Client, {"patience": 1}, "patience"),
    ],
)
def test_misuse_is_told_how_to_do_it(kind: Callable[..., Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        kind("http://127.0.0.1", **options)


def test_a_client_needs_to_know_where() -> None:
    with Client() as client, pytest.raises(ValueError, match="give a base_url"):
        client.start({})


def test_a_run_whose_id_is_not_known_cannot_be_cancelled(serve: Serve) -> None:
    app = ScriptedServer(stream(b": hb\n", Gate().passed))

    with Client(url_of(serve(app))) as client, client.start({}) as run:
        assert (run.id, run.url) == ("", "")
        with pytest.raises(ValueError, match="the run's id is not known"):
            run.cancel()


async def test_a_run_that_was_started_and_dropped_has_no_connection(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a", Gate())))

    async with AsyncClient(url_of(server)) as client:
        await client.start({})
        await asyncio.to_thread(server.eventually, lambda: server.connection_count == 0)


def test_a_run_that_a_thread_has_started_and_dropped_has_no_connection(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a", Gate())))

    with Client(url_of(server)) as client:
        client.start({})
        server.eventually(lambda: server.connection_count == 0)


async def test_types_of_runs_are_those_of_their_clients(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a")))

    async with AsyncClient(url_of(server)) as client, await client.start({}) as run:
        assert isinstance(run, AsyncClientRun)


@pytest.mark.parametrize(
    "code", ["Client()", "AsyncClient()", "list(open_stream('http://127.0.0.1'))", "ResumingTransport"]
)
def test_without_httpx2_one_is_told_what_to_install(code: str) -> None:
    program = f"import sys; sys.modules['httpx2'] = None; import tailrace.client; from tailrace.client import *; {code}"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)

    assert done.stderr.splitlines()[-1].endswith("needs httpx2: pip install 'tailrace[client]'")


def test_importing_the_client_brings_no_http_client_along() -> None:
    program = "import sys, tailrace.client; print(sorted(sys.modules.keys() & {'httpx', 'httpx2', 'httpcore2'}))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)

    assert done.stdout.strip() == "[]"
