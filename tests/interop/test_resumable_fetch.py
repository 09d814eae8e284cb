"""With `resumable(fetch)` clients that cannot resume do: over connections that break they lose and repeat nothing.

What a client is given is the run's log, byte by byte, and what it makes of that the same as if it had come whole. So it
is with our own transport for the AI SDK.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from tailrace import Tailrace
from tailrace.events import Event, StepFinished, StepStarted, TextDelta
from tailrace.web.mounts.contract import AgentRequest
from tests.integration.support.server import AppServer
from tests.interop.conftest import Node
from tests.interop.cutting_proxy import CuttingProxy
from tests.interop.story import ANSWER, STORY

Serve = Callable[..., AppServer]
Cuts = Callable[[int], CuttingProxy]

SEEDS = 100
KINDS = ("reset", "torn", "eof")
_MORE = [f"{number} 言葉 " for number in range(40)]
TEXT = ANSWER + "".join(_MORE)
SCRIPT: tuple[Event, ...] = (*STORY, StepStarted(), *map(TextDelta, _MORE), StepFinished())

TRANSPORTS = [f"ai{version}-transport" for version in (5, 6, 7)]
CLIENTS = [
    *("ai5", "ai6", "ai7", "ag-ui", "tanstack"),
    *(f"openai{version}-{way}" for version in (6, 7) for way in ("loop", "stream", "responses")),
    *TRANSPORTS,
]


class Site:
    """One agent behind the routes of every protocol, and how often it was asked what."""

    def __init__(self) -> None:
        self.asked = Counter[str]()
        self.app = Starlette()
        tail = Tailrace()
        tail.install(self.app, "/runs")
        for surface in (tail.ai_sdk, tail.ag_ui, tail.openai):
            surface(self._answer).install(self.app)

    async def _answer(self, request: AgentRequest) -> AsyncGenerator[Event, None]:
        self.asked[request.text] += 1
        while request.text.startswith("for ever"):
            yield TextDelta("word ")
            await asyncio.sleep(0.001)
        for number, event in enumerate(SCRIPT):
            # Slowly enough that connections break while there is more to come, as well as afterwards.
            await asyncio.sleep(0 if number % 4 else 0.001)
            yield event


def breaks(seed: int) -> dict[str, Any]:
    """The three ways a connection can break, in some order, at some places, as shares of the whole."""
    chance = random.Random(seed)  # noqa: S311  the same in each test
    return {"kinds": chance.sample(KINDS, 3), "places": sorted(chance.random() for _ in KINDS)}


def text_in(client: str, value: dict[str, Any]) -> str:
    """The answer, as the client has it."""
    if client.startswith("ai"):
        return "".join(part["text"] for part in value["message"]["parts"] if part["type"] == "text")
    if client in {"ag-ui", "tanstack"}:
        return "".join(event["delta"] for event in value["events"] if event["type"] == "TEXT_MESSAGE_CONTENT")
    if client.endswith("responses"):
        return "".join(item["delta"] for item in value["items"] if item["type"] == "response.output_text.delta")
    return "".join(choice["delta"].get("content", "") for chunk in value["items"] for choice in chunk["choices"])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("client", CLIENTS)
def test_three_breaks_of_every_kind_at_any_place_lose_nothing(
    node: Node, client_package: Path, serve: Serve, cuts: Cuts, client: str, record_property: Callable[..., None]
) -> None:
    site = Site()
    server = serve(site.app)
    proxy = cuts(server.port)
    seeds = json.dumps([breaks(seed) for seed in range(SEEDS)])

    told = node.run(
        "resumable_fetch.mjs",
        "cuts",
        client_package,
        f"http://127.0.0.1:{server.port}",
        client,
        proxy.url,
        seeds,
        timeout_seconds=100,
    )

    assert told["differing"] == []
    assert text_in(client, told["value"]) == TEXT
    assert told["value"].get("error") is None
    assert (told["count"], proxy.cuts) == (SEEDS, 3 * SEEDS)
    assert told["requests"] == ["POST GET GET GET"]
    assert site.asked == {"uncut": 1, **{f"seed {seed}": 1 for seed in range(SEEDS)}}
    record_property("seconds", told["seconds"])


def test_a_client_that_is_stopped_cancels_its_run(node: Node, client_package: Path, serve: Serve, cuts: Cuts) -> None:
    site = Site()
    server = serve(site.app)
    proxy = cuts(server.port)
    url = f"http://127.0.0.1:{server.port}"

    told = node.run("resumable_fetch.mjs", "stop", client_package, url, proxy.url, *CLIENTS)

    assert proxy.cuts == len(told) == len(CLIENTS)
    for client, answer in told.items():
        assert "event: run.cancelled" in answer["last"], client
        assert '"reason":"user"' in answer["last"], client
        assert answer["requests"][1:] == ["GET events", "POST stop" if client in TRANSPORTS else "POST cancel"], client
        if client.startswith("ai"):
            assert answer["finished"] == {"isAbort": True, "isDisconnect": False, "isError": False}, client
    assert site.asked == {f"for ever: {client}": 1 for client in CLIENTS}
