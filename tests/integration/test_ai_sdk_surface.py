"""The routes of `useChat`: which run a chat's id means, for whom, and what a request has to look like."""

import json
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from tailrace import Tailrace, events
from tailrace.fold import Message, ReasoningPart, TextPart, ToolPart
from tailrace.testing import FakeClock
from tailrace.web.mounts.contract import AgentRequest
from tests.integration.support.client import Connection, EventReader, Reply, fetch, open_stream
from tests.integration.support.frames import events_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script
from tests.integration.support.stores import SHARED_STORES, a_store

Serve = Callable[..., AppServer]

CHAT = "chat_0123456789abcdef"
JSON = {"content-type": "application/json"}


class Agent:
    """Answers with one script after the other.

    Attributes:
        asked: What it was asked.
    """

    def __init__(self, *scripts: Script) -> None:
        self.asked: list[AgentRequest] = []
        self._scripts = list(scripts)

    def __call__(self, request: AgentRequest) -> object:
        self.asked.append(request)
        return self._scripts.pop(0)()


def said(text: str, role: str = "user", message_id: str = "m1") -> dict[str, Any]:
    return {"id": message_id, "role": role, "parts": [{"type": "text", "text": text}]}


def body_of(*messages: dict[str, Any], chat: str = CHAT, **fields: object) -> bytes:
    return json.dumps({"id": chat, "messages": messages or [said("Hello")], **fields}).encode()


def ask(server: AppServer, body: bytes | None = None, headers: dict[str, str] | None = None, query: str = "") -> Reply:
    return fetch(server.port, "POST", f"/api/chat{query}", {**JSON, **(headers or {})}, body or body_of())


def resume(server: AppServer, chat: str = CHAT, headers: dict[str, str] | None = None, query: str = "") -> Reply:
    return fetch(server.port, "GET", f"/api/chat/{chat}/stream{query}", headers)


def stop(
    server: AppServer, chat: str = CHAT, run_id: str | None = None, headers: dict[str, str] | None = None
) -> Reply:
    if run_id is None:
        return fetch(server.port, "POST", f"/api/chat/{chat}/stop", headers)
    body = json.dumps({"runId": run_id}).encode()
    return fetch(server.port, "POST", f"/api/chat/{chat}/stop", {**JSON, **(headers or {})}, body)


def chunks(stream: bytes) -> list[dict[str, Any]]:
    """The chunks of a whole stream, after a look at its end."""
    *told, done = [event.data for event in events_of(stream)]
    assert done == "[DONE]"
    return [json.loads(data) for data in told]


def text_in(stream: bytes) -> str:
    return "".join(chunk.get("delta", "") for chunk in chunks(stream))


def run_id_in(reader: EventReader) -> str:
    return str(json.loads(reader.next().data)["messageMetadata"]["runId"])


def read_text(reader: EventReader) -> str:
    """The next piece of text."""
    while (chunk := json.loads(reader.next().data))["type"] != "text-delta":
        pass
    return str(chunk["delta"])


def status_in(reader: EventReader) -> object:
    """How a run ended, read to its end."""
    *_, finish, _ = reader.rest()
    return json.loads(finish.data)["messageMetadata"]


def chat_app(tail: Tailrace, agent: Callable[[AgentRequest], object], **options: Any) -> FastAPI:  # noqa: ANN401
    app = FastAPI()
    tail.install(app, "/runs")
    tail.ai_sdk(agent, **options).install(app)
    return app


@pytest.fixture
def gate() -> Gate:
    return Gate()


# Installing


@pytest.mark.parametrize("kind", [FastAPI, Starlette])
def test_it_is_installed_in_one_line(serve: Serve, kind: type[Starlette]) -> None:
    app, tail = kind(), Tailrace()
    tail.install(app, "/runs")
    tail.ai_sdk(Agent(Script("Hello"))).install(app)
    server = serve(app)

    reply = ask(server)

    assert (reply.status, reply.whole, text_in(reply.body)) == (200, True, "Hello")
    assert reply.head["content-type"] == "text/event-stream"
    assert reply.head["x-vercel-ai-ui-message-stream"] == "v1"
    run_id = chunks(reply.body)[0]["messageMetadata"]["runId"]
    assert reply.head["location"] == f"/runs/{run_id}/events?dialect=ai-sdk"
    assert reply.body.endswith(b": end\n")


