"""The demo: a model that is none. It has the shape of one for Pydantic AI, and a planner in place of a mind.

Like a model it is asked again after each round of tools and keeps nothing between: where it stands is told by the
messages. The same messages give the same answer, and at `pace` 0 it waits for nothing.
"""

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from itertools import cycle
from typing import Any, Literal, TypeAlias
from zlib import crc32

from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel

from tailrace import NoRunError, current_run
from tailrace.chat.agent.planner import Plan, Result, plan
from tailrace.chat.agent.texts import MODEL_NAME, PROMPTS
from tailrace.chat.agent.tools.contract import tell
from tailrace.events import Status, Thought

__all__ = ["MODEL_NAME", "PROMPTS", "DemoModel", "words"]

_logger = logging.getLogger("tailrace")

_Kind: TypeAlias = Literal["status", "thought", "word", "call", "arguments"]
_Piece: TypeAlias = str | dict[int, DeltaThinkingPart] | dict[int, DeltaToolCall]
#: What comes next and what kind of wait comes before it.
_Beat: TypeAlias = tuple[_Kind, _Piece | Status | Thought]

#: The shortest and the longest wait before a piece, in milliseconds.
_WAITS_MS: dict[_Kind, tuple[int, int]] = {
    "status": (0, 0),
    "thought": (200, 300),
    "word": (25, 40),
    "call": (100, 200),
    "arguments": (10, 20),
}
_ARGUMENT_CHARACTERS = 12


class DemoModel(FunctionModel):
    """Answers by a script, and by what the tools return."""

    def __init__(self, *, pace: float = 1.0) -> None:
        """Take a pace.

        Args:
            pace: Factor on every wait. At 1 a word takes 25 to 40 ms; at 0 nothing waits, but the event loop is let in
                between any two pieces.
        """
        super().__init__(stream_function=self._stream, model_name=MODEL_NAME)
        self.pace = pace
        self._system = "demo"

    def speak(self, messages: Sequence[ModelMessage], tools: AbstractSet[str]) -> AsyncIterator[_Piece]:
        """What comes next in the conversation, piece by piece.

        Args:
            messages: All of it, oldest first.
            tools: The names of the tools that may be called.
        """
        return _answer(_Turn(messages, tools), self.pace)

    def _stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        return self.speak(messages, {tool.name for tool in info.function_tools})


class _Turn:
    """Where a conversation stands: the question, the plan for it, and the results so far."""

    def __init__(self, messages: Sequence[ModelMessage], tools: AbstractSet[str]) -> None:
        requests = [message for message in messages if isinstance(message, ModelRequest)]
        place, question = next(
            (
                (place, part.content)
                for place, request in reversed(list(enumerate(requests)))
                for part in request.parts
                if isinstance(part, UserPromptPart)
            ),
            (0, ""),
        )
        found = plan(question if isinstance(question, str) else "")
        # A tool that is not there is not missed: it is as if nobody had thought of it.
        self.plan = found if {call.tool for call in found.calls} <= tools else Plan()
        returns = [part for request in requests[place:] for part in request.parts if isinstance(part, ToolReturnPart)]
        self.results = [
            Result(call, part.content, failed=part.outcome != "success")
            for call, part in zip(self.plan.calls, returns, strict=False)
        ]
        self.calls_before = sum(isinstance(part, ToolReturnPart) for request in requests for part in request.parts)


async def _answer(turn: _Turn, pace: float) -> AsyncGenerator[_Piece]:
    """The pieces, each after its wait."""
    seed = 0
    with closing(_beats(turn)) as beats:
        for kind, piece in beats:
            seed = crc32(repr(piece).encode(errors="replace"), seed)
            shortest, longest = _WAITS_MS[kind]
            await asyncio.sleep(pace * (shortest + seed % (longest - shortest + 1)) / 1000)
            if isinstance(piece, Status | Thought):
                tell(piece)
            else:
                yield piece


def _beats(turn: _Turn) -> Generator[_Beat]:
    if not turn.results:
        yield from _prelude(turn.plan)
    if len(turn.results) < len(turn.plan.calls):
        yield from _calls(turn)
    else:
        yield from _spoken(turn)


def _prelude(script: Plan) -> Generator[_Beat]:
    if script.status:
        yield "status", Status(script.status, state="writing")
    for step, thought in enumerate(script.thoughts, start=1):
        yield "thought", Thought(thought, step=step, total=len(script.thoughts))
    for word in words(script.reasoning):
        yield "word", {0: DeltaThinkingPart(content=word)}
    for word in words(script.opening):
        yield "word", word


def _calls(turn: _Turn) -> Generator[_Beat]:
    for place, call in enumerate(turn.plan.calls[len(turn.results) :], start=1):
        call_id = _call_id(turn.calls_before + place)
        yield "call", {place: DeltaToolCall(call.tool, "", tool_call_id=call_id)}
        arguments = json.dumps(call.arguments, ensure_ascii=False, separators=(",", ":"))
        for start in range(0, len(arguments), _ARGUMENT_CHARACTERS):
            yield "arguments", {place: DeltaToolCall(json_args=arguments[start : start + _ARGUMENT_CHARACTERS])}


def _spoken(turn: _Turn) -> Generator[_Beat]:
    """The answer word by word, and how it ends.

    Raises:
        RuntimeError: That is how it ends.
    """
    spoken = words(turn.plan.answer(turn.results))
    if turn.plan.ending == "never":
        try:
            for word in cycle(spoken):
                yield "word", word
        finally:
            _logger.info("the endless answer was stopped")
    for word in spoken:
        yield "word", word
    if turn.plan.ending == "failure":
        raise RuntimeError("demo failure: password=hunter2")


def words(text: str) -> list[str]:
    """`text` in pieces of one word each with the white space before it; joined again they are exactly `text`."""
    return re.findall(r"\s*\S+|\s+", text)


def _call_id(number: int) -> str:
    """The id of a call: another one in each run, and the same whenever this one is told again."""
    try:
        run_id = current_run().run_id
    except NoRunError:
        run_id = ""
    return f"call_{hashlib.sha256(run_id.encode()).hexdigest()[:16]}_{number}"
