"""The Python client, read by a thread and by a task."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, ClassVar
from unittest import mock

from tailrace import TailraceError
from tailrace.client import RESET, AsyncClient, Attempt, Client, EventStream, open_stream
from tailrace.events import Entry, event_type
from tailrace.fold import reduce
from tests.conformance.client_cases import Act, Call, Did
from tests.conformance.scripted_server import unix_seconds

__all__ = ["AsyncDriver", "SyncDriver"]

_BOUND_SECONDS = 20.0
_LOOK_SECONDS = 0.002
_PINNED_RANDOM = 0.5

_POLICY = {
    "base_ms": "base_seconds",
    "max_ms": "max_seconds",
    "idle_ms": "idle_seconds",
    "progress_ms": "progress_seconds",
}


class _ThrownByUserError(Exception):
    """What the code raises that reads."""


class _Reading:
    """What a case reads, and what its user does meanwhile: one thing after the other."""

    def __init__(self, act: Sequence[Act], wants: Sequence[str]) -> None:
        self.did = Did("ended")
        self.subject: Any = None
        self.has_left = False
        self.wants = wants
        self.entries: list[Entry] = []
        self.attempt = 0
        self._todo = list(act)
        self._count = 0

    @property
    def text(self) -> str:
        """As the entries tell it, since the log began, or began anew."""
        return reduce(self.entries).text

    @property
    def next_act(self) -> Act | None:
        return self._todo[0] if self._todo else None

    def begin(self, subject: Any) -> Any:  # noqa: ANN401  a stream or a run
        self.subject = subject
        return subject

    def took(self, item: Any) -> Act | None:  # noqa: ANN401  an event or an entry
        """Note it; what is to be done now, if anything."""
        if "events" in self.wants:
            self.did.events.append((item.event, item.data, item.id))
        else:
            self.entries = [] if item is RESET else [*self.entries, item]
            first = [] if item.first is None else [item.first]
            self.did.entries.append([event_type(item.event), item.seq or None, *first])
        self._count += 1
        if self.next_act is not None and self.next_act.when.get("events") == self._count:
            return self.acting()
        return None

    def acting(self) -> Act:
        act = self._todo.pop(0)
        self.did.acted_at = unix_seconds()
        if act.do in {"close", "break"}:
            self.has_left = True
        if act.do == "throw":
            raise _ThrownByUserError
        return act

    def retry_now(self) -> None:
        self.did.waiting_ms = (self.subject.connection.retry_at - unix_seconds()) * 1_000
        self.subject.retry_now()

    def is_due(self) -> bool:
        """Whether it has come to what the user waits for."""
        act, subject = self.next_act, self.subject
        if act is None or subject is None:
            return False
        return act.when.get("state") == subject.connection.state or act.when.get("attempt") == self.attempt

    @contextlib.contextmanager
    def judged(self) -> Generator[None]:
        """Whatever comes out in here is the outcome."""
        try:
            yield
        except _ThrownByUserError:
            self.did.outcome = "thrown"
        except (TailraceError, ValueError, TypeError, OSError) as error:
            self.did.outcome, self.did.error = "error", _facts(error)
        if self.has_left:
            self.did.outcome = "closed"


def _facts(error: Exception) -> dict[str, Any]:
    retry_after = getattr(error, "retry_after_seconds", None)
    return {
        "code": getattr(error, "code", type(error).__name__),
        "message": str(error),
        "status": getattr(error, "status", None),
        "error_code": getattr(error, "error_code", None),
        "retry_after_ms": None if retry_after is None else retry_after * 1_000,
        "attempts": getattr(error, "attempts", None),
    }


def _policy(call: Call) -> dict[str, Any]:
    given = {"base_ms": 20, "max_attempts": 6, **call.options}
    return {_POLICY.get(name, name): value / 1_000 if name in _POLICY else value for name, value in given.items()}


def _headers(call: Call, reading: _Reading) -> Mapping[str, str] | Callable[[Attempt], Mapping[str, str]]:
    each = call.headers
    if isinstance(each, dict):
        return each

    def headers(attempt: Attempt) -> Mapping[str, str]:
        reading.attempt = attempt.number
        return each[min(attempt.number, len(each)) - 1]

    return headers


def _stream(call: Call, base: str, reading: _Reading) -> EventStream:
    return open_stream(
        base + call.path,
        method=call.method,
        headers=_headers(call, reading),
        dialect=call.dialect,
        last_event_id=call.last_event_id,
        **({} if call.body is None else {"json": call.body}),
        **_policy(call),
    )


def _client_options(call: Call, reading: _Reading) -> dict[str, Any]:
    return {"start": call.path, "headers": _headers(call, reading), **_policy(call)}


class SyncDriver:
    """Reads with a thread; what happens from outside happens on another one."""

    features: ClassVar[frozenset[str]] = frozenset({"redirects"})

    def __init__(self, _: Callable[..., str]) -> None:
        """Needs no program."""

    def close(self) -> None:
        """There is nothing to close."""

    def run(self, call: Call, act: Sequence[Act], base: str, wants: Sequence[str]) -> Did:
        """Play the client's part in a case; `wants` says what is read: `events`, `entries`, `text`."""
        reading = _Reading(act, wants)
        done = threading.Event()
        user = threading.Thread(target=self._act, args=(reading, done), daemon=True)
        reader = threading.Thread(target=self._read, args=(reading, call, base), daemon=True)
        with mock.patch("random.random", return_value=_PINNED_RANDOM):
            user.start()
            reader.start()
            reader.join(_BOUND_SECONDS)
        done.set()
        assert not reader.is_alive(), f"the client does not come to an end: {reading.did}"
        user.join(_BOUND_SECONDS)
        return reading.did

    def _read(self, reading: _Reading, call: Call, base: str) -> None:
        with reading.judged(), contextlib.ExitStack() as stack:
            if call.surface == "stream":
                subject: Any = reading.begin(_stream(call, base, reading))
            else:
                client = stack.enter_context(Client(base, **_client_options(call, reading)))
                subject = reading.begin(
                    client.start(call.body)
                    if call.surface == "run"
                    else client.attach(call.run_id, int(call.last_event_id or 0))
                )
            if {"events", "entries"} & set(reading.wants):
                for item in subject:
                    act = reading.took(item)
                    if act is None:
                        continue
                    if act.do == "break":
                        break
                    time.sleep(act.ms / 1_000)
            if "text" in reading.wants:
                reading.did.text = reading.text if reading.entries else subject.text()

    def _act(self, reading: _Reading, done: threading.Event) -> None:
        seen_at = time.monotonic()
        seen = reading.next_act
        while not done.wait(_LOOK_SECONDS):
            act = reading.next_act
            if act is not seen:
                seen, seen_at = act, time.monotonic()
            after_ms = None if act is None else act.when.get("after_ms")
            if not (reading.is_due() or (after_ms is not None and time.monotonic() - seen_at >= after_ms / 1_000)):
                continue
            what = reading.acting().do
            if what == "close":
                reading.subject.close()
            elif what == "retry_now":
                reading.retry_now()


