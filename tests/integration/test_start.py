"""A request that starts a run: what it gets, byte by byte and header by header."""

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from tailrace import Tailrace
from tests.integration.support.apps import answering, chat_app
from tests.integration.support.client import Connection, fetch, open_stream
from tests.integration.support.frames import entry_of, events_of, frames_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, OpenedStream, Script

Serve = Callable[..., AppServer]


def test_a_post_streams_numbered_events_to_one_terminal_event_and_the_end_mark(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("Hello ", "there")))

    reply = fetch(server.port, "POST", "/chat")

    events = events_of(reply.body)
    assert reply.status == 200
    assert [event.id for event in events] == ["1", "2", "3", "4"]
    assert [event.event for event in events] == ["run.started", "text.delta", "text.delta", "run.completed"]
    assert reply.body.endswith(b"\n\n: end\n")
    assert reply.body.count(b": end") == 1
    assert reply.whole


def test_an_event_is_on_the_wire_while_the_source_waits_for_the_next(serve: Serve) -> None:
    gate = Gate()
    server = serve(chat_app(Tailrace(), Script("first", gate, "second")))

    with open_stream(server.port, "POST", "/chat") as stream:
        first = stream.next_of("text.delta")
        gate.open()
        rest = stream.rest()

    assert '"delta":"first"' in first.data
    assert [event.event for event in rest] == ["text.delta", "run.completed"]


def test_the_stream_has_the_headers_that_proxies_and_browsers_need_and_no_others(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("x")))

    reply = fetch(server.port, "POST", "/chat")

    run_id = reply.head["location"].split("/")[2]
    by_the_server = {"date", "server", "transfer-encoding"}
    assert {name: value for name, value in reply.head.headers if name not in by_the_server} == {
        "content-type": "text/event-stream",
        "cache-control": "no-store, no-transform",
        "x-accel-buffering": "no",
        "x-content-type-options": "nosniff",
        "access-control-expose-headers": "location",
        "location": f"/runs/{run_id}/events",
    }
    assert reply.head["transfer-encoding"] == "chunked"
    assert f'"run_id":"{run_id}"' in events_of(reply.body)[0].data


def test_headers_that_the_application_sets_are_added_and_cannot_break_the_stream(serve: Serve) -> None:
    tail = Tailrace()
    app = Starlette(routes=[Route("/chat", _with_headers(tail), methods=["POST"])])
    tail.install(app, "/runs")
    server = serve(app)

    reply = fetch(server.port, "POST", "/chat")

    assert reply.head.all("set-cookie") == ["a=1; Path=/; SameSite=lax", "b=2; Path=/; SameSite=lax"]
    assert reply.head["x-trace"] == "7"
    assert reply.head["cache-control"] == "no-store, no-transform"
    assert len(frames_of(reply.body)) == 3


def _with_headers(tail: Tailrace) -> Callable[[Request], Response]:
    def make() -> Response:
        response = tail.stream(Script("x"))
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        response.headers["x-trace"] = "7"
        response.headers["cache-control"] = "public"
        return response

    return answering(make)


def test_two_requests_without_a_key_never_share_a_run(serve: Serve) -> None:
    source = Script("x")
    server = serve(chat_app(Tailrace(), source))

    locations = {fetch(server.port, "POST", "/chat").head["location"] for _ in range(3)}

    assert len(locations) == 3
    assert source.opened == 3


# Location ------------------------------------------------------------------------------------------------------------


def _starts_at(tail: Tailrace) -> Callable[[Request], Response]:
    return answering(lambda: tail.stream(Script("x")))


def test_location_leads_to_the_log_in_the_dialect_of_the_response(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("x"), dialect="tokens"))

    started = fetch(server.port, "POST", "/chat")

    assert started.head["location"].endswith("/events?dialect=tokens")
    assert fetch(server.port, "GET", started.head["location"]).body == started.body


@pytest.mark.parametrize("given_to", ["server", "application"])
def test_location_begins_with_the_root_path_that_a_proxy_has_cut_off(serve: Serve, given_to: str) -> None:
    tail = Tailrace()
    app = chat_app(tail, Script("x"))
    if given_to == "application":
        app.root_path = "/api"
    server = serve(app, root_path="/api" if given_to == "server" else "")

    started = fetch(server.port, "POST", "/chat")

    location = started.head["location"]
    assert location.startswith("/api/runs/")
    assert fetch(server.port, "GET", location.removeprefix("/api")).body == started.body


