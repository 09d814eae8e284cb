"""Readers that follow the resume rule, and what they must have seen: each number once, in order, to the one end.

The rule: after anything but a terminal event, come back with the number of the last event, to whatever worker.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncGenerator, Callable, Sequence

import httpx2
import msgspec

from tailrace.errors import RunNotFoundError, StoreUnavailableError
from tailrace.events import TERMINAL_TYPES, encode_record
from tailrace.runtime.runs import Runs
from tailrace.wire.sse import Decoder, ServerSentEvent

__all__ = ["Reading", "assert_exact", "bystander", "follow", "last_in", "log_of", "read", "start", "tell"]

_BOUND_SECONDS = 30.0
#: Between two attempts, as every client leaves a pause.
_RETRY_SECONDS = 0.1
_RESTLESS_EVENTS = 10


class _Record(msgspec.Struct, frozen=True):
    type: str
    delta: str = ""


class Reading:
    """What one reader has seen of one run.

    Attributes:
        records: The records, the first one with number 1.
        ended: The terminal event has come.
        ended_at: When that was, on the monotonic clock.
        resumes: How often the reader had to come back.
        duplicated: Events that came although it had their number already.
        after_end: Events that came after the terminal event.
        faults: What must never be.
        refusals: The statuses with which the reader was asked to come later.
    """

    def __init__(self, name: str) -> None:
        """Begin with nothing."""
        self.records: list[str] = []
        self.ended = False
        self.ended_at = 0.0
        self.resumes = 0
        self.duplicated = 0
        self.after_end = 0
        self.faults: list[str] = []
        self.refusals: list[int] = []
        self._name = name
        self._types: list[str] = []
        self._deltas: list[str] = []
        self._news = asyncio.Event()

    @property
    def last(self) -> int:
        """The number to come back with."""
        return len(self.records)

    @property
    def text(self) -> str:
        """All that the run said."""
        return "".join(self._deltas)

    @property
    def terminals(self) -> list[str]:
        """The types of the terminal events; there may be one."""
        return [kind for kind in self._types if kind in TERMINAL_TYPES]

    def take(self, seq: int, record: str) -> None:
        """The next event, as the reader got it."""
        self.duplicated += seq <= self.last
        self.after_end += self.ended
        if seq != self.last + 1 or self.ended:
            self.fault(f"number {seq}, ended: {self.ended}, {record}")
        read = msgspec.json.decode(record, type=_Record)
        self.records.append(record)
        self._types.append(read.type)
        self._deltas.append(read.delta)
        if read.type in TERMINAL_TYPES:
            self.ended = True
            self.ended_at = time.monotonic()
        self._news.set()

    async def until_last(self, last: int) -> None:
        """Wait until so many events were read, or something is wrong."""
        await self._until(lambda: self.last >= last or bool(self.faults))

    async def until_ended(self) -> None:
        """Wait until the end was read, or something is wrong."""
        await self._until(lambda: self.ended or bool(self.faults))

    async def _until(self, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(_BOUND_SECONDS):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{self._name} waits at {self.last}: {self.records[-1:]} {self.refusals}") from None

    def fault(self, what: str) -> None:
        """Note what must never be."""
        self.faults.append(f"{self._name} at {self.last}: {what}")
        self._news.set()


def assert_exact(readings: Sequence[Reading], *, end: str, words: int | None = None) -> None:
    """All readers of one run have seen the same: numbers without hole, the words without hole, and this one end."""
    first = readings[0]
    for reading in readings:
        assert reading.faults == [], reading.faults
        assert reading.terminals == [end], reading.records[-2:]
        assert reading.records == first.records, (len(reading.records), len(first.records))
    said = first.text.split()
    assert said == [f"w{number}" for number in range(1, len(said) + 1)], said
    assert words is None or len(said) == words, len(said)


def tell(figure: Callable[[str, float], None], readings: Sequence[Reading], log: Reading) -> None:
    """Note what the readers of one run were shown and, beside its log, what must be 0; before it is asserted."""
    figure("events", log.last)
    for reading in readings:
        figure("shown", reading.last)
        figure("resumes", reading.resumes)
        figure("lost", sum(shown != kept for shown, kept in itertools.zip_longest(reading.records, log.records)))
        figure("duplicated", reading.duplicated)
        figure("after the end", reading.after_end)
        figure("faults", len(reading.faults))


async def start(client: httpx2.AsyncClient, url: str, message: str, *, key: str | None = None) -> str:
    """Start a run at a worker, leave the response, and return the run's id."""
    headers = {} if key is None else {"idempotency-key": key}
    async with client.stream("POST", f"{url}/chat", json={"message": message}, headers=headers) as response:
        assert response.status_code == 200, response.status_code
        run_id = response.headers["location"].split("/")[2]
    return str(run_id)


async def read(
    reading: Reading, client: httpx2.AsyncClient, urls: Sequence[str], run_id: str, *, restless: bool = False
) -> None:
    """Read over HTTP, beginning with the first worker and coming back to the next one in turn.

    A restless reader goes away after every few events, as one on a train does.
    """
    for url in itertools.cycle(urls):
        with contextlib.suppress(httpx2.TransportError):
            await _read_once(reading, client, f"{url}/runs/{run_id}/events?merge=0", restless=restless)
        if reading.ended or reading.faults:
            return
        reading.resumes += 1
        await asyncio.sleep(_RETRY_SECONDS)


async def _read_once(reading: Reading, client: httpx2.AsyncClient, url: str, *, restless: bool) -> None:
    leave_at = reading.last + _RESTLESS_EVENTS if restless else None
    headers = {"last-event-id": str(reading.last)} if reading.last else {}
    async with client.stream("GET", url, headers=headers) as response:
        if response.status_code in {204, 404}:
            # A client gives up after these.
            reading.fault(f"sent away with {response.status_code}")
            return
        if response.status_code != 200:
            reading.refusals.append(response.status_code)
            return
        decoder = Decoder()
        async for chunk in response.aiter_raw():
            for event in decoder.feed(chunk):
                _take(reading, event)
            if leave_at is not None and reading.last >= leave_at:
                return


def _take(reading: Reading, event: ServerSentEvent) -> None:
    if event.event == "reset":
        reading.fault("told to begin again")
    elif event.event != "reconnect":
        reading.take(int(event.id or 0), event.data)


@contextlib.asynccontextmanager
async def bystander(store_url: str, *, lease_seconds: float) -> AsyncGenerator[Runs]:
    """The runtime of this process, which produces nothing."""
    async with Runs(store_url, lease_seconds=lease_seconds) as runs:
        await runs.open()
        yield runs


async def log_of(store_url: str, run_id: str) -> Reading:
    """The log of a run as somebody finds it who comes when it has ended."""
    log = Reading(f"log of {run_id}")
    async with bystander(store_url, lease_seconds=60) as runs, asyncio.timeout(_BOUND_SECONDS):
        await follow(log, runs, run_id)
    return log


async def last_in(store_url: str, run_id: str) -> int:
    """The number of the last event that a store has of a run; 0 if it does not even have the run."""
    async with bystander(store_url, lease_seconds=60) as runs:
        try:
            return (await runs.info(run_id)).seq
        except RunNotFoundError:
            return 0


async def follow(reading: Reading, runs: Runs, run_id: str) -> None:
    """Follow by the runtime of this process."""
    while not reading.ended:
        try:
            async for entry in runs.follow(run_id, reading.last):
                reading.take(entry.seq, encode_record(entry.at_ms, entry.event).decode())
        except StoreUnavailableError:
            reading.resumes += 1
            await asyncio.sleep(_RETRY_SECONDS)
