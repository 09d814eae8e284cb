"""One run as its users hold it: a handle to read and cancel it by, and what is known of it at one moment."""

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from tailrace import events, fold
from tailrace.errors import RunFailedError
from tailrace.events import CancelReason, Entry
from tailrace.fold import Reduced, RunStatus
from tailrace.runtime.producer import FINAL_STATES
from tailrace.stores.contract import OPEN, Info

__all__ = ["Run", "RunInfo", "run_info"]

_STATUS_OF_EVENT: dict[type, RunStatus] = {
    events.RunCompleted: "completed",
    events.RunFailed: "failed",
    events.RunCancelled: "cancelled",
    events.RunInterrupted: "interrupted",
    events.RunPaused: "paused",
}
_STATUSES: dict[int, RunStatus] = {
    OPEN: "running",
    **{state: _STATUS_OF_EVENT[terminal] for terminal, state in FINAL_STATES.items()},
}


class _Source(Protocol):
    """Where the run is found; `Runs` is that."""

    def url_of(self, run_id: str) -> str: ...

    def follow(self, run_id: str, after: int = 0) -> AsyncIterator[Entry]: ...

    async def cancel(self, run_id: str, reason: CancelReason = "user") -> bool: ...


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A run at one moment.

    Attributes:
        id: The run.
        status: `running` or how it ended.
        seq: Number of its last entry.
        owner: Whose it is.
        thread: The conversation it belongs to.
        cancel_requested: Somebody asked for its end.
    """

    id: str
    status: RunStatus
    seq: int
    owner: str | None = None
    thread: str | None = None
    cancel_requested: bool = False


class Run:
    """A handle on a run, wherever it is produced. Iterating gives its entries after `after`, to the terminal one."""

    def __init__(self, runs: _Source, run_id: str, *, after: int = 0, started: bool = False) -> None:
        """Made by `Runs.start` and `Runs.attach`."""
        self._runs = runs
        self._after = after
        self.id = run_id
        self.started = started

    @property
    def url(self) -> str:
        """The path of its log."""
        return self._runs.url_of(self.id)

    def __aiter__(self) -> AsyncIterator[Entry]:
        """Entries in order, each number once, ending after the terminal event."""
        return self._runs.follow(self.id, self._after)

    async def reduced(self) -> Reduced:
        """Wait for the end and reduce the whole log, however the run ended.

        Raises:
            RunNotFoundError: The run expired.
        """
        return fold.reduce([entry async for entry in self._runs.follow(self.id)])

    async def result(self) -> Reduced:
        """Wait for the end: the reduced run, with `text`, `messages`, `tools` and the source's own `result`.

        Raises:
            RunFailedError: The run ended otherwise than completed.
            RunNotFoundError: The run expired.
        """
        reduced = await self.reduced()
        if reduced.status != "completed":
            failure = reduced.failure or fold.Failure(code=reduced.status)
            raise RunFailedError(self.id, status=reduced.status, failure=failure.code, message=failure.message)
        return reduced

    async def text(self) -> str:
        """Wait for the end: all text, exactly as it was streamed.

        Raises:
            RunFailedError: The run ended otherwise than completed.
            RunNotFoundError: The run expired.
        """
        return (await self.result()).text

    async def cancel(self, reason: CancelReason = "user") -> bool:
        """See `Runs.cancel`.

        Raises:
            RunNotFoundError: The run expired.
        """
        return await self._runs.cancel(self.id, reason)


def run_info(info: Info) -> RunInfo:
    """What a store says of a run, in the words of its users."""
    return RunInfo(
        id=info.run_id,
        status=_STATUSES.get(info.state, "failed"),
        seq=info.last,
        owner=info.owner,
        thread=info.thread,
        cancel_requested=info.cancel is not None,
    )