def test_location_begins_with_the_path_where_the_application_is_mounted(serve: Serve) -> None:
    tail = Tailrace()
    inner = chat_app(tail, Script("x"))
    server = serve(FastAPI(routes=[Mount("/v1", inner)], lifespan=tail.lifespan))

    started = fetch(server.port, "POST", "/v1/chat")

    assert started.head["location"].startswith("/v1/runs/")
    assert fetch(server.port, "GET", started.head["location"]).body == started.body


def test_location_is_right_where_the_run_routes_belong_to_the_application_around_the_mounted_one(serve: Serve) -> None:
    tail = Tailrace()
    inner = Starlette(routes=[Route("/chat", _starts_at(tail), methods=["POST"])])
    outer = FastAPI(routes=[Mount("/v1", inner)])
    tail.install(outer, "/runs")
    server = serve(outer)

    started = fetch(server.port, "POST", "/v1/chat")

    assert started.head["location"].startswith("/runs/")
    assert fetch(server.port, "GET", started.head["location"]).body == started.body


@pytest.mark.parametrize("kind", [FastAPI, Starlette])
def test_a_slash_at_the_end_makes_no_difference(serve: Serve, kind: type[Starlette]) -> None:
    tail = Tailrace()
    app = kind(routes=[Route("/chat", _starts_at(tail), methods=["POST"])])
    tail.install(app, "/runs/")
    server = serve(app)

    started = fetch(server.port, "POST", "/chat")

    location = started.head["location"]
    assert location.startswith("/runs/")
    assert location.endswith("/events")
    assert fetch(server.port, "GET", location).body == started.body
    assert fetch(server.port, "GET", f"{location}/").body == started.body


def test_without_installed_routes_there_is_no_location_and_the_stream_is_whole(serve: Serve) -> None:
    tail = Tailrace()
    server = serve(Starlette(routes=[Route("/chat", _starts_at(tail), methods=["POST"])], lifespan=tail.lifespan))

    started = fetch(server.port, "POST", "/chat")

    assert "location" not in started.head.names
    assert started.body.endswith(b": end\n")


# HEAD ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FastAPI, Starlette])
def test_head_of_a_log_has_the_headers_of_the_stream_and_no_body(serve: Serve, kind: type[Starlette]) -> None:
    tail = Tailrace()
    app = kind(routes=[Route("/chat", _starts_at(tail), methods=["POST"])])
    tail.install(app, "/runs")
    server = serve(app)
    location = fetch(server.port, "POST", "/chat").head["location"]

    found, missing = fetch(server.port, "HEAD", location), fetch(server.port, "HEAD", f"/runs/{'x' * 26}/events")

    assert (found.status, found.head["content-type"], found.body) == (200, "text/event-stream", b"")
    assert missing.status == 404


def test_head_of_a_route_that_starts_runs_starts_none(serve: Serve) -> None:
    tail = Tailrace()
    source, opened = Script("x"), OpenedStream()
    app = Starlette(
        routes=[
            Route("/chat", answering(lambda: tail.stream(source))),
            Route("/opened", answering(lambda: tail.stream(opened))),
        ]
    )
    tail.install(app, "/runs")
    server = serve(app)

    replies = [fetch(server.port, "HEAD", path) for path in ("/chat", "/opened")]

    assert [(reply.status, reply.head["content-type"]) for reply in replies] == [(200, "text/event-stream")] * 2
    assert source.opened == 0
    assert opened.closed == 1
    assert server.evaluate(lambda: tail.live_count) == 0


def test_the_openapi_document_has_each_run_route_once() -> None:
    paths = chat_app(Tailrace(), Script("x")).openapi()["paths"]

    assert {path: list(methods) for path, methods in paths.items() if path != "/chat"} == {
        "/runs": ["get"],
        "/runs/feed": ["get"],
        "/runs/{run_id}": ["get"],
        "/runs/{run_id}/events": ["get"],
        "/runs/{run_id}/log": ["get"],
        "/runs/{run_id}/cancel": ["post"],
        "/runs/{run_id}/ticket": ["post"],
    }


# Heartbeats ----------------------------------------------------------------------------------------------------------