def test_it_may_be_mounted_and_installed_elsewhere(serve: Serve) -> None:
    tail = Tailrace()
    app = Starlette(routes=[Mount("/mine", tail.ai_sdk(Agent(Script("a"))))])
    tail.install(app, "/runs")
    tail.ai_sdk(Agent(Script("b"))).install(app, "/elsewhere")
    server = serve(app)

    replies = [fetch(server.port, "POST", path, JSON, body_of()) for path in ("/mine/", "/elsewhere")]

    assert [text_in(reply.body) for reply in replies] == ["a", "b"]


def test_dependencies_guard_its_routes(serve: Serve) -> None:
    def nobody() -> None:
        raise HTTPException(403)

    app, tail = FastAPI(), Tailrace()
    tail.install(app, "/runs")
    tail.ai_sdk(Agent()).install(app, dependencies=[Depends(nobody)])
    server = serve(app)

    assert {ask(server).status, resume(server).status, stop(server).status} == {403}


def test_a_whole_message_is_answered_to_who_prefers_json(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Agent(Script("Hello"))))

    message = ask(server, headers={"accept": "application/json"}).json()

    assert (message["role"], message["parts"]) == ("assistant", [{"type": "text", "text": "Hello", "state": "done"}])


# What an agent gets


def test_an_agent_gets_the_conversation(serve: Serve) -> None:
    agent = Agent(Script("x"))
    server = serve(chat_app(Tailrace(), agent))
    calls: list[dict[str, Any]] = [
        {"type": "tool-look", "toolCallId": "c1", "state": "output-available", "input": {"a": 1}, "output": 2},
        {"type": "dynamic-tool", "toolName": "see", "toolCallId": "c2", "state": "output-error", "errorText": "No."},
        {"type": "dynamic-tool", "toolName": "do", "toolCallId": "c3", "state": "approval-responded", "input": {}},
        {"type": "dynamic-tool", "toolName": "do", "toolCallId": "c4", "state": "output-denied", "input": {}},
        {"type": "dynamic-tool", "toolName": "do", "toolCallId": "c5", "state": "input-streaming"},
    ]
    answer: dict[str, Any] = {
        "id": "m2",
        "role": "assistant",
        "parts": [{"type": "step-start"}, {"type": "reasoning", "text": "Hm"}, *calls, {"type": "data-x", "data": 1}],
    }

    ask(server, body_of(said("One"), answer, said("Two", message_id="m3"), model="small", extra=[1]))

    (asked,) = agent.asked
    assert (asked.text, asked.thread, asked.owner, asked.model) == ("Two", CHAT, None, "small")
    assert asked.body["extra"] == [1]
    assert asked.messages == [
        Message(id="m1", role="user", parts=[TextPart(text="One", done=True)]),
        Message(
            id="m2",
            role="assistant",
            parts=[
                ReasoningPart(text="Hm", done=True),
                ToolPart(call_id="c1", name="look", state="done", input={"a": 1}, output=2),
                ToolPart(call_id="c2", name="see", state="error", error={"code": "error", "message": "No."}),
                ToolPart(call_id="c3", name="do", state="ready", input={}),
                ToolPart(call_id="c4", name="do", state="error", input={}, error={"code": "denied", "message": ""}),
                ToolPart(call_id="c5", name="do", state="started"),
            ],
        ),
        Message(id="m3", role="user", parts=[TextPart(text="Two", done=True)]),
    ]


class _Kept:
    """A conversation that is stored."""

    async def messages(self, thread: str, owner: str | None) -> Sequence[Message]:
        assert (thread, owner) == (CHAT, None)
        return [
            Message(id=f"m{number}", role=role, parts=[TextPart(text=role)])
            for number, role in enumerate(["user", "assistant", "user", "assistant"])
        ]


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (json.dumps({"id": CHAT, "message": said("new", message_id="m9")}).encode(), ["m0", "m1", "m2", "m3", "m9"]),
        (body_of(said("new", message_id="m9")), ["m0", "m1", "m2", "m3", "m9"]),
        (body_of(said("edited", message_id="m2")), ["m0", "m1", "m2"]),
        (body_of(said("a", message_id="m7"), said("b", message_id="m8")), ["m7", "m8"]),
    ],
    ids=["message", "alone in messages", "edited", "all of them"],
)
def test_a_client_that_sends_its_last_message_only_has_the_rest_from_the_history(
    serve: Serve, body: bytes, ids: list[str]
) -> None:
    agent = Agent(Script("x"))
    server = serve(chat_app(Tailrace(), agent, history=_Kept()))

    ask(server, body)

    assert [message.id for message in agent.asked[0].messages] == ids


