"""Limits at work: what a client sees, exact counts where processes share a Redis, and places that always come back."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from tailrace import Tailrace
from tailrace.chat.identity.contract import LOCAL, Identity
from tailrace.chat.limits.admission import Admission, Admissions, Quotas, RateLimitedError, TooManyRunsError
from tailrace.chat.limits.redis import RedisPlaces
from tailrace.chat.settings import load_settings
from tests.integration.support.apps import chat_app
from tests.integration.support.client import BOUND_SECONDS, fetch, open_stream
from tests.integration.support.process import ServerProcess, tailrace_serve
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate
from tests.redis_server import RedisNodes, RedisServer, wait_until

USER = Identity(tenant="acme", subject="ann")
_ADMITTING = Path(__file__).parent / "support" / "admitting.py"


class Admitting:
    """A process of its own that starts runs; see `support/admitting.py`."""

    def __init__(self, url: str, quotas: Quotas, *, lease_seconds: float = 30) -> None:
        """Start it."""
        arguments = [url, str(lease_seconds), msgspec.json.encode(quotas).decode()]
        self.process = subprocess.Popen(
            [sys.executable, str(_ADMITTING), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def answer(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def tell(self, command: str) -> int:
        self.ask(command)
        return self.answer()

    def end(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self.process.kill()
        self.process.wait(BOUND_SECONDS)


@pytest.fixture
def redis(require_program: Callable[..., str], tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(require_program("redis-server", "valkey-server"), tmp_path / "redis") as server:
        yield server


@pytest.fixture
def start() -> Iterator[Callable[..., Admitting]]:
    """Start a process that starts runs; arguments as for `Admitting`."""
    with ExitStack() as stack:

        def start(url: str, quotas: Quotas, *, lease_seconds: float = 30) -> Admitting:
            admitting = Admitting(url, quotas, lease_seconds=lease_seconds)
            stack.callback(admitting.end)
            return admitting

        yield start


def both_ask(first: Admitting, second: Admitting, command: str) -> int:
    """What two processes get that ask at the same time."""
    first.ask(command)
    second.ask(command)
    return first.answer() + second.answer()


# One process ---------------------------------------------------------------------------------------------------------


class Counted:
    """A source that has to be admitted, says a word, and waits or fails."""

    def __init__(self, limits: Admissions, gate: Gate | None = None, *, fails: bool = False) -> None:
        self._limits = limits
        self._gate = gate
        self._fails = fails

    async def __call__(self) -> AsyncGenerator[str]:
        return self._words(await self._limits.admit(LOCAL))

    async def _words(self, admission: Admission) -> AsyncGenerator[str]:
        try:
            yield "word"
            if self._gate is not None:
                await self._gate.passed()
            if self._fails:
                raise RuntimeError("half-way")
        finally:
            await admission.release()


def key(number: int) -> dict[str, str]:
    return {"idempotency-key": f"a key that nobody can guess {number}"}


def test_a_client_is_refused_with_a_time_to_come_back_and_its_repeats_never_are(
    serve: Callable[..., AppServer],
) -> None:
    server = serve(chat_app(Tailrace(), Counted(Admissions(Quotas(user_runs_per_minute=2)))))

    replies = [fetch(server.port, "POST", "/chat", key(number)) for number in (1, 2, 3, 1, 2, 3)]

    assert [reply.status for reply in replies] == [200, 200, 429, 200, 200, 429]
    assert {reply.error_code for reply in replies if reply.status == 429} == {"rate_limited"}
    assert 50 <= int(replies[2].head["retry-after"]) <= 60
    assert replies[0].body == replies[3].body
    assert fetch(server.port, "GET", replies[0].head["location"]).status == 200


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_under_way_keeps_others_out_until_it_has_ended_in_whatever_way(
    serve: Callable[..., AppServer], fails: bool
) -> None:
    gate = Gate()
    server = serve(chat_app(Tailrace(), Counted(Admissions(Quotas(user_live_runs=1)), gate, fails=fails)))
    with open_stream(server.port, "POST", "/chat", key(1)) as stream:
        stream.next_of("text.delta")

        refused = fetch(server.port, "POST", "/chat", key(2))
        with open_stream(server.port, "POST", "/chat", key(1)) as repeated:
            repeated.next_of("text.delta")
        gate.open()
        *_, last = stream.rest()

    admitted = fetch(server.port, "POST", "/chat", key(2))

    assert (refused.status, refused.error_code) == (429, "too_many_runs")
    assert last.event == ("run.failed" if fails else "run.completed")
    assert admitted.status == 200


# Several processes ---------------------------------------------------------------------------------------------------


@pytest.mark.redis
@pytest.mark.parametrize(
    "quotas", [Quotas(user_runs_per_minute=30), Quotas(tenant_live_runs=30, user_runs_per_minute=1_000)]
)
def test_processes_that_start_at_the_same_time_get_what_is_allowed_to_the_last_one(
    redis: RedisServer, start: Callable[..., Admitting], quotas: Quotas
) -> None:
    first, second = start(redis.url, quotas), start(redis.url, quotas)

    assert both_ask(first, second, "admit 10") == 20
    assert both_ask(first, second, "admit 100") == 10
    assert both_ask(first, second, "admit 100") == 0


@pytest.mark.redis
def test_what_one_process_gives_back_another_gets(redis: RedisServer, start: Callable[..., Admitting]) -> None:
    quotas = Quotas(user_live_runs=5)
    first, second = start(redis.url, quotas), start(redis.url, quotas)
    assert first.tell("admit 9") == 5
    assert second.tell("admit 9") == 0

    first.tell("release 2")

    wait_until(lambda: redis.ask("ZCARD", redis.ask("KEYS", "tr:limits:*")[0]) == 3)
    assert second.tell("admit 9") == 2


@pytest.mark.redis
def test_the_places_of_a_process_that_is_killed_come_back(redis: RedisServer, start: Callable[..., Admitting]) -> None:
    quotas = Quotas(user_live_runs=5)
    first, second = (start(redis.url, quotas, lease_seconds=1) for _ in range(2))
    assert first.tell("admit 9") == 5
    assert second.tell("admit 9") == 0

    first.process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + BOUND_SECONDS
    got = 0
    while got < 5:
        assert time.monotonic() < deadline
        got += second.tell("admit 9")

    assert got == 5


@pytest.mark.redis
async def test_places_are_kept_while_their_process_lives_and_nothing_is_left_behind(redis: RedisServer) -> None:
    limits = Admissions(Quotas(user_live_runs=1), places=RedisPlaces(redis.url, timeout_seconds=5, lease_seconds=0.3))
    admission = await limits.admit(USER, "first")
    (key,) = await asyncio.to_thread(redis.ask, "KEYS", "tr:limits:*")
    free_at = float(await asyncio.to_thread(redis.ask, "ZSCORE", key, "first"))

    async with asyncio.timeout(BOUND_SECONDS):
        # Three leases later.
        while float(await asyncio.to_thread(redis.ask, "ZSCORE", key, "first") or 0) < free_at + 900:
            with pytest.raises(TooManyRunsError):
                await limits.admit(USER, "second")
    await admission.release()
    second = await limits.admit(USER, "second")
    await second.release()
    await limits.aclose()

    assert await asyncio.to_thread(redis.ask, "KEYS", "tr:limits:*") == []


@pytest.mark.redis
async def test_a_user_is_told_when_the_oldest_start_is_a_minute_ago(redis: RedisServer) -> None:
    limits = Admissions(Quotas(user_runs_per_minute=1), places=RedisPlaces(redis.url, timeout_seconds=5))
    await limits.admit(USER, "first")

    await limits.admit(USER, "first")
    with pytest.raises(RateLimitedError) as refused:
        await limits.admit(USER, "second")
    await limits.aclose()

    assert refused.value.retry_after_seconds is not None
    assert 60 - BOUND_SECONDS < refused.value.retry_after_seconds <= 60


@pytest.mark.redis
async def test_a_redis_that_says_nothing_costs_a_second_and_nobody_a_run(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Admissions.of(load_settings(store=redis.url, user_live_runs=1))
    await limits.admit(USER, "first")

    with redis.frozen():
        began = time.monotonic()
        blind = await limits.admit(USER, "second")
        took_seconds = time.monotonic() - began
        await blind.release()
    await limits.aclose()

    assert 0.9 < took_seconds < 3
    assert sum("runs start without being counted" in record.message for record in caplog.records) == 1


@pytest.mark.redis
async def test_in_a_cluster_each_tenant_is_counted_exactly(require_program: Callable[..., str], tmp_path: Path) -> None:
    with RedisNodes(require_program("redis-server", "valkey-server"), tmp_path / "nodes") as cluster:
        limits = Admissions(
            Quotas(user_runs_per_minute=7, tenant_runs_per_minute=8, user_live_runs=9, tenant_live_runs=10),
            places=RedisPlaces(cluster.url, timeout_seconds=5),
        )
        tenants = [f"{{tenant {number}" for number in range(12)]

        async def admitted(tenant: str, run_id: str) -> int:
            try:
                admission = await limits.admit(Identity(tenant=tenant, subject="ann"), run_id)
            except RateLimitedError:
                return 0
            await admission.release()
            return 1

        counts = [
            sum(await asyncio.gather(*(admitted(tenant, str(number)) for number in range(20)))) for tenant in tenants
        ]
        await limits.aclose()

        assert counts == [7] * len(tenants)
        assert all(node.ask("DBSIZE") for node in cluster.nodes)


@pytest.mark.redis
def test_the_workers_of_a_chat_server_allow_together_what_is_set(redis: RedisServer) -> None:
    command = tailrace_serve("--store", redis.url, "--workers", "2", "--user-runs-per-minute", "3")
    with ServerProcess(command) as server:
        server.await_workers(2)
        headers = {"content-type": "application/json"}

        replies = [fetch(server.port, "POST", "/chat", headers, b'{"message": "hello"}') for _ in range(8)]

    assert sorted(reply.status for reply in replies) == [200] * 3 + [429] * 5
    refused = replies[-1]
    assert refused.error_code == "rate_limited"
    assert b"Too many runs began within a minute: 3 may." in refused.body
    assert 0 < int(refused.head["retry-after"]) <= 60
