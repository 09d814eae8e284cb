"""Reading a provider's stream under rules that hold for every provider; an adapter adds only how its chunks read.

- A stream that ends without the provider's terminal signal is no complete answer: `run.failed`, code
  `provider_truncated`. No SDK tells the two apart.
- What counts as a sign of life is what the model says. Providers send pings while nothing happens, and these keep every
  read timeout from ending.
- Whatever a provider does wrong is one `run.failed` with a code that begins with `provider_`, after what there was.
- The stream is closed: at its end, when the reader stops, when the reader is cancelled, and if nobody ever read.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, TypeGuard, cast

import msgspec

from tailrace.adapters.calls import ToolCalls
from tailrace.adapters.closing import close_sources
from tailrace.adapters.failures import code_of, failure_of, truncated
from tailrace.adapters.threads import ThreadedIterator
from tailrace.errors import SourceInvalidError
from tailrace.events import TERMINALS, Event, FinishReason, RunCompleted, Usage

__all__ = ["FIRST_DELTA_SECONDS", "IDLE_SECONDS", "ProviderStream", "StreamLike", "Turn"]

_logger = logging.getLogger("tailrace")

StreamLike: TypeAlias = AsyncIterable[Any] | Iterable[Any] | Awaitable[AsyncIterable[Any] | Iterable[Any]]

#: How long a model may think before it says anything, the opening of its stream included.
FIRST_DELTA_SECONDS = 60.0
#: How long it may say nothing after that.
IDLE_SECONDS = 30.0
#: After the answer is complete only its count of tokens may follow; nobody waits for that.
_TRAILING_SECONDS = 5.0
_CLOSE_SECONDS = 2.0

_EXPECTED_STREAM = "a provider's stream, as stream=True gives it"


class Turn(ABC):
    """One answer of one model: what its chunks say, and whether it is complete.

    Attributes:
        ended: The provider has said that the answer is complete; only a count of tokens may follow.
        finish_reason: Why it is.
        usage: The newest count of tokens.
        calls: The tool calls that are being written.
    """

    def __init__(self) -> None:
        """Nothing was said yet."""
        self.ended = False
        self.finish_reason: FinishReason | None = None
        self.usage: Usage | None = None
        self.calls = ToolCalls()

    @abstractmethod
    def read(self, chunk: object) -> Iterator[Event]:
        """What a chunk says; nothing for a kind that this version does not know. After a terminal event it is over."""

    def finish(self) -> Iterator[Event]:
        """What follows the last chunk of a complete answer."""
        yield from self.calls.complete_all()
        if self.usage is not None:
            yield self.usage
        yield RunCompleted(finish_reason=self.finish_reason)

    def spent(self) -> Iterator[Event]:
        """What an answer that was broken off has used, as far as the provider told."""
        if self.usage is not None:
            yield msgspec.structs.replace(self.usage, estimated=True)


class ProviderStream(AsyncIterator[Event]):
    """The events of a provider's stream, the last of them terminal.

    Also raises what is not the provider's doing: what a generator around its stream raises passes as it is.
    """

    def __init__(
        self,
        stream: StreamLike,
        turn: Turn,
        *,
        first_delta_seconds: float = FIRST_DELTA_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """Read nothing yet.

        Args:
            stream: Chunks, or an awaitable that gives them. A blocking iterable is read on a thread of its own.
            turn: How the chunks read.
            first_delta_seconds: How long to wait for the first thing that the model says.
            idle_seconds: How long to wait for the next.
        """
        self._stream: object = stream
        self._turn = turn
        self._first_delta_seconds = first_delta_seconds
        self._idle_seconds = idle_seconds
        self._deadline = 0.0
        self._iteration: AsyncIterator[Any] | None = None
        self._begun = False
        self._events = self._read()

    def __anext__(self) -> Awaitable[Event]:
        """The next event.

        Raises:
            SourceInvalidError: It is no stream.
        """
        return self._events.__anext__()

    async def aclose(self) -> None:
        """Close the provider's stream, which stops the model. Idempotent."""
        if self._begun:
            await self._events.aclose()
        else:
            self._begun = True
            await self._events.aclose()
            await close_sources([self._stream], _CLOSE_SECONDS)

    async def _read(self) -> AsyncGenerator[Event]:
        self._begun = True
        self._deadline = asyncio.get_running_loop().time() + self._first_delta_seconds
        try:
            while True:
                for event in await self._next():
                    yield event
                    if isinstance(event, TERMINALS):
                        return
        finally:
            # An iteration that is its stream's own is closed once.
            own = self._iteration is None or self._iteration is self._stream
            await close_sources([self._stream] if own else [self._iteration, self._stream], _CLOSE_SECONDS)

    async def _next(self) -> list[Event]:
        try:
            async with asyncio.timeout_at(self._deadline):
                if self._iteration is None:
                    self._iteration = await self._open()
                chunk = await anext(self._iteration)
        except StopAsyncIteration:
            return self._ending(None)
        except Exception as error:
            if code_of(error) is None:
                raise
            return self._ending(error)
        ended = self._turn.ended
        events = list(self._turn.read(chunk))
        if self._turn.ended and not ended:
            self._wait(_TRAILING_SECONDS)
        elif not ended and any(not isinstance(event, Usage) for event in events):
            self._wait(self._idle_seconds)
        return events

    def _wait(self, seconds: float) -> None:
        self._deadline = asyncio.get_running_loop().time() + seconds

    def _ending(self, error: Exception | None) -> list[Event]:
        if self._turn.ended:
            if error is not None:
                _logger.info("a provider's stream failed after its answer was complete", exc_info=error)
            return list(self._turn.finish())
        return [*self._turn.spent(), truncated() if error is None else failure_of(error)]

    async def _open(self) -> AsyncIterator[Any]:
        stream = self._stream
        if isinstance(stream, Awaitable):
            stream = self._stream = await cast("Awaitable[object]", stream)
        if isinstance(stream, AsyncIterable):
            return aiter(cast("AsyncIterable[object]", stream))
        if not _is_blocking_stream(stream):
            raise SourceInvalidError(type(stream).__name__, _EXPECTED_STREAM)
        # Its thread closes the stream too.
        self._stream = threaded = ThreadedIterator(stream)
        return threaded


def _is_blocking_stream(stream: object) -> TypeGuard[Iterable[Any]]:
    """Whether it is iterable chunk by chunk; an answer that was not streamed is an object, iterable by its fields."""
    is_whole = isinstance(stream, str | bytes | Mapping) or hasattr(stream, "model_dump")
    return isinstance(stream, Iterable) and not is_whole
