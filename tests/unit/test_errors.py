"""Errors carry facts, so that nobody has to parse a message, and a code that never changes."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tailrace import errors
from tailrace.errors import TailraceError

EXAMPLES: list[tuple[TailraceError, str, dict[str, Any]]] = [
    (errors.FrameInvalidError("why"), "frame_invalid", {"reason": "why"}),
    (errors.FrameTooLargeError(5), "frame_too_large", {"limit_bytes": 5}),
    (errors.CursorInvalidError("x"), "cursor_invalid", {"text": "x"}),
    (errors.EventInvalidError("why"), "event_invalid", {"reason": "why"}),
    (errors.DialectNotFoundError("x"), "dialect_not_found", {"name": "x"}),
    (errors.OptionInvalidError("sdk_version", 4), "option_invalid", {"name": "sdk_version", "value": "4"}),
    (errors.SourceInvalidError("int", "str"), "source_invalid", {"type_name": "int"}),
    (errors.KeyInvalidError("why"), "key_invalid", {"reason": "why"}),
    (errors.NoRunError(), "no_run", {}),
    (errors.RunClosedError("r"), "run_closed", {"run_id": "r"}),
    (errors.RunLimitError("max_events", 5), "limit", {"bound": "max_events", "limit": 5}),
    (errors.BufferFullError(5), "buffer_full", {"limit_bytes": 5}),
    (
        errors.RunFailedError("r", status="failed", failure="timeout", message="Too slow."),
        "run_failed",
        {"run_id": "r", "status": "failed", "failure": "timeout", "message": "Too slow."},
    ),
    (
        errors.RequestRefusedError(429, "Later.", error_code="rate_limited", retry_after_seconds=2.0),
        "request_refused",
        {"status": 429, "message": "Later.", "error_code": "rate_limited", "retry_after_seconds": 2.0},
    ),
    (errors.NotAStreamError("text/html"), "not_a_stream", {"content_type": "text/html"}),
    (errors.StreamBrokenError("why", attempts=3), "stream_broken", {"reason": "why", "attempts": 3}),
    (errors.DrainingError(), "draining", {}),
    (errors.BusyError(3), "busy", {"limit": 3}),
    (errors.SendTimeoutError(1.5), "send_timeout", {"timeout_seconds": 1.5}),
    (errors.StoreSetupError("why"), "store_setup", {"reason": "why"}),
    (errors.StoreUnavailableError("why"), "store_unavailable", {"reason": "why"}),
    (errors.FencedError("r"), "fenced", {"run_id": "r"}),
    (errors.GapError(5), "gap", {"last": 5}),
    (errors.FingerprintError("r"), "conflict", {"run_id": "r"}),
    (errors.RunNotFoundError("r"), "run_not_found", {"run_id": "r"}),
]

#: Only ever caught, never raised.
BASES = {errors.TailraceError, errors.StoreError}

ALL_ERRORS: list[type[TailraceError]] = [getattr(errors, name) for name in errors.__all__]


def drawn_tree() -> Iterator[tuple[str, str]]:
    """Each error of the module's docstring with the error it stands under."""
    path: list[str] = []
    for branch, name in re.findall(r"^([│├└─ ]*)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE):
        depth = len(branch) // 4
        path = [*path[:depth], name]
        if depth:
            yield name, path[depth - 1]


@pytest.mark.parametrize(("error", "code", "facts"), EXAMPLES, ids=[type(error).__name__ for error, _, _ in EXAMPLES])
def test_an_error_has_its_code_and_its_facts(error: TailraceError, code: str, facts: dict[str, Any]) -> None:
    assert error.code == code
    assert vars(error) == facts
    assert str(error)


def test_every_error_is_looked_at_here() -> None:
    assert {type(error) for error, _, _ in EXAMPLES} | BASES == set(ALL_ERRORS)


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    assert dict(drawn_tree()) == {
        error.__name__: error.__bases__[0].__name__ for error in ALL_ERRORS if error is not TailraceError
    }


def test_no_two_errors_share_a_code() -> None:
    codes = [error.code for error in ALL_ERRORS]

    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


def test_only_what_may_pass_is_worth_a_retry() -> None:
    assert {error for error in ALL_ERRORS if error.retryable} == {
        errors.BufferFullError,
        errors.BusyError,
        errors.DrainingError,
        errors.GapError,
        errors.StoreUnavailableError,
    }


def test_what_a_client_sent_is_shown_cut() -> None:
    sent = "x" * 1_000

    assert errors.CursorInvalidError(sent).text == sent[:64]
    assert errors.DialectNotFoundError(sent).name == sent[:64]
    assert max(len(str(errors.CursorInvalidError(sent))), len(str(errors.DialectNotFoundError(sent)))) < 100


def test_a_run_without_a_result_says_why() -> None:
    with_sentence = errors.RunFailedError("r", status="failed", failure="timeout", message="Too slow.")
    without = errors.RunFailedError("r", status="cancelled", failure="user")

    assert str(with_sentence) == "the run failed (timeout): Too slow."
    assert str(without) == "the run cancelled (user)"
