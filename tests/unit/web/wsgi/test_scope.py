"""WSGI's words for a request in ASGI's."""

import socket
from typing import Any

import pytest

from tailrace.web.writer import ABORT_EXTENSION
from tailrace.web.wsgi.scope import connection_cut, scope_of

ENVIRON: dict[str, Any] = {
    "REQUEST_METHOD": "POST",
    "SCRIPT_NAME": "/mounted",
    "PATH_INFO": "/caf\u00c3\u00a9",
    "QUERY_STRING": "a=%C3%A9",
    "SERVER_NAME": "example.test",
    "SERVER_PORT": "8000",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "10.0.0.1",
    "CONTENT_TYPE": "application/json",
    "CONTENT_LENGTH": "",
    "HTTP_LAST_EVENT_ID": "7",
    "HTTP_COOKIE": "a=1",
    "wsgi.url_scheme": "https",
}


def abort() -> None:
    pass


def test_a_request_is_the_same_one() -> None:
    scope = scope_of(ENVIRON, abort, {"app": "mine"})

    assert (scope["method"], scope["scheme"], scope["http_version"]) == ("POST", "https", "1.1")
    assert (scope["path"], scope["root_path"], scope["query_string"]) == ("/mounted/café", "/mounted", b"a=%C3%A9")
    assert scope["server"] == ("example.test", 8000)
    assert scope["client"] == ("10.0.0.1", 0)
    assert sorted(scope["headers"]) == [
        (b"content-type", b"application/json"),
        (b"cookie", b"a=1"),
        (b"last-event-id", b"7"),
    ]
    assert scope["extensions"][ABORT_EXTENSION] is abort
    assert scope["app"] == "mine"


@pytest.mark.parametrize(("value", "port"), [("", 0), ("80", 80), (8080, 8080)])
def test_a_port_is_a_number_or_missing(value: str | int, port: int) -> None:
    scope = scope_of({**ENVIRON, "SERVER_PORT": value, "REMOTE_PORT": value}, abort, {})

    assert (scope["server"], scope["client"]) == (("example.test", port), ("10.0.0.1", port))


def test_a_connection_that_the_server_hands_out_can_be_cut() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection_cut({"gunicorn.socket": ours})()

        assert theirs.recv(1) == b""


def test_a_connection_that_is_closed_or_unknown_is_left_alone() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    ours.close()

    connection_cut({"werkzeug.socket": ours})()
    connection_cut({})()
