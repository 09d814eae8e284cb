"""OpenAI's API around an agent: what is started, found again, polled, cancelled, continued and refused."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Mount

from tailrace import Tailrace
from tailrace.events import ToolArgsDelta, ToolStarted, Usage
from tailrace.fold import Message, TextPart
from tailrace.web.mounts.contract import AgentRequest
from tailrace.wire.sse import Decoder
from tests.integration.support.client import NEVER_SECONDS, Reply, fetch, open_stream
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script

Serve = Callable[..., AppServer]

JSON = {"content-type": "application/json"}
ANN = {**JSON, "authorization": "Bearer ann"}
BOB = {**JSON, "authorization": "Bearer bob"}
QUESTION: list[dict[str, Any]] = [{"role": "user", "content": "What time is it?"}]
KEY = {"idempotency-key": "a key that nobody can guess"}


class Recorder:
    """An agent that keeps what it was asked and plays a source."""

    def __init__(self, source: Script) -> None:
        self.asked: list[AgentRequest] = []
        self._source = source

    def __call__(self, asked: AgentRequest) -> AsyncIterator[Any]:
        self.asked.append(asked)
        return self._source()


def playing(*items: object) -> Callable[[AgentRequest], AsyncIterator[Any]]:
    """An agent that answers everybody the same."""
    script = Script(*items)
    return lambda _: script()


def app_of(agent: Callable[[AgentRequest], Any], tail: Tailrace | None = None) -> Starlette:
    tail = tail or Tailrace(heartbeat_seconds=NEVER_SECONDS)
    app = FastAPI()
    tail.install(app, "/runs")
    tail.openai(agent).install(app)
    return app


def owned(source: Script) -> Starlette:
    """As `app_of`, where callers have names, and strangers none."""

    def owner(request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer":
            raise HTTPException(401, "Who are you?")
        return token

    return app_of(lambda _: source(), Tailrace(owner=owner))


def post(server: AppServer, path: str, body: object, headers: dict[str, str] | None = None) -> Reply:
    return fetch(server.port, "POST", f"/v1{path}", {**JSON, **(headers or {})}, msgspec.json.encode(body))


def get(server: AppServer, path: str, headers: dict[str, str] | None = None) -> Reply:
    return fetch(server.port, "GET", f"/v1{path}", headers)


def frames(body: bytes) -> list[Any]:
    shown = Decoder().feed(body)
    return [event.data if event.data == "[DONE]" else msgspec.json.decode(event.data) for event in shown]


def chat(**fields: object) -> dict[str, object]:
    return {"model": "m", "messages": QUESTION, **fields}


def ask(**fields: object) -> dict[str, object]:
    return {"model": "m", "input": "What time is it?", **fields}


def text_of(response: dict[str, Any]) -> str:
    return "".join(item["content"][0]["text"] for item in response["output"] if item["type"] == "message")


# Chat completions


def test_a_completion_is_streamed_to_who_wants_a_stream(serve: Serve) -> None:
    server = serve(app_of(playing("It is ", "noon.")))

    reply = post(server, "/chat/completions", chat(stream=True), {"accept": "application/json"})
    *chunks, done = frames(reply.body)

    assert reply.head["content-type"] == "text/event-stream"
    assert reply.head["location"].startswith("/runs/")
    assert reply.body.endswith(b": end\n")
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "It is noon."
    assert {chunk["model"] for chunk in chunks} == {"m"}
    assert done == "[DONE]"


def test_a_completion_is_one_document_to_everybody_else(serve: Serve) -> None:
    server = serve(app_of(playing("It is ", "noon.", Usage(input_tokens=1, output_tokens=2))))

    reply = post(server, "/chat/completions", chat())
    document: Any = reply.json()

    assert (reply.status, reply.head["content-type"]) == (200, "application/json")
    assert document["choices"][0]["message"]["content"] == "It is noon."
    assert document["usage"]["total_tokens"] == 3
    assert document["model"] == "m"
    assert document["created"] > 1_700_000_000


def test_the_location_of_a_stream_reads_on_with_the_same_options(serve: Serve) -> None:
    server = serve(app_of(playing("x", Usage(input_tokens=1))))

    reply = post(server, "/chat/completions", chat(stream=True, stream_options={"include_usage": True}))
    again = fetch(server.port, "GET", reply.head["location"], {"last-event-id": "2"})

    assert again.body == reply.body[reply.body.index(b"id: 3\n") :]
    assert frames(again.body)[-2]["usage"]["total_tokens"] == 1


def test_the_agent_is_given_the_conversation_in_its_own_words(serve: Serve) -> None:
    agent = Recorder(Script("x"))
    server = serve(app_of(agent))
    tools = [{"type": "function", "function": {"name": "clock"}}]
    body = chat(messages=[{"role": "system", "content": "Be brief."}, *QUESTION], tools=tools, temperature=0.5)

    post(server, "/chat/completions", body)

    (asked,) = agent.asked
    assert (asked.text, asked.model, asked.owner, asked.thread) == ("What time is it?", "m", None, None)
    assert [(message.role, message.text) for message in asked.messages] == [
        ("system", "Be brief."),
        ("user", "What time is it?"),
    ]
    assert asked.tools == tools
    assert asked.body == body


def test_a_request_without_a_model_asks_the_first(serve: Serve) -> None:
    agent = Recorder(Script("x"))
    server = serve(app_of(agent))

    post(server, "/chat/completions", {"messages": QUESTION})

    assert agent.asked[0].model == "tailrace"


def test_a_call_for_the_client_is_the_end_of_the_turn(serve: Serve) -> None:
    source = Script(ToolStarted(call_id="c1", name="clock", executor="client"), ToolArgsDelta('{"zone":"CET"}'))
    server = serve(app_of(lambda _: source()))

    document: Any = post(server, "/chat/completions", chat()).json()

    (choice,) = document["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "clock", "arguments": '{"zone":"CET"}'}


# Responses


def test_a_response_is_streamed_with_numbers_from_zero(serve: Serve) -> None:
    server = serve(app_of(playing("It is ", "noon.")))

    said = frames(post(server, "/responses", ask(stream=True)).body)

    assert [item["sequence_number"] for item in said] == list(range(len(said)))
    assert text_of(said[-1]["response"]) == "It is noon."


def test_a_response_is_one_document_to_everybody_else(serve: Serve) -> None:
    server = serve(app_of(playing("It is ", "noon.")))

    reply = post(server, "/responses", ask())
    document: Any = reply.json()

    assert (reply.status, document["status"], text_of(document)) == (200, "completed", "It is noon.")
    assert get(server, f"/responses/{document['id']}").json() == document


def test_in_the_background_the_answer_comes_at_once_and_can_be_looked_at(serve: Serve) -> None:
    gate = Gate()
    server = serve(app_of(playing("It is ", gate, "noon.")))

    reply = post(server, "/responses", ask(background=True))
    begun: Any = reply.json()
    gate.await_arrival()
    running: Any = get(server, f"/responses/{begun['id']}").json()
    gate.open()
    get(server, f"/responses/{begun['id']}?stream=true")
    ended: Any = get(server, f"/responses/{begun['id']}").json()

    assert (reply.status, begun["status"]) == (200, "in_progress")
    assert (running["status"], text_of(running)) == ("in_progress", "It is ")
    assert (ended["status"], text_of(ended)) == ("completed", "It is noon.")


def test_from_every_number_on_a_response_is_read_without_a_gap(serve: Serve) -> None:
    server = serve(app_of(playing("It is ", ToolStarted(name="clock"), ToolArgsDelta("{}"), "noon.")))
    whole = frames(post(server, "/responses", ask(stream=True)).body)
    url = f"/responses/{whole[-1]['response']['id']}?stream=true"

    for seen in range(len(whole)):
        assert frames(get(server, f"{url}&starting_after={seen}").body) == whole[seen + 1 :]
    assert frames(get(server, url).body) == whole
    assert get(server, f"{url}&starting_after=999999").body == b": end\n"


def test_a_running_response_is_read_on_to_its_end(serve: Serve) -> None:
    gate = Gate()
    server = serve(app_of(playing("It is ", gate, "noon.")))
    begun: Any = post(server, "/responses", ask(background=True)).json()

    with open_stream(server.port, "GET", f"/v1/responses/{begun['id']}?stream=true&starting_after=3") as stream:
        first = msgspec.json.decode(stream.next().data)
        gate.open()
        rest = stream.rest()

    assert (first["sequence_number"], first["delta"]) == (4, "It is ")
    assert rest[-1].event == "response.completed"


def test_a_cancel_answers_with_the_response_as_often_as_it_is_asked(serve: Serve) -> None:
    source = Script("It is ", Gate())
    server = serve(app_of(lambda _: source()))
    begun: Any = post(server, "/responses", ask(background=True)).json()

    first = post(server, f"/responses/{begun['id']}/cancel", {})
    source.await_closing()
    second = post(server, f"/responses/{begun['id']}/cancel", {})
    cancelled: Any = first.json()

    assert (first.status, cancelled["status"], text_of(cancelled)) == (200, "cancelled", "It is ")
    assert (second.status, second.json()) == (200, cancelled)


def test_a_cancel_of_a_response_that_is_complete_changes_nothing(serve: Serve) -> None:
    server = serve(app_of(playing("x")))
    ended: Any = post(server, "/responses", ask()).json()

    assert post(server, f"/responses/{ended['id']}/cancel", {}).json() == ended


def test_a_head_request_is_told_what_there_would_be(serve: Serve) -> None:
    server = serve(app_of(playing("x")))
    ended: Any = post(server, "/responses", ask()).json()

    reply = fetch(server.port, "HEAD", f"/v1/responses/{ended['id']}?stream=true")

    assert (reply.status, reply.head["content-type"], reply.body) == (200, "text/event-stream", b"")


# Responses that continue others


def test_a_response_continues_what_was_asked_and_answered_before(serve: Serve) -> None:
    agent = Recorder(Script("Noon."))
    server = serve(app_of(agent))

    first: Any = post(server, "/responses", ask(instructions="Be brief.")).json()
    second: Any = post(server, "/responses", ask(input="And now?", previous_response_id=first["id"])).json()
    post(server, "/responses", ask(input="And then?", previous_response_id=second["id"], instructions="Be kind."))

    assert [(message.role, message.text) for message in agent.asked[-1].messages] == [
        ("system", "Be kind."),
        ("user", "What time is it?"),
        ("assistant", "Noon."),
        ("user", "And now?"),
        ("assistant", "Noon."),
        ("user", "And then?"),
    ]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"store": False}, "The previous response does not keep what it was asked."),
        ({"input": "x" * 600_000}, "The previous response does not keep what it was asked."),
    ],
)
def test_a_response_that_does_not_keep_its_question_cannot_be_continued(
    serve: Serve, fields: dict[str, object], reason: str
) -> None:
    server = serve(app_of(playing("x")))
    first: Any = post(server, "/responses", ask(**fields)).json()

    refused = post(server, "/responses", ask(previous_response_id=first["id"]))

    assert (refused.status, refused.json()["error"]) == (
        400,
        {"message": reason, "type": "invalid_request_error", "param": None, "code": "invalid_request"},
    )


def test_a_chain_of_responses_has_an_end(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.web.mounts.openai._LONGEST_CHAIN", 1)
    server = serve(app_of(playing("x")))
    first: Any = post(server, "/responses", ask()).json()
    second: Any = post(server, "/responses", ask(previous_response_id=first["id"])).json()

    assert post(server, "/responses", ask(previous_response_id=second["id"])).status == 400


def test_a_chain_of_responses_is_not_continued_beyond_its_bound(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.web.mounts.openai._CHAIN_BYTES", 1_000)
    server = serve(app_of(playing("x" * 600)))

    first: Any = post(server, "/responses", ask()).json()
    second: Any = post(server, "/responses", ask(previous_response_id=first["id"])).json()
    refused = post(server, "/responses", ask(previous_response_id=second["id"]))

    assert (refused.status, refused.error_code) == (400, "invalid_request")


def test_a_conversation_is_the_thread_of_the_run(serve: Serve) -> None:
    gate = Gate()
    tail = Tailrace(owner=lambda _: "ann")
    server = serve(app_of(playing("x", gate), tail))

    begun: Any = post(server, "/responses", ask(background=True, conversation="conv_1")).json()
    listed: Any = fetch(server.port, "GET", "/runs/?thread=conv_1").json()
    gate.open()

    assert [run["run_id"] for run in listed["runs"]] == [begun["id"].removeprefix("resp_")]


class Archive:
    """A history that has one sentence of every conversation."""

    async def messages(self, thread: str, owner: str | None) -> list[Message]:
        return [Message(role="user", parts=[TextPart(text=f"In {thread}, to {owner}.")])]


@pytest.mark.parametrize(
    ("owner", "conversation", "before"),
    [
        (None, "conv_1", []),
        (None, "conv_0123456789abcdef", ["In conv_0123456789abcdef, to None."]),
        ("ann", "conv_1", ["In conv_1, to ann."]),
    ],
)
def test_of_a_conversation_that_can_be_guessed_nothing_is_told(
    serve: Serve, owner: str | None, conversation: str, before: list[str]
) -> None:
    agent = Recorder(Script("x"))
    tail = Tailrace(owner=lambda _: owner)
    app = Starlette()
    tail.install(app, "/runs")
    tail.openai(agent, Archive()).install(app)

    post(serve(app), "/responses", ask(conversation=conversation))

    assert [message.text for message in agent.asked[0].messages] == [*before, "What time is it?"]


# Repeated requests


@pytest.mark.parametrize(
    ("path", "body"),
    [("/chat/completions", chat()), ("/chat/completions", chat(stream=True)), ("/responses", ask())],
)
def test_a_repeated_request_with_a_key_starts_nothing(serve: Serve, path: str, body: dict[str, object]) -> None:
    source = Script("It is noon.")
    server = serve(app_of(lambda _: source()))

    first, second = (post(server, path, body, KEY) for _ in range(2))

    assert source.opened == 1
    assert first.body == second.body


def test_the_same_key_for_another_question_is_a_conflict(serve: Serve) -> None:
    server = serve(app_of(playing("x")))
    post(server, "/responses", ask(), KEY)

    refused = post(server, "/responses", ask(input="Something else"), KEY)

    assert (refused.status, refused.error_code) == (409, "conflict")


def test_a_client_that_leaves_stops_nothing(serve: Serve) -> None:
    gate = Gate()
    source = Script("It is ", gate, "noon.")
    server = serve(app_of(lambda _: source()))

    with server.connect() as connection:
        body = msgspec.json.encode(chat())
        connection.send("POST", "/v1/chat/completions", {**JSON, **KEY}, body)
        gate.await_arrival()
        connection.abort()
    gate.open()
    document: Any = post(server, "/chat/completions", chat(), KEY).json()

    assert source.opened == 1
    assert document["choices"][0]["message"]["content"] == "It is noon."


# Failures


def test_a_failure_before_the_first_event_is_a_status_in_the_shape_of_the_protocol(serve: Serve) -> None:
    server = serve(app_of(playing(RuntimeError("a secret"))))

    for stream in (True, False):
        reply = post(server, "/chat/completions", chat(stream=stream))
        assert (reply.status, reply.error_code) == (500, "error")
        assert b"secret" not in reply.body


def test_an_agent_may_refuse_with_a_status_of_its_own(serve: Serve) -> None:
    server = serve(app_of(playing(HTTPException(429, "Too many questions."))))

    assert post(server, "/responses", ask(background=True)).status == 429


@pytest.mark.parametrize(("path", "body"), [("/chat/completions", chat()), ("/responses", ask())])
def test_a_failure_later_on_is_an_error_that_clients_do_not_repeat(
    serve: Serve, path: str, body: dict[str, object]
) -> None:
    server = serve(app_of(playing("It is ", RuntimeError("a secret"))))

    reply = post(server, path, body)

    assert (reply.status, reply.head["x-should-retry"]) == (502, "false")
    assert reply.json()["error"]
    assert b"It is " in reply.body
    assert b"secret" not in reply.body


def test_an_interrupted_run_is_no_success(serve: Serve) -> None:
    gate = Gate()
    tail = Tailrace(heartbeat_seconds=NEVER_SECONDS)
    server = serve(app_of(playing("It is ", gate), tail))

    with server.connect() as connection:
        connection.send("POST", "/v1/chat/completions", JSON, msgspec.json.encode(chat()))
        gate.await_arrival()
        server.call(tail.drain(0.2))
        reply = connection.reply()

    error: Any = reply.json()["error"]
    assert (reply.status, reply.head["x-should-retry"]) == (503, "false")
    assert (error["code"], error["message"]) == ("shutdown", "The answer was interrupted.")


def test_a_server_that_stops_starts_nothing(serve: Serve) -> None:
    tail = Tailrace()
    server = serve(app_of(playing("x"), tail))
    server.call(tail.drain(0.1))

    refused = post(server, "/responses", ask(background=True))

    assert (refused.status, refused.error_code, refused.head["retry-after"]) == (503, "draining", "2")


def test_a_failed_response_can_be_looked_at(serve: Serve) -> None:
    server = serve(app_of(playing("It is ", RuntimeError("a secret"))))
    failed: Any = post(server, "/responses", ask()).json()

    reply = get(server, f"/responses/{failed['id']}")

    assert (reply.status, reply.json()) == (200, failed)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")


# Refusals


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/chat/completions", {"model": "m"}, 400),
        ("/chat/completions", {"messages": "Hello"}, 400),
        ("/chat/completions", [], 400),
        ("/chat/completions", chat(model="m" * 129), 400),
        ("/responses", ask(conversation="c" * 129), 400),
        ("/responses", ask(conversation="c\0d"), 400),
        ("/responses", ask(input=[{"role": "user"}] * 10_001), 400),
        ("/chat/completions", chat(messages=[{"role": "user"}] * 10_001), 400),
        ("/responses", ask(input=7), 400),
        ("/responses", ask(previous_response_id="resp_unknownunknownunknown"), 400),
        ("/responses", ask(previous_response_id="something else"), 400),
        ("/chat/completions", chat(messages=[{"role": "user", "content": "x" * 9_000_000}]), 413),
    ],
)
def test_what_cannot_be_served_is_refused_in_the_shape_of_the_protocol(
    serve: Serve, path: str, body: object, status: int
) -> None:
    source = Script("x")
    server = serve(app_of(lambda _: source()))

    reply = post(server, path, body)
    error: Any = reply.json()["error"]

    assert reply.status == status
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_request")
    assert error.keys() == {"message", "type", "param", "code"}
    assert source.opened == 0


@pytest.mark.parametrize("depth", [100, 900, 960, 1_000, 5_000])
def test_no_depth_of_nesting_is_an_error_of_the_server(serve: Serve, depth: int) -> None:
    server = serve(app_of(playing("x")))
    nested = "[" * depth + "]" * depth
    call = {"type": "function_call", "call_id": "c1", "name": "n", "arguments": nested}
    bodies = [msgspec.json.encode(ask(input=[call])), b'{"input": [{"type": "x", "output": %b}]}' % nested.encode()]

    replies = [fetch(server.port, "POST", "/v1/responses", JSON, body) for body in bodies]

    assert {reply.status for reply in replies} <= {200, 400}


def test_a_body_that_any_page_could_send_is_refused(serve: Serve) -> None:
    server = serve(app_of(playing("x")))

    assert post(server, "/chat/completions", chat(), {"content-type": "text/plain"}).status == 415


@pytest.mark.parametrize("response_id", ["resp_unknownunknownunknown", "unknown", "resp_", "resp_" + "a" * 200])
def test_an_unknown_response_is_not_found(serve: Serve, response_id: str) -> None:
    server = serve(app_of(playing("x")))

    assert get(server, f"/responses/{response_id}").status == 404
    assert get(server, f"/responses/{response_id}?stream=true").status == 404
    assert post(server, f"/responses/{response_id}/cancel", {}).status == 404


@pytest.mark.parametrize("number", ["", "-1", "x", "1.5", "9" * 16, "%C2%B2"])
def test_a_place_that_is_no_number_is_refused(serve: Serve, number: str) -> None:
    server = serve(app_of(playing("x")))
    ended: Any = post(server, "/responses", ask()).json()

    assert get(server, f"/responses/{ended['id']}?stream=true&starting_after={number}").status == 400


def test_another_owners_response_is_unknown(serve: Serve) -> None:
    server = serve(owned(Script("x")))
    ended: Any = post(server, "/responses", ask(), ANN).json()
    url = f"/responses/{ended['id']}"

    assert get(server, url, ANN).status == 200
    assert [
        get(server, url, BOB).status,
        get(server, f"{url}?stream=true", BOB).status,
        post(server, f"{url}/cancel", {}, BOB).status,
        post(server, "/responses", ask(previous_response_id=ended["id"]), BOB).status,
    ] == [404, 404, 404, 400]


@pytest.mark.parametrize("path", ["/models", "/models/tailrace", "/responses/resp_unknownunknownunknown"])
def test_a_stranger_is_refused_everywhere(serve: Serve, path: str) -> None:
    server = serve(owned(Script("x")))

    assert get(server, path).status == 401
    assert post(server, "/chat/completions", chat()).status == 401


# Models, and where the surface is


def test_the_models_are_those_that_the_application_names(serve: Serve) -> None:
    tail = Tailrace()
    app = Starlette(routes=[Mount("/api", tail.openai(playing("x"), models=["one", "org/two"]))])
    server = serve(app)

    listed: Any = fetch(server.port, "GET", "/api/models").json()
    found = fetch(server.port, "GET", "/api/models/org/two")
    missing = fetch(server.port, "GET", "/api/models/three")

    assert [model["id"] for model in listed["data"]] == ["one", "org/two"]
    assert found.json() == {"id": "org/two", "object": "model", "created": 0, "owned_by": "tailrace"}
    assert (missing.status, missing.error_code) == (404, "model_not_found")


def test_a_surface_has_a_model() -> None:
    with pytest.raises(ValueError, match="at least one model"):
        Tailrace().openai(playing("x"), models=[])


def test_an_agent_can_be_a_generator(serve: Serve) -> None:
    async def agent(asked: AgentRequest) -> AsyncIterator[str]:
        yield f"You asked: {asked.text}"

    server = serve(app_of(agent))

    assert b"You asked: What time is it?" in post(server, "/chat/completions", chat()).body


# Several workers


def test_another_worker_reads_on_polls_and_cancels(serve: Serve, tmp_path: Path) -> None:
    gate = Gate()
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    here, there = (
        serve(app_of(playing("It is ", gate, "noon."), Tailrace(url, heartbeat_seconds=NEVER_SECONDS)))
        for _ in range(2)
    )
    first, second = (post(here, "/responses", ask(background=True)).json()["id"] for _ in range(2))

    cancelled: Any = post(there, f"/responses/{second}/cancel", {}).json()
    with open_stream(there.port, "GET", f"/v1/responses/{first}?stream=true&starting_after=3") as stream:
        delta = stream.next()
        running: Any = get(there, f"/responses/{first}").json()
        gate.open()
        rest = stream.rest()

    assert (cancelled["status"], text_of(cancelled)) == ("cancelled", "It is ")
    assert (running["status"], text_of(running)) == ("in_progress", "It is ")
    assert msgspec.json.decode(delta.data)["delta"] == "It is "
    assert text_of(msgspec.json.decode(rest[-1].data)["response"]) == "It is noon."