def test_an_agent_may_be_a_coroutine_function(serve: Serve) -> None:
    async def agent(request: AgentRequest) -> AsyncGenerator[str, None]:
        async def answer() -> AsyncGenerator[str, None]:
            yield request.text

        return answer()

    server = serve(chat_app(Tailrace(), agent))

    assert text_in(ask(server).body) == "Hello"


def test_the_result_of_a_tool_continues_its_message_and_a_regeneration_begins_another(serve: Serve) -> None:
    agent = Agent(Script("a"), Script("b"), Script("c"))
    server = serve(chat_app(Tailrace(), agent))
    answer = said("so far", "assistant", "m2")

    continued = ask(server, body_of(said("Hello"), answer))
    regenerated = [ask(server, body_of(said("Hello"), trigger="regenerate-message", messageId="m2")) for _ in range(2)]

    assert agent.asked[0].text == ""
    assert chunks(continued.body)[0]["messageId"] == "m2"
    assert len({"m2", *(chunks(reply.body)[0]["messageId"] for reply in regenerated)}) == 3


@pytest.mark.parametrize(
    ("query", "headers"),
    [("?sdk_version=7", {}), ("", {"ai-sdk-version": "7"}), ("?sdk_version=7", {"ai-sdk-version": "5"})],
)
def test_a_client_says_which_version_it_has(serve: Serve, query: str, headers: dict[str, str]) -> None:
    approval = events.Interrupt(id="i", kind="approval", call_id="c")
    script = Script(events.ToolReady(call_id="c", name="x", input={}), events.RunPaused(interrupts=[approval]))
    server = serve(chat_app(Tailrace(), Agent(script, script)))

    with_it, without = ask(server, headers=headers, query=query), ask(server)

    assert "tool-approval-request" in {chunk["type"] for chunk in chunks(with_it.body)}
    assert "data-interrupt" in {chunk["type"] for chunk in chunks(without.body)}
    assert with_it.head["location"].endswith("?dialect=ai-sdk&sdk_version=7")


# Refusals


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 422),
        (b"[]", 422),
        (b"{}", 422),
        (body_of(chat=""), 422),
        (body_of(chat="x" * 129), 422),
        (body_of(chat="a\nb"), 422),
        (json.dumps({"id": CHAT}).encode(), 422),
        (body_of({"role": "user"}), 422),
        (body_of({"role": "root", "parts": []}), 422),
        (body_of({"role": "user", "parts": [{"type": "text"}]}), 422),
        (body_of({"role": "user", "parts": [{"type": "tool-x", "state": "y"}]}), 422),
        (body_of({"role": "user", "parts": ["x"]}), 422),
        (body_of(said("x" * 9_000_000)), 413),
    ],
)
def test_a_body_that_is_none_is_refused_and_starts_nothing(serve: Serve, body: bytes, status: int) -> None:
    agent = Agent()
    server = serve(chat_app(Tailrace(), agent))

    reply = ask(server, body)

    assert (reply.status, reply.error_code) == (status, "invalid_request")
    assert agent.asked == []


@pytest.mark.parametrize("depth", [100, 130, 900, 940, 950, 960, 970, 980, 990, 1_000, 5_000])
def test_no_depth_of_nesting_is_an_error_of_the_server(serve: Serve, depth: int) -> None:
    server = serve(chat_app(Tailrace(), Agent(Script("x"), Script("x"))))
    nested = b"[" * depth + b"]" * depth
    output = {"type": "tool-x", "toolCallId": "c", "state": "output-available", "output": "-"}
    bodies = [
        body_of({"id": "a", "role": "assistant", "parts": [part]}).replace(b'"-"', nested)
        for part in (output, {"type": "data-x", "data": "-"})
    ]

    assert {ask(server, body).status for body in bodies} <= {200, 422}


def test_a_refusal_does_not_repeat_a_long_body(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Agent()))

    assert len(ask(server, body_of({"role": "x" * 1_000_000, "parts": []})).body) < 1_000


