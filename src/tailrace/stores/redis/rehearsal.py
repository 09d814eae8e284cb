"""Doing once, on a run of no meaning, everything that a store does all the time: whatever is refused shows at start."""

import secrets

from redis.exceptions import NoPermissionError, ResponseError

from tailrace.errors import StoreSetupError
from tailrace.stores.contract import OPEN
from tailrace.stores.redis.command import Command
from tailrace.stores.redis.keys import Keys
from tailrace.stores.redis.payload import encode_payload
from tailrace.stores.redis.refusals import error_of, is_passing
from tailrace.stores.redis.wire import Wire

__all__ = ["new_probe_id", "rehearse"]

_LIVE_MS = b"10000"


def new_probe_id() -> str:
    """The id of a run of no meaning."""
    return f"probe-{secrets.token_hex(8)}"


async def rehearse(wire: Wire, keys: Keys, run_id: str) -> None:
    """Make the run, write it, read it, remove it.

    Raises:
        StoreSetupError: The server refuses some of it.
        StoreUnavailableError: No answer, or it cannot do it now.
    """
    scripts = await wire.ready()
    run, index, name = keys.run(run_id), keys.open_runs(owner=run_id), run_id.encode()
    payload = encode_payload(1, [b""], OPEN)
    commands: list[Command] = [
        scripts.create.call(*run, b"probe", b"", b"", b"", _LIVE_MS),
        scripts.write.call_for_each((run.m, run.s), (b"probe", b"0", b"1", b"0", payload, _LIVE_MS)),
        (b"HMGET", run.m, b"token"),
        (b"XRANGE", run.s, b"(0-0", b"+", b"COUNT", b"1"),
        (b"GET", run.b),
        scripts.put_note.call(run.m, run.n, b"note", b"", _LIVE_MS, b"1"),
        scripts.take_note.call(run.m, run.n, b"note"),
        scripts.purge.call(*run),
        (b"ZADD", index, b"1", name),
        (b"PEXPIRE", index, _LIVE_MS),
        (b"ZREVRANGE", index, b"0", b"0"),
        (b"ZRANGE", index, b"0", b"0"),
        (b"ZREM", index, name),
        wire.publication(run.s, b""),
    ]
    # One by one, because a script that has to be sent along comes after what was asked with it.
    for command in commands:
        (reply,) = await wire.call([command])
        if isinstance(reply, ResponseError) and (isinstance(reply, NoPermissionError) or not is_passing(reply)):
            raise StoreSetupError(f"Redis refuses what the store needs: {reply}")
        if isinstance(reply, Exception):
            error = error_of(reply, command, run_id)
            raise error
