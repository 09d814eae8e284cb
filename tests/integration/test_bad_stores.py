"""What a user sees of a store that is no good: one clear line at the start, a clear refusal later, and nothing lost."""

import contextlib
import json
import re
import resource
import signal
import socketserver
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import hiredis
import pytest

from tailrace.wire.sse import ServerSentEvent
from tests.integration.support.client import BOUND_SECONDS, EventReader, Reply, fetch, open_stream
from tests.integration.support.frames import events_of
from tests.integration.support.process import ServerProcess, tailrace_serve, uvicorn_run
from tests.redis_server import RedisServer, free_port

#: In every URL that has room for one; it must be seen nowhere.
PASSWORD = "hunter2"
#: A start that fails: two seconds for a server that says nothing, five for a file that is locked, and the rest for a
#: machine that has other things to do.
START_SECONDS = 20.0
#: A request that is refused: as long as for the start, behind a write that waits as long.
REFUSAL_SECONDS = 20.0
#: What a connection attempt to a host that does not exist may take elsewhere is not ours to test.
RESOLVER_SECONDS = 40.0
WORDS = 5

#: A store turns bad, in the process that serves, from entering to leaving the block.
Trouble = Callable[[ServerProcess], AbstractContextManager[None]]

JSON = {"content-type": "application/json"}
BODY = b'{"message": "hello"}'
#: Where the modules are that are served.
AGENTS = Path(__file__).parent / "support"


class Troubled(NamedTuple):
    """A store that is good until its trouble begins."""

    url: str
    trouble: Trouble


@pytest.fixture
def start_redis(require_program: Callable[..., str], tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Start a server with lines of redis.conf, for this test alone."""
    program = require_program("redis-server", "valkey-server")
    with ExitStack() as servers:
        yield lambda *config: servers.enter_context(RedisServer(program, tmp_path / "redis", *config))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


# At the start --------------------------------------------------------------------------------------------------------


def refusal(url: str, *options: str, seconds: float = START_SECONDS) -> str:
    """What `tailrace serve` says of a store before it gives up, soon."""
    began = time.monotonic()
    said = refused(tailrace_serve("--store", url, *options))
    assert time.monotonic() - began < seconds
    return said


def refused(command: list[str]) -> str:
    """What a command says that cannot do its work: one line, with no password in it."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=RESOLVER_SECONDS, check=False, cwd=AGENTS)
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert PASSWORD not in line
    mark, _, said = line.partition(": ")
    assert mark == "tailrace"
    return said


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"postgres://user:{PASSWORD}@db.invalid", "no log store for 'postgres' (known: memory://, sqlite://, redis"),
        (f"redis:user:{PASSWORD}@host", "the URL of a log store begins with one of memory://, sqlite://, redis://"),
        (f"redis://:{PASSWORD}@host:port", "the Redis URL cannot be used; its form is redis[s]://[[user]:password@]"),
        ("sqlite://runs.db", "a SQLite store has no host: sqlite:///runs.db is a path from here"),
        ("sqlite:///runs.db?mode=ro", "the URL of a SQLite store has no options"),
        ("sqlite:///no/such/folder/runs.db", "the directory of no/such/folder/runs.db does not exist"),
        (f"sqlite:///{'long' * 100}/runs.db", "longlong"),
        # Not even the superuser may make a file there.
        ("sqlite:////dev/fd/runs.db", "/dev/fd/runs.db cannot be opened: unable to open database file"),
    ],
)
def test_a_url_that_leads_nowhere_is_told_at_the_start(url: str, said: str) -> None:
    assert refusal(url).startswith(said)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_nobody_listens_on_is_told_once_however_many_workers_there_are(workers: int) -> None:
    port = free_port()

    said = refusal(f"redis://:{PASSWORD}@127.0.0.1:{port}", "--workers", str(workers))

    assert re.match(rf"the log store is unavailable: .*connecting to 127\.0\.0\.1:{port}\.", said)


def test_a_host_that_does_not_exist_is_told_at_the_start() -> None:
    said = refusal(f"redis://:{PASSWORD}@nowhere.invalid", seconds=RESOLVER_SECONDS)

    assert re.match(
        r"the log store is unavailable: (Error .* connecting to|no answer from) nowhere\.invalid:6379", said
    )


def unfit_text(path: Path) -> None:
    path.write_text("not a database\n" * 100)


def unfit_folder(path: Path) -> None:
    path.mkdir()


def unfit_table(path: Path) -> None:
    with connected(path) as db:
        db.execute("CREATE TABLE run (id INTEGER PRIMARY KEY)")


