"""Who asks: a JSON Web Token in the Authorization header names the tenant and the user."""

import os
import secrets
from datetime import UTC, datetime, timedelta

import jwt
import msgspec
from fastapi import HTTPException, Request
from pydantic import SecretStr

__all__ = ["DEMO", "Caller", "caller_of", "demo_token", "owner_of", "read_token"]

_ALGORITHM = "HS256"
_SECRET_BYTES = 32
_DEMO_TIME = timedelta(hours=1)
_LONGEST = 128

#: Without a secret of yours this process makes one, and tokens for whoever asks: to try it out, and nothing else.
DEMO = "JWT_SECRET" not in os.environ
_secret = os.environ.get("JWT_SECRET") or secrets.token_urlsafe(_SECRET_BYTES)
if len(_secret.encode()) < _SECRET_BYTES:
    raise SystemExit(f"JWT_SECRET has to have at least {_SECRET_BYTES} bytes (RFC 7518, section 3.2)")


class Caller(msgspec.Struct, frozen=True):
    """One user of one tenant.

    Attributes:
        tenant: The tenant.
        subject: The user, unique in the tenant.
        token: For tools that ask other services in the caller's name; it prints as stars.
    """

    tenant: str
    subject: str
    token: SecretStr

    @property
    def owner(self) -> str:
        """Both in one string, so joined that no tenant can pretend to be another."""
        return msgspec.json.encode([self.tenant, self.subject]).decode()


def read_token(token: str) -> Caller:
    """Whose token it is.

    Raises:
        jwt.InvalidTokenError: It is none of ours, or its time is over.
    """
    claims = jwt.decode(token, _secret, algorithms=[_ALGORITHM], options={"require": ["exp", "sub", "tenant"]})
    tenant, subject = claims["tenant"], claims["sub"]
    if not isinstance(tenant, str) or not 0 < len(tenant) <= _LONGEST or not 0 < len(subject) <= _LONGEST:
        raise jwt.InvalidTokenError("tenant and sub are short texts")
    return Caller(tenant, subject, SecretStr(token))


def caller_of(request: Request) -> Caller:
    """Who asks.

    Raises:
        HTTPException: 401, nobody that is known here.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        if scheme.lower() == "bearer":
            return read_token(token.strip())
    except jwt.InvalidTokenError:
        pass
    raise HTTPException(401, "A valid bearer token is needed.", {"www-authenticate": "Bearer"})


def owner_of(request: Request) -> str:
    """Whose runs these are; every run route asks it."""
    return caller_of(request).owner


def demo_token(tenant: str, user: str) -> str:
    """A token for anybody."""
    claims = {"tenant": tenant, "sub": user, "exp": datetime.now(UTC) + _DEMO_TIME}
    return jwt.encode(claims, _secret, _ALGORITHM)
