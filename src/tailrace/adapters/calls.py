"""Tool calls as a model writes them: fragments of their arguments, joined and parsed once, at the end."""

import secrets
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import msgspec

from tailrace.events import Event, ToolArgsDelta, ToolError, ToolReady, ToolStarted

__all__ = ["ToolCalls", "written"]

Executor: TypeAlias = Literal["provider"]

#: A call goes by this name if the provider told none.
_UNNAMED = "tool"
_UNREADABLE = "The model wrote arguments that cannot be read."


def written(call_id: str, name: str, arguments: str) -> ToolReady | ToolError:
    """A call whose arguments are complete: no text means no arguments."""
    try:
        value: Any = msgspec.json.decode(arguments or "{}")
    except (ValueError, RecursionError):
        return ToolError(call_id=call_id, code="input_invalid", message=_UNREADABLE, phase="input")
    return ToolReady(call_id=call_id, name=name, input=value)


class _Call:
    def __init__(self, call_id: str, name: str) -> None:
        self.call_id = call_id
        self.name = name
        self.pieces: list[str] = []


class ToolCalls:
    """The calls that are being written, by the place that the provider gives them in its message."""

    def __init__(self) -> None:
        """None yet."""
        self._open: dict[object, _Call] = {}

    def begin(self, place: object, call_id: str, name: str, *, executor: Executor | None = None) -> Iterator[Event]:
        """A call begins; one that is still open in this place is complete with that."""
        yield from self.complete(place)
        call = self._open[place] = _Call(call_id or _new_id(), name or _UNNAMED)
        yield ToolStarted(call_id=call.call_id, name=call.name, executor=executor)

    def continues(self, place: object, call_id: str, name: str) -> bool:
        """Whether a fragment belongs to the call that is open in its place.

        A fragment with a name and an id of its own begins another call: some providers number all calls alike.
        """
        call = self._open.get(place)
        return call is not None and not (name and call_id and call_id != call.call_id)

    def add(self, place: object, piece: str) -> Iterator[Event]:
        """A fragment of the arguments; left out where no call is open."""
        call = self._open.get(place)
        if call is not None and piece:
            call.pieces.append(piece)
            yield ToolArgsDelta(piece, call_id=call.call_id)

    def complete(self, place: object, arguments: str = "") -> Iterator[Event]:
        """The arguments of the call in this place are complete, if there is one.

        Args:
            place: Which call.
            arguments: All of them, of a provider that tells them as a whole too; for a call without fragments.
        """
        call = self._open.pop(place, None)
        if call is not None:
            yield written(call.call_id, call.name, "".join(call.pieces) or arguments)

    @staticmethod
    def whole(call_id: str, name: str, arguments: object) -> Iterator[Event]:
        """A call that comes at once, its arguments as a value."""
        call = _Call(call_id or _new_id(), name or _UNNAMED)
        yield ToolStarted(call_id=call.call_id, name=call.name)
        yield ToolReady(call_id=call.call_id, name=call.name, input=arguments)

    def complete_all(self) -> Iterator[Event]:
        """The arguments of all open calls are complete."""
        for place in list(self._open):
            yield from self.complete(place)


def _new_id() -> str:
    return f"call_{secrets.token_hex(12)}"
