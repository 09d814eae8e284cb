"""Headers of streams: those that every proxy and browser must see, and the ones a client sends to come back."""

from collections.abc import Iterable, Mapping

from starlette.requests import Request

from tailrace.wire.cursor import Cursor

__all__ = ["CLIENT_HEADER", "RawHeaders", "read_cursor", "stream_headers", "with_chosen"]

RawHeaders = list[tuple[bytes, bytes]]

#: A client that resumes by itself says so with this header, whatever dialect it reads.
CLIENT_HEADER = "tailrace-client"

_STREAM_HEADERS = {
    b"content-type": b"text/event-stream",
    b"cache-control": b"no-store, no-transform",
    # nginx buffers a stream whole without it.
    b"x-accel-buffering": b"no",
    b"x-content-type-options": b"nosniff",
    b"access-control-expose-headers": b"location",
}


#: How the bytes travel is the server's business; on HTTP/2 most of these are an error.
_CONNECTION_HEADERS = frozenset({b"connection", b"content-length", b"keep-alive", b"transfer-encoding"})


def stream_headers(extra: Mapping[str, str], chosen: Iterable[tuple[bytes, bytes]] = ()) -> RawHeaders:
    """The headers of a stream: ours, then a dialect's or a run's, then what the application set on the response.

    The application may add headers, also several of one name such as cookies, but not change what a stream needs.
    """
    headers = {**_STREAM_HEADERS, **{name.lower().encode(): value.encode("latin-1") for name, value in extra.items()}}
    return with_chosen(list(headers.items()), chosen)


def with_chosen(headers: RawHeaders, chosen: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """The headers and what the application adds to them; it may not change them."""
    ours = {name for name, _ in headers} | _CONNECTION_HEADERS
    return [*headers, *((name, value) for name, value in chosen if name.lower() not in ours)]


def read_cursor(request: Request) -> Cursor | None:
    """Where the client says it stands: its `Last-Event-ID`, else `?after=`; `None` if it says nothing.

    The header wins: a browser that reconnects repeats the URL of its first request.

    Raises:
        CursorInvalidError: It says something that is no cursor.
    """
    text = request.headers.get("last-event-id") or request.query_params.get("after")
    return Cursor.parse(text) if text else None
