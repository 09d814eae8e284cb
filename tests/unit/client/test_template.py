"""What becomes of an application's headers and body, request by request."""

from collections.abc import Iterator
from typing import Any

import pytest

from tailrace.client.commands import Attempt, Send
from tailrace.client.template import RequestTemplate

CREDENTIALS = {"Authorization": "Bearer x", "Cookie": "a=b", "Proxy-Authorization": "Basic y", "X-Mine": "z"}


def send(method: str = "GET", number: int = 1, **changes: Any) -> Send:  # noqa: ANN401  fields of any kind
    fields: dict[str, Any] = {
        "headers": {"accept": b"text/event-stream"},
        "with_body": method != "GET",
        "with_credentials": True,
        "is_redirected": False,
        "attempt": Attempt(number),
        **changes,
    }
    return Send(method, "https://example.com/", **fields)


def headers_of(request: dict[str, Any]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in request["headers"]}


def test_a_body_of_json_says_so_and_goes_with_the_first_request_only() -> None:
    template = RequestTemplate("post", json={"a": 1}, headers={"X-Mine": "z"})

    first = template.request(send("POST"), None)
    later = template.request(send("GET", 2), None)

    assert (template.method, first["content"], later["content"]) == ("POST", b'{"a":1}', None)
    assert headers_of(first) == {"accept": "text/event-stream", "content-type": "application/json", "x-mine": "z"}
    assert headers_of(later) == {"accept": "text/event-stream", "x-mine": "z"}


@pytest.mark.parametrize("content", ["ü", "ü".encode()])
def test_a_body_may_be_given_as_it_is(content: str | bytes) -> None:
    template = RequestTemplate("POST", content=content, headers={"Content-Type": "text/plain"})

    request = template.request(send("POST"), None)

    assert request["content"] == "ü".encode()
    assert headers_of(request)["content-type"] == "text/plain"


def test_the_headers_of_the_application_win_but_not_over_the_cursor() -> None:
    template = RequestTemplate("GET", headers={"Accept": "x", "Last-Event-ID": "1"})

    request = template.request(send(headers={"accept": b"y", "last-event-id": b"2"}), None)

    assert headers_of(request) == {"accept": "x", "last-event-id": "2"}


def test_no_header_that_may_be_a_key_leaves_home() -> None:
    template = RequestTemplate("GET", headers=CREDENTIALS)

    request = template.request(send(with_credentials=False), None)

    assert headers_of(request) == {"accept": "text/event-stream"}


def test_a_function_makes_the_headers_of_each_request_and_a_redirect_is_none() -> None:
    asked: list[Attempt] = []

    def headers(attempt: Attempt) -> dict[str, str]:
        asked.append(attempt)
        return {"authorization": f"Bearer {attempt.number}"}

    template = RequestTemplate("GET", headers=headers)
    requests: list[str] = []
    for each in (send(number=1), send(number=1, is_redirected=True), send(number=2)):
        given: Any = template.asked(each)
        requests.append(headers_of(template.request(each, given))["authorization"])

    assert asked == [Attempt(1), Attempt(2)]
    assert requests == ["Bearer 1", "Bearer 1", "Bearer 2"]


@pytest.mark.parametrize(
    ("template", "is_repeatable"),
    [
        (RequestTemplate("POST"), False),
        (RequestTemplate("POST", headers={"Idempotency-Key": "k"}), True),
        (RequestTemplate("POST", extra={"idempotency-key": "k"}), True),
        (RequestTemplate("POST", is_repeatable=True), True),
    ],
)
def test_a_request_may_be_repeated_if_it_has_a_key(template: RequestTemplate, is_repeatable: bool) -> None:
    template.request(send("POST"), None)

    assert template.is_repeatable == is_repeatable


def chunks() -> Iterator[bytes]:
    yield b""


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"method": "POST", "json": {}, "content": b""}, TypeError, "not both"),
        ({"method": "POST", "content": chunks()}, TypeError, "as it may have to be sent again, not generator"),
        ({"method": "GET", "json": {}}, ValueError, 'method="POST"'),
    ],
)
def test_misuse_is_told_how_to_do_it(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        RequestTemplate(**options)


def test_a_function_for_headers_returns_headers() -> None:
    nothing: Any = "Bearer x"

    with pytest.raises(TypeError, match="must return a mapping, not str"):
        RequestTemplate("GET").request(send(), nothing)
