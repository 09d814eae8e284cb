"""What an application wants to be asked, made into requests: its headers and ours, its body or none."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from tailrace.client.commands import Attempt, Send

__all__ = ["Headers", "HeadersFunction", "RequestTemplate"]

_Given: TypeAlias = Mapping[str, str]
HeadersFunction: TypeAlias = Callable[[Attempt], _Given | Awaitable[_Given]]

#: Headers, or a function that makes them for each request, so that a token may be fresh.
Headers: TypeAlias = _Given | HeadersFunction

#: What belongs to a body, and to the one request that is meant by it.
_BODY_HEADERS = frozenset(
    {"content-type", "content-length", "content-encoding", "transfer-encoding", "idempotency-key"}
)
#: What another origin may be told of all that an application gave.
_HARMLESS = _BODY_HEADERS | {"accept-encoding"}


class RequestTemplate:
    """What one stream asks, again and again.

    Attributes:
        method: Of the first request.
        content: Its body.
    """

    def __init__(
        self,
        method: str,
        *,
        json: object = None,
        content: bytes | str | None = None,
        headers: Headers | None = None,
        extra: _Given | None = None,
        is_repeatable: bool = False,
    ) -> None:
        """Take what an application gave.

        Args:
            method: Of the first request.
            json: Its body, as anything msgspec writes.
            content: Or the body itself.
            headers: Of the application.
            extra: Headers that the application may replace.
            is_repeatable: Whether doing it twice is as good as once.

        Raises:
            TypeError: `json` and `content` are both given, or `content` is neither bytes nor text, and could not be
                sent again.
            ValueError: A GET has a body.
        """
        if json is not None and content is not None:
            raise TypeError("give json or content, not both")
        # Without types to tell, somebody may give an iterator.
        if content is not None and not isinstance(content, bytes | str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"content must be bytes or str, as it may have to be sent again, not {_name(content)}")
        self.method = method.upper()
        self.content = content.encode() if isinstance(content, str) else content
        if json is not None:
            self.content = msgspec.json.encode(json)
        if self.content is not None and self.method == "GET":
            raise ValueError('a GET has no body: say method="POST"')
        self._type = {"content-type": "application/json"} if json is not None else {}
        self._extra = extra or {}
        self._is_repeatable = is_repeatable
        self._headers = headers
        self._last: _Given = headers if isinstance(headers, Mapping) else {}

    @property
    def asks_headers(self) -> bool:
        """Whether headers are made for each request."""
        return callable(self._headers)

    def asked(self, send: Send) -> _Given | Awaitable[_Given] | None:
        """What the function for headers returns; `None` if there is nothing to ask it."""
        if send.is_redirected or not callable(self._headers):
            return None
        return self._headers(send.attempt)

    def request(self, send: Send, given: _Given | None) -> dict[str, Any]:
        """What `build_request` of a client takes, but for timeouts; `given` is what `asked` came to.

        Raises:
            TypeError: `given` are no headers.
        """
        if given is not None:
            if not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"the function for headers must return a mapping, not {_name(given)}")
            self._last = given
        theirs = {name.lower(): value.encode() for name, value in {**self._extra, **self._type, **self._last}.items()}
        headers = {**send.headers, **theirs}
        if (cursor := send.headers.get("last-event-id")) is not None:
            headers["last-event-id"] = cursor
        if send.method != self.method:
            headers = {name: value for name, value in headers.items() if name not in _BODY_HEADERS}
        if not send.with_credentials:
            # Any other header may be a key, by whatever name.
            headers = {name: value for name, value in headers.items() if name in send.headers or name in _HARMLESS}
        return {
            "method": send.method,
            "url": send.url,
            "content": self.content if send.with_body else None,
            "headers": [(name.encode(), value) for name, value in headers.items()],
        }

    @property
    def is_repeatable(self) -> bool:
        """Whether the request that was made last may be made again: it names a key, or doing it twice does no harm."""
        return self._is_repeatable or any(name.lower() == "idempotency-key" for name in (*self._extra, *self._last))


def _name(value: object) -> str:
    return type(value).__name__
