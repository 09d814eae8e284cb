"""Two who use the same names: each has its own of everything, whatever either of them does, in whatever order."""

import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.integration.support.client import Reply, fetch, open_stream
from tests.integration.support.frames import events_of
from tests.tenants.belongings import Belongings, ag_ui_input, ask, post, ui_message
from tests.tenants.people import User
from tests.tenants.site import Site, Worker

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

_machines = itertools.count()


@pytest.fixture
def hers(ann: User, workers: list[Worker], site: Site) -> Iterator[Belongings]:
    belongings = Belongings.of(ann, workers[0], site)
    yield belongings
    site.gates.open(belongings.gate)


def test_what_begins_under_anothers_names_is_ones_own(
    hers: Belongings, ann: User, rival: User, bob: User, workers: list[Worker]
) -> None:
    ids, here = hers.ids, workers[1]
    before = ask(here, "GET", f"/conversations/{ids['conversation native']}?tree=1", ann.headers).body
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/chat", {"message": f"I say {hers.secret}", "conversation_id": ids["conversation native"]}),
        ("/chat", {"message": "mine", "conversation_id": ids["conversation live"]}),
        ("/api/chat", {"id": ids["chat"], "messages": [ui_message(ids["message chat"], "mine")]}),
        ("/agui", ag_ui_input(ids["thread"], ids["client-run"], "mine")),
        ("/v1/responses", {"input": "mine", "conversation": ids["conversation openai"]}),
    ]
    for stranger in (rival, bob):
        # The first one with her key too, and with what she said under it.
        keys = itertools.chain([{"idempotency-key": hers.key}], itertools.repeat(dict[str, str]()))
        for (path, body), key in zip(bodies, keys, strict=False):
            own = post(here, path, body, {**stranger.headers, **key})
            assert hers.ids["run native"] not in str(own.head.headers)
            assert not any(name.encode() in own.body for kind, name in ids.items() if kind.startswith("run")), path
        listed: Any = ask(here, "GET", "/conversations", stranger.headers).json()
        assert len(listed["conversations"]) == len(bodies)
        for conversation in listed["conversations"]:
            document: Any = ask(here, "GET", f"/conversations/{conversation['id']}", stranger.headers).json()
            assert len(document["messages"]) == 2
            assert {each["text"] for each in document["messages"]} <= {
                "mine",
                "mine! ",
                f"I say {hers.secret}",
                f"I! say! {hers.secret}! ",
            }
    assert ask(here, "GET", f"/conversations/{ids['conversation native']}?tree=1", ann.headers).body == before
    assert ask(here, "GET", f"/runs/{ids['run live']}", ann.headers).json()["status"] == "running"


def test_a_feed_of_a_thread_has_only_ones_own_runs(ann: User, rival: User, workers: list[Worker]) -> None:
    here, there = workers
    with open_stream(here.port, "GET", "/runs/feed?thread=shared", rival.headers) as feed:
        said = {"message": "hers alone", "conversation_id": "shared"}
        hers = post(there, "/chat", said, ann.headers)
        own = post(there, "/chat", {**said, "message": "his own"}, rival.headers)
        completed = feed.next_of("run.completed")

    assert completed.id.partition(":")[0] in own.head["location"]
    assert hers.head["location"].split("/")[2].encode() not in feed.raw
    assert b"hers" not in feed.raw


def test_a_ticket_opens_one_run_and_nothing_else(hers: Belongings, ann: User, workers: list[Worker]) -> None:
    run, other = hers.ids["run live"], hers.ids["run native"]
    targets = [
        f"/runs/{other}/events?ticket={hers.ticket}",
        f"/runs/{run}?ticket={hers.ticket}",
        f"/conversations?ticket={hers.ticket}",
        f"/runs/{run}/events?ticket={hers.ticket[::-1]}",
    ]

    assert [fetch(workers[1].port, "GET", target).status for target in targets] == [401] * 4


# Any order -----------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["one", "two"])
OWNERS = st.integers(0, 1)
WORDS = st.sampled_from(["Hello", "tell me more", "50 % off_\\", "`code` — ünï", "a\nb"])


