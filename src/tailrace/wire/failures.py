"""What everybody may read of a failure, `{"code", "message"}`: of a run's last event, and of a reduced run."""

from tailrace.events import RunFailed, RunInterrupted
from tailrace.fold import Reduced

__all__ = ["failure_in", "failure_of"]

_INTERRUPTED = "The answer was interrupted."


def failure_of(ending: RunFailed | RunInterrupted) -> dict[str, str]:
    """The failure that an ending is."""
    if isinstance(ending, RunFailed):
        return {"code": ending.code, "message": ending.message}
    return {"code": ending.reason, "message": _INTERRUPTED}


def failure_in(reduced: Reduced) -> dict[str, str] | None:
    """What `failure_of` says of the run's ending; `None` if it did not fail."""
    failure = reduced.failure
    if failure is None or reduced.status == "cancelled":
        return None
    return {"code": failure.code, "message": _INTERRUPTED if reduced.status == "interrupted" else failure.message}
