"""A Redis that cannot be used is known at start, in words that say what to change and never hold the password."""

import asyncio
import contextlib
import logging
import subprocess
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import cast

import hiredis
import pytest

from tailrace.errors import StoreError, StoreSetupError, StoreUnavailableError
from tailrace.stores.contract import OPEN, Ack, Batch, Lease, Write
from tailrace.stores.redis import RedisStore
from tests.redis_server import RedisServer, free_port

pytestmark = pytest.mark.redis

PASSWORD = "correct-horse%2Fbattery"
#: As the server knows it; a URL has to escape the slash.
PLAIN_PASSWORD = "correct-horse/battery"
BOUND_SECONDS = 10.0

#: Everything that a store asks for, and nothing else.
NEEDED_COMMANDS = (
    "+evalsha +eval +get +set +hmget +hget +hgetall +hset +hsetnx +hdel +hincrby +xadd +xrange +del +type +time"
    " +pttl +pexpire +zadd +zrem +zrange +zrevrange +publish +subscribe +unsubscribe +ping +info"
)


async def opened(url: str) -> None:
    async with contextlib.aclosing(RedisStore(url, timeout_seconds=1)) as store:
        await store.open()


async def refusal(url: str) -> str:
    """What is said by a store that cannot be used."""
    with pytest.raises(StoreSetupError) as caught:
        await opened(url)
    return str(caught.value)


def url_of(server: RedisServer, user: str = "", password: str = "") -> str:
    return f"redis://{user}:{password}@127.0.0.1:{server.port}"


# Passwords and permissions -------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(start_redis: Callable[..., RedisServer]) -> RedisServer:
    server = start_redis()
    rules = f"on >{PLAIN_PASSWORD} ~tr:* resetchannels &tr:* {NEEDED_COMMANDS}"
    server.ask("ACL", "SETUSER", "worker", *rules.split())
    return server


async def test_a_user_with_the_needed_permissions_can_do_everything(guarded: RedisServer) -> None:
    async with contextlib.aclosing(RedisStore(url_of(guarded, "worker", PASSWORD))) as store:
        await store.open()
        hints: asyncio.Queue[Batch | None] = asyncio.Queue()
        store.subscribe("run", hints.put_nowait)
        lease = await store.create("run", owner="ada", thread="t", fingerprint=b"f")
        assert lease is not None

        assert await store.commit([Write(lease, 1, [b"a"])]) == [Ack(1)]
        assert await store.active() == ["run"]
        assert await store.cancel("run", "user")
        assert await store.commit([Write(lease, 2, [b"end"], 1)]) == [Ack(2, "user")]
        assert await store.compact("run", b"block")
        assert (await store.read("run", 0, limit=9)).block == b"block"
        await store.signal("topic", "text")
        await store.purge("run")
        async with asyncio.timeout(BOUND_SECONDS):
            while (batch := await hints.get()) != Batch(2, [b"end"], 1):
                assert batch is None or batch == Batch(1, [b"a"], OPEN)


@pytest.mark.parametrize(
    ("user", "password"), [("worker", "wrong"), ("stranger", PASSWORD), ("", "wrong-for-the-default-user")]
)
async def test_a_wrong_password_is_refused(
    user: str, password: str, guarded: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    guarded.ask("CONFIG", "SET", "requirepass", "another")

    with caplog.at_level(logging.DEBUG):
        said = await refusal(url_of(guarded, user, password))

    assert said == f"Redis at 127.0.0.1:{guarded.port} refuses the user or the password"
    assert password not in caplog.text


async def test_a_missing_password_is_told_as_such(guarded: RedisServer) -> None:
    guarded.ask("CONFIG", "SET", "requirepass", "another")

    assert "refuses the user or the password" in await refusal(guarded.url)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("-evalsha", "'evalsha'"),
        ("-xadd", "run this command"),
        ("-publish", "run this command"),
        ("-zadd", "'zadd'"),
        ("-subscribe", "may not subscribe to the channel tr:"),
        ("resetchannels", "may not subscribe to the channel tr:"),
        ("resetkeys ~other:*", "keys"),
        ("resetkeys %R~tr:*", "keys"),
    ],
)
async def test_a_missing_permission_is_found_at_start(missing: str, said: str, guarded: RedisServer) -> None:
    guarded.ask("ACL", "SETUSER", "worker", *missing.split())

    assert said in await refusal(url_of(guarded, "worker", PASSWORD))


