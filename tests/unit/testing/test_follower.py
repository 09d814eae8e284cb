"""The follower comes back as a client should, and notes whatever a deployment must never show a reader."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from tailrace import Tailrace
from tailrace.events import Event, RunCompleted, RunStarted, TextDelta, encode_record, event_type
from tailrace.testing import AsgiClient, HttpFollower
from tailrace.wire.sse import encode_event

URL = "/log"
START: Event = RunStarted(run_id="r")
END: Event = RunCompleted()
RECONNECT = encode_event("{}", event="reconnect", retry=20)
CUT = None


def frame(seq: int, event: Event, *, first: int | None = None) -> bytes:
    """A native frame."""
    data = encode_record(seq, event).decode()
    merged = data if first is None else f'{data[:-1]},"first":{first}}}'
    return encode_event(merged, event=event_type(event), id=str(seq))


FRAMES = [frame(1, START), frame(2, TextDelta("a")), frame(3, TextDelta("b")), frame(4, END)]


class Server:
    """Answers each request as the script says: a status, or chunks that end well unless the last one is `CUT`.

    Attributes:
        asked: The `Last-Event-ID` and the path of each request.
    """

    def __init__(self, *answers: int | Sequence[bytes | None]) -> None:
        self.asked: list[tuple[str, str]] = []
        self._answers = iter(answers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append((dict(scope["headers"]).get(b"last-event-id", b"").decode(), scope["path"]))
        answer = next(self._answers)
        status = answer if isinstance(answer, int) else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        for chunk in () if isinstance(answer, int) else answer:
            if chunk is CUT:
                return
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def followed(server: ASGIApp) -> HttpFollower:
    """A follower that has come to an end."""
    follower = HttpFollower(AsgiClient(server), URL)
    await follower.follow(timeout_seconds=5)
    return follower


async def test_a_run_is_read_over_as_many_responses_as_it_takes() -> None:
    server = Server([FRAMES[0], CUT], 503, [FRAMES[1] + FRAMES[2][:9], CUT], [FRAMES[2], RECONNECT], [FRAMES[3]])

    follower = await followed(server)

    assert follower.faults == []
    assert [entry.seq for entry in follower.entries] == [1, 2, 3, 4]
    assert (follower.text, follower.last, follower.ended) == ("ab", 4, True)
    assert [last_event_id for last_event_id, _ in server.asked] == ["", "1", "1", "2", "3"]
    assert (follower.resumes, follower.refusals, follower.reconnects) == (4, [503], [20])


async def test_merged_events_are_taken_where_they_continue() -> None:
    follower = await followed(Server([FRAMES[0], frame(3, TextDelta("ab"), first=2), FRAMES[3]]))

    assert follower.faults == []
    assert [(entry.since, entry.seq) for entry in follower.entries] == [(1, 1), (2, 3), (4, 4)]


async def test_an_id_that_names_its_run_is_sent_back_as_it_is() -> None:
    server = Server([encode_event(encode_record(1, START).decode(), id="run:1"), CUT], FRAMES[1:])

    follower = await followed(server)

    assert follower.faults == []
    assert [last_event_id for last_event_id, _ in server.asked] == ["", "run:1"]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ([FRAMES[0], FRAMES[2]], "at 1: number 3, which is a gap"),
        ([FRAMES[0], frame(4, TextDelta("x"), first=3)], "at 1: number 3, which is a gap"),
        ([FRAMES[0], FRAMES[1], FRAMES[1]], "at 2: number 2, which is not new"),
        ([FRAMES[0], FRAMES[1], frame(3, TextDelta("x"), first=2)], "at 2: number 2, which is not new"),
        ([*FRAMES, frame(5, TextDelta("x"))], "at 4: number 5 after the terminal event"),
        ([FRAMES[0]], "at 1: a clean end before the terminal event"),
        ([FRAMES[0], encode_event("{}", event="reset")], "at 1: told to begin again"),
        ([FRAMES[0], RECONNECT, FRAMES[1]], "at 1: text.delta after being asked to come back"),
        ([FRAMES[0], encode_event("{}", event="reconnect")], "at 1: asked to come back with id '1' and delay None"),
        (
            [FRAMES[0], encode_event("{}", event="reconnect", id="2", retry=20)],
            "at 1: asked to come back with id '2' and delay 20",
        ),
        (204, "at 0: sent away with status 204"),
        (404, "at 0: sent away with status 404"),
    ],
)
async def test_what_must_never_be_is_noted_and_ends_the_reading(answer: int | Sequence[bytes], fault: str) -> None:
    follower = await followed(Server(answer))

    assert follower.faults == [fault]


@pytest.mark.parametrize("data", ["no JSON", "{}", '{"type":"text.delta","at_ms":1}', '{"type":"text.delta"}'])
@pytest.mark.parametrize("event_id", ["2", "two"])
async def test_what_is_no_entry_is_a_fault(data: str, event_id: str) -> None:
    follower = await followed(Server([FRAMES[0], encode_event(data, event="text.delta", id=event_id)]))

    (fault,) = follower.faults
    assert fault.startswith("at 1: no entry: ")


async def test_each_attempt_goes_to_the_next_address() -> None:
    server = Server([FRAMES[0], CUT], [FRAMES[1], CUT], FRAMES[2:])

    follower = HttpFollower(AsgiClient(server), itertools.cycle(["/a", "/b"]), retry_seconds=0)
    await follower.follow()

    assert [path for _, path in server.asked] == ["/a", "/b", "/a"]


async def test_addresses_that_come_to_an_end_are_a_fault() -> None:
    follower = HttpFollower(AsgiClient(Server([FRAMES[0], CUT])), ["/a"], retry_seconds=0)

    await follower.follow()

    assert follower.faults == ["at 1: there is nowhere left to look"]


class Unreachable:
    """A client of a server that cannot be reached for a while."""

    def __init__(self, app: ASGIApp, *errors: Exception) -> None:
        self._app = app
        self._errors = list(errors)

    def stream(self, method: str, url: str, *, headers: object) -> AbstractAsyncContextManager[httpx2.Response]:
        if self._errors:
            raise self._errors.pop()
        transport = httpx2.ASGITransport(self._app)
        return httpx2.AsyncClient(transport=transport, base_url="http://test").stream(method, url)


async def test_a_refused_connection_is_a_reason_to_come_back() -> None:
    client = Unreachable(Server(FRAMES), ConnectionRefusedError(), httpx2.ConnectError("refused"))
    follower = HttpFollower(client, URL, dropped=(httpx2.TransportError,))

    await follower.follow()

    assert (follower.faults, follower.last, follower.resumes) == ([], 4, 2)


async def test_other_errors_are_the_callers() -> None:
    follower = HttpFollower(Unreachable(Server(FRAMES), ValueError("no such thing")), URL)

    with pytest.raises(ValueError, match="no such thing"):
        await follower.follow()


async def test_a_run_that_does_not_end_is_given_up() -> None:
    async def endless() -> AsyncIterator[str]:
        while True:
            yield "word"
            await asyncio.sleep(0.01)

    tail = Tailrace()
    app = Starlette()
    tail.install(app, "/runs")
    async with AsgiClient(app) as client:
        run = await tail.start(endless)
        follower = HttpFollower(client, run.url)
        following = asyncio.create_task(follower.follow(timeout_seconds=0.5))
        await follower.reached(3)
        with pytest.raises(TimeoutError, match="not at 1000000"):
            await follower.reached(1_000_000, timeout_seconds=0.01)

        with pytest.raises(TimeoutError, match="the follower is at"):
            await following
        await follower.reached(1_000_000)

    assert not follower.ended
