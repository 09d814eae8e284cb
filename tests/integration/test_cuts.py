"""A response cut anywhere loses nothing: what was read, and what is read after coming back, is the run."""

from collections.abc import Callable
from functools import cache

import pytest

from tailrace import Tailrace
from tailrace.events import Entry
from tailrace.fold import reduce
from tests.integration.support.apps import chat_app
from tests.integration.support.client import Connection, Reply, fetch
from tests.integration.support.frames import accepted, entry_of, events_of, frames_of, last_id_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import FAILING_RUN, Gate, Script

Serve = Callable[..., AppServer]

END = b": end\n"
KEY = {"idempotency-key": "one long and random key"}


def come_back(server: AppServer, url: str, cursor: str) -> Reply:
    """Attach as a client does that has seen everything up to `cursor`."""
    return fetch(server.port, "GET", url, {"last-event-id": cursor} if cursor else {})


def assert_completes(seen: bytes, reply: Reply, whole: list[bytes]) -> None:
    """What was seen and what came afterwards are the run's frames, each once, and the end of the stream."""
    frames = frames_of(seen)
    if frames == whole:
        assert (reply.status, reply.body) == (204, b"")
    else:
        assert b"".join(frames) + reply.body == b"".join(whole) + END


@pytest.mark.parametrize("dialect", ["native", "tokens"])
def test_a_run_cut_at_any_byte_is_completed_byte_for_byte(serve: Serve, dialect: str) -> None:
    source = Script(*FAILING_RUN)
    server = serve(chat_app(Tailrace(), source, dialect=dialect))
    started = fetch(server.port, "POST", "/chat")
    url = f"{started.head['location']}{'&' if '?' in started.head['location'] else '?'}merge=0"
    whole = frames_of(started.body)

    # The log is final, so what a cursor is answered is the same however often it is asked for.
    @cache
    def answer(cursor: str) -> Reply:
        return come_back(server, url, cursor)

    for cut in range(len(started.body) + 1):
        seen = started.body[:cut]

        assert_completes(seen, answer(last_id_of(seen)), whole)

    assert answer.cache_info().currsize == len(whole) + 1
    assert source.opened == 1


def test_the_run_that_is_cut_has_several_frames_for_one_event_and_events_without_a_frame(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script(*FAILING_RUN), dialect="tokens"))

    ids = [event.id for event in events_of(fetch(server.port, "POST", "/chat").body)]

    numbers = [int(id_) for id_ in ids if "." not in id_]
    assert ids[-3:] == ["21.1", "21.2", "22"]
    assert numbers != list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(("dialect", "cuts"), [("native", range(7, 700, 61)), ("tokens", range(3, 200, 17))])
def test_a_live_response_cut_anywhere_is_completed_while_the_run_goes_on(
    serve: Serve, dialect: str, cuts: range
) -> None:
    middle = len(FAILING_RUN) // 2
    sources: list[Script] = []

    def newest() -> object:
        return sources[-1]()

    server = serve(chat_app(Tailrace(), newest, dialect=dialect))

    for cut in cuts:
        gate = Gate()
        sources.append(Script(*FAILING_RUN[:middle], gate, *FAILING_RUN[middle:]))
        with Connection(server.port) as first:
            first.send("POST", "/chat")
            url = first.head()["location"]
            seen = first.read_exactly(cut)
            first.abort()
        with Connection(server.port) as second:
            cursor = last_id_of(seen)
            second.send("GET", url, {"last-event-id": cursor} if cursor else {})
            second.head()
            gate.open()
            rest = second.read_to_end()

        assert b"".join(frames_of(seen)) + rest == come_back(server, url, "").body
        assert second.whole
        assert sources[-1].opened == 1


