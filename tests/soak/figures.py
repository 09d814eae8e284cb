"""What was seen during a soak, as numbers: samples, how fast something grows, and the table at the end."""

import statistics
from collections.abc import Mapping, Sequence

__all__ = ["MIB", "Sample", "Samples", "growth_per_minute"]

MIB = 1024**2

#: Numbers by their names.
Sample = Mapping[str, float]


class Samples:
    """Everything that was looked at again and again, at one place.

    Attributes:
        name: Of the place.
    """

    def __init__(self, name: str) -> None:
        """Nothing was seen yet."""
        self.name = name
        self._at_seconds: list[float] = []
        self._samples: list[Sample] = []

    def add(self, at_seconds: float, sample: Sample) -> None:
        """Note what was seen at a time."""
        self._at_seconds.append(at_seconds)
        self._samples.append(sample)

    def growth_per_minute(self, what: str) -> float:
        """How fast something grew in the second half, when everything had been done many times before."""
        half = len(self._samples) // 2
        return growth_per_minute(self._at_seconds[half:], self._values(what)[half:])

    def halves(self, what: str) -> tuple[float, float]:
        """The median of something in the first half, and in the second one."""
        values = self._values(what)
        half = len(values) // 2
        return statistics.median(values[:half]), statistics.median(values[half:])

    def lines(self, base: Sample, end: Sample) -> list[str]:
        """The table: each number before the load, during it, and after it."""
        lines = [f"{self.name:24}{'before':>10}{'median':>10}{'most':>10}{'after':>10}{'growth/min':>12}"]
        for what in self._samples[0]:
            values = self._values(what)
            numbers = [base[what], statistics.median(values), max(values), end[what]]
            columns = "".join(f"{_told(what, number):>10}" for number in numbers)
            lines.append(f"  {what:22}{columns}{_told(what, self.growth_per_minute(what)):>12}")
        return lines

    def _values(self, what: str) -> list[float]:
        return [sample[what] for sample in self._samples]


def growth_per_minute(at_seconds: Sequence[float], values: Sequence[float]) -> float:
    """By how much it grew in a minute, or in half of a shorter time: the median of all such spans.

    An allocator takes memory in steps, and one step in a few minutes tilts a line through all points as a leak does.
    It is in few of the spans; what grows all the time is in every one.
    """
    points = list(zip(at_seconds, values, strict=True))
    span_seconds = min(60.0, (at_seconds[-1] - at_seconds[0]) / 2)
    slopes: list[float] = []
    for number, (begin, before) in enumerate(points):
        later = next((point for point in points[number + 1 :] if point[0] >= begin + span_seconds), None)
        if later is not None:
            slopes.append((later[1] - before) / (later[0] - begin) * 60)
    return statistics.median(slopes) if slopes else 0.0


def _told(what: str, number: float) -> str:
    if what.endswith("MiB"):
        return f"{number:.2f}"
    return f"{number:.0f}" if float(number).is_integer() else f"{number:.1f}"
