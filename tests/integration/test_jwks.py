"""An issuer's keys over real HTTP: cached, rotated, and missed, by however many at once."""

import asyncio
import gzip
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from tailrace.chat.identity.errors import KeysUnavailableError, TokenInvalidError
from tailrace.chat.identity.jwks import JwksKeys
from tailrace.chat.identity.tokens import TokenRules, Tokens
from tailrace.testing import FakeClock
from tests.integration.support.client import BOUND_SECONDS
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate
from tests.integration.support.tokens import AUDIENCE, ISSUER, claims

BOMB = gzip.compress(b" " * 5_000_000)
LIFETIME_SECONDS, PAUSE_SECONDS, KEPT_SECONDS = 300.0, 10.0, 3_600.0


class Issuer:
    """Signs tokens, and answers for its keys as a test wants it to.

    Attributes:
        fetches: How often it was asked.
        answer: What it says instead of its keys.
    """

    def __init__(self) -> None:
        self.fetches = 0
        self.answer: Callable[[], Response] | None = None
        self.gate: Gate | None = None
        self._keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.app = Starlette(routes=[Route("/keys", self._show), Route("/moved", self._show)])

    def rotate(self, kid: str) -> None:
        self._keys = {kid: ec.generate_private_key(ec.SECP256R1())}

    def token(self, kid: str) -> str:
        key = self._keys.get(kid) or ec.generate_private_key(ec.SECP256R1())
        return jwt.encode(claims(), key, "ES256", {"kid": kid})

    async def _show(self, _: Request) -> Response:
        self.fetches += 1
        if self.gate is not None:
            await self.gate.passed()
        return self.answer() if self.answer is not None else Response(self.key_set())

    def key_set(self) -> str:
        return json.dumps({"keys": self._jwks()})

    def _jwks(self) -> list[dict[str, Any]]:
        return [
            {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", "alg": "ES256"}
            for kid, key in self._keys.items()
        ]


@pytest.fixture
def issuer() -> Issuer:
    issuer = Issuer()
    issuer.rotate("one")
    return issuer


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


Make = Callable[..., Awaitable[Tokens]]


@pytest_asyncio.fixture
async def tokens_of(serve: Callable[..., AppServer], issuer: Issuer, clock: FakeClock) -> AsyncIterator[Make]:
    """Tokens of the issuer, whose keys are at the server; their certificates are read before the loop may not block."""
    server = await asyncio.to_thread(serve, issuer.app)
    made: list[Tokens] = []

    async def make(
        url: str = f"http://127.0.0.1:{server.port}/keys",
        *,
        algorithms: Sequence[str] = ("ES256",),
        timeout_seconds: float = 5,
    ) -> Tokens:
        keys = await asyncio.to_thread(
            JwksKeys,
            url,
            algorithms=algorithms,
            lifetime_seconds=LIFETIME_SECONDS,
            pause_seconds=PAUSE_SECONDS,
            kept_seconds=KEPT_SECONDS,
            timeout_seconds=timeout_seconds,
            monotonic=clock.monotonic,
        )
        rules = TokenRules(algorithms=algorithms, issuer=ISSUER, audience=AUDIENCE, jwks_url=url)
        made.append(Tokens(rules, keys=keys))
        return made[-1]

    yield make
    for tokens in made:
        await tokens.aclose()


async def test_one_fetch_serves_everybody(tokens_of: Make, issuer: Issuer) -> None:
    tokens = await tokens_of()
    text = issuer.token("one")

    identities = await asyncio.gather(*[tokens.read(text) for _ in range(100)])
    await tokens.read(text)

    assert {identity.subject for identity in identities} == {"ada"}
    assert issuer.fetches == 1


async def test_whoever_leaves_does_not_take_the_fetch_from_the_others(tokens_of: Make, issuer: Issuer) -> None:
    issuer.gate = Gate()
    tokens = await tokens_of()
    first, second = (asyncio.create_task(tokens.read(issuer.token("one"))) for _ in range(2))
    await asyncio.to_thread(issuer.gate.await_arrival)

    first.cancel()
    await asyncio.wait({first})
    issuer.gate.open()

    assert (await second).subject == "ada"
    assert (first.cancelled(), issuer.fetches) == (True, 1)


async def test_a_new_key_is_found_and_an_old_one_forgotten(tokens_of: Make, issuer: Issuer, clock: FakeClock) -> None:
    tokens = await tokens_of()
    old = issuer.token("one")
    await tokens.read(old)

    issuer.rotate("two")
    clock.advance(PAUSE_SECONDS)
    identity = await tokens.read(issuer.token("two"))

    assert identity.subject == "ada"
    with pytest.raises(TokenInvalidError):
        await tokens.read(old)
    assert issuer.fetches == 2


async def test_a_key_that_the_issuer_withdraws_is_good_no_longer_than_the_set(
    tokens_of: Make, issuer: Issuer, clock: FakeClock
) -> None:
    tokens = await tokens_of()
    old = issuer.token("one")
    await tokens.read(old)
    issuer.rotate("two")

    clock.advance(LIFETIME_SECONDS - 1)
    await tokens.read(old)
    clock.advance(2)

    with pytest.raises(TokenInvalidError):
        await tokens.read(old)


async def test_strangers_cannot_make_the_server_fetch(tokens_of: Make, issuer: Issuer, clock: FakeClock) -> None:
    tokens = await tokens_of()
    await tokens.read(issuer.token("one"))

    async def refused(kid: str) -> None:
        with pytest.raises(TokenInvalidError):
            await tokens.read(issuer.token(kid))

    await asyncio.gather(*[refused(f"kid-{number}") for number in range(100)])
    early = issuer.fetches
    for _ in range(3):
        clock.advance(PAUSE_SECONDS)
        await asyncio.gather(*[refused(f"kid-{number}") for number in range(20)])

    assert (early, issuer.fetches) == (1, 4)


def failures() -> dict[str, Callable[[], Response]]:
    return {
        "an error": lambda: Response("no", 500),
        "a redirect": lambda: RedirectResponse("/moved"),
        "a page": lambda: Response("<html></html>"),
        "an empty set": lambda: Response('{"keys": []}'),
        "a set for others": lambda: Response('{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'),
        "too much": lambda: Response(b'{"keys": [' + b" " * 300_000 + b"]}"),
        "too much, compressed": lambda: Response(BOMB, headers={"content-encoding": "gzip"}),
    }


@pytest.mark.parametrize("kind", failures())
async def test_without_keys_it_is_said_when_to_come_back(
    tokens_of: Make, issuer: Issuer, clock: FakeClock, kind: str
) -> None:
    issuer.answer = failures()[kind]
    tokens = await tokens_of()
    text = issuer.token("one")

    with pytest.raises(KeysUnavailableError) as caught:
        await tokens.read(text)
    clock.advance(PAUSE_SECONDS / 2)
    with pytest.raises(KeysUnavailableError) as again:
        await tokens.read(text)

    assert (caught.value.status, caught.value.code) == (503, "keys_unavailable")
    assert caught.value.retry_after_seconds == PAUSE_SECONDS
    assert again.value.retry_after_seconds == PAUSE_SECONDS / 2
    assert issuer.fetches == 1
    issuer.answer = None
    clock.advance(PAUSE_SECONDS / 2)
    assert (await tokens.read(text)).subject == "ada"


@pytest.mark.parametrize("kind", failures())
async def test_the_last_good_keys_count_while_the_issuer_is_down_but_not_for_ever(
    tokens_of: Make, issuer: Issuer, clock: FakeClock, kind: str
) -> None:
    tokens = await tokens_of()
    text = issuer.token("one")
    await tokens.read(text)
    issuer.answer = failures()[kind]

    clock.advance(LIFETIME_SECONDS + 1)
    during = await tokens.read(text)
    clock.advance(KEPT_SECONDS - LIFETIME_SECONDS - 2)
    late = await tokens.read(text)
    clock.advance(2)

    assert (during.subject, late.subject) == ("ada", "ada")
    with pytest.raises(KeysUnavailableError):
        await tokens.read(text)


async def test_a_good_set_that_is_too_large_is_none(tokens_of: Make, issuer: Issuer) -> None:
    issuer.answer = lambda: Response(issuer.key_set() + " " * 300_000)
    tokens = await tokens_of()

    with pytest.raises(KeysUnavailableError):
        await tokens.read(issuer.token("one"))


async def test_a_key_is_for_the_algorithm_that_its_set_says(tokens_of: Make, issuer: Issuer) -> None:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    jwk = {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "alg": "RS256"}
    issuer.answer = lambda: Response(json.dumps({"keys": [jwk]}))
    tokens = await tokens_of(algorithms=("RS256", "PS256"))

    assert (await tokens.read(jwt.encode(claims(), key, "RS256"))).subject == "ada"
    with pytest.raises(TokenInvalidError):
        await tokens.read(jwt.encode(claims(), key, "PS256"))


async def test_an_issuer_that_is_not_there_is_no_reason_to_wait(tokens_of: Make, issuer: Issuer) -> None:
    tokens = await tokens_of("http://127.0.0.1:1/keys")

    with pytest.raises(KeysUnavailableError):
        await tokens.read(issuer.token("one"))


async def test_a_slow_issuer_is_waited_for_so_long_and_no_longer(
    tokens_of: Make, issuer: Issuer, clock: FakeClock
) -> None:
    tokens = await tokens_of(timeout_seconds=0.3)
    await tokens.read(issuer.token("one"))
    stop = threading.Event()

    async def trickle() -> AsyncIterator[bytes]:
        while not stop.is_set():
            yield b" "
            await asyncio.sleep(0.02)

    issuer.answer = lambda: StreamingResponse(trickle())
    clock.advance(LIFETIME_SECONDS + 1)

    async with asyncio.timeout(BOUND_SECONDS):
        identities = await asyncio.gather(*[tokens.read(issuer.token("one")) for _ in range(20)])
    stop.set()

    assert (len(identities), issuer.fetches) == (20, 2)