def test_a_reader_cut_again_and_again_gets_a_growing_run_whole(serve: Serve) -> None:
    source = Script(*FAILING_RUN[:-1] * 3, pace_seconds=0.002)
    server = serve(chat_app(Tailrace(), source, dialect="tokens"))
    seen, url, attempts = b"", "", 0

    while not seen.endswith(b"data: [DONE]\n\n"):
        cursor = last_id_of(seen)
        with Connection(server.port) as connection:
            connection.send("GET" if url else "POST", url or "/chat", {"last-event-id": cursor} if cursor else {})
            url = connection.head()["location"]
            # A few bytes more each time, so that the cuts fall everywhere in and between frames.
            seen += b"".join(frames_of(connection.read_at_most(40 + 7 * attempts)))
        attempts += 1

    assert seen + END == come_back(server, url, "").body
    assert attempts > 5
    assert source.opened == 1


def test_a_cut_inside_the_headers_of_the_start_is_healed_by_the_key(serve: Serve) -> None:
    gate = Gate()
    source = Script("a", gate, "b")
    server = serve(chat_app(Tailrace(), source))

    with Connection(server.port) as first:
        first.send("POST", "/chat", KEY)
        gate.await_arrival()
        first.abort()
    with Connection(server.port) as second:
        second.send("POST", "/chat", KEY)
        second.head()
        gate.open()
        body = second.read_to_end()

    assert [event.event for event in events_of(body)] == ["run.started", "text.delta", "text.delta", "run.completed"]
    assert source.opened == 1


# Merged --------------------------------------------------------------------------------------------------------------


def long_run() -> list[object]:
    """More than six hundred deltas of several parts, with other events between."""
    items: list[object] = []
    for number in range(20):
        items += [f"word-{number}-{index} " for index in range(35)]
        items.append({"event": "mark", "data": number})
    return items


def test_a_reader_that_is_sent_merged_deltas_and_cut_anywhere_has_the_same_run(serve: Serve) -> None:
    source = Script(*long_run())
    server = serve(chat_app(Tailrace(), source))
    started = fetch(server.port, "POST", "/chat")
    url = started.head["location"]
    log = [entry_of(event) for event in events_of(fetch(server.port, "GET", f"{url}?merge=0").body)]
    merged = fetch(server.port, "GET", url).body

    assert len(events_of(merged)) < len(log) / 5
    for cut in range(0, len(merged), 101):
        entries: list[Entry] = []
        accepted(entries, events_of(merged[:cut]))
        accepted(entries, events_of(come_back(server, url, last_id_of(merged[:cut])).body))

        assert reduce(entries) == reduce(log)
    assert source.opened == 1


def test_a_reader_that_changes_between_single_and_merged_deltas_has_the_same_run(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Script(*long_run())))
    started = fetch(server.port, "POST", "/chat")
    url = started.head["location"]
    single = fetch(server.port, "GET", f"{url}?merge=0").body
    log = [entry_of(event) for event in events_of(single)]

    for cut in range(0, len(single), 2_003):
        entries: list[Entry] = []
        accepted(entries, events_of(single[:cut]))
        accepted(entries, events_of(come_back(server, url, last_id_of(single[:cut])).body))

        assert entries[-1].seq == len(log)
        assert reduce(entries) == reduce(log)


def test_merging_in_a_dialect_of_several_frames_loses_no_text(serve: Serve) -> None:
    words = [f"word-{index} " for index in range(700)]
    server = serve(chat_app(Tailrace(), Script(*words, RuntimeError("x")), dialect="tokens"))
    started = fetch(server.port, "POST", "/chat")
    url = started.head["location"]
    merged = fetch(server.port, "GET", url).body

    texts: set[bytes] = set()
    for cut in range(0, len(merged), 53):
        frames = frames_of(merged[:cut]) + frames_of(come_back(server, url, last_id_of(merged[:cut])).body)
        tokens = (frame.partition(b'{"token":"')[2].removesuffix(b'"}\n\n') for frame in frames)
        texts.add(b"".join(tokens))

    assert len(texts) == 1
    assert "".join(words).encode() in texts.pop()
