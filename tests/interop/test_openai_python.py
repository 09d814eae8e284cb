"""The openai package reads what we write: its raw loops and helpers, sync and async, background mode and errors."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

import httpx2
import openai
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam
from openai.types.responses import Response, ResponseStreamEvent
from starlette.exceptions import HTTPException
from starlette.requests import Request

from tailrace import Tailrace, events
from tailrace.events import Entry, Event, Terminal
from tailrace.fold import merge
from tailrace.web.mounts.contract import AgentRequest
from tailrace.wire.dialects.registry import get_dialect
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script
from tests.interop.cutting_proxy import CuttingProxy
from tests.interop.story import ANSWER, REASONING, STORY, story
from tests.unit.strategies import TERMINALS, filled, loose_logs, numbered

Serve = Callable[..., AppServer]
Cuts = Callable[[int], CuttingProxy]

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is it like in Paris and Tōkyō?"}]
FAILURES = (events.RunFailed, events.RunInterrupted)
KEY = {"Idempotency-Key": "a key that nobody can guess"}

every_ending = pytest.mark.parametrize("ending", TERMINALS, ids=lambda ending: type(ending).__name__)


def app_of(agent: Callable[[AgentRequest], Any], tail: Tailrace | None = None) -> FastAPI:
    tail = tail or Tailrace()
    app = FastAPI()
    tail.install(app, "/runs")
    tail.openai(agent).install(app)
    return app


def client_at(url: str, *, max_retries: int = 0, http_client: httpx2.Client | None = None) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=max_retries, http_client=http_client)


@pytest.fixture
def server(serve: Serve) -> AppServer:
    """Tells the story to whoever asks."""
    return serve(app_of(lambda _: story()))


@pytest.fixture
def client(server: AppServer) -> Iterator[OpenAI]:
    with client_at(f"http://127.0.0.1:{server.port}") as client:
        yield client


@pytest.fixture
async def async_client(server: AppServer) -> AsyncGenerator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0) as client:
        yield client


def given_body(body: bytes) -> OpenAI:
    """A client that is answered with this stream, whatever it asks."""
    headers = {"content-type": "text/event-stream"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, content=body))
    return client_at("http://server", http_client=httpx2.Client(transport=transport))


def written(log: Iterable[Entry], dialect: str, *, between: bytes = b"") -> bytes:
    encoder = get_dialect(dialect).encoder(run_id="run")
    frames = [frame for entry in log for frame in encoder.encode(entry)]
    return between + between.join(frames) + b": end\n"


def log_of(*content: Event) -> list[Entry]:
    return filled(numbered([events.RunStarted(run_id="run"), *content]))


def content_of(chunks: Iterable[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def chat_by_helper(client: OpenAI) -> Any:  # noqa: ANN401  a completion of a type that depends on what was asked
    with client.chat.completions.stream(model="m", messages=QUESTION) as stream:
        return stream.get_final_completion()


def responses_by_helper(client: OpenAI) -> list[Any]:
    with client.responses.stream(model="m", input="question") as stream:
        return list(stream)


# The story


def test_a_chat_completion_in_a_raw_loop(client: OpenAI) -> None:
    with client.chat.completions.create(
        model="m", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)

    assert content_of(chunks) == ANSWER
    assert "".join(getattr(chunk.choices[0].delta, "reasoning_content", "") for chunk in chunks if chunk.choices) == (
        REASONING
    )
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 46


def test_a_chat_completion_by_the_helper(client: OpenAI) -> None:
    with client.chat.completions.stream(model="m", messages=QUESTION, stream_options={"include_usage": True}) as stream:
        kinds = {event.type for event in stream}
        completion = stream.get_final_completion()

    assert kinds == {"chunk", "content.delta", "content.done"}
    assert (completion.choices[0].message.content, completion.choices[0].finish_reason) == (ANSWER, "stop")
    assert completion.choices[0].message.tool_calls is None
    assert completion.usage is not None
    assert completion.usage.total_tokens == 46


def test_a_chat_completion_as_a_document(client: OpenAI) -> None:
    completion = client.chat.completions.create(model="m", messages=QUESTION)

    assert (completion.choices[0].message.content, completion.choices[0].finish_reason) == (ANSWER, "stop")
    assert completion.choices[0].message.tool_calls is None
    assert completion.model == "m"


async def test_a_chat_completion_read_asynchronously(async_client: AsyncOpenAI) -> None:
    chunks = [
        chunk async for chunk in await async_client.chat.completions.create(model="m", messages=QUESTION, stream=True)
    ]
    async with async_client.chat.completions.stream(model="m", messages=QUESTION) as stream:
        completion = await stream.get_final_completion()

    assert content_of(chunks) == ANSWER
    assert completion.choices[0].message.content == ANSWER


def check_story(response: Response) -> None:
    assert (response.status, response.output_text) == ("completed", ANSWER)
    assert [item.type for item in response.output] == [
        "reasoning",
        "message",
        "mcp_call",
        "mcp_call",
        "message",
        "mcp_call",
    ]
    weather = response.output[2]
    assert weather.type == "mcp_call"
    assert (weather.name, weather.arguments) == ("get_weather", '{"city": "Paris"}')
    assert weather.output == '{"temperature":18,"conditions":"clear"}'
    assert response.usage is not None
    assert response.usage.total_tokens == 46


def test_a_response_in_a_raw_loop(client: OpenAI) -> None:
    with client.responses.create(model="m", input="question", stream=True) as stream:
        told = list(stream)

    assert [event.sequence_number for event in told] == list(range(len(told)))
    assert told[-1].type == "response.completed"
    check_story(told[-1].response)


def test_a_response_by_the_helper(client: OpenAI) -> None:
    with client.responses.stream(model="m", input="question") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        response = stream.get_final_response()

    assert text == ANSWER
    check_story(response)


def test_a_response_as_a_document(client: OpenAI) -> None:
    check_story(client.responses.create(model="m", input="question"))


async def test_a_response_read_asynchronously(async_client: AsyncOpenAI) -> None:
    told = [event async for event in await async_client.responses.create(model="m", input="question", stream=True)]
    async with async_client.responses.stream(model="m", input="question") as stream:
        response = await stream.get_final_response()

    assert [event.sequence_number for event in told] == list(range(len(told)))
    check_story(response)


def test_the_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tailrace"]
    assert client.models.retrieve("tailrace").id == "tailrace"


# Background mode


def resumed(client: OpenAI, response_id: str, seen: int) -> list[ResponseStreamEvent]:
    with client.responses.retrieve(response_id, stream=True, starting_after=seen) as stream:
        return list(stream)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["reset", "half", "eof"])
def test_wherever_a_response_is_cut_the_rest_is_read_without_a_gap(
    server: AppServer, client: OpenAI, cuts: Cuts, how: str
) -> None:
    proxy = cuts(server.port)
    total = len(list(client.responses.create(model="m", input="question", stream=True)))

    for place in range(1, total):
        told: list[ResponseStreamEvent] = []
        with client_at(f"{proxy.url}/~cut{place}:{how}:{place}") as cut:
            try:
                with cut.responses.create(model="m", input="question", background=True, stream=True) as stream:
                    told.extend(stream)
            except openai.APIConnectionError:
                assert how != "eof"
        # What a reset overtakes is lost, and with it, now and then, all that was sent.
        assert len(told) == place if how == "eof" else len(told) <= place
        if not told:
            continue
        assert told[0].type == "response.created"
        response_id = told[0].response.id

        told += resumed(client, response_id, told[-1].sequence_number)

        assert [event.sequence_number for event in told] == list(range(total))
        assert told[-1].type == "response.completed"
        assert told[-1].response == client.responses.retrieve(response_id)
    assert proxy.cuts == total - 1


def test_the_helper_continues_a_response_it_is_given(client: OpenAI) -> None:
    response = client.responses.create(model="m", input="question", background=True)

    with client.responses.stream(response_id=response.id, starting_after=9) as stream:
        numbers = [event.sequence_number for event in stream]

    assert numbers == list(range(10, numbers[-1] + 1))
    check_story(client.responses.retrieve(response.id))


def test_a_response_is_polled_while_it_runs_and_after(serve: Serve) -> None:
    gate = Gate()
    server = serve(app_of(lambda _: Script("One ", gate, "two.")()))
    with client_at(f"http://127.0.0.1:{server.port}") as client:
        begun = client.responses.create(model="m", input="question", background=True)
        gate.await_arrival()
        running = client.responses.retrieve(begun.id)
        gate.open()
        resumed(client, begun.id, 0)
        ended = client.responses.retrieve(begun.id)

    assert [response.status for response in (begun, running, ended)] == ["in_progress", "in_progress", "completed"]
    assert [response.output_text for response in (running, ended)] == ["One ", "One two."]


def test_a_response_is_cancelled(serve: Serve) -> None:
    gate = Gate()
    source = Script("One ", gate, "two.")
    server = serve(app_of(lambda _: source()))
    with client_at(f"http://127.0.0.1:{server.port}") as client:
        begun = client.responses.create(model="m", input="question", background=True)
        gate.await_arrival()
        cancelled = [client.responses.cancel(begun.id) for _ in range(2)]
        told = resumed(client, begun.id, 0)

    assert [(response.status, response.output_text) for response in cancelled] == [("cancelled", "One ")] * 2
    assert told[-1].type == "response.incomplete"
    assert source.is_closed


def test_a_response_continues_another(serve: Serve) -> None:
    async def agent(asked: AgentRequest) -> AsyncGenerator[str]:
        yield " / ".join(f"{message.role}: {message.text}" for message in asked.messages)

    server = serve(app_of(agent))
    with client_at(f"http://127.0.0.1:{server.port}") as client:
        first = client.responses.create(model="m", input="One?")
        second = client.responses.create(model="m", input="Two?", previous_response_id=first.id)

    assert second.output_text == "user: One? / assistant: user: One? / user: Two?"


# Tools of the client's


def test_calls_for_the_client_are_put_together_by_the_helpers() -> None:
    log = log_of(
        events.TextDelta("Let me see."),
        events.ToolStarted(call_id="c1", name="get_weather", executor="client"),
        events.ToolArgsDelta('{"city":', call_id="c1"),
        events.ToolStarted(call_id="c2", name="clock", executor="client"),
        events.ToolArgsDelta('"Paris"}', call_id="c1"),
        events.ToolReady(call_id="c1", input={"city": "Paris"}),
        events.ToolReady(call_id="c2", input={"zone": "JST"}),
        events.RunCompleted(),
    )
    expected = [("c1", "get_weather", '{"city":"Paris"}'), ("c2", "clock", '{"zone":"JST"}')]

    completion = chat_by_helper(given_body(written(log, "openai")))
    *_, last = responses_by_helper(given_body(written(log, "openai-responses")))

    (choice,) = completion.choices
    assert choice.finish_reason == "tool_calls"
    assert [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls] == expected
    assert [
        (item.call_id, item.name, item.arguments) for item in last.response.output if item.type == "function_call"
    ] == expected


# Endings


@every_ending
def test_every_ending_of_a_chat_completion_is_read_or_raised(ending: Terminal) -> None:
    body = written(log_of(*STORY, ending), "openai")
    ways: list[Callable[[OpenAI], Any]] = [
        chat_by_helper,
        lambda client: list(client.chat.completions.create(model="m", messages=QUESTION, stream=True)),
    ]

    for read in ways:
        if isinstance(ending, FAILURES):
            with pytest.raises(openai.APIError) as raised:
                read(given_body(body))
            assert raised.value.code == ("timeout" if isinstance(ending, events.RunFailed) else "worker_lost")
        else:
            read(given_body(body))


@every_ending
def test_every_ending_of_a_response_is_read(ending: Terminal) -> None:
    body = written(log_of(*STORY, ending), "openai-responses")
    statuses: dict[type, str] = {
        events.RunFailed: "failed",
        events.RunInterrupted: "failed",
        events.RunCancelled: "cancelled",
    }

    with given_body(body).responses.create(model="m", input="question", stream=True) as stream:
        raw: list[Any] = list(stream)
    helped = responses_by_helper(given_body(body))

    assert raw[-1].type == helped[-1].type
    assert raw[-1].response.status == helped[-1].response.status == statuses.get(type(ending), "completed")


# What would break it


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(log=loose_logs())
def test_the_helpers_read_any_log_there_can_be(log: list[Entry]) -> None:
    failed = isinstance(log[-1].event, FAILURES)

    for told in (log, filled(log), merge(filled(log))):
        *_, last = responses_by_helper(given_body(written(told, "openai-responses")))
        assert last.type.startswith("response.")
        try:
            chat_by_helper(given_body(written(told, "openai")))
        except openai.APIError:
            assert failed


@pytest.mark.parametrize("dialect", ["openai", "openai-responses"])
def test_heartbeats_between_frames_break_nothing(dialect: str) -> None:
    log = log_of(*STORY, events.RunCompleted())

    client = given_body(written(log, dialect, between=b": hb\n"))

    if dialect == "openai":
        assert chat_by_helper(client).choices[0].message.content == ANSWER
    else:
        check_story(responses_by_helper(client)[-1].response)


def test_a_heartbeat_with_a_blank_line_would_break_it() -> None:
    client = given_body(written(log_of(*STORY, events.RunCompleted()), "openai", between=b": hb\n\n"))

    with pytest.raises(ValueError):
        chat_by_helper(client)


class _Beats(httpx2.SyncByteStream):
    """A body that lets a source go on when it has seen some heartbeats."""

    def __init__(self, body: httpx2.SyncByteStream, gate: Gate) -> None:
        self._body = body
        self._gate = gate
        self._beats = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._body:
            self._beats += piece.count(b": hb\n")
            if self._beats >= 3:
                self._gate.open()
            yield piece

    def close(self) -> None:
        self._body.close()


class _Counting(httpx2.HTTPTransport):
    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _Beats(response.stream, self._gate)
        return response


def test_heartbeats_of_a_quiet_server_break_nothing(serve: Serve) -> None:
    gate = Gate()
    server = serve(app_of(lambda _: Script("One ", gate, "two.")(), Tailrace(heartbeat_seconds=0.02)))

    url = f"http://127.0.0.1:{server.port}"
    with client_at(url, http_client=httpx2.Client(transport=_Counting(gate))) as client:
        completion = chat_by_helper(client)

    assert completion.choices[0].message.content == "One two."


# Errors, and requests that the client repeats


def test_a_refusal_is_the_exception_that_its_status_means(serve: Serve) -> None:
    def owner(request: Request) -> str:
        if request.headers["authorization"] != "Bearer none":
            raise HTTPException(401, "Who are you?")
        return "ann"

    tail = Tailrace(owner=owner)
    server = serve(app_of(lambda _: story(), tail))
    url = f"http://127.0.0.1:{server.port}"

    with client_at(url) as client, closing(client.with_options(api_key="wrong")) as stranger:
        client.responses.create(model="m", input="One?", extra_headers=KEY)
        with pytest.raises(openai.BadRequestError, match="previous response"):
            client.responses.create(model="m", input="x", previous_response_id="resp_unknown")
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve("resp_unknownunknownunknown")
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("another")
        with pytest.raises(openai.ConflictError):
            client.responses.create(model="m", input="Two?", extra_headers=KEY)
        with pytest.raises(openai.AuthenticationError):
            stranger.models.list()
        server.call(tail.drain(0.1))
        with pytest.raises(openai.InternalServerError, match="restarting"):
            client.responses.create(model="m", input="x")


def test_a_run_that_failed_is_raised_once_and_not_asked_for_again(serve: Serve) -> None:
    source = Script("One ", RuntimeError("a secret"))
    server = serve(app_of(lambda _: source()))

    with (
        client_at(f"http://127.0.0.1:{server.port}", max_retries=2) as client,
        pytest.raises(openai.InternalServerError) as raised,
    ):
        client.chat.completions.create(model="m", messages=QUESTION)

    assert raised.value.code == "error"
    assert source.opened == 1


class _LosesFirstAnswer(httpx2.HTTPTransport):
    """A connection that breaks after the request was sent and before its answer is there."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[httpx2.Request] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        response = super().handle_request(request)
        if len(self.requests) > 1:
            return response
        response.close()
        raise httpx2.RemoteProtocolError("the connection broke")


