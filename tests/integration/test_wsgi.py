"""Flask behind real WSGI servers: the same streams as behind ASGI, on threads, on greenlets and on the dev server."""

import itertools
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from tailrace.wire.sse import Decoder, ServerSentEvent
from tests.integration.support.client import BOUND_SECONDS, Connection, EventReader, Reply, fetch, open_stream
from tests.integration.support.process import ServerProcess, gunicorn_run, werkzeug_run
from tests.integration.support.stores import SHARED_STORES, a_store
from tests.integration.support.wsgi_app import HEARTBEAT_SECONDS

pytestmark = pytest.mark.timeout(120)

#: The second heartbeat after a client has left fails, and a third is never due.
NOTICED_SECONDS = 3 * HEARTBEAT_SECONDS
COMMANDS = {
    "gthread": gunicorn_run("wsgi_app:create_app()", "gthread", "--threads", "48"),
    "gevent": gunicorn_run("wsgi_app:create_app()", "gevent"),
    "werkzeug": werkzeug_run("wsgi_app:create_app()"),
}
_gates = itertools.count()


@pytest.fixture(scope="module", params=COMMANDS)
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    with ServerProcess(COMMANDS[request.param]) as process:
        yield process


@pytest.fixture
def gate() -> str:
    """The name of a gate that nobody else waits at."""
    return f"gate{next(_gates)}"


def open_gate(server: ServerProcess, gate: str) -> None:
    assert fetch(server.port, "POST", f"/open/{gate}").status == 200


def seconds_until(server: ServerProcess, path: str = "/state", **wanted: object) -> float:
    """How long it takes until the document at `path` says so."""
    since = time.monotonic()
    while True:
        state = fetch(server.port, "GET", path).json()
        if wanted.items() <= state.items():
            return time.monotonic() - since
        assert time.monotonic() - since < BOUND_SECONDS, f"{wanted} never came, but {state}"


def text_of(events: list[ServerSentEvent]) -> str:
    return "".join(msgspec.json.decode(event.data)["delta"] for event in events if event.event == "text.delta")


def words(count: int, end: str = "終わり") -> str:
    return "".join(f"{number}ü " for number in range(count)) + end


def path_of(reader: EventReader) -> str:
    """Where the run of a stream is to be found."""
    return reader.head["location"]


def test_a_stream_is_that_of_asgi(server: ServerProcess) -> None:
    with open_stream(server.port, "POST", "/chat?words=2") as reader:
        events = reader.rest()

    head = reader.head
    assert (head.status, head["content-type"], head["cache-control"]) == (
        200,
        "text/event-stream",
        "no-store, no-transform",
    )
    assert re.fullmatch(r"/runs/[a-z2-7]{26}/events", head["location"])
    assert [(event.id, event.event) for event in events] == [
        ("1", "run.started"),
        ("2", "text.delta"),
        ("3", "text.delta"),
        ("4", "text.delta"),
        ("5", "run.completed"),
    ]
    assert text_of(events) == words(2)
    assert reader.raw.endswith(b": end\n")
    assert reader.connection.whole


@pytest.mark.parametrize("path", ["/chat?words=60", "/sync?words=60"])
def test_forty_streams_at_once_are_all_whole(server: ServerProcess, path: str) -> None:
    def read(_: int) -> str:
        with open_stream(server.port, "GET", path) as reader:
            return text_of(reader.rest())

    with ThreadPoolExecutor(40) as pool:
        texts = set(pool.map(read, range(40)))

    assert texts == {words(60, "終わり" if "chat" in path else "")}


def test_streams_that_stay_open_do_not_keep_others_from_being_served(server: ServerProcess, gate: str) -> None:
    seconds_until(server, streams=0)
    with ExitStack() as stack:
        readers = [stack.enter_context(open_stream(server.port, "GET", f"/chat?gate={gate}")) for _ in range(20)]
        for reader in readers:
            reader.next_of("text.delta")

        state = fetch(server.port, "GET", "/state").json()
        open_gate(server, gate)
        texts = {text_of(reader.rest()) for reader in readers}

    assert state["streams"] == 20
    assert texts == {words(3)[len("0ü ") :]}


def test_a_client_that_left_is_noticed_within_two_heartbeats_and_the_run_goes_on(
    server: ServerProcess, gate: str
) -> None:
    with open_stream(server.port, "GET", f"/chat?gate={gate}") as reader:
        begun = [reader.next() for _ in range(3)]
        seconds_until(server, streams=1)
    seconds = seconds_until(server, streams=0)

    left = fetch(server.port, "GET", path_of(reader).removesuffix("/events")).json()
    open_gate(server, gate)
    with open_stream(server.port, "GET", path_of(reader), {"last-event-id": begun[-1].id}) as again:
        rest = again.rest()

    assert seconds < NOTICED_SECONDS
    assert left["status"] == "running"
    assert text_of(begun + rest) == words(3)


