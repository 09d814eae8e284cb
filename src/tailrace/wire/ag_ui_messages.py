"""A run's messages as AG-UI counts them, whether told event by event or all at once.

An AG-UI message has one text, and tool calls after it; reasoning is a message of its own. So a message of a run becomes
several, and their ids follow from the order in which its parts begin, alone: whoever reads the run later, from its log
or from what the log amounts to, finds the same.
"""

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import msgspec

from tailrace import fold
from tailrace.fold import Message, ToolPart
from tailrace.wire.calls import UNNAMED_TOOL
from tailrace.wire.values import Json, arguments_of, given, text_of

__all__ = [
    "Call",
    "Kind",
    "Layout",
    "Piece",
    "citing",
    "messages_of",
    "result_message",
    "titled",
]

Kind: TypeAlias = Literal["text", "reasoning"]

#: Of a message that nobody gave an id.
_NO_ID = "message"
_TEXT_ROLES = frozenset({"assistant", "user", "system", "developer"})


class _Bubble(msgspec.Struct):
    """One message of text, calls, or both."""

    id: str
    role: str
    name: str | None
    has_text: bool = False
    has_calls: bool = False


class _Turn(msgspec.Struct):
    """One message of the run, which becomes one or more of AG-UI's. `taken` are the ids of all of them so far."""

    id: str
    taken: set[str]
    role: str = "assistant"
    name: str | None = None
    count: int = 0
    bubble: _Bubble | None = None

    def for_reasoning(self) -> str:
        self.bubble = None
        return self._next_id()

    def for_text(self) -> _Bubble:
        bubble = self.bubble
        if bubble is None or bubble.has_text or bubble.has_calls:
            bubble = self._next(self.role)
        bubble.has_text = True
        return bubble

    def for_call(self) -> _Bubble:
        bubble = self.bubble
        if bubble is None or bubble.role != "assistant":
            bubble = self._next("assistant")
        bubble.has_calls = True
        return bubble

    def _next(self, role: str) -> _Bubble:
        self.bubble = _Bubble(self._next_id(plain=role == self.role), role, self.name)
        return self.bubble

    def _next_id(self, *, plain: bool = False) -> str:
        """The message's own id for the first one that is `plain`, else one made of it."""
        self.count += 1
        told = self.id if plain else f"{self.id}:{self.count}"
        while told in self.taken:
            told = f"{self.id}:{self.count}"
            self.count += told in self.taken
        self.taken.add(told)
        return told


class Piece(msgspec.Struct, eq=False):
    """A text or a stretch of reasoning; `turn_id` is the id of the run's message that it is of."""

    kind: Kind
    id: str
    turn_id: str
    role: str = "reasoning"
    name: str | None = None
    is_done: bool = False
    is_told: bool = False


class Call(msgspec.Struct, eq=False):
    """A tool call."""

    id: str
    name: str
    parent_id: str
    is_open: bool = True
    has_args: bool = False
    is_answered: bool = False