@pytest.mark.parametrize(("headers", "started"), [(KEY, 1), ({}, 2)])
def test_a_request_that_the_client_repeats_starts_nothing_if_it_has_a_key(
    serve: Serve, headers: dict[str, str], started: int
) -> None:
    source = Script("One ", "two.")
    server = serve(app_of(lambda _: source()))
    transport = _LosesFirstAnswer()
    url = f"http://127.0.0.1:{server.port}"

    with (
        client_at(url, max_retries=2, http_client=httpx2.Client(transport=transport)) as client,
        client.chat.completions.create(model="m", messages=QUESTION, stream=True, extra_headers=headers) as stream,
    ):
        chunks = list(stream)

    assert content_of(chunks) == "One two."
    assert [request.headers["x-stainless-retry-count"] for request in transport.requests] == ["0", "1"]
    assert source.opened == started


async def test_leaving_a_stream_stops_no_run(serve: Serve) -> None:
    gate = Gate()
    source = Script("One ", gate, "two.")
    server = serve(app_of(lambda _: source()))
    async with AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none") as client:
        async with await client.responses.create(model="m", input="question", stream=True) as stream:
            first = await anext(aiter(stream))
            await stream.close()
        await asyncio.to_thread(gate.await_arrival)
        gate.open()
        assert first.type == "response.created"
        told = [event async for event in await client.responses.retrieve(first.response.id, stream=True)]

    assert told[-1].type == "response.completed"
    assert told[-1].response.output_text == "One two."
