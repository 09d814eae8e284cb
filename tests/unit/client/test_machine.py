"""What a client does next, for everything that can happen to a stream."""

from collections import Counter
from random import Random
from typing import Any

import pytest

from tailrace.client.commands import Attempt, Command, Fail, Policy, Read, ReadBody, Send, Stop, Wait
from tailrace.client.machine import CLIENT_HEADER, Machine
from tailrace.errors import (
    DialectNotFoundError,
    FrameTooLargeError,
    NotAStreamError,
    RequestRefusedError,
    StreamBrokenError,
    TailraceError,
)
from tailrace.web import headers as web_headers

URL = "https://example.com/chat"
LOG = "https://example.com/runs/abc/events"
NOW = 1_000_000.0
STREAM = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
END = b": end\n"


def make(method: str = "GET", *, random: float = 0.5, **options: Any) -> Machine:  # noqa: ANN401  of `Machine`
    return Machine(URL, method=method, random=lambda: random, **options)


def frame(event_id: object = None, event: str = "text.delta", data: str = "{}") -> bytes:
    id_line = "" if event_id is None else f"id: {event_id}\n"
    return f"{id_line}event: {event}\ndata: {data}\n\n".encode()


def answer(machine: Machine, status: int = 200, headers: dict[str, str] = STREAM) -> None:
    machine.answered(status, headers, sent(machine).url, NOW)


def opened(method: str = "GET", *, location: str = "", **options: Any) -> Machine:  # noqa: ANN401
    """A machine whose first request was answered with a stream."""
    machine = make(method, **options)
    answer(machine, headers={**STREAM, "location": location} if location else STREAM)
    return machine


def read(machine: Machine, *frames: bytes) -> list[tuple[str, str]]:
    """The ids and names of what is new."""
    return [(event.id, event.event) for each in frames for event in machine.received(each, NOW)]


def ids(machine: Machine, *frames: bytes) -> list[str]:
    return [event_id for event_id, _ in read(machine, *frames)]


def come_back(machine: Machine) -> Send:
    """Lose the connection, wait, and ask again."""
    machine.finished(NOW)
    assert isinstance(machine.command, Wait), machine.command
    machine.woke()
    return sent(machine)


def resumed(machine: Machine) -> Machine:
    come_back(machine)
    answer(machine)
    return machine


def sent(machine: Machine) -> Send:
    assert isinstance(machine.command, Send), machine.command
    return machine.command


def waited(machine: Machine) -> float:
    assert isinstance(machine.command, Wait), machine.command
    return machine.command.seconds


def failure(machine: Machine) -> TailraceError:
    assert isinstance(machine.command, Fail), machine.command
    assert machine.connection.state == "closed"
    return machine.command.error


# The first request ---------------------------------------------------------------------------------------------------


def test_a_get_asks_for_a_stream_and_says_that_it_comes_back_by_itself() -> None:
    machine = make(last_event_id="7")

    request = sent(machine)

    assert (request.method, request.url, request.with_body, request.with_credentials) == ("GET", URL, False, True)
    assert request.headers == {
        "accept": b"text/event-stream",
        "cache-control": b"no-store",
        "tailrace-client": b"python/0.1.0",
        "last-event-id": b"7",
    }
    assert request.attempt == Attempt(1)
    assert CLIENT_HEADER == web_headers.CLIENT_HEADER


def test_any_other_endpoint_is_told_nothing_of_us() -> None:
    assert CLIENT_HEADER not in sent(make(dialect="raw")).headers


def test_a_cursor_goes_out_as_utf_8() -> None:
    assert sent(make(last_event_id="ünf")).headers["last-event-id"] == "ünf".encode()


def test_a_dialect_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(DialectNotFoundError):
        make(dialect="klingon")


@pytest.mark.parametrize("name", ["base_seconds", "max_seconds", "max_attempts", "idle_seconds", "progress_seconds"])
def test_patience_is_a_positive_number(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be more than 0"):
        Policy(**{name: 0})


# Answers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type", ["text/event-stream", "Text/Event-Stream; Charset=UTF-8", " text/event-stream"]
)
def test_a_stream_is_read_whatever_the_case_and_the_parameters_of_its_type(content_type: str) -> None:
    machine = make()

    answer(machine, headers={"content-type": content_type})

    assert isinstance(machine.command, Read)
    assert machine.connection.state == "open"


