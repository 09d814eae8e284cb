"""Runs of the OpenAI Agents SDK, by the events of `Runner.run_streamed`: every response, and what came of its calls.

https://openai.github.io/openai-agents-python/streaming/
"""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, ClassVar, cast

import msgspec

from tailrace.adapters.closing import close_method
from tailrace.adapters.contract import FIRST_DELTA_SECONDS, IDLE_SECONDS, ProviderStream, StreamLike, Turn
from tailrace.adapters.fields import field, items_in, returned, text_in
from tailrace.adapters.responses import ResponseTurn
from tailrace.events import Event, Interrupt, RunCompleted, RunPaused, Status, Terminal, ToolOutput, Usage
from tailrace.fold import sum_of

__all__ = ["RunnerTurn", "from_openai_agents", "runner_stream"]

_COUNTS = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_input_tokens")


def from_openai_agents(
    stream: object, *, first_delta_seconds: float = FIRST_DELTA_SECONDS, idle_seconds: float = IDLE_SECONDS
) -> ProviderStream:
    """The events of a run of agents, the last of them `RunCompleted`, `RunFailed` or `RunPaused`.

    Of a model on another server than OpenAI's own, asked by chat completions, the SDK does not tell an answer that was
    cut off from a whole one; one without anything is told.

    Args:
        stream: What `Runner.run_streamed(…)` gives, which is cancelled if it is not read to its end, or its events.
        first_delta_seconds: How long each model that is asked may say nothing at first. Tools take what they take.
        idle_seconds: How long it may say nothing after that.
    """
    return ProviderStream(
        runner_stream(stream), RunnerTurn(), first_delta_seconds=first_delta_seconds, idle_seconds=idle_seconds
    )


def runner_stream(source: Any) -> StreamLike:  # noqa: ANN401  an object of the SDK
    """The events of a run, if it is the run that was given."""
    return RunnerEvents(source) if callable(getattr(source, "stream_events", None)) else source


class RunnerEvents(AsyncIterator[Any]):
    """The events of a run, which goes on by itself until it is cancelled.

    Attributes:
        run: The run.
    """

    def __init__(self, run: Any) -> None:  # noqa: ANN401  an object of the SDK
        """Read nothing yet."""
        self.run = run
        self._events: AsyncIterator[Any] | None = None

    async def __anext__(self) -> Any:  # noqa: ANN401  an object of the SDK
        """The next event.

        Raises:
            StopAsyncIteration: There is none.
        """
        if self._events is None:
            self._events = aiter(self.run.stream_events())
        return await anext(self._events)

    async def aclose(self) -> None:
        """Cancel the run, which does nothing to one that is over."""
        self.run.cancel()
        if (close := close_method(self._events)) is not None:
            await cast("Any", close())


class RunnerTurn(Turn):
    """The tables at the end of the class say which method reads which event, and which item of a run."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        super().__init__()
        self._response: ResponseTurn | None = None
        self._is_empty = True
        self._agent = ""
        self._usages: dict[str | None, Usage] = {}

    @classmethod
    def knows(cls, chunk: object) -> bool:
        """Whether it has the type of an event."""
        return text_in(chunk, "type") in cls._EVENTS

    @property
    def whole(self) -> bool:
        """Whether the last response has its end, and more than that."""
        return self._response is not None and self._response.ended and not self._is_empty

    def read(self, chunk: object) -> Iterator[Event]:
        """What an event says. One of our own among them is passed on."""
        read = self._EVENTS.get(text_in(chunk, "type"))
        if read is not None:
            yield from read(self, chunk)
        elif isinstance(chunk, Event):
            yield chunk

    def finish(self) -> Iterator[Event]:
        """What follows the last event."""
        yield from self._usages.values()
        approvals = items_in(self.source, "run", "interruptions")
        if approvals:
            yield RunPaused(interrupts=[_interrupt(approval) for approval in approvals])
        else:
            reason = self._response.finish_reason if self._response is not None else None
            # Calls that end a run were executed.
            yield RunCompleted(finish_reason="stop" if reason == "tool_calls" else reason)

    def spent(self) -> Iterator[Event]:
        """What the responses so far have used."""
        for usage in self._usages.values():
            yield msgspec.structs.replace(usage, estimated=True)

    def raised(self, error: Exception) -> Terminal | None:
        """A response that a bound or a filter ended is raised as an error, after it was told."""
        response = self._response
        if type(error).__name__ != "ModelBehaviorError" or response is None or not response.ended:
            return None
        is_bound = response.finish_reason in {"length", "content_filter"}
        return RunCompleted(finish_reason=response.finish_reason) if is_bound else None

    # Events

    def _raw(self, event: object) -> Iterator[Event]:
        told = field(event, "data")
        response = self._response
        if response is None or response.ended or not response.continues(told):
            response = self._response = ResponseTurn()
            self._is_empty = True
        for said in response.read(told):
            if not isinstance(said, Usage):
                self._is_empty = False
                yield said
        if response.ended:
            # Either the run is over or there is another request.
            self.asked = True
            self._count(response.usage)

    def _item(self, event: object) -> Iterator[Event]:
        read = self._ITEMS.get(text_in(event, "name"))
        if read is not None:
            yield from read(self, field(event, "item"))

    def _agent_updated(self, event: object) -> Iterator[Event]:
        before, self._agent = self._agent, text_in(event, "new_agent", "name")
        if before and before != self._agent:
            yield Status(self._agent, state="agent")

    # Items

    def _tool_called(self, item: object) -> Iterator[Event]:
        # Tools that the provider executes have no `call_id`.
        if call_id := text_in(item, "raw_item", "call_id"):
            self.running.add(call_id)
        yield from ()

    def _tool_output(self, item: object) -> Iterator[Event]:
        call_id = text_in(item, "raw_item", "call_id")
        self.running.discard(call_id)
        self.asked = True
        output = field(item, "output")
        yield ToolOutput(
            call_id=call_id, output=returned(field(item, "raw_item", "output") if output is None else output)
        )

    def _count(self, usage: Usage | None) -> None:
        """Add what a response has used to what its model has; those that were not counted have zeros."""
        if usage is None or not (usage.input_tokens or usage.output_tokens):
            return
        if (before := self._usages.get(usage.model)) is not None:
            usage = msgspec.structs.replace(usage, **(dict.fromkeys(_COUNTS, 0) | sum_of([before, usage])))
        self._usages[usage.model] = usage

    _EVENTS: ClassVar[dict[str, Callable[["RunnerTurn", object], Iterator[Event]]]] = {
        "raw_response_event": _raw,
        "run_item_stream_event": _item,
        "agent_updated_stream_event": _agent_updated,
    }
    _ITEMS: ClassVar[dict[str, Callable[["RunnerTurn", object], Iterator[Event]]]] = {
        "tool_called": _tool_called,
        "tool_output": _tool_output,
        # Spelled so there. A handoff is a call with an output, too.
        "handoff_occured": _tool_output,
        "handoff_occurred": _tool_output,
    }


def _interrupt(approval: object) -> Interrupt:
    call_id = text_in(approval, "raw_item", "call_id") or text_in(approval, "raw_item", "id")
    return Interrupt(id=call_id, kind="approval", call_id=call_id)
