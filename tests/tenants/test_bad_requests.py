"""What is wrong with a request, a token, a provider or the settings has an answer of its own, which gives nothing away.

The server's log has what the answer has not, under the correlation id, and no secret either.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.support.client import Reply, fetch
from tests.integration.support.frames import events_of
from tests.tenants.people import AUDIENCE, ISSUER, SECRET, User, bearer, in_seconds, signed
from tests.tenants.prompted import PromptedProvider
from tests.tenants.site import Worker, refusal_of

KEY = "sk-the-key-to-the-provider"
ANN = User("acme", "ann")
IDENTITIES = {"TAILRACE_JWT_SECRET": SECRET, "TAILRACE_JWT_AUDIENCE": AUDIENCE, "TAILRACE_JWT_ISSUER": ISSUER}
#: What the provider says when it refuses, and what only a traceback has.
NOT_FOR_CLIENTS = (KEY, SECRET, "This provider", "Traceback", ".py", "127.0.0.1")

Ask = Callable[..., Reply]


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """The assistant, with a provider that does what the question says."""
    with PromptedProvider() as provider:
        arguments = ["--model", "openai:any", "--base-url", f"{provider.url}/v1", "--no-suggestions"]
        patience = ["--max-retries", "0", "--idle-seconds", "1"]
        with Worker((*arguments, *patience), {"OPENAI_API_KEY": KEY, **IDENTITIES}) as started:
            yield started


@pytest.fixture
def ask(worker: Worker) -> Ask:
    """Say something, with a good token unless another one is given."""

    def ask(body: object, headers: Mapping[str, str] | None = None, *, target: str = "/chat") -> Reply:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        said = {"content-type": "application/json", **ANN.headers, **(headers or {})}
        return fetch(worker.port, "POST", target, {name: value for name, value in said.items() if value}, raw)

    return ask


def assert_discreet(reply: Reply, worker: Worker, token: str = "") -> None:
    """Nothing in the answer is for others, and nothing in the log is for nobody."""
    told = reply.body + repr(reply.head.headers).encode()
    assert not [secret for secret in (*NOT_FOR_CLIENTS, token) if secret and secret.encode() in told], reply
    assert not [secret for secret in (KEY, SECRET, token) if secret and secret in worker.log]


# Tokens --------------------------------------------------------------------------------------------------------------


def token(algorithm: str = "HS256", secret: str = SECRET, **others: object) -> str:
    return signed({"sub": "ann", "tenant": "acme", **others}, algorithm=algorithm, secret=secret)


TOKENS: dict[str, tuple[Callable[[], str], int, str]] = {
    "none": (lambda: "", 401, "unauthenticated"),
    "malformed": (lambda: "not.a.token", 401, "token_invalid"),
    "cut off": (lambda: token()[:-9], 401, "token_invalid"),
    "of another key": (lambda: token(secret=SECRET[::-1]), 401, "token_invalid"),
    "alg none": (lambda: token("none", secret=""), 401, "token_invalid"),
    "of another algorithm": (lambda: token("HS384", secret=SECRET * 2), 401, "token_invalid"),
    "expired": (lambda: token(exp=in_seconds(-60)), 401, "token_expired"),
    "without an end": (lambda: token(exp=None), 401, "token_invalid"),
    "of later": (lambda: token(nbf=in_seconds(600)), 401, "token_invalid"),
    "for another audience": (lambda: token(aud="others"), 401, "token_invalid"),
    "of another issuer": (lambda: token(iss="https://evil.example"), 401, "token_invalid"),
    "of nobody": (lambda: token(sub=None), 401, "token_invalid"),
    "with a number for a name": (lambda: token(sub="ann", tenant=7), 403, "forbidden"),
    "without a tenant": (lambda: token(tenant=None), 403, "forbidden"),
    "too long": (lambda: token(more="x" * 9_000), 401, "token_invalid"),
}


@pytest.mark.parametrize("kind", TOKENS)
def test_a_token_that_is_not_right_is_refused(kind: str, ask: Ask, worker: Worker) -> None:
    make, status, code = TOKENS[kind]
    given = make()

    reply = ask({"message": "text"}, bearer(given) if given else {"authorization": ""})

    assert (reply.status, reply.error_code) == (status, code)
    assert ("www-authenticate" in reply.head.names) == (status == 401)
    assert_discreet(reply, worker, given)


# Requests ------------------------------------------------------------------------------------------------------------

REQUESTS: dict[str, tuple[object, Mapping[str, str], int, str]] = {
    "no body": (b"", {}, 422, "invalid_request"),
    "no JSON": (b"{", {}, 422, "invalid_request"),
    "not declared as JSON": ({"message": "text"}, {"content-type": "text/plain"}, 415, "invalid_request"),
    "10 MB": (b'{"message":"' + b"x" * 10_000_000 + b'"}', {}, 413, "invalid_request"),
    "deep JSON": (b'{"message":"text","x":' + b"[" * 60_000 + b"]" * 60_000 + b"}", {}, 422, "invalid_request"),
    "deep and open JSON": (b"[" * 100_000, {}, 422, "invalid_request"),
    "no UTF-8": (b'{"message":"\xff"}', {}, 422, "invalid_request"),
    "half a character": ({"message": "\ud800"}, {}, 422, "invalid_request"),
    "another type": ({"message": 5}, {}, 422, "invalid_request"),
    "nothing said": ({"message": " \n"}, {}, 422, "invalid_request"),
    "too much said": ({"message": "x" * 32_001}, {}, 422, "invalid_request"),
    "an id with a null": ({"message": "text", "conversation_id": "a\0"}, {}, 422, "invalid_request"),
    "an id with an escape": ({"message": "text", "branch_id": "\x1b[31m"}, {}, 422, "invalid_request"),
    "an id that is too long": ({"message": "text", "parent_id": "x" * 129}, {}, 422, "invalid_request"),
    "nothing to regenerate": ({"regenerate": "a", "conversation_id": "nowhere"}, {}, 422, "invalid_request"),
    "both at once": ({"message": "text", "regenerate": "a"}, {}, 422, "invalid_request"),
    "a key that is too long": ({"message": "text"}, {"idempotency-key": "k" * 257}, 400, "key_invalid"),
    "a place in no run": ({"message": "text"}, {"last-event-id": "5"}, 400, "cursor_invalid"),
    "no place": ({"message": "text"}, {"last-event-id": "five\t"}, 400, "cursor_invalid"),
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_request_that_is_not_right_is_refused(kind: str, ask: Ask, worker: Worker) -> None:
    body, headers, status, code = REQUESTS[kind]

    reply = ask(body, headers)

    assert (reply.status, reply.error_code) == (status, code)
    assert len(reply.body) < 1_000
    assert_discreet(reply, worker)


def test_control_characters_are_text_like_any_other(ask: Ask, worker: Worker) -> None:
    reply = ask({"message": "text;n=3\x00\x1b]0;title\x07\u2028\r\n\r\ndata: forged", "conversation_id": "control"})

    assert events_of(reply.body)[-1].event in {"run.completed", "run.failed"}
    assert "forged" not in {event.data for event in events_of(reply.body)}
    assert "\x1b" not in worker.log
    kept: Any = fetch(worker.port, "GET", "/conversations/control", ANN.headers).json()
    assert kept["messages"][0]["text"].endswith("\r\n\r\ndata: forged")


def test_a_dialect_that_is_none_is_refused(ask: Ask) -> None:
    reply = ask({"message": "text"}, target="/chat?dialect=none")

    assert (reply.status, reply.error_code) == (400, "dialect_not_found")


# Providers -----------------------------------------------------------------------------------------------------------

#: What the provider does, how the run ends, with which status a document says so, and how much was said before.
FAULTS: dict[str, tuple[str, int, int]] = {
    "text;fault=400": ("provider_bad_request", 502, 0),
    "text;fault=401": ("provider_auth", 502, 0),
    "text;fault=429;retry=7": ("provider_rate_limited", 429, 0),
    "text;fault=500": ("provider_unavailable", 502, 0),
    "text;fault=503": ("provider_unavailable", 502, 0),
    "text;fault=529": ("provider_rate_limited", 429, 0),
    "text;fault=error;at=3": ("provider_unavailable", 502, 3),
    "text;fault=close;at=3": ("provider_unavailable", 502, 3),
    "text;fault=cut;at=3": ("provider_truncated", 502, 3),
    "text;fault=truncate;at=3": ("provider_truncated", 502, 3),
    "text;fault=stall;at=3": ("provider_timeout", 504, 3),
    "text;fault=garbage;at=3": ("provider_error", 502, 3),
    "text;fault=empty": ("provider_truncated", 502, 0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_provider_that_fails_fails_the_run_with_a_code(fault: str, ask: Ask, worker: Worker) -> None:
    code, status, words = FAULTS[fault]
    body = {"message": fault, "conversation_id": fault}

    streamed = ask(body)
    document = ask(body, {"accept": "application/json"})
    *events, last = events_of(streamed.body)
    failed: dict[str, Any] = json.loads(last.data)
    failure: Any = document.json()["failure"]
    kept: Any = fetch(worker.port, "GET", f"/conversations/{fault.replace(';', '%3B')}", ANN.headers).json()

    assert (streamed.status, last.event, failed["code"]) == (200, "run.failed", code)
    assert sum(event.event == "text.delta" for event in events) == words
    assert (document.status, failure["code"]) == (status, code)
    assert [each["status"] for each in kept["messages"]] == ["completed", "failed"] * 2
    assert [each["failure"]["code"] for each in kept["messages"] if "failure" in each] == [code, code]
    for reply, correlation_id in ((streamed, failed["correlation_id"]), (document, failure["correlation_id"])):
        worker.await_line(f"(correlation id {correlation_id})")
        assert_discreet(reply, worker)


# Starting ------------------------------------------------------------------------------------------------------------

STARTS: dict[str, tuple[list[str], Mapping[str, str], str]] = {
    "no key": (["--model", "openai:gpt"], {}, "OPENAI_API_KEY"),
    "an unknown model": (["--model", "oracle"], {"OPENAI_API_KEY": KEY}, "no model 'oracle'"),
    "a short secret": ([], {**IDENTITIES, "TAILRACE_JWT_SECRET": "too-short-a-secret"}, "32 bytes"),
    "no audience": ([], {"TAILRACE_JWT_SECRET": SECRET}, "jwt_audience"),
    "everybody": (["--host", "0.0.0.0"], {}, "--anonymous"),  # noqa: S104  refused
    "no number": ([], {"TAILRACE_USER_LIVE_RUNS": "many"}, "TAILRACE_USER_LIVE_RUNS"),
    "no database": ([], {"TAILRACE_DATABASE": f"postgresql://ann:{KEY}@127.0.0.1:1/chat"}, "database"),
    "no store": ([], {"TAILRACE_STORE": f"redis://:{KEY}@127.0.0.1:1/0"}, ""),
}


def test_a_server_that_cannot_start_says_why_in_one_line() -> None:
    with ThreadPoolExecutor(2) as threads:
        begun = [threads.submit(refusal_of, *arguments, **given) for arguments, given, _ in STARTS.values()]
        said = [start.result() for start in begun]

    for (kind, (_, environment, why)), (code, text) in zip(STARTS.items(), said, strict=True):
        assert (code, text.count("\n")) == (2, 1), (kind, code, text)
        assert text.startswith("tailrace: "), kind
        assert why in text, kind
        secret = environment.get("TAILRACE_JWT_SECRET", KEY)
        assert secret not in text, kind
