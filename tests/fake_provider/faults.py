"""What can go wrong with a stream: other frames than were meant, and another end."""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple, TypeAlias

from tests.fake_provider.contract import Frame, ProviderProtocol
from tests.fake_provider.script import Fault

__all__ = ["Broken", "End", "break_frames"]

#: Of the body: as it should be, the connection dropped without it, or never.
End: TypeAlias = Literal["clean", "dropped", "never"]

_Breaking: TypeAlias = Callable[[Sequence[Frame], Sequence[Frame], ProviderProtocol], list[Frame]]

_WORKS: Mapping[Fault, _Breaking] = {
    # The provider's own error event ends the stream.
    "error": lambda before, _, protocol: [*before, Frame(protocol.error_frame)],
    # The connection is dropped.
    "close": lambda before, _after, _protocol: [*before],
    # Half of what comes next, then a clean end.
    "cut": lambda before, after, _: [*before, Frame(after[0].data[: len(after[0].data) // 2])],
    # A clean end where no answer ends.
    "truncate": lambda before, _after, _protocol: [*before],
    # Nothing more, but the connection stays.
    "stall": lambda before, _after, _protocol: [*before],
    # A line that is not JSON; all else as it should be.
    "garbage": lambda before, after, protocol: [*before, Frame(protocol.garbage), *after],
    # Only the terminal marker is missing.
    "nodone": lambda before, after, _: [frame for frame in (*before, *after) if frame.mark != "terminal"],
    # Status 200 and no body.
    "empty": lambda _before, _after, _protocol: [],
}
_ENDS: Mapping[Fault, End] = {"close": "dropped", "stall": "never"}


class Broken(NamedTuple):
    """The frames that are sent, and how the body ends."""

    frames: list[Frame]
    end: End


def break_frames(frames: Sequence[Frame], fault: Fault, at: int, protocol: ProviderProtocol) -> Broken:
    """Let a fault come after `at` tokens, or where the answer would end if it has no more."""
    place = _place(frames, at)
    return Broken(_WORKS[fault](frames[:place], frames[place:], protocol), _ENDS.get(fault, "clean"))


def _place(frames: Sequence[Frame], at: int) -> int:
    """Every stream has a marked frame."""
    sent = accumulate((frame.tokens for frame in frames), initial=0)
    places = enumerate(zip(frames, sent, strict=False))
    return next(place for place, (frame, tokens) in places if frame.mark or (frame.tokens and tokens >= at))
