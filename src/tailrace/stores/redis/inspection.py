"""What a Redis server says of itself, and whether a store can live on it."""

import asyncio
import logging
from typing import Final

import msgspec
from redis.exceptions import NoPermissionError, ResponseError

from tailrace.errors import StoreSetupError
from tailrace.stores.redis.address import LOST, Address, Socket, drop
from tailrace.stores.redis.command import pack
from tailrace.stores.redis.refusals import redirect_of

__all__ = ["Server", "check_server", "inspect_server"]

_logger = logging.getLogger("tailrace")

_OLDEST: Final = (6, 2)
#: Before it there are no sharded channels, and others go to all nodes of a cluster.
_OLDEST_IN_CLUSTER: Final = (7, 0)
#: These never take away what a run still needs: everything has a time to live, and what is read longest, the longest.
_SAFE_POLICIES: Final = frozenset({"", "noeviction", "volatile-ttl"})


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The lines of `INFO` that matter; where the user may not ask for them, what is likely.

    Attributes:
        version: Major and minor; Valkey tells the version of Redis that it stands for.
        clustered: It is a node of a cluster.
        read_only: It is a replica that takes no writes.
        sentinel: It is no store at all.
        bounded: It has a bound on its memory.
        policy: What it takes away when it is at that bound.
    """

    version: tuple[int, int] | None = None
    clustered: bool = False
    read_only: bool = False
    sentinel: bool = False
    bounded: bool = False
    policy: str = ""


async def inspect_server(address: Address, *, timeout_seconds: float, channel: bytes | None = None) -> Server:
    """Ask the server on a connection of its own.

    Args:
        address: The server.
        timeout_seconds: Bound on connecting, and on the answers.
        channel: A channel to subscribe to, only to see whether that is allowed.

    Raises:
        StoreSetupError: It does not let us in.
        StoreUnavailableError: It gave no answer.
    """
    socket = await address.connect(timeout_seconds=timeout_seconds)
    try:
        async with asyncio.timeout(timeout_seconds):
            server = await _info(socket)
            if channel is not None:
                await _subscribe(socket, channel, sharded=server.clustered)
    except LOST as error:
        raise address.failure(error) from None
    finally:
        await drop(socket)
    return server


def check_server(server: Server) -> None:
    """Refuse a server that can hold no logs, and warn of one that may lose them.

    Raises:
        StoreSetupError: It is too old, a replica or a sentinel.
    """
    oldest = _OLDEST_IN_CLUSTER if server.clustered else _OLDEST
    if server.sentinel:
        raise StoreSetupError("this is a Redis Sentinel: name the server that it watches")
    if server.version is not None and server.version < oldest:
        found, needed = (".".join(map(str, version)) for version in (server.version, oldest))
        where = " in a cluster" if server.clustered else ""
        raise StoreSetupError(f"Redis {found} is too old: {needed} or newer is needed{where}")
    if server.read_only and not server.clustered:
        raise StoreSetupError("this Redis is a read-only replica: name its primary")
    if server.bounded and server.policy not in _SAFE_POLICIES:
        _logger.warning(
            "Redis may take away runs that are still read: its maxmemory-policy is %s, safe: noeviction, volatile-ttl",
            server.policy,
        )


async def _info(socket: Socket) -> Server:
    await socket.send_packed_command([pack((b"INFO",))])
    try:
        text: bytes = await socket.read_response()
    except NoPermissionError:
        return Server()
    lines = dict(line.split(":", 1) for line in text.decode(errors="replace").splitlines() if ":" in line)
    mode = lines.get("redis_mode", "")
    return Server(
        version=_version(lines.get("redis_version", "")),
        clustered=mode == "cluster",
        sentinel=mode == "sentinel",
        read_only=lines.get("role") == "slave" and lines.get("slave_read_only", "1") == "1",
        bounded=lines.get("maxmemory", "0") != "0",
        policy=lines.get("maxmemory_policy", ""),
    )


def _version(text: str) -> tuple[int, int] | None:
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None


async def _subscribe(socket: Socket, channel: bytes, *, sharded: bool) -> None:
    await socket.send_packed_command([pack((b"SSUBSCRIBE" if sharded else b"SUBSCRIBE", channel))])
    try:
        await socket.read_response()
    except NoPermissionError:
        raise StoreSetupError(f"the Redis user may not subscribe to the channel {channel.decode()}") from None
    except ResponseError as error:
        # A node that only sends us to another would have refused what is not allowed.
        if redirect_of(error) is None:
            raise
