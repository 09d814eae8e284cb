"""A real redis-server for tests: on a free port, in a folder of its own, gone when the test is over.

It can be stopped, killed, frozen and started again on the same port with what it has kept.
"""

import contextlib
import itertools
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeAlias, cast

import hiredis

__all__ = ["AskError", "RedisNodes", "RedisServer", "free_port", "wait_until"]

_BOUND_SECONDS = 20
_PORT_ATTEMPTS = 5
_SLOTS = 16_384


#: As it is on the wire.
Reply: TypeAlias = Any
_pack = cast("Callable[[tuple[bytes, ...]], bytes]", vars(hiredis)["pack_command"])


class AskError(Exception):
    """The server refused what a test asked it."""


class RedisServer:
    """Runs from entering to leaving the `with` block, unless it is stopped or killed in between.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, program: str, folder: Path, *config: str, port: int | None = None) -> None:
        """Describe it; each line of `config` is one of redis.conf."""
        self.port = port or 0
        self._program = program
        self._folder = folder
        self._config = config
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        for _ in range(_PORT_ATTEMPTS):
            given = self.port
            self.port = given or free_port()
            if self._start():
                return self
            # Another program was faster to take the port.
            self.port = given
        raise AssertionError("redis-server does not start")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """Of database 0, without a password."""
        return f"redis://127.0.0.1:{self.port}/0"

    def ask(self, *words: str | bytes | int) -> Reply:
        """The reply to a command, on a connection of its own, which may be used from any thread.

        Raises:
            AskError: The server refused.
        """
        reader = hiredis.Reader()
        with socket.create_connection(("127.0.0.1", self.port), _BOUND_SECONDS) as connection:
            connection.sendall(_pack(tuple(word if isinstance(word, bytes) else str(word).encode() for word in words)))
            while (reply := reader.gets()) is False:
                reader.feed(connection.recv(65_536) or _raise_closed())
        if isinstance(reply, hiredis.ReplyError):
            raise AskError(str(reply))
        return reply

    def info(self, section: str) -> dict[str, str]:
        """The lines of a section of `INFO`."""
        lines = cast("bytes", self.ask("INFO", section)).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def clients(self, kind: str) -> list[str]:
        """The ids of the connections of a kind, `normal` or `pubsub`, but for the one that asks."""
        lines = cast("bytes", self.ask("CLIENT", "LIST", "TYPE", kind)).decode().splitlines()
        return [line.split()[0] for line in lines if "cmd=client" not in line]

    def cut(self, kind: str) -> int:
        """Close all connections of a kind; how many there were."""
        return cast("int", self.ask("CLIENT", "KILL", "TYPE", kind))

    def twin(self) -> "RedisServer":
        """Another one with the same folder on another port: what this one, while it is down, will find there."""
        return RedisServer(self._program, self._folder, *self._config)

    @property
    def journal(self) -> Path:
        """The append-only file that is being written."""
        (path,) = (*self._folder.glob("appendonly.aof"), *self._folder.glob("appendonlydir/*.incr.aof"))
        return path

    def start(self) -> None:
        """Start again, on the same port and in the same folder; returns when it has loaded what it finds there."""
        assert self._process is None
        assert self._start()

    def stop(self) -> None:
        """Let it end in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would, except that what it has written to files is there."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it do nothing; its sockets stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self) -> Generator[None]:
        """Frozen inside the block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def _start(self) -> bool:
        arguments = [f"{word}" for line in self._lines() for word in (f"--{line.split(' ', 1)[0]}", *line.split()[1:])]
        self._folder.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            [self._program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self._folder
        )
        assert process.stdout is not None
        self._process = process
        ready = _until_ready(process.stdout)
        if not ready:
            self._end(signal.SIGKILL)
        return ready

    def _lines(self) -> Sequence[str]:
        return (f"port {self.port}", "bind 127.0.0.1", 'save ""', "appendonly no", "daemonize no", *self._config)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        process.wait(_BOUND_SECONDS)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _raise_closed() -> bytes:
    raise AskError("the server closed the connection")


def _until_ready(output: IO[str]) -> bool:
    """Read what the server says; all of it, in a thread, so that it never has to wait for a reader."""
    ready = threading.Event()
    said: list[bool] = []

    def read() -> None:
        with output:
            for line in output:
                if "Ready to accept connections" in line:
                    said.append(True)
                    ready.set()
        ready.set()

    threading.Thread(target=read, name="redis-output", daemon=True).start()
    return ready.wait(_BOUND_SECONDS) and bool(said)


class RedisNodes:
    """A cluster of primaries that share the slots, and a replica of the first one if it is asked for.

    Attributes:
        nodes: The servers: the primaries in the order of their slots, then the replica.
    """

    def __init__(self, program: str, folder: Path, *, primaries: int = 3, replica: bool = False) -> None:
        """Describe it."""
        self._bounds = [_SLOTS * number // primaries for number in range(primaries + 1)]
        self._moved: dict[int, RedisServer] = {}
        self._replica = replica
        self._stack = contextlib.ExitStack()
        self.nodes = [
            RedisServer(
                program,
                folder / str(number),
                "cluster-enabled yes",
                f"cluster-port {free_port()}",
                "cluster-node-timeout 1000",
                "repl-diskless-sync-delay 0",
            )
            for number in range(primaries + replica)
        ]

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for node in self.nodes:
                stack.enter_context(node)
            self._join()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """Of the first node."""
        return self.nodes[0].url

    def home_of(self, slot: int) -> RedisServer:
        """The node that has a slot."""
        first = self.nodes[next(number for number, end in enumerate(self._bounds[1:]) if slot < end)]
        return self._moved.get(slot, first)

    def move_slot(
        self, slot: int, *, source: RedisServer, target: RedisServer, between: Callable[[], None] = lambda: None
    ) -> None:
        """Give a slot and its keys from one node to another, while both are in use; never back again.

        `between` is called after every single key.
        """
        assert slot not in self._moved
        self._moved[slot] = target
        old, new = (node.ask("CLUSTER", "MYID") for node in (source, target))
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", old)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", new)
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
            between()
        for node in (target, source, *self.nodes):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", new)

    def _join(self) -> None:
        first, *others = self.nodes
        for node, (start, end) in zip(self.nodes, itertools.pairwise(self._bounds), strict=False):
            node.ask("CLUSTER", "ADDSLOTSRANGE", start, end - 1)
        bus_port: bytes = first.ask("CONFIG", "GET", "cluster-port")[1]
        for node in others:
            node.ask("CLUSTER", "MEET", "127.0.0.1", first.port, bus_port)
        wait_until(lambda: all(self._knows_all(node) for node in self.nodes))
        if self._replica:
            replica = self.nodes[-1]
            replica.ask("CLUSTER", "REPLICATE", first.ask("CLUSTER", "MYID"))
            wait_until(lambda: replica.info("replication").get("master_link_status") == "up")

    def _knows_all(self, node: RedisServer) -> bool:
        said: bytes = node.ask("CLUSTER", "INFO")
        return b"cluster_state:ok" in said and b"cluster_known_nodes:%d" % len(self.nodes) in said


def wait_until(condition: Callable[[], bool]) -> None:
    """Look often: nobody announces what servers agree on."""
    deadline = time.monotonic() + _BOUND_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the servers do not agree"
        time.sleep(0.02)
