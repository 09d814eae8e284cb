"""What a thread asks, and reads of answers that take their time, without a socket or a clock."""

from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import pytest

from tailrace.client import Client, open_stream
from tailrace.client import reading as clock
from tailrace.client import stream as stream_module
from tailrace.errors import RequestRefusedError


class Dripping(httpx2.SyncByteStream):
    """A byte every ten seconds, for ever."""

    def __init__(self) -> None:
        self.now = 0.0

    def __iter__(self) -> Iterator[bytes]:
        while self.now < 10_000:
            self.now += 10.0
            yield b" "


def test_a_refusal_that_comes_byte_by_byte_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    body = Dripping()
    for module in (clock, stream_module):
        monkeypatch.setattr(module, "unix_seconds", lambda: body.now)
    transport = httpx2.MockTransport(lambda _: httpx2.Response(404, stream=body))

    with httpx2.Client(transport=transport) as http, pytest.raises(RequestRefusedError) as caught:
        Client("https://example.com", http=http).start({})

    assert caught.value.status == 404
    assert body.now < 60


@pytest.mark.parametrize("package", [httpx2, httpx], ids=lambda package: package.__name__)
def test_what_an_http_client_adds_to_a_query_stays_at_home(package: Any) -> None:  # noqa: ANN401  either of two
    asked: list[str] = []

    def answer(request: Any) -> Any:  # noqa: ANN401  of the package
        asked.append(str(request.url))
        if request.url.host == "example.com":
            return package.Response(307, headers={"location": "https://example.org/there?a=1"})
        return package.Response(200, headers={"content-type": "text/event-stream"}, content=b": end\n")

    with package.Client(transport=package.MockTransport(answer), params={"key": "secret"}) as http:
        list(open_stream("https://example.com/log", client=http))

    assert asked == ["https://example.com/log?key=secret", "https://example.org/there?a=1"]