def test_a_client_that_left_ends_a_run_that_was_started_so(server: ServerProcess, gate: str) -> None:
    with open_stream(server.port, "GET", f"/chat?gate={gate}&on_disconnect=cancel") as reader:
        reader.next_of("text.delta")
    seconds = seconds_until(server, path_of(reader).removesuffix("/events"), status="cancelled")

    with open_stream(server.port, "GET", path_of(reader)) as again:
        last = again.rest()[-1]

    assert seconds < NOTICED_SECONDS
    assert (last.event, msgspec.json.decode(last.data)["reason"]) == ("run.cancelled", "disconnect")


def test_a_run_is_resumed_exactly_wherever_it_was_cut(server: ServerProcess) -> None:
    with open_stream(server.port, "POST", "/chat?words=12") as reader:
        whole = reader.rest()
    path = f"{path_of(reader)}?merge=0"

    rests: dict[int, list[ServerSentEvent]] = {}
    for cut in range(1, len(whole)):
        with open_stream(server.port, "GET", path, {"last-event-id": str(cut)}) as again:
            rests[cut] = again.rest()

    assert rests == {cut: whole[cut:] for cut in range(1, len(whole))}


def test_a_connection_that_broke_at_any_byte_is_resumed_exactly(server: ServerProcess) -> None:
    with open_stream(server.port, "POST", "/chat?words=4") as reader:
        whole = reader.rest()

    for size in range(1, len(reader.raw), 37):
        decoder = Decoder()
        with Connection(server.port) as connection:
            connection.send("GET", path_of(reader))
            connection.head()
            before = decoder.feed(connection.read_exactly(size).removeprefix(b": hb\n"))
        place = {"last-event-id": decoder.last_event_id} if decoder.last_event_id else {}
        with open_stream(server.port, "GET", path_of(reader), place) as again:
            assert before + again.rest() == whole


def test_a_get_that_starts_is_followed_by_its_own_ids_and_then_by_nothing(server: ServerProcess) -> None:
    with open_stream(server.port, "GET", "/chat") as reader:
        first, *_, last = reader.rest()

    again = fetch(server.port, "GET", "/chat", {"last-event-id": last.id})
    with open_stream(server.port, "GET", "/chat", {"last-event-id": first.id}) as resumed:
        rest = resumed.rest()

    assert re.fullmatch(r"[a-z2-7]{26}:1", first.id)
    assert (again.status, again.body) == (204, b"")
    assert rest[-1] == last


def test_an_idle_stream_begins_at_once_and_has_heartbeats(server: ServerProcess, gate: str) -> None:
    with open_stream(server.port, "GET", f"/chat?gate={gate}&words=1") as reader:
        reader.next_of("text.delta")
        opened_at = time.monotonic()
        with open_stream(server.port, "GET", path_of(reader), {"last-event-id": "2"}) as idle:
            begun_seconds = time.monotonic() - opened_at
            idle.until_comment("hb")
        reader.until_comment("hb")
        open_gate(server, gate)

    assert begun_seconds < HEARTBEAT_SECONDS


def test_json_keys_and_patience_are_as_behind_asgi(server: ServerProcess, gate: str) -> None:
    key = {"idempotency-key": "a key that is long enough"}

    document = fetch(server.port, "POST", "/chat", {"accept": "application/json", **key}).json()
    again = fetch(server.port, "POST", "/chat", key)
    conflict = fetch(server.port, "POST", "/chat?words=4", key)
    nowhere = fetch(server.port, "POST", "/chat", {"last-event-id": "3"})
    postponed = fetch(server.port, "POST", f"/chat?gate={gate}", {"prefer": "respond-async"})
    head = fetch(server.port, "HEAD", "/chat")

    assert document["text"] == words(3)
    assert again.head["location"] == f"/runs/{document['run_id']}/events"
    assert (conflict.status, conflict.error_code) == (409, "conflict")
    assert (nowhere.status, nowhere.error_code) == (400, "cursor_invalid")
    assert (postponed.status, postponed.head["preference-applied"]) == (202, "respond-async")
    assert (head.status, head.head["content-type"], head.body) == (200, "text/event-stream", b"")


def test_an_early_failure_is_an_http_status(server: ServerProcess) -> None:
    refused = fetch(server.port, "GET", "/refused")
    broken = fetch(server.port, "GET", "/broken")

    assert (refused.status, refused.head["retry-after"]) == (429, "7")
    assert b"Later." in refused.body
    assert broken.status == 500
    assert "correlation id" in str(broken.json()["error"])
    assert b"division" not in broken.body


