"""Run ids: 128 random bits, or derived from a key so that a repeated start finds the run of the first.

An id that a client chose never becomes a run id: it is hashed with the owner and a secret, so nobody can guess, squat
or reach another's run by choosing well. Without owners the key is all that protects the run, so it must be long.
"""

import base64
import hashlib
import hmac
import re
import secrets

import msgspec

from tailrace.errors import KeyInvalidError
from tailrace.wire.cursor import RUN_ID_PATTERN

__all__ = ["check_run_id", "derive_run_id", "fingerprint_of", "new_run_id"]

_LONGEST_KEY = 256
_SHORTEST_UNOWNED_KEY = 20
_RUN_ID = re.compile(RUN_ID_PATTERN, re.ASCII)


def new_run_id() -> str:
    """A fresh id that cannot be guessed: 26 characters of `a-z2-7`."""
    return _base32(secrets.token_bytes(16))


def derive_run_id(secret: bytes, *, owner: str | None, kind: str, key: str) -> str:
    """The id of the run that this owner's key of this kind stands for.

    Raises:
        KeyInvalidError: The key is empty, too long, or, without an owner, too short to be a secret.
    """
    if not key or len(key) > _LONGEST_KEY:
        raise KeyInvalidError(f"a key has 1 to {_LONGEST_KEY} characters")
    if owner is None and len(key) < _SHORTEST_UNOWNED_KEY:
        raise KeyInvalidError(f"without an owner a key needs at least {_SHORTEST_UNOWNED_KEY} characters")
    # JSON keeps the parts apart whatever they contain, and an absent owner apart from an empty one.
    try:
        message = msgspec.json.encode([owner, kind, key])
    except UnicodeEncodeError as error:
        raise KeyInvalidError("a key is text without lone surrogates") from error
    return _base32(hmac.new(secret, message, hashlib.sha256).digest()[:16])


def check_run_id(run_id: str) -> str:
    """The id, if it may serve as one.

    Raises:
        KeyInvalidError: It is shorter than 20 characters, or has other characters than `A-Za-z0-9_-`.
    """
    if len(run_id) < _SHORTEST_UNOWNED_KEY or _RUN_ID.fullmatch(run_id) is None:
        raise KeyInvalidError("a run id has 20 to 64 characters of A-Z, a-z, 0-9, '_' and '-'")
    return run_id


def fingerprint_of(value: object) -> bytes:
    """What tells two requests with the same key apart; `value` is anything msgspec encodes, `None` means nothing.

    Raises:
        KeyInvalidError: The value cannot be encoded.
    """
    if value is None:
        return b""
    try:
        return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).digest()
    except (TypeError, ValueError, RecursionError) as error:
        raise KeyInvalidError(f"the fingerprint cannot be encoded: {error}") from error


def _base32(digest: bytes) -> str:
    return base64.b32encode(digest).decode().rstrip("=").lower()
