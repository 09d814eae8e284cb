"""The signatures that are accepted, and the keys that each of them can be checked with.

A key is chosen by the algorithm that was configured, never by what a token says of itself: with that, a token signed
with a public key as if it were a shared secret has nothing to be checked with.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias, cast

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

__all__ = ["PUBLIC", "SHARED", "PublicKey", "fits"]

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

#: The one whose key both sides have.
SHARED = "HS256"
#: RFC 7518, section 3.3.
_RSA_BITS = 2_048


def _is_rsa(key: object) -> bool:
    return isinstance(key, RSAPublicKey) and key.key_size >= _RSA_BITS


def _is_p256(key: object) -> bool:
    return isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)


def _is_ed25519(key: object) -> bool:
    return isinstance(key, Ed25519PublicKey)


#: Those whose key the issuer keeps: names of RFC 7518, section 3.1, and RFC 8037.
PUBLIC: Mapping[str, Callable[[object], bool]] = MappingProxyType(
    {"RS256": _is_rsa, "PS256": _is_rsa, "ES256": _is_p256, "EdDSA": _is_ed25519}
)


def fits(key: object, algorithm: str) -> PublicKey | None:
    """The key, if signatures of the algorithm can be checked with it."""
    return cast("PublicKey", key) if algorithm in PUBLIC and PUBLIC[algorithm](key) else None
