"""A way to a server that can lose answers: what the server did has happened, and nobody is told."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

__all__ = ["TcpProxy"]

_BYTES = 65_536


class TcpProxy:
    """Passes everything on, both ways, from entering to leaving the `async with` block.

    Attributes:
        port: Where it listens.
        lost: How many answers it has lost.
    """

    def __init__(self, port: int) -> None:
        """Take the server's port."""
        self.port = 0
        self.lost = 0
        self._target = port
        self._losing = False
        self._tasks = set[asyncio.Task[None]]()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def lose_next_answer(self) -> None:
        """Swallow the next bytes that a server sends, and close that connection."""
        self._losing = True

    def redirect(self, port: int, *, cut: bool = True) -> None:
        """Lead to another server from now on; `cut` also closes what leads to the old one."""
        self._target = port
        if cut:
            for task in self._tasks:
                task.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of its own: one that the server makes complains when it is cancelled.
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # It may be cut before it has begun.
        task.add_done_callback(lambda _: writer.close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                async with asyncio.TaskGroup() as tasks:
                    asking = tasks.create_task(self._ask(reader, server_writer))
                    await self._answer(server_reader, writer)
                    asking.cancel()
            finally:
                server_writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_BYTES):
            writer.write(data)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_BYTES):
            if self._losing:
                self._losing = False
                self.lost += 1
                return
            writer.write(data)