class AsyncDriver:
    """Reads with a task; what happens from outside happens on another one."""

    features: ClassVar[frozenset[str]] = frozenset({"redirects"})

    def __init__(self, _: Callable[..., str]) -> None:
        """Needs no program."""

    def close(self) -> None:
        """There is nothing to close."""

    def run(self, call: Call, act: Sequence[Act], base: str, wants: Sequence[str]) -> Did:
        """Play the client's part in a case; `wants` says what is read: `events`, `entries`, `text`."""
        reading = _Reading(act, wants)
        with mock.patch("random.random", return_value=_PINNED_RANDOM):
            asyncio.run(self._run(reading, call, base))
        return reading.did

    async def _run(self, reading: _Reading, call: Call, base: str) -> None:
        user = asyncio.create_task(self._act(reading))
        try:
            async with asyncio.timeout(_BOUND_SECONDS):
                await self._read(reading, call, base)
        finally:
            user.cancel()

    async def _read(self, reading: _Reading, call: Call, base: str) -> None:
        with reading.judged():
            async with contextlib.AsyncExitStack() as stack:
                if call.surface == "stream":
                    subject: Any = reading.begin(_stream(call, base, reading))
                else:
                    client = await stack.enter_async_context(AsyncClient(base, **_client_options(call, reading)))
                    subject = reading.begin(
                        await client.start(call.body)
                        if call.surface == "run"
                        else client.attach(call.run_id, int(call.last_event_id or 0))
                    )
                if {"events", "entries"} & set(reading.wants):
                    async for item in subject:
                        act = reading.took(item)
                        if act is None:
                            continue
                        if act.do == "break":
                            break
                        await asyncio.sleep(act.ms / 1_000)
                if "text" in reading.wants:
                    reading.did.text = reading.text if reading.entries else await subject.text()

    async def _act(self, reading: _Reading) -> None:
        loop = asyncio.get_running_loop()
        seen, seen_at = reading.next_act, loop.time()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            act = reading.next_act
            if act is not seen:
                seen, seen_at = act, loop.time()
            after_ms = None if act is None else act.when.get("after_ms")
            if not (reading.is_due() or (after_ms is not None and loop.time() - seen_at >= after_ms / 1_000)):
                continue
            what = reading.acting().do
            if what == "close":
                await reading.subject.aclose()
            elif what == "retry_now":
                reading.retry_now()