@pytest.mark.parametrize("path", ["/api/chat", f"/api/chat/{CHAT}/stop"])
def test_who_leaves_before_the_body_was_sent_is_no_error(
    serve: Serve, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(chat_app(Tailrace(), Agent()))
    with Connection(server.port) as connection:
        connection.send("POST", path, {**JSON, "content-length": "1000"})
        server.eventually(lambda: server.connection_count == 1)
    server.eventually(lambda: server.connection_count == 0)

    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_page_of_another_site_cannot_ask(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Agent()))

    assert fetch(server.port, "POST", "/api/chat", {"content-type": "text/plain"}, body_of()).status == 415
    assert fetch(server.port, "POST", f"/api/chat/{CHAT}/stop", {"content-type": "text/plain"}, b"{}").status == 415


def test_a_version_that_there_is_not_starts_nothing(serve: Serve) -> None:
    agent = Agent()
    server = serve(chat_app(Tailrace(), agent))

    replies = [ask(server, query="?sdk_version=8"), resume(server, query="?sdk_version=x")]

    assert [(reply.status, reply.error_code) for reply in replies] == [(400, "option_invalid")] * 2
    assert agent.asked == []


# Resuming


def test_there_is_nothing_to_resume_in_a_chat_that_nobody_knows(serve: Serve) -> None:
    server = serve(chat_app(Tailrace(), Agent()))

    assert [resume(server, chat).status for chat in (CHAT, "x", "x" * 500, "a%2Fb", "a%00b0123456789abcdef")] == [
        204
    ] * 5


def test_a_resumed_answer_is_replayed_whole_and_goes_on(serve: Serve, gate: Gate) -> None:
    server = serve(chat_app(Tailrace(), Agent(Script("One ", gate, "two."))))

    with open_stream(server.port, "POST", "/api/chat", JSON, body=body_of()) as first:
        run_id = run_id_in(first)
        assert read_text(first) == "One "
    with open_stream(server.port, "GET", f"/api/chat/{CHAT}/stream") as second:
        assert run_id_in(second) == run_id
        assert read_text(second) == "One "
        assert second.last_event_id.startswith(f"{run_id}:")
        gate.open()
        assert read_text(second) == "two."
        second.rest()

    assert text_in(second.raw) == "One two."
    assert second.head["location"].startswith(f"/runs/{run_id}/events")


def test_a_chat_id_may_have_any_character_that_can_be_seen(serve: Serve, gate: Gate) -> None:
    server = serve(chat_app(Tailrace(), Agent(Script("x", gate))))
    chat = "folder/ chat?é%#" * 2
    with open_stream(server.port, "POST", "/api/chat", JSON, body=body_of(chat=chat)) as first:
        read_text(first)

        stopped = stop(server, "folder%2F%20chat%3F%C3%A9%25%23" * 2)

        assert (stopped.status, status_in(first)) == (202, {"status": "cancelled", "reason": "user"})


def test_an_answer_that_has_just_completed_is_replayed_for_a_minute(serve: Serve) -> None:
    clock = FakeClock()
    server = serve(chat_app(Tailrace(clock=clock), Agent(Script("Hello"))))
    whole = ask(server)

    clock.advance(59)
    again = resume(server)
    clock.advance(1)
    later = resume(server)

    assert chunks(again.body) == chunks(whole.body)
    assert later.status == 204


@pytest.mark.parametrize("ending", [RuntimeError("no"), events.RunPaused(interrupts=[]), None])
def test_an_answer_that_ended_otherwise_is_not(serve: Serve, gate: Gate, ending: object) -> None:
    server = serve(chat_app(Tailrace(), Agent(Script("Hello", gate, ending))))
    with open_stream(server.port, "POST", "/api/chat", JSON, body=body_of()) as reader:
        read_text(reader)
        if ending is None:
            stop(server)
        gate.open()
        reader.rest()

    assert resume(server).status == 204


def test_a_look_at_whether_there_is_something_has_no_body(serve: Serve, gate: Gate) -> None:
    server = serve(chat_app(Tailrace(), Agent(Script("x", gate))))
    with open_stream(server.port, "POST", "/api/chat", JSON, body=body_of()) as reader:
        read_text(reader)

        statuses = [fetch(server.port, "HEAD", f"/api/chat/{chat}/stream").status for chat in (CHAT, "other")]

        gate.open()
        reader.rest()
    assert statuses == [200, 204]


# Stopping


