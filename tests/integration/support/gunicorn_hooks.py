"""A configuration of gunicorn: what its users write who load the application before the workers are forked."""

from typing import Any

__all__ = ["post_worker_init"]


def post_worker_init(worker: Any) -> None:  # noqa: ANN401  gunicorn has no types
    """The worker has its own handlers now."""
    worker.wsgi.extensions["tailrace"].watch_signals()
