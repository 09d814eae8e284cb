"""What went wrong at a provider, as `run.failed`: told by the shape of the error, without the provider's words.

These go to the log of the server, under the correlation id of the event.
"""

import contextlib
import json
import logging
import math
import secrets
from traceback import walk_tb
from typing import Any, cast

from tailrace.adapters.fields import field, text_in
from tailrace.events import RunFailed

__all__ = ["code_of", "failure_of", "is_providers", "reported", "truncated"]

_logger = logging.getLogger("tailrace")

_MESSAGES = {
    "limit": "The answer reached a limit.",
    "provider_auth": "The model refused access.",
    "provider_bad_request": "The model refused the request.",
    "provider_error": "The model failed.",
    "provider_rate_limited": "The model is busy. Try again in a moment.",
    "provider_timeout": "The model took too long.",
    "provider_truncated": "The answer ended before it was complete.",
    "provider_unavailable": "The model cannot be reached. Try again in a moment.",
    "timeout": "The answer took too long.",
}
#: Which limit of an agent was reached, by a word that its error has.
_LIMITS = {
    "request_limit": "The answer reached its limit of requests to the model.",
    "tool_calls_limit": "The answer reached its limit of tool calls.",
    "tokens_limit": "The answer reached its limit of tokens.",
    "cost_limit": "The answer reached its limit of cost.",
    "Max turns": "The answer reached its limit of steps.",
    "Recursion limit": "The answer reached its limit of steps.",
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

#: Whose exceptions are a provider's doing: who talks to providers and to nobody else, who runs tools in between, and
#: what most of them talk with, as an application may too.
_SDKS = frozenset({"any_llm", "anthropic", "groq", "litellm", "ollama", "openai"})
_FRAMEWORKS = frozenset({"pydantic_ai"})
_TRANSPORTS = frozenset({"httpcore", "httpcore2", "httpx", "httpx2"})
#: Of frameworks whose other exceptions are the application's, or whose name anybody's package may have.
_MODULES = frozenset({"agents.exceptions", "langgraph.errors"})
#: What frameworks say to the developer, and how a run is stopped from within.
_NOT_PROVIDERS = frozenset({"RunCancelled", "UserError"})
#: What the classes mean that have no status; the most special one counts.
_BY_CLASS = {
    "RunTimedOut": "timeout",
    "UsageLimitExceeded": "limit",
    "ConcurrencyLimitExceeded": "limit",
    "MaxTurnsExceeded": "limit",
    "GraphRecursionError": "limit",
    "ModelTimeoutError": "provider_timeout",
    "ModelRequestTimeout": "provider_timeout",
    "ModelConnectionError": "provider_unavailable",
    "ModelOverloadedError": "provider_rate_limited",
    "ModelUnavailableError": "provider_unavailable",
    "ModelServerError": "provider_unavailable",
    "ModelRateLimitError": "provider_rate_limited",
    "ModelQuotaExceededError": "provider_rate_limited",
    "ModelAuthenticationError": "provider_auth",
    "ModelRequestRejectedError": "provider_bad_request",
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

#: How frameworks say that an answer came without its end, or did not come at all.
_CUT_OFF = (
    "Streamed response ended without",
    "Model did not produce a final response",
    "Chat Completions stream ended before",
    "No generation",
)
#: Frameworks that raise what providers report as an error like any, its text `kind: what happened`.
_PLAINLY_RAISING = ("langchain_core", "langchain_openai")

#: Longer than this nobody waits.
_MAX_RETRY_AFTER_SECONDS = 86_400


def code_of(error: Exception) -> str | None:
    """The code for what a provider's stream raised; `None` if that was not the provider's doing."""
    if isinstance(error, ExceptionGroup):
        # One model after the other was tried, and this was the last.
        return code_of(cast("ExceptionGroup[Exception]", error).exceptions[-1])
    classes = [cls.__name__ for cls in type(error).__mro__ if _is_known(cls.__module__)]
    if not classes and _field(error, "response", "status_code") is None:
        return next((code for cls, code in _BUILTIN if isinstance(error, cls)), None) or _plain_code(error)
    if found := _told_code(error) or next((_BY_CLASS[name] for name in classes if name in _BY_CLASS), None):
        return found
    if not _NOT_PROVIDERS.isdisjoint(classes):
        return None
    return "provider_truncated" if str(error).startswith(_CUT_OFF) else _ANY_ERROR


def _plain_code(error: Exception) -> str | None:
    """The code for an error like any, if it was raised where a framework reads a provider's stream."""
    if type(error) is not ValueError:
        return None
    raised_in = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__)]
    if not raised_in or _package(raised_in[-1]) not in _PLAINLY_RAISING:
        return None
    told = str(error)
    return "provider_truncated" if told.startswith(_CUT_OFF) else _BY_KIND.get(told.partition(":")[0])


