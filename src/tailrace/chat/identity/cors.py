"""Pages of other origins: what they may send, and what they may read of an answer, refusals too."""

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware

from tailrace.chat.identity.guard import Origins
from tailrace.web.headers import CLIENT_HEADER
from tailrace.wire.dialects.registry import DIALECTS

__all__ = ["ALLOWED_HEADERS", "EXPOSED_HEADERS", "add_cors"]

#: What clients send beside what every page may.
ALLOWED_HEADERS = (
    "authorization",
    "content-type",
    "idempotency-key",
    "if-none-match",
    "last-event-id",
    "prefer",
    CLIENT_HEADER,
)

#: What they need of an answer. The `stream-…` ones are those of the Durable Streams protocol.
EXPOSED_HEADERS = (
    "etag",
    "location",
    "preference-applied",
    "retry-after",
    "stream-closed",
    "stream-cursor",
    "stream-next-offset",
    "stream-up-to-date",
    "www-authenticate",
    *sorted({name.lower() for dialect in DIALECTS.values() for name in dialect.headers}),
)

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_PREFLIGHT_SECONDS = 600


def add_cors(app: Starlette, origins: Origins) -> None:
    """Let pages of these origins use the application; called before it has started.

    Answers of error handlers have the headers too, or a page could not tell 401 from a broken network.
    """
    if origins.allowed:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(origins.allowed),
            allow_methods=_METHODS,
            allow_headers=ALLOWED_HEADERS,
            allow_credentials=origins.credentials,
            expose_headers=EXPOSED_HEADERS,
            max_age=_PREFLIGHT_SECONDS,
        )
