"""Streams that clients create: whose they are, which worker serves them, what bounds them, and how waiting ends."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request

from tailrace import Tailrace
from tailrace.errors import StoreSetupError
from tailrace.runtime.ledger import StreamLimits
from tests.integration.support.client import Connection, Reply, fetch, open_stream
from tests.integration.support.server import AppServer
from tests.integration.support.stores import SHARED_STORES, STORES, a_store

Serve = Callable[..., AppServer]

TEXT = {"content-type": "text/plain"}
JSON = {"content-type": "application/json"}
ANN = {"authorization": "ann"}
BOB = {"authorization": "bob"}
#: Long enough to be a secret.
NAME = "/streams/a/name/that/nobody/guesses"


def by_header(request: Request) -> str | None:
    return request.headers.get("authorization")


def streams_app(tail: Tailrace, store: str = "memory://", limits: StreamLimits | None = None) -> Starlette:
    """An application with streams and the run routes."""
    app = Starlette()
    tail.install(app, "/runs")
    tail.durable(store, limits=limits).install(app)
    return app


def put(server: AppServer, name: str = NAME, headers: dict[str, str] = TEXT, body: bytes = b"") -> Reply:
    return fetch(server.port, "PUT", name, headers, body)


def post(server: AppServer, name: str = NAME, headers: dict[str, str] = TEXT, body: bytes = b"") -> Reply:
    return fetch(server.port, "POST", name, headers, body)


def get(server: AppServer, target: str = NAME, headers: dict[str, str] | None = None) -> Reply:
    return fetch(server.port, "GET", target, headers)


def test_a_stream_is_created_appended_to_read_closed_and_deleted(serve: Serve) -> None:
    server = serve(streams_app(Tailrace()))

    created = put(server, headers=JSON)
    appended = post(server, headers=JSON, body=b'[{"a": 1}, 2]')
    closed = post(server, headers={"stream-closed": "true"})
    read = get(server)
    deleted = fetch(server.port, "DELETE", NAME)

    assert [reply.status for reply in (created, appended, closed, read, deleted)] == [201, 204, 204, 200, 204]
    assert created.head["location"] == f"http://tailrace.test{NAME}"
    assert read.body == b'[{"a": 1},2]'
    assert read.head["stream-closed"] == "true"
    assert get(server).status == 404


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
def test_the_routes_are_installed_where_the_application_wants_them(
    serve: Serve, framework: Callable[[], Starlette]
) -> None:
    tail = Tailrace()
    app = framework()
    tail.install(app, "/runs")
    tail.durable().install(app, "/v1/stream")
    server = serve(app)
    name = "/v1/stream/a/name/that/nobody/guesses"

    replies = [put(server, name), post(server, name, body=b"a"), get(server, f"{name}/"), get(server, name)]
    head = fetch(server.port, "HEAD", name)

    assert [reply.status for reply in replies] == [201, 204, 200, 200]
    assert head.status == 200
    assert head.head["stream-next-offset"] == replies[1].head["stream-next-offset"]


def test_a_mount_is_an_application_itself(serve: Serve) -> None:
    tail = Tailrace()
    app = Starlette(lifespan=tail.lifespan)
    app.mount("/streams", tail.durable())
    server = serve(app)

    assert put(server, body=b"a").status == 201
    assert get(server).body == b"a"


# Whose it is ---------------------------------------------------------------------------------------------------------


def test_a_name_is_another_stream_for_another_owner(serve: Serve) -> None:
    server = serve(streams_app(Tailrace(owner=by_header)))

    replies = [put(server, "/streams/chat", {**TEXT, **who}, who["authorization"].encode()) for who in (ANN, BOB)]

    assert [reply.status for reply in replies] == [201, 201]
    assert get(server, "/streams/chat", ANN).body == b"ann"
    assert get(server, "/streams/chat", BOB).body == b"bob"
    assert get(server, "/streams/chat", ANN).head["cache-control"] == "no-store"
    assert get(server, "/streams/chat", {"authorization": "eve"}).status == 404


def test_without_an_owner_a_name_has_to_be_a_secret(serve: Serve) -> None:
    server = serve(streams_app(Tailrace()))

    assert put(server, "/streams/chat").error_code == "key_invalid"
    assert put(server, f"/streams/{'x' * 257}").error_code == "key_invalid"
    assert put(server, "/streams/").error_code == "key_invalid"


@pytest.mark.parametrize("name", ["%E6%97%A5", "%00", "%01", "a%0Db", "%25", "a%3Fb%23c", "%22%20%3C"])
def test_a_stream_is_found_where_its_creation_says_whatever_its_name(serve: Serve, name: str) -> None:
    server = serve(streams_app(Tailrace()))

    created = put(server, f"{NAME}/{name}", body=b"a")

    assert created.head["location"] == f"http://tailrace.test{NAME}/{name}"
    assert get(server, f"{NAME}/{name}").body == b"a"


def test_what_somebody_wrote_is_never_a_page_of_this_origin(serve: Serve) -> None:
    server = serve(streams_app(Tailrace()))
    put(server, headers={"content-type": "text/html"}, body=b"<script>alert(1)</script>")

    head = get(server).head

    assert head["content-type"].startswith("text/html")
    assert "sandbox" in head["content-security-policy"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site", "cookie": "who=ann"}, 403),
        ({"sec-fetch-site": "same-site", "cookie": "who=ann"}, 403),
        ({"sec-fetch-site": "cross-site", "cookie": "who=ann", "stream-seq": "1"}, 204),
        ({"sec-fetch-site": "cross-site"}, 204),
        ({"sec-fetch-site": "same-origin", "cookie": "who=ann"}, 204),
        ({"cookie": "who=ann"}, 204),
    ],
)
def test_a_page_of_another_origin_appends_nothing_in_its_visitors_name(
    serve: Serve, headers: dict[str, str], status: int
) -> None:
    server = serve(streams_app(Tailrace()))
    put(server)

    assert post(server, headers={**TEXT, **headers}, body=b"a").status == status
    assert get(server).body == (b"a" if status == 204 else b"")


def test_a_stream_is_no_run(serve: Serve) -> None:
    server = serve(streams_app(Tailrace(owner=by_header)))
    put(server, headers={**TEXT, **ANN})

    assert get(server, "/runs/", ANN).json() == {"runs": []}


@pytest.mark.parametrize("as_url", [True, False])
async def test_streams_are_not_kept_where_the_runs_are(tmp_path: Path, as_url: bool) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    tail = Tailrace(url)
    tail.durable(url if as_url else tail.store)

    with pytest.raises(StoreSetupError, match="store of their own"):
        await tail.open()


# Workers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SHARED_STORES)
def test_any_worker_serves_any_stream(kind: str, tmp_path: Path, require_program: Callable[..., str]) -> None:
    with a_store(kind, tmp_path, require_program) as store, ExitStack() as servers:
        one, other = (servers.enter_context(AppServer(streams_app(Tailrace(), store))) for _ in range(2))
        put(one, body=b"a")

        with open_stream(other.port, "GET", f"{NAME}?offset=-1&live=sse") as stream:
            seen = [stream.next_of("data").data]
            post(one, body=b"b")
            seen.append(stream.next_of("data").data)
        with ThreadPoolExecutor(8) as threads:
            bodies = [b"<%d>" % number for number in range(40)]
            appends = [threads.submit(post, (one, other)[number % 2], body=body) for number, body in enumerate(bodies)]
            replies = [append.result() for append in appends]

        assert seen == ["a", "b"]
        assert {reply.status for reply in replies} == {204}
        assert len({reply.head["stream-next-offset"] for reply in replies}) == len(bodies)
        assert get(one).body == get(other).body
        assert sorted(get(one).body.removeprefix(b"ab").replace(b">", b">|").split(b"|")) == sorted([b"", *bodies])


@pytest.mark.parametrize("kind", SHARED_STORES)
def test_a_stream_outlives_the_process(kind: str, tmp_path: Path, require_program: Callable[..., str]) -> None:
    producer = {**TEXT, "producer-id": "p", "producer-epoch": "0", "producer-seq": "0"}
    with a_store(kind, tmp_path, require_program) as store:
        with AppServer(streams_app(Tailrace(), store)) as before:
            put(before)
            first = post(before, headers=producer, body=b"a")
        with AppServer(streams_app(Tailrace(), store)) as after:
            second = post(after, headers=producer, body=b"a")
            read = get(after)

    assert (first.status, second.status, read.body) == (200, 204, b"a")


# Bounds --------------------------------------------------------------------------------------------------------------


def test_what_is_too_much_is_refused(serve: Serve) -> None:
    limits = StreamLimits(max_streams=1, max_records=10, max_bytes=150, append_bytes=60, lifetime_seconds=60)
    server = serve(streams_app(Tailrace(), limits=limits))

    put(server, headers=JSON)
    statuses = [
        post(server, headers=JSON, body=b"[" + b"1," * 50 + b"1]").status,
        post(server, headers=JSON, body=b"[" + b"1," * 20 + b"1]").status,
        post(server, headers=JSON, body=b'"%b"' % (b"x" * 50)).status,
        post(server, headers=JSON, body=b'"%b"' % (b"x" * 50)).status,
        put(server, f"{NAME}/2", JSON, b"[" + b"1," * 20 + b"1]").status,
        put(server, f"{NAME}/2").status,
        put(server, f"{NAME}/3", {**TEXT, "stream-ttl": "61"}).status,
        put(server, f"{NAME}/3", {**TEXT, "stream-expires-at": "2999-01-01T00:00:00Z"}).status,
        put(server, f"{NAME}/3", {"content-type": "x" * 129}).status,
        post(server, headers={**TEXT, "stream-seq": "1" * 129}, body=b"a").status,
        post(server, headers={**JSON, "producer-id": "p" * 129, "producer-epoch": "0", "producer-seq": "0"}).status,
    ]

    assert statuses == [413, 413, 204, 413, 413, 429, 400, 400, 400, 400, 400]


def test_one_append_has_so_many_messages_and_no_more(serve: Serve) -> None:
    server = serve(streams_app(Tailrace(), limits=StreamLimits(append_messages=3)))

    statuses = [
        put(server, headers=JSON, body=b"[1,2,3,4]").status,
        put(server, headers=JSON, body=b"[1,2,3]").status,
        post(server, headers=JSON, body=b"[1,2,3,4]").status,
        post(server, headers=JSON, body=b"[4,5,6]").status,
    ]

    assert statuses == [413, 201, 413, 204]
    assert get(server).body == b"[1,2,3,4,5,6]"


def test_forks_are_not_offered(serve: Serve) -> None:
    server = serve(streams_app(Tailrace()))

    assert put(server, headers={**TEXT, "stream-forked-from": NAME}).status == 501


@pytest.mark.parametrize(
    "headers",
    [
        {"producer-id": "p"},
        {"producer-id": "", "producer-epoch": "0", "producer-seq": "0"},
        {"producer-id": "p", "producer-epoch": "0", "producer-seq": "-1"},
        {"producer-id": "p", "producer-epoch": str(2**53), "producer-seq": "0"},
        {"producer-epoch": "0", "producer-seq": "0"},
    ],
)
def test_a_producer_that_says_half_of_it_is_refused(serve: Serve, headers: dict[str, str]) -> None:
    server = serve(streams_app(Tailrace()))
    put(server)

    assert post(server, headers={**TEXT, **headers}, body=b"a").status == 400


def test_an_offset_beyond_the_end_is_refused(serve: Serve) -> None:
    server = serve(streams_app(Tailrace()))
    put(server, body=b"a")

    assert get(server, f"{NAME}?offset=0000000000000009").error_code == "cursor_invalid"


# Waiting -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STORES)
def test_a_drain_sends_those_that_wait_away_whole(
    serve: Serve, kind: str, tmp_path: Path, require_program: Callable[..., str]
) -> None:
    with a_store(kind, tmp_path, require_program) as store:
        tail = Tailrace()
        with AppServer(streams_app(tail, store)) as server, Connection(server.port) as poll:
            put(server, body=b"a")
            poll.send("GET", f"{NAME}?offset=now&live=long-poll")
            with open_stream(server.port, "GET", f"{NAME}?offset=-1&live=sse") as stream:
                stream.next_of("control")
                server.eventually(lambda: tail.stream_count == 2)
                server.call(tail.drain(1.0))
                reply, rest = poll.reply(), stream.rest()

    assert (reply.status, reply.whole) == (204, True)
    assert (rest, stream.connection.whole) == ([], True)


def test_readers_of_a_stream_that_is_deleted_are_sent_away(serve: Serve) -> None:
    tail = Tailrace()
    server = serve(streams_app(tail))
    put(server, body=b"a")

    with Connection(server.port) as poll, open_stream(server.port, "GET", f"{NAME}?offset=now&live=sse") as stream:
        poll.send("GET", f"{NAME}?offset=now&live=long-poll")
        server.eventually(lambda: tail.stream_count == 2)
        fetch(server.port, "DELETE", NAME)
        reply, _ = poll.reply(), stream.rest()

    assert reply.status == 404
    assert stream.connection.whole


def test_a_reader_that_waits_comes_back_in_time_to_keep_the_stream_alive(serve: Serve) -> None:
    server = serve(streams_app(Tailrace()))
    put(server, headers={**TEXT, "stream-ttl": "1"})

    reply = get(server, f"{NAME}?offset=now&live=long-poll")

    assert reply.status == 204
    assert get(server).status == 200