@pytest.mark.parametrize("content_type", ["text/html", "application/json", ""])
@pytest.mark.parametrize("status", [200, 201, 206])
def test_an_answer_that_is_no_stream_is_an_error_and_not_asked_again(status: int, content_type: str) -> None:
    machine = make()

    answer(machine, status, {"content-type": content_type})

    error = failure(machine)
    assert isinstance(error, NotAStreamError)
    assert error.content_type == content_type


@pytest.mark.parametrize("dialect", ["raw", "native", "openai"])
def test_204_is_the_end(dialect: str) -> None:
    machine = make(dialect=dialect)

    answer(machine, 204, {})

    assert isinstance(machine.command, Stop)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 451])
def test_a_refusal_is_final_and_says_what_the_server_said(status: int) -> None:
    machine = make()
    answer(machine, status, JSON)
    assert isinstance(machine.command, ReadBody)

    machine.read_body(b'{"error": {"code": "run_not_found", "message": "No such run.", "status": 404}}')

    error = failure(machine)
    assert isinstance(error, RequestRefusedError)
    assert (error.status, error.error_code, error.message) == (status, "run_not_found", "No such run.")


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b'{"detail": "Not here."}', "Not here.", None),
        (b'{"error": "Gone.", "type": "expired"}', "Gone.", "expired"),
        (b'{"error": {"type": "invalid_request_error", "message": "No."}}', "No.", "invalid_request_error"),
        (b'{"code": "x", "message": "y"}', "y", "x"),
        (b'{"error": 7}', "", None),
        (b"[1]", "", None),
        (b"<html>", "", None),
        (b"", "", None),
        (b"\xff", "", None),
        (b'{"error": {"message": "\xff"}}', "", None),
        pytest.param(b'{"error":' + b"[" * 60_000, "", None, id="deep"),
    ],
)
def test_refusals_are_read_in_all_their_shapes(body: bytes, message: str, code: str | None) -> None:
    machine = make()
    answer(machine, 400, JSON)

    machine.read_body(body)

    error = failure(machine)
    assert isinstance(error, RequestRefusedError)
    assert (error.message, error.error_code) == (message, code)


def test_a_refusal_whose_words_are_lost_is_one() -> None:
    machine = make()
    answer(machine, 404, JSON)

    machine.broke("reset by peer", NOW)

    assert isinstance(failure(machine), RequestRefusedError)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_waited_for(status: int) -> None:
    machine = make()

    answer(machine, status, {})

    assert waited(machine) == 0.5
    machine.woke()
    assert sent(machine).attempt == Attempt(2, status)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2", 2.0),
        ("0", 0.0),
        ("86400", 300.0),
        ("Mon, 12 Jan 1970 13:46:50 GMT", 10.0),
        ("Mon, 12 Jan 1970 13:46:00 GMT", 0.0),
        ("Mon, 12 Jan 2170 13:46:00 GMT", 300.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("", 0.0),
    ],
)
def test_retry_after_is_the_least_to_wait_as_seconds_or_as_a_date(value: str, seconds: float) -> None:
    machine = make()

    answer(machine, 503, {"retry-after": value})

    assert waited(machine) == seconds + 0.5
    assert machine.connection.retry_at == NOW + seconds + 0.5


@pytest.mark.parametrize(("status", "is_asked_again"), [(401, True), (403, False), (404, False)])
def test_a_refused_token_is_worth_one_fresh_one(status: int, is_asked_again: bool) -> None:
    machine = make(asks_headers=True)

    answer(machine, status, {})

    assert isinstance(machine.command, Send if is_asked_again else ReadBody)
    if is_asked_again:
        assert sent(machine).attempt == Attempt(2, 401)
        answer(machine, 401, {})
        assert isinstance(machine.command, ReadBody)


