"""Signals between processes: what they are called and what they say. Lossy, so each is only ever a hurry-up."""

__all__ = ["CANCEL_PREFIX", "FOLLOWING", "PRESENCE_SECONDS", "run_topic", "thread_topic"]

#: To a run's producer: somebody follows the run in another process. Repeated every `PRESENCE_SECONDS`.
FOLLOWING = "following"
PRESENCE_SECONDS = 3.0

#: To a run's producer: end the run, for the reason that follows. The store carries the same as a flag.
CANCEL_PREFIX = "cancel:"


def run_topic(run_id: str) -> str:
    """Where a run's producer listens."""
    return f"run:{run_id}"


def thread_topic(owner: str | None, thread: str) -> str:
    """Where a thread's readers listen; the signal is the id of a run that has begun."""
    return f"thread:{owner or ''}:{thread}"
