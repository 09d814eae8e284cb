"""All that a user can have at a chat server, by the names that the protocols have for it."""

import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from tests.integration.support.client import Reply, fetch, open_stream
from tests.tenants.people import User
from tests.tenants.site import Site, Worker

__all__ = ["Belongings", "ag_ui_input", "ask", "post", "ui_message"]


class Belongings(msgspec.Struct, frozen=True):
    """What one user has.

    Attributes:
        secret: A word of every message and every answer.
        ids: Of everything, by kind and number.
        key: An idempotency key, and with which body it was used.
        ticket: To the run that goes on.
        gate: Where that run stands.
    """

    secret: str
    ids: Mapping[str, str]
    key: str
    ticket: str
    gate: str

    @property
    def given_away(self) -> Iterator[str]:
        """What no answer to anybody else may hold, unless he has said it himself."""
        yield self.secret
        yield self.ticket
        yield from (text for name, text in self.ids.items() if name.partition(" ")[0] in {"run", "message"})

    @classmethod
    def of(cls, user: User, worker: Worker, site: Site) -> "Belongings":
        """Let a user talk in every protocol, and leave one answer under way."""
        mark = secrets.token_hex(8)
        word, gate, key = f"secret-{mark}", f"gate-{mark}", f"key-{mark}"
        ids: dict[str, str] = {}

        talked = {"message": f"I say {word}", "conversation_id": f"conversation-{mark}"}
        first = post(worker, "/chat", talked, {**user.headers, "idempotency-key": key})
        ids["conversation native"] = talked["conversation_id"]
        ids["run native"] = _run_in(first.head["location"])

        live = {"message": f"I say {word} gate:{gate} again", "conversation_id": f"live-{mark}"}
        headers = {**user.headers, "content-type": "application/json"}
        with open_stream(worker.port, "POST", "/chat", headers, body=_encoded(live)) as stream:
            ids["run live"] = _run_in(stream.head["location"])
            ids["conversation live"] = live["conversation_id"]
            stream.next_of("text.delta")
        site.gates.await_arrivals(gate, 1)
        ticket = str(post(worker, f"/runs/{ids['run live']}/ticket", None, user.headers).json()["ticket"])

        chat = {"id": f"chat-{mark}", "messages": [ui_message(f"message-{mark}", f"I say {word}")]}
        answered = post(worker, "/api/chat", chat, user.headers)
        ids["chat"], ids["message chat"] = f"chat-{mark}", f"message-{mark}"
        ids["run chat"] = _run_in(answered.head["location"])

        run = ag_ui_input(f"thread-{mark}", f"agui-{mark}-{mark}", f"I say {word}")
        answered = post(worker, "/agui", run, user.headers)
        ids["thread"], ids["client-run"] = run["threadId"], run["runId"]
        ids["run ag-ui"] = _run_in(answered.head["location"])

        response = {"input": f"I say {word}", "model": "tailrace", "conversation": f"openai-{mark}"}
        ids["conversation openai"] = response["conversation"]
        ids["response"] = str(post(worker, "/v1/responses", response, user.headers).json()["id"])
        completion = {"messages": [{"role": "user", "content": f"I say {word}"}], "model": "tailrace"}
        ids["completion"] = str(post(worker, "/v1/chat/completions", completion, user.headers).json()["id"])
        for name in ("conversation native", "conversation live", "chat", "thread", "conversation openai"):
            tree = ask(worker, "GET", f"/conversations/{ids[name]}?tree=1", user.headers)
            assert tree.status == 200, (name, tree)
            document: Any = tree.json()
            for number, message in enumerate(document["messages"]):
                ids[f"message {name} {number}"] = message["id"]
        return cls(word, ids, key, ticket, gate)


def ag_ui_input(thread: str, run: str, text: str, **others: object) -> dict[str, Any]:
    """What `HttpAgent` sends."""
    return {
        "threadId": thread,
        "runId": run,
        "state": {},
        "messages": [{"id": f"m-{run}", "role": "user", "content": text}],
        "tools": [],
        "context": [],
        "forwardedProps": {},
        **others,
    }


def ui_message(message_id: str, text: str, role: str = "user") -> dict[str, Any]:
    return {"id": message_id, "role": role, "parts": [{"type": "text", "text": text}]}


def ask(worker: Worker, method: str, target: str, headers: Mapping[str, str] | None = None) -> Reply:
    """The answer to a request without a body."""
    return fetch(worker.port, method, target, headers)


def post(worker: Worker, target: str, body: object, headers: Mapping[str, str]) -> Reply:
    """The answer to a request, which has to be a good one."""
    if body is None:
        reply = fetch(worker.port, "POST", target, headers)
    else:
        reply = fetch(worker.port, "POST", target, {**headers, "content-type": "application/json"}, _encoded(body))
    assert reply.status < 300, reply
    return reply


def _encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def _run_in(location: str) -> str:
    return location.split("/")[2]