def test_each_connection_may_have_its_token_refreshed() -> None:
    machine = make(asks_headers=True)
    answer(machine, 401, {})
    answer(machine)
    come_back(machine)

    answer(machine, 401, {})

    assert sent(machine).attempt == Attempt(4, 401)


# Redirects -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "method", "with_body"),
    [(301, "GET", False), (302, "GET", False), (303, "GET", False), (307, "POST", True), (308, "POST", True)],
)
def test_a_redirected_post_stays_one_where_the_status_says_so(status: int, method: str, with_body: bool) -> None:
    machine = make("POST")

    answer(machine, status, {"location": "/elsewhere"})

    request = sent(machine)
    assert (request.method, request.with_body) == (method, with_body)
    assert request.url == "https://example.com/elsewhere"
    assert request.is_redirected
    assert request.attempt == Attempt(1)


@pytest.mark.parametrize(
    ("location", "with_credentials"),
    [
        ("/elsewhere", True),
        ("https://example.com:443/elsewhere", True),
        ("https://example.org/elsewhere", False),
        ("http://example.com/elsewhere", False),
        ("https://example.com:8443/elsewhere", False),
    ],
)
def test_credentials_stay_with_their_origin(location: str, with_credentials: bool) -> None:
    machine = make()

    answer(machine, 307, {"location": location})

    assert sent(machine).with_credentials == with_credentials


def test_credentials_come_back_with_the_next_attempt_at_home() -> None:
    machine = make()
    answer(machine, 307, {"location": "https://example.org/"})
    answer(machine)

    assert come_back(machine).with_credentials
    assert sent(machine).url == URL


NOWHERE = [
    "http://[",
    "http://example.com:x/",
    "https://example.com:99999/",
    "javascript:alert(1)",
    "file:///etc/passwd",
]


@pytest.mark.parametrize("headers", [{}, *({"location": location} for location in ["", " ", *NOWHERE])])
def test_a_redirect_to_nowhere_is_a_refusal(headers: dict[str, str]) -> None:
    machine = make()

    answer(machine, 302, headers)
    assert isinstance(machine.command, ReadBody)
    machine.read_body(b"")

    assert isinstance(failure(machine), RequestRefusedError)


@pytest.mark.parametrize("location", NOWHERE)
def test_a_stream_whose_location_is_nowhere_has_none(location: str) -> None:
    machine = opened(location=location)
    assert (machine.location, ids(machine, frame(1))) == (None, ["1"])
    assert come_back(machine).url == URL

    started = opened("POST", location=location)
    started.finished(NOW)
    assert "no Location" in str(failure(started))


@pytest.mark.parametrize("event_id", ["  7 ", "\t7"])
def test_spaces_around_an_id_are_no_part_of_a_header(event_id: str) -> None:
    machine = opened(dialect="raw")

    assert ids(machine, f"id: {event_id}\ndata: x\n\n".encode()) == [event_id]

    assert come_back(machine).headers["last-event-id"] == b"7"


@pytest.mark.parametrize("event_id", ["a\x0cb", "\x01", "7\x7f"])
def test_an_id_that_fits_in_no_header_cannot_be_come_back_to(event_id: str) -> None:
    machine = opened(dialect="raw")
    read(machine, f"id: {event_id}\ndata: x\n\n".encode())
    machine.finished(NOW)

    machine.woke()

    assert isinstance(failure(machine), StreamBrokenError)
    assert machine.connection.state == "closed"


@pytest.mark.parametrize("value", ["Mon, 9999999999999999999 Jan 2020 00:00:00 GMT", f"1 Jan 2020 1:1:1 +{'9' * 30}"])
def test_a_retry_after_beyond_all_numbers_is_none(value: str) -> None:
    machine = make(random=0.0)

    answer(machine, 503, {"retry-after": value})

    assert machine.command == Wait(0.0)


def test_redirects_in_a_circle_end_after_twenty() -> None:
    machine = make()
    count = 0

    while isinstance(machine.command, Send):
        answer(machine, 302, {"location": URL})
        count += 1

    assert count == 21
    assert isinstance(machine.command, ReadBody)


