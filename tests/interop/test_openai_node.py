"""The openai package of npm, in two majors, reads what we write, runs its own tools only, and loses nothing."""

from collections.abc import AsyncGenerator, Callable

import pytest
from fastapi import FastAPI

from tailrace import Tailrace
from tailrace.events import Event, ToolArgsDelta, ToolReady, ToolStarted
from tailrace.fold import ToolPart
from tailrace.web.mounts.contract import AgentRequest
from tests.integration.support.server import AppServer
from tests.interop.conftest import Node
from tests.interop.cutting_proxy import CuttingProxy
from tests.interop.story import ANSWER, story

Serve = Callable[..., AppServer]
Cuts = Callable[[int], CuttingProxy]

every_version = pytest.mark.parametrize("version", [6, 7])


def app_of(agent: Callable[[AgentRequest], AsyncGenerator[Event | str]]) -> FastAPI:
    tail = Tailrace()
    app = FastAPI()
    tail.install(app, "/runs")
    tail.openai(agent).install(app)
    return app


@pytest.fixture
def server(serve: Serve) -> AppServer:
    """Tells the story to whoever asks."""
    return serve(app_of(lambda _: story()))


@every_version
def test_the_story_is_read_in_every_way_there_is(node: Node, server: AppServer, version: int) -> None:
    read = node.run("openai.mjs", version, f"http://127.0.0.1:{server.port}")

    total = len(read["numbers"])
    assert read == {
        "rawChat": ANSWER,
        "usage": 46,
        "helped": ANSWER,
        "helpedUsage": 46,
        "finish": "stop",
        "document": ANSWER,
        "looped": ANSWER,
        "ran": 0,
        "numbers": list(range(total)),
        "final": ["Two cities, so two calls. ", "One moment. ", ANSWER.removeprefix("One moment. ")],
        "items": ["reasoning", "message", "mcp_call", "mcp_call", "message", "mcp_call"],
        "helpedResponse": ANSWER,
        "responseDocument": ANSWER,
        "rest": list(range(10, total)),
        "begun": "in_progress",
        "background": ANSWER,
        "same": True,
        "models": ["tailrace"],
        "refusals": {"model": "NotFoundError", "response": "NotFoundError", "body": "BadRequestError"},
    }


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["reset", "half", "eof"])
@every_version
def test_wherever_a_response_is_cut_the_rest_is_read_without_a_gap(
    node: Node, server: AppServer, cuts: Cuts, version: int, how: str
) -> None:
    proxy = cuts(server.port)

    read = node.run("openai-cuts.mjs", version, f"http://127.0.0.1:{server.port}", proxy.url, how, timeout_seconds=100)

    assert proxy.cuts == len(read["cuts"]) == read["total"] - 1
    assert [cut for cut in read["cuts"] if not (cut["gapless"] and cut["same"])] == []
    # What a reset overtakes is lost.
    lost = [cut["place"] - cut["seen"] for cut in read["cuts"]]
    assert min(lost) >= 0
    assert how != "eof" or max(lost) == 0


@every_version
def test_the_loop_runs_the_clients_own_tool_and_no_other(node: Node, serve: Serve, version: int) -> None:
    async def agent(asked: AgentRequest) -> AsyncGenerator[Event | str]:
        yield ToolStarted(call_id="c0", name="look_up")
        yield ToolReady(call_id="c0", input={})
        outputs = [part.output for part in asked.messages[-1].parts if isinstance(part, ToolPart)]
        if outputs:
            yield f"It is {outputs[0]}."
            return
        yield ToolStarted(call_id="c1", name="clock", executor="client")
        yield ToolArgsDelta('{"zone":', call_id="c1")
        yield ToolArgsDelta('"JST"}', call_id="c1")

    server = serve(app_of(agent))

    read = node.run("openai-tools.mjs", version, f"http://127.0.0.1:{server.port}")

    assert read == {"answers": ["It is noon in JST."] * 2, "asked": [{"zone": "JST"}] * 2}