def unfit_format(path: Path) -> None:
    with connected(path) as db:
        db.execute(f"PRAGMA application_id = {0x7461696C}")
        db.execute("PRAGMA user_version = 99")


@contextlib.contextmanager
def connected(path: Path) -> Generator[sqlite3.Connection]:
    """A look at the file from beside the store."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        yield db


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (unfit_text, "is no SQLite database: file is not a database"),
        (unfit_folder, "cannot be opened: unable to open database file"),
        (unfit_table, "is the database of another application; give tailrace a file of its own"),
        (unfit_format, "has format 99, this version of tailrace reads format 1"),
    ],
)
def test_a_file_that_is_no_store_is_told_at_the_start(prepare: Callable[[Path], None], said: str, path: Path) -> None:
    prepare(path)

    assert refusal(f"sqlite:///{path}") == f"{path} {said}"


def test_a_file_that_somebody_keeps_locked_is_waited_for_and_told_at_the_start(path: Path) -> None:
    with connected(path) as db:
        db.execute("BEGIN EXCLUSIVE")

        assert refusal(f"sqlite:///{path}", "impatient:agent") == "the log store is unavailable: database is locked"


def url_of(server: RedisServer, user: str = "") -> str:
    return f"redis://{user}:{PASSWORD}@127.0.0.1:{server.port}"


def unfit_password(server: RedisServer) -> str:
    server.ask("CONFIG", "SET", "requirepass", "another")
    return url_of(server)


def unfit_user(*rules: str) -> Callable[[RedisServer], str]:
    def prepare(server: RedisServer) -> str:
        server.ask("ACL", "SETUSER", "worker", "on", f">{PASSWORD}", "~*", "&*", "+@all", *rules)
        return url_of(server, "worker")

    return prepare


def unfit_replica(server: RedisServer) -> str:
    server.ask("REPLICAOF", "127.0.0.1", free_port())
    return server.url


def unfit_memory(server: RedisServer) -> str:
    server.ask("CONFIG", "SET", "maxmemory", 1)
    return server.url


def unfit_secret(server: RedisServer) -> str:
    server.ask("RPUSH", "tr:secret", "of another application")
    return server.url


@pytest.mark.redis
@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (unfit_password, r"Redis at 127\.0\.0\.1:\d+ refuses the user or the password"),
        (unfit_user("-evalsha", "-eval"), "Redis refuses what the store needs: .*'evalsha'"),
        (unfit_user("-publish"), "Redis refuses what the store needs: .*run this command"),
        (unfit_user("resetchannels"), "the Redis user may not subscribe to the channel tr:"),
        (unfit_user("resetkeys", "~other:*"), "Redis refuses what the store needs: .*keys"),
        (unfit_replica, "this Redis is a read-only replica: name its primary"),
        (unfit_memory, "the log store is unavailable: .*maxmemory"),
        (unfit_secret, "the Redis key tr:secret, or one beside it, is another application's: use another prefix"),
    ],
)
def test_a_redis_that_is_no_store_is_told_at_the_start(
    prepare: Callable[[RedisServer], str], said: str, start_redis: Callable[..., RedisServer]
) -> None:
    assert re.match(said, refusal(prepare(start_redis())))


@contextlib.contextmanager
def strange_redis(info: bytes | None) -> Generator[str]:
    """The URL of a server that answers `INFO` with this and all else with `OK`; without it, it never answers."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            commands = hiredis.Reader()
            while received := self.request.recv(65_536):
                commands.feed(received)
                while command := commands.gets():
                    if info is not None:
                        asked = command[0].upper() == b"INFO"
                        self.request.sendall(b"$%d\r\n%s\r\n" % (len(info), info) if asked else b"+OK\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"redis://:{PASSWORD}@127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("info", "said"),
    [
        (b"redis_version:6.0.16\r\n", "Redis 6.0 is too old: 6.2 or newer is needed"),
        (None, "the log store is unavailable: no answer from 127.0.0.1:"),
    ],
    ids=["too old", "silent"],
)
def test_a_server_that_is_no_redis_of_today_is_told_at_the_start(info: bytes | None, said: str) -> None:
    with strange_redis(info) as url:
        assert refusal(url).startswith(said)


def test_several_workers_on_memory_are_refused_whether_an_agent_or_an_application_is_served() -> None:
    said = "memory:// cannot be shared: more than one worker needs a store that is"

    assert refused(tailrace_serve("agents:agent", "--workers", "2")) == said
    assert refused(tailrace_serve("agents:app", "--workers", "2")) == said


