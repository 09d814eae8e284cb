"""Turns of the chat application: what they write down, when they may begin, and what comes after an answer."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

from tailrace import RunCompleted, Tailrace, TextDelta
from tailrace.chat.agent.contract import ChatAgent, Question
from tailrace.chat.app import create_app
from tailrace.chat.conversations.contract import BegunTurn, NewTurn
from tailrace.chat.conversations.settling import Settler
from tailrace.chat.conversations.store import Conversations
from tailrace.chat.identity.anonymous import Anonymous
from tailrace.chat.identity.contract import owner_by
from tailrace.chat.limits.admission import Admissions, Quotas
from tailrace.chat.routes import ChatTerms
from tailrace.chat.turns import AgentLike, Records
from tailrace.events import Event, RunFailed, ToolReady, ToolStarted
from tailrace.testing import AsgiClient
from tailrace.web.errors import RefusedError

Make = Callable[..., FastAPI]


class Agent:
    """Answers with an echo, in two pieces; suggests what it is told to, when it is told to."""

    def __init__(self, *, end: Event | None = None, suggestions: Sequence[str] = ("more?",)) -> None:
        self.asked: list[Question] = []
        self.suggesting = asyncio.Event()
        self.may_suggest = asyncio.Event()
        self.closed = 0
        self._end = end
        self._suggestions = suggestions

    async def answer(self, question: Question) -> AsyncGenerator[Event | str]:
        self.asked.append(question)
        try:
            yield "You said "
            yield TextDelta(question.text)
            if self._end is not None:
                yield self._end
        finally:
            self.closed += 1

    async def suggest(self, question: Question, answer: str) -> Sequence[str]:
        self.suggesting.set()
        await self.may_suggest.wait()
        return self._suggestions

    async def aclose(self) -> None:
        pass


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def application(
        agent: AgentLike | ChatAgent, *, quotas: Quotas | None = None, terms: ChatTerms | None = None
    ) -> FastAPI:
        tail = Tailrace(owner=owner_by(Anonymous(hosts=["test"]).identify))
        conversations = Conversations(f"sqlite:///{tmp_path}/chat.db")
        return create_app(
            agent,
            tail,
            records=Records(conversations, Settler(tail, conversations)),
            limits=None if quotas is None else Admissions(quotas),
            terms=terms,
        )

    return application


@asynccontextmanager
async def client_of(make: Make, *parts: object, **more: object) -> AsyncGenerator["Chat"]:
    # It reads its page from a file, which an event loop does not wait for.
    app = await asyncio.to_thread(make, *parts, **more)
    async with AsgiClient(app) as client:
        yield Chat(client)


class Chat:
    """Speaks to the chat application."""

    def __init__(self, client: AsgiClient) -> None:
        self._client = client

    async def ask(self, method: str, url: str, body: object = None, **headers: str) -> tuple[int, bytes]:
        """Status and body of one exchange."""
        sent = {"content-type": "application/json", "host": "localhost", **headers}
        content = b"" if body is None else msgspec.json.encode(body)
        async with self._client.stream(method, url, headers=sent, content=content) as response:
            return response.status, await response.read()

    async def say(self, url: str = "/chat", **body: object) -> str:
        """Say something; the stream, whole."""
        status, content = await self.ask("POST", url, body)
        assert status == 200, content
        return content.decode()

    async def conversation(self, conversation_id: str) -> dict[str, Any]:
        """A conversation as it is stored."""
        status, content = await self.ask("GET", f"/conversations/{conversation_id}")
        assert status == 200, content
        return msgspec.json.decode(content, type=dict[str, Any])


async def test_a_turn_stands_in_its_conversation_with_the_text_of_its_log(make: Make) -> None:
    async with client_of(make, Agent()) as chat:
        stream = await chat.say(message="hello", conversation_id="c1")
        stored = await chat.conversation("c1")

    assert "run.completed" in stream
    assert [(message["role"], message["text"], message["status"]) for message in stored["messages"]] == [
        ("user", "hello", "completed"),
        ("assistant", "You said hello", "completed"),
    ]


async def test_a_new_conversation_that_failed_at_once_is_begun_by_the_same_key(make: Make) -> None:
    failures = [RuntimeError("not yet")]

    def agent(text: str) -> list[str]:
        if failures:
            raise failures.pop()
        return ["You said ", text]

    async with client_of(make, agent) as chat:
        key = {"idempotency-key": "0123456789-0123456789"}
        answers = [await chat.ask("POST", "/chat", {"message": "hello"}, **key) for _ in range(3)]
        _, listed = await chat.ask("GET", "/conversations")

    assert [status for status, _ in answers] == [500, 200, 200]
    assert answers[1] == answers[2]
    assert len(msgspec.json.decode(listed)["conversations"]) == 1


async def test_a_turn_that_is_stopped_while_it_is_written_down_is_finished(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, finish = Conversations.begin, Conversations.finish
    written, finished = asyncio.Event(), asyncio.Event()

    async def beginning(self: Conversations, turn: NewTurn) -> BegunTurn:
        begun = await begin(self, turn)
        written.set()
        await asyncio.Event().wait()
        return begun

    async def finishing(self: Conversations, *told: Any, **more: Any) -> bool:  # noqa: ANN401  those of `finish`
        done = await finish(self, *told, **more)
        finished.set()
        return done

    monkeypatch.setattr(Conversations, "begin", beginning)
    monkeypatch.setattr(Conversations, "finish", finishing)
    async with client_of(make, Agent()) as chat:
        saying = asyncio.create_task(chat.say(message="hello", conversation_id="c1"))
        await written.wait()
        _, listed = await chat.ask("GET", "/runs?thread=c1")
        (run,) = msgspec.json.decode(listed)["runs"]
        await chat.ask("POST", f"/runs/{run['run_id']}/cancel")
        await saying
        # Nobody has to look at it for that.
        await asyncio.wait_for(finished.wait(), 10)
        stored = await chat.conversation("c1")

    assert stored["messages"][1]["status"] == "cancelled"


async def test_the_agent_is_told_what_was_said_before(make: Make) -> None:
    agent = Agent()
    async with client_of(make, agent) as chat:
        await chat.say(message="one", conversation_id="c1")
        await chat.say(message="two", conversation_id="c1", branch_id="north")

    assert [message.text for message in agent.asked[1].history] == ["one", "You said one"]
    assert (agent.asked[1].text, agent.asked[1].branch_id) == ("two", "north")


async def test_a_message_is_answered_anew_beside_its_first_answer(make: Make) -> None:
    agent = Agent()
    async with client_of(make, agent) as chat:
        await chat.say(message="one", conversation_id="c1")
        asked = (await chat.conversation("c1"))["messages"][0]["id"]
        await chat.say(regenerate=asked, conversation_id="c1")
        stored = await chat.conversation("c1")

    assert [message["text"] for message in stored["messages"]] == ["one", "You said one"]
    assert len(stored["messages"][1]["siblings"]) == 2
    assert [(question.text, list(question.history)) for question in agent.asked] == [("one", []), ("one", [])]


async def test_a_message_is_edited_by_naming_what_it_follows(make: Make) -> None:
    agent = Agent()
    async with client_of(make, agent) as chat:
        await chat.say(message="one", conversation_id="c1")
        await chat.say(message="another", conversation_id="c1", parent_id="")
        stored = await chat.conversation("c1")

    assert [message["text"] for message in stored["messages"]] == ["another", "You said another"]
    assert len(stored["messages"][0]["siblings"]) == 2
    assert list(agent.asked[1].history) == []


async def test_a_request_that_finds_its_run_writes_nothing_and_is_not_counted(make: Make) -> None:
    agent = Agent()
    async with client_of(make, agent, quotas=Quotas(user_runs_per_minute=1)) as chat:
        body = {"message": "hello", "conversation_id": "c1"}
        first = await chat.ask("POST", "/chat", body, **{"idempotency-key": "k" * 20})
        again = await chat.ask("POST", "/chat", body, **{"idempotency-key": "k" * 20})
        refused = await chat.ask("POST", "/chat", {"message": "more", "conversation_id": "c1"})
        stored = await chat.conversation("c1")

    assert first == again
    assert refused[0] == 429
    assert msgspec.json.decode(refused[1])["error"]["code"] == "rate_limited"
    assert len(stored["messages"]) == 2
    assert len(agent.asked) == 1


async def test_a_place_is_free_again_when_the_run_has_ended(make: Make) -> None:
    async with client_of(make, Agent(), quotas=Quotas(user_live_runs=1)) as chat:
        for text in ("one", "two", "three"):
            await chat.say(message=text, conversation_id="c1")
        stored = await chat.conversation("c1")

    assert len(stored["messages"]) == 6


async def test_a_place_is_free_again_when_the_turn_could_not_begin(make: Make) -> None:
    async with client_of(make, Agent(), quotas=Quotas(user_live_runs=1)) as chat:
        unknown = await chat.ask("POST", "/chat", {"regenerate": "msg_0", "conversation_id": "c1"})
        await chat.say(message="hello", conversation_id="c1")

    assert unknown[0] == 422


async def test_an_answer_that_fails_is_written_down_as_far_as_it_came(make: Make) -> None:
    agent = Agent(end=RunFailed(code="provider_truncated", message="The answer ended before it was complete."))
    async with client_of(make, agent) as chat:
        stream = await chat.say(message="hello", conversation_id="c1")
        stored = await chat.conversation("c1")

    answer = stored["messages"][1]
    assert "provider_truncated" in stream
    assert (answer["status"], answer["text"]) == ("failed", "You said hello")
    assert answer["failure"]["code"] == "provider_truncated"
    assert not agent.suggesting.is_set()


async def test_suggestions_that_are_there_at_the_end_come_with_the_answer(make: Make) -> None:
    agent = Agent(end=RunCompleted(finish_reason="stop"))
    agent.may_suggest.set()
    async with client_of(make, agent) as chat:
        stream = await chat.say(message="hello", conversation_id="c1")
        stored = await chat.conversation("c1")

    assert stream.index("more?") < stream.index("run.completed")
    assert stored["messages"][1]["suggestions"] == ["more?"]


async def test_late_suggestions_do_not_delay_the_end_and_are_found_in_the_conversation(make: Make) -> None:
    agent = Agent()
    async with client_of(make, agent) as chat:
        stream = await chat.say(message="hello", conversation_id="c1")
        before = await chat.conversation("c1")
        agent.may_suggest.set()
        async with asyncio.timeout(10):
            while "suggestions" not in (after := await chat.conversation("c1"))["messages"][1]:
                pass

    assert "run.completed" in stream
    assert "more?" not in stream
    assert "suggestions" not in before["messages"][1]
    assert after["messages"][1]["suggestions"] == ["more?"]


async def test_pages_that_take_done_for_the_end_of_everything_get_suggestions_before_it(make: Make) -> None:
    agent = Agent()
    async with client_of(make, agent, terms=ChatTerms(suggestion_seconds=30)) as chat:
        saying = asyncio.create_task(chat.say("/chat?dialect=tokens", message="hello", conversation_id="c1"))
        async with asyncio.timeout(10):
            await agent.suggesting.wait()
        agent.may_suggest.set()
        stream = await saying

    assert stream.index("suggested_questions") < stream.index("[DONE]")


async def test_they_wait_no_longer_than_the_budget(make: Make) -> None:
    agent = Agent()
    async with client_of(make, agent, terms=ChatTerms(suggestion_seconds=0.1)) as chat:
        stream = await chat.say("/chat?dialect=tokens", message="hello", conversation_id="c1")

    assert "suggested_questions" not in stream
    assert "[DONE]" in stream


async def test_nothing_is_suggested_where_that_is_turned_off(make: Make) -> None:
    agent = Agent()
    async with client_of(make, agent, terms=ChatTerms(suggests=False)) as chat:
        await chat.say(message="hello", conversation_id="c1")

    assert not agent.suggesting.is_set()


async def test_suggestions_that_fail_are_no_failure_of_the_answer(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    agent = Agent()
    agent.may_suggest.set()

    async def fail(question: Question, answer: str) -> Sequence[str]:
        raise RuntimeError("broken")

    agent.suggest = fail  # type: ignore[method-assign]
    async with client_of(make, agent) as chat:
        stream = await chat.say(message="hello", conversation_id="c1")

    assert "run.completed" in stream
    assert "no suggestions" in caplog.text


async def test_an_agent_of_ones_own_is_asked_with_the_message_and_written_down(make: Make) -> None:
    def shout(message: str) -> Iterator[str]:
        yield message.upper()

    async with client_of(make, shout) as chat:
        stream = await chat.say(message="hello", conversation_id="c1")
        stored = await chat.conversation("c1")

    assert '"delta":"HELLO"' in stream
    assert stored["messages"][1]["text"] == "HELLO"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"message": " "},
        {"message": "x" * 32_001},
        {"message": "x", "conversation_id": "c\u0000"},
        {"message": "x", "branch_id": "b" * 129},
        {"message": "x", "regenerate": "m1", "conversation_id": "c1"},
        {"regenerate": "m1"},
    ],
)
async def test_what_is_no_turn_is_refused(make: Make, body: dict[str, str]) -> None:
    agent = Agent()
    async with client_of(make, agent) as chat:
        status, content = await chat.ask("POST", "/chat", body)

    assert status == 422
    assert msgspec.json.decode(content)["error"]["code"] == "invalid_request"
    assert agent.asked == []


def chat_body(*messages: dict[str, Any], chat_id: str = "chat-of-the-page-1") -> dict[str, Any]:
    """What `useChat` sends."""
    return {"id": chat_id, "messages": list(messages), "trigger": "submit-message"}


def said(message_id: str, text: str) -> dict[str, Any]:
    """A user's message as `useChat` has it."""
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}


