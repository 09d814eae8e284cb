"""Cursors: where a reader stands in a run, as carried by the SSE `id` field and sent back in `Last-Event-ID`.

Three facts, two forms. `7` means "has seen event 7". `7.2` means "has seen event 7 and two frames of event 8": some
dialects write several frames for one event, and a cut between them must resume exactly. Where the URL does not name
the run, the id does: `<run_id>:7`. Every form is read everywhere.
"""

import re

import msgspec

from tailrace.errors import CursorInvalidError

__all__ = ["RUN_ID_PATTERN", "START", "Cursor"]

#: What a run id looks like anywhere: in a URL, in an SSE id, in a store's key.
RUN_ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"

# Fifteen digits stay below 2**53, so a browser counts them exactly.
_CURSOR = re.compile(rf"(?:({RUN_ID_PATTERN}):)?([0-9]{{1,15}})(?:\.([0-9]{{1,6}}))?", re.ASCII)


class Cursor(msgspec.Struct, frozen=True):
    """The last event a reader has seen whole.

    Attributes:
        seq: Number of that event, 0 if there is none.
        frames: How many frames of the event after it were seen too.
        run_id: The run, if the id names it.
    """

    seq: int = 0
    frames: int = 0
    run_id: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Read an SSE id, as found in `Last-Event-ID` or `?after=`.

        Raises:
            CursorInvalidError: The text is in none of the forms.
        """
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise CursorInvalidError(text)
        run_id, seq, frames = match.groups()
        return cls(int(seq), int(frames or 0), run_id)

    def __str__(self) -> str:
        position = f"{self.seq}.{self.frames}" if self.frames else str(self.seq)
        return f"{self.run_id}:{position}" if self.run_id else position


#: Where a reader stands that has seen nothing.
START = Cursor()