def test_a_stop_without_a_run_ends_the_newest_one(serve: Serve, gate: Gate) -> None:
    script = Script("x", gate)
    server = serve(chat_app(Tailrace(), Agent(script)))
    with open_stream(server.port, "POST", "/api/chat", JSON, body=body_of()) as reader:
        run_id = run_id_in(reader)
        read_text(reader)

        stopped = stop(server)

        assert (stopped.status, stopped.json()) == (202, {"accepted": True, "runId": run_id})
        assert status_in(reader) == {"status": "cancelled", "reason": "user"}
    script.await_closing()
    assert (stop(server).status, stop(server).json()) == (200, {"accepted": False, "runId": run_id})
    assert stop(server, "chat_that_nobody_knows").json() == {"accepted": False}


def test_a_stop_of_a_run_that_is_over_or_of_another_chat_stops_nothing(serve: Serve, gate: Gate) -> None:
    server = serve(chat_app(Tailrace(), Agent(Script("old"), Script("other", gate), Script("new", gate))))
    old = chunks(ask(server).body)[0]["messageMetadata"]["runId"]
    elsewhere = body_of(chat="another_0123456789")
    with (
        open_stream(server.port, "POST", "/api/chat", JSON, body=elsewhere) as other,
        open_stream(server.port, "POST", "/api/chat", JSON, body=body_of()) as new,
    ):
        other_id, new_id = run_id_in(other), run_id_in(new)

        stale = [stop(server, run_id=run_id).json()["accepted"] for run_id in (old, other_id, "x", "")]
        meant = stop(server, run_id=new_id)

        assert stale == [False] * 4
        assert meant.json() == {"accepted": True, "runId": new_id}
        gate.open()
        assert status_in(other) == {"status": "completed"}
        assert status_in(new) == {"status": "cancelled", "reason": "user"}


def test_a_new_answer_ends_the_one_that_is_under_way(serve: Serve, gate: Gate) -> None:
    server = serve(chat_app(Tailrace(), Agent(Script("old", gate), Script("new"))))
    with open_stream(server.port, "POST", "/api/chat", JSON, body=body_of()) as old:
        read_text(old)

        new = ask(server)

        assert status_in(old) == {"status": "cancelled", "reason": "superseded"}
    assert text_in(new.body) == "new"


def test_of_two_answers_that_begin_at_once_one_goes_on(serve: Serve, gate: Gate) -> None:
    tail = Tailrace()
    server = serve(chat_app(tail, Agent(*(Script("x", gate) for _ in range(5)))))
    with (
        open_stream(server.port, "POST", "/api/chat", JSON, body=body_of()) as one,
        open_stream(server.port, "POST", "/api/chat", JSON, body=body_of()) as two,
        open_stream(server.port, "POST", "/api/chat", JSON, body=body_of()) as three,
    ):
        server.eventually(lambda: tail.live_count == 1)
        gate.open()

        statuses = [status_in(reader) for reader in (one, two, three)]

    assert sorted(str(status) for status in statuses) == [
        "{'status': 'cancelled', 'reason': 'superseded'}",
        "{'status': 'cancelled', 'reason': 'superseded'}",
        "{'status': 'completed'}",
    ]


def test_a_repeated_request_reads_the_answer_that_it_began(serve: Serve, gate: Gate) -> None:
    agent = Agent(Script("x", gate))
    server = serve(chat_app(Tailrace(), agent))
    headers = {**JSON, "idempotency-key": "a key that nobody guesses"}
    with (
        open_stream(server.port, "POST", "/api/chat", headers, body=body_of()) as one,
        open_stream(server.port, "POST", "/api/chat", headers, body=body_of()) as two,
    ):
        assert run_id_in(one) == run_id_in(two)
        gate.open()

        assert status_in(one) == status_in(two) == {"status": "completed"}
    assert len(agent.asked) == 1


def test_the_same_key_for_another_message_is_a_conflict(serve: Serve) -> None:
    agent = Agent(Script("x"))
    server = serve(chat_app(Tailrace(), agent))
    key = {"idempotency-key": "a key that nobody guesses"}

    replies = [ask(server, body, key) for body in (body_of(), body_of(said("Bye")), body_of(chat=f"{CHAT}2"))]

    assert [reply.status for reply in replies] == [200, 409, 409]
    assert len(agent.asked) == 1


# Whose chat it is


