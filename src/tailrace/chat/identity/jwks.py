"""The issuer's public keys, fetched from its JSON Web Key Set (RFC 7517) when they are needed.

A set is asked for again when its time is over, and when a token names a key that is not in it, as after a rotation; but
never more often than every few seconds, whatever strangers send. While the issuer gives no answer, what it said last
counts on, for a bounded time. However many requests need the keys at once, there is one fetch.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import httpx2
import jwt
import msgspec

from tailrace.chat.identity.algorithms import PublicKey, fits
from tailrace.chat.identity.errors import IdentitySetupError, KeysUnavailableError
from tailrace.chat.identity.guard import is_loopback

__all__ = ["JwksKeys", "SigningKey", "parse_keys"]

_logger = logging.getLogger("tailrace")

_MOST_BYTES: Final = 256 * 1024
_MOST_KEYS: Final = 64
#: What constructing a key of nonsense raises, beside what the library wraps.
_NO_KEY: Final = (jwt.PyJWTError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class SigningKey(msgspec.Struct, frozen=True):
    """A public key of the issuer.

    Attributes:
        kid: What tokens call it; `None` if it has no name.
        algorithm: The only one it is for; `None` is whichever it fits.
        key: The key.
    """

    kid: str | None
    algorithm: str | None
    key: PublicKey


class _Jwk(msgspec.Struct):
    """What decides whether a key is looked at: RFC 7517, section 4."""

    kty: str
    kid: str | None = None
    use: str = "sig"
    key_ops: tuple[str, ...] = ("verify",)
    alg: str | None = None


class _Jwks(msgspec.Struct):
    keys: list[dict[str, Any]]


class _FetchError(Exception):
    """The answer is no key set."""


class JwksKeys:
    """The keys behind one URL; one object per process, used from one event loop."""

    def __init__(  # noqa: PLR0913  bounds
        self,
        url: str,
        *,
        algorithms: Iterable[str],
        lifetime_seconds: float = 300,
        pause_seconds: float = 10,
        kept_seconds: float = 24 * 3_600,
        timeout_seconds: float = 5,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Describe it; nothing is fetched before the first token.

        Args:
            url: Of the key set; redirects are not followed.
            algorithms: Of the signatures; keys that none of them uses are ignored.
            lifetime_seconds: How long a set is used before it is asked for again.
            pause_seconds: The shortest time between two fetches.
            kept_seconds: How long the last set counts while the issuer gives no good answer.
            timeout_seconds: Bound on one fetch, and so on how long a request waits for it.
            monotonic: Seconds that never go back.

        Raises:
            IdentitySetupError: The URL is none, or keys that it leads to could be anybody's.
        """
        self._url = _checked(url)
        self._algorithms = tuple(algorithms)
        self._lifetime_seconds = lifetime_seconds
        self._pause_seconds = pause_seconds
        self._kept_seconds = kept_seconds
        self._timeout_seconds = timeout_seconds
        self._monotonic = monotonic
        # Made here, because it reads the machine's certificates, and a running event loop should not wait for that.
        self._client = httpx2.AsyncClient(timeout=timeout_seconds, follow_redirects=False)
        self._keys: list[SigningKey] = []
        self._fetched_at = 0.0
        self._fetch_from = -1.0
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """The key that a token names, or the only one there is for its algorithm if it names none.

        Raises:
            KeysUnavailableError: No keys are known, or they are too old to be believed.
        """
        if not self._keys or self._age() > self._lifetime_seconds:
            await self._refresh()
        key = self._pick(kid, algorithm)
        if key is None:
            await self._refresh()
            key = self._pick(kid, algorithm)
        if not self._keys or self._age() > self._kept_seconds:
            raise KeysUnavailableError(max(1.0, self._fetch_from - self._monotonic()))
        return key

    async def aclose(self) -> None:
        """Let go of the connection."""
        if self._fetching is not None and not self._fetching.done():
            self._fetching.cancel()
            await asyncio.wait({self._fetching})
        await self._client.aclose()

    def _age(self) -> float:
        return self._monotonic() - self._fetched_at

    def _pick(self, kid: str | None, algorithm: str) -> PublicKey | None:
        fitting = [
            key.key
            for key in self._keys
            if key.algorithm in {None, algorithm} and kid in {None, key.kid} and fits(key.key, algorithm)
        ]
        return fitting[0] if fitting and (kid is not None or len(fitting) == 1) else None

    async def _refresh(self) -> None:
        """Ask the issuer, or wait for the answer that is under way; nothing if it was asked just before."""
        if self._fetching is None or self._fetching.done():
            now = self._monotonic()
            if now < self._fetch_from:
                return
            self._fetch_from = now + self._pause_seconds
            self._fetching = asyncio.get_running_loop().create_task(self._fetch(), name="tailrace-jwks")
        # Whoever leaves does not take the fetch from the others.
        await asyncio.wait({self._fetching})

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                body = await self._download()
            keys = parse_keys(body, self._algorithms)
        except Exception as error:  # noqa: BLE001  whatever it is, the last keys count on
            _logger.warning("no signing keys from %s: %s: %s", self._url.host, type(error).__name__, error)
            return
        if not keys:
            _logger.warning("no signing keys from %s: there are none for the accepted algorithms", self._url.host)
            return
        self._keys = keys
        self._fetched_at = self._monotonic()

    async def _download(self) -> bytes:
        """The body of the answer.

        Raises:
            HTTPError: There is none.
            _FetchError: It is another answer than a key set is.
        """
        body = bytearray()
        async with self._client.stream("GET", self._url, headers={"accept": "application/json"}) as response:
            if response.status_code != 200:
                raise _FetchError(f"status {response.status_code}")
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise _FetchError(f"more than {_MOST_BYTES} bytes")
        return bytes(body)


def parse_keys(body: bytes, algorithms: Iterable[str]) -> list[SigningKey]:
    """The keys of a set that check signatures of the algorithms; all others are ignored.

    Raises:
        ValidationError: It is no key set.
        DecodeError: It is no JSON.
    """
    algorithms = tuple(algorithms)
    found: list[SigningKey] = []
    for members in msgspec.json.decode(body, type=_Jwks).keys[:_MOST_KEYS]:
        try:
            jwk = msgspec.convert(members, _Jwk)
        except msgspec.ValidationError:
            continue
        if jwk.use != "sig" or "verify" not in jwk.key_ops or jwk.alg not in {None, *algorithms}:
            continue
        try:
            key = jwt.PyJWK.from_dict(members).key
        except _NO_KEY:
            continue
        public = next((fitting for algorithm in algorithms if (fitting := fits(key, algorithm))), None)
        if public is not None:
            found.append(SigningKey(jwk.kid, jwk.alg, public))
    return found


def _checked(url: str) -> httpx2.URL:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise IdentitySetupError(f"the URL of the key set is none: {error}") from None
    if parsed.userinfo:
        raise IdentitySetupError("the URL of the key set has a password in it")
    if parsed.scheme != "https" and not (parsed.scheme == "http" and is_loopback(parsed.host)):
        raise IdentitySetupError("the URL of the key set does not begin with https://")
    return parsed
