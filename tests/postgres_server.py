"""A real PostgreSQL for tests: on a free port, in a folder of its own, gone when the tests are over.

It can be stopped and started again on the same port with what it has kept. PostgreSQL does not run as root: a test that
does runs it as another user.
"""

import contextlib
import importlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests.redis_server import free_port

__all__ = ["PASSWORD", "PostgresServer", "postgres_programs"]

#: It has no types.
_asyncpg: Any = importlib.import_module("asyncpg")

USER = "tailrace"
PASSWORD = "correct-horse"
_BOUND_SECONDS = 30
_PORT_ATTEMPTS = 5
_DEBIAN = Path("/usr/lib/postgresql")
#: Whoever of them exists is good enough.
_OTHER_USERS = ("postgres", "nobody")
#: What is lost in a power cut does not matter here.
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "deadlock_timeout": "100ms",
}


def postgres_programs() -> Path | None:
    """The folder with `initdb` and `postgres`, of the newest version that is installed where Debian keeps several."""
    if found := shutil.which("initdb"):
        folder = Path(found).resolve().parent
        if (folder / "postgres").exists():
            return folder
    versions = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: float(path.parent.parent.name))
    return versions[-1].parent if versions else None


class PostgresServer:
    """Runs from entering to leaving the `with` block, unless it is stopped in between.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, programs: Path) -> None:
        """Describe it.

        Args:
            programs: The folder with its programs.
        """
        self.port = 0
        self._programs = programs
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[str] | None = None
        self._numbers = itertools.count(1)
        self._account = _account()
        self._folder = Path()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            # Where the other user may go, unlike pytest's folders.
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tailrace-postgres-")))
            if self._account is not None:
                os.chown(self._folder, self._account.pw_uid, self._account.pw_gid)
            self._make_cluster()
            stack.callback(self.stop)
            self._start_somewhere()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def url(self, database: str = "postgres", *, password: str = PASSWORD) -> str:
        """Of one of its databases."""
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    async def create_database(self) -> str:
        """A new, empty database; its URL."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        await self.ask(f"CREATE DATABASE {name}")
        return self.url(name)

    async def ask(self, statement: str, *, database: str = "postgres") -> list[Any]:
        """The rows that a statement gives, on a connection of its own."""
        connection: Any = await _asyncpg.connect(self.url(database))
        try:
            rows: list[Any] = await connection.fetch(statement)
            return rows
        finally:
            await connection.close()

    def start(self) -> None:
        """Start again, on the same port and with what it has kept."""
        assert self._process is None
        assert self._start()

    def stop(self) -> None:
        """End it at once, and with it all connections; in good order but for them."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGINT)
        process.wait(_BOUND_SECONDS)

    @contextlib.contextmanager
    def stopped(self) -> Generator[None]:
        """Stopped inside the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    async def freeze(self) -> Callable[[], None]:
        """Let it and all its connections do nothing; sockets stay open. What is returned lets them go on."""
        assert self._process is not None
        found = await self.ask("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'")
        frozen = [self._process.pid, *(row["pid"] for row in found)]

        def signal_all(number: signal.Signals) -> None:
            for pid in frozen:
                # The connection that asked is gone by now.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

        signal_all(signal.SIGSTOP)
        return lambda: signal_all(signal.SIGCONT)

    def _start_somewhere(self) -> None:
        for _ in range(_PORT_ATTEMPTS):
            self.port = free_port()
            if self._start():
                return
        # Another program was faster to take each of them, or something else is wrong.
        raise AssertionError("postgres does not start")

    def _make_cluster(self) -> None:
        secret = self._folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        secret.chmod(0o644)
        arguments = ["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", f"--username={USER}"]
        done = subprocess.run(
            [self._programs / "initdb", *arguments, f"--pwfile={secret}", self._folder / "data"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_BOUND_SECONDS,
            check=False,
            cwd=self._folder,
            **self._as_user(),
        )
        assert done.returncode == 0, done.stdout

    def _start(self) -> bool:
        settings = [f"--{name}={value}" for name, value in {**_SETTINGS, "port": self.port}.items()]
        process = subprocess.Popen(
            [self._programs / "postgres", "-D", self._folder / "data", *settings],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self._folder,
            **self._as_user(),
        )
        assert process.stdout is not None
        self._process = process
        ready = _until_ready(process.stdout)
        if not ready:
            self.stop()
        return ready

    def _as_user(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}


def _account() -> pwd.struct_passwd | None:
    """Whose process it is to be; nobody else's, unless we are root."""
    if os.getuid() != 0:
        return None
    known = {account.pw_name: account for account in pwd.getpwall()}
    return next(known[name] for name in _OTHER_USERS if name in known)


def _until_ready(output: IO[str]) -> bool:
    """Read what the server says; all of it, in a thread, so that it never has to wait for a reader."""
    ready = threading.Event()
    said: list[bool] = []

    def read() -> None:
        with output:
            for line in output:
                if "ready to accept connections" in line:
                    said.append(True)
                    ready.set()
        ready.set()

    threading.Thread(target=read, name="postgres-output", daemon=True).start()
    return ready.wait(_BOUND_SECONDS) and bool(said)
