"""Who asks: users of tenants, with tokens as an issuer would make them."""

from collections.abc import Mapping
from datetime import UTC, datetime

import jwt
import msgspec

__all__ = ["AUDIENCE", "ISSUER", "SECRET", "User", "bearer", "in_seconds", "signed"]

SECRET = "a secret of at least thirty-two bytes"
ISSUER = "https://issuer.example"
AUDIENCE = "tailrace-chat"
_LASTS_SECONDS = 3600


class User(msgspec.Struct, frozen=True):
    """A user; the same name is another user in another tenant."""

    tenant: str
    name: str

    def token(self, *, seconds: float = _LASTS_SECONDS, **others: object) -> str:
        """A token that holds so long; `others` are claims instead of the right ones."""
        return signed({"sub": self.name, "tenant": self.tenant, **others}, seconds=seconds)

    @property
    def headers(self) -> dict[str, str]:
        """With which its requests are its own."""
        return bearer(self.token())


def signed(
    claims: Mapping[str, object],
    *,
    seconds: float = _LASTS_SECONDS,
    algorithm: str = "HS256",
    secret: str = SECRET,
) -> str:
    """A token as the issuer signs one; a claim that is `None` is left out."""
    right = {"iss": ISSUER, "aud": AUDIENCE, "exp": in_seconds(seconds)}
    said = {name: value for name, value in {**right, **claims}.items() if value is not None}
    return jwt.encode(said, secret, algorithm)


def in_seconds(seconds: float) -> float:
    """The time then, as tokens tell it."""
    return datetime.now(UTC).timestamp() + seconds


def bearer(token: str) -> dict[str, str]:
    """The header with a token."""
    return {"authorization": f"Bearer {token}"}