def test_a_silent_stream_gets_a_comment_of_one_line_now_and_then(serve: Serve) -> None:
    gate = Gate()
    server = serve(chat_app(Tailrace(heartbeat_seconds=0.1), Script("x", gate, "y")))

    with open_stream(server.port, "POST", "/chat") as stream:
        while stream.comments.count("hb") < 3:
            stream.read_more()
        silence = stream.raw.partition(b'"delta":"x"')[2].partition(b"\n\n")[2]
        gate.open()
        rest = stream.rest()

    assert silence.replace(b": hb\n", b"") == b""
    assert [event.event for event in rest[-2:]] == ["text.delta", "run.completed"]


def test_a_heartbeat_stands_only_where_nothing_was_sent_for_a_while(serve: Serve) -> None:
    heartbeat_seconds = 0.4
    server = serve(chat_app(Tailrace(heartbeat_seconds=heartbeat_seconds), Script(*["word "] * 100, pace_seconds=0.01)))

    body = fetch(server.port, "POST", "/chat").body

    for piece in body.split(b": hb\n")[1:]:
        before = entry_of(events_of(body[: body.index(piece)])[-1])
        after = entry_of(events_of(piece)[0])
        assert after.at_ms - before.at_ms >= heartbeat_seconds * 1000 / 2


# One document --------------------------------------------------------------------------------------------------------

JSON = {"accept": "application/json"}


def test_a_client_that_prefers_json_gets_the_whole_run_as_one_document(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("Hello ", "there")))

    reply = fetch(server.port, "POST", "/chat", JSON)

    document = reply.json()
    assert reply.status == 200
    assert reply.head["content-type"] == "application/json"
    assert reply.head["cache-control"] == "no-store"
    assert reply.head["location"] == f"/runs/{document['run_id']}/events"
    assert (document["status"], document["text"], document["seq"]) == ("completed", "Hello there", 4)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/event-stream"),
        ("*/*", "text/event-stream"),
        ("text/event-stream", "text/event-stream"),
        ("application/json, text/event-stream", "text/event-stream"),
        ("application/json;q=0.5, text/event-stream;q=0.9", "text/event-stream"),
        ("application/json, text/event-stream;q=0.9", "application/json"),
        ("application/json, */*;q=0.1", "application/json"),
    ],
)
def test_a_document_is_the_answer_only_if_json_outranks_a_stream(
    serve: Serve, accept: str | None, content_type: str
) -> None:
    server = serve(chat_app(Tailrace(), Script("x")))

    reply = fetch(server.port, "POST", "/chat", {"accept": accept} if accept else {})

    assert reply.head["content-type"] == content_type


def test_json_unless_sse_gives_a_document_to_whoever_does_not_name_event_streams(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("x"), json="unless-sse"))

    plain = fetch(server.port, "POST", "/chat")
    named = fetch(server.port, "POST", "/chat", {"accept": "text/event-stream"})

    assert plain.head["content-type"] == "application/json"
    assert named.head["content-type"] == "text/event-stream"


def test_json_never_gives_a_stream_to_everybody(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("x"), json="never"))

    reply = fetch(server.port, "POST", "/chat", JSON)

    assert reply.head["content-type"] == "text/event-stream"


def test_a_failed_run_as_a_document_keeps_the_text_and_tells_nothing_of_the_exception(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("half of it", RuntimeError("a secret"))))

    reply = fetch(server.port, "POST", "/chat", JSON)

    document = reply.json()
    assert reply.status == 502
    assert (document["status"], document["text"]) == ("failed", "half of it")
    assert b"secret" not in reply.body


def test_a_run_that_takes_too_long_is_504_and_one_that_grows_too_large_429(serve: Serve) -> None:
    slow = serve(chat_app(Tailrace(), Script("x", Gate()), timeout=0.1))
    large = serve(chat_app(Tailrace(max_events=3), Script("a", "b", "c", "d")))

    too_slow, too_large = fetch(slow.port, "POST", "/chat", JSON), fetch(large.port, "POST", "/chat", JSON)

    assert (too_slow.status, too_slow.json()["text"]) == (504, "x")
    assert (too_large.status, too_large.json()["text"]) == (429, "ab")