class Layout:
    """Which AG-UI message each part of a run belongs to, by the order in which the parts begin.

    Attributes:
        newest: The part that began last in the message that began last.
        calls: The tool calls so far.
    """

    def __init__(self) -> None:
        """Nothing yet."""
        self.newest: Piece | Call | None = None
        self.calls: dict[str | None, Call] = {}
        self._turns: dict[str | None, _Turn] = {}
        self._last_turn: _Turn | None = None
        self._taken: set[str] = set()
        self._pieces: dict[tuple[Kind, str | None, str | None], Piece] = {}

    def message(self, message_id: str | None, *, role: str | None = None, name: str | None = None) -> None:
        """A message of the run, and whose it is; begun, if it was unknown."""
        turn = self._turn(message_id)
        turn.role, turn.name = _text_role(role or turn.role), name or turn.name

    def _turn(self, message_id: str | None) -> _Turn:
        if message_id is None and self._last_turn is not None:
            return self._last_turn
        turn = self._turns.get(message_id)
        if turn is None:
            turn = self._turns[message_id] = self._last_turn = _Turn(message_id or _NO_ID, self._taken)
            self.newest = None
        return turn

    def piece(self, kind: Kind, message_id: str | None, part_id: str | None) -> Piece:
        """That text or reasoning; begun, if it was unknown."""
        piece = self._pieces.get((kind, message_id, part_id))
        return self._new_piece(kind, message_id, part_id) if piece is None else piece

    def _new_piece(self, kind: Kind, message_id: str | None, part_id: str | None) -> Piece:
        turn = self._turn(message_id)
        if kind == "reasoning":
            piece = Piece(kind, turn.for_reasoning(), turn.id)
        else:
            bubble = turn.for_text()
            piece = Piece(kind, bubble.id, turn.id, bubble.role, bubble.name)
        self._pieces[kind, message_id, part_id] = piece
        self._begun(turn, piece)
        return piece

    def call(self, call_id: str | None, message_id: str | None = None, name: str | None = None) -> Call:
        """That call; begun, if it was unknown."""
        call = self.calls.get(call_id)
        if call is None:
            turn = self._turn(message_id)
            name = UNNAMED_TOOL if name is None else name
            call = self.calls[call_id] = Call(call_id or f"{turn.id}:call", name, turn.for_call().id)
            self._begun(turn, call)
        return call

    def _begun(self, turn: _Turn, part: Piece | Call) -> None:
        if turn is self._last_turn:
            self.newest = part

    def take(self, messages: Iterable[Message]) -> list[Json]:
        """Add reduced messages: as AG-UI messages, the results of tools after the calls."""
        told: dict[str, Json] = {}
        results: dict[str, list[Json]] = {}
        for message in messages:
            self.message(message.id, role=message.role, name=message.name)
            for part in message.parts:
                if isinstance(part, ToolPart):
                    call = self._taken_call(message, part)
                    owner = told.setdefault(call.parent_id, {"id": call.parent_id, "role": "assistant"})
                    owner.setdefault("toolCalls", []).append(_call_message(call, part))
                    if call.is_answered:
                        results.setdefault(call.parent_id, []).append(_result_of(call, part))
                    continue
                kind: Kind = "text" if isinstance(part, fold.TextPart) else "reasoning"
                # Parts of a message that was stored may have no ids, and are no less of their own.
                piece = self._new_piece(kind, message.id, part.id)
                piece.is_done, piece.is_told = part.done, True
                told[piece.id] = _piece_message(piece, part)
        return [each for id_, message in told.items() for each in (message, *results.get(id_, ()))]

    def _taken_call(self, message: Message, part: ToolPart) -> Call:
        call = self.call(part.call_id, message.id, part.name)
        call.is_open = part.state == "started"
        call.has_args = bool(part.args) or part.state == "ready" or part.input is not None
        call.is_answered = part.state in {"done", "error"}
        return call


def messages_of(messages: Iterable[Message]) -> list[Json]:
    """Messages in AG-UI's form; one without an id is named after its place."""
    return Layout().take(
        message if message.id is not None else msgspec.structs.replace(message, id=f"{_NO_ID}-{place}")
        for place, message in enumerate(messages, 1)
    )


def _piece_message(piece: Piece, part: fold.TextPart | fold.ReasoningPart) -> Json:
    message: Json = {"id": piece.id, "role": piece.role, "content": part.text}
    if isinstance(part, fold.ReasoningPart):
        return message | given(encryptedValue=part.signature)
    return message | given(name=piece.name, metadata=citing(part.citations))


def _call_message(call: Call, part: ToolPart) -> Json:
    arguments = part.args if part.state == "started" else arguments_of(part.input)
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function} | given(metadata=titled(part.title))


def _result_of(call: Call, part: ToolPart) -> Json:
    if part.error is None:
        return result_message(call, text_of(part.output))
    return result_message(call, part.error.get("message", ""), part.error.get("code", "error"))


def result_message(call: Call, content: str, error_code: str | None = None) -> Json:
    """A call's answer, or why there is none."""
    message = {"id": f"{call.id}:result", "role": "tool", "toolCallId": call.id, "content": content}
    if error_code is None:
        return message
    # AG-UI has no word for it in an event. TanStack's client looks for its own.
    return {**message, "metadata": {"error": {"code": error_code}, "tanstack": {"state": "output-error"}}}


def titled(title: str | None) -> Json | None:
    """What a call's metadata says of its title."""
    return {"title": title} if title else None


def citing(citations: list[Any] | None) -> Json | None:
    """What a text's metadata says of its sources."""
    return {"citations": citations} if citations else None


def _text_role(role: str) -> str:
    return role if role in _TEXT_ROLES else "assistant"
