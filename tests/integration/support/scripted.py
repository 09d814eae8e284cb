"""A server that answers as a test has written it, request by request, and remembers what it was asked."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

__all__ = ["CUT", "Answer", "Asked", "ScriptedServer", "frame", "stream"]

#: In a body: the connection breaks here.
CUT = object()

Piece = bytes | object | Callable[[], Awaitable[None]]


class Asked(msgspec.Struct, frozen=True):
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float


class Answer(msgspec.Struct, frozen=True):
    """One answer: its body is bytes, things to wait for, and perhaps a `CUT`."""

    pieces: tuple[Piece, ...] = ()
    status: int = 200
    headers: Mapping[str, str] = {}


def stream(*pieces: Piece, **headers: str) -> Answer:
    """An event stream; `_` in the name of a header stands for a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(pieces, 200, {"content-type": "text/event-stream", **named})


def frame(event_id: object = None, data: str = "{}", event: str = "text.delta") -> bytes:
    """One frame."""
    id_line = "" if event_id is None else f"id: {event_id}\n"
    return f"{id_line}event: {event}\ndata: {data}\n\n".encode()


class _CutError(Exception):
    """Makes a server break the connection."""


class ScriptedServer:
    """An ASGI application that gives the answers in order, and the last one for ever.

    Attributes:
        asked: What it was asked.
        gone: How many clients have left before their answer had ended.
        open: How many answers are under way.
    """

    def __init__(self, *answers: Answer) -> None:
        """Take the script."""
        self.asked: list[Asked] = []
        self.gone = 0
        self.open = 0
        self._answers = list(answers)

    def add(self, *answers: Answer) -> None:
        """Write more of the script."""
        self._answers += answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append(Asked(scope["method"], scope["path"], headers, body, asyncio.get_running_loop().time()))
        answer = self._answers[0] if len(self._answers) == 1 else self._answers.pop(0)
        self.open += 1
        try:
            await self._give(answer, receive, send)
        finally:
            self.open -= 1

    async def _give(self, answer: Answer, receive: Receive, send: Send) -> None:
        giving = asyncio.create_task(self._pieces(answer, send))
        leaving = asyncio.create_task(_disconnected(receive))
        await asyncio.wait({giving, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not giving.done():
            self.gone += 1
            giving.cancel()
        leaving.cancel()
        await asyncio.wait({giving, leaving})
        if not giving.cancelled():
            giving.result()

    async def _pieces(self, answer: Answer, send: Send) -> None:
        headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        pieces = list(answer.pieces)
        # What is to be waited for at first, is waited for before there is any answer.
        while pieces and callable(pieces[0]):
            await _waited(pieces.pop(0))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        for piece in pieces:
            if piece is CUT:
                raise _CutError
            if isinstance(piece, bytes):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            else:
                await _waited(piece)
        await send({"type": "http.response.body", "body": b""})


async def _waited(piece: Any) -> None:  # noqa: ANN401  a piece
    await piece()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