def test_without_owners_a_chat_id_that_can_be_guessed_is_no_key(serve: Serve, gate: Gate) -> None:
    server = serve(chat_app(Tailrace(), Agent(Script("x", gate), Script("y"))))
    guessed = "chat-1"
    with open_stream(server.port, "POST", "/api/chat", JSON, body=body_of(chat=guessed)) as reader:
        run_id = run_id_in(reader)

        assert resume(server, guessed).status == 204
        assert (stop(server, guessed).status, stop(server, guessed).error_code) == (400, "invalid_request")
        assert text_in(ask(server, body_of(chat=guessed)).body) == "y"
        assert stop(server, guessed, run_id).json() == {"accepted": True, "runId": run_id}
        assert status_in(reader) == {"status": "cancelled", "reason": "user"}


def test_without_owners_nothing_is_told_of_what_was_said_in_a_chat_that_can_be_guessed(serve: Serve) -> None:
    agent = Agent(Script("x"))
    server = serve(chat_app(Tailrace(), agent, history=_Kept()))

    ask(server, body_of(said("What did I say?"), chat="chat-1"))

    assert [message.text for message in agent.asked[0].messages] == ["What did I say?"]


def test_with_owners_everybody_has_a_chat_of_that_id(serve: Serve, gate: Gate) -> None:
    tail = Tailrace(owner=lambda request: request.headers.get("authorization"))
    agent = Agent(Script("ann's", gate), Script("bob's", gate), Script("nobody's"))
    server = serve(chat_app(tail, agent))
    ann, bob = {"authorization": "ann"}, {"authorization": "bob"}
    body = body_of(chat="1")
    with (
        open_stream(server.port, "POST", "/api/chat", {**JSON, **ann}, body=body) as of_ann,
        open_stream(server.port, "POST", "/api/chat", {**JSON, **bob}, body=body) as of_bob,
    ):
        run_id = run_id_in(of_ann)

        assert text_in(ask(server, body_of(chat=CHAT)).body) == "nobody's"
        assert stop(server, "1", run_id, bob).json() == {"accepted": False}
        assert stop(server, "1", run_id).json() == {"accepted": False}
        assert stop(server, "1", headers=bob).status == 202
        assert status_in(of_bob) == {"status": "cancelled", "reason": "user"}
        gate.open()
        assert status_in(of_ann) == {"status": "completed"}
    assert [asked.owner for asked in agent.asked] == ["ann", "bob", None]
    assert text_in(resume(server, "1", ann).body) == "ann's"
    assert [resume(server, "1", headers).status for headers in (bob, {}, {"authorization": "eve"})] == [204] * 3


def test_nobody_in_particular_stops_nothing_of_somebody(serve: Serve, gate: Gate) -> None:
    """Where some callers have an identity and others have none."""
    tail = Tailrace(owner=lambda request: request.headers.get("authorization"))
    server = serve(chat_app(tail, Agent(Script("x", gate), Script("y"))))
    with open_stream(server.port, "POST", "/api/chat", {**JSON, "authorization": "ann"}, body=body_of()) as reader:
        read_text(reader)

        assert text_in(ask(server).body) == "y"

        gate.open()
        assert status_in(reader) == {"status": "completed"}


def test_who_is_turned_away_is_told_by_the_application(serve: Serve) -> None:
    def owner(_: Request) -> str:
        raise HTTPException(401)

    server = serve(chat_app(Tailrace(owner=owner), Agent()))

    assert {ask(server).status, resume(server).status, stop(server).status} == {401}


# Several workers


@pytest.mark.parametrize("kind", SHARED_STORES)
def test_any_worker_resumes_supersedes_and_stops(
    serve: Serve, kind: str, tmp_path: Path, require_program: Callable[..., str], gate: Gate
) -> None:
    with a_store(kind, tmp_path, require_program) as store:
        agents = [Agent(Script("one", gate)), Agent(Script("two", gate))]
        here, there = (serve(chat_app(Tailrace(store), agent)) for agent in agents)
        with open_stream(here.port, "POST", "/api/chat", JSON, body=body_of()) as one:
            first_id = run_id_in(one)
            with open_stream(there.port, "GET", f"/api/chat/{CHAT}/stream") as resumed:
                assert (run_id_in(resumed), read_text(resumed)) == (first_id, "one")
            with open_stream(there.port, "POST", "/api/chat", JSON, body=body_of()) as two:
                second_id = run_id_in(two)

                assert status_in(one) == {"status": "cancelled", "reason": "superseded"}
                assert stop(here).json() == {"accepted": True, "runId": second_id}
                assert status_in(two) == {"status": "cancelled", "reason": "user"}
