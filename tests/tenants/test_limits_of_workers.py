"""Limits that two workers keep together: who is refused, when to come back, and what is never refused."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.support.client import Reply, fetch
from tests.redis_server import wait_until
from tests.tenants.people import User
from tests.tenants.site import Site, Worker

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

USER_RUNS, TENANT_RUNS, BUDGET = 3, 4, 400
ATTEMPTS = 12


@pytest.fixture(scope="module")
def strict(site: Site) -> Iterator[list[Worker]]:
    """Two workers with small limits."""
    limits = {"user_live_runs": USER_RUNS, "tenant_live_runs": TENANT_RUNS, "tenant_monthly_tokens": BUDGET}
    with site.workers(2, **limits) as started:
        yield started


def say(worker: Worker, user: User, text: str, key: str = "", conversation: str = "limits") -> Reply:
    """An answer, read to its end."""
    headers = {**user.headers, "content-type": "application/json", **({"idempotency-key": key} if key else {})}
    body = json.dumps({"message": text, "conversation_id": conversation}).encode()
    return fetch(worker.port, "POST", "/chat", headers, body)


def is_refused(reply: Reply, code: str) -> bool:
    """Whether a start was refused, and told when to come back."""
    return (reply.status, reply.error_code) == (429, code) and int(reply.head["retry-after"]) >= 1


def test_who_has_enough_under_way_is_refused_at_every_worker_and_may_read_and_repeat(
    strict: list[Worker], site: Site, ann: User, bob: User, rival: User, record_property: Callable[[str, object], None]
) -> None:
    gate = f"limits-{ann.tenant}"
    held = f"Hi gate:{gate} there"
    with ThreadPoolExecutor(ATTEMPTS + 3) as threads:
        attempts = [
            threads.submit(say, strict[number % 2], ann, held, f"attempt-{number}", f"c-{number}")
            for number in range(ATTEMPTS)
        ]
        site.gates.await_arrivals(gate, USER_RUNS)
        wait_until(lambda: sum(attempt.done() for attempt in attempts) == ATTEMPTS - USER_RUNS)
        refused = [attempt.result() for attempt in attempts if attempt.done()]
        live = [number for number, attempt in enumerate(attempts) if not attempt.done()]

        # A repeat is no start, wherever it is made.
        repeats = [
            threads.submit(say, strict[1 - number % 2], ann, held, f"attempt-{number}", f"c-{number}")
            for number in live
        ]
        for worker in strict:
            listed = fetch(worker.port, "GET", "/runs", ann.headers)
            again = say(worker, ann, held)
            assert (listed.status, listed.body.count(b'"run_id"')) == (200, USER_RUNS)
            assert is_refused(again, "too_many_runs"), again
        neighbour = threads.submit(say, strict[0], bob, held, "his own")
        site.gates.await_arrivals(gate, TENANT_RUNS)
        crowded = say(strict[1], bob, held, "one too many")
        elsewhere = say(strict[0], rival, "Hi")
        site.gates.open(gate)
        answers = [attempts[number].result() for number in live]
        repeated = [repeat.result() for repeat in repeats]

    assert all(is_refused(reply, "too_many_runs") for reply in (*refused, crowded)), refused
    assert [reply.status for reply in (*answers, neighbour.result(), elsewhere)] == [200] * 5
    assert [reply.body for reply in repeated] == [reply.body for reply in answers]
    # Every place comes back, at whichever worker it was taken.
    wait_until(lambda: say(strict[0], ann, "Hi").status == 200)
    with ThreadPoolExecutor(USER_RUNS) as threads:
        after = [again.result() for again in [threads.submit(say, worker, ann, "Hi") for worker in strict]]
    assert [reply.status for reply in after] == [200] * 2
    record_property("attempts", ATTEMPTS)
    record_property("admitted", len(answers))


def test_a_tenant_whose_tokens_are_used_up_may_only_read(
    strict: list[Worker], ann: User, bob: User, rival: User
) -> None:
    first = say(strict[0], ann, "word " * BUDGET, "the key of the first")

    # A count is a few seconds old at most, and each worker has its own.
    wait_until(lambda: say(strict[1], bob, "Hi").status == 429)
    refused = say(strict[1], bob, "Hi")

    assert first.status == 200
    assert is_refused(refused, "budget_exceeded"), refused
    assert say(strict[1], ann, "word " * BUDGET, "the key of the first").head["location"] == first.head["location"]
    assert fetch(strict[1].port, "GET", first.head["location"], ann.headers).status == 200
    assert fetch(strict[1].port, "GET", "/conversations/limits", ann.headers).status == 200
    assert say(strict[1], rival, "Hi").status == 200
