"""A run's log by the Durable Streams protocol: caught up with, waited for, streamed, and left at any moment."""

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.requests import Request

from tailrace import Tailrace
from tailrace.events import encode_record
from tests.integration.support.apps import chat_app
from tests.integration.support.client import Connection, EventReader, Reply, fetch, open_stream
from tests.integration.support.frames import entry_of, events_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import FAILING_RUN, Gate, Script
from tests.integration.support.stores import SHARED_STORES, a_store

Serve = Callable[..., AppServer]

BEGINNING = "0000000000000000"


def by_header(request: Request) -> str | None:
    return request.headers.get("authorization")


def begun(server: AppServer) -> str:
    """The URL of the log of a run that has said its first word."""
    with open_stream(server.port, "POST", "/chat") as stream:
        stream.next_of("text.delta")
        return log_of(stream.head["location"])


def log_of(events_url: str) -> str:
    return f"{events_url.removesuffix('events')}log"


def messages(body: bytes) -> list[dict[str, Any]]:
    return msgspec.json.decode(body, type=list[dict[str, Any]])


def types(body: bytes) -> list[str]:
    return [message["type"] for message in messages(body)]


def offset(seq: int) -> str:
    return f"{seq:016d}"


def get(server: AppServer, target: str, headers: dict[str, str] | None = None) -> Reply:
    return fetch(server.port, "GET", target, headers)


@contextmanager
def waiting(server: AppServer, tail: Tailrace, target: str) -> Generator[Connection]:
    """A long-poll that waits by now, and nobody else."""
    server.eventually(lambda: tail.stream_count == 0)
    with Connection(server.port) as connection:
        connection.send("GET", target)
        server.eventually(lambda: tail.stream_count == 1)
        yield connection


def control(stream: EventReader) -> dict[str, Any]:
    """What the next event of control says."""
    return msgspec.json.decode(stream.next_of("control").data, type=dict[str, Any])


# Catching up ---------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_one_closed_page_of_its_events_with_their_numbers(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script(*FAILING_RUN)))
    started = fetch(server.port, "POST", "/chat")
    entries = [entry_of(event) for event in events_of(started.body)]

    reply = get(server, log_of(started.head["location"]))

    assert reply.status == 200
    assert [message["seq"] for message in messages(reply.body)] == list(range(1, len(entries) + 1))
    for message, entry in zip(messages(reply.body), entries, strict=True):
        assert message == {
            **msgspec.json.decode(encode_record(entry.at_ms, entry.event), type=dict[str, Any]),
            "seq": entry.seq,
        }
    assert reply.head["stream-next-offset"] == offset(len(entries))
    assert reply.head["stream-up-to-date"] == "true"
    assert reply.head["stream-closed"] == "true"
    assert reply.head["content-type"] == "application/json"
    assert reply.head["x-content-type-options"] == "nosniff"


def test_from_every_offset_the_rest_follows(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script(*FAILING_RUN)))
    url = log_of(fetch(server.port, "POST", "/chat").head["location"])
    whole = messages(get(server, url).body)

    for seen in range(len(whole) + 1):
        rest = get(server, f"{url}?offset={offset(seen)}")

        assert messages(rest.body) == whole[seen:]
        assert rest.head["stream-next-offset"] == offset(len(whole))


def test_a_run_that_goes_on_is_not_closed(serve: Serve) -> None:
    gate = Gate()
    server = serve(chat_app(Tailrace(), Script("a", gate)))
    url = begun(server)

    reply = get(server, f"{url}?offset=-1")
    gate.open()

    assert types(reply.body) == ["run.started", "text.delta"]
    assert reply.head["stream-up-to-date"] == "true"
    assert "stream-closed" not in reply.head.names


def test_now_is_behind_all_that_is_there(serve: Serve) -> None:
    gate = Gate()
    server = serve(chat_app(Tailrace(), Script("a", gate)))
    url = begun(server)

    reply = get(server, f"{url}?offset=now")
    gate.open()

    assert (reply.status, reply.body) == (200, b"[]")
    assert reply.head["stream-next-offset"] == offset(2)
    assert reply.head["cache-control"] == "no-store"
    assert "etag" not in reply.head.names


