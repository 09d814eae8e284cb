"""The npm package as it is built, and the programs that it is built and run with."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.missing import missing

_PACKAGE = Path(__file__).parents[2] / "js" / "client"


class NpmPackage:
    """The folder of the package, with what it is made with, built."""

    def __init__(self, path: Path, node: str) -> None:
        self.path = path
        self.node = node

    def run(self, program: str, *arguments: str, timeout_seconds: float = 55) -> str:
        """What a program of the package's tools, or a script of its own, says; it fails the test if that fails."""
        tool = self.path / "node_modules" / ".bin" / program
        command = [str(tool)] if tool.exists() else [self.node, program]
        done = subprocess.run(
            [*command, *arguments], cwd=self.path, capture_output=True, text=True, timeout=timeout_seconds, check=False
        )
        assert done.returncode == 0, f"{program}:\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="session")
def npm_package(require_program: Callable[..., str]) -> NpmPackage:
    """The package; without node or what `make install` builds the test is skipped, or fails in CI."""
    node = require_program("node")
    if not (_PACKAGE / "dist" / ".stamp").exists():
        missing("the npm package is not built: make install")
    return NpmPackage(_PACKAGE, node)
