"""A stream has the headers it needs, whatever the application adds, and a cursor is found wherever it stands."""

from typing import Any

import pytest
from starlette.requests import Request

from tailrace.errors import CursorInvalidError
from tailrace.web.headers import read_cursor, stream_headers, with_chosen
from tailrace.wire.cursor import Cursor

NEEDED = {
    b"content-type": b"text/event-stream",
    b"cache-control": b"no-store, no-transform",
    b"x-accel-buffering": b"no",
    b"x-content-type-options": b"nosniff",
    b"access-control-expose-headers": b"location",
}


def request(query: str = "", **headers: str) -> Request:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()],
    }
    return Request(scope)


# Written


def test_a_stream_has_what_proxies_and_browsers_must_see() -> None:
    headers = stream_headers({})

    assert dict(headers) == NEEDED
    assert len(headers) == len(NEEDED)


def test_a_run_says_where_it_is_and_a_dialect_what_it_is() -> None:
    headers = stream_headers({"Location": "/runs/r/events", "X-Protocol": "v1"})

    assert dict(headers) == {**NEEDED, b"location": b"/runs/r/events", b"x-protocol": b"v1"}


def test_the_application_may_add_headers_and_several_cookies() -> None:
    chosen = [(b"x-request-id", b"7"), (b"set-cookie", b"a=1; HttpOnly"), (b"Set-Cookie", b"b=2")]

    assert stream_headers({}, chosen) == [*NEEDED.items(), *chosen]


@pytest.mark.parametrize("name", [*NEEDED, b"Content-Type", b"CACHE-CONTROL", b"X-Accel-Buffering", b"Location"])
def test_the_application_may_not_change_what_a_stream_needs(name: bytes) -> None:
    extra = {"location": "/runs/r/events"}

    assert stream_headers(extra, [(name, b"mine")]) == stream_headers(extra)


@pytest.mark.parametrize(
    "header",
    [
        (b"connection", b"keep-alive"),
        (b"Connection", b"close"),
        (b"keep-alive", b"timeout=5"),
        (b"transfer-encoding", b"chunked"),
        (b"content-length", b"0"),
    ],
)
def test_what_is_the_servers_business_is_left_to_the_server(header: tuple[bytes, bytes]) -> None:
    assert stream_headers({}, [header]) == [*NEEDED.items()]


def test_what_is_added_to_a_document_changes_nothing_of_it() -> None:
    ours = [(b"content-type", b"application/json"), (b"content-length", b"2")]

    assert with_chosen(ours, [(b"Content-Length", b"0"), (b"set-cookie", b"a=1")]) == [*ours, (b"set-cookie", b"a=1")]


# Read


@pytest.mark.parametrize(
    ("asked", "cursor"),
    [
        (request(), None),
        (request(last_event_id="7"), Cursor(7)),
        (request(last_event_id="run:7.2"), Cursor(7, 2, "run")),
        (request("after=7"), Cursor(7)),
        (request("after=run%3A7"), Cursor(7, run_id="run")),
        (request("after=0"), Cursor(0)),
        (request("before=7"), None),
        (request("after=7", last_event_id="9"), Cursor(9)),
        (request("after=7", last_event_id=""), Cursor(7)),
        (request("after="), None),
    ],
)
def test_the_place_is_in_the_header_or_else_in_the_url(asked: Request, cursor: Cursor | None) -> None:
    assert read_cursor(asked) == cursor


@pytest.mark.parametrize(
    "asked",
    [
        request(last_event_id="undefined"),
        request(last_event_id="\xb2"),
        request("after=-1"),
        request("after=7%0a"),
        request("after=7", last_event_id="x"),
    ],
)
def test_a_place_that_is_none_is_an_error(asked: Request) -> None:
    with pytest.raises(CursorInvalidError):
        read_cursor(asked)