class AgentOfThePage(Agent):
    """Has the page do something, and says what came of it."""

    async def answer(self, question: Question) -> AsyncGenerator[Event | str]:
        self.asked.append(question)
        if question.text:
            yield "Look: "
            yield ToolStarted(name="look", call_id="call_1", executor="client")
            yield ToolReady(name="look", call_id="call_1", input={"at": "sky"})
            yield RunCompleted(finish_reason="tool_calls")
        else:
            yield "It is blue."


async def test_an_answer_that_a_tool_of_the_page_interrupts_is_one_message_with_its_result(make: Make) -> None:
    agent = AgentOfThePage()
    async with client_of(make, agent) as chat:
        first = await chat.say("/api/chat", **chat_body(said("u1", "what colour?")))
        answer_id = (await chat.conversation("chat-of-the-page-1"))["head_id"]
        ran = {
            "type": "tool-look",
            "toolCallId": "call_1",
            "state": "output-available",
            "input": {"at": "the page cannot change this"},
            "output": {"colour": "blue"},
        }
        answer = {"id": answer_id, "role": "assistant", "parts": [{"type": "text", "text": "Forged: "}, ran]}
        second = await chat.say("/api/chat", **chat_body(said("u1", "what colour?"), answer))
        stored = await chat.conversation("chat-of-the-page-1")
        third = await chat.say("/api/chat", **chat_body(said("u2", "and now?")))

    assert '"toolName":"look"' in first
    assert "It is blue." in second
    assert third
    (_, kept) = stored["messages"]
    assert (kept["id"], kept["status"], kept["text"]) == (answer_id, "completed", "Look: It is blue.")
    call = kept["parts"][1]
    assert (call["input"], call["output"], call["state"]) == ({"at": "sky"}, {"colour": "blue"}, "done")
    assert (agent.asked[1].text, agent.asked[1].history[-1].role) == ("", "assistant")
    assert [message.text for message in agent.asked[2].history] == ["what colour?", "Look: It is blue."]


