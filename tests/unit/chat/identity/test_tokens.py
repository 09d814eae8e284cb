"""Which tokens are taken for whose, and which for nobody's."""

import base64
import hashlib
import hmac
import json
import math
from typing import Any, TypeAlias

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.requests import Request

from tailrace.chat.identity.contract import Identity, identity_of, owner_by
from tailrace.chat.identity.errors import (
    CrossSiteError,
    ForbiddenError,
    IdentitySetupError,
    TokenInvalidError,
    UnauthenticatedError,
)
from tailrace.chat.identity.guard import Origins
from tailrace.chat.identity.tokens import TokenRules, Tokens
from tailrace.errors import TailraceError
from tailrace.runtime.clock import SystemClock
from tailrace.web.errors import error_response
from tailrace.web.owners import IdentityExpiredError, expires_at
from tailrace.wire.dialects.native import DIALECT

SECRET = "a secret of at least thirty-two bytes"
ISSUER, AUDIENCE = "https://issuer.example", "chat"
#: Other tests may take their time between this and its use.
NOW = SystemClock().time_ms() / 1_000
LATER = NOW + 36_000

RSA_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
SHORT_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=1_024)  # noqa: S505  refused by the test
ED_KEY = ed25519.Ed25519PrivateKey.generate()
PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
KEYS: dict[str, PrivateKey] = {"RS256": RSA_KEY, "PS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}

RULES = TokenRules(algorithms=["HS256"], issuer=ISSUER, audience=AUDIENCE, secret=SecretStr(SECRET))


def pem(key: PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def claims(**others: object) -> dict[str, Any]:
    """What a good token says; `None` leaves a claim out."""
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "tenant": "acme", "exp": LATER}
    return {name: value for name, value in {**good, **others}.items() if value is not None}


def token(**others: object) -> str:
    return jwt.encode(claims(**others), SECRET, "HS256")


def forged(header: object, payload: object, secret: bytes = SECRET.encode()) -> str:
    """Signed with the secret, whatever the header says; nothing is checked, as by nobody's library."""

    def segment(content: bytes) -> bytes:
        return base64.urlsafe_b64encode(content).rstrip(b"=")

    def encoded(content: object) -> bytes:
        return segment(content if isinstance(content, bytes) else json.dumps(content).encode())

    message = encoded(header) + b"." + encoded(payload)
    return (message + b"." + segment(hmac.digest(secret, message, hashlib.sha256))).decode()


def request(*headers: tuple[str, str], method: str = "GET") -> Request:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in (("host", "chat.example"), *headers)]
    return Request({"type": "http", "method": method, "path": "/", "headers": raw})


def bearing(text: str) -> Request:
    return request(("authorization", f"Bearer {text}"))


async def refusal(asked: Request, rules: TokenRules = RULES) -> TailraceError:
    with pytest.raises(TailraceError) as caught:
        await Tokens(rules).identify(asked)
    return caught.value


# Who it is -----------------------------------------------------------------------------------------------------------


async def test_a_good_token_names_tenant_and_user() -> None:
    text = token()
    asked = bearing(text)

    identity = await Tokens(RULES).identify(asked)

    assert (identity.tenant, identity.subject, identity.expires_at) == ("acme", "ada", LATER + RULES.leeway_seconds)
    assert identity.token is not None
    assert identity.token.get_secret_value() == text
    assert text not in repr(identity)
    assert identity_of(asked) == identity
    assert expires_at(asked.scope) == identity.expires_at


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  ", " Bearer "])
async def test_the_scheme_is_written_in_any_case(scheme: str) -> None:
    assert (await Tokens(RULES).identify(request(("authorization", scheme + token())))).subject == "ada"


@pytest.mark.parametrize("algorithm", KEYS)
async def test_an_issuers_public_key_proves_its_tokens(algorithm: str) -> None:
    key = KEYS[algorithm]
    rules = TokenRules(algorithms=[algorithm], issuer=ISSUER, audience=AUDIENCE, public_key=pem(key))

    identity = await Tokens(rules).read(jwt.encode(claims(), key, algorithm))

    assert identity.owner == '["acme","ada"]'


async def test_the_owner_of_runs_is_tenant_and_user() -> None:
    assert await owner_by(Tokens(RULES).identify)(bearing(token(tenant='a"', sub="b"))) == '["a\\"","b"]'


async def test_claims_may_go_by_other_names() -> None:
    rules = TokenRules(
        algorithms=["HS256"],
        issuer=ISSUER,
        audience=AUDIENCE,
        secret=SecretStr(SECRET),
        tenant_claim="https://acme.example/org",
        subject_claim="email",
    )

    identity = await Tokens(rules).read(token(**{"https://acme.example/org": "o1", "email": "ada@acme.example"}))

    assert (identity.tenant, identity.subject) == ("o1", "ada@acme.example")


