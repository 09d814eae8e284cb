"""Closing what was read from: awaited, bounded, and also while the reader is being cancelled."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

__all__ = ["close_method", "close_sources"]

_logger = logging.getLogger("tailrace")


async def close_sources(sources: Sequence[object], patience_seconds: float) -> None:
    """Close them in this order and wait for it, even if this task is cancelled meanwhile, but not for ever.

    Providers' streams close by `aclose`, or by `close`, which may be a coroutine function. What they raise is logged:
    it is no reason to end a run, or to refuse one, otherwise than it would have been.

    Raises:
        CancelledError: This task was cancelled meanwhile.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_seconds
    closing = loop.create_task(_close_all(sources), name="tailrace-close")
    cancelled: asyncio.CancelledError | None = None
    while not closing.done() and (remaining_seconds := deadline - loop.time()) > 0:
        try:
            await asyncio.wait({closing}, timeout=remaining_seconds)
        except asyncio.CancelledError as error:
            cancelled = error
    if not closing.done():
        _logger.warning("a source took more than %s s to close and was left to itself", patience_seconds)
        closing.cancel()
    if cancelled is not None:
        raise cancelled


async def _close_all(sources: Sequence[object]) -> None:
    for source in sources:
        close = close_method(source)
        try:
            closing = close() if close is not None else None
            if isinstance(closing, Awaitable):
                await cast("Awaitable[object]", closing)
        except asyncio.CancelledError:
            raise
        except BaseException:
            # An exit that is asked for here would end the server's loop and every other run with it.
            _logger.exception("a source failed while it was being closed")


def close_method(source: object) -> Callable[[], object] | None:
    """How it is closed; `None` for what cannot be."""
    for name in ("aclose", "close"):
        method = getattr(source, name, None)
        if callable(method):
            return cast("Callable[[], object]", method)
    return None
