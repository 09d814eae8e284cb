"""How many streams may be open."""

import pytest

from tailrace.web.errors import error_response
from tailrace.web.wsgi.places import Places, StreamsFullError
from tailrace.wire.dialects.native import DIALECT


def test_beyond_the_limit_nobody_gets_a_place_until_one_is_given_back() -> None:
    places = Places(2)
    places.take()
    places.take()

    with pytest.raises(StreamsFullError):
        places.take()
    places.give_back()
    places.take()

    assert places.taken == 2


def test_without_a_limit_everybody_gets_one() -> None:
    places = Places(None)

    for _ in range(1_000):
        places.take()

    assert places.taken == 1_000


def test_who_gets_none_is_told_when_to_ask_again() -> None:
    response = error_response(StreamsFullError(), DIALECT)

    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    assert b"too_many_streams" in response.body
