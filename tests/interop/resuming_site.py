"""What the tests of `ResumingTransport` talk to: one server that answers as OpenAI and as Anthropic do, and counts.

There is no surface for Anthropic's API. `/v1/messages` is what an application would write: a run whose source yields
Anthropic's own events, in the dialect `chunks`, which shows application data under its own name and says nothing else
but `event: end` without data. Anthropic's package passes over that.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import httpx2
import msgspec
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from tailrace import Tailrace
from tailrace.client.transport import ResumingTransport
from tailrace.events import Data, Event, ReasoningDelta, TextDelta, Usage
from tailrace.web.mounts.contract import AgentRequest

__all__ = ["ANSWER", "MESSAGE_START", "RecordingTransport", "ResumingSite", "Tape"]

_PIECES = ("In Paris it is 18 °C,\n", "in Tōkyō ", "noon. 日本は正午です。", " A line\r\nbreak, and the end.")

#: What everybody is told.
ANSWER = "".join(_PIECES)

_STORY: tuple[Event, ...] = (
    ReasoningDelta("Two cities. "),
    *(TextDelta(piece) for piece in _PIECES),
    Data("receipt", {"total": 2}),
    Usage(provider="demo", model="scripted", input_tokens=12, output_tokens=34),
)

_MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 12, "output_tokens": 1},
}
_ANTHROPIC: tuple[dict[str, Any], ...] = (
    {"type": "message_start", "message": _MESSAGE},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}} for piece in _PIECES),
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 34},
    },
    {"type": "message_stop"},
)
_FRAMES = [{"event": event["type"], "data": event} for event in _ANTHROPIC]

#: What a message of Anthropic's begins with, up to its first text.
MESSAGE_START = _FRAMES[:4]


class ResumingSite:
    """The application, with a source of your own instead of the story if you like.

    Attributes:
        app: To be served.
        tail: Its runs.
        starts: How often a source was opened, by the token in the request's `x-cut` header.
    """

    def __init__(self, tail: Tailrace | None = None, source: Callable[[], Any] | None = None) -> None:
        """Install the routes."""
        self.app = FastAPI()
        self.tail = tail or Tailrace()
        self.starts = Counter[str]()
        self._source = source
        self.tail.install(self.app, "/runs")
        surface = self.tail.openai(self._agent)
        surface.install(self.app)
        # Where the package of Groq looks for the same.
        surface.install(self.app, "/openai/v1")
        self.app.add_route("/v1/messages", self._messages, ["POST"])

    def _agent(self, asked: AgentRequest) -> Any:  # noqa: ANN401  whatever the source is
        assert asked.request is not None
        return self._opened(asked.request, _STORY)

    async def _messages(self, request: Request) -> Response:
        body = msgspec.json.decode(await request.body())
        return self.tail.stream(
            lambda: self._opened(request, _FRAMES), dialect="chunks", json="never", fingerprint=body
        )

    def _opened(self, request: Request, items: Any) -> Any:  # noqa: ANN401
        self.starts[request.headers.get("x-cut", "").partition(" ")[0]] += 1
        return _played(items) if self._source is None else self._source()


async def _played(items: Iterable[object]) -> AsyncGenerator[object]:
    for item in items:
        await asyncio.sleep(0)
        yield item


class Tape(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body on its way to a client, written down.

    Attributes:
        location: Where the answer says that its run is.
        data: What was passed on so far.
    """

    def __init__(self, response: httpx2.Response) -> None:
        """Listen in on an answer."""
        self.location = response.headers["location"]
        self.data = b""
        self._stream: Any = response.stream

    @property
    def without_end(self) -> bytes:
        """All frames; a client that knows the last one does not wait for the comment after it."""
        return self.data.removesuffix(b": end\n")

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self.data += chunk
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self.data += chunk
            yield chunk

    def close(self) -> None:
        self._stream.close()

    async def aclose(self) -> None:
        await self._stream.aclose()


class RecordingTransport(ResumingTransport):
    """Writes down what clients are given, and counts what is asked of the server.

    Attributes:
        tapes: By the token in the request's `x-cut` header.
        asked: The requests, each as method and path.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  those of the transport
        """Begin with nothing."""
        self.tapes: dict[str, Tape] = {}
        self.asked: list[str] = []
        super().__init__(_Listening(self.asked), **options)

    @property
    def cancels(self) -> int:
        """How many runs were cancelled."""
        return sum(path.endswith("/cancel") for path in self.asked)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return self._taped(request, super().handle_request(request))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return self._taped(request, await super().handle_async_request(request))

    def _taped(self, request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
        if "location" in response.headers:
            response.stream = self.tapes[request.headers.get("x-cut", "").partition(" ")[0]] = Tape(response)
        return response


class _Listening(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """The transports that are used by default, overheard."""

    def __init__(self, asked: list[str]) -> None:
        self._asked = asked
        self._sync = httpx2.HTTPTransport()
        self._async = httpx2.AsyncHTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self._asked.append(f"{request.method} {request.url.path}")
        return self._sync.handle_request(request)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._asked.append(f"{request.method} {request.url.path}")
        return await self._async.handle_async_request(request)

    def close(self) -> None:
        self._sync.close()

    async def aclose(self) -> None:
        await self._async.aclose()
