"""What Redis answers instead of what was asked for, as the errors of the store contract."""

import re
from typing import NamedTuple

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from tailrace.errors import RunNotFoundError, StoreError, StoreUnavailableError
from tailrace.stores.redis.command import Command, key_of

__all__ = ["Redirect", "error_of", "is_moving", "is_passing", "redirect_of"]

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
_REDIRECT = re.compile(r"(MOVED|ASK) (\d+) (.*):(\d+)")
_SHOWN_CHARACTERS = 200


class Redirect(NamedTuple):
    """Where a node of a cluster sends us; for good if the slot has `moved`, otherwise for this once."""

    slot: int
    host: str
    port: int
    moved: bool


def redirect_of(reply: object) -> Redirect | None:
    """The redirect that a reply is, if it is one."""
    text = str(reply)
    # Older versions of redis-py have no class for it outside of their cluster client.
    if isinstance(reply, AskError):
        text = f"{'MOVED' if isinstance(reply, MovedError) else 'ASK'} {text}"
    match = _REDIRECT.fullmatch(text) if isinstance(reply, ResponseError) else None
    if match is None:
        return None
    word, slot, host, port = match.groups()
    return Redirect(int(slot), host, int(port), word == "MOVED")


def is_moving(reply: object) -> bool:
    """Whether a node of a cluster has not got the key, or not all keys of a script, as their slot is on its way."""
    return isinstance(reply, TryAgainError) or redirect_of(reply) is not None


def is_passing(error: Exception) -> bool:
    """Whether the server cannot do it now: it is loading, full, a replica, without permission, or somewhere else."""
    return isinstance(error, _PASSING_CLASSES) or _PASSING_WORDS.search(str(error)) is not None


def error_of(reply: Exception, command: Command, run_id: str) -> StoreError:
    """The error that stands for what came instead of a reply to `command`, which asked for something of `run_id`."""
    if isinstance(reply, StoreError):
        return reply
    if str(reply).startswith("NORUN"):
        return RunNotFoundError(run_id)
    return _failure(reply, key_of(command).decode(errors="replace"))


def _failure(reply: Exception, key: str) -> StoreError:
    if redirect_of(reply) is not None:
        return StoreUnavailableError("the nodes of the cluster do not agree where the key is")
    text = str(reply)[:_SHOWN_CHARACTERS]
    if is_passing(reply):
        return StoreUnavailableError(text)
    if "WRONGTYPE" in text:
        return StoreError(f"the Redis key {key}, or one beside it, is another application's: use another prefix")
    return StoreError(f"Redis refused to work on the key {key}: {text}")
