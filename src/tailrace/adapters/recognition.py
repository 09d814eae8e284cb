"""Whose stream something is, and whose chunk: told by the one table of all adapters."""

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from types import AsyncGeneratorType, FrameType, GeneratorType
from typing import Any, NamedTuple

import msgspec

from tailrace.adapters.anthropic import MessageTurn
from tailrace.adapters.contract import ProviderStream, Turn
from tailrace.adapters.langchain import GraphTurn
from tailrace.adapters.ollama import OllamaTurn
from tailrace.adapters.openai import CompletionTurn
from tailrace.adapters.openai_agents import RunnerTurn, runner_stream
from tailrace.adapters.pydantic_ai import AgentTurn
from tailrace.adapters.responses import ResponseTurn
from tailrace.errors import SourceInvalidError
from tailrace.events import Event, RunCompleted, Usage
from tailrace.fold import sum_of

__all__ = ["READERS", "Completions", "Reader", "is_framework_run", "provider_stream"]

_EXPECTED_CHUNK = "a chunk of a model's answer"


class Reader(NamedTuple):
    """What reads the chunks of a provider.

    Attributes:
        turn: Reads an answer; its `knows` tells the shape of a chunk.
        modules: Whose objects and generators are its streams: a package, or a module where a package of the
            application may have the same name.
    """

    turn: type[Turn]
    modules: tuple[str, ...]


#: The first that knows a chunk reads it.
READERS: tuple[Reader, ...] = (
    Reader(CompletionTurn, ("openai", "groq", "litellm", "any_llm")),
    Reader(ResponseTurn, ("openai",)),
    Reader(MessageTurn, ("anthropic",)),
    Reader(OllamaTurn, ("ollama",)),
    Reader(AgentTurn, ("pydantic_ai",)),
    # Other modules of LangChain give streams of text, and of whatever a chain makes.
    Reader(GraphTurn, ("langgraph", "langchain_core.language_models.chat_models")),
    Reader(RunnerTurn, ("agents.result",)),
)
_MODULES = frozenset(module for reader in READERS for module in reader.modules)


def provider_stream(source: object) -> ProviderStream | None:
    """The source under the rules of provider's streams, if it is one as an SDK gives it.

    How its chunks read is told by the first of them; one that nobody knows raises `SourceInvalidError` there.
    """
    if not any(map(_is_an_sdks, _modules(source))):
        return None
    return ProviderStream(runner_stream(source), _turn_of)


def is_framework_run(source: object) -> bool:
    """Whether it is a run of an agent as a framework gives it: no stream itself, but one can be had of it."""
    if not any(map(_is_an_sdks, _modules(source))):
        return False
    return isinstance(source, AbstractAsyncContextManager) or hasattr(source, "stream_events")


def _turn_of(chunk: object) -> Turn:
    """What reads the answer that begins with this chunk.

    Raises:
        SourceInvalidError: Nobody does.
    """
    turn = _turn_for(chunk)
    if turn is None:
        raise SourceInvalidError(type(chunk).__name__, _EXPECTED_CHUNK)
    return turn()


def _turn_for(chunk: object) -> type[Turn] | None:
    return next((reader.turn for reader in READERS if reader.turn.knows(chunk)), None)


def _modules(source: object) -> Iterator[str]:
    """Where its code is: that of a generator, or of its classes."""
    frame = _frame(source)
    if frame is not None:
        yield str(frame.f_globals.get("__name__"))
    for cls in type(source).__mro__:
        yield cls.__module__


def _frame(source: Any) -> FrameType | None:  # noqa: ANN401  anything that a source may be
    if isinstance(source, GeneratorType):
        return source.gi_frame
    return source.ag_frame if isinstance(source, AsyncGeneratorType) else None


def _is_an_sdks(module: str) -> bool:
    return module in _MODULES or module.partition(".")[0] in _MODULES


class Completions:
    """The answers whose chunks a source yields among other things, one after the other.

    Attributes:
        ending: How the last complete one ended.
        answered: The calls in which the last one ended were answered since, so that the run does not end in them.
    """

    def __init__(self) -> None:
        """None yet."""
        self.ending: RunCompleted | None = None
        self.answered = False
        self._turn: Turn | None = None
        self._spent: dict[tuple[str | None, str | None], Usage] = {}
        self._total: dict[tuple[str | None, str | None], Usage] = {}

    @property
    def broken(self) -> bool:
        """Whether the last one is not complete."""
        return self._turn is not None and not self._turn.whole

    def read(self, chunk: object) -> list[Event] | None:
        """What a chunk says, after what was left to say of the answer before; `None` if nobody knows it."""
        turn, events = self._turn, list[Event]()
        if turn is None or not (turn.knows(chunk) and turn.continues(chunk)):
            begun = _turn_for(chunk)
            if begun is None:
                return None
            events = self.close()
            turn, self.answered = begun(), False
            self._turn = turn
        events += self._said(turn.read(chunk))
        return events

    def close(self) -> list[Event]:
        """What is left to say of the last answer, its ending aside, when no more of its chunks come."""
        turn = self._turn
        if turn is None:
            return []
        events = self._said(turn.finish() if turn.whole else turn.spent())
        self._spent = self._total.copy()
        return events

    def _said(self, told: Iterator[Event]) -> list[Event]:
        """The events of an answer, but for the one that would end a run that goes on after it."""
        events: list[Event] = []
        for event in told:
            if isinstance(event, RunCompleted):
                self._turn = None
                self.ending = RunCompleted() if self.answered and event.finish_reason == "tool_calls" else event
            else:
                events.append(self._counted(event) if isinstance(event, Usage) else event)
        return events

    def _counted(self, usage: Usage) -> Usage:
        """The count of the whole run, by provider and model, of which an answer knows its own."""
        model = usage.provider, usage.model
        if (before := self._spent.get(model)) is not None:
            sums = sum_of([before, usage])
            usage = msgspec.structs.replace(usage, estimated=usage.estimated or before.estimated, **sums)
        self._total[model] = usage
        return usage
