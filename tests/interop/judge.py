"""The real clients as judges: each is given a whole response body and says what it made of it."""

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

__all__ = ["Judge", "Verdict"]

_HERE = Path(__file__).parent


class Verdict(NamedTuple):
    """What a client made of a body.

    Attributes:
        error: What it raised, if it did: the name and the message.
        warnings: What it complained about on the console.
        value: What it has in the end.
    """

    error: str | None
    warnings: list[str]
    value: Any


class Judge:
    """One process with all clients, from entering to leaving the `with` block."""

    def __init__(self, node: str) -> None:
        """Take the path of Node.js."""
        self._node = node

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [self._node, str(_HERE / "js" / "judge.mjs")],
            cwd=_HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, client: str, body: bytes) -> Verdict:
        """What a client says of a body; see `js/judge.mjs` for their names."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"client": client, "body": body.decode()}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the judge died: {self._process.communicate()[1]}"
        verdict = json.loads(line)
        return Verdict(verdict["error"], verdict["warnings"], verdict["value"])
