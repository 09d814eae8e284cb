"""What went wrong at a provider, as `run.failed`: told by the shape of the error, without the provider's words.

These go to the log of the server, under the correlation id of the event.
"""

import contextlib
import json
import logging
import math
import secrets
from typing import Any

from tailrace.adapters.fields import field, text_in
from tailrace.events import RunFailed

__all__ = ["code_of", "failure_of", "reported", "truncated"]

_logger = logging.getLogger("tailrace")

_MESSAGES = {
    "provider_auth": "The model refused access.",
    "provider_bad_request": "The model refused the request.",
    "provider_error": "The model failed.",
    "provider_rate_limited": "The model is busy. Try again in a moment.",
    "provider_timeout": "The model took too long.",
    "provider_truncated": "The answer ended before it was complete.",
    "provider_unavailable": "The model cannot be reached. Try again in a moment.",
}
_RETRYABLE = frozenset({"provider_rate_limited", "provider_timeout", "provider_truncated", "provider_unavailable"})

_ANY_ERROR = "provider_error"
_BY_STATUS = {
    400: "provider_bad_request",
    401: "provider_auth",
    403: "provider_auth",
    404: "provider_bad_request",
    408: "provider_timeout",
    413: "provider_bad_request",
    422: "provider_bad_request",
    429: "provider_rate_limited",
    529: "provider_rate_limited",
}
_SERVER_ERRORS = range(500, 600)

#: What providers call an error inside a stream that began with 200, as `type` or as `code`.
_BY_KIND = {
    "api_error": "provider_unavailable",
    "authentication_error": "provider_auth",
    "insufficient_quota": "provider_rate_limited",
    "internal_server_error": "provider_unavailable",
    "invalid_request_error": "provider_bad_request",
    "not_found_error": "provider_bad_request",
    "overloaded_error": "provider_rate_limited",
    "permission_error": "provider_auth",
    "rate_limit_error": "provider_rate_limited",
    "rate_limit_exceeded": "provider_rate_limited",
    "request_too_large": "provider_bad_request",
    "server_error": "provider_unavailable",
    "timeout_error": "provider_timeout",
}

#: Whose exceptions are a provider's doing, and what their classes without a status mean; the most special one counts.
_SDKS = frozenset({"anthropic", "groq", "httpcore", "httpcore2", "httpx", "httpx2", "litellm", "ollama", "openai"})
_BY_CLASS = {
    "APITimeoutError": "provider_timeout",
    "TimeoutException": "provider_timeout",
    "APIConnectionError": "provider_unavailable",
    "NetworkError": "provider_unavailable",
    "ProtocolError": "provider_unavailable",
    "TransportError": "provider_unavailable",
}
_BUILTIN: tuple[tuple[type[Exception], str], ...] = (
    (TimeoutError, "provider_timeout"),
    (ConnectionError, "provider_unavailable"),
    (json.JSONDecodeError, _ANY_ERROR),
)

#: Longer than this nobody waits.
_MAX_RETRY_AFTER_SECONDS = 86_400


def code_of(error: Exception) -> str | None:
    """The code for what a provider's stream raised; `None` if that was not the provider's doing."""
    classes = [cls.__name__ for cls in type(error).__mro__ if cls.__module__.partition(".")[0] in _SDKS]
    if not classes and field(error, "response", "status_code") is None:
        return next((code for cls, code in _BUILTIN if isinstance(error, cls)), None)
    return _told_code(error) or next((_BY_CLASS[name] for name in classes if name in _BY_CLASS), _ANY_ERROR)


def failure_of(error: Exception) -> RunFailed:
    """How a run ends whose provider's stream raised this; the error is logged.

    `details` holds `retry_after_seconds` if the provider named it.
    """
    correlation_id = _correlation_id()
    _logger.error("a provider's stream failed (correlation id %s)", correlation_id, exc_info=error)
    seconds = _retry_after_seconds(error)
    details = None if seconds is None else {"retry_after_seconds": seconds}
    return _failed(code_of(error) or _ANY_ERROR, correlation_id, details)


def reported(error: object) -> RunFailed:
    """How a run ends whose provider sent this error, an object or text, as a part of its stream; it is logged."""
    correlation_id = _correlation_id()
    told = text_in(error, "message") or str(error)
    _logger.error("a provider reported %.1000r (correlation id %s)", told, correlation_id)
    return _failed(_told_code(error) or _ANY_ERROR, correlation_id)


def truncated() -> RunFailed:
    """How a run ends whose provider's stream just ended, without the signal that it is complete."""
    correlation_id = _correlation_id()
    _logger.error("a provider's stream ended without its terminal signal (correlation id %s)", correlation_id)
    return _failed("provider_truncated", correlation_id)


def _failed(code: str, correlation_id: str, details: dict[str, Any] | None = None) -> RunFailed:
    return RunFailed(
        code=code,
        message=_MESSAGES[code],
        retryable=code in _RETRYABLE or None,
        correlation_id=correlation_id,
        details=details,
    )


def _told_code(error: object) -> str | None:
    """What the error itself says, by its status or else by its kind; a stream that failed later began with 200."""
    status = _status(error)
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status in _SERVER_ERRORS:
        return "provider_unavailable"
    # Some SDKs leave what was sent in the body.
    for told in (error, field(error, "body"), field(error, "body", "error")):
        for name in ("type", "code"):
            if (code := _BY_KIND.get(text_in(told, name))) is not None:
                return code
    return None


def _status(error: object) -> int:
    """The HTTP status, 0 if there is none. Proxies of several providers report it as the code."""
    for path in (("status_code",), ("response", "status_code"), ("code",)):
        found = field(error, *path)
        if isinstance(found, int) or (isinstance(found, str) and found.isdecimal() and len(found) == 3):
            return int(found)
    return 0


def _retry_after_seconds(error: Exception) -> float | None:
    headers = field(error, "response", "headers")
    with contextlib.suppress(TypeError, ValueError, AttributeError):
        seconds = float(headers.get("retry-after"))
        if math.isfinite(seconds) and 0 <= seconds <= _MAX_RETRY_AFTER_SECONDS:
            return seconds
    return None


def _correlation_id() -> str:
    return secrets.token_hex(6)
