"""What everybody may read of a failure."""

import pytest

from tailrace.events import RunFailed, RunInterrupted, Terminal
from tailrace.fold import reduce
from tailrace.wire.failures import failure_in, failure_of
from tests.unit.strategies import TERMINALS, numbered


@pytest.mark.parametrize("ending", TERMINALS, ids=lambda ending: type(ending).__name__)
def test_a_reduced_run_tells_the_failure_that_its_ending_tells(ending: Terminal) -> None:
    told = failure_of(ending) if isinstance(ending, RunFailed | RunInterrupted) else None

    assert failure_in(reduce(numbered([ending]))) == told


def test_a_run_that_is_not_over_has_not_failed() -> None:
    assert failure_in(reduce([])) is None