class TwoOwners(RuleBasedStateMachine):
    """What two owners do at two workers, beside what each of them must have then.

    Attributes:
        workers: Where they do it.
    """

    workers: ClassVar[list[Worker]]

    def __init__(self) -> None:
        """Nobody has said anything."""
        super().__init__()
        number = next(_machines)
        self.users = [User(f"machine-{number}-a", "ann"), User(f"machine-{number}-b", "ann")]
        self.said: list[dict[str, list[str]]] = [defaultdict(list), defaultdict(list)]
        self.runs: list[list[str]] = [[], []]
        self._turns = itertools.count()

    @property
    def worker(self) -> Worker:
        """The next one."""
        return self.workers[next(self._turns) % 2]

    @initialize()
    def say_something_first(self) -> None:
        for owner in (0, 1):
            self.say(owner, "one", f"first of {owner}")

    @rule(owner=OWNERS, name=NAMES, words=WORDS)
    def say(self, owner: int, name: str, words: str) -> None:
        body = {"message": f"{owner}: {words}", "conversation_id": name}
        reply = post(self.worker, "/chat", body, self.users[owner].headers)
        *_, last = events_of(reply.body)
        assert last.event == "run.completed", reply.body
        self.said[owner][name].append(str(body["message"]))
        self.runs[owner].append(reply.head["location"].split("/")[2])

    @rule(owner=OWNERS, name=NAMES)
    def delete(self, owner: int, name: str) -> None:
        reply = ask(self.worker, "DELETE", f"/conversations/{name}", self.users[owner].headers)
        assert reply.status == (204 if self.said[owner].pop(name, []) else 404)

    @rule(owner=OWNERS, name=NAMES, title=WORDS)
    def rename(self, owner: int, name: str, title: str) -> None:
        reply = self._patch(owner, name, {"title": title})
        assert reply.status == (200 if self.said[owner].get(name) else 404)
        assert reply.status == 404 or reply.json()["title"] == " ".join(title.split())

    @rule(owner=OWNERS, data=st.data())
    def reach_for_a_run(self, owner: int, data: st.DataObject) -> None:
        whose = data.draw(OWNERS)
        run = data.draw(st.sampled_from(self.runs[whose]))
        for target in (f"/runs/{run}", f"/runs/{run}/events", f"/runs/{run}/log", f"/v1/responses/resp_{run}"):
            assert ask(self.worker, "GET", target, self.users[owner].headers).status == (200 if whose == owner else 404)

    @rule(owner=OWNERS, name=NAMES)
    def show_anothers_message(self, owner: int, name: str) -> None:
        messages: Any = self._get(1 - owner, name).json().get("messages", [])
        for message in messages:
            assert self._patch(owner, name, {"head_id": message["id"]}).status == 404

    @rule(owner=OWNERS)
    def search(self, owner: int) -> None:
        for asked in (0, 1):
            reply: Any = ask(self.worker, "GET", f"/conversations?query={asked}:", self.users[owner].headers).json()
            found = {each["id"] for each in reply["conversations"]}
            own = {
                name
                for name, texts in self.said[owner].items()
                if any(text.startswith("0123"[asked] + ":") for text in texts)
            }
            assert found >= own if asked == owner else not found

    @invariant()
    def each_has_what_it_said(self) -> None:
        for owner in (0, 1):
            for name in ("one", "two"):
                reply = self._get(owner, name)
                said = self.said[owner].get(name, [])
                assert reply.status == (200 if said else 404)
                messages: Any = reply.json().get("messages", [])
                assert [each["text"] for each in messages if each["role"] == "user"] == said

    def _get(self, owner: int, name: str) -> Reply:
        return ask(self.worker, "GET", f"/conversations/{name}", self.users[owner].headers)

    def _patch(self, owner: int, name: str, change: object) -> Reply:
        headers = {**self.users[owner].headers, "content-type": "application/json"}
        return fetch(self.worker.port, "PATCH", f"/conversations/{name}", headers, json.dumps(change).encode())


def test_two_owners_of_the_same_names_never_meet(workers: list[Worker]) -> None:
    TwoOwners.workers = workers

    run_state_machine_as_test(
        TwoOwners,
        settings=settings(
            max_examples=8, stateful_step_count=12, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