def test_the_run_routes_answer_with_and_without_a_slash(server: ServerProcess, gate: str) -> None:
    with open_stream(server.port, "POST", f"/chat?gate={gate}") as reader:
        reader.next_of("text.delta")
        run = path_of(reader).removesuffix("/events")

        inspected = [fetch(server.port, "GET", path).json()["status"] for path in (run, f"{run}/")]
        unknown = [fetch(server.port, "GET", path).status for path in ("/runs", "/runs/", "/runs/unknown/events")]
        cancelled = fetch(server.port, "POST", f"{run}/cancel")
        last = reader.rest()[-1]

    assert inspected == ["running", "running"]
    assert unknown == [404, 404, 404]
    assert (cancelled.status, cancelled.json()["accepted"]) == (202, True)
    assert last.event == "run.cancelled"


def test_a_body_reaches_the_source_and_its_characters_arrive_whole(server: ServerProcess) -> None:
    message = "34°C — 日本 😀 e\u0301"
    body = msgspec.json.encode({"message": message})

    with open_stream(server.port, "POST", "/echo", {"content-type": "application/json"}, body=body) as reader:
        decoder, events = Decoder(), list[ServerSentEvent]()
        while piece := reader.connection.read(1):
            events += decoder.feed(piece)

    assert text_of(events) == message


def test_a_body_that_is_too_large_to_be_read_ahead_is_not_read_on_the_loop(server: ServerProcess) -> None:
    reply = fetch(server.port, "POST", "/late", body=b"x" * (1024**2 + 1))
    small = fetch(server.port, "POST", "/late", {"accept": "application/json"}, body=b"x" * 1024)

    assert reply.status == 500
    assert small.json()["text"] == "x" * 1024


def test_a_surface_is_served_too(server: ServerProcess) -> None:
    def ask(**options: object) -> Reply:
        body = msgspec.json.encode({"messages": [{"role": "user", "content": "日本"}], **options})
        return fetch(server.port, "POST", "/v1/chat/completions", {"content-type": "application/json"}, body)

    streamed, whole, large = ask(stream=True), ask(), ask(padding="x" * 1024**2)
    models = fetch(server.port, "GET", "/v1/models/tailrace").json()

    assert streamed.body.endswith(b"data: [DONE]\n\n: end\n")
    assert "日" in streamed.body.decode()
    assert "日本" in whole.body.decode()
    assert large.status == 413
    assert models["id"] == "tailrace"


def test_a_response_without_a_log_is_streamed_too(server: ServerProcess) -> None:
    with open_stream(server.port, "GET", "/event-stream") as reader:
        assert text_of(reader.rest()) == words(2)


def test_a_response_that_was_made_and_not_returned_holds_nothing(server: ServerProcess) -> None:
    assert fetch(server.port, "GET", "/aborted").status == 418

    seconds_until(server, streams=0)


# Servers of their own -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("worker", ["gthread", "gevent"])
def test_beyond_the_cap_a_start_is_refused_and_a_reader_is_asked_to_come_back(worker: str) -> None:
    command = gunicorn_run("wsgi_app:create_app(max_streams=2)", worker, "--threads", "4")
    with ServerProcess(command) as server, ExitStack() as stack:
        first, _ = [stack.enter_context(open_stream(server.port, "GET", "/chat?gate=shut")) for _ in range(2)]
        first.next_of("text.delta")

        refused = fetch(server.port, "POST", "/chat?gate=shut")
        attached = fetch(server.port, "GET", path_of(first))
        resumed = fetch(server.port, "GET", "/chat", {"last-event-id": first.last_event_id})
        state = fetch(server.port, "GET", "/state").json()
        cancelled = fetch(server.port, "POST", path_of(first).replace("/events", "/cancel"))
        first.rest()
        seconds_until(server, streams=1)
        accepted = fetch(server.port, "POST", "/chat")

    assert (refused.status, refused.head["retry-after"], refused.error_code) == (503, "2", "too_many_streams")
    assert (attached.status, b"event: reconnect" in attached.body) == (200, True)
    assert (resumed.status, b"event: reconnect" in resumed.body) == (200, True)
    assert state["streams"] == 2
    assert cancelled.status == 202
    assert accepted.status == 200