def test_a_cancelled_run_is_a_document_like_any_other(serve: Serve) -> None:
    gate = Gate()
    server = serve(chat_app(Tailrace(), Script("x", gate), dialect="tokens"))

    with Connection(server.port) as waiting:
        waiting.send("POST", "/chat", {**JSON, "idempotency-key": "one long and random key"})
        gate.await_arrival()
        with open_stream(server.port, "POST", "/chat", {"idempotency-key": "one long and random key"}) as stream:
            run_url = stream.head["location"].removesuffix("/events?dialect=tokens")
        fetch(server.port, "POST", f"{run_url}/cancel")
        reply = waiting.reply()

    assert reply.status == 200
    assert reply.json()["status"] == "cancelled"
    assert reply.json()["response"] == "x"


def test_a_document_has_the_headers_that_the_application_sets(serve: Serve) -> None:
    tail = Tailrace()
    app = Starlette(routes=[Route("/chat", _with_headers(tail), methods=["POST"])])
    tail.install(app, "/runs")
    server = serve(app)

    reply = fetch(server.port, "POST", "/chat", JSON)

    assert reply.head["x-trace"] == "7"
    assert reply.head.all("set-cookie") == ["a=1; Path=/; SameSite=lax", "b=2; Path=/; SameSite=lax"]
    assert reply.head["content-type"] == "application/json"


def test_a_document_that_takes_too_long_for_a_proxy_is_202_and_a_place_to_look(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.web.reader._JSON_WAIT_SECONDS", 0.1)
    gate = Gate()
    server = serve(chat_app(Tailrace(), Script("a", gate, "b")))

    postponed = fetch(server.port, "POST", "/chat", JSON)
    gate.open()
    log = fetch(server.port, "GET", postponed.head["location"])

    assert (postponed.status, postponed.json()["events_url"]) == (202, postponed.head["location"])
    assert int(postponed.head["retry-after"]) >= 1
    assert events_of(log.body)[-1].event == "run.completed"


def test_who_prefers_not_to_wait_is_told_where_the_run_is(serve: Serve) -> None:
    gate = Gate()
    server = serve(chat_app(Tailrace(), Script("a", gate, "b"), dialect="tokens"))

    reply = fetch(server.port, "POST", "/chat", {"prefer": "wait=5, respond-async"})
    gate.open()
    log = fetch(server.port, "GET", str(reply.json()["events_url"]))

    assert (reply.status, reply.head["preference-applied"]) == (202, "respond-async")
    assert reply.head["location"] == f"/runs/{reply.json()['run_id']}/events?dialect=tokens"
    assert events_of(log.body)[-1].event == "run.completed"


# Refusals ------------------------------------------------------------------------------------------------------------


def test_a_refusal_that_a_handler_lets_pass_has_its_status(serve: Serve) -> None:
    tail = Tailrace()

    async def attach(_: Request) -> Response:
        await tail.attach("unknown")
        raise AssertionError

    app = Starlette(routes=[Route("/attach", attach)])
    tail.install(app, "/runs")
    server = serve(app)

    reply = fetch(server.port, "GET", "/attach")

    assert (reply.status, reply.error_code) == (404, "run_not_found")


def test_a_dialect_that_cannot_be_spoken_so_starts_nothing(serve: Serve) -> None:
    tail = Tailrace()
    source = OpenedStream()

    async def chat(_: Request) -> Response:
        return tail.stream(source, dialect="ai-sdk", dialect_options={"sdk_version": 4})

    server = serve(Starlette(routes=[Route("/chat", chat, methods=["POST"])]))

    reply = fetch(server.port, "POST", "/chat")

    assert (reply.status, reply.error_code) == (400, "option_invalid")
    assert server.evaluate(lambda: tail.live_count) == 0
    assert source.closed


def test_a_server_that_drains_refuses_to_start_and_goes_on_serving_what_it_has(serve: Serve) -> None:
    tail = Tailrace()
    source = Script("x")
    server = serve(chat_app(tail, source))
    key = {"idempotency-key": "one long and random key"}
    before = fetch(server.port, "POST", "/chat", key)

    server.call(tail.drain(0.1))
    refused, repeated = fetch(server.port, "POST", "/chat"), fetch(server.port, "POST", "/chat", key)

    assert (refused.status, refused.error_code) == (503, "draining")
    assert int(refused.head["retry-after"]) >= 1
    assert repeated.body == before.body
    assert source.opened == 1


def test_a_source_that_yields_what_is_no_event_ends_its_run_with_a_message_that_names_the_type(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("x", 42)))

    events = events_of(fetch(server.port, "POST", "/chat").body)

    assert events[-1].event == "run.failed"
    assert "int" in events[-1].data
