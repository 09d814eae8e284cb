"""The TypeScript client, in one process of node for all cases: a line of JSON for each thing asked, and one back."""

import itertools
import json
import queue
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tests.conformance.client_cases import Act, Call, Did
from tests.missing import missing

__all__ = ["NodeDriver"]

_CLIENT = Path(__file__).parents[2] / "js" / "client"
_SCRIPT = _CLIENT / "tests" / "conformance" / "driver.mjs"
_BOUND_SECONDS = 20
_LOAD_SECONDS = 100


class NodeDriver:
    """Asks the process of node; also for several things at once."""

    features: ClassVar[frozenset[str]] = frozenset({"page", "brotli"})

    def __init__(self, require_program: Callable[..., str]) -> None:
        """Start it, with the client as it was built."""
        node = require_program("node")
        if not (_CLIENT / "dist" / "index.mjs").is_file():
            missing("the client for JavaScript is not built: npx tsdown in js/client")
        self._process = subprocess.Popen([node, str(_SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_BOUND_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._reader.join(_BOUND_SECONDS)
            if self._process.stdout is not None:
                self._process.stdout.close()

    def run(self, call: Call, act: Sequence[Act], base: str, wants: Sequence[str]) -> Did:
        """Play the client's part in a case; `wants` says what is read: `events`, `entries`, `text`."""
        told = {"call": call, "act": act, "base": base, "wants": wants}
        answer = self.ask("case", **msgspec.to_builtins(told))()
        return msgspec.convert({name: value for name, value in answer.items() if name != "id"}, Did)

    def ask(self, what: str, **told: object) -> Callable[[], dict[str, Any]]:
        """Begin something; what is returned waits for its answer."""
        number = next(self._numbers)
        answers = self._answers[number] = queue.Queue()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "what": what, **told}) + "\n")
        self._process.stdin.flush()

        def answer() -> dict[str, Any]:
            found = answers.get(timeout=_BOUND_SECONDS if what == "case" else _LOAD_SECONDS)
            assert "failed" not in found, found["failed"]
            return found

        return answer

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer: dict[str, Any] = json.loads(line)
            self._answers.pop(answer["id"]).put(answer)