def test_a_post_that_was_sent_elsewhere_to_read_is_resumed_there() -> None:
    machine = make("POST")
    answer(machine, 303, {"location": LOG})
    answer(machine)

    assert come_back(machine).url == LOG


# Ends ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["finished", "broke"])
def test_the_end_of_the_bytes_is_no_end_however_it_came(how: str) -> None:
    machine = opened()
    assert ids(machine, frame(1), frame(2)) == ["1", "2"]

    if how == "finished":
        machine.finished(NOW)
    else:
        machine.broke("reset by peer", NOW)

    assert machine.connection.state == "waiting"
    assert machine.connection.error == ("the connection ended" if how == "finished" else "reset by peer")
    machine.woke()
    assert sent(machine).headers["last-event-id"] == b"2"


def test_the_terminal_event_is_the_end_and_nothing_after_it_is_read() -> None:
    machine = opened()

    assert ids(machine, frame(1) + frame(2, "run.completed") + frame(3)) == ["1", "2"]

    assert isinstance(machine.command, Stop)


@pytest.mark.parametrize("dialect", ["raw", "native", "openai"])
def test_the_end_comment_is_the_end_in_every_dialect(dialect: str) -> None:
    machine = opened(dialect=dialect)

    assert ids(machine, frame(1) + END[:3]) == ["1"]
    assert isinstance(machine.command, Read)
    machine.received(END[3:], NOW)

    assert isinstance(machine.command, Stop)


def test_heartbeats_are_no_end() -> None:
    machine = opened()

    assert ids(machine, b": hb\n", b": ending\n", frame(1)) == ["1"]

    assert isinstance(machine.command, Read)


def test_the_terminal_event_of_a_dialect_is_none_for_a_raw_stream() -> None:
    machine = opened(dialect="raw")

    assert ids(machine, frame(1, "run.completed"), b"data: [DONE]\n\n") == ["1", "1"]

    assert isinstance(machine.command, Read)


def test_closing_is_final() -> None:
    machine = opened()

    machine.close()

    assert machine.is_over
    assert machine.connection.state == "closed"


# Coming back ---------------------------------------------------------------------------------------------------------


def test_a_get_comes_back_to_where_the_log_is() -> None:
    machine = opened(location="/runs/abc/events")

    request = come_back(machine)

    assert (request.method, request.url) == ("GET", LOG)
    assert machine.location == LOG


def test_a_get_without_a_location_comes_back_to_itself() -> None:
    assert come_back(opened()).url == URL


def test_a_raw_get_comes_back_to_itself_in_any_case() -> None:
    assert come_back(opened(location="/elsewhere", dialect="raw")).url == URL


def test_a_post_is_sent_once_and_resumed_by_get() -> None:
    machine = opened("POST", location="/runs/abc/events")
    read(machine, frame(1))

    request = come_back(machine)

    assert (request.method, request.url, request.with_body) == ("GET", LOG, False)
    assert request.headers["last-event-id"] == b"1"


def test_a_post_without_a_location_cannot_be_resumed_even_with_a_key() -> None:
    machine = opened("POST")
    machine.repeatable = True

    machine.finished(NOW)

    error = failure(machine)
    assert isinstance(error, StreamBrokenError)
    assert error.reason == "the connection ended, and the answer had no Location to come back to"


@pytest.mark.parametrize("repeatable", [False, True])
def test_a_post_that_was_not_answered_is_repeated_with_a_key_only(repeatable: bool) -> None:
    machine = make("POST")
    machine.repeatable = repeatable

    machine.broke("no route", NOW)

    if repeatable:
        machine.woke()
        assert (sent(machine).method, sent(machine).with_body) == ("POST", True)
    else:
        error = failure(machine)
        assert isinstance(error, StreamBrokenError)
        assert "without an Idempotency-Key" in error.reason


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_refused_post_without_a_key_is_not_repeated(status: int) -> None:
    machine = make("POST")

    answer(machine, status, {"retry-after": "3"})
    machine.read_body(b"")

    error = failure(machine)
    assert isinstance(error, RequestRefusedError)
    assert error.retry_after_seconds == 3.0


