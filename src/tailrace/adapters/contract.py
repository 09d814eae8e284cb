"""Reading a provider's stream under rules that hold for every provider; an adapter adds only how its chunks read.

- A stream that ends without the provider's terminal signal is no complete answer: `run.failed`, code
  `provider_truncated`. No SDK tells the two apart.
- What counts as a sign of life is what the model says. Providers send pings while nothing happens, and these keep every
  read timeout from ending.
- Whatever a provider does wrong is one `run.failed` with a code that begins with `provider_`, after what there was.
- A request is made again only if that was asked for, and only while nothing of its answer was given out.
- The stream is closed: at its end, when the reader stops, when the reader is cancelled, and if nobody ever read.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, TypeGuard, cast

import msgspec

from tailrace.adapters.calls import ToolCalls
from tailrace.adapters.closing import close_sources
from tailrace.adapters.entering import Entered
from tailrace.adapters.failures import code_of, failure_of, truncated
from tailrace.adapters.retries import retry_seconds
from tailrace.adapters.threads import ThreadedIterator
from tailrace.errors import SourceInvalidError
from tailrace.events import TERMINALS, Event, FinishReason, RunCompleted, Terminal, Usage

__all__ = ["FIRST_DELTA_SECONDS", "IDLE_SECONDS", "ProviderStream", "StreamLike", "Turn", "TurnOf"]

_logger = logging.getLogger("tailrace")

_Stream: TypeAlias = (
    AsyncIterable[Any]
    | Iterable[Any]
    | AbstractAsyncContextManager[AsyncIterable[Any]]
    | Awaitable[AsyncIterable[Any] | Iterable[Any]]
)
StreamLike: TypeAlias = _Stream | Callable[[], _Stream]

#: How long a model may think before it says anything, the opening of its stream included.
FIRST_DELTA_SECONDS = 60.0
#: How long it may say nothing after that.
IDLE_SECONDS = 30.0
#: After the answer is complete only its count of tokens may follow; nobody waits for that.
_TRAILING_SECONDS = 5.0
_CLOSE_SECONDS = 2.0

_EXPECTED_STREAM = "a provider's stream, as stream=True gives it"


class Turn(ABC):
    """One answer of one model, or of an agent: what its chunks say, and whether it is complete.

    Attributes:
        ended: The provider has said that the answer is complete; only a count of tokens may follow.
        finish_reason: Why it is.
        usage: The newest count of tokens.
        calls: The tool calls that are being written.
        running: Calls that an agent executes. As long as there are any, nobody waits for the model.
        asked: Set where a model may have been asked anew: it has as long as for its first word.
        source: What is read from, for what the chunks do not tell.
    """

    def __init__(self) -> None:
        """Nothing was said yet."""
        self.ended = False
        self.finish_reason: FinishReason | None = None
        self.usage: Usage | None = None
        self.calls = ToolCalls()
        self.running: set[str] = set()
        self.asked = False
        self.source: object = None

    @classmethod
    def knows(cls, chunk: object) -> bool:  # noqa: ARG003  one that is in no table knows none
        """Whether a chunk has the shape of those that are read here; answered for the table of `recognition`."""
        return False

    def continues(self, chunk: object) -> bool:  # noqa: ARG002  some have to look at it
        """Whether a chunk that it knows belongs to this answer, and not to the next one of the same provider."""
        return not self.ended

    @property
    def whole(self) -> bool:
        """Whether the end of the stream is the end of the answer: of an agent's stream it may be the only sign."""
        return self.ended

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

    def raised(self, error: Exception) -> Terminal | None:  # noqa: ARG002  most do not look at it
        """How it ends, if what was raised has a meaning of its own here; `None` for what is an error like any."""
        return None


#: What gives the turn that reads an answer, asked with its first chunk.
TurnOf: TypeAlias = Callable[[object], Turn]


