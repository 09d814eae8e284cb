"""An application on a real server: uvicorn in a thread with an event loop of its own, on a free port.

The test's thread talks to it through sockets only, and may look into it by `call` and `eventually`, which run in the
server's loop.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Collection, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import uvicorn
from starlette.types import ASGIApp

from tailrace.web.server import protocol_class
from tests.integration.support.client import BOUND_SECONDS, Connection

__all__ = ["AppServer"]

Result = TypeVar("Result")

#: Of a condition that nobody announces.
_LOOK_SECONDS = 0.005


class _Server(uvicorn.Server):
    """A uvicorn that is told to stop, instead of looking ten times a second whether it should, and loses no time."""

    stopping: asyncio.Event

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in self.servers:
            listener.close()
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
        else:
            # With nobody to wait for, the tenth of a second that uvicorn waits in any case is saved.
            await self.lifespan.shutdown()


class AppServer:
    """Serves one application from entering to leaving the `with` block.

    Attributes:
        port: Where it listens.
        loop: Its event loop.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(
        self,
        app: ASGIApp,
        *,
        http: type[asyncio.Protocol] | None = None,
        root_path: str = "",
        stop_seconds: int = 5,
    ) -> None:
        """Describe it: which HTTP protocol class, mounted where, and how long its connections may outlast it."""
        config = uvicorn.Config(
            app,
            port=0,
            http=http or protocol_class(),
            ws="none",
            root_path=root_path,
            log_config=None,
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=stop_seconds,
        )
        self.port = 0
        self._server = _Server(config)
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(BOUND_SECONDS), "the server did not start"
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.loop.call_soon_threadsafe(self._server.stopping.set)
        self._thread.join(BOUND_SECONDS)
        assert not self._thread.is_alive(), "the server did not stop"

    def call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine in the server's loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(BOUND_SECONDS)

    def eventually(self, condition: Callable[[], object]) -> None:
        """Wait until a condition that nobody announces holds; it is evaluated in the server's loop."""
        assert self.call(_becomes_true(condition)), "this never came true"

    def evaluate(self, function: Callable[[], Result]) -> Result:
        """What a function returns in the server's loop."""

        async def evaluated() -> Result:
            return function()

        return self.call(evaluated())

    def connect(self, *, receive_buffer_bytes: int | None = None) -> Connection:
        """A new connection to it."""
        return Connection(self.port, receive_buffer_bytes=receive_buffer_bytes)

    @property
    def unsent_bytes(self) -> int:
        """What it holds back in its own memory for readers that are behind; to be asked in its loop."""
        return sum(connection.transport.get_write_buffer_size() for connection in self._connections)

    @property
    def connection_count(self) -> int:
        """Open connections, idle ones included; to be asked in its loop."""
        return len(self._connections)

    @property
    def _connections(self) -> Collection[Any]:
        return self._server.server_state.connections

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001  handed over to the test's thread
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        server = self._server
        server.stopping = asyncio.Event()
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup()
        self.port = server.servers[0].sockets[0].getsockname()[1]
        self._started.set()
        await server.main_loop()
        await server.shutdown()


async def _becomes_true(condition: Callable[[], object]) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + BOUND_SECONDS
    while not condition():
        if loop.time() > deadline:
            return False
        await asyncio.sleep(_LOOK_SECONDS)
    return True
