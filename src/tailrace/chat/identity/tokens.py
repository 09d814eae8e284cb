"""JSON Web Tokens as proof of who asks: a bearer token (RFC 6750), or the same token in a cookie.

What is accepted is configured, and nothing of it is taken from the token: its algorithms, the key, issuer and audience.
See RFC 8725 for what happens elsewhere.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, TypeAlias, TypeGuard

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import SecretStr
from starlette.requests import Request

from tailrace.chat.identity.algorithms import PUBLIC, SHARED, PublicKey, fits
from tailrace.chat.identity.contract import Identity, identity_of, remember
from tailrace.chat.identity.errors import (
    ForbiddenError,
    IdentitySetupError,
    TokenInvalidError,
    UnauthenticatedError,
)
from tailrace.chat.identity.guard import Origins, check_same_site
from tailrace.chat.identity.jwks import JwksKeys
from tailrace.web.owners import IdentityExpiredError, expires

__all__ = ["TokenRules", "Tokens"]

_Key: TypeAlias = bytes | PublicKey

#: RFC 7518, section 3.2.
_SECRET_BYTES: Final = 32
_LONGEST_TOKEN: Final = 8 * 1024
_LONGEST_NAME: Final = 128
#: RFC 6750, section 2.1.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
_COOKIE_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
#: What the library raises at tokens that nobody would make, beside its own errors.
_NO_TOKEN: Final = (jwt.PyJWTError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError)


class TokenRules(msgspec.Struct, frozen=True, kw_only=True):
    """Which tokens are accepted. Exactly one of `secret`, `public_key` and `jwks_url` is given.

    Attributes:
        algorithms: `HS256`, which needs the secret, or some of `RS256`, `PS256`, `ES256` and `EdDSA`, which do not.
        issuer: The only accepted `iss`.
        audience: Who the tokens are for: what `aud` is, or has among others.
        secret: For `HS256`: at least 32 bytes that only issuer and server know.
        public_key: The issuer's key, as PEM.
        jwks_url: Where the issuer's keys are found.
        tenant_claim: The claim that names the tenant: a text, never a number.
        subject_claim: The claim that names the user, likewise.
        leeway_seconds: How far the issuer's clock may be off. A token holds so much longer than it says.
        cookie: The name of the cookie that may bring a token instead of the `Authorization` header.
    """

    algorithms: Sequence[str]
    issuer: str
    audience: str
    secret: SecretStr | None = None
    public_key: str | None = None
    jwks_url: str | None = None
    tenant_claim: str = "tenant"
    subject_claim: str = "sub"
    leeway_seconds: float = 5
    cookie: str | None = None

    def __post_init__(self) -> None:
        """Refuse what would let in anybody, or nobody.

        Raises:
            IdentitySetupError: It would.
        """
        shared = list(self.algorithms) == [SHARED]
        keys = [key for key in (self.secret, self.public_key, self.jwks_url) if key]
        if len(keys) != 1:
            raise IdentitySetupError("tokens are checked with a secret, a public key or a key set: give one of them")
        if shared != bool(self.secret):
            raise IdentitySetupError("HS256 and a secret go together, and with nothing else")
        if not shared and (not self.algorithms or not PUBLIC.keys() >= set(self.algorithms)):
            raise IdentitySetupError(f"the algorithms are HS256, or some of {', '.join(PUBLIC)}")
        if self.secret and len(self.secret.get_secret_value().encode()) < _SECRET_BYTES:
            raise IdentitySetupError(f"the secret has to have at least {_SECRET_BYTES} bytes (RFC 7518, section 3.2)")
        if not (self.issuer and self.audience and self.tenant_claim and self.subject_claim):
            raise IdentitySetupError("issuer, audience and the names of the claims cannot be empty")
        if not 0 <= self.leeway_seconds <= 300:
            raise IdentitySetupError("the leeway is between 0 and 300 seconds")
        if self.cookie is not None and not _COOKIE_NAME.fullmatch(self.cookie):
            raise IdentitySetupError(f"{self.cookie!r} is no name of a cookie")


class Tokens:
    """Finds out who asks by the token of a request. One object per process; close it at the end."""

    def __init__(self, rules: TokenRules, *, origins: Origins | None = None, keys: JwksKeys | None = None) -> None:
        """Take the rules.

        Args:
            rules: Which tokens are accepted.
            origins: Other sites whose pages may change something with a cookie.
            keys: The issuer's keys; by default those at the rules' URL.

        Raises:
            IdentitySetupError: The public key is none for these algorithms, or the URL cannot be used.
        """
        self._rules = rules
        self._origins = origins or Origins()
        self._key: _Key | None = None
        self._keys = keys
        if rules.secret is not None:
            self._key = rules.secret.get_secret_value().encode()
        elif rules.public_key is not None:
            self._key = _loaded(rules.public_key, rules.algorithms)
        elif keys is None and rules.jwks_url is not None:
            self._keys = JwksKeys(rules.jwks_url, algorithms=rules.algorithms)

    async def open(self) -> None:
        """There is nothing to connect to before the first token."""

    async def aclose(self) -> None:
        """Let go of the connection to the issuer."""
        if self._keys is not None:
            await self._keys.aclose()

    async def identify(self, request: Request) -> Identity:
        """Who asks. It is found out once per request, and holds for the request's streams until the token expires.

        Raises:
            UnauthenticatedError: There is no token.
            IdentityExpiredError: It is too old.
            TokenInvalidError: It is not valid here.
            ForbiddenError: It names no tenant.
            CrossSiteError: It came in a cookie, with a change that a page of another site asked for.
            KeysUnavailableError: It cannot be checked now.
        """
        known = identity_of(request)
        if known is not None:
            return known
        token = _bearer(request)
        if token is None:
            token = self._cookie(request)
            check_same_site(request, self._origins)
        identity = await self.read(token)
        if identity.expires_at is not None:
            expires(request, identity.expires_at)
        remember(request, identity)
        return identity

    async def read(self, token: str) -> Identity:
        """Whose token it is.

        Raises:
            IdentityExpiredError: It is too old.
            TokenInvalidError: It is not valid here.
            ForbiddenError: It names no tenant.
            KeysUnavailableError: It cannot be checked now.
        """
        if len(token) > _LONGEST_TOKEN or not _TOKEN.fullmatch(token):
            raise TokenInvalidError
        try:
            header = jwt.get_unverified_header(token)
        except _NO_TOKEN:
            raise TokenInvalidError from None
        algorithm = header.get("alg")
        # No extension of RFC 7515, section 4.1.11, is understood here.
        if not isinstance(algorithm, str) or algorithm not in self._rules.algorithms or "crit" in header:
            raise TokenInvalidError
        key = self._key if self._keys is None else await self._keys.find(header.get("kid"), algorithm)
        if key is None:
            raise TokenInvalidError
        return self._identity(token, *self._claims(token, key, algorithm))

    def _claims(self, token: str, key: _Key, algorithm: str) -> tuple[dict[str, Any], float]:
        """What the token claims, and until when, in Unix seconds.

        Raises:
            IdentityExpiredError: It is too old.
            TokenInvalidError: It is not valid here.
        """
        rules = self._rules
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=rules.audience,
                issuer=rules.issuer,
                leeway=rules.leeway_seconds,
                options={"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
            )
            expiry = claims["exp"]
            if isinstance(expiry, bool) or not isinstance(expiry, int | float):
                raise TokenInvalidError
            return claims, float(expiry) + rules.leeway_seconds
        except jwt.ExpiredSignatureError:
            raise IdentityExpiredError from None
        except _NO_TOKEN:
            raise TokenInvalidError from None

    def _identity(self, token: str, claims: dict[str, Any], expires_at: float) -> Identity:
        subject = claims.get(self._rules.subject_claim)
        if not _is_name(subject):
            raise TokenInvalidError
        tenant = claims.get(self._rules.tenant_claim)
        if not _is_name(tenant):
            raise ForbiddenError
        return Identity(tenant=tenant, subject=subject, token=SecretStr(token), expires_at=expires_at)

    def _cookie(self, request: Request) -> str:
        """The token in the cookie.

        Raises:
            UnauthenticatedError: There is none.
            TokenInvalidError: There are several, so somebody has added one.
        """
        name = self._rules.cookie
        pairs = (pair.strip().partition("=") for line in request.headers.getlist("cookie") for pair in line.split(";"))
        tokens = [value for key, _, value in pairs if key == name]
        if not tokens:
            raise UnauthenticatedError
        if len(tokens) > 1:
            raise TokenInvalidError
        return tokens[0].strip('"')


def _bearer(request: Request) -> str | None:
    """The token in the `Authorization` header; `None` if there is no such header, or it is of another scheme.

    Raises:
        TokenInvalidError: There are several credentials.
    """
    values = request.headers.getlist("authorization")
    if len(values) > 1:
        raise TokenInvalidError
    scheme, _, token = values[0].strip().partition(" ") if values else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else None


def _is_name(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and value.isprintable()


def _loaded(pem: str, algorithms: Sequence[str]) -> PublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise IdentitySetupError("the public key is no PEM of one") from None
    public = None
    for algorithm in algorithms:
        public = fits(key, algorithm)
        if public is None:
            raise IdentitySetupError(f"the public key is none for {algorithm}, or too short")
    if public is None:
        raise IdentitySetupError("there is no algorithm")
    return public
