"""The figures of the chaos suite: what the rounds of each scenario noted, as a table at the end of the test run."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Figures", "scenario_of"]

#: What has a column; everything else that was noted stands behind the scenario's name.
_COLUMNS = ("events", "shown", "resumes", "lost", "duplicated", "after the end", "faults", "seconds to interrupted")
_ROUND = re.compile(r"-?round\d+")


class Figures:
    """Numbers by scenario and name. Those of a name that begins with `seconds` are a range, others are added up."""

    def __init__(self) -> None:
        """Begin with none."""
        self._values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def note(self, scenario: str, name: str, value: float) -> None:
        """One more number."""
        self._values[scenario][name].append(value)

    def table(self, passed: Iterable[str], failed: Iterable[str]) -> Iterator[str]:
        """The lines of the table, one for each scenario and one for all; a scenario counts once for each round."""
        good, bad = Counter(passed), Counter(failed)
        scenarios = sorted(good.keys() | bad.keys())
        names = ("rounds", "failed", *_COLUMNS)
        yield "  ".join((*names, "scenario"))
        total = defaultdict[str, list[float]](list)
        for scenario in scenarios:
            rounds: dict[str, list[float]] = {"rounds": [good[scenario] + bad[scenario]], "failed": [bad[scenario]]}
            values = rounds | self._values[scenario]
            for name, of_name in values.items():
                total[name] += of_name
            yield _line(names, values, scenario)
        yield _line(names, {name: total[name] for name in names}, f"all {len(scenarios)}")


def _line(names: Iterable[str], values: Mapping[str, list[float]], scenario: str) -> str:
    cells = [_told(name, values.get(name, [])).rjust(len(name)) for name in names]
    others = [f"{name} {_told(name, of_name)}" for name, of_name in sorted(values.items()) if name not in names]
    return "  ".join((*cells, f"{scenario} ({', '.join(others)})" if others else scenario))


def _told(name: str, values: list[float]) -> str:
    if not values:
        return "-"
    if name.startswith("seconds"):
        return f"{min(values):.2f}-{max(values):.2f}"
    return f"{sum(values):.0f}"


def scenario_of(node_id: str) -> str:
    """The test as a sentence, with its parameters and without its round."""
    name, _, parameters = node_id.rpartition("::")[2].removesuffix("]").partition("[")
    parameters = _ROUND.sub("", parameters).strip("-")
    sentence = name.removeprefix("test_").replace("_", " ")
    return f"{sentence} [{parameters}]" if parameters else sentence
