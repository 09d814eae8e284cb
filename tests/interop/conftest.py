"""What the interop tests share: the real clients from npm, a server for them, and a way to it that breaks."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.support.server import AppServer
from tests.interop.cutting_proxy import CuttingProxy
from tests.missing import missing

_HERE = Path(__file__).parent
_PACKAGE = _HERE.parents[1] / "js" / "client" / "dist"
_SCRIPT_SECONDS = 50


class Node:
    """Runs the scripts of `js/`, which drive the clients."""

    def __init__(self, executable: str) -> None:
        self.executable = executable

    def run(self, script: str, *args: object, timeout_seconds: float = _SCRIPT_SECONDS) -> Any:  # noqa: ANN401
        """What a script says: the last line of its output, as JSON.

        A script that fails, takes too long or writes anything to stderr fails the test.
        """
        command = [self.executable, str(_HERE / "js" / script), *map(str, args)]
        done = subprocess.run(command, cwd=_HERE, capture_output=True, text=True, timeout=timeout_seconds, check=False)
        assert done.returncode == 0, f"{script}: {done.stderr or done.stdout}"
        assert done.stderr == "", f"{script} warned: {done.stderr}"
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def node(require_program: Callable[..., str]) -> Node:
    """Node.js with the pinned clients."""
    executable = require_program("node")
    _require(_HERE / "node_modules", "the clients from npm are not installed: make install")
    return Node(executable)


@pytest.fixture(scope="session")
def client_package() -> Path:
    """Our own npm package, built."""
    _require(_PACKAGE / "fetch.mjs", "the npm package is not built: make install")
    return _PACKAGE


@pytest.fixture
def serve() -> Iterator[Callable[..., AppServer]]:
    """Serve an application until the test ends; arguments as for `AppServer`."""
    with ExitStack() as servers:
        yield lambda *args, **options: servers.enter_context(AppServer(*args, **options))


@pytest.fixture
def cuts() -> Iterator[Callable[[int], CuttingProxy]]:
    """A way to the server on a port, on which answers break where the client's URL says so."""
    with ExitStack() as proxies:
        yield lambda port: proxies.enter_context(CuttingProxy(port))


def _require(path: Path, reason: str) -> None:
    if not path.exists():
        missing(reason)