@pytest.mark.parametrize("preload", [(), ("--preload", "--config", "python:gunicorn_hooks")], ids=["", "preloaded"])
@pytest.mark.parametrize("worker", ["gthread", "gevent"])
def test_at_sigterm_readers_get_the_end_and_the_server_ends_within_its_grace(
    worker: str, preload: tuple[str, ...]
) -> None:
    options = ("--threads", "8", "--graceful-timeout", "20", *preload)
    command = gunicorn_run("wsgi_app:create_app()", worker, *options)
    with ServerProcess(command) as server, ExitStack() as stack:
        readers = [stack.enter_context(open_stream(server.port, "GET", "/chat?gate=shut")) for _ in range(4)]
        for reader in readers:
            reader.next_of("text.delta")

        signalled_at = server.send(signal.SIGTERM)
        last = [reader.rest()[-1] for reader in readers]
        exit_code = server.exit_code()
        seconds = time.monotonic() - signalled_at

    assert {(event.event, msgspec.json.decode(event.data)["reason"]) for event in last} == {
        ("run.interrupted", "shutdown")
    }
    assert all(reader.connection.whole for reader in readers)
    assert exit_code == 0
    assert seconds < 20


@pytest.mark.parametrize("worker", ["gthread", "gevent"])
def test_a_worker_that_is_replaced_without_a_signal_ends_its_runs_too(worker: str, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    # The second request is the last one, and the first is a stream that does not end.
    limits = ("--threads", "8", "--max-requests", "2", "--graceful-timeout", "1")
    with (
        ServerProcess(gunicorn_run(f"wsgi_app:create_app({store!r})", worker, *limits)) as server,
        open_stream(server.port, "GET", "/chat?gate=shut") as reader,
    ):
        reader.next_of("text.delta")
        pid = fetch(server.port, "GET", "/state").json()["pid"]

        reader.rest()
        with open_stream(server.port, "GET", path_of(reader)) as again:
            last = again.rest()[-1]
        other_pid = fetch(server.port, "GET", "/state").json()["pid"]

    assert (last.event, msgspec.json.decode(last.data)["reason"]) == ("run.interrupted", "shutdown")
    assert pid != other_pid


def test_the_development_server_gives_readers_their_end_too() -> None:
    with (
        ServerProcess(werkzeug_run("wsgi_app:create_app()")) as server,
        open_stream(server.port, "GET", "/chat?gate=shut") as reader,
    ):
        reader.next_of("text.delta")

        server.send(signal.SIGTERM)
        last = reader.rest()[-1]
        exit_code = server.exit_code()

    assert last.event == "run.interrupted"
    assert exit_code == -signal.SIGTERM


@pytest.mark.parametrize("worker", ["gthread", "gevent"])
def test_readers_that_take_nothing_do_not_keep_their_threads(worker: str) -> None:
    command = gunicorn_run("wsgi_app:create_app(send_timeout_seconds=1)", worker, "--threads", "2")
    with ServerProcess(command) as server, ExitStack() as stack:
        for _ in range(2):
            connection = stack.enter_context(Connection(server.port, receive_buffer_bytes=4096))
            connection.send("GET", "/flood")
            connection.head()

        reply = fetch(server.port, "GET", "/chat")

    assert reply.status == 200


@pytest.mark.parametrize(("workers", "warnings"), [("1", 0), ("2", 1)])
def test_several_workers_are_warned_of_a_store_that_they_do_not_share(workers: str, warnings: int) -> None:
    command = gunicorn_run("wsgi_app:create_app()", "gthread", "--threads", "2", "--workers", workers)
    with ServerProcess(command) as server:
        fetch(server.port, "GET", "/chat")

    assert server.output.count("its store is not shared") == warnings


@pytest.fixture(params=SHARED_STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path, require_program: Callable[..., str]) -> Iterator[str]:
    """The URL of a store that workers share."""
    with a_store(request.param, tmp_path, require_program) as url:
        yield url


@pytest.mark.parametrize("worker", ["gthread", "gevent"])
def test_a_server_reads_and_cancels_the_runs_of_another_one_with_the_same_store(worker: str, store: str) -> None:
    command = gunicorn_run(f"wsgi_app:create_app({store!r})", worker, "--threads", "4", "--workers", "2")
    with (
        ServerProcess(command) as one,
        ServerProcess(command) as other,
        open_stream(one.port, "POST", "/chat?gate=shut") as reader,
    ):
        begun = [reader.next() for _ in range(4)]
        with open_stream(other.port, "GET", path_of(reader)) as elsewhere:
            read = [elsewhere.next() for _ in range(4)]
            cancelled = fetch(other.port, "POST", path_of(reader).replace("/events", "/cancel"))
            ends = reader.rest(), elsewhere.rest()

    assert read == begun
    assert cancelled.json()["accepted"]
    assert ends[0] == ends[1]
    assert ends[0][-1].event == "run.cancelled"
    assert "not shared" not in one.output
