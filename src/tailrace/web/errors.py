"""Errors as HTTP: the status of each, and a body that gives nothing away."""

import logging
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from starlette.responses import Response

from tailrace import errors
from tailrace.errors import TailraceError
from tailrace.events import RunFailed
from tailrace.fold import Reduced
from tailrace.wire.dialects.contract import Dialect

__all__ = [
    "EarlyFailureError",
    "RefusedError",
    "RequestInvalidError",
    "document_status",
    "error_response",
    "retry_after_seconds",
]

_logger = logging.getLogger("tailrace")

_STATUS: dict[type[TailraceError], int] = {
    errors.CursorInvalidError: 400,
    errors.DialectNotFoundError: 400,
    errors.KeyInvalidError: 400,
    errors.OptionInvalidError: 400,
    errors.RunNotFoundError: 404,
    errors.FingerprintError: 409,
    errors.BusyError: 503,
    errors.DrainingError: 503,
    errors.StoreUnavailableError: 503,
}
_RETRY_AFTER_SECONDS = 2

#: A failed run as one document: whose fault it is, as far as HTTP has a word for it.
_FAILURE_STATUS = {
    "timeout": 504,
    "provider_timeout": 504,
    "limit": 429,
    "provider_rate_limited": 429,
}
_ANY_FAILURE_STATUS = 502
#: A reason may quote what the client has sent, however long that was.
_REASON_CHARACTERS = 500


class EarlyFailureError(TailraceError):
    """A run failed before its first event; `failure` is how it would have ended, had it begun."""

    code: ClassVar[str] = "error"

    def __init__(self, failure: RunFailed) -> None:
        """Say what everybody may read of it, and the correlation id, which leads to the server's log."""
        self.failure = failure
        super().__init__(f"{failure.message.removesuffix('.')} (correlation id {failure.correlation_id}).")

    @property
    def status(self) -> int:
        """The status of the failure if it is another's; 500 if it is the application's own."""
        return 500 if self.failure.code == self.code else _failure_status(self.failure.code)

    @property
    def retry_after_seconds(self) -> float | None:
        """When a provider may be asked again, if it has said so."""
        return _seconds_in(self.failure.details)


class RefusedError(TailraceError):
    """A request is refused; raised by a handler, or by a source before its first event.

    Attributes:
        code: Stable slug for the client; each kind of refusal has a class of its own.
        status: The HTTP status that says it best.
        retry_after_seconds: When the same request may be served, if that is known.
        headers: What the status asks for beside it, such as `www-authenticate`.
    """

    code: ClassVar[str] = "refused"
    public: ClassVar[bool] = True

    def __init__(
        self,
        reason: str,
        *,
        status: int,
        retry_after_seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Say why, in words for the client."""
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.headers = headers or {}
        super().__init__(reason[:_REASON_CHARACTERS])


class RequestInvalidError(RefusedError):
    """A request cannot be served as it is."""

    code: ClassVar[str] = "invalid_request"

    def __init__(self, reason: str, *, status: int = 400) -> None:
        """Say what is wrong with it."""
        super().__init__(reason, status=status)


#: What says itself how it is answered.
_SPECIFIC = (EarlyFailureError, RefusedError)


def error_response(error: TailraceError, dialect: Dialect) -> Response:
    """What a client is told instead of a stream, in the shape that clients of the dialect know."""
    status = error.status if isinstance(error, _SPECIFIC) else _STATUS.get(type(error), 500)
    if status == 500 and not isinstance(error, EarlyFailureError):
        _logger.error("a request failed", exc_info=error)
    code = error.failure.code if isinstance(error, EarlyFailureError) else error.code
    body = dialect.error(status, code, _public_message(error, status))
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    if isinstance(error, RefusedError):
        headers |= error.headers
    seconds = error.retry_after_seconds if isinstance(error, _SPECIFIC) else None
    if seconds is not None or status == 503:
        headers["retry-after"] = str(math.ceil(_RETRY_AFTER_SECONDS if seconds is None else seconds))
    return Response(body, status, headers, media_type="application/json")


def _public_message(error: TailraceError, status: int) -> str:
    if isinstance(error, errors.StoreUnavailableError):
        # Its own text names hosts and ports.
        return "The log store is unavailable."
    return str(error) if status != 500 or isinstance(error, EarlyFailureError) else "Something went wrong."


def retry_after_seconds(reduced: Reduced) -> float | None:
    """When a failed run may be tried again, if its provider named a time."""
    return _seconds_in(reduced.failure.details) if reduced.failure is not None else None


def _seconds_in(details: dict[str, Any] | None) -> float | None:
    return (details or {}).get("retry_after_seconds")


def document_status(reduced: Reduced) -> int:
    """The HTTP status of a run that is answered as one document."""
    if reduced.status != "failed" or reduced.failure is None:
        return 200
    return _failure_status(reduced.failure.code)


def _failure_status(code: str) -> int:
    return _FAILURE_STATUS.get(code, _ANY_FAILURE_STATUS)