class ProviderStream(AsyncIterator[Event]):
    """The events of a provider's stream, the last of them terminal.

    Also raises what is not the provider's doing: what a generator around its stream raises passes as it is.
    """

    def __init__(
        self,
        stream: StreamLike,
        turn: Turn | TurnOf,
        *,
        first_delta_seconds: float = FIRST_DELTA_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
        retries: int = 0,
    ) -> None:
        """Read nothing yet.

        Args:
            stream: Chunks, or an awaitable that gives them, or a callable without arguments that returns one of these.
                A blocking iterable is read on a thread of its own; a callable is called in the event loop.
            turn: How the chunks read, or what tells that by the first of them; with `retries` the latter.
            first_delta_seconds: How long to wait for the first thing that the model says, on each attempt.
            idle_seconds: How long to wait for the next.
            retries: How often to call `stream` again after a failure that may pass, as long as nothing but counts of
                tokens has come. Waits in between as long as the provider says, half a minute at most, or else a growing
                moment.

        Raises:
            ValueError: `retries` of what can be read only once.
        """
        if retries and (not _is_callable(stream) or isinstance(turn, Turn)):
            raise ValueError("retries need a callable that makes the request anew")
        self._open_anew = stream if _is_callable(stream) else None
        self._stream: object = None if self._open_anew else stream
        self._turn_of = turn
        self._turn = turn if isinstance(turn, Turn) else None
        self._first_delta_seconds = first_delta_seconds
        self._idle_seconds = idle_seconds
        self._retries = retries
        self._attempts = 0
        self._left_seconds: float | None = None
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
            await self._close()

    async def _read(self) -> AsyncGenerator[Event]:
        self._begun = True
        held: list[Event] = []
        self._wait(self._first_delta_seconds)
        try:
            while True:
                events = await self._next()
                if self._attempts < self._retries:
                    if events and (seconds := retry_seconds(events[-1], self._attempts)) is not None:
                        held.clear()
                        await self._begin_again(seconds)
                        continue
                    held += events
                    if all(isinstance(event, Usage) for event in events):
                        continue
                    # From here on there is something that another attempt would say twice.
                    self._retries, events = 0, held
                for event in events:
                    yield event
                    if isinstance(event, TERMINALS):
                        return
        finally:
            await self._close()

    async def _begin_again(self, seconds: float) -> None:
        self._attempts += 1
        _logger.info("a provider's stream is asked for again in %.1f s", seconds)
        await self._close()
        self._turn = None
        await asyncio.sleep(seconds)
        self._wait(self._first_delta_seconds)

    async def _close(self) -> None:
        stream, iteration = self._stream, self._iteration
        self._stream = self._iteration = None
        # An iteration that is its stream's own is closed once.
        own = iteration is None or iteration is stream
        await close_sources([stream] if own else [iteration, stream], _CLOSE_SECONDS)

    async def _next(self) -> list[Event]:
        time = asyncio.get_running_loop().time
        asked_at = time()
        try:
            async with asyncio.timeout(self._left_seconds):
                if self._iteration is None:
                    self._iteration = await self._open()
                chunk = await anext(self._iteration)
        except StopAsyncIteration:
            return self._ending(None)
        except Exception as error:
            turn = self._turn
            if turn is not None and (terminal := turn.raised(error)) is not None:
                return [*turn.spent(), terminal]
            if code_of(error) is None:
                raise
            return self._ending(error)
        if self._left_seconds is not None:
            # Only waiting counts: the time that a reader takes between two events is not the model's silence.
            self._left_seconds -= time() - asked_at
        turn = self._turn
        if turn is None:
            turn = self._turn = cast("TurnOf", self._turn_of)(chunk)
            turn.source = self._stream
        ended = turn.ended
        events = list(turn.read(chunk))
        self._look_ahead(turn, ended=ended, said=any(not isinstance(event, Usage) for event in events))
        return events

    def _look_ahead(self, turn: Turn, *, ended: bool, said: bool) -> None:
        """How long the next chunk may take, after one of a turn that had `ended` before and that `said` something."""
        if turn.running:
            self._wait(None)
        elif turn.asked:
            turn.asked = False
            self._wait(self._first_delta_seconds)
        elif turn.ended and not ended:
            self._wait(_TRAILING_SECONDS)
        elif not ended and said:
            self._wait(self._idle_seconds)

    def _wait(self, seconds: float | None) -> None:
        self._left_seconds = seconds

    def _ending(self, error: Exception | None) -> list[Event]:
        turn = self._turn
        if turn is not None and (turn.ended or (error is None and turn.whole)):
            if error is not None:
                _logger.info("a provider's stream failed after its answer was complete", exc_info=error)
            return list(turn.finish())
        spent = turn.spent() if turn is not None else ()
        return [*spent, truncated() if error is None else failure_of(error)]

    async def _open(self) -> AsyncIterator[Any]:
        if self._open_anew is not None:
            self._stream = self._open_anew()
        stream = self._stream
        if isinstance(stream, Awaitable):
            stream = self._stream = await cast("Awaitable[object]", stream)
        if isinstance(stream, AbstractAsyncContextManager) and not isinstance(stream, AsyncIterable):
            stream = self._stream = Entered(cast("AbstractAsyncContextManager[Any]", stream))
        if self._turn is not None:
            self._turn.source = stream
        if isinstance(stream, AsyncIterable):
            return aiter(cast("AsyncIterable[object]", stream))
        if not _is_blocking_stream(stream):
            raise SourceInvalidError(type(stream).__name__, _EXPECTED_STREAM)
        # Its thread closes the stream too.
        self._stream = threaded = ThreadedIterator(stream)
        return threaded


def _is_callable(stream: object) -> TypeGuard[Callable[[], object]]:
    """Whether it gives a stream when it is called; a stream may happen to be callable as well."""
    is_stream = isinstance(stream, AsyncIterable | Iterable | Awaitable | AbstractAsyncContextManager)
    return callable(stream) and not is_stream


def _is_blocking_stream(stream: object) -> TypeGuard[Iterable[Any]]:
    """Whether it is iterable chunk by chunk; an answer that was not streamed is an object, iterable by its fields."""
    is_whole = isinstance(stream, str | bytes | Mapping) or hasattr(stream, "model_dump")
    return isinstance(stream, Iterable) and not is_whole
