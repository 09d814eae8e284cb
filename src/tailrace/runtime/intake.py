"""What a source yields, on its way into the log: text and events at once, chunks as their adapter reads them."""

import msgspec

from tailrace.adapters.failures import code_of, failure_of, truncated
from tailrace.adapters.recognition import Completions
from tailrace.events import TERMINALS, Event, Terminal, TextDelta, ToolError, ToolOutput
from tailrace.runtime.producer import Producer
from tailrace.runtime.source import check_event, is_frame, to_event

__all__ = ["Intake"]

#: What is more than one more event: it ends the run, or answers a call in which it would have ended.
_NOTABLE = frozenset({*TERMINALS, ToolOutput, ToolError})


class Intake:
    """Takes the items of one source; stepped by one thread at a time, as the source is."""

    def __init__(self, producer: Producer) -> None:
        """Take nothing yet."""
        self._add = producer.take
        self._completions = Completions()

    def take(self, item: object) -> Terminal | None:
        """Add what an item says.

        Returns:
            The terminal event, if that is what it says; it is not added.

        Raises:
            SourceInvalidError: It is no event, and no chunk that is known.
            RunClosedError: The run has ended.
            RunLimitError: The run reached its bound.
            EventInvalidError: The event has no JSON form.
        """
        # Nearly every item is text, or an event of an adapter's.
        if isinstance(item, str):
            if item:
                # Frameworks have text of classes of their own, which is not text in JSON.
                self._add(TextDelta(str(item)))
            return None
        if isinstance(item, msgspec.Struct):
            return self._take(check_event(item))
        if not is_frame(item) and (events := self._completions.read(item)) is not None:
            return self._take_all(events)
        event = to_event(item)
        return None if event is None else self._take(event)

    def end(self) -> Terminal | None:
        """The source has come to its end: its last completion has to be complete, and says how."""
        terminal = self._take_all(self._completions.close())
        return terminal or (truncated() if self._completions.broken else self._completions.ending)

    def failed(self, error: Exception) -> Terminal | None:
        """The ending, if the source raised because the completion failed whose chunks it was yielding."""
        self._take_all(self._completions.close())
        return failure_of(error) if self._completions.broken and code_of(error) is not None else None

    def _take(self, event: Event) -> Terminal | None:
        if type(event) in _NOTABLE:
            if isinstance(event, TERMINALS):
                return event
            self._completions.answered = True
        self._add(event)
        return None

    def _take_all(self, events: list[Event]) -> Terminal | None:
        for event in events:
            if isinstance(event, TERMINALS):
                return event
            self._add(event)
        return None
