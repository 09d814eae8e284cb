"""Each dialect is found under its own name."""

import pytest

from tailrace.errors import DialectNotFoundError
from tailrace.wire.dialects.registry import DIALECTS, get_dialect


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_is_found_by_its_name(name: str) -> None:
    assert get_dialect(name).name == name


def test_the_log_can_be_read_as_it_is_and_as_tokens() -> None:
    assert {"native", "tokens"} <= DIALECTS.keys()


@pytest.mark.parametrize(
    "name", ["", "Native", "native ", "__class__", pytest.param("x" * 1_000, id="1000 characters")]
)
def test_any_other_name_is_an_error_that_shows_it_cut(name: str) -> None:
    with pytest.raises(DialectNotFoundError) as caught:
        get_dialect(name)

    assert caught.value.name == name[:64]
