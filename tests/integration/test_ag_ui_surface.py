"""AG-UI's routes around an agent: one run for each run id, found again by whoever has a right to it."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import pytest
from fastapi import Depends, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from tailrace import Tailrace
from tailrace.events import Interrupt, RunPaused, TextDelta, ToolArgsDelta, ToolStarted
from tailrace.fold import Message, ReasoningPart, TextPart, ToolPart
from tailrace.web.mounts.contract import AgentRequest
from tests.integration.support.client import Reply, fetch, open_stream
from tests.integration.support.frames import events_of, last_id_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script

Serve = Callable[..., AppServer]
Told = dict[str, Any]

RUN, THREAD = "run-0123456789abcdef0123", "thread-0123456789abcdef"
JSON = {"content-type": "application/json", "accept": "text/event-stream"}


class Agent:
    """Plays a script for each request, and keeps what it was asked."""

    def __init__(self, *items: object) -> None:
        self.asked: list[AgentRequest] = []
        self.script = Script(*items)

    def __call__(self, request: AgentRequest) -> AsyncIterator[Any]:
        self.asked.append(request)
        return self.script()


class Notebook:
    """A history that knows one conversation."""

    def __init__(self, *messages: Message, thread: str = THREAD, owner: str | None = None) -> None:
        self._messages = messages
        self._key = (thread, owner)

    async def messages(self, thread: str, owner: str | None) -> Sequence[Message]:
        return self._messages if (thread, owner) == self._key else []


def who_asks(request: Request) -> str:
    return request.headers["who"]


def served(serve: Serve, agent: Agent, history: Notebook | None = None, **options: Any) -> int:  # noqa: ANN401
    app = Starlette()
    tail = Tailrace(**options)
    tail.install(app, "/runs")
    tail.ag_ui(agent, history).install(app)
    return serve(app).port


def asking(text: str = "Hi?", *, run: str = RUN, thread: str = THREAD, **fields: object) -> bytes:
    messages = [{"id": "q", "role": "user", "content": text}]
    return msgspec.json.encode({"threadId": thread, "runId": run, "messages": messages, **fields})


def post(port: int, body: bytes, headers: dict[str, str] | None = None, path: str = "/agui") -> Reply:
    return fetch(port, "POST", path, {**JSON, **(headers or {})}, body)


def told(reply: Reply) -> list[Told]:
    assert reply.status == 200, reply.body
    return [msgspec.json.decode(event.data, type=Told) for event in events_of(reply.body)]


def types(reply: Reply) -> list[str]:
    return [event["type"] for event in told(reply)]


def text_of(reply: Reply) -> str:
    return "".join(event["delta"] for event in told(reply) if event["type"] == "TEXT_MESSAGE_CONTENT")


def conversation(hydrated: dict[str, object]) -> list[Told]:
    return msgspec.convert(hydrated["messages"], list[Told])


# Starting


def test_a_post_runs_the_agent_and_tells_it_under_the_clients_ids(serve: Serve) -> None:
    port = served(serve, Agent("Hel", "lo"))

    reply = post(port, asking(protocolVersion="1.0"))

    first, *_, last = told(reply)
    assert (first["type"], first["runId"], first["threadId"], first["protocolVersion"]) == (
        "RUN_STARTED",
        RUN,
        THREAD,
        "1.0",
    )
    assert (last["type"], last["runId"], last["outcome"]) == ("RUN_FINISHED", RUN, {"type": "success"})
    assert text_of(reply) == "Hello"
    assert reply.body.endswith(b"\n\n: end\n")
    assert RUN not in reply.head["location"]


def test_the_log_at_the_location_is_the_same_stream(serve: Serve) -> None:
    port = served(serve, Agent("Hello"))
    reply = post(port, asking(protocolVersion="1.0"))

    again = fetch(port, "GET", reply.head["location"])

    assert again.body == reply.body


def test_the_agent_is_asked_with_all_that_the_client_sent(serve: Serve) -> None:
    agent = Agent("Hello")
    port = served(serve, agent)
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}
    cut = {"id": "d", "type": "function", "function": {"name": "look", "arguments": '{"x":'}}
    body: Told = {
        "threadId": THREAD,
        "runId": RUN,
        "messages": [
            {"id": "s", "role": "developer", "content": "Be brief."},
            {"id": "q1", "role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image"}]},
            {"id": "r", "role": "reasoning", "content": "Hm.", "encryptedValue": "sig"},
            {"id": "a1", "role": "assistant", "content": "Wait.", "toolCalls": [call, cut]},
            {"id": "t", "role": "tool", "toolCallId": "c", "content": '{"seen": true}'},
            {"id": "u", "role": "tool", "toolCallId": "d", "content": "broken", "error": "It broke."},
            {"id": "v", "role": "tool", "toolCallId": "nobody's", "content": "lost"},
            {"id": "w", "role": "activity", "activityType": "STATUS", "content": {}},
            {"id": "q2", "role": "user", "content": "And?"},
        ],
        "tools": [{"name": "theme", "description": "Changes the theme"}],
        "context": [{"description": "Time", "value": "noon"}],
        "state": {"count": 1},
        "forwardedProps": {"anything": [None]},
        "resume": [{"interruptId": "i", "status": "resolved"}],
    }

    assert post(port, msgspec.json.encode(body)).status == 200

    (asked,) = agent.asked
    assert (asked.text, asked.thread, asked.owner, asked.state) == ("And?", THREAD, None, {"count": 1})
    assert asked.tools == body["tools"]
    assert asked.body == body
    assert list(asked.messages) == [
        Message(id="s", role="system", parts=[TextPart(text="Be brief.", done=True)]),
        Message(id="q1", role="user", parts=[TextPart(text="Look", done=True)]),
        Message(
            id="a1",
            role="assistant",
            parts=[
                ReasoningPart(text="Hm.", done=True, signature="sig"),
                TextPart(text="Wait.", done=True),
                ToolPart(call_id="c", name="look", state="done", input={"x": 1}, output={"seen": True}),
                ToolPart(
                    call_id="d",
                    name="look",
                    state="error",
                    args='{"x":',
                    error={"code": "error", "message": "It broke."},
                ),
            ],
        ),
        Message(id="v", role="tool", parts=[ToolPart(call_id="nobody's", state="done", output="lost")]),
        Message(id="q2", role="user", parts=[TextPart(text="And?", done=True)]),
    ]


def test_the_text_is_empty_if_it_is_not_the_users_turn(serve: Serve) -> None:
    agent = Agent("Hello")
    port = served(serve, agent)
    messages = [{"id": "q", "role": "user", "content": "Hi?"}, {"id": "a", "role": "assistant", "content": "Yes"}]

    post(port, msgspec.json.encode({"threadId": THREAD, "runId": RUN, "messages": messages}))

    assert agent.asked[0].text == ""


def test_a_repeated_post_finds_the_run_of_the_first(serve: Serve) -> None:
    agent = Agent("Hello")
    port = served(serve, agent)

    replies = [post(port, asking()) for _ in range(3)]

    assert len({reply.body for reply in replies}) == 1
    assert agent.script.opened == len(agent.asked) == 1


@pytest.mark.parametrize("other", [asking("Bye?"), asking(thread="another-thread-0123456789"), asking(state=1)])
def test_the_same_run_id_for_something_else_is_a_conflict(serve: Serve, other: bytes) -> None:
    port = served(serve, Agent("Hello"))
    post(port, asking())

    reply = post(port, other)

    assert (reply.status, reply.error_code) == (409, "conflict")


def test_a_run_of_another_owner_is_another_run(serve: Serve) -> None:
    agent = Agent("Hello")
    port = served(serve, agent, owner=who_asks)

    replies = [post(port, asking(run="r1"), {"who": who}) for who in ("ann", "bob")]

    assert [text_of(reply) for reply in replies] == ["Hello", "Hello"]
    assert [asked.owner for asked in agent.asked] == ["ann", "bob"]
    assert fetch(port, "GET", replies[0].head["location"], {"who": "bob"}).status == 404


def test_a_failure_before_the_first_word_is_a_status(serve: Serve) -> None:
    port = served(serve, Agent(HTTPException(402, "Pay first")))

    assert post(port, asking()).status == 402


def test_a_client_that_prefers_json_gets_one_document(serve: Serve) -> None:
    port = served(serve, Agent("Hello"))

    reply = post(port, asking(), {"accept": "application/json"})

    document = reply.json()
    assert (document["threadId"], document["status"]) == (THREAD, "completed")


# What is refused


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"no json", 422),
        (b"[]", 422),
        (b"{}", 422),
        (msgspec.json.encode({"threadId": THREAD, "runId": ""}), 422),
        (asking(run="r" * 129), 422),
        (asking(run="a\nb" + RUN), 422),
        (asking(thread="t" * 129), 422),
        (asking(run="short"), 400),
        (asking(messages=[{"role": "assistant", "toolCalls": [{"id": 1}]}]), 422),
        (asking(messages=[{"role": "user", "content": [1]}]), 422),
        (asking(messages=[{"role": "user"}] * 2_001), 422),
        (b'{"x": "' + b"x" * 8 * 1024**2 + b'"}', 413),
    ],
)
def test_a_body_that_is_none_starts_nothing(serve: Serve, body: bytes, status: int) -> None:
    agent = Agent("Hello")
    port = served(serve, agent)

    reply = post(port, body)

    assert reply.status == status
    assert reply.error_code in {"invalid_request", "key_invalid"}
    assert not agent.asked


@pytest.mark.parametrize("depth", [100, 900, 940, 950, 960, 970, 980, 990, 1_000, 5_000])
@pytest.mark.parametrize("field", ["state", "forwardedProps", "tools"])
def test_no_depth_of_nesting_is_an_error_of_the_server(serve: Serve, field: str, depth: int) -> None:
    port = served(serve, Agent("Hello"))
    nested = b'[{"a":' + b"[" * depth + b"]" * depth + b"}]"

    assert post(port, asking(**{field: "-"}).replace(b'"-"', nested)).status in {200, 400, 422}


def test_a_body_of_another_type_is_refused(serve: Serve) -> None:
    port = served(serve, Agent("Hello"))

    assert post(port, asking(), {"content-type": "text/plain"}).status == 415


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/agui", 400),
        ("/agui?runId=short", 400),
        (f"/agui?runId={'r' * 129}", 400),
        (f"/agui?runId={RUN}", 404),
        ("/agui?runId=" + "%20" * 30, 404),
        (f"/agui?runId={RUN}&offset=x", 400),
    ],
)
def test_a_get_that_names_nothing_is_refused(serve: Serve, target: str, status: int) -> None:
    port = served(serve, Agent("Hello"))

    assert fetch(port, "GET", target).status == status


def test_a_version_that_is_not_spoken_is_refused(serve: Serve) -> None:
    port = served(serve, Agent("Hello"))

    assert post(port, asking(), path="/agui?protocol_version=9").status == 400


# The version of the protocol


@pytest.mark.parametrize(
    ("path", "declared", "expected"),
    [
        ("/agui", None, "RUN_ERROR"),
        ("/agui", "0.9", "RUN_ERROR"),
        ("/agui", "1.0", "RUN_FINISHED"),
        ("/agui", "1.7", "RUN_FINISHED"),
        ("/agui?protocol_version=1.0", None, "RUN_FINISHED"),
    ],
)
def test_a_cancelled_run_is_told_in_the_clients_version(
    serve: Serve, path: str, declared: str | None, expected: str
) -> None:
    port = served(serve, Agent("Hello", Gate()))
    body = asking(**({} if declared is None else {"protocolVersion": declared}))

    with open_stream(port, "POST", path, JSON, body=body) as reader:
        reader.next()
        accepted = fetch(port, "POST", f"/agui/{RUN}/cancel")
        *_, last = [msgspec.json.decode(event.data, type=Told) for event in reader.rest()]

    assert (accepted.status, accepted.json()) == (202, {"runId": RUN, "accepted": True})
    assert last["type"] == expected
    assert last.get("outcome", {"type": "cancelled"}) == {"type": "cancelled"}


def test_a_paused_run_tells_what_it_waits_for(serve: Serve) -> None:
    interrupts = [Interrupt(id="i", kind="approval", message="May I?")]
    port = served(serve, Agent("Well", RunPaused(interrupts=interrupts)))
    pending = [{"id": "i", "reason": "approval", "message": "May I?"}]

    declared = told(post(port, asking(run=RUN + "1", protocolVersion="1.0")))
    plain = told(post(port, asking(run=RUN + "2")))
    hydrated = fetch(port, "GET", f"/agui?threadId={THREAD}").json()

    assert declared[-1]["outcome"] == {"type": "interrupt", "interrupts": pending}
    assert [event.get("value") for event in plain[-2:]] == [pending, None]
    assert plain[-1]["type"] == "RUN_FINISHED"
    assert hydrated["interrupts"] == {"runId": RUN + "2", "pending": pending}


# Coming back


def test_a_post_with_a_place_reads_on_and_starts_nothing(serve: Serve) -> None:
    agent = Agent("one", TextDelta("two"), "three")
    port = served(serve, agent)
    whole = post(port, asking()).body
    frames = whole.split(b"\n\n")[:-1]

    for count in range(1, len(frames)):
        seen = b"\n\n".join(frames[:count]) + b"\n\n"
        rest = post(port, asking(), {"last-event-id": last_id_of(seen)})

        assert seen + rest.body == whole
    assert agent.script.opened == 1


def test_a_post_with_a_place_in_no_run_is_not_a_start(serve: Serve) -> None:
    agent = Agent("Hello")
    port = served(serve, agent)

    reply = post(port, asking(), {"last-event-id": "3"})

    assert (reply.status, reply.error_code) == (404, "run_not_found")
    assert not agent.asked


def test_a_get_reads_a_run_from_its_beginning(serve: Serve) -> None:
    port = served(serve, Agent("Hello"))
    whole = post(port, asking()).body

    replay = fetch(port, "GET", f"/agui?runId={RUN}&offset=-1")
    rest = fetch(port, "GET", f"/agui?runId={RUN}&offset=-1", {"last-event-id": "1"})
    after = fetch(port, "GET", f"/agui?runId={RUN}&offset=1")
    head = fetch(port, "HEAD", f"/agui?runId={RUN}&offset=-1")

    assert replay.body == whole
    assert rest.body == after.body
    assert whole.endswith(rest.body)
    assert (head.status, head.head["content-type"], head.body) == (200, "text/event-stream", b"")


def test_a_place_in_another_run_is_none_in_this_one(serve: Serve) -> None:
    port = served(serve, Agent("Hello"))
    own = post(port, asking()).head["location"].split("/")[2]
    other = post(port, asking(run=RUN + "2")).head["location"].split("/")[2]

    statuses = {
        run_id: fetch(port, "GET", f"/agui?runId={RUN}", {"last-event-id": f"{run_id}:1"}).status
        for run_id in (own, other)
    }

    assert statuses == {own: 200, other: 400}


def test_a_run_that_began_elsewhere_is_found_by_its_own_id(serve: Serve) -> None:
    agent = Agent("Hello")
    port = served(serve, agent)
    run_id = post(port, asking()).head["location"].split("/")[2]

    replay = fetch(port, "GET", f"/agui?runId={run_id}")

    assert text_of(replay) == "Hello"
    assert agent.script.opened == 1


# Joining


def test_a_client_that_joins_is_told_the_conversation_so_far(serve: Serve) -> None:
    gate = Gate()
    port = served(serve, Agent("Hel", ToolStarted(call_id="c", name="look"), ToolArgsDelta("{"), gate, "lo"))
    question = {"id": "q", "role": "user", "content": [{"type": "text", "text": "Hi?"}]}
    join = asking(messages=[question], forwardedProps={"tailrace": {"join": True}}, protocolVersion="1.0")

    with (
        open_stream(port, "POST", "/agui", JSON, body=asking()) as first,
        open_stream(port, "POST", "/agui", JSON, body=join) as second,
    ):
        while "TOOL_CALL_ARGS" not in (event := first.next()).data:
            pass
        prelude = [second.next() for _ in range(3)]
        gate.open()
        rests = [reader.rest() for reader in (first, second)]

    shown = [msgspec.json.decode(event.data, type=Told) for event in prelude]
    assert event.id
    assert [event["type"] for event in shown] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "TOOL_CALL_START"]
    assert shown[1]["messages"][0] == question
    assert shown[1]["messages"][1]["content"] == "Hel"
    assert [event.id for event in prelude] == [""] * 3
    assert [event.id for event in rests[0]] == [event.id for event in rests[1]]


def test_a_client_that_joins_with_nothing_is_told_the_history(serve: Serve) -> None:
    question = Message(id="q", role="user", parts=[TextPart(text="Hi?")])
    port = served(serve, Agent("Hello"), Notebook(question))
    post(port, asking())

    shown = told(post(port, asking(messages=[], forwardedProps={"tailrace": {"join": True}})))

    assert [event["type"] for event in shown] == [
        "RUN_STARTED",
        "MESSAGES_SNAPSHOT",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert [message["content"] for message in shown[1]["messages"]] == ["Hi?", "Hello"]


@pytest.mark.parametrize("props", [None, [], {"tailrace": 1}, {"tailrace": {"join": "yes"}}, {"join": True}])
def test_whatever_else_is_forwarded_is_the_agents(serve: Serve, props: object) -> None:
    agent = Agent("Hello")
    port = served(serve, agent)

    assert types(post(port, asking(forwardedProps=props)))[-1] == "RUN_FINISHED"
    assert agent.asked[0].body["forwardedProps"] == props


def test_joining_a_run_that_is_not_there_starts_none(serve: Serve) -> None:
    agent = Agent("Hello")
    port = served(serve, agent)

    assert post(port, asking(forwardedProps={"tailrace": {"join": True}})).status == 404
    assert not agent.asked


# A conversation


def test_a_thread_tells_which_run_is_active_by_the_clients_id(serve: Serve) -> None:
    gate = Gate()
    port = served(serve, Agent("Hello", gate))

    with open_stream(port, "POST", "/agui", JSON, body=asking()) as reader:
        reader.next()
        active = fetch(port, "GET", f"/agui?threadId={THREAD}").json()
        gate.open()
        reader.rest()
    done = fetch(port, "GET", f"/agui?threadId={THREAD}").json()

    assert active == {"messages": [], "activeRun": {"runId": RUN}, "interrupts": None}
    assert (done["activeRun"], done["interrupts"]) == (None, None)
    (message,) = conversation(done)
    assert (message["role"], message["parts"]) == ("assistant", [{"type": "text", "content": "Hello"}])


def test_the_history_is_told_in_tanstacks_form_and_in_ag_uis(serve: Serve) -> None:
    history = Notebook(
        Message(id="q", role="user", parts=[TextPart(text="Look")]),
        Message(
            role="assistant",
            parts=[
                ReasoningPart(text="Hm.", signature="s"),
                ToolPart(call_id="c", name="look", state="done", input={"x": 1}, output={"y": 2}),
                ToolPart(call_id="d", name="fail", state="error", input={}, error={"code": "x", "message": "No."}),
                ToolPart(call_id="e", name="wait", state="started", args="{"),
            ],
        ),
    )
    port = served(serve, Agent("Hello"), history)

    parts = fetch(port, "GET", f"/agui?threadId={THREAD}").json()["messages"]
    plain = conversation(fetch(port, "GET", f"/agui?threadId={THREAD}&messages=ag-ui").json())

    assert parts == [
        {"id": "q", "role": "user", "parts": [{"type": "text", "content": "Look"}]},
        {
            "id": "message-2",
            "role": "assistant",
            "parts": [
                {"type": "thinking", "content": "Hm.", "signature": "s"},
                {
                    "type": "tool-call",
                    "id": "c",
                    "name": "look",
                    "arguments": '{"x":1}',
                    "state": "complete",
                    "input": {"x": 1},
                    "output": {"y": 2},
                },
                {"type": "tool-result", "toolCallId": "c", "state": "complete", "content": '{"y":2}'},
                {
                    "type": "tool-call",
                    "id": "d",
                    "name": "fail",
                    "arguments": "{}",
                    "state": "error",
                    "input": {},
                    "output": {"error": "No."},
                },
                {"type": "tool-result", "toolCallId": "d", "state": "error", "content": "No.", "error": "No."},
                {"type": "tool-call", "id": "e", "name": "wait", "arguments": "{", "state": "input-streaming"},
            ],
        },
    ]
    assert [message["role"] for message in plain] == ["user", "reasoning", "assistant", "tool", "tool"]


def test_what_was_stored_of_the_active_run_is_left_to_the_run(serve: Serve) -> None:
    gate = Gate()
    stored = [
        Message(id="q", role="user", parts=[TextPart(text="Hi?")]),
        Message(id="answer", role="assistant", parts=[TextPart(text="Hel")]),
    ]
    port = served(serve, Agent(TextDelta("Hello", message_id="answer"), gate), Notebook(*stored))

    with open_stream(port, "POST", "/agui", JSON, body=asking()) as reader:
        while "CONTENT" not in reader.next().data:
            pass
        told_now = fetch(port, "GET", f"/agui?threadId={THREAD}&messages=ag-ui").json()["messages"]
        gate.open()

    assert told_now == [{"id": "q", "role": "user", "content": "Hi?"}]


def test_of_a_thread_that_can_be_guessed_nothing_is_told(serve: Serve) -> None:
    message = Message(id="q", role="user", parts=[TextPart(text="Hi?")])
    port = served(serve, Agent("Hello"), Notebook(message, thread="t1"))
    post(port, asking(thread="t1"))

    reply = fetch(port, "GET", "/agui?threadId=t1").json()

    assert reply == {"messages": [], "activeRun": None, "interrupts": None}


def test_with_owners_a_thread_is_its_owners(serve: Serve) -> None:
    gate = Gate()
    message = Message(id="q", role="user", parts=[TextPart(text="Hi?")])
    history = Notebook(message, thread="t1", owner="ann")
    port = served(serve, Agent("Hello", gate), history, owner=who_asks)

    with open_stream(port, "POST", "/agui", {**JSON, "who": "ann"}, body=asking(run="r1", thread="t1")) as reader:
        reader.next()
        hers = fetch(port, "GET", "/agui?threadId=t1", {"who": "ann"}).json()
        his = fetch(port, "GET", "/agui?threadId=t1", {"who": "bob"}).json()
        refused = fetch(port, "POST", "/agui/r1/cancel", {"who": "bob"})
        stopped = fetch(port, "POST", "/agui/r1/cancel", {"who": "ann"})

    assert (hers["activeRun"], hers["messages"] != []) == ({"runId": "r1"}, True)
    assert his == {"messages": [], "activeRun": None, "interrupts": None}
    assert (refused.status, stopped.status) == (404, 202)


# Cancelling


def test_cancelling_a_run_that_has_ended_changes_nothing(serve: Serve) -> None:
    port = served(serve, Agent("Hello"))
    post(port, asking())

    reply = fetch(port, "POST", f"/agui/{RUN}/cancel")

    assert (reply.status, reply.json()) == (200, {"runId": RUN, "accepted": False})


def test_cancelling_an_unknown_run_is_not_found(serve: Serve) -> None:
    port = served(serve, Agent("Hello"))

    assert fetch(port, "POST", f"/agui/{RUN}/cancel").status == 404


# Where it is installed


def test_it_can_be_mounted(serve: Serve) -> None:
    tail = Tailrace()
    agent = Agent("Hello")
    app = Starlette(routes=[Mount("/agents/one", tail.ag_ui(agent))])
    tail.install(app, "/runs")
    port = serve(app).port

    assert text_of(post(port, asking(), path="/agents/one/")) == "Hello"


def test_on_fastapi_dependencies_guard_it(serve: Serve) -> None:
    def check(request: Request) -> None:
        if "who" not in request.headers:
            raise HTTPException(401)

    app, tail = FastAPI(), Tailrace()
    tail.install(app, "/runs")
    tail.ag_ui(Agent("Hello")).install(app, "/chat", dependencies=[Depends(check)])
    port = serve(app).port

    refused, answered = post(port, asking(), path="/chat"), post(port, asking(), {"who": "ann"}, path="/chat")

    assert (refused.status, text_of(answered)) == (401, "Hello")