async def test_a_page_that_sends_all_messages_has_each_written_down_once(make: Make) -> None:
    async with client_of(make, Agent()) as chat:
        await chat.say("/api/chat", **chat_body(said("u1", "one")))
        (_, answer) = (await chat.conversation("chat-of-the-page-1"))["messages"]
        told = {"id": answer["id"], "role": "assistant", "parts": [{"type": "text", "text": answer["text"]}]}
        await chat.say("/api/chat", **chat_body(said("u1", "one"), told, said("u2", "two")))
        stored = await chat.conversation("chat-of-the-page-1")

    assert [message["text"] for message in stored["messages"]] == ["one", "You said one", "two", "You said two"]
    assert [message["id"] for message in stored["messages"][::2]] == ["u1", "u2"]


async def test_a_page_that_regenerates_gets_a_second_answer_beside_the_first(make: Make) -> None:
    async with client_of(make, Agent()) as chat:
        await chat.say("/api/chat", **chat_body(said("u1", "one")))
        body = {**chat_body(said("u1", "one")), "trigger": "regenerate-message"}
        await chat.say("/api/chat", **body)
        stored = await chat.conversation("chat-of-the-page-1")

    assert [message["role"] for message in stored["messages"]] == ["user", "assistant"]
    assert len(stored["messages"][1]["siblings"]) == 2