@pytest.mark.parametrize("forbidden", ["-info", "-config"])
async def test_what_a_managed_redis_forbids_is_not_needed(forbidden: str, guarded: RedisServer) -> None:
    guarded.ask("ACL", "SETUSER", "worker", forbidden)

    await opened(url_of(guarded, "worker", PASSWORD))


async def test_a_permission_that_is_lost_later_makes_the_store_unavailable(guarded: RedisServer) -> None:
    async with contextlib.aclosing(RedisStore(url_of(guarded, "worker", PASSWORD))) as store:
        await store.open()
        lease = await store.create("run", owner=None, thread=None, fingerprint=b"")
        assert lease is not None

        guarded.ask("ACL", "SETUSER", "worker", "-evalsha")
        without_command = await store.commit([Write(lease, 1, [b"a"])])
        guarded.ask("ACL", "SETUSER", "worker", "off")
        guarded.cut("normal")
        without_user = await store.commit([Write(lease, 1, [b"a"])])
        guarded.ask("ACL", "SETUSER", "worker", "on", "+evalsha")

        assert [type(answer) for answer in (*without_command, *without_user)] == [StoreUnavailableError] * 2
        assert await store.commit([Write(lease, 1, [b"a"])]) == [Ack(1)]


async def test_the_password_is_in_no_text(guarded: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    url = url_of(guarded, "worker", PASSWORD)
    texts: list[str] = []

    with caplog.at_level(logging.DEBUG):
        async with contextlib.aclosing(RedisStore(url, timeout_seconds=0.3)) as store:
            await store.open()
            store.subscribe("run", lambda _: None)
            await store.secret()
            guarded.kill()
            for call in (store.info("run"), store.secret(), store.open()):
                with pytest.raises(StoreError) as caught:
                    await call
                texts += [str(caught.value), repr(caught.value), repr(caught.value.__cause__)]
            texts += [repr(store), repr(vars(store))]
    texts.append(caplog.text)

    assert any("unavailable" in text for text in texts)
    for text in texts:
        assert PASSWORD not in text
        assert PLAIN_PASSWORD not in text


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@host:port",
        "redis://:hunter2/x@host",
        "redis://:hunter2@host:6379?unknown=1",
        "redis://:hunter2@host:6379?db=x",
        "http://:hunter2@host",
        "hunter2",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_at_once(url: str) -> None:
    with pytest.raises(StoreSetupError, match="the Redis URL cannot be used; its form is redis") as caught:
        RedisStore(url)

    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("prefix", ["", "a{b", "a}b"])
def test_a_prefix_that_would_move_keys_together_is_refused(prefix: str) -> None:
    with pytest.raises(StoreSetupError, match="prefix"):
        RedisStore("redis://localhost", prefix=prefix)


# The server ----------------------------------------------------------------------------------------------------------


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(StoreUnavailableError, match=r"connecting to 127\.0\.0\.1"):
        await opened(f"redis://127.0.0.1:{free_port()}")


async def test_a_database_that_is_not_there_is_refused(redis: RedisServer) -> None:
    assert "out of range" in await refusal(f"redis://127.0.0.1:{redis.port}/999")


async def test_a_replica_is_refused(start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis(f"replicaof 127.0.0.1 {free_port()}")

    assert await refusal(server.url) == "this Redis is a read-only replica: name its primary"


async def test_a_memory_policy_that_takes_runs_away_is_warned_of(
    start_redis: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = start_redis("maxmemory 100mb")
    warned: dict[str, bool] = {}

    for policy in ("noeviction", "volatile-ttl", "allkeys-lru", "volatile-lru"):
        server.ask("CONFIG", "SET", "maxmemory-policy", policy)
        caplog.clear()
        await opened(server.url)
        warned[policy] = f"maxmemory-policy is {policy}" in caplog.text
    server.ask("CONFIG", "SET", "maxmemory", 0)
    caplog.clear()
    await opened(server.url)

    assert warned == {"noeviction": False, "volatile-ttl": False, "allkeys-lru": True, "volatile-lru": True}
    assert caplog.text == ""


async def test_tls_is_spoken_and_a_certificate_of_nobody_is_refused(
    start_redis: Callable[..., RedisServer], require_program: Callable[..., str], tmp_path: Path
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    openssl = [require_program("openssl"), "req", *options.split(), *names]
    await asyncio.to_thread(subprocess.run, openssl, check=True, capture_output=True, timeout=BOUND_SECONDS)
    port = free_port()
    start_redis(
        f"tls-port {port}",
        f"tls-cert-file {certificate}",
        f"tls-key-file {key}",
        f"tls-ca-cert-file {certificate}",
        "tls-auth-clients no",
    )

    await opened(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}")

    assert f"no TLS connection to Redis at 127.0.0.1:{port}" in await refusal(f"rediss://127.0.0.1:{port}")


# What only a strange server says -------------------------------------------------------------------------------------


class Stranger(asyncio.Protocol):
    """One connection to a server that answers everything from a table."""

    def __init__(self, answer: Callable[[bytes], bytes], transports: set[asyncio.Transport]) -> None:
        self._answer = answer
        self._transports = transports
        self._parser = hiredis.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transports.add(self._transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        while command := self._parser.gets():
            self._transport.write(self._answer(command[0].upper()))


@contextlib.asynccontextmanager
async def stranger(answer: Callable[[bytes], bytes]) -> AsyncGenerator[str]:
    """The URL of a server that gives to each command whatever `answer` makes of its name."""
    transports: set[asyncio.Transport] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Stranger(answer, transports), "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for transport in transports:
            transport.abort()


def strange_redis(replies: Mapping[bytes, bytes]) -> contextlib.AbstractAsyncContextManager[str]:
    """One with fixed replies, and `+OK` for all other commands."""
    return stranger(lambda name: replies.get(name, b"+OK") + b"\r\n")


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%s" % (len(text), text)


@pytest.mark.parametrize(
    ("info", "said"),
    [
        (b"redis_version:6.0.16\r\nredis_mode:standalone\r\n", "Redis 6.0 is too old: 6.2 or newer is needed"),
        (b"redis_version:5.0.7\r\n", "Redis 5.0 is too old: 6.2 or newer is needed"),
        (
            b"redis_version:6.2.14\r\nredis_mode:cluster\r\n",
            "Redis 6.2 is too old: 7.0 or newer is needed in a cluster",
        ),
        (
            b"redis_version:7.2.4\r\nredis_mode:sentinel\r\n",
            "this is a Redis Sentinel: name the server that it watches",
        ),
    ],
)
async def test_a_server_of_the_wrong_kind_is_refused(info: bytes, said: str) -> None:
    async with strange_redis({b"INFO": bulk(info)}) as url:
        assert await refusal(url) == said


@pytest.mark.parametrize(
    "error",
    [
        b"LOADING Redis is loading the dataset in memory",
        b"READONLY You can't write against a read only replica.",
        b"CLUSTERDOWN The cluster is down",
        b"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        b"TRYAGAIN Multiple keys request during rehashing of slot",
        b"OOM command not allowed when used memory > 'maxmemory'.",
        b"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        b"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        b"NOREPLICAS Not enough good replicas to write.",
        b"NOAUTH Authentication required.",
        b"ERR max number of clients reached",
        b"ERR Error running script (call to f_0): @user_script:9: -OOM command not allowed when used memory",
        b"ERR Error running script (call to f_0): @user_script:9: -READONLY You can't write against a read only",
    ],
)
async def test_what_may_pass_makes_the_store_unavailable(error: bytes) -> None:
    replies = {b"INFO": bulk(b"redis_version:7.0.15\r\n"), b"EVALSHA": b"-" + error, b"HMGET": b"-" + error}
    async with strange_redis(replies) as url, contextlib.aclosing(RedisStore(url)) as store:
        answers = await store.commit([Write(Lease("run", "token"), 1, [b"a"])] * 2)

        assert [type(answer) for answer in answers] == [StoreUnavailableError] * 2
        with pytest.raises(StoreUnavailableError):
            await store.info("run")


async def test_what_does_not_pass_is_told_with_its_key() -> None:
    replies = {b"INFO": bulk(b"redis_version:7.0.15\r\n"), b"EVALSHA": b"-ERR something new"}
    async with strange_redis(replies) as url, contextlib.aclosing(RedisStore(url)) as store:
        (answer,) = await store.commit([Write(Lease("run", "token"), 1, [b"a"])])

    assert type(answer) is StoreError
    assert str(answer) == "Redis refused to work on the key tr:{run}:m: something new"


async def test_a_server_that_speaks_something_else_is_unavailable() -> None:
    async with stranger(lambda name: b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        with pytest.raises(StoreUnavailableError):
            await opened(url)


async def test_a_server_that_says_nothing_is_waited_for_no_longer_than_the_timeout() -> None:
    async with (
        stranger(lambda name: b"") as url,
        contextlib.aclosing(RedisStore(url, timeout_seconds=0.1)) as store,
        asyncio.timeout(BOUND_SECONDS),
    ):
        for call in (store.open(), store.info("run"), store.commit([]), store.secret()):
            with pytest.raises(StoreUnavailableError, match="no answer"):
                await call
