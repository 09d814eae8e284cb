"""One connection for all commands to one server: whatever is asked during a round trip goes with the next one.

The connection belongs to a task of its own. Whoever asks waits for a future, so giving up, by cancellation or by
timeout, never leaves a reply behind for somebody else: the task reads it and throws it away. A connection on which a
reply is overdue is closed. What was sent on a connection that broke is sent once more on the next, because everything
a store sends may be repeated.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from redis.exceptions import ReadOnlyError, ResponseError

from tailrace.errors import StoreError, StoreUnavailableError
from tailrace.stores.redis.address import LOST, Address, Socket, drop
from tailrace.stores.redis.command import Command, Reply, pack

__all__ = ["Link"]

_FIRST_BACKOFF_SECONDS: Final = 0.05
_LONGEST_BACKOFF_SECONDS: Final = 1.0
_ATTEMPTS: Final = 2


class _Call:
    """Commands that go together, and the future for their replies."""

    __slots__ = ("answer", "attempts", "count", "packed")

    def __init__(self, commands: Sequence[Command], answer: "asyncio.Future[list[Reply]]") -> None:
        self.packed = b"".join([pack(command) for command in commands])
        self.count = len(commands)
        self.answer = answer
        self.attempts = 0

    def settle(self, replies: list[Reply]) -> None:
        if not self.answer.done():
            self.answer.set_result(replies)

    def fail(self, reason: str) -> None:
        self.settle([StoreUnavailableError(reason)] * self.count)


class Link:
    """Sends commands and gives back replies; connects when it must, and again when it has lost the connection."""

    def __init__(self, address: Address, *, timeout_seconds: float) -> None:
        """Prepare; the first command connects.

        Args:
            address: The server.
            timeout_seconds: Bound on everything that is waited for: a connection, a reply, the answer to a call.
        """
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._calls: list[_Call] = []
        self._under_way: list[_Call] = []
        self._wanted = asyncio.Event()
        self._socket: Socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        #: The server has become a replica: by another connection the name may lead to its successor.
        self._demoted = False

    async def call(self, commands: Sequence[Command]) -> list[Reply]:
        """The replies in the order of the commands. What could not be answered is a `StoreUnavailableError` in it."""
        answer = self.post(commands)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await answer
        except TimeoutError:
            return [StoreUnavailableError(f"no answer from {self._address.name}")] * len(commands)

    def post(self, commands: Sequence[Command]) -> "asyncio.Future[list[Reply]]":
        """As `call`, without waiting. Nothing is ever raised by the future, so it may be left alone."""
        call = _Call(commands, asyncio.get_running_loop().create_future())
        if self._closed:
            call.fail("the store is closed")
        elif commands:
            self._calls.append(call)
            self._start()
            self._wanted.set()
        else:
            call.settle([])
        return call.answer

    async def aclose(self) -> None:
        """Wait for what is under way, at most as long as for any answer, and close the connection."""
        self._closed = True
        pending = [call.answer for call in (*self._under_way, *self._calls)]
        if pending:
            await asyncio.wait(pending, timeout=self._timeout_seconds)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        self._fail_all("the store is closed")

    def _start(self) -> None:
        if self._task is None or self._task.done():
            # What belonged to an event loop that has ended is of no use in the next one.
            self._wanted = asyncio.Event()
            self._socket = None
            self._task = asyncio.get_running_loop().create_task(self._serve(), name="tailrace-redis")

    async def _serve(self) -> None:
        backoff_seconds = _FIRST_BACKOFF_SECONDS
        try:
            while True:
                await self._wanted.wait()
                if await self._connect():
                    await self._round(self._take())
                    backoff_seconds = _FIRST_BACKOFF_SECONDS
                    if self._demoted:
                        await self._drop()
                else:
                    await asyncio.sleep(backoff_seconds)
                    backoff_seconds = min(_LONGEST_BACKOFF_SECONDS, backoff_seconds * 2)
        finally:
            await self._drop()

    async def _connect(self) -> bool:
        if self._socket is None:
            try:
                self._socket = await self._address.connect(timeout_seconds=self._timeout_seconds)
            except StoreError as error:
                self._fail_all(str(getattr(error, "reason", error)))
                return False
        return True

    def _take(self) -> list[_Call]:
        calls, self._calls = self._calls, []
        self._wanted.clear()
        self._under_way = [call for call in calls if not call.answer.done()]
        return self._under_way

    async def _round(self, calls: list[_Call]) -> None:
        """One round trip."""
        if not calls or self._socket is None:
            return
        answered = 0
        try:
            async with asyncio.timeout(self._timeout_seconds) as deadline:
                await self._socket.send_packed_command([call.packed for call in calls])
                for call in calls:
                    call.settle(await self._replies(self._socket, call.count))
                    answered += 1
                    deadline.reschedule(asyncio.get_running_loop().time() + self._timeout_seconds)
        except TimeoutError:
            await self._drop()
            _fail(calls[answered:], f"no answer from {self._address.name}")
        except LOST as error:
            await self._drop()
            self._repeat(calls[answered:], error)
        except BaseException:
            _fail(calls[answered:], "the store is closed")
            raise

    async def _replies(self, socket: Socket, count: int) -> list[Reply]:
        replies: list[Reply] = []
        for _ in range(count):
            try:
                replies.append(await socket.read_response())
            except ResponseError as error:
                self._demoted = self._demoted or isinstance(error, ReadOnlyError) or "READONLY" in str(error)
                replies.append(error)
        return replies

    def _repeat(self, calls: list[_Call], error: BaseException) -> None:
        """Queue again, before everything else, what the lost connection left unanswered."""
        again: list[_Call] = []
        for call in calls:
            call.attempts += 1
            if call.attempts < _ATTEMPTS:
                again.append(call)
            else:
                call.fail(str(error))
        self._calls[:0] = again
        if self._calls:
            self._wanted.set()

    async def _drop(self) -> None:
        if self._socket is not None:
            socket, self._socket = self._socket, None
            self._demoted = False
            await drop(socket)

    def _fail_all(self, reason: str) -> None:
        calls, self._calls = self._calls, []
        self._wanted.clear()
        _fail(calls, reason)


def _fail(calls: list[_Call], reason: str) -> None:
    for call in calls:
        call.fail(reason)
