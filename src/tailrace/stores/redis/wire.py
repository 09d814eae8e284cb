"""The way to Redis, be it one server or a cluster, which is found out by asking before the first command."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final, Protocol

from redis.exceptions import NoScriptError

from tailrace.errors import StoreError, StoreUnavailableError
from tailrace.stores.redis.address import Address
from tailrace.stores.redis.cluster import Cluster
from tailrace.stores.redis.command import Command, Reply
from tailrace.stores.redis.feed import Feed, Heard
from tailrace.stores.redis.inspection import Server, inspect_server
from tailrace.stores.redis.link import Link
from tailrace.stores.redis.refusals import error_of
from tailrace.stores.redis.scripts import Scripts

__all__ = ["Nodes", "OneNode", "Wire"]

_JOIN_AGAIN_SECONDS: Final = 1.0


class Nodes(Protocol):
    """Carries commands to where they belong, and brings what is published."""

    async def call(self, commands: Sequence[Command]) -> list[Reply]:
        """The replies in the order of the commands, errors among them; never raises."""
        ...

    def post(self, commands: Sequence[Command]) -> "asyncio.Future[list[Reply]]":
        """As `call`, without waiting."""
        ...

    def join(self, channel: bytes) -> None:
        """Subscribe."""
        ...

    def part(self, channel: bytes) -> None:
        """Unsubscribe."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


class OneNode:
    """A single server: one connection for commands, one for channels."""

    def __init__(self, address: Address, heard: Heard, *, timeout_seconds: float) -> None:
        """Prepare; nothing is connected yet."""
        self._link = Link(address, timeout_seconds=timeout_seconds)
        self._feed = Feed(address, heard, timeout_seconds=timeout_seconds)
        self.call = self._link.call
        self.post = self._link.post
        self.join = self._feed.join
        self.part = self._feed.part

    async def aclose(self) -> None:
        """Close both."""
        await self._feed.aclose()
        await self._link.aclose()


class Wire:
    """Sends commands and scripts. Everything but `ready` needs that somebody has waited for `ready` once."""

    def __init__(self, address: Address, heard: Heard, *, timeout_seconds: float) -> None:
        """Prepare; see `Feed` for `heard`."""
        self._address = address
        self._heard = heard
        self._timeout_seconds = timeout_seconds
        self._channels: set[bytes] = set()
        self._nodes: Nodes | None = None
        self._scripts = Scripts("PUBLISH")
        self._asking: asyncio.Task[Server] | None = None
        self._joining: asyncio.Task[None] | None = None
        self._closed = False

    async def ready(self) -> Scripts:
        """The scripts that suit what is there. Everybody who waits for it waits for the same attempt to find out.

        Raises:
            StoreSetupError: The server does not let us in.
            StoreUnavailableError: It gave no answer, or the store is closed.
        """
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        if self._nodes is None:
            if self._asking is None or self._asking.done():
                asking = inspect_server(self._address, timeout_seconds=self._timeout_seconds)
                self._asking = asyncio.get_running_loop().create_task(asking, name="tailrace-redis-ask")
            asked = self._asking
            await asyncio.wait({asked})
            if asked.cancelled():
                raise StoreUnavailableError("the store is closed")
            self._reach(asked.result())
        return self._scripts

    @property
    def reaches_one_node(self) -> bool:
        """Whether all keys are on the same server, so that one script may work on those of many runs."""
        return isinstance(self._nodes, OneNode)

    async def ask(self, commands: Sequence[Command], *, run_id: str = "") -> list[Reply]:
        """The replies, of which none is an error; `run_id` is what an error may speak of.

        Raises:
            StoreError: One was.
        """
        await self.ready()
        replies = await self.call(commands)
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, Exception):
                error = error_of(reply, command, run_id)
                raise error
        return replies

    async def call(self, commands: Sequence[Command]) -> list[Reply]:
        """The replies, errors among them. A script that the server does not know is sent along and repeated."""
        nodes = self._reached()
        replies = await nodes.call(commands)
        unknown = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            repeated = await nodes.call([self._scripts.with_source(commands[index]) for index in unknown])
            for index, reply in zip(unknown, repeated, strict=True):
                replies[index] = reply
        return replies

    def post(self, commands: Sequence[Command]) -> "asyncio.Future[list[Reply]]":
        """Send without waiting; no scripts."""
        return self._reached().post(commands)

    def publication(self, channel: bytes, payload: bytes) -> Command:
        """The command that publishes."""
        return (self._scripts.publish, channel, payload)

    def join(self, channel: bytes) -> None:
        """Subscribe, now or as soon as it is known where."""
        self._channels.add(channel)
        if self._nodes is not None and not self._closed:
            self._nodes.join(channel)
        elif not self._closed and (self._joining is None or self._joining.done()):
            self._joining = asyncio.get_running_loop().create_task(self._join(), name="tailrace-redis-join")

    def part(self, channel: bytes) -> None:
        """Unsubscribe."""
        self._channels.discard(channel)
        if self._nodes is not None:
            self._nodes.part(channel)

    async def aclose(self) -> None:
        """Close everything; what is under way may end, within the timeout."""
        self._closed = True
        tasks = [task for task in (self._asking, self._joining) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._nodes is not None:
            await self._nodes.aclose()

    def _reached(self) -> Nodes:
        if self._nodes is None:
            raise RuntimeError("nobody waited until the wire is ready")
        return self._nodes

    def _reach(self, server: Server) -> None:
        if self._nodes is not None:
            # Another who waited was first.
            return
        kind = Cluster if server.clustered else OneNode
        self._nodes = kind(self._address, self._heard, timeout_seconds=self._timeout_seconds)
        if server.clustered:
            self._scripts = Scripts("SPUBLISH")
        for channel in self._channels:
            self._nodes.join(channel)

    async def _join(self) -> None:
        """Have the channels joined although nobody sends a command."""
        while self._nodes is None and self._channels:
            with contextlib.suppress(StoreError):
                await self.ready()
                return
            await asyncio.sleep(_JOIN_AGAIN_SECONDS)
