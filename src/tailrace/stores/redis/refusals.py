"""What Redis answers instead of what was asked for, as the errors of the store contract."""

import re

from redis.exceptions import (
    AskError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from tailrace.errors import FencedError, GapError, RunNotFoundError, StoreError, StoreUnavailableError

__all__ = ["is_passing", "refusal"]

#: redis-py cuts the first word off where it has a class for it.
_PASSING_CLASSES = (
    AskError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
#: The others by their first word; Redis 6 has it in the middle of a sentence if the refusal came inside a script.
_PASSING_WORDS = re.compile(
    r"\b(?:BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|NOPERM|NOREPLICAS|OOM|READONLY|TRYAGAIN|UNBLOCKED|UNKILLABLE)\b"
)
_SHOWN_CHARACTERS = 200


def is_passing(error: ResponseError) -> bool:
    """Whether the server cannot do it now: it is loading, full, a replica, without permission, or somewhere else."""
    return isinstance(error, _PASSING_CLASSES) or _PASSING_WORDS.search(str(error)) is not None


def refusal(error: ResponseError, *, run_id: str, key: bytes) -> StoreError:
    """The error that stands for Redis's.

    Args:
        error: What Redis said.
        run_id: The run that was asked for.
        key: A key that was touched, so that whoever has to repair it finds it.
    """
    text = str(error)
    word, _, rest = text.partition(" ")
    match word:
        case "NORUN":
            return RunNotFoundError(run_id)
        case "FENCED":
            return FencedError(run_id)
        case "GAP":
            return GapError(int(rest))
        case _:
            pass
    shown = text[:_SHOWN_CHARACTERS]
    if is_passing(error):
        return StoreUnavailableError(shown)
    name = key.decode(errors="replace")
    if "WRONGTYPE" in text:
        return StoreError(f"the Redis key {name} or one beside it is another application's: use another prefix")
    return StoreError(f"Redis refused to work on the key {name}: {shown}")
