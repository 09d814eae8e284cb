"""An error has one status, and a body from which nothing can be learnt but what happened."""

from typing import Any

import msgspec
import pytest

from tailrace import errors, events
from tailrace.errors import TailraceError
from tailrace.fold import Reduced, reduce
from tailrace.web.errors import EarlyFailureError, document_status, error_response
from tailrace.wire.dialects.registry import DIALECTS, get_dialect
from tests.unit.strategies import numbered

NATIVE = get_dialect("native")
FAILED = events.RunFailed(code="error", message="Something went wrong.", correlation_id="x1")
REFUSED = events.RunFailed(
    code="provider_rate_limited",
    message="The model is busy.",
    correlation_id="x1",
    details={"retry_after_seconds": 1.5},
)

INTERNAL: list[TailraceError] = [
    errors.EventInvalidError("password=hunter2"),
    errors.SourceInvalidError("hunter2", "hunter2"),
    errors.NoRunError(),
    errors.RunClosedError("hunter2"),
    errors.BufferFullError(5),
    errors.SendTimeoutError(5),
    errors.StoreError("password=hunter2"),
    errors.FencedError("hunter2"),
    errors.GapError(5),
    TailraceError("password=hunter2"),
]


def told(error: TailraceError) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(bytes(error_response(error, NATIVE).body))
    document: dict[str, Any] = body["error"]
    return document


def ended(terminal: events.Terminal) -> Reduced:
    return reduce(numbered([events.RunStarted(run_id="run"), events.TextDelta("so far"), terminal]))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.CursorInvalidError("x"), 400),
        (errors.DialectNotFoundError("x"), 400),
        (errors.OptionInvalidError("sdk_version", 4), 400),
        (errors.KeyInvalidError("a key has 1 to 256 characters"), 400),
        (errors.RunNotFoundError("run"), 404),
        (errors.FingerprintError("run"), 409),
        (errors.DrainingError(), 503),
        (errors.BusyError(3), 503),
        (errors.StoreUnavailableError(), 503),
        (EarlyFailureError(FAILED), 500),
        *((error, 500) for error in INTERNAL),
    ],
)
def test_an_error_has_its_status_and_its_code(error: TailraceError, status: int) -> None:
    assert error_response(error, NATIVE).status_code == status
    assert (told(error)["status"], told(error)["code"]) == (status, error.code)


def test_an_error_is_json_that_nobody_keeps_or_guesses_at() -> None:
    headers = error_response(errors.RunNotFoundError("run"), NATIVE).headers

    assert headers["content-type"] == "application/json"
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("error", "retry_after"),
    [
        (errors.DrainingError(), "2"),
        (errors.BusyError(3), "2"),
        (errors.StoreUnavailableError(), "2"),
        (errors.RunNotFoundError("run"), None),
        (EarlyFailureError(FAILED), None),
        (EarlyFailureError(REFUSED), "2"),
    ],
)
def test_only_what_may_pass_says_when_to_come_back(error: TailraceError, retry_after: str | None) -> None:
    assert error_response(error, NATIVE).headers.get("retry-after") == retry_after


@pytest.mark.parametrize("error", INTERNAL, ids=lambda error: type(error).__name__)
def test_what_went_wrong_inside_is_not_told(error: TailraceError) -> None:
    assert told(error)["message"] == "Something went wrong."
    assert b"hunter2" not in error_response(error, NATIVE).body


def test_where_the_store_is_is_not_told() -> None:
    error = errors.StoreUnavailableError("Error 111 connecting to redis.internal:6379")

    assert "redis.internal" not in told(error)["message"]


def test_another_owners_run_is_told_like_one_that_never_was() -> None:
    assert told(errors.RunNotFoundError("a")) == told(errors.RunNotFoundError("b"))


def test_an_early_failure_tells_where_the_operator_finds_it() -> None:
    assert told(EarlyFailureError(FAILED)) == {
        "code": "error",
        "message": "Something went wrong (correlation id x1).",
        "status": 500,
    }


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("provider_auth", 502),
        ("provider_bad_request", 502),
        ("provider_rate_limited", 429),
        ("provider_timeout", 504),
        ("provider_unavailable", 502),
    ],
)
def test_a_provider_that_refuses_at_once_is_named_by_its_code(code: str, status: int) -> None:
    failure = events.RunFailed(code=code, message="The model refused.", correlation_id="x1")

    assert told(EarlyFailureError(failure)) == {
        "code": code,
        "message": "The model refused (correlation id x1).",
        "status": status,
    }


@pytest.mark.parametrize("name", DIALECTS)
def test_an_error_has_the_shape_that_clients_of_the_dialect_know(name: str) -> None:
    dialect = get_dialect(name)

    assert error_response(errors.DrainingError(), dialect).body == dialect.error(
        503, "draining", "the server is restarting"
    )


# One document for a run that has ended


@pytest.mark.parametrize(
    "terminal",
    [
        events.RunCompleted(),
        events.RunCancelled(reason="user"),
        events.RunInterrupted(reason="worker_lost"),
        events.RunPaused(interrupts=[]),
    ],
    ids=lambda terminal: type(terminal).__name__,
)
def test_a_run_that_did_not_fail_is_an_answer(terminal: events.Terminal) -> None:
    assert document_status(ended(terminal)) == 200


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("error", 502),
        ("store_unavailable", 502),
        ("provider_unknown", 502),
        ("timeout", 504),
        ("provider_timeout", 504),
        ("limit", 429),
        ("provider_rate_limited", 429),
    ],
)
def test_a_failed_run_has_the_status_of_its_code(code: str, status: int) -> None:
    assert document_status(ended(events.RunFailed(code=code, message="Sorry."))) == status
