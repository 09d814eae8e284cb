"""A server that is told to stop gives every stream its end and goes in time."""

import signal
import time
from contextlib import ExitStack

import msgspec
import pytest

from tests.integration.support.agents import DRAIN_SECONDS, STOP_ON_REQUEST
from tests.integration.support.client import Connection, EventReader, fetch, open_stream
from tests.integration.support.frames import events_of
from tests.integration.support.process import ServerProcess, tailrace_serve, uvicorn_run

RUNS = 10
READERS_PER_RUN = 10
#: What a slow machine may take beyond the grace to start, stop and say goodbye to a hundred readers.
SLACK_SECONDS = 8.0


def start(server: ServerProcess, open_streams: ExitStack, message: str, dialect: str = "native") -> EventReader:
    """Start a run through the chat server and read its first text."""
    body = msgspec.json.encode({"message": message})
    headers = {"content-type": "application/json"}
    stream = open_streams.enter_context(
        open_stream(server.port, "POST", f"/chat?dialect={dialect}", headers, body=body)
    )
    read_first_text(stream)
    return stream


def attach(server: ServerProcess, open_streams: ExitStack, url: str, dialect: str) -> EventReader:
    """Read a run from its beginning, in a dialect."""
    target = f"{url.partition('?')[0]}?dialect={dialect}"
    stream = open_streams.enter_context(open_stream(server.port, "GET", target))
    read_first_text(stream)
    return stream


def read_first_text(stream: EventReader) -> None:
    """Read up to the first word."""
    while "word" not in stream.next().data:
        pass


def ending_of(stream: EventReader) -> str:
    """The last event of a stream that has ended as it should: its type, or its data where events have no name."""
    last = stream.rest()[-1]
    assert stream.comments[-1] == "end"
    assert stream.connection.whole
    return last.data if last.event == "message" else last.event


def test_a_hundred_readers_of_ten_runs_each_get_their_end_and_the_exit_code_is_zero() -> None:
    grace_seconds = 5.0
    command = tailrace_serve("agents:agent", "--grace-seconds", str(grace_seconds))
    with ServerProcess(command) as server, ExitStack() as open_streams:
        by_run: list[list[EventReader]] = []
        for number in range(RUNS):
            message = STOP_ON_REQUEST if number % 2 else "endless"
            starter = start(server, open_streams, message)
            dialects = ["tokens" if reader % 2 else "native" for reader in range(READERS_PER_RUN - 1)]
            others = [attach(server, open_streams, starter.head["location"], dialect) for dialect in dialects]
            by_run.append([starter, *others])

        began_at = server.send(signal.SIGTERM)
        server.await_drain()
        server.send(signal.SIGUSR1)
        endings = [[ending_of(stream) for stream in streams] for streams in by_run]
        code = server.exit_code()
        stopped_seconds = time.monotonic() - began_at

    for number, of_run in enumerate(endings):
        terminal = "run.completed" if number % 2 else "run.interrupted"
        assert of_run == [terminal, *([terminal, "[DONE]"] * READERS_PER_RUN)[: READERS_PER_RUN - 1]]
    assert code == 0, server.output
    assert stopped_seconds < grace_seconds + SLACK_SECONDS
    assert "Traceback" not in server.output


def test_an_interrupted_run_says_why_in_each_dialect() -> None:
    command = tailrace_serve("agents:agent", "--grace-seconds", "3")
    with ServerProcess(command) as server, ExitStack() as open_streams:
        native = start(server, open_streams, "endless")
        tokens = start(server, open_streams, "endless", "tokens")

        server.send(signal.SIGTERM)
        native_end, tokens_end = native.rest()[-1], tokens.rest()[-2:]
        code = server.exit_code()

    assert (native_end.event, '"reason":"shutdown"' in native_end.data) == ("run.interrupted", True)
    assert '"error":{"code":"shutdown"' in tokens_end[0].data
    assert code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_whose_runs_have_ended_does_not_wait_for_the_grace(number: signal.Signals) -> None:
    grace_seconds = 600.0
    command = tailrace_serve("agents:agent", "--grace-seconds", str(grace_seconds))
    with ServerProcess(command) as server, ExitStack() as open_streams:
        stream = start(server, open_streams, STOP_ON_REQUEST)

        began_at = server.send(number)
        server.await_drain()
        refused = fetch(server.port, "POST", "/chat", {"content-type": "application/json"}, b'{"message":"x"}')
        url = stream.head["location"]
        came_back = open_streams.enter_context(open_stream(server.port, "GET", url))
        server.send(signal.SIGUSR1)
        endings = [ending_of(stream), ending_of(came_back)]
        code = server.exit_code()
        stopped_seconds = time.monotonic() - began_at

    assert (refused.status, refused.error_code) == (503, "draining")
    assert int(refused.head["retry-after"]) >= 1
    assert endings == ["run.completed", "run.completed"]
    assert code == 0, server.output
    assert stopped_seconds < SLACK_SECONDS


