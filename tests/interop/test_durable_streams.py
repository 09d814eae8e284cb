"""The protocol's own conformance tests pass against our streams, on every store, and its client reads our runs."""

import json
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware

from tailrace import Tailrace
from tests.integration.support.apps import chat_app
from tests.integration.support.client import fetch, open_stream
from tests.integration.support.server import AppServer
from tests.integration.support.sources import FAILING_RUN, Gate, Script
from tests.integration.support.stores import STORES, a_store
from tests.interop.conftest import Node
from tests.interop.cutting_proxy import CuttingProxy

_HERE = Path(__file__).parent

#: So many there are of the protocol itself, and of what it allows a server not to have.
CORE_TESTS, FORK_TESTS, SUBSCRIPTION_TESTS = 250, 82, 6
_SUITE_SECONDS = 150
_PACE_SECONDS = 0.02


Serve = Callable[..., AppServer]


def begun(server: AppServer) -> str:
    """The path of the log of a run that has begun, and that nobody reads."""
    with open_stream(server.port, "POST", "/chat") as stream:
        location = stream.head["location"]
    server.eventually(lambda: not server.connection_count)
    return f"{location.removesuffix('events')}log"


def streams_app(store: str) -> Starlette:
    """Streams whose names are whatever the tests make up, open to every page."""
    tail = Tailrace()
    app = Starlette(lifespan=tail.lifespan)
    app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
    tail.durable(store, open_names=True).install(app, "/v1/stream")
    return app


def conformance(node: Node, url: str, report: Path) -> dict[str, list[str]]:
    """The names of the tests by their result; those of forks are left out."""
    vitest = _HERE / "node_modules" / "vitest" / "vitest.mjs"
    command = [node.executable, str(vitest), "run", "js/durable_streams.test.mjs", "--root", str(_HERE)]
    command += ["--reporter=json", f"--outputFile={report}", "--testNamePattern=^(?!Fork - )"]
    environment = {**os.environ, "CONFORMANCE_TEST_URL": url}
    # That some failed is in the report too.
    subprocess.run(command, cwd=_HERE, env=environment, capture_output=True, timeout=_SUITE_SECONDS, check=False)
    found: dict[str, list[str]] = {}
    for result in json.loads(report.read_text())["testResults"]:
        for test in result["assertionResults"]:
            found.setdefault(test["status"], []).append(test["fullName"])
    return found


@pytest.mark.timeout(_SUITE_SECONDS + 30)
@pytest.mark.parametrize("kind", STORES)
def test_the_conformance_tests_pass(
    node: Node,
    serve: Callable[..., AppServer],
    kind: str,
    tmp_path: Path,
    require_program: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tailrace.web.log.LONG_POLL_SECONDS", 0.5)
    with a_store(kind, tmp_path, require_program) as store, AppServer(streams_app(store)) as server:
        found = conformance(node, f"http://127.0.0.1:{server.port}", tmp_path / "report.json")

    assert found.get("failed", []) == []
    assert {status: len(names) for status, names in found.items()} == {
        "passed": CORE_TESTS,
        "skipped": FORK_TESTS + SUBSCRIPTION_TESTS,
    }


def whole(server: AppServer, log: str) -> list[dict[str, Any]]:
    """The events of a run that has ended, with their numbers."""
    return msgspec.json.decode(fetch(server.port, "GET", log).body, type=list[dict[str, Any]])


@pytest.mark.parametrize("live", ["sse", "long-poll"])
def test_their_client_reads_a_run_to_its_end_while_it_goes_on(node: Node, serve: Serve, live: str) -> None:
    server = serve(chat_app(Tailrace(), Script(*FAILING_RUN, pace_seconds=_PACE_SECONDS)))
    log = begun(server)

    told = node.run("durable_streams.mjs", f"http://127.0.0.1:{server.port}{log}", live)

    assert told == {"items": whole(server, log), "again": 0}
    assert told["items"][-1]["type"] == "run.failed"


@pytest.mark.parametrize("how", ["reset", "half", "eof"])
@pytest.mark.parametrize("place", [0, 1, 2, 5])
def test_their_client_loses_nothing_where_its_connection_breaks(
    node: Node, serve: Serve, cuts: Callable[[int], CuttingProxy], how: str, place: int
) -> None:
    tail, gate = Tailrace(), Gate()
    server = serve(chat_app(tail, Script("a", gate, *FAILING_RUN, pace_seconds=_PACE_SECONDS)))
    proxy = cuts(server.port)
    log = begun(server)

    with ThreadPoolExecutor(1) as threads:
        # Its first request asks for what is there, its second one for an event stream.
        telling = threads.submit(node.run, "durable_streams.mjs", f"{proxy.url}/~a:{how}:0,{place}{log}", "sse")
        server.eventually(lambda: tail.stream_count)
        gate.open()
        told = telling.result()

    assert proxy.cuts == 1
    # It gives out data before it has read the place after it, and may then ask for the same again: `seq` tells.
    assert told["items"] == whole(server, log)
