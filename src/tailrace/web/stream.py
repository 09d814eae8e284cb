"""The send loop: one reader, one feed of entries, one encoder, one writer.

It sends what is ready in one write, a heartbeat when there was nothing for a while, the end mark after the terminal
frame, and stops when the reader is gone. It never ends a response cleanly before the terminal event, but for a reader
that was told to come back.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from starlette.types import Receive

from tailrace.errors import RunNotFoundError, SendTimeoutError, StoreUnavailableError
from tailrace.web.wheel import Wheel
from tailrace.web.writer import Writer
from tailrace.wire.dialects.native import RESET, reconnect

__all__ = ["END", "HEARTBEAT", "EntryEncoder", "Feed", "Stream"]

#: Both are comments of one line and no blank line: a blank line makes some clients dispatch an empty event.
HEARTBEAT = b": hb\n"
END = b": end\n"

_WRITE_BYTES = 64 * 1024
_SHORTEST_RETRY_MS = 1_000

_logger = logging.getLogger("tailrace")


_T = TypeVar("_T")
_Out = TypeVar("_Out", covariant=True)
_In = TypeVar("_In", contravariant=True)


class Feed(Protocol[_Out]):
    """Entries in order, for one reader."""

    ended: bool
    was_reset: bool

    async def read(self, limit: int = ...) -> Sequence[_Out]:
        """What is ready, at most `limit` entries; nothing if nothing is."""
        ...

    async def wait(self) -> None:
        """Wait for more, or for `wake`."""
        ...

    def wake(self) -> None:
        """Let `wait` return."""
        ...


class EntryEncoder(Protocol[_In]):
    """Turns what a feed gives into frames."""

    def encode(self, entry: _In, /) -> list[bytes]:
        """The whole frames of one entry, possibly none."""
        ...


class Stream(Generic[_T]):
    """One open response.

    Attributes:
        gone: The reader has left.
        ended: The reader has had the terminal event.
    """

    def __init__(  # noqa: PLR0913  the parts of a response
        self,
        feed: Feed[_T],
        encoder: EntryEncoder[_T],
        writer: Writer,
        *,
        fresh_encoder: Callable[[], EntryEncoder[_T]],
        wheel: Wheel,
        heartbeat_seconds: float,
        resumes: bool,
        skip_frames: int = 0,
        announces_reset: bool = False,
        holds: Callable[[], bool] = lambda: True,
    ) -> None:
        """Bring the parts together; nothing is sent yet.

        Args:
            feed: Where entries come from; closed by the caller.
            encoder: Has seen what the reader has.
            writer: Where frames go; its headers were sent.
            fresh_encoder: Makes one that has seen nothing, for a replay.
            wheel: Ticks for this stream while it runs.
            heartbeat_seconds: The longest silence.
            resumes: Whether the reader comes back when it is told to.
            skip_frames: Frames of the first entry that the reader has already.
            announces_reset: Whether the reader understands a `reset` frame before a replay.
            holds: Whether the reader still may read, asked at every tick.
        """
        self.gone = False
        self.ended = False
        self.resumes = resumes
        self._feed = feed
        self._encoder = encoder
        self._fresh_encoder = fresh_encoder
        self._writer = writer
        self._wheel = wheel
        self._heartbeat_seconds = heartbeat_seconds
        self._skip_frames = skip_frames
        self._announces_reset = announces_reset
        self._holds = holds
        self._loop = asyncio.get_running_loop()
        self._wrote_at = self._loop.time()
        self._farewell: bytes | None = None
        self._aborting = False

    def leave(self, retry_ms: int, reason: str | None = None) -> None:
        """Ask the reader to come back after at least `retry_ms`, jittered so that not all come at once."""
        retry_ms = max(_SHORTEST_RETRY_MS, int(retry_ms * random.uniform(1, 2)))  # noqa: S311  spreads load
        self._farewell = reconnect(retry_ms, reason)
        self._feed.wake()

    def abort(self) -> None:
        """Cut the connection: the reader shall not take what it has for the whole."""
        self._aborting = True
        self._writer.interrupt()
        self._feed.wake()

    def tick(self, now: float) -> None:
        """Looked at by the wheel."""
        self._writer.tick(now)
        if self._farewell is None and not self._aborting and not self._holds():
            self._expire()
        if now - self._wrote_at > self._heartbeat_seconds - self._wheel.tick_seconds:
            self._feed.wake()

    def _expire(self) -> None:
        if self.resumes:
            self.leave(_SHORTEST_RETRY_MS, "expired")
        else:
            self.abort()

    async def run(self, receive: Receive) -> None:
        """Send until the terminal event, or until the reader is gone, is asked to come back, or takes nothing.

        Raises:
            StreamAbortedError: The response is broken, and the server has to be told by an exception.
        """
        watcher = self._loop.create_task(self._watch(receive), name="tailrace-receive")
        self._wheel.add(self)
        try:
            await self._pump()
        except SendTimeoutError as error:
            _logger.info("a reader was dropped: %s", error)
            await self._writer.abort()
        finally:
            self._wheel.discard(self)
            watcher.cancel()
            await asyncio.wait({watcher})
            if not watcher.cancelled() and watcher.exception() is not None:
                _logger.debug("receive failed, which counts as a disconnect", exc_info=watcher.exception())

    async def _pump(self) -> None:
        while not self.gone:
            if self._aborting:
                await self._writer.abort()
                return
            if self._farewell is not None:
                await self._write(self._farewell)
                await self._writer.finish()
                return
            entries = await self._read()
            for data in self._frames(entries):
                await self._write(data)
            if self._feed.ended:
                await self._write(END)
                self.ended = True
                await self._writer.finish()
                return
            if not entries and not self._aborting:
                await self._idle()

    async def _read(self) -> Sequence[_T]:
        try:
            # A reader that has some frames of an entry gets the rest of just that entry, so nothing may be merged in.
            return await (self._feed.read(1) if self._skip_frames else self._feed.read())
        except RunNotFoundError:
            self._aborting = True
        except StoreUnavailableError:
            # The reader loses nothing by waiting; the heartbeat goes on.
            await asyncio.sleep(min(1.0, self._heartbeat_seconds))
        return []

    async def _idle(self) -> None:
        await self._feed.wait()
        quiet_seconds = self._loop.time() - self._wrote_at
        if quiet_seconds > self._heartbeat_seconds - self._wheel.tick_seconds and not self.gone:
            await self._write(HEARTBEAT)

    async def _write(self, data: bytes) -> None:
        await self._writer.write(data)
        self._wrote_at = self._loop.time()
        if len(data) >= _WRITE_BYTES:
            # A server that buffers does not wait, so a long replay would keep everybody else from their turn.
            await asyncio.sleep(0)

    def _frames(self, entries: Sequence[_T]) -> Iterator[bytes]:
        """The entries' frames, joined to writes of bounded size."""
        waiting: list[bytes] = []
        size = 0
        if self._feed.was_reset:
            self._feed.was_reset = False
            self._encoder = self._fresh_encoder()
            self._skip_frames = 0
            if self._announces_reset:
                waiting.append(RESET)
        for entry in entries:
            frames = self._encoder.encode(entry)
            if self._skip_frames:
                frames, self._skip_frames = frames[self._skip_frames :], 0
            waiting.extend(frames)
            size += sum(map(len, frames))
            if size >= _WRITE_BYTES:
                yield b"".join(waiting)
                waiting, size = [], 0
        if waiting:
            yield b"".join(waiting)

    async def _watch(self, receive: Receive) -> None:
        """Servers tell of a disconnect here and, some of them, nowhere else."""
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self.gone = True
            self._feed.wake()
