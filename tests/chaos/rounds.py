"""How often and how thoroughly: the short form of the suite is part of every test run, the long one is `make chaos`.

A round is one execution of one scenario: workers start, runs begin, something is killed, frozen, cut or cancelled at
least once, every reader reads on to the end, and what each was shown is compared with the log. The short form is one
round of each scenario but those marked `long`, which others cover for the most part. With `CHAOS_ROUNDS` in the
environment it is the long form: so many rounds of each, with longer runs, longer freezes and the variants that differ
less.
"""

import os
from typing import TypeVar

__all__ = ["ROUNDS", "of_form"]

_Value = TypeVar("_Value")
_GIVEN = os.environ.get("CHAOS_ROUNDS")

#: Of each scenario.
ROUNDS = int(_GIVEN or 1)


def of_form(*, short: _Value, long: _Value) -> _Value:
    """What holds for the form that runs."""
    return long if _GIVEN else short
