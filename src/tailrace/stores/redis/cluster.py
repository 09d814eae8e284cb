"""A cluster: every command goes to the node that has its key's slot, every channel is subscribed to at its slot's node.

The map of the slots is fetched when it is first needed and whenever it shows its age: a node sends us elsewhere, cannot
be reached, or takes a channel away.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from tailrace.errors import StoreUnavailableError
from tailrace.stores.redis.address import Address
from tailrace.stores.redis.command import Command, Reply, key_of
from tailrace.stores.redis.feed import Feed, Heard
from tailrace.stores.redis.link import Link
from tailrace.stores.redis.refusals import Redirect, is_moving, redirect_of

__all__ = ["Cluster"]

#: Before a command that was led astray is sent on once more, and as much longer each time.
_PAUSE_SECONDS: Final = 0.02
_FETCH_AGAIN_SECONDS: Final = 0.5
#: Nodes that are asked for the map at the same time.
_ASKED_NODES: Final = 4


class _Node(NamedTuple):
    """Where a node is."""

    host: str
    port: int


class _Part(NamedTuple):
    """Commands under way to one node."""

    answer: "asyncio.Future[list[Reply]]"
    indices: list[int]
    asking: bool


class Cluster:
    """All nodes of a cluster that have something of ours, with two connections to each."""

    def __init__(self, address: Address, heard: Heard, *, timeout_seconds: float) -> None:
        """Prepare; nothing is connected yet. `address` is any node, or a name that leads to one."""
        self._address = address
        self._heard = heard
        self._timeout_seconds = timeout_seconds
        self._links: dict[_Node, Link] = {}
        self._feeds: dict[_Node, Feed] = {}
        self._slots: list[_Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._channels: dict[bytes, _Node | None] = {}
        self._stale = True
        self._fetching: asyncio.Task[None] | None = None
        self._posted: set[asyncio.Task[list[Reply]]] = set()

    async def call(self, commands: Sequence[Command]) -> list[Reply]:
        """See `Nodes.call`."""
        if self._stale:
            await self._fetched()
        return await self._finish(commands, self._send(commands, range(len(commands))))

    def post(self, commands: Sequence[Command]) -> "asyncio.Future[list[Reply]]":
        """See `Nodes.post`."""
        if self._stale:
            course = self.call(commands)
        else:
            # Sent at once, so that it is not overtaken by a later call.
            course = self._finish(commands, self._send(commands, range(len(commands))))
        task = asyncio.get_running_loop().create_task(course, name="tailrace-redis-post")
        self._posted.add(task)
        task.add_done_callback(self._posted.discard)
        return task

    def join(self, channel: bytes) -> None:
        """See `Nodes.join`."""
        self._channels[channel] = None
        if self._stale:
            self._fetch_soon()
        else:
            self._place(channel)

    def part(self, channel: bytes) -> None:
        """See `Nodes.part`."""
        node = self._channels.pop(channel, None)
        if node is not None and node in self._feeds:
            self._feeds[node].part(channel)

    async def aclose(self) -> None:
        """See `Nodes.aclose`."""
        if self._posted:
            await asyncio.wait(self._posted, timeout=self._timeout_seconds)
        tasks: set[asyncio.Task[object]] = {*self._posted}
        if self._fetching is not None:
            tasks.add(self._fetching)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._close_all_but(())

    # Commands --------------------------------------------------------------------------------------------------------

    def _send(
        self, commands: Sequence[Command], indices: Iterable[int], asked: Mapping[int, _Node] | None = None
    ) -> list[_Part]:
        """Post the commands with these indices; those in `asked` to the node that it names."""
        groups: dict[tuple[_Node | None, bool], list[int]] = {}
        for index in indices:
            elsewhere = (asked or {}).get(index)
            node = elsewhere or self._slots[key_slot(key_of(commands[index]))]
            groups.setdefault((node, elsewhere is not None), []).append(index)
        return [
            _Part(self._post_to(node, [commands[index] for index in group], asking=asking), group, asking)
            for (node, asking), group in groups.items()
        ]

    def _post_to(self, node: _Node | None, commands: list[Command], *, asking: bool) -> "asyncio.Future[list[Reply]]":
        if node is None:
            answer: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
            answer.set_result([StoreUnavailableError("no node of the cluster has the slot")] * len(commands))
            return answer
        if asking:
            commands = [word for command in commands for word in ((b"ASKING",), command)]
        return self._link(node).post(commands)

    async def _finish(self, commands: Sequence[Command], parts: list[_Part]) -> list[Reply]:
        """Collect the replies; follow those that lead elsewhere."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_seconds
        replies: list[Reply] = [StoreUnavailableError("no answer from the cluster")] * len(commands)
        pause_seconds = 0.0
        while parts:
            await self._collect(parts, replies, deadline - loop.time())
            again = [index for part in parts for index in part.indices if is_moving(replies[index])]
            if not again or loop.time() + pause_seconds >= deadline:
                break
            asked = self._learn({index: led for index in again if (led := redirect_of(replies[index])) is not None})
            await asyncio.sleep(pause_seconds)
            # The nodes may not agree yet, or a run's keys are still under way between them.
            pause_seconds += _PAUSE_SECONDS
            parts = self._send(commands, again, asked)
        return replies

    async def _collect(self, parts: list[_Part], replies: list[Reply], seconds: float) -> None:
        await asyncio.wait([part.answer for part in parts], timeout=seconds)
        for part in parts:
            if part.answer.done():
                answers = part.answer.result()
                for index, reply in zip(part.indices, answers[1::2] if part.asking else answers, strict=True):
                    replies[index] = reply
                    self._stale = self._stale or isinstance(reply, StoreUnavailableError)
            else:
                part.answer.cancel()
                self._stale = True

    def _learn(self, redirects: Mapping[int, Redirect]) -> dict[int, _Node]:
        """Note which slots have moved; return where to ask for what is moving, for this once."""
        asked: dict[int, _Node] = {}
        for index, redirect in redirects.items():
            node = _Node(redirect.host or self._address.host, redirect.port)
            if redirect.moved:
                self._slots[redirect.slot] = node
                self._fetch_soon()
            else:
                asked[index] = node
        return asked

    def _link(self, node: _Node) -> Link:
        link = self._links.get(node)
        if link is None:
            link = self._links[node] = Link(self._address.at(*node), timeout_seconds=self._timeout_seconds)
        return link

    # The map ---------------------------------------------------------------------------------------------------------

    async def _fetched(self) -> None:
        """Wait for a new map, but not longer than for any answer."""
        await asyncio.wait({self._fetch_soon()}, timeout=self._timeout_seconds)

    def _fetch_soon(self) -> "asyncio.Task[None]":
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.get_running_loop().create_task(self._fetch(), name="tailrace-redis-map")
        return self._fetching

    async def _fetch(self) -> None:
        """Fetch the map; over and over if channels wait for it."""
        while not await self._ask():
            self._stale = True
            if not self._channels:
                break
            await asyncio.sleep(_FETCH_AGAIN_SECONDS)

    async def _ask(self) -> bool:
        """Ask some nodes at the same time; the first answer counts."""
        links = list(self._links.items())[: _ASKED_NODES - 1]
        asked = {link.post([(b"CLUSTER", b"SLOTS")]): node.host for node, link in links}
        first = Link(self._address, timeout_seconds=self._timeout_seconds)
        asked[first.post([(b"CLUSTER", b"SLOTS")])] = self._address.host
        try:
            pending = set(asked)
            while pending:
                done, pending = await asyncio.wait(
                    pending, timeout=self._timeout_seconds, return_when=asyncio.FIRST_COMPLETED
                )
                for answer in done:
                    (reply,) = answer.result()
                    if reply and not isinstance(reply, Exception):
                        await self._adopt(reply, asked[answer])
                        return True
                if not done:
                    break
            return False
        finally:
            for answer in asked:
                answer.cancel()
            await first.aclose()

    async def _adopt(self, ranges: list[Reply], host: str) -> None:
        """Go by the map that a node gave; `host` is where it was asked, if it does not know its own name."""
        slots: list[_Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for start, end, primary, *_ in ranges:
            node = _Node((primary[0] or b"").decode() or host, primary[1])
            slots[start : end + 1] = [node] * (end + 1 - start)
        self._slots = slots
        self._stale = False
        for channel in self._channels:
            self._place(channel)
        await self._close_all_but({node for node in slots if node is not None})

    async def _close_all_but(self, nodes: Iterable[_Node]) -> None:
        for node in {*self._links, *self._feeds}.difference(nodes):
            if (feed := self._feeds.pop(node, None)) is not None:
                await feed.aclose()
            if (link := self._links.pop(node, None)) is not None:
                await link.aclose()

    # Channels --------------------------------------------------------------------------------------------------------

    def _place(self, channel: bytes) -> None:
        """Have the channel subscribed to where it is now."""
        old, node = self._channels[channel], self._slots[key_slot(channel)]
        if node == old:
            return
        self._channels[channel] = node
        if old is not None and old in self._feeds:
            self._feeds[old].part(channel)
        if node is not None:
            self._feed(node).join(channel)

    def _feed(self, node: _Node) -> Feed:
        feed = self._feeds.get(node)
        if feed is None:
            feed = self._feeds[node] = Feed(
                self._address.at(*node),
                self._heard,
                timeout_seconds=self._timeout_seconds,
                sharded=True,
                lost=self._fetch_soon,
            )
        return feed
