"""Which keys of a set are taken."""

import json
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tailrace.chat.identity.jwks import parse_keys

RSA_PRIVATE = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
SHORT_PRIVATE = rsa.generate_private_key(public_exponent=65_537, key_size=1_024)  # noqa: S505  refused by the test
EC_PRIVATE = ec.generate_private_key(ec.SECP256R1())
ED_PRIVATE = ed25519.Ed25519PrivateKey.generate()
RSA_JWK = RSAAlgorithm.to_jwk(RSA_PRIVATE.public_key(), as_dict=True)
EC_JWK = ECAlgorithm.to_jwk(EC_PRIVATE.public_key(), as_dict=True)
ED_JWK = OKPAlgorithm.to_jwk(ED_PRIVATE.public_key(), as_dict=True)
ALL = ("RS256", "PS256", "ES256", "EdDSA")


def names(*keys: object, algorithms: tuple[str, ...] = ALL) -> list[str | None]:
    return [key.kid for key in parse_keys(json.dumps({"keys": keys}).encode(), algorithms)]


def test_keys_of_all_accepted_kinds_are_taken() -> None:
    keys = [{**RSA_JWK, "kid": "r"}, {**EC_JWK, "kid": "e"}, {**ED_JWK, "kid": "o"}, RSA_JWK]

    assert names(*keys) == ["r", "e", "o", None]
    assert names(*keys, algorithms=("ES256",)) == ["e"]
    assert names(*keys, algorithms=("PS256",)) == ["r", None]


@pytest.mark.parametrize(
    "key",
    [
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"},
        {**RSA_JWK, "use": "enc"},
        {**RSA_JWK, "key_ops": ["encrypt"]},
        {**RSA_JWK, "alg": "RSA-OAEP"},
        {**RSA_JWK, "alg": "RS512"},
        {**RSA_JWK, "alg": "HS256"},
        {**RSA_JWK, "kid": 7},
        {**RSA_JWK, "n": 7},
        {**RSA_JWK, "n": ""},
        {**RSA_JWK, "n": "!!"},
        {**RSA_JWK, "e": None},
        {"kty": "RSA"},
        {**EC_JWK, "crv": "P-999"},
        {**EC_JWK, "x": EC_JWK["y"]},
        {**ED_JWK, "x": "AAAA"},
        {"kty": "EC"},
        {"kty": "unheard of"},
        {},
        RSAAlgorithm.to_jwk(RSA_PRIVATE, as_dict=True),
        RSAAlgorithm.to_jwk(SHORT_PRIVATE.public_key(), as_dict=True),
        ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True),
    ],
)
def test_a_key_that_is_not_for_this_is_ignored(key: dict[str, Any]) -> None:
    assert names({**RSA_JWK, "kid": "before"}, key, {**RSA_JWK, "kid": "after"}) == ["before", "after"]


def test_so_many_keys_are_looked_at_and_no_more() -> None:
    assert len(names(*[{**ED_JWK, "kid": str(number)} for number in range(100)])) == 64


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"keys": {}}', b'{"keys": [1]}', b"<html>", b"[" * 5_000])
def test_what_is_no_key_set_is_refused(body: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, RecursionError)):
        parse_keys(body, ALL)


@given(
    st.sampled_from([RSA_JWK, EC_JWK, ED_JWK]),
    st.sampled_from(["kty", "n", "e", "x", "y", "crv", "alg", "use", "kid"]),
    st.none() | st.integers() | st.text(max_size=10) | st.lists(st.integers(), max_size=2),
)
def test_no_key_breaks_the_set(key: dict[str, Any], name: str, value: object) -> None:
    assert "good" in names({**key, name: value}, {**RSA_JWK, "kid": "good"})
