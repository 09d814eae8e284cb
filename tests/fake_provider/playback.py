"""Sends an answer at the pace of its script, and notices when the client leaves."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from tests.fake_provider.contract import Frame
from tests.fake_provider.faults import End
from tests.fake_provider.journal import Entry, Journal, Outcome
from tests.fake_provider.script import Script

__all__ = ["Playback", "Reply"]


@dataclass(frozen=True)
class Reply:
    """An answer as it is sent. All of it is made before it is sent, so that at full speed the client is what is slow.

    Attributes:
        frames: One, if it is a document.
        outcome: What it is in the journal if the client stays.
        keep_alive: What breaks the silence of a body that never ends.
    """

    status: int
    media_type: str
    frames: Sequence[Frame]
    outcome: Outcome = "completed"
    end: End = "clean"
    keep_alive: bytes = b""
    retry_after: str = ""

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The name of the request's id differs between providers."""
        headers = {"content-type": self.media_type, "x-request-id": "req_fake", "request-id": "req_fake"}
        if self.retry_after:
            headers["retry-after"] = self.retry_after
        return [(name.encode(), value.encode()) for name, value in headers.items()]


class Playback:
    """An ASGI application that gives one answer once."""

    def __init__(self, reply: Reply, script: Script, entry: Entry, journal: Journal) -> None:
        """Give `reply` and write down in `entry` what became of it."""
        self._reply = reply
        self._script = script
        self._entry = entry
        self._journal = journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until everything is sent or nobody is there."""
        async with asyncio.TaskGroup() as tasks:
            playing = tasks.create_task(self._play(send))
            watching = tasks.create_task(self._watch(receive))
            playing.add_done_callback(lambda _: watching.cancel())
            watching.add_done_callback(lambda _: playing.cancel())

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._journal.end(self._entry, "client_left")

    async def _play(self, send: Send) -> None:
        reply, delay = self._reply, self._script.delay_seconds
        await asyncio.sleep(self._script.start_seconds)
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        *writes, last = _writes(reply.frames, 1 if delay else self._script.batch)
        for frames in writes:
            await self._write(send, frames, more=True)
            await asyncio.sleep(delay if any(frame.tokens for frame in frames) else 0)
        if reply.end != "never":
            self._journal.end(self._entry, reply.outcome)
        # A body that is not ended when this returns makes the server drop the connection.
        await self._write(send, last, more=reply.end != "clean")
        while reply.end == "never":
            await asyncio.sleep(self._script.ping_seconds or math.inf)
            await _put(send, reply.keep_alive, more=True)

    async def _write(self, send: Send, frames: Sequence[Frame], *, more: bool) -> None:
        self._journal.count_tokens(self._entry, sum(frame.tokens for frame in frames))
        await _put(send, b"".join(frame.data for frame in frames), more=more)


def _writes(frames: Sequence[Frame], size: int) -> Sequence[Sequence[Frame]]:
    """At least one, if an empty one."""
    return [frames[start : start + size] for start in range(0, len(frames), size)] or [()]


async def _put(send: Send, data: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})
