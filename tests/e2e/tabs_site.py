"""A site whose pages read runs over one connection per browser, and that counts the connections."""

import asyncio
import math
from collections.abc import AsyncGenerator
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace import Tailrace

__all__ = ["TabsSite", "words_upto"]

_PAGE = Path(__file__).parent / "tabs.html"
_PACE_SECONDS = 0.005
#: A server learns later than the browser that a stream was closed, on a busy machine much later.
_NOTICED_SECONDS = 1.0


def words_upto(last: int) -> str:
    """The text of a run that counts."""
    return "".join(f"word{number} " for number in range(1, last + 1))


class StreamCounter:
    """Counts the event streams that an application has open.

    Attributes:
        paths: Of all streams so far, in order.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.paths: list[str] = []
        self._app = app
        self._open: dict[int, float] = {}
        self._closed: list[tuple[float, float]] = []

    @property
    def now(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def most(self) -> int:
        """How many were open at the same time at most; the last second of one that was closed does not count."""
        spans = [(start, end - _NOTICED_SECONDS) for start, end in self._closed]
        spans += [(start, math.inf) for start in self._open.values()]
        return max([1, *(sum(start <= at < end for start, end in spans) for at, _ in spans)]) if spans else 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        number = 0

        async def counting(message: Message) -> None:
            nonlocal number
            if message["type"] == "http.response.start":
                headers = dict(message["headers"])
                if headers.get(b"content-type") == b"text/event-stream":
                    self.paths.append(scope["path"])
                    number = len(self.paths)
                    self._open[number] = asyncio.get_running_loop().time()
            await send(message)

        try:
            await self._app(scope, receive, counting)
        finally:
            if number:
                self._closed.append((self._open.pop(number), asyncio.get_running_loop().time()))


class TabsSite:
    """The application, with the client bundled in a folder; without identities if nobody is `known`."""

    def __init__(self, bundle: Path, *, known: bool = True) -> None:
        self.tail = Tailrace(owner=(lambda _: "somebody") if known else None)
        self._gate = asyncio.Event()
        app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/chat", self._chat, methods=["POST"]),
                Mount("/client", StaticFiles(directory=bundle)),
            ]
        )
        self.tail.install(app, "/runs")
        self.app = self.streams = StreamCounter(app)

    async def start(self, last: int, *, held: int = 0, thread: str | None = None) -> str:
        """Start a run that counts to `last`, and waits before word number `held` for `release`; its id."""
        return (await self.tail.start(self._words(last, held), owner="somebody", thread=thread)).id

    async def release(self) -> None:
        """Let all runs go on."""
        self._gate.set()

    async def _page(self, _: Request) -> Response:
        return FileResponse(_PAGE)

    async def _chat(self, request: Request) -> Response:
        asked = await request.json()
        return self.tail.stream(lambda: self._words(asked["last"], asked.get("held", 0)), thread=asked.get("thread"))

    async def _words(self, last: int, held: int) -> AsyncGenerator[str]:
        for number in range(1, last + 1):
            if number == held:
                await self._gate.wait()
            yield f"word{number} "
            await asyncio.sleep(_PACE_SECONDS)