def test_a_cut_event_is_forgotten_with_its_id() -> None:
    machine = opened()
    assert ids(machine, frame(1), b"id: 2\ndata: ha") == ["1"]

    request = come_back(machine)

    assert request.headers["last-event-id"] == b"1"
    answer(machine)
    assert ids(machine, frame(2)) == ["2"]


def test_a_stream_that_is_cut_before_any_id_asks_with_the_one_before() -> None:
    machine = opened()
    read(machine, frame(1))

    for _ in range(3):
        assert come_back(machine).headers["last-event-id"] == b"1"
        answer(machine)


@pytest.mark.parametrize("dialect", ["raw", "openai"])
def test_an_empty_id_is_no_cursor(dialect: str) -> None:
    machine = opened(dialect=dialect)
    read(machine, frame(1), b"id:\ndata: x\n\n")

    assert "last-event-id" not in come_back(machine).headers


@pytest.mark.parametrize("dialect", ["raw", "openai"])
def test_an_id_may_come_without_an_event(dialect: str) -> None:
    machine = opened(dialect=dialect)
    read(machine, frame(1), b"id: 5\n\n")

    assert come_back(machine).headers["last-event-id"] == b"5"


# Delays --------------------------------------------------------------------------------------------------------------


def test_the_window_doubles_with_each_failure_to_a_bound() -> None:
    machine = make(random=0.999_999)
    windows: list[float] = []

    for _ in range(9):
        machine.broke("no route", NOW)
        windows.append(round(waited(machine), 2))
        machine.woke()

    assert windows == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 15.0, 15.0]


def test_a_new_event_makes_up_for_all_failures() -> None:
    machine = make(random=0.999_999)
    for _ in range(4):
        machine.broke("no route", NOW)
        machine.woke()
    answer(machine)
    read(machine, frame(1))
    assert machine.connection.error is None

    machine.finished(NOW)

    assert round(waited(machine), 2) == 1.0


def test_connections_without_an_event_are_failures() -> None:
    machine = make(policy=Policy(max_attempts=3))

    for _ in range(3):
        answer(machine)
        read(machine, b": hb\n")
        machine.finished(NOW)
        if isinstance(machine.command, Wait):
            machine.woke()

    error = failure(machine)
    assert isinstance(error, StreamBrokenError)
    assert (error.reason, error.attempts) == ("the connection ended", 3)
    assert machine.connection.error == "the stream broke: the connection ended"


def test_patience_may_be_without_end() -> None:
    machine = make(policy=Policy(max_attempts=None))

    for _ in range(2_000):
        machine.broke("no route", NOW)
        assert waited(machine) <= 15
        machine.woke()

    assert sent(machine).attempt.number == 2_001


@pytest.mark.parametrize(("retry", "window"), [(3_000, 3.0), (0, 0.1), (50, 0.1), (86_400_000, 15.0)])
def test_a_stream_sets_the_window_within_bounds(retry: int, window: float) -> None:
    machine = opened(random=0.999_999)
    read(machine, b"retry: %d\n" % retry + frame(1))

    machine.finished(NOW)

    assert round(waited(machine), 2) == window


def test_who_is_asked_to_come_back_does_so_after_that_time_and_it_is_no_failure() -> None:
    machine = make(policy=Policy(max_attempts=1))

    for _ in range(5):
        answer(machine)
        assert read(machine, b'retry: 2000\nevent: reconnect\ndata: {"reason":"expired"}\n\n' + frame(1)) == []
        assert 2.0 <= waited(machine) <= 3.0
        machine.woke()

    assert sent(machine).attempt == Attempt(6)


def test_an_application_may_call_its_data_reconnect() -> None:
    machine = opened(dialect="chunks")
    frames = frame(1, "reconnect", '{"to": "the grid"}'), frame(2, "reconnect", "{}"), frame(3, "reconnect", "now")

    assert ids(machine, *frames) == ["1", "2", "3"]