def test_a_long_log_comes_in_pages(serve: Serve) -> None:
    words = ["x" * 60_000] * 40
    server = serve(chat_app(Tailrace(), Script(*words)))
    url = log_of(fetch(server.port, "POST", "/chat").head["location"])
    place, pages = BEGINNING, list[Reply]()

    while not pages or "stream-up-to-date" not in pages[-1].head.names:
        pages.append(get(server, f"{url}?offset={place}"))
        place = pages[-1].head["stream-next-offset"]

    found = [message for page in pages for message in messages(page.body)]
    assert [message["seq"] for message in found] == list(range(1, len(found) + 1))
    assert [message["delta"] for message in found if message["type"] == "text.delta"] == words
    assert len(pages) == 3
    assert all(len(page.body) < 1024**2 + 100_000 for page in pages)
    assert [page.head.all("stream-closed") for page in pages] == [[], [], ["true"]]


def test_what_a_reader_has_already_is_not_sent_again(serve: Serve) -> None:
    gate = Gate()
    server = serve(chat_app(Tailrace(), Script("a", gate)))
    url = begun(server)
    first = get(server, url)

    same = get(server, url, {"if-none-match": f'"other", W/{first.head["etag"]}'})
    gate.open()
    fetch(server.port, "GET", f"{url.removesuffix('log')}events")
    other = get(server, url, {"if-none-match": first.head["etag"]})

    assert (same.status, same.body) == (304, b"")
    assert same.head["etag"] == first.head["etag"]
    assert other.status == 200
    assert types(other.body)[-1] == "run.completed"


def test_the_head_tells_where_the_log_ends(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a")))
    url = log_of(fetch(server.port, "POST", "/chat").head["location"])

    reply = fetch(server.port, "HEAD", url)

    assert (reply.status, reply.body) == (200, b"")
    assert reply.head["stream-next-offset"] == offset(3)
    assert reply.head["stream-closed"] == "true"
    assert reply.head["cache-control"] == "no-store"


@pytest.mark.parametrize("query", ["offset=0", "offset=", "offset=-1&offset=-1", "live=sse", "offset=-1&live=true"])
def test_a_query_that_cannot_be_answered_is_refused(serve: Serve, query: str) -> None:
    server = serve(chat_app(Tailrace(), Script("a")))
    url = log_of(fetch(server.port, "POST", "/chat").head["location"])

    assert get(server, f"{url}?{query}").status == 400


@pytest.mark.parametrize("live", ["", "&live=long-poll", "&live=sse"])
def test_an_offset_beyond_the_end_of_a_finished_run_is_refused_at_once(serve: Serve, live: str) -> None:
    server = serve(chat_app(Tailrace(), Script("a")))
    url = log_of(fetch(server.port, "POST", "/chat").head["location"])

    reply = get(server, f"{url}?offset={offset(4)}{live}")

    assert (reply.status, reply.error_code) == (400, "cursor_invalid")


# Whose it is ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("live", ["", "&live=long-poll", "&live=sse"])
def test_anothers_log_is_unknown(serve: Serve, live: str) -> None:
    server = serve(chat_app(Tailrace(owner=by_header), Script("a")))
    url = log_of(fetch(server.port, "POST", "/chat", {"authorization": "ann"}).head["location"])

    own = get(server, f"{url}?offset=-1{live}", {"authorization": "ann"})
    anothers = get(server, f"{url}?offset=-1{live}", {"authorization": "bob"})
    nobodys = get(server, f"{url}?offset=-1{live}")
    unknown = get(server, f"/runs/{'x' * 26}/log?offset=-1{live}", {"authorization": "ann"})

    assert own.status == 200
    assert {anothers.status, nobodys.status, unknown.status} == {404}


def test_what_belongs_to_somebody_is_kept_by_no_cache(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(owner=by_header), Script("a")))
    url = log_of(fetch(server.port, "POST", "/chat", {"authorization": "ann"}).head["location"])

    assert get(server, url, {"authorization": "ann"}).head["cache-control"] == "no-store"


