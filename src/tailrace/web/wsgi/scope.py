"""A WSGI environ as an ASGI scope. Sources: PEP 3333; the ASGI specification 3.0, "HTTP Connection Scope"."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from starlette.types import Scope

from tailrace.web.writer import ABORT_EXTENSION

__all__ = ["connection_cut", "scope_of"]

#: Under these names gunicorn and werkzeug hand the connection to the application.
_SOCKETS = ("gunicorn.socket", "werkzeug.socket")
#: Headers that PEP 3333 names otherwise.
_UNPREFIXED = ("CONTENT_TYPE", "CONTENT_LENGTH")


def scope_of(environ: Mapping[str, Any], abort: Callable[[], None], extra: Mapping[str, object]) -> Scope:
    """The scope of one request.

    Args:
        environ: As the server gave it.
        abort: Ends the response as broken.
        extra: What else is in the scope.
    """
    root_path = _text(environ.get("SCRIPT_NAME", "")).rstrip("/")
    return {
        "type": "http",
        # From 2.4 on, an application may expect `send` to raise after a disconnect, of which nothing is known here.
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": environ.get("SERVER_PROTOCOL", "HTTP/1.1").removeprefix("HTTP/"),
        "method": environ["REQUEST_METHOD"],
        "scheme": environ["wsgi.url_scheme"],
        "path": root_path + _text(environ.get("PATH_INFO", "")),
        "query_string": environ.get("QUERY_STRING", "").encode("latin-1"),
        "root_path": root_path,
        "headers": list(_headers(environ)),
        "client": (environ.get("REMOTE_ADDR", ""), _port(environ.get("REMOTE_PORT", ""))),
        "server": (environ["SERVER_NAME"], _port(environ["SERVER_PORT"])),
        "state": {},
        "extensions": {ABORT_EXTENSION: abort},
        **extra,
    }


def connection_cut(environ: Mapping[str, Any]) -> Callable[[], None]:
    """A function that shuts the connection down, so that a thread that is stuck writing to it goes on.

    It does nothing where the server does not hand out the connection.
    """
    connection: Any = next((environ[name] for name in _SOCKETS if name in environ), None)

    def cut() -> None:
        if connection is None:
            return
        try:
            # A descriptor of its own: gevent's sockets belong to another thread, and the server may close it now.
            with socket.socket(fileno=os.dup(connection.fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    return cut


def _headers(environ: Mapping[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    for name, value in environ.items():
        if name.startswith("HTTP_") or (name in _UNPREFIXED and value):
            key = name.removeprefix("HTTP_").replace("_", "-").lower()
            yield key.encode("latin-1"), value.encode("latin-1")


def _port(value: str | int) -> int:
    """The number, which werkzeug has as one; 0 for a socket without."""
    return int(value) if str(value).isdecimal() else 0


def _text(value: str) -> str:
    """PEP 3333 writes each byte as one character."""
    return value.encode("latin-1").decode("utf-8", "replace")
