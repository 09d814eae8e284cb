"""A clock that stands still until a test moves it."""

__all__ = ["FakeClock"]


class FakeClock:
    """A `tailrace.runtime.clock.Clock` for tests: both of its times move together, and only by `advance`."""

    def __init__(self, *, time_ms: int = 1_700_000_000_000) -> None:
        """Stand at `time_ms`, Unix milliseconds; the monotonic time begins at 0."""
        self._begun_at_ms = time_ms
        self._seconds = 0.0

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass.

        Raises:
            ValueError: `seconds` is negative: monotonic time never goes back.
        """
        if seconds < 0:
            raise ValueError("time does not go back")
        self._seconds += seconds

    def time_ms(self) -> int:
        """Unix time in milliseconds."""
        return self._begun_at_ms + round(self._seconds * 1_000)

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._seconds
