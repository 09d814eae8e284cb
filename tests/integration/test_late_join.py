"""Who joins a long run late gets it in few frames, and who comes back from any place in it gets just the rest."""

import os
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tailrace import Tailrace
from tailrace.events import (
    DELTAS,
    Entry,
    Event,
    ReasoningDelta,
    ReasoningDone,
    Status,
    TextDelta,
    ToolArgsDelta,
    ToolOutput,
    ToolReady,
    ToolStarted,
)
from tailrace.fold import merge, reduce
from tailrace.runtime.follower import MERGE_BEHIND
from tailrace.stores.contract import Page
from tailrace.testing import FakeClock
from tests.integration.support.apps import chat_app
from tests.integration.support.client import Connection, EventReader, Reply, fetch, open_stream
from tests.integration.support.frames import entry_of, events_of, frames_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate
from tests.integration.support.stores import SHARED_STORES, STORES, a_store

Serve = Callable[..., AppServer]
Record = Callable[[str, object], None]

EVENTS = 2_000
MERGED_FRAMES = 50
BYTES_PER_EVENT = 4
#: 1 resumes from every number, which takes a minute; more from fewer of them.
STRIDE = int(os.environ.get("LATE_JOIN_STRIDE", "61"))
#: A text that somebody wrote, and that stays as it is.
PROSE = (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8")
END = b": end\n"
NOTHING = (204, b"")


def answer() -> list[Event]:
    """With `run.started` and the end, 2,000 events: some thinking, a tool, and ten parts of text of tokens."""
    tokens = iter(re.findall(r"\s*\S{1,6}", " ".join(PROSE.split())))
    told: list[Event] = [Status("Thinking"), *(ReasoningDelta(next(tokens)) for _ in range(200)), ReasoningDone()]
    told += [ToolStarted(name="look_up"), *(ToolArgsDelta(delta=piece) for piece in ('{"term":', '"licence"}'))]
    told += [ToolReady(input={"term": "licence"}), ToolOutput(output={"found": 3})]
    for part in range(10):
        told += [Status(f"Part {part + 1} of 10"), *(TextDelta(next(tokens)) for _ in range(170))]
    return told + [TextDelta(next(tokens)) for _ in range(EVENTS - 2 - len(told))]


class Agent:
    """Says the answer as fast as it is asked for, by a clock that moves as it would for a model's tokens."""

    def __init__(self, clock: FakeClock, gate: Gate) -> None:
        """Move this clock, and wait at the gate before the last word."""
        self._clock = clock
        self._gate = gate

    async def __call__(self) -> AsyncIterator[Event]:
        """Begin."""
        dice = random.Random(5)  # noqa: S311  repeatable, not secret
        *most, last = answer()
        for event in most:
            self._clock.advance(dice.randint(10, 30) / 1000)
            yield event
        await self._gate.passed()
        yield last


class LateReader:
    """Asks a server for a run that is over, over one connection.

    Attributes:
        log: The run's entries.
        frames: The frames of them, as they are without merging.
    """

    def __init__(self, connection: Connection, path: str) -> None:
        """Read the whole run."""
        self._connection = connection
        self._path = path
        self.frames = frames_of(self.after("0", merging=False).body)
        self.log = [entry_of(event) for event in events_of(b"".join(self.frames))]

    def after(self, cursor: str, *, merging: bool = True) -> Reply:
        """What there is after a cursor."""
        self._connection.send("GET", self._path if merging else f"{self._path}?merge=0", {"last-event-id": cursor})
        return self._connection.reply()

    def assert_exact_after(self, seq: int) -> None:
        """From here on, one by one or merged, the reader gets what it has not, and nothing else."""
        single, merged = self.after(str(seq), merging=False), self.after(str(seq))
        if seq == len(self.log):
            assert [(reply.status, reply.body) for reply in (single, merged)] == [NOTHING, NOTHING]
            return
        rest = self.log[seq:]
        assert single.body == b"".join(self.frames[seq:]) + END
        received = [entry_of(event) for event in events_of(merged.body)]
        assert received == (merge(rest) if len(rest) > MERGE_BEHIND else rest)
        assert reduce(self.log[:seq] + received) == reduce(self.log)


def entries_to(seq: int, stream: EventReader) -> list[Entry]:
    """The entries of a stream from its beginning to this number."""
    entries = [entry_of(stream.next())]
    while entries[-1].seq < seq:
        entries.append(entry_of(stream.next()))
    return entries


class Served:
    """A server on a store of some kind, with an agent that it asks at `/chat`."""

    def __init__(self, serve: Serve, url: str) -> None:
        """Serve."""
        clock = FakeClock()
        self.gate = Gate()
        self.tail = Tailrace(url, clock=clock, lease_seconds=60)
        self.app = serve(chat_app(self.tail, Agent(clock, self.gate)))

    def ended_run(self) -> str:
        """The path of a run that is over, and of which the store has a block if it keeps any."""
        self.gate.open()
        path = fetch(self.app.port, "POST", "/chat").head["location"]
        self.app.eventually(lambda: not self.tail.live_count)
        return path


@pytest.fixture
def served(
    request: pytest.FixtureRequest, serve: Serve, tmp_path: Path, require_program: Callable[..., str]
) -> Iterator[Served]:
    """On the kind of store that is asked for; the server goes before the store."""
    with a_store(request.param, tmp_path, require_program) as url:
        yield Served(serve, url)


@pytest.mark.parametrize("served", STORES, indirect=True)
def test_who_joins_late_gets_a_long_run_in_few_frames(served: Served, record_property: Record) -> None:
    path = served.ended_run()
    with Connection(served.app.port) as connection:
        reader = LateReader(connection, path)

        merged = [entry_of(event) for event in events_of(reader.after("0").body)]

    assert len(reader.log) == EVENTS
    assert len(merged) <= MERGED_FRAMES
    assert (merged[0].since, merged[-1].seq) == (1, EVENTS)
    assert reduce(merged) == reduce(reader.log)
    record_property("frames for 2,000 events", len(merged))


@pytest.mark.parametrize("served", ["memory"], indirect=True)
def test_who_joins_a_run_that_goes_on_gets_it_in_few_frames_and_then_what_is_said(served: Served) -> None:
    with open_stream(served.app.port, "POST", "/chat") as starter:
        log = entries_to(EVENTS - 2, starter)
        with open_stream(served.app.port, "GET", starter.head["location"]) as late:
            merged = entries_to(EVENTS - 2, late)
            served.gate.open()
            rest = [entry_of(event) for event in late.rest()]
        log += [entry_of(event) for event in starter.rest()]

    assert len(merged) <= MERGED_FRAMES
    assert [entry.seq for entry in rest] == [EVENTS - 1, EVENTS]
    assert reduce(merged + rest) == reduce(log)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("served", STORES, indirect=True)
def test_a_resume_is_exact_wherever_a_reader_was_cut(served: Served, record_property: Record) -> None:
    path = served.ended_run()
    with Connection(served.app.port) as connection:
        reader = LateReader(connection, path)
        held = [entry.seq for entry in merge(reader.log)]
        seams = [entry.seq for entry in reader.log if not isinstance(entry.event, DELTAS)]
        around = [seq + step for seq in seams for step in (-1, 0, 1) if seq + step <= EVENTS]
        cursors = sorted({*held, *around, *range(0, EVENTS + 1, STRIDE)})

        for seq in cursors:
            reader.assert_exact_after(seq)

    assert cursors[-1] == EVENTS
    record_property("cursors that a reader came back with", len(cursors))


@pytest.mark.parametrize("served", SHARED_STORES, indirect=True)
def test_a_run_that_is_over_takes_at_most_four_bytes_for_each_event(served: Served, record_property: Record) -> None:
    path = served.ended_run()

    page: Page = served.app.call(served.tail.store.read(path.split("/")[2], 0, limit=1))

    assert page.block is not None
    assert page.info.last == EVENTS
    assert len(page.block) <= EVENTS * BYTES_PER_EVENT
    record_property("bytes for each event", len(page.block) / EVENTS)