async def test_one_audience_of_several_is_enough() -> None:
    assert (await Tokens(RULES).read(token(aud=["other", AUDIENCE]))).subject == "ada"


async def test_a_clock_that_is_a_little_off_is_forgiven() -> None:
    rules = msgspec.structs.replace(RULES, leeway_seconds=300)
    now = SystemClock().time_ms() / 1_000

    identity = await Tokens(rules).read(token(exp=now - 150, nbf=now + 150))

    assert identity.expires_at == now + 150


async def test_a_request_is_looked_at_once() -> None:
    asked = bearing(token())
    tokens = Tokens(RULES)
    first = await tokens.identify(asked)

    assert await tokens.identify(asked) is first


# Nobody --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("authorization", ""),),
        (("authorization", "Basic YTpi"),),
        (("authorization", "Bearerabc"),),
        (("cookie", "session=whatever"),),
    ],
)
async def test_without_a_token_nobody_asks(headers: tuple[tuple[str, str], ...]) -> None:
    error = await refusal(request(*headers))
    answer = error_response(error, DIALECT)

    assert isinstance(error, UnauthenticatedError)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


FORGED = {
    "nothing after the scheme": "",
    "one word": "abc",
    "two segments": "abc.def",
    "four segments": token() + ".abc",
    "spaces inside": token().replace(".", " . "),
    "two tokens": f"{token()}, Bearer {token()}",
    "giant": "a" * 9_000,
    "giant but good": jwt.encode(claims(more="x" * 8_000), SECRET, "HS256"),
    "a control character": token() + "\x07",
    "not ascii": token() + "\xe9",
    "no signature": jwt.encode(claims(), "", "none"),
    "alg none, signed": forged({"alg": "none"}, claims()),
    "alg NONE": forged({"alg": "NONE"}, claims()),
    "no alg": forged({}, claims()),
    "alg a number": forged({"alg": 1}, claims()),
    "alg a list": forged({"alg": ["HS256"]}, claims()),
    "alg of another length": jwt.encode(claims(), SECRET * 2, "HS512"),
    "another secret": jwt.encode(claims(), SECRET[::-1], "HS256"),
    "a changed payload": ".".join([token().split(".")[0], token(sub="eve").split(".")[1], token().split(".")[2]]),
    "an unknown extension": forged({"alg": "HS256", "crit": ["x"], "x": 1}, claims()),
    "b64": forged({"alg": "HS256", "crit": ["b64"], "b64": True}, claims()),
    "a detached payload": forged({"alg": "HS256", "crit": ["b64"], "b64": False}, b""),
    "kid a number": forged({"alg": "HS256", "kid": 1}, claims()),
    "the header a list": forged(["HS256"], claims()),
    "the header no text": forged(b"\xff\xfe", claims()),
    "the header deep": forged(b"[" * 3_000, claims()),
    "the payload a list": forged({"alg": "HS256"}, [claims()]),
    "the payload deep": forged({"alg": "HS256"}, b"[" * 3_000),
    "the payload a number too long": forged({"alg": "HS256"}, b'{"exp":' + b"9" * 4_500 + b"}"),
    "not yet": token(nbf=NOW + 18_000),
    "made in the future": token(iat=NOW + 18_000),
    "another audience": token(aud="mail"),
    "audiences of others": token(aud=["mail", "other"]),
    "audience a number": forged({"alg": "HS256"}, claims(aud=1)),
    "another issuer": token(iss="https://evil.example"),
    "issuer with a slash": token(iss=ISSUER + "/"),
    "no expiry": token(exp=None),
    "no audience": token(aud=None),
    "no issuer": token(iss=None),
    "no subject": token(sub=None),
    "expiry a text": forged({"alg": "HS256"}, claims(exp=str(int(LATER)))),
    "expiry infinite": forged({"alg": "HS256"}, claims(exp=math.inf)),
    "expiry no number": forged({"alg": "HS256"}, claims(exp=math.nan)),
    "expiry beyond floats": forged({"alg": "HS256"}, claims(exp=10**400)),
    "expiry a list": forged({"alg": "HS256"}, claims(exp=[LATER])),
    "subject a number": forged({"alg": "HS256"}, claims(sub=1)),
    "subject empty": token(sub=""),
    "subject long": token(sub="x" * 129),
    "subject with a line break": token(sub="ada\nINFO"),
    "subject with a NUL": token(sub="ada\0"),
    "subject turned round": token(sub="ada\u202eeve"),
    "subject half a character": forged({"alg": "HS256"}, claims(sub="\ud83d")),
}


