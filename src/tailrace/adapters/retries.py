"""Whether to make a provider's request again, and when: bounded, and never sooner than the provider says."""

import secrets

from tailrace.events import Event, RunFailed

__all__ = ["retry_seconds"]

_FIRST_SECONDS = 0.5
_LONGEST_SECONDS = 8.0
#: A provider that wants more patience than this gets no second request: whoever waits is told so now.
_LONGEST_TOLD_SECONDS = 30.0

_random = secrets.SystemRandom()


def retry_seconds(ending: Event, attempts: int) -> float | None:
    """How long to wait after an attempt that ended so, if it may be made again.

    Args:
        ending: The last event of the attempt.
        attempts: How many there were before.

    Returns:
        What the provider asked for, or half a second at first and twice that each time, spread over its upper half so
        that many do not come back at once; `None` if another attempt would not help.
    """
    if not isinstance(ending, RunFailed) or not ending.retryable:
        return None
    told: float | None = (ending.details or {}).get("retry_after_seconds")
    if told is not None:
        return told if told <= _LONGEST_TOLD_SECONDS else None
    seconds: float = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2**attempts)
    return seconds * _random.uniform(0.5, 1.0)