def test_several_workers_serve_an_application_whose_store_they_share(path: Path) -> None:
    with ServerProcess([*impatient_app(f"sqlite:///{path}"), "--workers", "2"]) as server:
        wait_for(lambda: server.output.count("Application startup complete") == 2)

        assert "one of several" not in server.output


@pytest.mark.parametrize("workers", [1, 2])
def test_an_application_that_cannot_open_its_store_ends_the_server_with_an_error(path: Path, workers: int) -> None:
    url = f"sqlite:///{path.parent / 'nowhere' / 'runs.db'}"
    command = [*impatient_app(url), "--workers", str(workers)]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False, cwd=AGENTS)

    assert ended.returncode == 3
    assert "nowhere/runs.db does not exist" in ended.stderr


def test_workers_that_share_no_store_warn_of_it() -> None:
    with ServerProcess([*uvicorn_run("agents:app"), "--workers", "2"]) as several:
        wait_for(lambda: several.output.count("this is one of several workers") == 2)
    with ServerProcess(uvicorn_run("agents:app")) as alone:
        pass

    assert "workers" not in alone.output


def wait_for(condition: Callable[[], bool]) -> None:
    """Look often: nobody announces what another process has done."""
    deadline = time.monotonic() + BOUND_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.01)


# While it runs -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def replica(server: RedisServer) -> Generator[None]:
    server.ask("REPLICAOF", "127.0.0.1", free_port())
    yield
    server.ask("REPLICAOF", "NO", "ONE")


@contextlib.contextmanager
def full_memory(server: RedisServer) -> Generator[None]:
    server.ask("CONFIG", "SET", "maxmemory", 1)
    yield
    server.ask("CONFIG", "SET", "maxmemory", 0)


@contextlib.contextmanager
def lost_permission(server: RedisServer) -> Generator[None]:
    server.ask("ACL", "SETUSER", "worker", "-evalsha", "-eval")
    yield
    server.ask("ACL", "SETUSER", "worker", "+evalsha", "+eval")


@contextlib.contextmanager
def new_password(server: RedisServer) -> Generator[None]:
    """And connections that are lost, as after a restart with it."""
    server.ask("ACL", "SETUSER", "worker", f"<{PASSWORD}", ">another")
    for kind in ("normal", "pubsub"):
        server.cut(kind)
    yield
    server.ask("ACL", "SETUSER", "worker", f">{PASSWORD}")


def frozen(server: RedisServer) -> AbstractContextManager[None]:
    return server.frozen()


@contextlib.contextmanager
def full_disk(server: ServerProcess, _: Path) -> Generator[None]:
    """Nothing that the server writes gets a place in a file."""
    before = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, before[1]))
    yield
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def locked(_: ServerProcess, path: Path) -> Generator[None]:
    with connected(path) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield
        db.execute("COMMIT")


redis_troubles = [pytest.param(each, marks=pytest.mark.redis) for each in (replica, lost_permission, new_password)]
full_memory_trouble = pytest.param(full_memory, marks=pytest.mark.redis)
frozen_trouble = pytest.param(frozen, marks=pytest.mark.redis)
linux = pytest.mark.skipif(sys.platform != "linux", reason="only there another process's limits can be set")
sqlite_troubles = [pytest.param(full_disk, marks=linux), locked]


@pytest.fixture
def troubled(request: pytest.FixtureRequest, path: Path) -> Troubled:
    """A store that is good until its trouble begins."""
    if request.param in {full_disk, locked}:

        def trouble(server: ServerProcess) -> AbstractContextManager[None]:
            begin: Callable[[ServerProcess, Path], AbstractContextManager[None]] = request.param
            return begin(server, path)

        return Troubled(f"sqlite:///{path}", trouble)
    redis: RedisServer = request.getfixturevalue("start_redis")()
    redis.ask("ACL", "SETUSER", "worker", "on", f">{PASSWORD}", "~*", "&*", "+@all")

    def trouble_of_redis(_: ServerProcess) -> AbstractContextManager[None]:
        begin: Callable[[RedisServer], AbstractContextManager[None]] = request.param
        return begin(redis)

    return Troubled(url_of(redis, "worker"), trouble_of_redis)


def impatient_app(url: str) -> list[str]:
    """The command that serves the application that does not wait for its store for long."""
    return ["env", f"IMPATIENT_STORE={url}", *tailrace_serve("impatient:app")]


def ask(server: ServerProcess) -> Reply:
    return fetch(server.port, "POST", "/chat", JSON, BODY)


@contextlib.contextmanager
def talking(server: ServerProcess) -> Generator[EventReader]:
    """A run that was started and has said some words, and its first reader."""
    with open_stream(server.port, "POST", "/chat", JSON, body=BODY) as stream:
        for _ in range(WORDS):
            stream.next_of("text.delta")
        yield stream


