"""A program of an example, in a process group of its own, as a terminal starts it."""

import codecs
import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["EXAMPLES", "Program"]

EXAMPLES = Path(__file__).parents[2] / "examples"
_BOUND_SECONDS = 20.0
_BYTES = 65_536


class Program:
    """Runs from entering to leaving the `with` block; whatever is left of its group then is killed.

    It may be started again after it was killed.
    """

    def __init__(self, *arguments: str, environment: Mapping[str, str]) -> None:
        """Describe it by the arguments of Python."""
        self._arguments = arguments
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._process: subprocess.Popen[bytes] | None = None
        self._output = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._news = threading.Condition()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None

    @property
    def output(self) -> str:
        """What it said up to this moment: what is on its way from it is taken first."""
        if self._process is not None:
            self._take(self._process)
        return self._output

    def start(self) -> None:
        """Start it, with nothing said yet."""
        assert not self.alive
        self._output = ""
        self._process = process = subprocess.Popen(
            [sys.executable, *self._arguments],
            cwd=EXAMPLES,
            env=self._environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._reader.start()

    def until_says(self, pattern: str) -> re.Match[str]:
        """Wait until its output has this somewhere."""
        found: list[re.Match[str]] = []

        def has_said() -> bool:
            found.extend(re.finditer(pattern, self._output))
            return bool(found)

        with self._news:
            said = self._news.wait_for(has_said, _BOUND_SECONDS)
        assert said, f"{pattern!r} is not in the output:\n{self._output}"
        return found[0]

    def interrupt(self) -> int:
        """Press Ctrl+C, and wait for its end; the exit code."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGINT)
        return self._process.wait(_BOUND_SECONDS)

    def kill(self) -> None:
        """End the whole group at once, as a crash of the machine does."""
        if self._process is None:
            return
        process, self._process = self._process, None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(_BOUND_SECONDS)
        self._reader.join(_BOUND_SECONDS)
        assert process.stdout is not None
        process.stdout.close()

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        while self._take(process):
            select.select([process.stdout], [], [])

    def _take(self, process: "subprocess.Popen[bytes]") -> bool:
        """Take what it has said and nobody has read; whether there may be more."""
        assert process.stdout is not None
        with self._news:
            try:
                while data := os.read(process.stdout.fileno(), _BYTES):
                    self._output += self._decoder.decode(data)
                    self._news.notify_all()
            except BlockingIOError:
                return True
            return False
