"""The chat server as it is deployed: processes of `tailrace serve` that share a Redis and a PostgreSQL.

Each process is one that can be killed. Their agent is `answering.py`, or the assistant if they are given other
arguments; its gates are opened here.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import tailrace
from tests.integration.support.client import BOUND_SECONDS
from tests.tenants.people import AUDIENCE, ISSUER, SECRET

__all__ = ["Gates", "Site", "Worker", "refusal_of"]

_FOLDER = Path(__file__).parent
_SERVE = [sys.executable, "-c", "from tailrace.cli import main; main()", "serve"]
_LISTENING = re.compile(r"running on http://127\.0\.0\.1:(\d+)")
_STARTED = "Application startup complete"
#: A busy machine takes its time to import what a chat server needs.
_START_SECONDS = 50.0


class Worker:
    """One process, from entering to leaving the `with` block; it may be killed before.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, arguments: tuple[str, ...], environment: Mapping[str, str]) -> None:
        """Describe it; the arguments are those of `tailrace serve`."""
        self.port = 0
        self._arguments = arguments
        self._environment = _environment(environment)
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._over = False

    def __enter__(self) -> Self:
        self.begin()
        try:
            self.await_start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it wrote so far, to stdout and stderr."""
        with self._news:
            return "".join(self._lines)

    def begin(self) -> None:
        """Start it, without waiting for it."""
        self._process = subprocess.Popen(
            [*_SERVE, *self._arguments, "--port", "0"],
            cwd=_FOLDER,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name="worker-log", daemon=True)
        self._reader.start()

    def await_start(self) -> None:
        """Wait until it listens."""
        self.await_log(lambda log: _STARTED in log and _LISTENING.search(log))
        self.port = int(_LISTENING.findall(self.log)[0])

    def await_log(self, condition: Callable[[str], object]) -> None:
        """Wait until what it has written is so."""
        with self._news:
            found = self._news.wait_for(lambda: condition("".join(self._lines)) or self._over, _START_SECONDS)
            assert found, f"the worker does not say it:\n{''.join(self._lines)}"
            assert condition("".join(self._lines)), f"the worker has ended:\n{''.join(self._lines)}"

    def await_line(self, text: str) -> None:
        """Wait until it has written this."""
        self.await_log(lambda log: text in log)

    def kill(self) -> None:
        """End it as a crash does."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(BOUND_SECONDS)
        self._reader.join(BOUND_SECONDS)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._news:
                    self._lines.append(line)
                    self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()


class Gates:
    """Where answers stand until they are let on; each gate has a name, and is opened once and for all.

    Attributes:
        port: Where workers ask.
    """

    def __init__(self) -> None:
        """Describe them."""
        self.port = 0
        self._arrivals = Counter[str]()
        self._waiting = defaultdict[str, list[socket.socket]](list)
        self._open = set[str]()
        self._news = threading.Condition()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="gates", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(BOUND_SECONDS)
        for name in tuple(self._waiting):
            self.open(name)

    def await_arrivals(self, name: str, count: int) -> None:
        """Wait until so many answers have come to a gate."""
        with self._news:
            found = self._news.wait_for(lambda: self._arrivals[name] >= count, BOUND_SECONDS)
            assert found, f"{self._arrivals[name]} of {count} have come to {name}"

    def open(self, name: str) -> None:
        """Let everybody pass who stands there or will."""
        with self._news:
            self._open.add(name)
            for connection in self._waiting.pop(name, []):
                connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(BOUND_SECONDS)
            name = connection.makefile().readline().strip()
            with self._news:
                self._arrivals[name] += 1
                if name in self._open:
                    connection.close()
                else:
                    self._waiting[name].append(connection)
                self._news.notify_all()


class Site:
    """Where all workers of one deployment are made.

    Attributes:
        gates: Of its agent.
    """

    def __init__(self, *, store: str, database: str, gates: Gates) -> None:
        """Describe it."""
        self.gates = gates
        self._environment = {
            "TAILRACE_STORE": store,
            "TAILRACE_DATABASE": database,
            "TAILRACE_JWT_SECRET": SECRET,
            "TAILRACE_JWT_AUDIENCE": AUDIENCE,
            "TAILRACE_JWT_ISSUER": ISSUER,
            "TAILRACE_USER_RUNS_PER_MINUTE": "0",
            "TAILRACE_TENANT_RUNS_PER_MINUTE": "0",
            "SITE_GATES": str(gates.port),
        }

    def worker(self, *arguments: str, **settings: object) -> Worker:
        """One more; with an agent of its own unless there are arguments."""
        said = {f"TAILRACE_{name.upper()}": str(value) for name, value in settings.items()}
        return Worker(arguments or ("answering:answer",), {**self._environment, **said})

    @contextlib.contextmanager
    def workers(self, count: int, *arguments: str, **settings: object) -> Generator[list[Worker]]:
        """Several of the same kind, which start at the same time."""
        with contextlib.ExitStack() as stack:
            made = [self.worker(*arguments, **settings) for _ in range(count)]
            for worker in made:
                worker.begin()
                stack.callback(worker.kill)
            for worker in made:
                worker.await_start()
            yield made


def refusal_of(*arguments: str, **environment: str) -> tuple[int, str]:
    """The exit code of a server that cannot start, and what it says."""
    done = subprocess.run(
        [*_SERVE, *arguments, "--port", "0"],
        cwd=_FOLDER,
        env=_environment(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BOUND_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """That of this process, without what would be settings of the server, or keys."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TAILRACE_", "OPENAI_"))}
    # The same tailrace as here, whatever else is installed.
    return {**kept, "PYTHONPATH": str(Path(tailrace.__file__).resolve().parents[1]), **environment}
