"""How a source's end becomes a run's terminal event: what the public may read, and what only the log of the server."""

import asyncio
import logging
from typing import Any

from tailrace.adapters.failures import failure_of, is_providers
from tailrace.errors import RunLimitError, SourceInvalidError, TailraceError
from tailrace.events import RunCompleted, RunFailed, Terminal
from tailrace.runtime.producer import Producer

__all__ = ["failed", "failure", "outcome"]

_logger = logging.getLogger("tailrace")

_MESSAGES = {
    "error": "Something went wrong.",
    "timeout": "The answer took too long.",
    "limit": "The answer reached its size limit.",
    "store_unavailable": "The answer could not be saved.",
}
_RETRYABLE = frozenset({"store_unavailable"})


def outcome(task: "asyncio.Task[Terminal | None]", producer: Producer, correlation_id: str) -> Terminal:
    """The ending of a run whose source came to its end by itself, in `task`."""
    if producer.exceeded is not None:
        return failed(producer.exceeded, correlation_id)
    if task.cancelled():
        return failed(RuntimeError("the source cancelled itself"), correlation_id)
    error = task.exception()
    if error is not None:
        return failed(error, correlation_id)
    return task.result() or RunCompleted()


def failed(error: BaseException, correlation_id: str) -> RunFailed:
    """The public form of an error; its text stays in the server's log, under the correlation id."""
    if isinstance(error, RunLimitError):
        return failure("limit", correlation_id, details={"bound": error.bound, "limit": error.limit})
    if isinstance(error, Exception) and is_providers(error):
        return failure_of(error, correlation_id)
    if isinstance(error, TailraceError) and error.public:
        # Too late to be a status.
        _logger.warning("a run was refused: %s (correlation id %s)", error.code, correlation_id)
        return failure(error.code, correlation_id, message=str(error), retryable=error.retryable)
    _logger.error("a run failed (correlation id %s)", correlation_id, exc_info=error)
    # What a source yielded wrong is named by its type, which helps the developer and gives nothing away.
    message = str(error) if isinstance(error, SourceInvalidError) else None
    return failure("error", correlation_id, message=message)


def failure(
    code: str,
    correlation_id: str,
    *,
    message: str | None = None,
    retryable: bool = False,
    details: dict[str, Any] | None = None,
) -> RunFailed:
    """`run.failed` with the sentence that goes with `code`, unless there is a better one."""
    return RunFailed(
        code=code,
        message=message or _MESSAGES[code],
        retryable=retryable or code in _RETRYABLE or None,
        correlation_id=correlation_id,
        details=details,
    )
