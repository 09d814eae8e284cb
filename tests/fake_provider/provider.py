"""A provider of models that runs here, speaks five protocols to the byte, and fails when it is told to.

The SDKs are the real ones, pointed at it with any key:

    openai     base_url=f"{url}/v1"     chat completions and Responses
    anthropic  base_url=url
    groq       base_url=url
    ollama     host=url
"""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Literal, Self, TypeAlias

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fake_provider.anthropic import AnthropicMessages
from tests.fake_provider.chat_completions import ChatCompletions
from tests.fake_provider.contract import Asked, Frame, ProviderProtocol, compact
from tests.fake_provider.faults import break_frames
from tests.fake_provider.groq import Groq
from tests.fake_provider.journal import Entry, Journal
from tests.fake_provider.ollama import Ollama
from tests.fake_provider.openai import CREATED
from tests.fake_provider.playback import Playback, Reply
from tests.fake_provider.responses import Responses
from tests.fake_provider.script import FAULTS, Fault, Refusal, Script, parse_model
from tests.fake_provider.turn import turn_of
from tests.integration.support.server import AppServer

__all__ = ["PROTOCOLS", "FakeProvider"]

PROTOCOLS: tuple[ProviderProtocol, ...] = (ChatCompletions(), Responses(), Groq(), AnthropicMessages(), Ollama())

_Endpoint: TypeAlias = Callable[[Request], Awaitable[Playback]]


class FakeProvider:
    """Serves from entering to leaving the `with` block. What it answers is told by the model name: see `Script`.

    Attributes:
        journal: Every request, and what became of it.
    """

    def __init__(self) -> None:
        """Describe it."""
        self.journal = Journal()
        routes = [Route(protocol.path, self._endpoint(protocol), methods=["POST"]) for protocol in PROTOCOLS]
        self._server = AppServer(Starlette(routes=[*routes, Route("/v1/models", _models)]))

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.__exit__(kind, error, at)

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self._server.port}"

    def _endpoint(self, protocol: ProviderProtocol) -> _Endpoint:
        async def answer(request: Request) -> Playback:
            entry = Entry(request.url.path, dict(request.headers), await request.json())
            times = self.journal.add(entry)
            asked = Asked(entry.model, entry.body, len(self.journal.entries))
            try:
                script = parse_model(entry.model)
            except msgspec.ValidationError as error:
                return Playback(_refusal(protocol, 404, str(error)), Script(says="text"), entry, self.journal)
            fault = script.fault if not script.times or times <= script.times else ""
            return Playback(_reply(protocol, script, fault, asked), script, entry, self.journal)

        return answer


def _reply(protocol: ProviderProtocol, script: Script, fault: Fault | Refusal | Literal[""], asked: Asked) -> Reply:
    if fault.isdigit():
        return _refusal(protocol, int(fault), f"This provider answers {fault}", script.retry_after)
    turn = turn_of(script, asked.body)
    if not asked.body.get("stream", protocol.streams_unasked):
        return _document(200, protocol.document(turn, asked), tokens=turn.output_tokens)
    frames = list(protocol.frames(turn, asked))
    if fault not in FAULTS:
        return Reply(200, protocol.media_type, frames)
    broken = break_frames(frames, fault, script.at, protocol)
    return Reply(200, protocol.media_type, broken.frames, "fault", broken.end, protocol.keep_alive)


def _refusal(protocol: ProviderProtocol, status: int, reason: str, retry_after: str = "") -> Reply:
    frame = Frame(compact(protocol.refusal(status, reason)))
    return Reply(status, "application/json", [frame], "fault", retry_after=retry_after)


def _document(status: int, value: object, *, tokens: int) -> Reply:
    return Reply(status, "application/json", [Frame(compact(value), tokens)])


async def _models(_: Request) -> Response:
    model = {"id": "text", "object": "model", "created": CREATED, "owned_by": "fake"}
    return JSONResponse({"object": "list", "data": [model]})
