"""A worker: `tailrace serve` in a process of its own, which can be frozen and killed."""

import asyncio
import contextlib
import re
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

import tailrace
from tests.chat_environment import chat_environment

__all__ = ["Worker", "workers"]

_BOUND_SECONDS = 30.0
_FOLDER = Path(__file__).parent
_SERVE = "from tailrace.cli import main; main()"
_LISTENING = re.compile(r"running on http://127\.0\.0\.1:(\d+)")


class Fact(msgspec.Struct, frozen=True):
    """What a source said of itself; `kind` is `opened` or `closed`."""

    kind: str = msgspec.field(name="is")
    label: str = ""


class Worker:
    """Runs from entering to leaving the `async with` block, unless it is killed in between.

    Attributes:
        port: Where it listens.
        facts: What its sources said.
    """

    _process: Process

    def __init__(self, *arguments: str, store: str, lease_seconds: float) -> None:
        """Describe it; `arguments` are those of `tailrace serve`."""
        self.port = 0
        self.facts: list[Fact] = []
        self._arguments = arguments
        self._environment = {
            # The same tailrace as here, whatever else is installed.
            "PYTHONPATH": str(Path(tailrace.__file__).resolve().parents[1]),
            "CHAOS_STORE": store,
            "CHAOS_LEASE_SECONDS": str(lease_seconds),
        }
        self._log: list[str] = []
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        command = [sys.executable, "-c", _SERVE, "serve", *self._arguments, "--port", "0"]
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        environment = {**chat_environment(self._folder.name), **self._environment}
        self._process = await asyncio.create_subprocess_exec(
            *command, cwd=_FOLDER, env=environment, stdout=PIPE, stderr=PIPE
        )
        self._tasks = [asyncio.create_task(self._read_facts()), asyncio.create_task(self._read_log())]
        try:
            await self._until(lambda: self.port != 0)
        except BaseException:
            await self.kill()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.kill()

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it wrote to stderr so far."""
        return "".join(self._log)

    @property
    def opened(self) -> list[str]:
        """The labels of all sources that were opened."""
        return [fact.label for fact in self.facts if fact.kind == "opened"]

    async def until_closed(self, label: str) -> None:
        """Wait until a source has said that it is closed."""
        await self._until(lambda: Fact("closed", label) in self.facts)

    async def _until(self, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(_BOUND_SECONDS):
                while not condition():
                    assert self._process.returncode is None, f"the worker has ended:\n{self.log}"
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"the worker does not say what is waited for:\n{self.facts}\n{self.log}") from None

    async def kill(self) -> None:
        """End it at once, as a crash does."""
        for number in (signal.SIGKILL, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
        await self._process.wait()
        await asyncio.wait(self._tasks)
        self._folder.cleanup()

    def freeze(self) -> None:
        """Let it do nothing; its sockets stay open."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    async def _read_facts(self) -> None:
        async for line in self._lines(self._process.stdout):
            self.facts.append(msgspec.json.decode(line, type=Fact))
            self._news.set()

    async def _read_log(self) -> None:
        async for line in self._lines(self._process.stderr):
            self._log.append(line)
            if match := _LISTENING.search(line):
                self.port = int(match[1])
            self._news.set()
        await self._process.wait()
        self._news.set()

    async def _lines(self, stream: asyncio.StreamReader | None) -> AsyncIterator[str]:
        assert stream is not None
        while line := await stream.readline():
            yield line.decode()


@contextlib.asynccontextmanager
async def workers(count: int, *arguments: str, store: str, lease_seconds: float = 2.0) -> AsyncGenerator[list[Worker]]:
    """Several at once, on ports of their own and one store; they serve an application with this lease."""
    async with contextlib.AsyncExitStack() as stack:
        made = [
            Worker(*(arguments or ("chaos_agent:app",)), store=store, lease_seconds=lease_seconds) for _ in range(count)
        ]
        results = await asyncio.gather(*(worker.__aenter__() for worker in made), return_exceptions=True)
        for worker, result in zip(made, results, strict=True):
            if not isinstance(result, BaseException):
                stack.push_async_exit(worker)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        yield made
