"""Run ids cannot be guessed, and a key leads to the run of its owner and to no other."""

import re
from itertools import combinations
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tailrace.errors import KeyInvalidError
from tailrace.runtime.keys import check_run_id, derive_run_id, fingerprint_of, new_run_id

SECRET = b"s" * 32
LONG_KEY = "k" * 20
RUN_ID = re.compile(r"[a-z2-7]{26}")

keys = st.text(min_size=1, max_size=30)
identities = st.tuples(st.none() | st.text(max_size=5), st.text(max_size=5), st.text(min_size=20, max_size=25))


def derived(*, owner: str | None = "owner", kind: str = "key", key: str = LONG_KEY, secret: bytes = SECRET) -> str:
    return derive_run_id(secret, owner=owner, kind=kind, key=key)


# Run ids


def test_new_ids_have_their_form_and_differ() -> None:
    ids = {new_run_id() for _ in range(100)}

    assert len(ids) == 100
    assert all(RUN_ID.fullmatch(run_id) for run_id in ids)


@given(keys)
def test_a_derived_id_has_the_form_of_a_new_one_and_serves_as_one(key: str) -> None:
    run_id = derived(key=key)

    assert RUN_ID.fullmatch(run_id)
    assert check_run_id(run_id) == run_id


def test_the_same_key_leads_to_the_same_run() -> None:
    assert derived() == derived()


@given(identities, identities)
def test_owner_kind_and_key_are_told_apart(one: tuple[Any, str, str], other: tuple[Any, str, str]) -> None:
    assume(one != other)

    ids = [derived(owner=owner, kind=kind, key=key) for owner, kind, key in (one, other)]

    assert ids[0] != ids[1]


def test_nothing_can_be_moved_from_one_part_to_the_next() -> None:
    base = "x" * 20
    alike = [
        derived(owner=None, kind="key", key=base),
        derived(owner="", kind="key", key=base),
        derived(owner="null", kind="key", key=base),
        derived(owner="k", kind="ey", key=base),
        derived(owner="", kind="k", key=f"ey{base}"),
        derived(owner='","', kind="key", key=base),
        derived(owner="", kind='key","', key=base),
        derived(owner="", kind="", key=f'key","{base}'),
        derived(owner="", kind="key", key=base, secret=b"another secret"),
    ]

    assert all(one != other for one, other in combinations(alike, 2))


# Keys


@pytest.mark.parametrize("owner", [None, "", "owner"])
@pytest.mark.parametrize("key", ["", "k" * 257])
def test_a_key_that_is_empty_or_too_long_is_refused(owner: str | None, key: str) -> None:
    with pytest.raises(KeyInvalidError):
        derived(owner=owner, key=key)


def test_without_an_owner_a_key_must_be_long_enough_to_be_a_secret() -> None:
    with pytest.raises(KeyInvalidError, match="20"):
        derived(owner=None, key="k" * 19)

    assert derived(owner=None, key="k" * 20)


@pytest.mark.parametrize("owner", ["", "owner"])
def test_with_an_owner_a_key_may_be_short(owner: str) -> None:
    assert derived(owner=owner, key="k")


def test_the_longest_key_is_taken() -> None:
    assert derived(key="k" * 256)


@pytest.mark.parametrize("part", ["owner", "key"])
def test_text_that_has_no_bytes_is_refused(part: str) -> None:
    identity: dict[str, Any] = {part: "\ud800" * 20}

    with pytest.raises(KeyInvalidError):
        derived(**identity)


# Ids that an application brings along


@pytest.mark.parametrize("run_id", ["a" * 20, "A-z_0" * 4, "9" * 64])
def test_an_id_that_may_serve_is_taken_as_it_is(run_id: str) -> None:
    assert check_run_id(run_id) == run_id


@pytest.mark.parametrize(
    "run_id",
    [
        "",
        "a" * 19,
        "a" * 65,
        "-" + "a" * 20,
        "_" + "a" * 20,
        "a" * 20 + "\n",
        "a" * 20 + ":",
        "a" * 20 + "/..",
        "a" * 20 + " ",
        "\u00e4" * 20,
        "\u0661" * 20,
    ],
)
def test_an_id_that_may_not_serve_is_refused(run_id: str) -> None:
    with pytest.raises(KeyInvalidError):
        check_run_id(run_id)


# Fingerprints


def test_no_fingerprint_is_empty_and_any_other_is_not() -> None:
    values: list[object] = ["", 0, False, [], {}, [None]]

    assert fingerprint_of(None) == b""
    assert all(len(fingerprint_of(value)) == 32 for value in values)


def test_the_order_of_an_objects_fields_does_not_matter() -> None:
    assert fingerprint_of({"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint_of({"b": {"d": 3, "c": 2}, "a": 1})


def test_different_requests_have_different_fingerprints() -> None:
    values: list[object] = ["", "a", ["a"], {"a": 1}, {"a": "1"}, [1, 2], [2, 1], 1, "1", True, [None], [[]]]

    assert len({fingerprint_of(value) for value in values}) == len(values)


@pytest.mark.parametrize("value", [object(), {("a", "b"): 1}, "\ud800", pytest.param(10**5_000, id="5001 digits")])
def test_what_cannot_be_encoded_is_no_fingerprint(value: object) -> None:
    with pytest.raises(KeyInvalidError):
        fingerprint_of(value)


def test_what_contains_itself_is_no_fingerprint() -> None:
    value: list[Any] = []
    value.append(value)

    with pytest.raises(KeyInvalidError):
        fingerprint_of(value)
