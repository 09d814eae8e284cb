"""The fake provider, told by each question what to answer: the user's last message is the name of the model."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request

from tests.fake_provider.contract import ProviderProtocol
from tests.fake_provider.playback import Playback
from tests.fake_provider.provider import FakeProvider

__all__ = ["PromptedProvider"]


class PromptedProvider(FakeProvider):
    """One server with one model has every fault."""

    def _endpoint(self, protocol: ProviderProtocol) -> Callable[[Request], Awaitable[Playback]]:
        answer = super()._endpoint(protocol)

        async def prompted(request: Request) -> Playback:
            # The request remembers its body, this very one.
            body: dict[str, Any] = await request.json()
            said = [message["content"] for message in body["messages"] if message["role"] == "user"]
            body["model"] = said[-1]
            return await answer(request)

        return prompted