def events_at(server: ServerProcess, run: EventReader) -> list[ServerSentEvent]:
    """The run's log to its end, as somebody gets it who comes now."""
    with open_stream(server.port, "GET", f"{run.head['location']}?merge=0") as stream:
        return stream.rest()


def text_of(events: Sequence[ServerSentEvent]) -> str:
    return "".join(json.loads(event.data)["delta"] for event in events if event.event == "text.delta")


def assert_refused(reply: Reply) -> None:
    """The client is told to come again, and nothing of where the store is and what it said."""
    assert (reply.status, reply.error_code) == (503, "store_unavailable")
    assert reply.head["retry-after"] == "2"
    assert reply.json()["error"] == {
        "code": "store_unavailable",
        "message": "The log store is unavailable.",
        "status": 503,
    }


def assert_quiet(server: ServerProcess) -> None:
    """The log of the server names no secret, and tells in a line what needs no traceback."""
    assert PASSWORD not in server.output
    assert "Traceback" not in server.output


@pytest.mark.parametrize(
    "troubled", [*redis_troubles, full_memory_trouble, frozen_trouble, *sqlite_troubles], indirect=True
)
def test_a_store_that_is_bad_for_a_while_refuses_what_is_new_and_loses_nothing(troubled: Troubled) -> None:
    command = tailrace_serve("impatient:agent", "--store", troubled.url)
    with ServerProcess(command) as server, talking(server) as run:
        began = time.monotonic()
        with troubled.trouble(server):
            refused = ask(server)
            refused_seconds = time.monotonic() - began
            assert fetch(server.port, "GET", "/healthz").status == 200
        with talking(server):
            server.send(signal.SIGUSR1)
            *_, last = run.rest()
        kept = events_at(server, run)

        assert_refused(refused)
        assert refused_seconds < REFUSAL_SECONDS
        assert last.event == "run.completed"
        assert [int(event.id) for event in kept] == list(range(1, int(last.id) + 1))
        assert text_of(kept) == text_of(events_of(run.raw))
        assert_quiet(server)


@pytest.mark.parametrize("troubled", [redis_troubles[0], full_memory_trouble, *sqlite_troubles], indirect=True)
def test_a_store_that_stays_bad_fails_its_runs_and_keeps_what_was_shown(troubled: Troubled) -> None:
    with ServerProcess(impatient_app(troubled.url)) as server, talking(server) as run:
        began = time.monotonic()
        with troubled.trouble(server):
            *_, last = run.rest()
            failed_seconds = time.monotonic() - began
            refused = ask(server)
        kept = events_at(server, run)
        with talking(server):
            pass

        failure = json.loads(last.data)
        assert (failure["type"], failure["code"], failure["retryable"]) == ("run.failed", "store_unavailable", True)
        assert failed_seconds < REFUSAL_SECONDS
        assert_refused(refused)
        assert [int(event.id) for event in kept] == list(range(1, len(kept) + 1))
        assert json.loads(kept[-1].data)["reason"] == "worker_lost"
        assert text_of(kept).startswith(text_of(events_of(run.raw)))
        assert_quiet(server)


@pytest.mark.redis
def test_a_run_whose_key_another_application_takes_fails_alone(start_redis: Callable[..., RedisServer]) -> None:
    redis = start_redis()
    with ServerProcess(impatient_app(redis.url)) as server, talking(server) as run, talking(server) as other:
        run_id = run.head["location"].split("/")[2]
        redis.ask("DEL", f"tr:{{{run_id}}}:s")
        redis.ask("SET", f"tr:{{{run_id}}}:s", "of another application")
        *_, last = run.rest()
        with talking(server):
            server.send(signal.SIGUSR1)
            *_, last_of_other = other.rest()

        assert json.loads(last.data)["code"] == "store_unavailable"
        assert last_of_other.event == "run.completed"


@linux
def test_what_was_acknowledged_before_the_disk_was_full_is_there_after_a_crash(path: Path) -> None:
    command = tailrace_serve("impatient:agent", "--store", f"sqlite:///{path}")
    with ServerProcess(command) as server, talking(server) as run, full_disk(server, path):
        assert_refused(ask(server))
        shown = run.last_event_id
    with ServerProcess(command) as server:
        # Not its events, which would come to an end only when the producer has been silent for the lease.
        found = fetch(server.port, "GET", run.head["location"].removesuffix("/events")).json()

    # The disk has room again before the server ends, so what waited for it may be there as well.
    assert isinstance(found["seq"], int)
    assert found["seq"] >= int(shown)
