"""What the tool calls of a run are called, for protocols that show little more of a call than its name."""

from tailrace import events

__all__ = ["UNNAMED_TOOL", "CallNames"]

#: A call goes by this name if nobody told its own.
UNNAMED_TOOL = "tool"


class CallNames:
    """The names of the calls so far."""

    def __init__(self) -> None:
        """No call yet."""
        self._names: dict[str | None, str] = {}

    def begun(self, event: events.ToolStarted | events.ToolReady) -> str | None:
        """The name of the call that begins with this event, `None` if it began before.

        A source that only reports complete calls begins them so; of any other the call was known when it started.
        """
        if isinstance(event, events.ToolReady) and event.call_id in self._names:
            return None
        if event.name is not None:
            self._names[event.call_id] = event.name
        return event.name

    def of(self, call_id: str | None) -> str:
        """The name of a call."""
        return self._names.get(call_id, UNNAMED_TOOL)
