"""JSON Web Tokens as an issuer makes them, and the rules that they are good by."""

from typing import Any

import jwt
from pydantic import SecretStr

from tailrace.chat.identity.tokens import TokenRules
from tailrace.runtime.clock import SystemClock

__all__ = ["AUDIENCE", "ISSUER", "RULES", "bearer", "claims", "now_seconds", "token"]

ISSUER, AUDIENCE = "https://issuer.example", "chat"
_SECRET = "a secret of at least thirty-two bytes"

#: With a cookie, and a clock that is never off.
RULES = TokenRules(
    algorithms=["HS256"],
    issuer=ISSUER,
    audience=AUDIENCE,
    secret=SecretStr(_SECRET),
    leeway_seconds=0,
    cookie="session",
)


def now_seconds() -> float:
    """Unix seconds."""
    return SystemClock().time_ms() / 1_000


def claims(seconds: float = 600, **others: object) -> dict[str, Any]:
    """What a token of ada's says that is good for so long."""
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "tenant": "acme", "exp": now_seconds() + seconds}
    return {**good, **others}


def token(seconds: float = 600, **others: object) -> str:
    """A token with these claims, for `RULES`."""
    return jwt.encode(claims(seconds, **others), _SECRET, "HS256")


def bearer(text: str | None = None) -> dict[str, str]:
    """The header that brings a token, by default a good one."""
    return {"authorization": f"Bearer {text or token()}"}
