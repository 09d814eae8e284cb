"""What a run has used so far: counts are cumulative, so of each model the newest is the one that holds."""

from collections.abc import Iterable

from tailrace import events

__all__ = ["TOKEN_COUNTS", "Tally", "sum_of"]

#: The fields of a `usage` that count tokens.
TOKEN_COUNTS = (
    "input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
)


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


def sum_of(counts: Iterable[events.Usage]) -> dict[str, int]:
    """The tokens of all models together, by `TOKEN_COUNTS`; what nobody counted is not there."""
    sums: dict[str, int] = {}
    for usage in counts:
        for name in TOKEN_COUNTS:
            count: int | None = getattr(usage, name)
            if count is not None:
                sums[name] = sums.get(name, 0) + count
    return sums