def test_openapi_says_that_callers_prove_who_they_are() -> None:
    def operations(app: FastAPI) -> list[dict[str, Any]]:
        return [operation for methods in app.openapi()["paths"].values() for operation in methods.values()]

    asked = operations(create_app(Agent(), Tailrace(), takes_tokens=True))
    open_to_all = operations(create_app(Agent(), Tailrace()))

    assert all(operation["security"] == [{"HTTPBearer": []}] for operation in asked)
    assert not any("security" in operation for operation in open_to_all)
    assert len(asked) == len(open_to_all) > 20


async def test_a_start_waits_for_a_source_that_asks_others_before_it_refuses() -> None:
    class NotNowError(RefusedError):
        code = "not_now"

    async def source() -> AsyncIterator[str]:
        # Longer than any start would wait for a first event.
        await asyncio.sleep(0.2)
        raise NotNowError("Not now.", status=429, retry_after_seconds=7)

    tail = Tailrace(early_seconds=0.01)
    app = Starlette()
    tail.install(app, "/runs")
    app.add_route("/start", lambda _: tail.stream(source), methods=["POST"])
    async with AsgiClient(app) as client:
        async with client.stream("POST", "/start") as response:
            late = (response.status, await response.read())
        tail.opening_seconds = 30
        async with client.stream("POST", "/start") as response:
            refused = (response.status, response.headers["retry-after"], await response.read())

    assert late[0] == 200
    assert b'"code":"not_now","message":"Not now."' in late[1]
    assert refused[:2] == (429, "7")
    assert msgspec.json.decode(refused[2])["error"]["code"] == "not_now"


@pytest.mark.parametrize(("method", "url", "code"), [("GET", "/nowhere", 404), ("DELETE", "/chat", 405)])
async def test_what_the_framework_refuses_has_the_shape_of_all_refusals(
    make: Make, method: str, url: str, code: int
) -> None:
    async with client_of(make, Agent()) as chat:
        status, content = await chat.ask(method, url)

    error = msgspec.json.decode(content)["error"]
    assert (status, error["status"]) == (code, code)
    assert error["code"] in {"not_found", "method_not_allowed"}


async def test_a_message_is_bounded_in_whatever_protocol_it_comes(make: Make) -> None:
    agent = Agent()
    async with client_of(make, agent, terms=ChatTerms(message_characters=10)) as chat:
        answers = [
            await chat.ask("POST", "/chat", {"message": "x" * 11}),
            await chat.ask("POST", "/api/chat", chat_body(said("u1", "x" * 11))),
            await chat.ask("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 11}]}),
        ]

    assert [status for status, _ in answers] == [422, 422, 422]
    assert agent.asked == []