def test_a_thousand_clients_that_are_dropped_together_do_not_come_back_together() -> None:
    random = Random(7)  # noqa: S311  the same every time
    delays: list[float] = []
    for _ in range(1_000):
        machine = Machine(URL, random=random.random)
        answer(machine)
        read(machine, frame(1))
        machine.finished(NOW)
        delays.append(waited(machine))

    bins = Counter(int(delay * 10) for delay in delays)

    assert max(delays) < 1.0
    assert max(bins.values()) < 0.2 * len(delays)


# What was read before ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["native", "openai", "ai-sdk", "tokens"])
def test_what_is_sent_again_is_not_delivered_again(dialect: str) -> None:
    machine = opened(dialect=dialect)
    first = ids(machine, frame(1), frame(2), frame(3))

    again = ids(resumed(machine), frame(1), frame(2), frame(3), frame(4))

    assert (first, again) == (["1", "2", "3"], ["4"])


def test_frames_within_an_event_have_their_order_too() -> None:
    machine = opened(dialect="openai")
    first = ids(machine, frame("6.1"), frame("6.2"))

    again = ids(resumed(machine), frame("run:6"), frame("6.1"), frame("6.2"), frame("6.3"), frame("7"))

    assert (first, again) == (["6.1", "6.2"], ["6.3", "7"])


def test_ids_may_name_the_run_at_first_and_later_not() -> None:
    machine = opened(dialect="openai")
    first = ids(machine, frame("abc:1"), frame("abc:2"))

    again = ids(resumed(machine), frame("2"), frame("3"))

    assert (first, again) == (["abc:1", "abc:2"], ["3"])


def test_a_replay_that_is_cut_does_not_set_the_cursor_back() -> None:
    machine = opened(dialect="openai")
    read(machine, frame(1), frame(2), frame(3))
    read(resumed(machine), frame(1))

    assert come_back(machine).headers["last-event-id"] == b"3"


@pytest.mark.parametrize("event_ids", [("a", "b"), ("2", "1")])
def test_other_endpoints_may_count_as_they_like(event_ids: tuple[str, str]) -> None:
    machine = opened(dialect="raw")
    read(machine, frame(event_ids[0]))

    assert ids(resumed(machine), frame(event_ids[1])) == [event_ids[1]]


def test_an_event_without_an_id_of_its_own_is_new_after_a_resume_and_goes_by_the_cursor() -> None:
    machine = opened(dialect="openai")
    read(machine, frame(7))

    assert ids(resumed(machine), frame(), frame(7), frame(), frame(8), frame()) == ["7", "8", "8"]


# Native logs ---------------------------------------------------------------------------------------------------------


def test_a_merged_entry_counts_from_its_first() -> None:
    machine = opened()

    assert ids(machine, frame(1), frame(5, data='{"delta":"x","at_ms":1,"first":2}'), frame(6)) == ["1", "5", "6"]


@pytest.mark.parametrize("data", ['{"first": "one"}', '{"first": null}', '"first"', '{"data": {"first": 9}}'])
def test_what_is_not_the_first_is_left_alone(data: str) -> None:
    assert ids(opened(), frame(1, data=data)) == ["1"]


@pytest.mark.parametrize("gap", [frame(4), frame(5, data='{"first": 4}'), frame(5, data='{"first": 2}')])
def test_a_gap_is_asked_for_again_and_is_an_error_the_second_time(gap: bytes) -> None:
    machine = opened()
    assert ids(machine, frame(1), frame(2), gap) == ["1", "2"]
    assert waited(machine)
    machine.woke()
    assert sent(machine).headers["last-event-id"] == b"2"
    answer(machine)

    assert ids(machine, gap) == []

    error = failure(machine)
    assert isinstance(error, StreamBrokenError)
    assert error.reason == "number 3 is missing"


def test_a_gap_that_is_filled_is_none() -> None:
    machine = opened()
    read(machine, frame(1), frame(3))
    machine.woke()
    answer(machine)

    assert ids(machine, frame(2), frame(3), frame(5)) == ["2", "3"]

    assert waited(machine)


@pytest.mark.parametrize("options", [{"last_event_id": "40"}, {"last_event_id": "abc:40"}])
def test_a_log_may_be_read_from_the_middle(options: dict[str, str]) -> None:
    assert ids(opened(**options), frame(40), frame(41), frame(42)) == ["41", "42"]


