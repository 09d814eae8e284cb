"""What a run has used: cumulative per model, summed over models."""

from tailrace.events import Usage
from tailrace.fold import sum_of
from tailrace.wire.usage import Tally


def test_of_each_model_the_newest_count_holds() -> None:
    tally = Tally()
    for usage in (Usage(model="a", input_tokens=1), Usage(model="b", input_tokens=5), Usage(model="a", input_tokens=2)):
        tally.take(usage)

    assert tally.counts == [Usage(model="b", input_tokens=5), Usage(model="a", input_tokens=2)]


def test_the_sum_has_what_anybody_counted() -> None:
    counts = [Usage(input_tokens=1, output_tokens=0), Usage(model="b", input_tokens=2, reasoning_tokens=3)]

    assert sum_of(counts) == {"input_tokens": 3, "output_tokens": 0, "reasoning_tokens": 3}
    assert sum_of([]) == {}
