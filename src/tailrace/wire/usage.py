"""What a run has used so far: counts are cumulative, so of each model the newest is the one that holds."""

from tailrace import events

__all__ = ["Tally"]


class Tally:
    """The newest count of each (provider, model), in the order in which they came."""

    def __init__(self) -> None:
        """Nothing was used yet."""
        self._newest: dict[tuple[str | None, str | None], events.Usage] = {}

    def take(self, usage: events.Usage) -> None:
        """Count on."""
        key = (usage.provider, usage.model)
        self._newest.pop(key, None)
        self._newest[key] = usage

    @property
    def counts(self) -> list[events.Usage]:
        """One of each model, as a reduced run has them."""
        return list(self._newest.values())
