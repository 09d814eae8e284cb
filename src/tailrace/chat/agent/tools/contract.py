"""What a tool is given, and how it says no.

A tool is an async function of pydantic-ai; what it needs of the request it takes from `ctx.deps`. It tells what it is
doing by `tell`, and what it raises never reaches anybody but the log, unless it is a `ToolRefusedError`.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tailrace import NoRunError, emit
from tailrace.chat.agent.contract import Question
from tailrace.events import Event

__all__ = ["ToolContext", "ToolRefusedError", "tell", "utc_now"]


def utc_now() -> datetime:
    """The present, of this machine."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class ToolContext:
    """What tools know of the run that they are called in.

    Attributes:
        question: What was asked, by whom, about which branch. `question.identity.token` is for asking other services
            in the caller's name: it goes into no event, no return value and no log.
        now: The present, with a time zone.
        pace: Factor on the waits of tools that pretend to work.
        refusals: Code and sentence of each call that failed, by the call's id; written by the toolset.
    """

    question: Question
    now: Callable[[], datetime] = utc_now
    pace: float = 1.0
    refusals: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])


class ToolRefusedError(Exception):
    """A tool has no answer. The text of the error is a sentence that may be shown to anyone.

    Attributes:
        code: What clients may tell it by.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def tell(event: Event) -> None:
    """Add an event to the run that this is a part of; outside of a run there is nobody to tell.

    Raises:
        RunClosedError: The run has ended.
        RunLimitError: The run reached its bound.
        BufferFullError: Too much waits for the store.
        EventInvalidError: It has no JSON form, or is one that only the runtime may add.
    """
    with contextlib.suppress(NoRunError):
        emit(event)
