"""A request that comes back to a run: from where it reads, in which dialect, and what it is refused."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from starlette.requests import Request

from tailrace import Tailrace
from tailrace.errors import StoreUnavailableError
from tailrace.events import TERMINAL_TYPES
from tailrace.stores.contract import Info, Lease
from tailrace.stores.memory import MemoryStore
from tests.integration.support.apps import chat_app
from tests.integration.support.client import BOUND_SECONDS, Connection, fetch, open_stream
from tests.integration.support.frames import entry_of, events_of, frames_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script

Serve = Callable[..., AppServer]

KEY = {"idempotency-key": "one long and random key"}
RESET = b"event: reset\ndata: {}\n\n"


@pytest.fixture(scope="module")
def running() -> Iterator[AppServer]:
    """A server for requests that leave no trace."""
    with AppServer(chat_app(Tailrace(), Script("a"))) as server:
        yield server


def final_run(server: AppServer) -> tuple[str, list[bytes]]:
    """Start a run and read it to the end: the URL of its log, and its frames."""
    reply = fetch(server.port, "POST", "/chat")
    return reply.head["location"], frames_of(reply.body)


# The place to read from ----------------------------------------------------------------------------------------------


def test_a_reader_gets_what_follows_its_last_event_id(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a", "b", "c")))
    url, frames = final_run(server)

    for seen in range(len(frames)):
        reply = fetch(server.port, "GET", url, {"last-event-id": str(seen)})

        assert reply.body == b"".join(frames[seen:]) + b": end\n"
        assert reply.head["location"] == url


def test_the_query_says_where_to_read_from_and_the_header_beats_it(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a", "b", "c")))
    url, frames = final_run(server)

    by_query = fetch(server.port, "GET", f"{url}?after=2")
    by_both = fetch(server.port, "GET", f"{url}?after=2", {"last-event-id": "3"})

    assert frames_of(by_query.body) == frames[2:]
    assert frames_of(by_both.body) == frames[3:]


def test_an_id_that_names_the_run_is_as_good_as_a_bare_one(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a", "b")))
    url, frames = final_run(server)
    run_id = url.split("/")[2]

    reply = fetch(server.port, "GET", url, {"last-event-id": f"{run_id}:2"})

    assert frames_of(reply.body) == frames[2:]


def test_an_empty_last_event_id_is_none(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a", "b")))
    url, frames = final_run(server)

    reply = fetch(server.port, "GET", f"{url}?after=", {"last-event-id": ""})

    assert frames_of(reply.body) == frames


def test_a_reader_that_has_all_of_a_final_run_gets_204(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a", "b")))
    url, frames = final_run(server)

    reply = fetch(server.port, "GET", url, {"last-event-id": str(len(frames))})

    assert (reply.status, reply.body) == (204, b"")
    assert reply.head["cache-control"] == "no-store"


def test_a_reader_that_has_all_of_an_open_run_waits_for_more(serve: Serve) -> None:
    gate = Gate()
    server = serve(chat_app(Tailrace(), Script("a", gate, "b")))

    with open_stream(server.port, "POST", "/chat") as first:
        first.next_of("text.delta")
        with open_stream(server.port, "GET", first.head["location"], {"last-event-id": "2"}) as second:
            gate.open()
            events = second.rest()

    assert [(event.id, event.event) for event in events] == [("3", "text.delta"), ("4", "run.completed")]


def test_two_readers_of_a_running_run_get_the_same_bytes(serve: Serve) -> None:
    gate = Gate()
    server = serve(chat_app(Tailrace(), Script("a", "b", gate, "c", "d")))

    with open_stream(server.port, "POST", "/chat") as first:
        first.next_of("text.delta")
        with open_stream(server.port, "GET", first.head["location"]) as second:
            second.next_of("text.delta")
            gate.open()
            first.rest()
            second.rest()

    assert first.raw == second.raw
    assert first.raw.endswith(b": end\n")


@pytest.mark.parametrize(
    "cursor",
    ["-1", "x", "1.", ".1", "1.1.1", "1 2", "0x1", "99999999999999999", "1" * 5000, "1.9999999", "\xb2", ":1", "a:b:1"],
)
@pytest.mark.parametrize("by", ["header", "query"])
def test_what_is_no_cursor_is_400(running: AppServer, cursor: str, by: str) -> None:
    server, (url, _) = running, final_run(running)

    if by == "header":
        reply = fetch(server.port, "GET", url, {"last-event-id": cursor})
    else:
        reply = fetch(server.port, "GET", f"{url}?after={cursor.replace(' ', '%20').replace(chr(0xB2), '%C2%B2')}")

    assert (reply.status, reply.error_code) == (400, "cursor_invalid")
    assert len(reply.body) < 500


def test_the_id_of_another_run_is_400(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a")))
    url, _ = final_run(server)
    other_url, _ = final_run(server)
    other_id = other_url.split("/")[2]

    reply = fetch(server.port, "GET", url, {"last-event-id": f"{other_id}:1"})

    assert (reply.status, reply.error_code) == (400, "cursor_invalid")


@pytest.mark.parametrize("run_id", ["x", "x" * 26, "x" * 5000, "%00", "..%2F..", "%C3%A9"])
def test_a_run_that_does_not_exist_is_404(running: AppServer, run_id: str) -> None:
    replies = [
        fetch(running.port, "GET", f"/runs/{run_id}/events"),
        fetch(running.port, "GET", f"/runs/{run_id}"),
        fetch(running.port, "POST", f"/runs/{run_id}/cancel"),
    ]

    assert [reply.status for reply in replies] == [404, 404, 404]


# A place beyond the log ----------------------------------------------------------------------------------------------


def test_a_place_beyond_a_final_run_begins_again_with_a_reset(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a", "b")))
    url, frames = final_run(server)

    reply = fetch(server.port, "GET", url, {"last-event-id": "999999999999999"})

    assert reply.body == RESET + b"".join(frames) + b": end\n"


def test_a_dialect_without_a_reset_gets_the_whole_run_again(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a", "b")))
    url, _ = final_run(server)
    whole = fetch(server.port, "GET", f"{url}?dialect=tokens")

    reply = fetch(server.port, "GET", f"{url}?dialect=tokens", {"last-event-id": "77"})

    assert reply.body == whole.body


def test_a_place_beyond_an_open_run_that_stays_silent_begins_again_after_a_wait(serve: Serve) -> None:
    gate = Gate()
    server = serve(chat_app(Tailrace(), Script("a", gate, "b")))

    with open_stream(server.port, "POST", "/chat") as first:
        first.next_of("text.delta")
        asked_at = time.monotonic()
        with open_stream(server.port, "GET", first.head["location"], {"last-event-id": "50"}) as second:
            reset = second.next()
            waited_seconds = time.monotonic() - asked_at
            gate.open()
            rest = second.rest()
        first.rest()

    assert (reset.event, reset.id) == ("reset", "")
    assert waited_seconds > 1.5
    assert [event.id for event in rest] == ["1", "2", "3", "4"]
    assert second.raw == RESET + first.raw


def test_a_place_beyond_an_open_run_is_right_if_the_run_gets_there_in_time(serve: Serve) -> None:
    gate, asked = Gate(), threading.Event()

    def owner(request: Request) -> str:
        if request.method == "GET":
            asked.set()
        return "somebody"

    server = serve(chat_app(Tailrace(owner=owner), Script("a", gate, "b", "c")))

    with open_stream(server.port, "POST", "/chat") as first, Connection(server.port) as second:
        first.next_of("text.delta")
        second.send("GET", first.head["location"], {"last-event-id": "4"})
        assert asked.wait(BOUND_SECONDS)
        gate.open()
        first.rest()
        reply = second.reply()

    assert reply.body == frames_of(first.raw)[-1] + b": end\n"
    assert [event.id for event in events_of(reply.body)] == ["5"]


# Dialects and merging ------------------------------------------------------------------------------------------------


def test_each_reader_chooses_its_dialect(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a", "b")))
    url, _ = final_run(server)

    reply = fetch(server.port, "GET", f"{url}?dialect=tokens", {"last-event-id": "2"})

    assert [event.data for event in events_of(reply.body)] == ['{"token":"b"}', "[DONE]"]
    assert reply.head["location"] == f"{url}?dialect=tokens"


def test_a_dialect_that_nobody_knows_is_400(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a")))
    url, _ = final_run(server)

    reply = fetch(server.port, "GET", f"{url}?dialect=klingon")

    assert (reply.status, reply.error_code) == (400, "dialect_not_found")


def test_a_reader_far_behind_gets_deltas_merged_unless_it_forbids_it(serve: Serve) -> None:
    words = [f"word-{number} " for number in range(700)]
    server = serve(chat_app(Tailrace(), Script(*words)))
    url, _ = final_run(server)

    merged = [entry_of(event) for event in events_of(fetch(server.port, "GET", url).body)]
    single = [entry_of(event) for event in events_of(fetch(server.port, "GET", f"{url}?merge=0").body)]

    assert [entry.seq for entry in single] == list(range(1, 703))
    assert [entry.first for entry in single] == [None] * 702
    assert [(entry.since, entry.seq) for entry in merged] == [(1, 1), (2, 701), (702, 702)]


# Routes that start runs ----------------------------------------------------------------------------------------------


def test_a_post_with_a_bare_place_is_400_and_starts_nothing(serve: Serve) -> None:
    source = Script("a")
    tail = Tailrace()
    server = serve(chat_app(tail, source))

    reply = fetch(server.port, "POST", "/chat", {"last-event-id": "3"})

    assert (reply.status, reply.error_code) == (400, "cursor_invalid")
    assert source.opened == 0
    assert server.evaluate(lambda: tail.live_count) == 0


def test_a_post_with_a_place_that_names_its_run_goes_on_reading_it(serve: Serve) -> None:
    source = Script("a", "b", "c")
    server = serve(chat_app(Tailrace(), source))
    url, frames = final_run(server)
    run_id = url.split("/")[2]

    reply = fetch(server.port, "POST", "/chat", {"last-event-id": f"{run_id}:3"})

    assert frames_of(reply.body) == frames[3:]
    assert reply.head["location"] == url
    assert source.opened == 1


def test_a_post_with_a_bare_place_and_its_key_goes_on_reading_the_run_of_the_key(serve: Serve) -> None:
    source = Script("a", "b", "c")
    server = serve(chat_app(Tailrace(), source))
    started = fetch(server.port, "POST", "/chat", KEY)

    reply = fetch(server.port, "POST", "/chat", {**KEY, "last-event-id": "3"})

    assert frames_of(reply.body) == frames_of(started.body)[3:]
    assert source.opened == 1


def test_a_post_that_has_seen_everything_gets_the_end_mark(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a")))
    url, frames = final_run(server)
    run_id = url.split("/")[2]

    reply = fetch(server.port, "POST", "/chat", {"last-event-id": f"{run_id}:{len(frames)}"})

    assert (reply.status, reply.body) == (200, b": end\n")


def test_a_post_to_come_back_to_a_run_that_is_gone_is_404_and_starts_nothing(serve: Serve) -> None:
    source = Script("a")
    server = serve(chat_app(Tailrace(), source))

    replies = [
        fetch(server.port, "POST", "/chat", {"last-event-id": f"{'x' * 26}:3"}),
        fetch(server.port, "POST", "/chat", {**KEY, "last-event-id": "3"}),
    ]

    assert [(reply.status, reply.error_code) for reply in replies] == [(404, "run_not_found")] * 2
    assert source.opened == 0


def test_a_get_that_starts_runs_has_ids_that_name_the_run(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a", "b")))

    reply = fetch(server.port, "GET", "/chat")

    run_id = reply.head["location"].split("/")[2]
    assert [event.id for event in events_of(reply.body)] == [f"{run_id}:{seq}" for seq in (1, 2, 3, 4)]


def test_a_browser_that_reconnects_to_a_get_goes_on_reading_and_starts_nothing(serve: Serve) -> None:
    gate = Gate()
    source = Script("a", gate, "b")
    server = serve(chat_app(Tailrace(), source))

    with open_stream(server.port, "GET", "/chat") as first:
        first.next_of("text.delta")
        place = first.last_event_id
    with open_stream(server.port, "GET", "/chat", {"last-event-id": place}) as second:
        gate.open()
        rest = second.rest()
    last = fetch(server.port, "GET", "/chat", {"last-event-id": second.last_event_id})

    assert [event.event for event in rest] == ["text.delta", "run.completed"]
    assert rest[-1].id.rpartition(":")[0] == place.rpartition(":")[0]
    assert last.status == 204
    assert source.opened == 1


def test_the_ids_of_a_get_that_starts_runs_open_the_log_too(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script("a", "b"), dialect="tokens"))
    started = fetch(server.port, "GET", "/chat")

    reply = fetch(server.port, "GET", started.head["location"], {"last-event-id": events_of(started.body)[1].id})

    assert [event.data for event in events_of(reply.body)] == ['{"token":"b"}', "[DONE]"]


# What else can be asked of a run -------------------------------------------------------------------------------------


def test_a_run_can_be_looked_at_while_it_runs_and_read_on_from_there(serve: Serve) -> None:
    gate = Gate()
    server = serve(chat_app(Tailrace(), Script("a", "b", gate, "c")))

    with open_stream(server.port, "POST", "/chat") as stream:
        url = stream.head["location"]
        while '"b"' not in stream.next().data:
            pass
        seen = fetch(server.port, "GET", url.removesuffix("/events"))
        gate.open()
        stream.rest()
    after = fetch(server.port, "GET", f"{url}?after={seen.json()['seq']}")

    document = seen.json()
    assert (document["status"], document["text"], document["events_url"]) == ("running", "ab", url)
    assert [event.event for event in events_of(after.body)] == ["text.delta", "run.completed"]


def test_a_cancel_stops_the_source_and_is_the_end_that_every_reader_sees(serve: Serve) -> None:
    source = Script("a", Gate())
    server = serve(chat_app(Tailrace(), source))

    with open_stream(server.port, "POST", "/chat") as stream:
        url = stream.head["location"]
        stream.next_of("text.delta")
        accepted = fetch(server.port, "POST", url.replace("/events", "/cancel"))
        end = stream.rest()
    again = fetch(server.port, "POST", url.replace("/events", "/cancel"))

    source.await_closing()
    assert (accepted.status, accepted.json()["accepted"]) == (202, True)
    assert (again.status, again.json()["accepted"]) == (200, False)
    assert [event.event for event in end] == ["run.cancelled"]
    assert '"reason":"user"' in end[0].data
    assert stream.comments == ["end"]


def test_a_log_has_exactly_one_terminal_event_whatever_way_the_run_ends(serve: Serve) -> None:
    endings: dict[str, AppServer] = {
        "run.completed": serve(chat_app(Tailrace(), Script("a"))),
        "run.failed": serve(chat_app(Tailrace(), Script("a", RuntimeError("x")))),
    }

    for terminal, server in endings.items():
        events = events_of(fetch(server.port, "POST", "/chat").body)

        assert [event.event for event in events if event.event in TERMINAL_TYPES] == [terminal]
        assert events[-1].event == terminal


# A store that gives no answer ----------------------------------------------------------------------------------------


class SilentStore(MemoryStore):
    """Gives no answer from when it is told so."""

    def __init__(self) -> None:
        """Answer."""
        super().__init__(monotonic=time.monotonic)
        self.is_silent = False

    async def info(self, run_id: str) -> Info:
        """As a memory store, while it answers."""
        if self.is_silent:
            raise StoreUnavailableError
        return await super().info(run_id)

    async def create(self, run_id: str, *, owner: str | None, thread: str | None, fingerprint: bytes) -> Lease | None:
        """As a memory store, while it answers."""
        if self.is_silent:
            raise StoreUnavailableError
        return await super().create(run_id, owner=owner, thread=thread, fingerprint=fingerprint)


def test_while_the_store_is_silent_a_browser_is_asked_to_come_back_and_others_get_503(serve: Serve) -> None:
    store = SilentStore()
    source = Script("a")
    server = serve(chat_app(Tailrace(store), source))
    url, _ = final_run(server)
    store.is_silent = True

    native = fetch(server.port, "GET", url)
    others = [
        fetch(server.port, "GET", f"{url}?dialect=tokens"),
        fetch(server.port, "GET", url.removesuffix("/events")),
        fetch(server.port, "POST", "/chat"),
    ]

    (frame,) = events_of(native.body)
    assert (native.status, native.head["content-type"]) == (200, "text/event-stream")
    assert (frame.event, frame.id) == ("reconnect", "")
    assert native.body.startswith(b"retry: ")
    assert [(reply.status, reply.error_code) for reply in others] == [(503, "store_unavailable")] * 3
    assert all(int(reply.head["retry-after"]) >= 1 for reply in others)
    assert source.opened == 1