@pytest.mark.parametrize("kind", FORGED)
async def test_a_token_that_is_not_valid_is_refused_without_a_reason(kind: str) -> None:
    error = await refusal(bearing(FORGED[kind]))
    answer = error_response(error, DIALECT)

    assert isinstance(error, TokenInvalidError)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
    assert json.loads(bytes(answer.body)) == {
        "error": {"code": "token_invalid", "message": "The access token is not valid.", "status": 401}
    }


@pytest.mark.parametrize("expiry", [1_000_000_000, 1.5, 0, -1, True])
async def test_an_expired_token_is_called_so(expiry: float) -> None:
    error = await refusal(bearing(forged({"alg": "HS256"}, claims(exp=expiry))))

    assert (error.code, isinstance(error, IdentityExpiredError)) == ("token_expired", True)


async def test_of_a_forged_token_not_even_the_age_is_told() -> None:
    error = await refusal(bearing(jwt.encode(claims(exp=NOW - 60), SECRET[::-1], "HS256")))

    assert isinstance(error, TokenInvalidError)


@pytest.mark.parametrize("tenant", [None, "", 7, ["acme"], "x" * 129, "a\nb", "a\0", True])
async def test_a_token_without_a_usable_tenant_is_forbidden(tenant: object) -> None:
    error = await refusal(bearing(forged({"alg": "HS256"}, claims(tenant=tenant))))

    assert isinstance(error, ForbiddenError)
    assert error_response(error, DIALECT).status_code == 403


async def test_two_credentials_are_none() -> None:
    good = ("authorization", f"Bearer {token()}")

    assert isinstance(await refusal(request(good, good)), TokenInvalidError)
    assert isinstance(await refusal(request(good, ("authorization", "Basic YTpi"))), TokenInvalidError)


@pytest.mark.parametrize("algorithms", [["RS256"], ["PS256", "RS256"]])
async def test_a_public_key_is_no_secret(algorithms: list[str]) -> None:
    public = pem(RSA_KEY)
    rules = TokenRules(algorithms=algorithms, issuer=ISSUER, audience=AUDIENCE, public_key=public)

    for secret in (public.encode(), public.strip().encode()):
        error = await refusal(bearing(forged({"alg": "HS256", "typ": "JWT"}, claims(), secret)), rules)

        assert isinstance(error, TokenInvalidError)


async def test_an_algorithm_that_the_key_could_do_is_refused_unless_it_is_pinned() -> None:
    rules = TokenRules(algorithms=["RS256"], issuer=ISSUER, audience=AUDIENCE, public_key=pem(RSA_KEY))

    assert isinstance(await refusal(bearing(jwt.encode(claims(), RSA_KEY, "PS256")), rules), TokenInvalidError)
    assert isinstance(await refusal(bearing(jwt.encode(claims(), RSA_KEY, "RS512")), rules), TokenInvalidError)


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
async def test_no_text_is_a_token(text: str) -> None:
    with pytest.raises(TokenInvalidError):
        await Tokens(RULES).read(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["iss", "aud", "sub", "tenant", "exp", "nbf", "iat", "jti"]), json_values)
async def test_no_claim_breaks_what_reads_it(name: str, value: object) -> None:
    text = forged({"alg": "HS256"}, {**claims(), name: value})

    try:
        identity = await Tokens(RULES).read(text)
    except (TokenInvalidError, IdentityExpiredError, ForbiddenError):
        return

    assert isinstance(identity, Identity)
    assert identity.tenant.isprintable()
    assert identity.subject.isprintable()


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x5u", "zip"]), json_values))
async def test_no_header_breaks_what_reads_it(header: dict[str, object]) -> None:
    with pytest.raises(TokenInvalidError):
        await Tokens(RULES).read(forged({"alg": "HS384", **header}, claims()))


# Cookies -------------------------------------------------------------------------------------------------------------

COOKIE_RULES = TokenRules(
    algorithms=["HS256"], issuer=ISSUER, audience=AUDIENCE, secret=SecretStr(SECRET), cookie="__Host-token"
)
COOKIE = ("cookie", f"theme=dark; __Host-token={token()}; lang=en")


async def test_a_token_may_come_in_a_cookie() -> None:
    assert (await Tokens(COOKIE_RULES).identify(request(COOKIE))).subject == "ada"


async def test_a_token_in_a_cookie_of_another_name_is_none() -> None:
    assert isinstance(await refusal(request(COOKIE)), UnauthenticatedError)


