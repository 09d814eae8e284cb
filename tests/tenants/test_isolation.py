"""Nobody reads, changes, stops or even notices what is another's: every route, with every id that somebody has.

An id of another user is answered as one that nobody ever had, to the byte; so is one of another tenant's user.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import pytest

from tests.integration.support.client import Reply, fetch
from tests.tenants.belongings import Belongings, ag_ui_input, ask
from tests.tenants.people import User, bearer
from tests.tenants.site import Site, Worker

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

_PLACE = re.compile(r"\{\w+\}")
#: They tell when an answer was made, and nothing of what it is about.
_PASSING = {"date", "content-length"}
#: What needs no identity, as there is nothing of anybody in it.
OPEN = {"/healthz", "/readyz"}
#: What follows a place in a URL is not told by the document.
QUERIES = (
    "/conversations?cursor={}",
    "/conversations?query={}",
    "/runs?thread={}",
    "/runs/feed?runs={}",
    "/agui?threadId={}",
    "/agui?threadId={}&messages=ag-ui",
    "/agui?runId={}",
    "/conversations/{}?tree=1",
    "/conversations/{}/export?format=json",
    "/runs/{}/events?ticket={}",
    "/runs/{}/log?offset=-1&live=sse",
    "/runs/{}/log?live=long-poll&offset=-1",
    "/v1/responses/{}?stream=true&starting_after=1",
    "/runs/{}/nothing",
)
WAITING = ("/runs/feed?runs={}:1", "/agui?runId={}&offset=1", "/runs/{}/events?dialect=tokens&after=1")
_THREADS = 8

#: The methods of each path, and what they take.
Document: TypeAlias = dict[str, dict[str, Any]]


class Probe(NamedTuple):
    """A request with room for an id; `{}` stands for it."""

    method: str
    target: str
    body: object = None

    def begins(self) -> bool:
        """Whether it may begin a run."""
        return self.method == "POST" and self.target in {"/chat", "/agui", "/v1/responses"}

    def send(self, worker: Worker, name: str, headers: Mapping[str, str]) -> Reply:
        """Ask for what is called so."""
        target = self.target.replace("{}", name)
        if self.body is None:
            return fetch(worker.port, self.method, target, headers)
        body = json.dumps(self.body).replace("{}", name).encode()
        return fetch(worker.port, self.method, target, {**headers, "content-type": "application/json"}, body)


#: The bodies of what changes something; of what begins a run, those that would be refused if nothing were there.
BODIES: dict[tuple[str, str], list[object]] = {
    ("PATCH", "/conversations/{}"): [{"title": "mine now"}, {"head_id": "{}"}, {"title": "mine", "revision": 1}],
    ("POST", "/chat"): [
        {"conversation_id": "nowhere", "regenerate": "{}"},
        {"conversation_id": "{}", "regenerate": "{}"},
    ],
    ("POST", "/agui"): [
        ag_ui_input("{}", "{}", "", messages=[], forwardedProps={"tailrace": {"join": True}}),
    ],
    ("POST", "/v1/responses"): [{"model": "m", "input": "Hi", "previous_response_id": "{}"}],
    ("POST", "/api/chat/{}/stop"): [{"runId": "{}"}],
}
#: What begins a run whatever it is asked; see below for whose it is.
STARTS = {"/api/chat", "/v1/chat/completions"}


def probes_of(document: Document) -> Iterator[Probe]:
    """All routes of an OpenAPI document, and what else there is."""
    for path, methods in document.items():
        target = _PLACE.sub("{}", path)
        for method in (name.upper() for name in methods):
            bodies = BODIES.get((method, target), [])
            yield from (Probe(method, target, body) for body in bodies)
            if "{}" in target:
                yield Probe(method, target)
                yield Probe("OPTIONS", target)
                yield Probe("HEAD" if method == "GET" else "GET", target)
            elif method == "POST":
                assert bodies or path in STARTS, f"nobody has thought of {path}"
    yield from (Probe("GET", target) for target in QUERIES)


@pytest.fixture
def document(workers: list[Worker]) -> Document:
    told: Any = ask(workers[0], "GET", "/openapi.json").json()
    paths: Document = told["paths"]
    return paths


@pytest.fixture
def hers(ann: User, workers: list[Worker], site: Site) -> Iterator[Belongings]:
    """What a user has, one answer of it under way."""
    belongings = Belongings.of(ann, workers[0], site)
    yield belongings
    site.gates.open(belongings.gate)


def told(reply: Reply, name: str) -> tuple[int, bytes, list[tuple[str, str]]]:
    """All of an answer, but for how what it is about is called."""
    headers = [(key, value.replace(name, "{}")) for key, value in reply.head.headers if key not in _PASSING]
    return reply.status, reply.body.replace(name.encode(), b"{}"), headers


def like(name: str) -> str:
    """A name of the same form that nobody has."""
    prefix, dash, rest = name.rpartition("-" if "-" in name else "_")
    return prefix + dash + "".join(chr(ord("a") + (ord(letter) + 7 * place) % 6) for place, letter in enumerate(rest))


def state(hers: Belongings, ann: User, worker: Worker) -> list[object]:
    """What she finds when she looks."""
    conversations = [name for kind, name in hers.ids.items() if kind.split()[0] in {"conversation", "chat", "thread"}]
    running = ask(worker, "GET", f"/runs/{hers.ids['run live']}", ann.headers).json()["status"]
    files = [ask(worker, "GET", f"/conversations/{name}?tree=1", ann.headers).body for name in conversations]
    return [running, ask(worker, "GET", "/conversations", ann.headers).body, *files]


def test_every_route_answers_for_anothers_id_as_for_one_that_never_was(
    hers: Belongings,
    document: Document,
    ann: User,
    bob: User,
    rival: User,
    workers: list[Worker],
    record_property: Callable[[str, object], None],
) -> None:
    before = state(hers, ann, workers[0])
    ids = dict(a_few(hers.ids))
    # What may leave something of his own behind under these names comes last.
    probes = [(probe, kind) for probe in sorted(probes_of(document), key=Probe.begins) for kind in ids]
    # Whoever has a place in a run is made to wait for it, known or not: once is enough.
    probes = [*((Probe("GET", target), "run live") for target in WAITING), *probes]

    def answers(stranger: User, place: int) -> tuple[Reply, Reply]:
        probe, kind = probes[place]
        worker = workers[place % 2]
        known, unknown = (probe.send(worker, name, stranger.headers) for name in (ids[kind], like(ids[kind])))
        return known, unknown

    with ThreadPoolExecutor(_THREADS) as threads:
        for stranger in (rival, bob):
            pairs = threads.map(answers, itertools.repeat(stranger), range(len(probes)))
            for (probe, kind), (known, unknown) in zip(probes, pairs, strict=True):
                name = ids[kind]
                assert told(known, name) == told(unknown, like(name)), (probe, kind)
                assert known.status < 500, (probe, kind, known)
                assert not any(each.encode() in known.body for each in hers.given_away if each != name), (probe, kind)

    assert state(hers, ann, workers[0]) == before
    assert before[0] == "running"
    record_property("requests", 4 * len(probes))


def a_few(ids: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """One of each kind, and all runs."""
    seen = set[str]()
    for kind, name in ids.items():
        first = kind.partition(" ")[0]
        if first not in seen or first == "run":
            seen.add(first)
            yield kind, name


def test_without_a_token_that_holds_nothing_is_told(
    hers: Belongings, document: Document, ann: User, workers: list[Worker]
) -> None:
    before = state(hers, ann, workers[0])
    too_late = bearer(ann.token(seconds=-60))
    name = hers.ids["run live"]
    targets = [(method, _PLACE.sub(name, path)) for path, methods in document.items() for method in methods]
    targets += [("get", target.replace("{}", name)) for target in QUERIES if not target.endswith(("nothing", "{}"))]
    for method, target in targets:
        for headers, code in (({}, "unauthenticated"), (too_late, "token_expired")):
            reply = fetch(workers[0].port, method.upper(), target, headers)
            if target in OPEN:
                assert reply.status == 200
            else:
                # Whatever else is wrong with the request is for those who are known.
                assert (reply.status, code.encode() in reply.body) == (401, True), (method, target, reply)
                assert reply.head["www-authenticate"].startswith("Bearer")

    assert state(hers, ann, workers[0]) == before
