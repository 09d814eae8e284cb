"""The AI SDK's own chat, in the three majors that are in use, reads what the dialect and its routes say."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tailrace import Tailrace, events
from tailrace.events import Event, RunStarted, TextDelta, ToolOutput, ToolReady, ToolStarted
from tailrace.fold import ToolPart
from tailrace.web.mounts.contract import AgentRequest
from tailrace.wire.dialects.ai_sdk import DIALECT
from tests.integration.support.server import AppServer
from tests.interop.conftest import Node
from tests.interop.cutting_proxy import CuttingProxy
from tests.interop.story import ANSWER, REASONING, STORY, story
from tests.unit.strategies import TERMINALS, filled, numbered

Serve = Callable[..., AppServer]
Cuts = Callable[[int], CuttingProxy]

VERSIONS = [5, 6, 7]
every_version = pytest.mark.parametrize("version", VERSIONS)
UNFINISHED: list[Event] = [
    TextDelta("Let me see. "),
    ToolStarted(call_id="c1", name="search"),
    events.ToolArgsDelta('{"q": "wa', call_id="c1"),
    ToolReady(call_id="c2", name="look_up", input={"q": "x"}),
    events.ReasoningDelta("Hm"),
]


def encoded(version: int, content: list[Event], *, fill: bool = True) -> bytes:
    log = numbered(content)
    encoder = DIALECT.encoder(run_id="run", sdk_version=version)
    return b"".join(frame for entry in (filled(log) if fill else log) for frame in encoder.encode(entry))


def serving(streams: dict[str, bytes]) -> Starlette:
    """An application that answers each path with a stream that is there already."""

    async def answer(request: Request) -> Response:
        return Response(streams[request.path_params["name"]], media_type="text/event-stream")

    return Starlette(routes=[Route("/{name}", answer, methods=["POST"])])


async def _agent(request: AgentRequest) -> AsyncGenerator[Event, None]:
    """Does what it is told."""
    last = request.messages[-1]
    if last.role == "assistant":
        (tool,) = [part for part in last.parts if isinstance(part, ToolPart)]
        if tool.state == "ready":
            yield ToolOutput(call_id=tool.call_id, output="gone")
        yield TextDelta(f"{tool.name}: {tool.state} {tool.output}")
    elif request.text == "for ever":
        yield ToolReady(call_id="c1", name="look_up", input={})
        while True:
            yield TextDelta("word ")
            await asyncio.sleep(0.01)
    elif request.text == "slowly":
        for number in range(20):
            yield TextDelta(f"{number} ")
            await asyncio.sleep(0.01)
    elif request.text == "where am I":
        yield TextDelta("Let me see. ")
        yield events.Data("receipt", {"total": 1})
        yield ToolStarted(call_id="c1", name="locate", executor="client")
        yield ToolReady(call_id="c1", name="locate", input={})
    elif request.text == "delete it":
        yield ToolReady(call_id="c1", name="delete", input={"path": "x"})
        approval = events.Interrupt(id="i1", kind="approval", call_id="c1", message="May I?")
        yield events.RunPaused(interrupts=[approval])
    else:
        async for event in story():
            yield event


@pytest.fixture
def server(serve: Serve) -> AppServer:
    app = Starlette()
    tail = Tailrace()
    tail.install(app, "/runs")
    tail.ai_sdk(_agent).install(app)
    return serve(app)


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def text_of(message: dict[str, Any], kind: str = "text") -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == kind)


@every_version
def test_every_chunk_is_one_that_the_client_knows_however_the_run_ends(node: Node, serve: Serve, version: int) -> None:
    started = RunStarted(run_id="run", thread_id="thread", message_id="msg_1")
    streams = {type(end).__name__: encoded(version, [started, *STORY, end]) for end in TERMINALS}
    streams |= {f"Un{type(end).__name__}": encoded(version, [started, *UNFINISHED, end]) for end in TERMINALS}
    server = serve(serving(streams))

    read = node.run("ai_sdk.mjs", version, "read", url(server.port), *streams)

    for name, answer in read.items():
        kind = name.removeprefix("Un")
        question, message = answer["messages"]
        assert answer["error"] == {
            "RunFailed": "The answer took too long.",
            "RunInterrupted": "The answer was interrupted.",
        }.get(kind), name
        assert answer["status"] == ("error" if answer["error"] else "ready")
        assert answer["open"] == [], name
        assert (question["role"], message["id"]) == ("user", "msg_1")
        assert message["metadata"]["runId"] == "run"
        assert f"Run{message['metadata']['status'].title()}" == kind
        if name == kind:
            assert (text_of(message), text_of(message, "reasoning")) == (ANSWER, REASONING)


@every_version
def test_a_call_without_a_result_ends_with_its_run_unless_the_run_waits_for_it(
    node: Node, serve: Serve, version: int
) -> None:
    streams = {type(end).__name__: encoded(version, [*UNFINISHED, end]) for end in TERMINALS}
    server = serve(serving(streams))

    read = node.run("ai_sdk.mjs", version, "read", url(server.port), *streams)

    states = {
        name: [part["state"] for part in answer["messages"][1]["parts"] if part["type"] == "dynamic-tool"]
        for name, answer in read.items()
    }
    assert states == {
        "RunCompleted": ["output-error", "input-available"],
        "RunFailed": ["output-error", "output-error"],
        "RunCancelled": ["output-error", "output-error"],
        "RunInterrupted": ["output-error", "output-error"],
        "RunPaused": ["output-error", "input-available"],
    }


ODD: dict[str, list[Event]] = {
    "outputs without calls": [
        ToolOutput(call_id="x", output=None),
        events.ToolProgress(call_id="y", output=1, progress=0.1),
        events.ToolError(call_id="z", code="e", message="No."),
        events.ToolError(call_id="w", code="e", message="No.", phase="input"),
        events.ToolArgsDelta("{}", call_id="v"),
        ToolOutput(output=2),
    ],
    "everything twice": [
        *(event for event in STORY for _ in range(2)),
        *STORY,
        RunStarted(run_id="run", message_id="other"),
        events.TextDone(),
    ],
    "used ids": [
        event
        for number in range(3)
        for event in (
            TextDelta(f"{number}", message_id="m", part_id="p"),
            events.TextDone(message_id="m", part_id="p"),
            events.ReasoningDelta(f"{number}", message_id="m", part_id="p"),
            ToolReady(call_id="p", name="look", input=None),
            ToolOutput(call_id="p", output=number),
        )
    ],
    "interleaved": [
        event
        for number in range(3)
        for event in (
            TextDelta(f"a{number}", message_id="m", part_id="a"),
            TextDelta(f"b{number}", message_id="m", part_id="b"),
            TextDelta(f"c{number}", message_id="n", part_id="c"),
            events.ReasoningDelta("hm", message_id="n", part_id="a"),
            ToolStarted(call_id=f"t{number}", name="look", message_id="n"),
            events.StepStarted(),
            events.ToolArgsDelta("{}", call_id=f"t{number}"),
            events.StepFinished(),
            ToolReady(call_id=f"t{number}", input={}),
            events.StepFinished(),
            ToolOutput(call_id=f"t{number}", output=[None]),
        )
    ],
    "nothing": [],
    "beside": [
        events.Data("x", None, id=""),
        events.Data("status", {"of": "ours"}, transient=False),
        events.Source(kind="url"),
        events.Source(kind="document", url="u", filename="f"),
        events.File(media_type="image/png", url="data:image/png;base64,"),
        events.StateSnapshot(state=None),
        events.StateDelta(patch=[]),
        events.Progress(),
        events.Usage(),
        events.UIAction({}),
        events.RunPaused(interrupts=[events.Interrupt(id="i", kind="approval", call_id="nowhere")]),
    ],
    "a snapshot": [
        events.Snapshot(
            upto_seq=9,
            messages=[
                {"role": "user", "parts": [{"type": "text", "text": "Before?"}]},
                {
                    "role": "assistant",
                    "id": "m",
                    "parts": [
                        {"type": "reasoning", "id": "r", "text": "Hm", "done": True},
                        {"type": "tool", "call_id": "t", "name": "look", "state": "running", "output": 1},
                        {"type": "tool", "call_id": "s", "name": "see", "state": "started", "args": "{"},
                        {"type": "text", "id": "p", "text": "so far"},
                    ],
                },
            ],
            state={"a": 1},
            usage=[{"type": "usage", "input_tokens": 3}],
        ),
        TextDelta(" and on", message_id="m", part_id="p"),
        events.ToolArgsDelta("}", call_id="s"),
        ToolReady(call_id="s", input={}),
        ToolOutput(call_id="t", output=2),
    ],
    "a snapshot of nonsense": [events.Snapshot(upto_seq=1, messages=[{"parts": 7}, None], usage=[1])],
}


@every_version
def test_whatever_order_a_source_takes_the_client_reads_on(node: Node, serve: Serve, version: int) -> None:
    """Without the ids that a producer fills in as well as with them."""
    names = {name.replace(" ", "-"): content for name, content in ODD.items()}
    done = events.RunCompleted()
    streams = {name: encoded(version, [*content, done], fill=False) for name, content in names.items()}
    streams |= {f"filled-{name}": encoded(version, [*content, done]) for name, content in names.items()}
    server = serve(serving(streams))

    read = node.run("ai_sdk.mjs", version, "read", url(server.port), *streams)

    assert {name: answer["error"] for name, answer in read.items() if answer["error"]} == {}
    assert {name: answer["open"] for name, answer in read.items() if answer["open"]} == {}
    assert text_of(read["interleaved"]["messages"][1]) == "a0b0c0a1b1c1a2b2c2"
    assert text_of(read["used-ids"]["messages"][1]) == "012"
    assert text_of(read["a-snapshot"]["messages"][1]) == "so far and on"


@every_version
def test_what_a_server_has_answered_is_not_sent_back_by_the_page(node: Node, serve: Serve, version: int) -> None:
    """A page that sends tool results back by itself would begin another run, and another one after it."""
    call: list[Event] = [ToolReady(call_id="c", name="look", input={}), ToolOutput(call_id="c", output=1)]
    contents: dict[str, list[Event]] = {
        "in-one-step": [*call, TextDelta("It is 1.")],
        "at-the-end": [TextDelta("Look: "), *call],
        "in-its-own-step": [events.StepStarted(), *call, TextDelta("It is 1."), events.StepFinished()],
        "story": list(STORY),
    }
    endings: list[Event] = [events.RunCompleted(), events.RunCancelled(reason="user"), events.RunPaused(interrupts=[])]
    streams = {
        f"{name}-{type(end).__name__}": encoded(version, [RunStarted(run_id="run", message_id="m"), *content, end])
        for name, content in contents.items()
        for end in endings
    }
    server = serve(serving(streams))

    requests = node.run("ai_sdk.mjs", version, "loop", url(server.port), *streams)

    assert requests == dict.fromkeys(streams, 1)


# The routes


@every_version
@pytest.mark.parametrize("how", ["reset", "half", "eof"])
def test_a_page_that_is_loaded_again_after_a_cut_anywhere_has_it_all(
    node: Node, server: AppServer, cuts: Cuts, version: int, how: str
) -> None:
    proxy = cuts(server.port)

    told = node.run("ai_sdk.mjs", version, "cuts", url(server.port), how, "reload", proxy.url)

    assert told["differing"] == []
    assert told["text"] == REASONING + ANSWER
    assert proxy.cuts >= told["frames"] > len(STORY)


@pytest.mark.parametrize("version", [6, 7])
@pytest.mark.parametrize("how", ["reset", "half", "eof"])
def test_a_page_that_resumes_after_a_cut_anywhere_has_it_all_and_once(
    node: Node, server: AppServer, cuts: Cuts, version: int, how: str
) -> None:
    proxy = cuts(server.port)

    told = node.run("ai_sdk.mjs", version, "cuts", url(server.port), how, "page", proxy.url)

    assert told["differing"] == []
    assert proxy.cuts >= told["frames"] > len(STORY)


def test_version_5_has_some_of_it_twice_if_the_page_resumes_without_being_loaded_again(
    node: Node, server: AppServer, cuts: Cuts
) -> None:
    """What the page says of 5 is true, and this tells when it no longer is."""
    told = node.run("ai_sdk.mjs", 5, "cuts", url(server.port), "reset", "page", cuts(server.port).url)

    assert told["differing"]
    assert {answer["error"] for answer in told["differing"]} == {None}


@every_version
def test_a_stop_ends_the_answer_in_both_tabs(node: Node, server: AppServer, version: int) -> None:
    told = node.run("ai_sdk.mjs", version, "stop", url(server.port))

    assert told["statuses"] == [200, 202, 200]
    assert told["open"] == []
    for tab in (told["one"], told["two"]):
        assert (tab["status"], tab["error"]) == ("ready", None)
        assert tab["messages"][1]["metadata"]["status"] == "cancelled"
    assert told["one"]["messages"][1] == told["two"]["messages"][1]
    assert (told["idle"]["status"], told["idle"]["error"], len(told["idle"]["messages"])) == ("ready", None, 1)


@every_version
def test_two_tabs_show_the_same_answer(node: Node, server: AppServer, version: int) -> None:
    told = node.run("ai_sdk.mjs", version, "tabs", url(server.port))

    answer = told["one"]["messages"][1]
    assert text_of(answer) == "".join(f"{number} " for number in range(20))
    assert told["two"]["messages"][1] == answer
    assert len(told["two"]["messages"]) == 2


@every_version
def test_the_result_of_a_tool_of_the_page_continues_the_message(node: Node, server: AppServer, version: int) -> None:
    told = node.run("ai_sdk.mjs", version, "tool", url(server.port))

    kinds = ["step-start", "text", "data-receipt", "tool-locate", "step-start", "text"]
    for page in (told["asking"], told["anew"], told["persisted"]):
        assert (page["status"], page["error"], len(page["messages"])) == ("ready", None, 2)
        assert [part["type"] for part in page["messages"][1]["parts"]] == kinds
        assert text_of(page["messages"][1]) == "Let me see. locate: done {'city': 'Bern'}"
        assert page["messages"][1]["id"] == told["asking"]["messages"][1]["id"]


@pytest.mark.parametrize("version", [6, 7])
def test_an_approval_is_asked_for_and_sent_back(node: Node, server: AppServer, version: int) -> None:
    told = node.run("ai_sdk.mjs", version, "approval", url(server.port))

    (asked,) = told["asked"]
    assert (asked["state"], asked["approval"]["id"]) == ("approval-requested", "i1")
    assert (told["status"], told["error"], len(told["messages"])) == ("ready", None, 2)
    _, call, _, text = told["messages"][1]["parts"]
    assert (call["state"], call["toolName"], call["output"]) == ("output-available", "delete", "gone")
    assert text["text"] == "delete: ready None"


@every_version
def test_an_answer_that_is_asked_for_anew_is_another_message(node: Node, server: AppServer, version: int) -> None:
    told = node.run("ai_sdk.mjs", version, "again", url(server.port))

    assert told["first"] != told["second"]
    assert len(told["messages"]) == 2
    assert text_of(told["messages"][1]) == ANSWER


@every_version
def test_a_refusal_reaches_the_page_as_json(node: Node, server: AppServer, version: int) -> None:
    refused = node.run("ai_sdk.mjs", version, "again", url(server.port))["refused"]

    assert refused["status"] == "error"
    assert json.loads(refused["error"])["error"] == {
        "code": "option_invalid",
        "message": "sdk_version cannot be '4'",
        "status": 400,
    }


@every_version
def test_use_chat_resumes_under_strict_mode_and_has_it_all_once(node: Node, server: AppServer, version: int) -> None:
    told = node.run("ai_sdk_react.mjs", version, url(server.port))

    assert (told["errors"], told["status"]) == ([], "ready")
    assert [message["role"] for message in told["messages"]] == ["user", "assistant"]
    assert text_of(told["messages"][1]) == "".join(f"{number} " for number in range(20))
    assert told["shown"] == text_of(told["messages"][1])


@every_version
def test_use_chat_is_idle_where_there_is_nothing_to_resume(node: Node, server: AppServer, version: int) -> None:
    told = node.run("ai_sdk_react.mjs", version, url(server.port), "nothing")

    assert told["errors"] == []
    assert (told["status"], len(told["messages"])) == ("ready", 1)
