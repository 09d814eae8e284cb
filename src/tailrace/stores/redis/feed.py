"""One connection for everything that a server publishes on the channels that somebody here listens to.

A socket that is silent although it was pinged is closed: it may be half-open. What was published while there was no
connection is lost, so every acknowledged subscription, the first or a repeated one, is told as `None`: look yourself.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, cast

from redis.exceptions import NoPermissionError

from tailrace.errors import StoreError
from tailrace.stores.redis.address import LOST, Address, Socket, drop
from tailrace.stores.redis.command import Command, pack

__all__ = ["Feed", "Heard"]

#: Takes a channel and what was published on it, or `None`: it was subscribed to just now.
Heard: TypeAlias = Callable[[bytes, bytes | None], None]

_logger = logging.getLogger("tailrace")

PING_SECONDS: Final = 2.0
#: So many pings without any sign of life are a dead socket. Counted, not timed: a busy event loop is not a dead socket.
_SILENT_PINGS: Final = 2
_FIRST_BACKOFF_SECONDS: Final = 0.05
_LONGEST_BACKOFF_SECONDS: Final = 1.0
_CHANNELS_PER_COMMAND: Final = 256


class _SilentError(OSError):
    """The server answers no ping."""


class _TakenAwayError(OSError):
    """The slot of a channel has gone to another node."""


class Feed:
    """Subscribes to the channels that were joined, over and over if it must."""

    def __init__(
        self,
        address: Address,
        heard: Heard,
        *,
        timeout_seconds: float,
        sharded: bool = False,
        lost: Callable[[], object] = lambda: None,
    ) -> None:
        """Prepare; the first channel connects.

        Args:
            address: The server.
            heard: Called in the event loop; must not raise.
            timeout_seconds: Bound on connecting and on sending.
            sharded: Whether the channels are those of a cluster's slots.
            lost: Called when the connection is gone, or the server has given a channel to another.
        """
        self._address = address
        self._heard = heard
        self._timeout_seconds = timeout_seconds
        self._lost = lost
        letter = b"s" if sharded else b""
        self._subscribe, self._unsubscribe = letter + b"subscribe", letter + b"unsubscribe"
        self._message = letter + b"message"
        self._per_command = 1 if sharded else _CHANNELS_PER_COMMAND
        self._wanted: set[bytes] = set()
        self._joining: set[bytes] = set()
        self._leaving: set[bytes] = set()
        #: What it was asked to unsubscribe from and has not answered yet.
        self._parting: set[bytes] = set()
        self._changed = asyncio.Event()
        self._pings = 0
        self._useful = False
        self._well = True
        self._task: asyncio.Task[None] | None = None

    def join(self, channel: bytes) -> None:
        """Subscribe to a channel."""
        self._wanted.add(channel)
        self._leaving.discard(channel)
        self._joining.add(channel)
        if self._task is None or self._task.done():
            # What belonged to an event loop that has ended is of no use in the next one.
            self._changed = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._serve(), name="tailrace-redis-feed")
        self._changed.set()

    def part(self, channel: bytes) -> None:
        """Unsubscribe from it."""
        self._wanted.discard(channel)
        self._joining.discard(channel)
        self._leaving.add(channel)
        self._changed.set()

    async def aclose(self) -> None:
        """Close the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def _serve(self) -> None:
        backoff_seconds = _FIRST_BACKOFF_SECONDS
        while True:
            try:
                socket = await self._address.connect(timeout_seconds=self._timeout_seconds)
            except StoreError as error:
                self._note_loss(error)
            else:
                if await self._use(socket):
                    backoff_seconds = _FIRST_BACKOFF_SECONDS
            self._lost()
            await asyncio.sleep(backoff_seconds)
            backoff_seconds = min(_LONGEST_BACKOFF_SECONDS, backoff_seconds * 2)

    async def _use(self, socket: Socket) -> bool:
        """Work until the connection is lost; False if it was of no use."""
        self._pings = 0
        self._useful = False
        self._joining = set(self._wanted)
        self._leaving.clear()
        self._parting.clear()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(socket), name="tailrace-redis-listen")
                tasks.create_task(self._speak(socket), name="tailrace-redis-speak")
        except* LOST as errors:
            self._note_loss(errors.exceptions[0])
        finally:
            await drop(socket)
        return self._useful

    async def _listen(self, socket: Socket) -> None:
        while True:
            try:
                message = await socket.read_response()
            except NoPermissionError as error:
                # Asking again would change nothing.
                self._note_loss(error)
                continue
            self._pings = 0
            # Before the first subscription the answer to a ping is no list.
            if isinstance(message, list):
                self._tell(cast("list[bytes]", message))

    def _tell(self, message: list[bytes]) -> None:
        kind, channel = message[0], message[1]
        if kind == self._message:
            self._heard(channel, message[2])
        elif kind == self._subscribe and channel in self._wanted:
            self._useful = self._well = True
            self._heard(channel, None)
        elif kind == self._unsubscribe:
            if channel not in self._parting and channel in self._wanted:
                raise _TakenAwayError(f"{self._address.name} gave a channel away")
            self._parting.discard(channel)

    async def _speak(self, socket: Socket) -> None:
        loop = asyncio.get_running_loop()
        ping_at = loop.time() + PING_SECONDS
        while True:
            commands = self._changes()
            await self._send(socket, commands)
            try:
                async with asyncio.timeout_at(ping_at):
                    await self._changed.wait()
            except TimeoutError:
                if self._pings == _SILENT_PINGS:
                    raise _SilentError(f"{self._address.name} answers no ping") from None
                self._pings += 1
                await self._send(socket, [(b"ping",)])
                ping_at = loop.time() + PING_SECONDS

    def _changes(self) -> list[Command]:
        """What to send so that the server knows what is wanted."""
        joining, self._joining = list(self._joining), set()
        leaving, self._leaving = list(self._leaving), set()
        self._parting.update(leaving)
        self._changed.clear()
        return [
            (word, *channels[start : start + self._per_command])
            for word, channels in ((self._unsubscribe, leaving), (self._subscribe, joining))
            for start in range(0, len(channels), self._per_command)
        ]

    async def _send(self, socket: Socket, commands: Sequence[Command]) -> None:
        if commands:
            async with asyncio.timeout(self._timeout_seconds):
                await socket.send_packed_command([pack(command) for command in commands])

    def _note_loss(self, error: BaseException) -> None:
        """Say so once, until it is well again."""
        if self._well:
            _logger.warning("no hints from Redis until it is back: %s", getattr(error, "reason", error))
        self._well = False