def is_providers(error: BaseException) -> bool:
    """Whether what somebody's code raised, which may do more than ask a model, is a provider's doing.

    It is if its class is that of an SDK or a framework. A dropped connection or the like is if an SDK's code is where
    it comes from: some let through what their transport raises, which an application may use for something else.
    """
    if not isinstance(error, Exception) or code_of(error) is None:
        return False
    modules = {cls.__module__ for cls in type(error).__mro__}
    if any(_is_known(module) and _package(module) not in _TRANSPORTS for module in modules):
        return True
    frames = (frame for frame, _ in walk_tb(error.__traceback__))
    return any(_package(str(frame.f_globals.get("__name__"))) in _SDKS for frame in frames)


def failure_of(error: Exception, correlation_id: str | None = None) -> RunFailed:
    """How a run ends whose provider's stream raised this; the error is logged.

    `details` holds `retry_after_seconds` if the provider named it.
    """
    correlation_id = correlation_id or _correlation_id()
    seconds = _retry_after_seconds(error)
    details = None if seconds is None else {"retry_after_seconds": seconds}
    code = code_of(error) or _ANY_ERROR
    # Where it came from is worth knowing only of what nobody has a name for.
    _logger.error(
        "a provider's stream failed: %s, %s: %.1000s (correlation id %s)",
        code,
        type(error).__name__,
        error,
        correlation_id,
        exc_info=error if code == _ANY_ERROR else None,
    )
    reached = (sentence for word, sentence in _LIMITS.items() if word in str(error)) if code == "limit" else ()
    return _failed(code, correlation_id, details, message=next(iter(reached), None))


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


def _is_known(module: str) -> bool:
    return _package(module) in _SDKS | _FRAMEWORKS | _TRANSPORTS or module in _MODULES


def _failed(
    code: str, correlation_id: str, details: dict[str, Any] | None = None, *, message: str | None = None
) -> RunFailed:
    return RunFailed(
        code=code,
        message=message or _MESSAGES[code],
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
    for told in (error, _field(error, "body"), _field(error, "body", "error")):
        for name in ("type", "code"):
            if (code := _BY_KIND.get(text_in(told, name))) is not None:
                return code
    return None


def _status(error: object) -> int:
    """The HTTP status, 0 if there is none. Proxies of several providers report it as the code."""
    for path in (("status_code",), ("response", "status_code"), ("code",)):
        found = _field(error, *path)
        if isinstance(found, int) or (isinstance(found, str) and found.isdecimal() and len(found) == 3):
            return int(found)
    return 0


def _retry_after_seconds(error: Exception) -> float | None:
    told, headers = _field(error, "retry_after"), _field(error, "response", "headers")
    with contextlib.suppress(TypeError, ValueError, AttributeError):
        seconds = float(told if told is not None else headers.get("retry-after"))
        if math.isfinite(seconds) and 0 <= seconds <= _MAX_RETRY_AFTER_SECONDS:
            return seconds
    return None


def _field(error: object, *path: str) -> Any:  # noqa: ANN401  whatever the error holds
    """What is there; `None` also if an error cannot tell what it is asked."""
    with contextlib.suppress(Exception):
        return field(error, *path)
    return None


def _package(module: str) -> str:
    return module.partition(".")[0]


def _correlation_id() -> str:
    return secrets.token_hex(6)