def test_a_server_without_streams_stops_at_once() -> None:
    with ServerProcess(tailrace_serve("--grace-seconds", "600")) as server:
        ready = server.is_ready
        began_at = server.send(signal.SIGTERM)
        code = server.exit_code()
        stopped_seconds = time.monotonic() - began_at

    assert ready
    assert code == 0, server.output
    assert stopped_seconds < SLACK_SECONDS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "command",
    [tailrace_serve("agents:agent", "--grace-seconds", "600"), uvicorn_run("agents:patient_app")],
    ids=["tailrace serve", "uvicorn"],
)
def test_a_second_signal_ends_the_drain_and_the_readers_get_their_end(
    command: list[str], number: signal.Signals
) -> None:
    with ServerProcess(command) as server, ExitStack() as open_streams:
        streams = [start(server, open_streams, "endless", dialect) for dialect in ("native", "tokens")]

        server.send(number)
        server.await_drain()
        began_at = server.send(number)
        endings = [ending_of(stream) for stream in streams]
        server.exit_code()
        stopped_seconds = time.monotonic() - began_at

    assert endings == ["run.interrupted", "[DONE]"]
    assert stopped_seconds < SLACK_SECONDS


def test_a_reader_that_takes_nothing_does_not_hold_up_the_stop() -> None:
    command = tailrace_serve("agents:flood", "--grace-seconds", "1")
    with ServerProcess(command) as server, ExitStack() as open_streams:
        stuck = open_streams.enter_context(
            open_stream(
                server.port,
                "POST",
                "/chat",
                {"content-type": "application/json"},
                body=b'{"message":"x"}',
                receive_buffer_bytes=4096,
            )
        )

        began_at = server.send(signal.SIGTERM)
        code = server.exit_code()
        stopped_seconds = time.monotonic() - began_at
        stuck.rest()

    assert code == 0, server.output
    assert stopped_seconds < 1 + SLACK_SECONDS
    assert not stuck.connection.whole


# Under a server that is not ours -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_under_a_users_own_uvicorn_every_reader_gets_its_end_and_the_process_goes_in_time(
    number: signal.Signals,
) -> None:
    with ServerProcess(uvicorn_run("agents:app")) as server, ExitStack() as open_streams:
        streams = [
            open_streams.enter_context(open_stream(server.port, method, target))
            for method, target in (
                ("POST", f"/chat?message={STOP_ON_REQUEST.replace(' ', '%20')}"),
                ("POST", "/chat?message=endless"),
                ("POST", "/chat?message=endless&dialect=tokens"),
                ("GET", "/plain"),
            )
        ]
        for stream in streams:
            read_first_text(stream)

        began_at = server.send(number)
        server.await_drain()
        refused = fetch(server.port, "POST", "/chat?message=x")
        server.send(signal.SIGUSR1)
        endings = [ending_of(stream) for stream in streams]
        server.exit_code()
        stopped_seconds = time.monotonic() - began_at

    assert refused.status == 503
    assert endings == ["run.completed", "run.interrupted", "[DONE]", "run.interrupted"]
    assert stopped_seconds < DRAIN_SECONDS + SLACK_SECONDS


def test_a_users_application_under_tailrace_serve_gets_the_grace_of_the_command_line() -> None:
    command = tailrace_serve("agents:patient_app", "--grace-seconds", "3")
    with ServerProcess(command) as server, ExitStack() as open_streams:
        stream = open_streams.enter_context(open_stream(server.port, "POST", "/chat?message=endless"))
        read_first_text(stream)

        began_at = server.send(signal.SIGTERM)
        ending = ending_of(stream)
        code = server.exit_code()
        stopped_seconds = time.monotonic() - began_at

    assert ending == "run.interrupted"
    assert code == 0, server.output
    assert stopped_seconds < 3 + SLACK_SECONDS


def test_a_request_that_is_none_of_ours_does_not_hold_up_the_stop() -> None:
    command = tailrace_serve("agents:patient_app", "--grace-seconds", "1")
    with ServerProcess(command) as server, Connection(server.port) as connection:
        connection.send("GET", "/silence")
        assert server.is_ready

        began_at = server.send(signal.SIGTERM)
        code = server.exit_code()
        stopped_seconds = time.monotonic() - began_at

    assert code == 0, server.output
    assert stopped_seconds < 1 + SLACK_SECONDS


def test_a_log_read_in_a_process_is_the_log_of_the_demo() -> None:
    with ServerProcess(tailrace_serve()) as server:
        headers = {"content-type": "application/json"}
        reply = fetch(server.port, "POST", "/chat", headers, b'{"message":"What is 17% of 2,340?"}')
        again = fetch(server.port, "GET", reply.head["location"])

    assert "397.8" in "".join(event.data for event in events_of(reply.body))
    assert again.body == reply.body
