"""TanStack AI's own client comes back by itself, with the same POST and its place: nothing is lost or told twice."""

from collections.abc import Callable

import pytest

from tests.integration.support.server import AppServer
from tests.interop.ag_ui_site import site
from tests.interop.conftest import Node
from tests.interop.cutting_proxy import CuttingProxy
from tests.interop.story import ANSWER, REASONING

Serve = Callable[..., AppServer]
Cuts = Callable[[int], CuttingProxy]


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def server(serve: Serve) -> AppServer:
    return serve(site())


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["reset", "half", "eof"])
def test_a_lost_connection_loses_nothing_wherever_it_is_lost(
    node: Node, server: AppServer, cuts: Cuts, how: str
) -> None:
    proxy = cuts(server.port)

    told = node.run("tanstack.mjs", "cuts", url(server.port), how, proxy.url)

    assert told["differing"] == []
    assert told["frames"] - 1 == proxy.cuts == len(told["types"]) - 1 > 40
    assert (told["types"][0], told["types"][-1]) == ("RUN_STARTED", "RUN_FINISHED")


def test_a_connection_that_is_lost_again_and_again_loses_nothing(node: Node, server: AppServer, cuts: Cuts) -> None:
    proxy = cuts(server.port)

    told = node.run("tanstack.mjs", "flapping", url(server.port), proxy.url)

    assert told["same"]
    assert proxy.cuts >= told["count"] // 2 - 1


def test_what_is_told_again_is_not_taken_twice(node: Node, server: AppServer, cuts: Cuts) -> None:
    proxy = cuts(server.port)

    assert node.run("tanstack.mjs", "overlap", url(server.port), proxy.url)
    assert proxy.cuts == 1


def test_a_heartbeat_changes_nothing(node: Node, serve: Serve) -> None:
    server = serve(site(heartbeat_seconds=0.05))

    assert node.run("tanstack.mjs", "heartbeat", url(server.port)) == {"heard": True, "same": True}


def test_another_page_joins_a_run_by_its_id(node: Node, server: AppServer) -> None:
    told = node.run("tanstack.mjs", "join", url(server.port))

    assert (told["active"], told["joined"], told["later"]) == (True, True, True)
    assert (told["after"]["activeRun"], told["after"]["interrupts"]) == (None, None)
    assert [message["role"] for message in told["after"]["messages"]] == ["user"]


def test_a_page_that_is_opened_again_shows_what_the_first_one_shows(node: Node, server: AppServer) -> None:
    told = node.run("tanstack.mjs", "reload", url(server.port))

    assert told["error"] is None
    assert told["again"] == told["messages"]
    parts = [part for message in told["messages"] for part in message["parts"]]
    contents = {kind: [part["content"] for part in parts if part["type"] == kind] for kind in ("text", "thinking")}
    assert "".join(contents["text"]) == f"stop at 9{ANSWER}"
    assert "".join(contents["thinking"]) == REASONING
    results = [part["state"] for part in parts if part["type"] == "tool-result"]
    assert results == ["complete", "complete", "error"]


def test_what_a_client_was_told_it_may_send_back(node: Node, server: AppServer) -> None:
    told = node.run("tanstack.mjs", "converse", url(server.port))

    assert (told["status"], told["error"]) == ("ready", None)
    assert [message["role"] for message in told["messages"]] == ["user", "assistant", "assistant", "user", "assistant"]
    assert told["messages"][-1]["parts"] == [{"type": "text", "content": "In short."}]


def test_the_stop_route_ends_a_run_and_is_no_error_to_a_client_that_declares_its_version(
    node: Node, server: AppServer
) -> None:
    told = node.run("tanstack.mjs", "stop", url(server.port))

    assert told == {
        "plain": {"route": 202, "status": "error", "error": "The run was cancelled."},
        "declared": {"route": 202, "status": "ready", "error": None},
    }


def test_a_pause_is_there_for_the_page_that_is_opened_again(node: Node, server: AppServer) -> None:
    told = node.run("tanstack.mjs", "pause", url(server.port))

    pending = [{"id": "i1", "reason": "approval", "message": "May I?"}]
    assert told["outcome"] == {"type": "interrupt", "interrupts": pending}
    assert told["interrupts"] == {"runId": told["asked"], "pending": pending}
