"""One shape for whatever goes wrong at a provider, told by the shape of what was raised."""

import json
import logging
from types import FunctionType, SimpleNamespace

import httpx
import httpx2
import openai
import pytest

from tailrace.adapters.failures import code_of, failure_of, is_providers, reported, truncated
from tailrace.events import RunFailed

OLD_REQUEST = httpx.Request("POST", "https://example.org")
REQUEST = httpx2.Request("POST", "https://example.org")


def answered(status: int, **headers: str) -> openai.APIStatusError:
    """What the SDK of OpenAI raises for a status."""
    response = httpx2.Response(status, headers=headers, request=REQUEST)
    return openai.APIStatusError("secret", response=response, body=None)


class ShapedError(Exception):
    """Of a library that nobody has heard of."""

    def __init__(self, **fields: object) -> None:
        super().__init__("secret")
        vars(self).update(fields)


class GroqError(Exception):
    """As Groq's SDK has it: what was sent is in the body only."""

    __module__ = "groq"

    def __init__(self, body: object) -> None:
        super().__init__("secret")
        self.body = body


STATUSES = {
    400: "provider_bad_request",
    401: "provider_auth",
    403: "provider_auth",
    404: "provider_bad_request",
    408: "provider_timeout",
    413: "provider_bad_request",
    422: "provider_bad_request",
    429: "provider_rate_limited",
    529: "provider_rate_limited",
    500: "provider_unavailable",
    503: "provider_unavailable",
    409: "provider_error",
    418: "provider_error",
}


@pytest.mark.parametrize(("status", "code"), STATUSES.items())
def test_each_status_has_a_code(status: int, code: str) -> None:
    assert code_of(answered(status)) == code
    assert code_of(ShapedError(response=SimpleNamespace(status_code=status, headers={}))) == code


ERRORS: list[tuple[Exception, str]] = [
    (openai.APITimeoutError(request=REQUEST), "provider_timeout"),
    (openai.APIConnectionError(request=REQUEST), "provider_unavailable"),
    (openai.APIError("m", REQUEST, body={"type": "server_error"}), "provider_unavailable"),
    (openai.APIError("m", REQUEST, body={"code": "rate_limit_exceeded"}), "provider_rate_limited"),
    (openai.APIError("m", REQUEST, body={"code": 503}), "provider_unavailable"),
    (openai.APIError("m", REQUEST, body=None), "provider_error"),
    (httpx2.ReadTimeout("m"), "provider_timeout"),
    (httpx2.RemoteProtocolError("m"), "provider_unavailable"),
    (httpx2.ConnectError("m"), "provider_unavailable"),
    (httpx.ReadTimeout("m"), "provider_timeout"),
    (httpx.RemoteProtocolError("m"), "provider_unavailable"),
    (httpx.HTTPStatusError("m", request=OLD_REQUEST, response=httpx.Response(429)), "provider_rate_limited"),
    # How Anthropic's SDK tells an error inside a stream that began well.
    (
        ShapedError(status_code=200, type="overloaded_error", response=SimpleNamespace(status_code=200)),
        "provider_rate_limited",
    ),
    (GroqError({"message": "m", "type": "overloaded_error"}), "provider_rate_limited"),
    (GroqError({"error": {"message": "m", "code": "server_error"}}), "provider_unavailable"),
    (TimeoutError(), "provider_timeout"),
    (ConnectionResetError(), "provider_unavailable"),
    (json.JSONDecodeError("m", "", 0), "provider_error"),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=[type(error).__name__ for error, _ in ERRORS])
def test_each_error_has_a_code(error: Exception, code: str) -> None:
    assert code_of(error) == code


@pytest.mark.parametrize("error", [ValueError("mine"), KeyError(), ShapedError(status_code=404, detail="HTTP's own")])
def test_what_no_provider_raised_has_none(error: Exception) -> None:
    assert code_of(error) is None


@pytest.mark.parametrize(
    ("error", "retryable"),
    [(answered(429), True), (answered(503), True), (answered(401), None), (answered(400), None)],
)
def test_whether_to_try_again_is_told(error: Exception, retryable: bool | None) -> None:
    assert failure_of(error).retryable is retryable


@pytest.mark.parametrize(
    ("header", "details"),
    [
        ("2", {"retry_after_seconds": 2.0}),
        ("0.5", {"retry_after_seconds": 0.5}),
        ("-1", None),
        ("nan", None),
        ("1e300", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_when_to_try_again_is_told_if_it_is_a_number(header: str, details: dict[str, float] | None) -> None:
    assert failure_of(answered(429, **{"retry-after": header})).details == details


@pytest.mark.parametrize("form", ["raised", "reported"])
def test_the_providers_words_are_in_the_log_only(form: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "tailrace")

    failure = failure_of(answered(500)) if form == "raised" else reported({"message": "secret"})

    assert "secret" not in str(failure)
    assert "secret" in caplog.text
    assert failure.correlation_id
    assert failure.correlation_id in caplog.text


def test_what_a_provider_reports_cannot_flood_or_forge_the_log(caplog: pytest.LogCaptureFixture) -> None:
    reported({"message": "a\nERROR forged " + "x" * 100_000})

    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert len(record.getMessage()) < 2_000


def test_every_failure_has_a_sentence_for_everybody() -> None:
    failures: list[RunFailed] = [truncated(), reported(None), *(failure_of(answered(status)) for status in STATUSES)]

    assert all(failure.message.endswith(".") for failure in failures)


# Out of somebody's code ----------------------------------------------------------------------------------------------


def raised_in(module: str, error: Exception) -> Exception:
    """The error, raised by a function of this module."""

    def fail() -> None:
        raise error

    try:
        FunctionType(fail.__code__, {"__name__": module}, closure=fail.__closure__)()
    except Exception as caught:  # noqa: BLE001  it is the one that was given
        return caught
    raise AssertionError


@pytest.mark.parametrize(
    "error",
    [
        answered(429),
        openai.APIConnectionError(request=REQUEST),
        openai.OpenAIError("no key"),
        GroqError({}),
        raised_in("anthropic._streaming", httpx2.RemoteProtocolError("m")),
        raised_in("ollama._client", httpx.ReadTimeout("m")),
        raised_in("openai._streaming", json.JSONDecodeError("m", "", 0)),
        raised_in("groq", ConnectionResetError()),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_sdks_error_is_the_providers_wherever_it_is_raised(error: Exception) -> None:
    assert is_providers(error)


@pytest.mark.parametrize(
    "error",
    [
        raised_in("weather", httpx2.ReadTimeout("m")),
        raised_in("weather", httpx.HTTPStatusError("m", request=OLD_REQUEST, response=httpx.Response(429))),
        raised_in("openai_tools", ConnectionResetError()),
        raised_in("openai", TypeError("an argument that it does not know")),
        json.JSONDecodeError("m", "", 0),
        TimeoutError(),
        LookupError("mine"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_an_application_raises_by_the_same_means_is_its_own(error: Exception) -> None:
    assert not is_providers(error)
