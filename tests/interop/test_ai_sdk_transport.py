"""`TailraceChatTransport` under the AI SDK's own chat: nothing is lost, a stop is one, and half an answer is none."""

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request

from tailrace import Tailrace
from tailrace.events import Event, TextDelta
from tailrace.web.mounts.contract import AgentRequest
from tests.integration.support.server import AppServer
from tests.interop.conftest import Node
from tests.interop.cutting_proxy import CuttingProxy
from tests.interop.story import ANSWER, REASONING, story

Serve = Callable[..., AppServer]
Cuts = Callable[[int], CuttingProxy]
Drive = Callable[..., Any]

TEXT = REASONING + ANSWER
NUMBERS = "".join(f"{number} " for number in range(20))


@pytest.fixture(params=[5, 6, 7])
def version(request: pytest.FixtureRequest) -> int:
    """Of the AI SDK."""
    return int(request.param)


@pytest.fixture
def drive(node: Node, client_package: Path, version: int) -> Drive:
    """Run a scene of the script."""

    def run(scene: str, port: int, *args: object) -> Any:  # noqa: ANN401
        return node.run("ai_sdk_transport.mjs", version, client_package, scene, f"http://127.0.0.1:{port}", *args)

    return run


async def agent(request: AgentRequest) -> AsyncGenerator[Event, None]:
    """Does what it is told."""
    while request.text == "for ever":
        yield TextDelta("word ")
        await asyncio.sleep(0.01)
    if request.text == "slowly":
        for number in range(20):
            yield TextDelta(f"{number} ")
            await asyncio.sleep(0.01)
        return
    async for event in story():
        yield event


def app_of(*, installed: bool = True, **options: Any) -> Starlette:  # noqa: ANN401  those of `Tailrace`
    app = Starlette()
    tail = Tailrace(**options)
    if installed:
        tail.install(app, "/runs")
    tail.ai_sdk(agent).install(app)
    return app


def test_a_page_that_comes_back_has_the_whole_answer_once(drive: Drive, serve: Serve, cuts: Cuts, version: int) -> None:
    server = serve(app_of())
    proxy = cuts(server.port)

    told = drive("reload", server.port, proxy.url)

    # The last cut is behind the end.
    assert proxy.cuts == told["frames"] > 40
    assert told["differing"]["fresh"] == []
    # Version 5 does not forget a tool call whose arguments it was being told when it is told again from the beginning.
    assert version == 5 or (told["differing"]["page"], told["differing"]["kept"]) == ([], [])
    assert len(told["differing"]["page"]) == len(told["differing"]["kept"]) < 10


def test_nothing_is_under_way_and_the_page_is_as_it_was(drive: Drive, serve: Serve) -> None:
    told = drive("nothing", serve(app_of()).port)

    assert (told["status"], told["errors"], told["count"]) == ("ready", [], 1)
    assert told["requests"] == ["GET stream"]


def test_a_resume_that_is_refused_is_an_error_with_what_there_is(drive: Drive, serve: Serve, cuts: Cuts) -> None:
    def owner(request: Request) -> str:
        return request.headers["x-name"]

    server = serve(app_of(owner=owner))
    proxy = cuts(server.port)

    told = drive("names", server.port, proxy.url, "ann,bob")

    assert told["status"] == "error"
    assert told["finished"] == {"isAbort": False, "isDisconnect": False, "isError": True}
    assert [error["name"] for error in told["errors"]] == ["RequestRefusedError"]
    assert told["text"]
    assert TEXT.startswith(told["text"])
    assert told["requests"] == ["POST chat", "GET events"]


def test_an_answer_that_cannot_be_resumed_is_an_error_and_no_answer(drive: Drive, serve: Serve, cuts: Cuts) -> None:
    server = serve(app_of(installed=False))
    proxy = cuts(server.port)

    told = drive("names", server.port, proxy.url, "ann")

    assert told["status"] == "error"
    assert told["finished"] == {"isAbort": False, "isDisconnect": False, "isError": True}
    assert [error["name"] for error in told["errors"]] == ["StreamBrokenError"]
    assert told["requests"] == ["POST chat"]


def test_a_token_that_has_expired_is_asked_for_anew(drive: Drive, serve: Serve, cuts: Cuts) -> None:
    seen = Counter[str]()

    def owner(request: Request) -> str:
        seen[request.headers["x-name"]] += 1
        if request.headers["x-name"] == "old" and seen["old"] > 1:
            raise HTTPException(401)
        return "ann"

    server = serve(app_of(owner=owner))
    proxy = cuts(server.port)

    told = drive("names", server.port, proxy.url, "old,old,new")

    assert (told["status"], told["errors"], told["text"]) == ("ready", [], TEXT)
    assert [attempt["number"] for attempt in told["attempts"]] == [1, 2, 3]
    assert told["attempts"][2]["status"] == 401