async def test_a_bearer_token_counts_before_a_cookie() -> None:
    bearer = ("authorization", f"Bearer {token(sub='bob')}")

    assert (await Tokens(COOKIE_RULES).identify(request(COOKIE, bearer, method="POST"))).subject == "bob"
    bad = request(COOKIE, ("authorization", "Bearer nonsense"))
    assert isinstance(await refusal(bad, COOKIE_RULES), TokenInvalidError)


async def test_a_scheme_of_a_proxy_before_us_leaves_the_cookie() -> None:
    asked = request(COOKIE, ("authorization", "Basic YTpi"))

    assert (await Tokens(COOKIE_RULES).identify(asked)).subject == "ada"


async def test_a_second_cookie_of_the_name_is_somebody_elses() -> None:
    evil = ("cookie", "__Host-token=abc")

    assert isinstance(await refusal(request(evil, COOKIE), COOKIE_RULES), TokenInvalidError)
    assert isinstance(await refusal(request(COOKIE, evil), COOKIE_RULES), TokenInvalidError)


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ((), False),
        ((("sec-fetch-site", "same-origin"),), True),
        ((("sec-fetch-site", "same-site"),), False),
        ((("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")), False),
        ((("sec-fetch-site", "cross-site"), ("origin", "https://app.example")), True),
        ((("origin", "https://chat.example"),), True),
        ((("origin", "null"),), False),
    ],
)
async def test_a_change_by_cookie_has_to_come_from_the_own_site(
    headers: tuple[tuple[str, str], ...], *, passes: bool
) -> None:
    tokens = Tokens(COOKIE_RULES, origins=Origins.parse(["https://app.example"], proof="cookie"))
    changing = request(COOKIE, *headers, method="POST")
    reading = request(COOKIE, *headers)

    assert (await tokens.identify(reading)).subject == "ada"
    if passes:
        assert (await tokens.identify(changing)).subject == "ada"
    else:
        with pytest.raises(CrossSiteError):
            await tokens.identify(changing)


async def test_a_change_by_bearer_token_may_come_from_anywhere() -> None:
    asked = request(
        ("authorization", f"Bearer {token()}"),
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
        method="POST",
    )

    assert (await Tokens(COOKIE_RULES).identify(asked)).subject == "ada"


# Rules ---------------------------------------------------------------------------------------------------------------

GOOD = {"algorithms": ["HS256"], "issuer": ISSUER, "audience": AUDIENCE, "secret": SecretStr(SECRET)}
PUBLIC = {"algorithms": ["RS256"], "issuer": ISSUER, "audience": AUDIENCE, "public_key": pem(RSA_KEY)}


@pytest.mark.parametrize(
    "wrong",
    [
        {**GOOD, "secret": SecretStr("x" * 31)},
        {**GOOD, "secret": None},
        {**GOOD, "public_key": pem(RSA_KEY)},
        {**GOOD, "algorithms": ["HS256", "RS256"]},
        {**GOOD, "algorithms": ["RS256"]},
        {**GOOD, "algorithms": ["none"]},
        {**GOOD, "algorithms": []},
        {**GOOD, "algorithms": ["HS512"]},
        {**GOOD, "issuer": ""},
        {**GOOD, "audience": ""},
        {**GOOD, "tenant_claim": ""},
        {**GOOD, "leeway_seconds": 3_600},
        {**GOOD, "leeway_seconds": -1},
        {**GOOD, "cookie": "a b"},
        {**GOOD, "cookie": ""},
        {**PUBLIC, "algorithms": ["HS256"]},
        {**PUBLIC, "algorithms": []},
        {**PUBLIC, "algorithms": ["RS256", "none"]},
        {**PUBLIC, "jwks_url": "https://issuer.example/keys"},
    ],
)
def test_rules_that_are_not_safe_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(IdentitySetupError):
        TokenRules(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {**PUBLIC, "public_key": "no key"},
        {**PUBLIC, "public_key": pem(EC_KEY)},
        {**PUBLIC, "algorithms": ["RS256", "ES256"]},
        {**PUBLIC, "public_key": pem(SHORT_KEY)},
        {**PUBLIC, "algorithms": ["ES256"], "public_key": pem(ec.generate_private_key(ec.SECP384R1()))},
        {**PUBLIC, "public_key": None, "jwks_url": "http://issuer.example/keys"},
        {**PUBLIC, "public_key": None, "jwks_url": "https://user:password@issuer.example/keys"},
        {**PUBLIC, "public_key": None, "jwks_url": "file:///etc/passwd"},
    ],
)
def test_keys_that_cannot_be_used_are_refused_at_the_start(wrong: dict[str, Any]) -> None:
    with pytest.raises(IdentitySetupError):
        Tokens(TokenRules(**wrong))