def test_a_url_may_say_where_to_begin() -> None:
    machine = Machine(f"{URL}?after=40", random=lambda: 0.5)
    answer(machine)

    assert ids(machine, frame(41)) == ["41"]


def test_a_log_that_begins_anew_is_read_from_the_start_and_the_reader_is_told() -> None:
    machine = opened()
    read(machine, frame(1), frame(2))

    told = read(resumed(machine), b"event: reset\ndata: {}\n\n", frame(1), frame(2), frame(3))

    assert told == [("", "reset"), ("1", "text.delta"), ("2", "text.delta"), ("3", "text.delta")]
    assert come_back(machine).headers["last-event-id"] == b"3"


def test_a_log_that_begins_anew_and_is_cut_at_once_is_asked_for_whole() -> None:
    machine = opened()
    read(machine, frame(1), b"event: reset\ndata: {}\n\n")

    assert "last-event-id" not in come_back(machine).headers


def test_a_stream_without_ids_is_read_as_it_comes() -> None:
    machine = opened()

    assert read(machine, frame(), frame(event="run.completed")) == [("", "text.delta"), ("", "run.completed")]

    assert isinstance(machine.command, Stop)


def test_an_event_that_is_too_large_is_an_error() -> None:
    machine = opened(policy=Policy(max_event_bytes=100))

    assert machine.received(b"data: " + b"x" * 200, NOW) == []

    assert isinstance(failure(machine), FrameTooLargeError)


# Silence -------------------------------------------------------------------------------------------------------------


def test_silence_has_a_bound_from_the_first_request_on() -> None:
    machine = make()
    assert machine.patience(NOW) == 36.0

    answer(machine)

    assert machine.patience(NOW) == 36.0
    assert make(policy=Policy(idle_seconds=None)).patience(NOW) is None


def test_progress_is_events_and_heartbeats_are_none() -> None:
    machine = opened(policy=Policy(progress_seconds=60))

    for seconds, chunk, left in [(30, b": hb\n", 30), (20, b": hb\n", 10), (5, frame(1), 36), (36, b": hb\n", 24)]:
        machine.patience(NOW)
        machine.received(chunk, NOW + seconds)
        assert machine.patience(NOW) == left

    machine.patience(NOW)
    machine.received(b": hb\n", NOW + 24)
    assert machine.connection.error == "no event for 60 s"
    assert machine.connection.state == "waiting"


def test_the_time_that_the_reader_of_the_events_takes_is_no_silence() -> None:
    machine = opened(policy=Policy(progress_seconds=60))
    machine.patience(NOW)
    read(machine, frame(1))

    machine.patience(NOW + 3_600)

    machine.received(b": hb\n", NOW + 3_601)
    assert isinstance(machine.command, Read)


# Documents -----------------------------------------------------------------------------------------------------------


def test_a_start_may_be_answered_with_the_whole_run() -> None:
    machine = make("POST", takes="either")
    answer(machine, 200, JSON)

    machine.read_body(b"{}")

    assert isinstance(machine.command, Stop)
    assert machine.document == b"{}"


def test_a_start_may_be_answered_with_where_to_look() -> None:
    machine = make("POST", takes="either")

    answer(machine, 202, {**JSON, "location": "/runs/abc/events"})

    request = sent(machine)
    assert (request.method, request.url, request.with_body) == ("GET", LOG, False)
    machine.broke("no route", NOW)
    machine.woke()
    assert sent(machine).url == LOG


def test_a_document_that_breaks_off_is_asked_for_again() -> None:
    machine = make(takes="document")
    answer(machine, 200, JSON)

    machine.broke("reset by peer", NOW)

    assert waited(machine) == 0.5


@pytest.mark.parametrize(("headers", "command"), [(JSON, ReadBody), (STREAM, Fail), ({}, Fail)])
def test_who_asks_for_a_document_gets_one(headers: dict[str, str], command: type[Command]) -> None:
    machine = make(takes="document")

    answer(machine, 200, headers)

    assert isinstance(machine.command, command)