def test_what_belongs_to_nobody_is_kept_by_the_readers_own_cache_and_asked_for_each_time(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a")))
    url = log_of(fetch(server.port, "POST", "/chat").head["location"])

    assert get(server, url).head["cache-control"] == "private, no-cache"


# Waiting -------------------------------------------------------------------------------------------------------------


def test_a_long_poll_waits_for_more(serve: Serve) -> None:
    gate, end = Gate(), Gate()
    tail = Tailrace()
    server = serve(chat_app(tail, Script("a", gate, "b", end)))
    url = begun(server)

    with waiting(server, tail, f"{url}?offset=now&live=long-poll") as connection:
        gate.open()
        reply = connection.reply()
    end.open()

    assert reply.status == 200
    assert [message["delta"] for message in messages(reply.body)] == ["b"]
    assert reply.head["stream-next-offset"] == offset(3)
    assert int(reply.head["stream-cursor"]) > 0


def test_a_long_poll_that_waits_too_long_is_sent_away_to_come_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.web.log.LONG_POLL_SECONDS", 0.05)
    gate = Gate()
    server = serve(chat_app(Tailrace(), Script("a", gate)))
    url = begun(server)

    first = get(server, f"{url}?offset={offset(2)}&live=long-poll")
    second = get(server, f"{url}?offset={offset(2)}&live=long-poll&cursor={first.head['stream-cursor']}")
    gate.open()

    assert (first.status, first.body, second.status) == (204, b"", 204)
    assert first.head["stream-next-offset"] == offset(2)
    assert first.head["stream-up-to-date"] == "true"
    assert int(second.head["stream-cursor"]) > int(first.head["stream-cursor"])


def test_a_long_poll_at_the_end_of_a_finished_run_is_answered_at_once(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a")))
    url = log_of(fetch(server.port, "POST", "/chat").head["location"])

    reply = get(server, f"{url}?offset={offset(3)}&live=long-poll")

    assert reply.status == 204
    assert reply.head["stream-closed"] == "true"
    assert "stream-cursor" not in reply.head.names


def test_an_event_stream_has_data_and_where_the_reader_stands_then(serve: Serve) -> None:
    gate = Gate()
    server = serve(chat_app(Tailrace(), Script("a", gate, "b")))
    url = begun(server)

    with open_stream(server.port, "GET", f"{url}?offset=-1&live=sse") as stream:
        data = stream.next()
        there = control(stream)
        gate.open()
        rest = stream.rest()

    assert stream.head["content-type"] == "text/event-stream"
    assert (data.event, types(data.data.encode())) == ("data", ["run.started", "text.delta"])
    assert there == {"streamNextOffset": offset(2), "streamCursor": there["streamCursor"], "upToDate": True}
    assert [name for event in rest if event.event == "data" for name in types(event.data.encode())] == [
        "text.delta",
        "run.completed",
    ]
    assert msgspec.json.decode(rest[-1].data) == {
        "streamNextOffset": offset(4),
        "streamClosed": True,
        "upToDate": True,
    }
    assert stream.connection.whole


def test_an_event_stream_ends_after_a_while_and_is_taken_up_from_where_it_was(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    server = serve(chat_app(Tailrace(), Script("a", gate, "b")))
    url = begun(server)
    monkeypatch.setattr("tailrace.web.log.EVENT_STREAM_SECONDS", 0.05)

    with open_stream(server.port, "GET", f"{url}?offset=-1&live=sse") as stream:
        place = control(stream)["streamNextOffset"]
        rest = stream.rest()
    monkeypatch.undo()
    with open_stream(server.port, "GET", f"{url}?offset={place}&live=sse") as again:
        nothing_new = again.next()
        gate.open()
        told = again.rest()

    assert rest == []
    assert stream.connection.whole
    assert nothing_new.event == "control"
    assert [name for event in told if event.event == "data" for name in types(event.data.encode())] == [
        "text.delta",
        "run.completed",
    ]


def test_an_event_stream_cut_at_any_byte_is_completed_from_the_last_place_it_told(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script(*FAILING_RUN)))
    url = log_of(fetch(server.port, "POST", "/chat").head["location"])
    whole = messages(get(server, url).body)
    bodies = [get(server, f"{url}?offset={offset(seen)}&live=sse").body for seen in range(0, len(whole), 5)]

    for number, body in enumerate(bodies):
        for cut in range(0, len(body) + 1, 7):
            seen, place = whole[: number * 5], offset(number * 5)
            data: list[dict[str, Any]] = []
            for event in events_of(body[:cut]):
                if event.event == "data":
                    data = messages(event.data.encode())
                else:
                    seen, data = seen + data, []
                    place = msgspec.json.decode(event.data, type=dict[str, Any])["streamNextOffset"]

            assert seen == whole[: int(place)]


@pytest.mark.parametrize("kind", SHARED_STORES)
def test_the_log_of_a_run_is_read_through_another_worker(
    serve: Serve, kind: str, tmp_path: Path, require_program: Callable[..., str]
) -> None:
    with a_store(kind, tmp_path, require_program) as store, ExitStack() as servers:
        gate = Gate()
        producing = servers.enter_context(AppServer(chat_app(Tailrace(store), Script("a", gate, "b"))))
        reading = servers.enter_context(AppServer(chat_app(Tailrace(store), Script())))
        url = begun(producing)

        with open_stream(reading.port, "GET", f"{url}?offset=-1&live=sse") as stream:
            place = control(stream)
            gate.open()
            rest = stream.rest()
        page = get(reading, url)

    assert place["streamNextOffset"] == offset(2)
    assert msgspec.json.decode(rest[-1].data, type=dict[str, Any])["streamClosed"]
    assert types(page.body) == ["run.started", "text.delta", "text.delta", "run.completed"]


def test_a_reader_that_leaves_is_noticed(serve: Serve) -> None:
    gate = Gate()
    tail = Tailrace()
    server = serve(chat_app(tail, Script("a", gate), on_disconnect="cancel"))
    with open_stream(server.port, "POST", "/chat") as starter:
        starter.next_of("text.delta")
        url = log_of(starter.head["location"])
        with open_stream(server.port, "GET", f"{url}?offset=-1&live=sse") as stream:
            stream.next_of("control")
            starter.connection.abort()
            stream.connection.abort()
        server.eventually(lambda: not tail.live_count)

    assert types(get(server, url).body)[-1] == "run.cancelled"


def test_a_drain_sends_those_that_wait_away_whole(serve: Serve) -> None:
    gate = Gate()
    tail = Tailrace()
    server = serve(chat_app(tail, Script("a", gate)))
    url = begun(server)

    with (
        waiting(server, tail, f"{url}?offset=now&live=long-poll") as poll,
        open_stream(server.port, "GET", f"{url}?offset=-1&live=sse") as stream,
    ):
        stream.next_of("control")
        server.call(tail.drain(1.0))
        reply, rest = poll.reply(), stream.rest()
    final = get(server, f"{url}?offset={reply.head['stream-next-offset']}&live=long-poll")

    assert (reply.status, reply.whole) == (204, True)
    assert (rest, stream.connection.whole) == ([], True)
    assert types(final.body) == ["run.interrupted"]
    assert final.head["stream-closed"] == "true"


def test_who_comes_while_the_server_drains_waits_a_moment_only(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.web.log._DRAINING_SECONDS", 0.05)
    gate = Gate()
    tail = Tailrace()
    server = serve(chat_app(tail, Script("a", gate)))
    url = begun(server)
    monkeypatch.setattr(type(tail), "draining", property(lambda _: True))

    reply = get(server, f"{url}?offset=now&live=long-poll")
    with open_stream(server.port, "GET", f"{url}?offset=now&live=sse") as stream:
        rest = stream.rest()
    gate.open()

    assert reply.status == 204
    assert [event.event for event in rest] == ["control"]
    assert stream.connection.whole
