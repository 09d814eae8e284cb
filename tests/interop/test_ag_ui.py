"""AG-UI's own client accepts whatever is written for it, without one warning, and joins a run wherever it is.

A warning goes to stderr, and a script that writes there fails its test.
"""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tailrace import events
from tailrace.events import Event, RunStarted, TextDelta, ToolArgsDelta, ToolStarted
from tailrace.wire.dialects.ag_ui import DIALECT
from tests.integration.support.server import AppServer
from tests.interop.ag_ui_site import site
from tests.interop.conftest import Node
from tests.interop.story import ANSWER, REASONING, STORY
from tests.unit.strategies import TERMINALS, filled, numbered

Serve = Callable[..., AppServer]

UNFINISHED: list[Event] = [
    events.StepStarted(name="think"),
    TextDelta("Let me see. "),
    ToolStarted(call_id="c1", name="search"),
    ToolArgsDelta('{"q": "wa', call_id="c1"),
    events.ToolOutput(call_id="nobody's", output=None),
    events.ReasoningDelta("Hm"),
]


def encoded(*content: Event, protocol_version: str | None) -> bytes:
    encoder = DIALECT.encoder(run_id="run", protocol_version=protocol_version)
    log = filled(numbered([RunStarted(run_id="run", thread_id="thread"), *content]))
    return b"".join(frame for entry in log for frame in encoder.encode(entry)) + b": end\n"


def serving(streams: dict[str, bytes]) -> Starlette:
    """An application that answers each path with a stream that is there already."""

    async def answer(request: Request) -> Response:
        return Response(streams[request.path_params["name"]], media_type="text/event-stream")

    return Starlette(routes=[Route("/{name}", answer, methods=["POST"])])


def url(server: AppServer) -> str:
    return f"http://127.0.0.1:{server.port}"


def said(messages: list[dict[str, Any]], role: str) -> str:
    return "".join(message["content"] for message in messages if message["role"] == role and "content" in message)


#: By the class of the terminal event: the outcome of `RUN_FINISHED`, or the code of `RUN_ERROR`.
DECLARED = {
    "RunCompleted": ("success", None),
    "RunFailed": (None, "timeout"),
    "RunCancelled": ("cancelled", None),
    "RunInterrupted": (None, "worker_lost"),
    "RunPaused": ("interrupt", None),
}
PLAIN = {**DECLARED, "RunCancelled": (None, "cancelled"), "RunPaused": ("success", None)}


@pytest.mark.parametrize(("version", "endings"), [("1.0", DECLARED), (None, PLAIN)])
def test_every_ending_is_accepted_whatever_is_open(
    node: Node, serve: Serve, version: str | None, endings: dict[str, tuple[str | None, str | None]]
) -> None:
    streams = {type(end).__name__: encoded(*STORY, end, protocol_version=version) for end in TERMINALS}
    streams |= {f"Un{type(end).__name__}": encoded(*UNFINISHED, end, protocol_version=version) for end in TERMINALS}

    answers = node.run("ag_ui.mjs", "read", url(serve(serving(streams))), *streams)

    for name, answer in answers.items():
        kind = name.removeprefix("Un")
        assert answer["error"] is None, name
        assert (answer["outcome"], answer["code"]) == endings[kind], name
        if name == kind:
            assert said(answer["messages"], "reasoning") == REASONING
            assert said(answer["messages"], "assistant") == ANSWER
            assert answer["events"].count("TOOL_CALL_RESULT") == 3


def test_what_a_client_was_told_it_may_send_back(node: Node, serve: Serve) -> None:
    answers = node.run("ag_ui.mjs", "converse", url(serve(site())))

    for answer in answers.values():
        assert (answer["outcome"], answer["error"]) == ("success", None)
    roles = [message["role"] for message in answers["second"]["messages"] if message["role"] != "activity"]
    told = ["reasoning", "assistant", "tool", "tool", "assistant", "tool"]
    assert roles == ["user", *told, "user", "assistant"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("knowing", ["everything", "hydrating", "empty"])
def test_a_client_that_joins_ends_with_the_messages_of_the_one_that_began(
    node: Node, serve: Serve, knowing: str
) -> None:
    assert node.run("ag_ui.mjs", "join", url(serve(site())), len(STORY), knowing) == []


def test_the_stop_route_ends_a_run_in_the_clients_version(node: Node, serve: Serve) -> None:
    answers = node.run("ag_ui.mjs", "stop", url(serve(site())))

    told = {name: (answer["events"], answer["outcome"], answer["code"]) for name, answer in answers.items()}
    assert told == {
        "declared": ("RUN_FINISHED", "cancelled", None),
        "older": ("RUN_ERROR", None, "cancelled"),
    }
    assert {answer["status"] for answer in answers.values()} == {202}


def test_a_pause_is_told_in_the_clients_version(node: Node, serve: Serve) -> None:
    answers = node.run("ag_ui.mjs", "pause", url(serve(site())))

    declared, older = answers["declared"], answers["older"]
    assert (declared["outcome"], older["outcome"]) == ("interrupt", "success")
    assert declared["interrupts"] == [{"id": "i1", "reason": "approval", "message": "May I?"}]
    assert older["events"][-2:] == ["CUSTOM", "RUN_FINISHED"]
    assert {answer["resumed"] for answer in answers.values()} == {"It is resolved."}


def test_a_run_is_told_to_whoever_asks_for_it_by_its_id(node: Node, serve: Serve) -> None:
    first, *others = node.run("ag_ui.mjs", "twice", url(serve(site())))

    assert others == [first, first]
