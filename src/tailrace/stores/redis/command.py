"""Commands and replies as they are on the wire."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

import hiredis

__all__ = ["Command", "Reply", "key_of", "pack"]

#: Its words.
Command: TypeAlias = tuple[bytes, ...]
#: As Redis said it: bytes, integers, lists of them or `None`; or the error that stands for it, never raised.
Reply: TypeAlias = Any

#: A command as Redis reads it. The stub of hiredis speaks of commands of one word.
pack = cast("Callable[[Command], bytes]", vars(hiredis)["pack_command"])

_SCRIPT_WORDS: Final = frozenset({b"EVALSHA", b"EVAL"})


def key_of(command: Command) -> bytes:
    """The key that a command is about, or the first of them; they are all on one node."""
    return command[3] if command[0] in _SCRIPT_WORDS else command[1]
