"""How long an identity holds, as the request of a stream knows it."""

from starlette.requests import Request

from tailrace.testing import FakeClock
from tailrace.web.errors import error_response
from tailrace.web.owners import IdentityExpiredError, expires, expires_at, seconds_left
from tailrace.wire.dialects.registry import get_dialect

NOW_SECONDS = 1_700_000_000.0


def request() -> Request:
    return Request({"type": "http", "headers": []})


def test_what_nobody_has_said_to_expire_holds() -> None:
    asked = request()

    assert expires_at(asked.scope) is None
    assert seconds_left(asked.scope, FakeClock()) is None


def test_an_identity_holds_until_its_time_and_then_no_longer() -> None:
    asked, clock = request(), FakeClock()
    expires(asked, NOW_SECONDS + 10)

    left = [seconds_left(asked.scope, clock)]
    for seconds in (9.5, 0.5, 60):
        clock.advance(seconds)
        left.append(seconds_left(asked.scope, clock))

    assert left == [10, 0.5, 0, 0]


def test_of_several_times_the_first_counts() -> None:
    asked = request()

    for seconds in (9, 1, 5):
        expires(asked, NOW_SECONDS + seconds)

    assert expires_at(asked.scope) == NOW_SECONDS + 1


def test_an_expired_identity_is_asked_for_again() -> None:
    answer = error_response(IdentityExpiredError(), get_dialect("native"))

    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
