"""Runs as HTTP sees them: whose request it is, where a run is found, which streams are open, and how they all end."""

import asyncio
import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.types import Scope

from tailrace.runtime.clock import Clock
from tailrace.runtime.limits import Limits
from tailrace.runtime.runs import Runs
from tailrace.stores.contract import RunStore
from tailrace.web.feed import interrupt_feeds
from tailrace.web.owners import OwnerOf, identify, seconds_left
from tailrace.web.stream import Stream
from tailrace.web.wheel import Wheel

__all__ = ["Companion", "RunService"]

_logger = logging.getLogger("tailrace")
_RECONNECT_MS = 1_000
#: Of a drain's time, the share in which streams that are told to go may still take what they were sent.
_FLUSH_SHARE = 0.15
_FLUSH_SECONDS = 1.0


class Companion(Protocol):
    """Something that has a store of its own."""

    async def open(self) -> None:
        """Connect; the runs' own store is open."""
        ...

    async def aclose(self) -> None:
        """Close it, opened or not."""
        ...


class RunService(Runs):
    """What responses and routes need of the application's one `Tailrace`, which is made of this.

    Attributes:
        drain_seconds: How long a SIGTERM may take from the first sign to the last byte.
        heartbeat_seconds: The longest silence on an open stream.
        early_seconds: How long a starting response waits for its first event.
        opening_seconds: How much longer it waits if its source is a callable that has not returned yet. 0 unless the
            application sets it, as it does if its sources may refuse, and ask others before they know.
        send_timeout_seconds: How long a reader may take nothing.
        ticket_seconds: How long a ticket to a run's stream can be used.
        wheel: Ticks for all open streams.
        companions: What is opened and closed with the runs.
    """

    def __init__(  # noqa: PLR0913  the fixed constructor of the product
        self,
        store: str | RunStore = "memory://",
        *,
        owner: OwnerOf | None = None,
        secret: bytes | str | None = None,
        lease_seconds: float = 10,
        retention_seconds: float = 900,
        heartbeat_seconds: float = 15,
        early_seconds: float = 0.5,
        send_timeout_seconds: float = 30,
        max_events: int = 100_000,
        max_bytes: int = 16 * 1024**2,
        clock: Clock | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Describe the service; nothing is opened before the first use.

        Args:
            store: Where logs are kept: a URL such as `memory://`, or a store.
            owner: Whose request it is: an opaque string per identity, with tenant and subject joined. May be async,
                may raise `HTTPException`. Without it a run's id is the only key to the run.
            secret: See `Runs`.
            lease_seconds: See `Runs`.
            retention_seconds: See `Runs`.
            heartbeat_seconds: The longest silence on an open stream.
            early_seconds: How long a response that starts a run waits for its first event, so that a failure before
                it can be an HTTP status.
            send_timeout_seconds: How long a reader may take nothing before it is dropped.
            max_events: See `Runs`.
            max_bytes: See `Runs`.
            clock: See `Runs`.
            limits: See `Runs`.

        Raises:
            StoreSetupError: The URL names no known kind of store, or its extra is missing.
        """
        super().__init__(
            store,
            secret=secret,
            lease_seconds=lease_seconds,
            retention_seconds=retention_seconds,
            max_events=max_events,
            max_bytes=max_bytes,
            clock=clock,
            limits=limits,
        )
        self.drain_seconds = 10.0
        self.heartbeat_seconds = heartbeat_seconds
        self.early_seconds = early_seconds
        self.opening_seconds = 0.0
        self.send_timeout_seconds = send_timeout_seconds
        self.ticket_seconds = 45.0
        self.wheel = Wheel(min(heartbeat_seconds, send_timeout_seconds))
        self.companions: list[Companion] = []
        self._owner_of = owner
        self._path: str | None = None
        self._app: object = None
        self._streams: set[Stream[Any]] = set()
        self._streams_left: asyncio.Event | None = None
        self._at_drain: set[Callable[[], None]] = set()
        self._warned: set[str] = set()

    @property
    def has_owners(self) -> bool:
        """Whether runs belong to somebody; if not, they can be reached by id only, never listed."""
        return self._owner_of is not None

    @property
    def stream_count(self) -> int:
        """Readers that get, or wait for, what comes; streams of runs and others that may be sent away at any time."""
        return len(self._streams) + len(self._at_drain)

    async def owner(self, request: Request) -> str | None:
        """Whose request it is.

        Raises:
            HTTPException: Whatever the application's function raises.
        """
        return await identify(self._owner_of, request)

    def holds(self, scope: Scope) -> bool:
        """Whether the identity that the request was found to have still holds."""
        return seconds_left(scope, self.clock) != 0

    def installed(self, app: object, path: str) -> None:
        """The run routes are part of `app`, under `path`."""
        self._app = app
        self._path = path

    def location(
        self, scope: Scope, run_id: str, dialect: str, options: Mapping[str, object] | None = None
    ) -> str | None:
        """The URL path of a run's log in a dialect, as seen by the client of this request; `None` if not installed.

        The options are those that the dialect is spoken with, so that whoever goes on there reads the same.

        A request that came through an application mounted beside or below the one with the run routes has that
        application's `root_path`; then the outermost application's counts.
        """
        if self._path is None:
            return None
        own = scope.get("app") is self._app
        root_path = scope.get("root_path", "") if own else scope.get("app_root_path", scope.get("root_path", ""))
        query = urlencode({**({} if dialect == "native" else {"dialect": dialect}), **(options or {})})
        return f"{root_path}{self.url_of(run_id)}{query and f'?{query}'}"

    def url_of(self, run_id: str) -> str:
        """The path of a run's log within the application."""
        return f"{self._path or ''}{super().url_of(run_id)}"

    # Streams and the drain -------------------------------------------------------------------------------------------

    @contextmanager
    def open_stream(self, stream: Stream[Any]) -> Generator[None]:
        """Count a stream while it is open, so that a drain finds it."""
        self._streams.add(stream)
        try:
            yield
        finally:
            self._streams.discard(stream)
            if not self._streams and self._streams_left is not None:
                self._streams_left.set()

    @contextmanager
    def at_drain(self, leave: Callable[[], None]) -> Generator[None]:
        """Have `leave` called when a drain begins: for readers that come back by themselves, wherever they are sent."""
        self._at_drain.add(leave)
        try:
            yield
        finally:
            self._at_drain.discard(leave)

    def warn_once(self, message: str) -> None:
        """Log a warning the first time it is given."""
        if message not in self._warned:
            self._warned.add(message)
            _logger.warning(message)

    async def open(self) -> None:
        """See `Runs.open`; its companions too.

        Raises:
            StoreSetupError: A store cannot be used as it is set up.
            StoreUnavailableError: A store gave no answer.
        """
        await super().open()
        try:
            for companion in self.companions:
                await companion.open()
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """See `Runs.aclose`; its companions too."""
        try:
            await super().aclose()
        finally:
            for companion in self.companions:
                await companion.aclose()

    async def drain(self, seconds: float) -> None:
        """Refuse new runs, give every open stream its end, and return when all is done or `seconds` have passed.

        Where another process can go on with a run's log, readers that come back are sent there. Elsewhere they stay
        to the terminal event: runs may finish, and what has not after most of the time is interrupted.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        self._streams_left = asyncio.Event()
        interrupt_feeds()
        for leave in tuple(self._at_drain):
            leave()
        if self.store.shared:
            for stream in tuple(self._streams):
                if stream.resumes:
                    stream.leave(_RECONNECT_MS)
        flush_seconds = min(_FLUSH_SECONDS, seconds * _FLUSH_SHARE)
        await super().drain(max(0.0, seconds - 2 * flush_seconds))
        await self._streams_gone(deadline - flush_seconds - loop.time())
        for stream in tuple(self._streams):
            stream.abort()
        await self._streams_gone(deadline - loop.time())
        # Whoever was interrupted above may have come back: the server still listens.
        interrupt_feeds()

    async def _streams_gone(self, seconds: float) -> None:
        """Wait until no stream is open, at most so long."""
        if not self._streams or self._streams_left is None:
            return
        self._streams_left.clear()
        waiting = asyncio.create_task(self._streams_left.wait())
        try:
            await asyncio.wait({waiting}, timeout=max(0.0, seconds))
        finally:
            waiting.cancel()
