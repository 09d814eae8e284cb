"""A server in a process of its own, for what only a process can show: signals and exit codes."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.chat_environment import chat_environment
from tests.integration.support.client import BOUND_SECONDS, fetch

__all__ = ["ServerProcess", "gunicorn_run", "tailrace_serve", "uvicorn_run", "werkzeug_run"]

_FOLDER = Path(__file__).parent
_LISTENING = re.compile(r"(?:[Rr]unning on|Listening at:) http://127\.0\.0\.1:(\d+)")


def tailrace_serve(*arguments: str) -> list[str]:
    """The command `tailrace serve …` on a free port."""
    return [sys.executable, "-c", "from tailrace.cli import main; main()", "serve", *arguments, "--port", "0"]


def uvicorn_run(target: str) -> list[str]:
    """A user's own uvicorn, with nothing of ours but the application, on a free port."""
    return [sys.executable, "-m", "uvicorn", target, "--port", "0"]


def gunicorn_run(target: str, worker: str, *arguments: str) -> list[str]:
    """Workers of a kind under gunicorn, on a free port."""
    quiet = ["--no-control-socket", "--bind", "127.0.0.1:0", "--worker-class", worker]
    return [sys.executable, "-m", "gunicorn", *quiet, *arguments, target]


def werkzeug_run(target: str) -> list[str]:
    """What `flask run` starts, on a free port."""
    return [sys.executable, "-m", "flask", "--app", target, "run", "--port", "0"]


class ServerProcess:
    """Runs a command from entering to leaving the `with` block; whatever is left then is killed.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, command: list[str]) -> None:
        """Describe it; it serves the modules of this folder."""
        self.port = 0
        self._command = command
        self._lines: list[str] = []
        self._listening = threading.Event()

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            self._command,
            cwd=_FOLDER,
            env=chat_environment(self._folder.name),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._listening.wait(BOUND_SECONDS)
        if not self.port:
            self._stop()
        assert self.port, f"the server did not start:\n{self.output}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """What it wrote to stderr so far."""
        return "".join(self._lines)

    @property
    def is_ready(self) -> bool:
        """Whether it welcomes new runs."""
        return fetch(self.port, "GET", "/readyz").status == 200

    def await_workers(self, count: int) -> None:
        """Wait until so many of its processes have started; each imports all that it serves."""
        deadline = time.monotonic() + 2 * BOUND_SECONDS
        while self.output.count("Application startup complete") < count:
            assert time.monotonic() < deadline, f"the workers did not start:\n{self.output}"
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> float:
        """Send a signal; the moment at which that was."""
        self._process.send_signal(number)
        return time.monotonic()

    def await_drain(self) -> None:
        """Wait until it says that it is not ready any more."""
        deadline = time.monotonic() + BOUND_SECONDS
        while self.is_ready:
            assert time.monotonic() < deadline, "the drain did not begin"

    def exit_code(self) -> int:
        """Wait for its end."""
        return self._process.wait(BOUND_SECONDS)

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.append(line)
            if match := _LISTENING.search(line):
                self.port = int(match[1])
                self._listening.set()
        self._listening.set()

    def _stop(self) -> None:
        # Its workers too, if it has some: they would outlive it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(BOUND_SECONDS)
        self._reader.join(BOUND_SECONDS)
        if self._process.stderr is not None:
            self._process.stderr.close()
        self._folder.cleanup()