def test_a_stop_is_the_end_of_the_run_for_everybody_unless_it_is_to_detach(
    drive: Drive, serve: Serve, cuts: Cuts
) -> None:
    server = serve(app_of())
    proxy = cuts(server.port)

    told = drive("stop", server.port, proxy.url)

    stopped = {"isAbort": True, "isDisconnect": False, "isError": False}
    assert proxy.cuts == 1
    assert [told[tab]["finished"] for tab in ("one", "two")] == [stopped, stopped]
    assert [told[tab]["status"] for tab in ("one", "two", "three")] == ["ready"] * 3
    assert [told[tab]["errors"] for tab in ("one", "two", "three")] == [[], [], []]
    assert told["one"]["requests"] == ["POST chat"]
    assert told["two"]["requests"] == ["GET stream", "GET events", "POST stop"]
    assert told["three"]["finished"] == {**stopped, "isAbort": False}
    assert told["three"]["metadata"]["status"] == "cancelled"


def test_coming_back_twice_at_once_stops_nothing(drive: Drive, serve: Serve) -> None:
    told = drive("twice", serve(app_of()).port)

    for tab in told.values():
        assert (tab["status"], tab["errors"], tab["text"]) == ("ready", [], NUMBERS)
        assert "POST stop" not in tab["requests"]


@pytest.mark.parametrize(("how", "text"), [("send", TEXT), ("resume", NUMBERS)], ids=["send", "resume"])
def test_use_chat_has_it_all_once_whatever_becomes_of_its_connections(
    node: Node, client_package: Path, serve: Serve, cuts: Cuts, version: int, how: str, text: str
) -> None:
    proxy = cuts(serve(app_of()).port)

    told = node.run("ai_sdk_transport_react.mjs", version, client_package, f"{proxy.url}/~page:reset:7", how)

    assert (told["status"], told["errors"]) == ("ready", [])
    assert [message["role"] for message in told["messages"]] == ["user", "assistant"]
    assert (told["text"], told["shown"]) == (text, text)
    assert proxy.cuts == 1
    assert "POST stop" not in told["requests"]


def test_the_stop_button_of_use_chat_stops_the_run(
    node: Node, client_package: Path, serve: Serve, version: int
) -> None:
    server = serve(app_of())

    told = node.run("ai_sdk_transport_react.mjs", version, client_package, f"http://127.0.0.1:{server.port}", "stop")

    assert (told["status"], told["errors"]) == ("ready", [])
    assert told["requests"] == ["POST chat", "POST stop"]


def test_in_version_7_a_component_that_leaves_stops_its_run(node: Node, client_package: Path, serve: Serve) -> None:
    server = serve(app_of())

    told = node.run("ai_sdk_transport_react.mjs", 7, client_package, f"http://127.0.0.1:{server.port}", "leave")

    assert told["requests"] == ["POST chat", "POST stop"]


_STRICTLY: dict[str, Any] = {
    "target": "ES2022",
    "module": "ESNext",
    "moduleResolution": "Bundler",
    "types": [],
    "strict": True,
    "exactOptionalPropertyTypes": True,
    "skipLibCheck": True,
    "noEmit": True,
}
_PAGE = """
import type { ChatTransport, UIMessage } from 'ai';
import { TailraceChatTransport } from 'tailrace/ai-sdk';

type Own = UIMessage<{ mood: string }>;

const body = ({ messages }: { messages: Own[] }) => ({ mood: messages.at(-1)?.metadata?.mood });
export const own: ChatTransport<Own> = new TailraceChatTransport<Own>({ body });
export const plain: ChatTransport<UIMessage> = new TailraceChatTransport();
// @ts-expect-error
export const wrong: ChatTransport<Own> = new TailraceChatTransport<UIMessage<{ mood: number }>>();
"""


@pytest.mark.timeout(120)
def test_a_page_compiles_with_the_types_of_its_version(
    node: Node, client_package: Path, version: int, tmp_path: Path
) -> None:
    modules = Path(__file__).parent / "node_modules"
    compiler = Path(__file__).parents[2] / "js" / "client" / "node_modules" / "typescript" / "bin" / "tsc"
    paths = {"ai": [str(modules / f"ai{version}")], "tailrace/ai-sdk": [str(client_package / "ai-sdk.d.mts")]}
    options = {**_STRICTLY, "paths": paths}
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": ["page.ts"]}))
    (tmp_path / "page.ts").write_text(_PAGE)

    command = [node.executable, str(compiler), "-p", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert done.stdout == ""
    assert done.returncode == 0
