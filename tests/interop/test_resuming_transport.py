"""The packages of OpenAI and Anthropic over `ResumingTransport`: they resume exactly, and know nothing of it."""

import asyncio
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx2
import openai
import pytest
from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import MessageParam
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tailrace import Tailrace
from tailrace.errors import RequestRefusedError
from tests.integration.support.client import BOUND_SECONDS, NEVER_SECONDS, fetch
from tests.integration.support.frames import events_of
from tests.integration.support.server import AppServer
from tests.integration.support.sources import Gate, Script
from tests.interop.cutting_proxy import CuttingProxy
from tests.interop.resuming_site import ANSWER, MESSAGE_START, RecordingTransport, ResumingSite
from tests.tcp_proxy import TcpProxy

Serve = Callable[..., AppServer]
Cuts = Callable[[int], CuttingProxy]
Headers = dict[str, str]

SEEDS = 100
#: So many readers at a time: one waits while another works.
READERS = 4
WAYS = ("reset", "torn", "eof")

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is it like?"}]
ASKED: list[MessageParam] = [{"role": "user", "content": "What is it like?"}]


# What each client makes of an answer


def chat_in_a_loop(client: OpenAI, headers: Headers) -> str:
    chunks = client.chat.completions.create(model="m", messages=QUESTION, stream=True, extra_headers=headers)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def chat_by_the_helper(client: OpenAI, headers: Headers) -> str | None:
    with client.chat.completions.stream(model="m", messages=QUESTION, extra_headers=headers) as stream:
        return stream.get_final_completion().choices[0].message.content


def responses_in_a_loop(client: OpenAI, headers: Headers) -> str:
    events = client.responses.create(model="m", input="q", stream=True, extra_headers=headers)
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


def responses_by_the_helper(client: OpenAI, headers: Headers) -> str:
    with client.responses.stream(model="m", input="q", extra_headers=headers) as stream:
        return stream.get_final_response().output_text


def messages_in_a_loop(client: Anthropic, headers: Headers) -> str:
    events = client.messages.create(model="m", max_tokens=9, messages=ASKED, stream=True, extra_headers=headers)
    return "".join(
        event.delta.text for event in events if event.type == "content_block_delta" and event.delta.type == "text_delta"
    )


def messages_by_the_helper(client: Anthropic, headers: Headers) -> str:
    with client.messages.stream(model="m", max_tokens=9, messages=ASKED, extra_headers=headers) as stream:
        return stream.get_final_text()


async def async_chat_in_a_loop(client: AsyncOpenAI, headers: Headers) -> str:
    chunks = await client.chat.completions.create(model="m", messages=QUESTION, stream=True, extra_headers=headers)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])


async def async_chat_by_the_helper(client: AsyncOpenAI, headers: Headers) -> str | None:
    async with client.chat.completions.stream(model="m", messages=QUESTION, extra_headers=headers) as stream:
        return (await stream.get_final_completion()).choices[0].message.content


async def async_responses_in_a_loop(client: AsyncOpenAI, headers: Headers) -> str:
    events = await client.responses.create(model="m", input="q", stream=True, extra_headers=headers)
    return "".join([event.delta async for event in events if event.type == "response.output_text.delta"])


async def async_responses_by_the_helper(client: AsyncOpenAI, headers: Headers) -> str:
    async with client.responses.stream(model="m", input="q", extra_headers=headers) as stream:
        return (await stream.get_final_response()).output_text


async def async_messages_in_a_loop(client: AsyncAnthropic, headers: Headers) -> str:
    events = await client.messages.create(model="m", max_tokens=9, messages=ASKED, stream=True, extra_headers=headers)
    return "".join(
        [
            event.delta.text
            async for event in events
            if event.type == "content_block_delta" and event.delta.type == "text_delta"
        ]
    )


async def async_messages_by_the_helper(client: AsyncAnthropic, headers: Headers) -> str:
    async with client.messages.stream(model="m", max_tokens=9, messages=ASKED, extra_headers=headers) as stream:
        return await stream.get_final_text()


# The clients, with everything else as it comes: they repeat and time out as they do everywhere


def openai_at(url: str, transport: httpx2.BaseTransport, **options: Any) -> OpenAI:  # noqa: ANN401  the client's own
    http_client = openai.DefaultHttpxClient(transport=transport)
    return OpenAI(base_url=f"{url}/v1", api_key="none", http_client=http_client, **options)


def async_openai_at(url: str, transport: httpx2.AsyncBaseTransport, **options: Any) -> AsyncOpenAI:  # noqa: ANN401
    http_client = openai.DefaultAsyncHttpxClient(transport=transport)
    return AsyncOpenAI(base_url=f"{url}/v1", api_key="none", http_client=http_client, **options)


def anthropic_at(url: str, transport: httpx2.BaseTransport) -> Anthropic:
    return Anthropic(base_url=url, api_key="none", http_client=httpx2.Client(transport=transport))


def async_anthropic_at(url: str, transport: httpx2.AsyncBaseTransport) -> AsyncAnthropic:
    return AsyncAnthropic(base_url=url, api_key="none", http_client=httpx2.AsyncClient(transport=transport))


# Three cuts, each in its own way, at random places


def three_cuts(name: str, seed: int, frame_count: int) -> str:
    """An `x-cut` that breaks three answers of one run so that the fourth has something left."""
    dice = random.Random(f"{name} {seed}")  # noqa: S311  the same each time
    places = sorted(dice.sample(range(frame_count), 3))
    ways = dice.sample(WAYS, 3)
    frames = [places[0], places[1] - places[0], places[2] - places[1]]
    return f"{name}-{seed} " + ",".join(f"{way}:{count}" for way, count in zip(ways, frames, strict=True))


class Rounds:
    """Everybody reads the same answer a hundred times; somebody looks at all that was passed on."""

    def __init__(self, server: AppServer, site: ResumingSite, proxy: CuttingProxy, name: str) -> None:
        self.url = proxy.url
        self.transport = RecordingTransport(base_seconds=0.001)
        self.uncut = {"x-cut": "uncut"}
        self._server = server
        self._site = site
        self._proxy = proxy
        self._name = name

    def headers(self) -> list[Headers]:
        """Those of each reading, when the uncut one was read."""
        frame_count = self.transport.tapes["uncut"].data.count(b"\n\n")
        return [{"x-cut": three_cuts(self._name, seed, frame_count)} for seed in range(SEEDS)]

    def judge(self, answers: list[str | None]) -> None:
        tapes = self.transport.tapes
        del tapes["uncut"]
        assert set(answers) == {ANSWER}
        assert len(tapes) == SEEDS
        for tape in tapes.values():
            assert tape.without_end == fetch(self._server.port, "GET", tape.location).body.removesuffix(b": end\n")
        assert self._proxy.cuts == 3 * SEEDS
        assert set(self._site.starts.values()) == {1}
        asked = Counter(each.partition(" ")[0] for each in self.transport.asked)
        assert asked == {"POST": SEEDS + 1, "GET": 3 * SEEDS}, "a start was repeated, or a run cancelled"


@pytest.fixture
def site() -> ResumingSite:
    return ResumingSite()


@pytest.fixture
def rounds(serve: Serve, cuts: Cuts, site: ResumingSite, request: pytest.FixtureRequest) -> Iterator[Rounds]:
    server = serve(site.app)
    interval = sys.getswitchinterval()
    # Client, proxy and server are threads that hand each other small things.
    sys.setswitchinterval(interval / 10)
    yield Rounds(server, site, cuts(server.port), request.node.callspec.id)
    sys.setswitchinterval(interval)


@pytest.mark.parametrize(
    ("client_at", "read"),
    [
        pytest.param(openai_at, chat_in_a_loop, id="chat-loop"),
        pytest.param(openai_at, chat_by_the_helper, id="chat-helper"),
        pytest.param(openai_at, responses_in_a_loop, id="responses-loop"),
        pytest.param(openai_at, responses_by_the_helper, id="responses-helper"),
        pytest.param(anthropic_at, messages_in_a_loop, id="messages-loop"),
        pytest.param(anthropic_at, messages_by_the_helper, id="messages-helper"),
    ],
)
def test_three_cuts_are_not_noticed(
    rounds: Rounds, client_at: Callable[..., Any], read: Callable[[Any, Headers], str | None]
) -> None:
    with client_at(rounds.url, rounds.transport) as client, ThreadPoolExecutor(READERS) as readers:
        read(client, rounds.uncut)
        answers = list(readers.map(partial(read, client), rounds.headers()))

    rounds.judge(answers)


@pytest.mark.parametrize(
    ("client_at", "read"),
    [
        pytest.param(async_openai_at, async_chat_in_a_loop, id="chat-loop"),
        pytest.param(async_openai_at, async_chat_by_the_helper, id="chat-helper"),
        pytest.param(async_openai_at, async_responses_in_a_loop, id="responses-loop"),
        pytest.param(async_openai_at, async_responses_by_the_helper, id="responses-helper"),
        pytest.param(async_anthropic_at, async_messages_in_a_loop, id="messages-loop"),
        pytest.param(async_anthropic_at, async_messages_by_the_helper, id="messages-helper"),
    ],
)
async def test_three_cuts_are_not_noticed_by_an_async_client(
    rounds: Rounds, client_at: Callable[..., Any], read: Callable[[Any, Headers], Coroutine[Any, Any, str | None]]
) -> None:
    places = asyncio.Semaphore(READERS)

    async def one(client: object, headers: Headers) -> str | None:
        async with places:
            return await read(client, headers)

    async with client_at(rounds.url, rounds.transport) as client:
        await read(client, rounds.uncut)
        answers = await asyncio.gather(*(one(client, headers) for headers in rounds.headers()))

    await asyncio.to_thread(rounds.judge, answers)


# Leaving


def last_event_of(server: AppServer, location: str) -> str:
    """The type of a run's last event, which is awaited."""
    return events_of(fetch(server.port, "GET", location.partition("?")[0]).body)[-1].event


def url_of(server: AppServer) -> str:
    return f"http://127.0.0.1:{server.port}"


def leave_by_closing(client: OpenAI) -> None:
    stream = client.chat.completions.create(model="m", messages=QUESTION, stream=True)
    next(stream)
    stream.close()


def leave_by_a_break(client: OpenAI) -> None:
    # Without the block it is closed when the garbage collector finds the package's cycle of references.
    with client.responses.create(model="m", input="q", stream=True) as events:
        for _ in events:
            break


def leave_the_helper(client: OpenAI) -> None:
    with client.chat.completions.stream(model="m", messages=QUESTION) as stream:
        next(stream)


@pytest.mark.parametrize("leave", [leave_by_closing, leave_by_a_break, leave_the_helper])
def test_leaving_cancels_the_run(serve: Serve, leave: Callable[[OpenAI], None]) -> None:
    source = Script("a", Gate())
    server = serve(ResumingSite(Tailrace(heartbeat_seconds=NEVER_SECONDS), source).app)
    transport = RecordingTransport()

    with openai_at(url_of(server), transport) as client:
        leave(client)
    source.await_closing()

    assert last_event_of(server, transport.tapes[""].location) == "run.cancelled"
    assert transport.cancels == 1


def test_leaving_anthropics_helper_cancels_the_run(serve: Serve) -> None:
    source = Script(*MESSAGE_START, Gate())
    server = serve(ResumingSite(Tailrace(heartbeat_seconds=NEVER_SECONDS), source).app)
    transport = RecordingTransport()

    with (
        anthropic_at(url_of(server), transport) as client,
        client.messages.stream(model="m", max_tokens=9, messages=ASKED) as stream,
    ):
        next(stream)
    source.await_closing()

    assert last_event_of(server, transport.tapes[""].location) == "run.cancelled"


def test_another_thread_may_close_what_one_waits_for(serve: Serve) -> None:
    source = Script("a", Gate())
    server = serve(ResumingSite(Tailrace(heartbeat_seconds=NEVER_SECONDS), source).app)
    transport = RecordingTransport()

    with openai_at(url_of(server), transport) as client, ThreadPoolExecutor(1) as reader:
        stream = client.chat.completions.create(model="m", messages=QUESTION, stream=True)
        reading = reader.submit(list[object], stream)
        server.eventually(lambda: b'"content":"a"' in transport.tapes[""].data)
        stream.close()
        error = reading.exception(BOUND_SECONDS)
    source.await_closing()

    assert isinstance(error, httpx2.StreamClosed)
    assert last_event_of(server, transport.tapes[""].location) == "run.cancelled"


async def leave_async_by_closing(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="m", messages=QUESTION, stream=True)
    await anext(stream)
    await stream.close()


async def leave_async_by_a_cancelled_task(client: AsyncOpenAI) -> None:
    begun = asyncio.Event()

    async def read() -> None:
        async for _ in await client.chat.completions.create(model="m", messages=QUESTION, stream=True):
            begun.set()

    reading = asyncio.create_task(read())
    await begun.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def leave_async_by_a_cancelled_scope(client: AsyncOpenAI) -> None:
    with anyio.CancelScope() as scope:
        async for _ in await client.chat.completions.create(model="m", messages=QUESTION, stream=True):
            scope.cancel()


async def leave_the_async_helper(client: AsyncOpenAI) -> None:
    async with client.chat.completions.stream(model="m", messages=QUESTION) as stream:
        await anext(aiter(stream))


@pytest.mark.parametrize(
    "leave",
    [
        leave_async_by_closing,
        leave_async_by_a_cancelled_task,
        leave_async_by_a_cancelled_scope,
        leave_the_async_helper,
    ],
)
async def test_leaving_asynchronously_cancels_the_run(
    serve: Serve, leave: Callable[[AsyncOpenAI], Coroutine[Any, Any, None]]
) -> None:
    source = Script("a", Gate())
    server = serve(ResumingSite(Tailrace(heartbeat_seconds=NEVER_SECONDS), source).app)
    transport = RecordingTransport()

    async with async_openai_at(url_of(server), transport) as client:
        await leave(client)
    await asyncio.to_thread(source.await_closing)

    assert await asyncio.to_thread(last_event_of, server, transport.tapes[""].location) == "run.cancelled"
    assert transport.cancels == 1


def test_a_run_that_is_left_goes_on_if_asked_to(serve: Serve) -> None:
    gate = Gate()
    server = serve(ResumingSite(Tailrace(heartbeat_seconds=NEVER_SECONDS), Script("a", gate, "b")).app)
    transport = RecordingTransport(on_close="detach")

    with openai_at(url_of(server), transport) as client:
        leave_by_closing(client)
    gate.open()

    assert last_event_of(server, transport.tapes[""].location) == "run.completed"


def test_whoever_only_looked_at_a_run_does_not_cancel_it(serve: Serve) -> None:
    gate = Gate()
    server = serve(ResumingSite(Tailrace(heartbeat_seconds=NEVER_SECONDS), Script("a", gate, "b")).app)
    transport = RecordingTransport()

    with openai_at(url_of(server), transport) as client:
        stream = client.responses.create(model="m", input="q", stream=True)
        begun = next(stream)
        assert begun.type == "response.created"
        with client.responses.retrieve(begun.response.id, stream=True) as look:
            next(look)
        gate.open()
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")

    assert text == "ab"
    assert transport.cancels == 0


# Silence


def test_heartbeats_keep_a_client_from_timing_out(serve: Serve) -> None:
    gate = Gate()
    server = serve(ResumingSite(Tailrace(heartbeat_seconds=0.1), Script("a", gate, "b")).app)
    transport = RecordingTransport(idle_seconds=None)

    with openai_at(url_of(server), transport, timeout=2.0) as client, ThreadPoolExecutor(1) as reader:
        reading = reader.submit(chat_in_a_loop, client, {})
        server.eventually(lambda: transport.tapes and transport.tapes[""].data.count(b": hb\n") > 25)
        gate.open()
        text = reading.result(BOUND_SECONDS)

    assert text == "ab"
    assert transport.asked == ["POST /v1/chat/completions"]


async def test_heartbeats_keep_a_connection_from_being_given_up(serve: Serve) -> None:
    gate = Gate()
    server = serve(ResumingSite(Tailrace(heartbeat_seconds=0.1), Script("a", gate, "b")).app)
    transport = RecordingTransport(idle_seconds=2.0)

    async with async_openai_at(url_of(server), transport) as client:
        reading = asyncio.create_task(async_chat_in_a_loop(client, {}))
        looked_for = partial(
            server.eventually, lambda: transport.tapes and transport.tapes[""].data.count(b": hb") > 25
        )
        await asyncio.to_thread(looked_for)
        gate.open()
        text = await reading

    assert text == "ab"
    assert transport.asked == ["POST /v1/chat/completions"]


@pytest.mark.parametrize("timeout", [600.0, 0.1])
def test_a_connection_without_a_byte_is_given_up_and_the_run_resumed(serve: Serve, timeout: float) -> None:
    gate = Gate()
    site = ResumingSite(Tailrace(heartbeat_seconds=NEVER_SECONDS), Script("a", gate, "b"))
    server = serve(site.app)
    transport = RecordingTransport(idle_seconds=0.3 if timeout > 1 else None, base_seconds=0.001)

    with (
        openai_at(url_of(server), transport, timeout=httpx2.Timeout(10.0, read=timeout)) as client,
        ThreadPoolExecutor(1) as reader,
    ):
        reading = reader.submit(chat_in_a_loop, client, {})
        server.eventually(lambda: any(asked.startswith("GET /runs/") for asked in transport.asked))
        gate.open()
        text = reading.result(BOUND_SECONDS)

    assert text == "ab"
    assert site.starts == {"": 1}


# What the packages do by themselves


async def test_a_start_that_was_not_answered_is_repeated_by_the_client_and_with_a_key_is_one_run(serve: Serve) -> None:
    site = ResumingSite()
    transport = RecordingTransport()

    async with TcpProxy(serve(site.app).port) as proxy:
        proxy.lose_next_answer()
        async with async_openai_at(f"http://127.0.0.1:{proxy.port}", transport) as client:
            text = await async_chat_in_a_loop(client, {"Idempotency-Key": "a key that nobody can guess"})

    assert text == ANSWER
    assert transport.asked == ["POST /v1/chat/completions"] * 2
    assert site.starts == {"": 1}


def causes_of(error: BaseException | None) -> list[BaseException]:
    """An error and what led to it."""
    return [] if error is None else [error, *causes_of(error.__cause__)]


@pytest.mark.parametrize(
    ("client_at", "read", "raises"),
    [
        (openai_at, responses_in_a_loop, openai.APIConnectionError),
        (anthropic_at, messages_in_a_loop, httpx2.RemoteProtocolError),
    ],
)
def test_a_run_that_cannot_be_resumed_is_an_error_and_is_not_started_again(
    serve: Serve,
    cuts: Cuts,
    client_at: Callable[..., Any],
    read: Callable[[Any, Headers], str],
    raises: type[Exception],
) -> None:
    # Whoever comes back is somebody else here, and is told that there is no such run.
    site = ResumingSite(Tailrace(owner=lambda request: request.method))
    transport = RecordingTransport(base_seconds=0.001)
    proxy = cuts(serve(site.app).port)

    with client_at(proxy.url, transport) as client, pytest.raises(raises) as raised:
        read(client, {"x-cut": "a torn:3"})

    *_, broken, reason = causes_of(raised.value)
    assert isinstance(broken, httpx2.RemoteProtocolError)
    assert isinstance(reason, RequestRefusedError)
    assert reason.status == 404
    assert [asked.partition(" ")[0] for asked in transport.asked] == ["POST", "GET"]
    assert site.starts == {"a": 1}


def test_a_request_without_a_stream_passes_untouched(serve: Serve) -> None:
    transport = RecordingTransport()

    with openai_at(url_of(serve(ResumingSite().app)), transport) as client:
        completion = client.chat.completions.create(model="m", messages=QUESTION)
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="m" * 200, messages=QUESTION, stream=True)

    assert completion.choices[0].message.content == ANSWER
    assert transport.asked == ["POST /v1/chat/completions"] * 2


def test_a_package_on_httpx_takes_it_where_httpx_is_another_name(serve: Serve, cuts: Cuts) -> None:
    site = ResumingSite()
    proxy = cuts(serve(site.app).port)
    program = Path(__file__).with_name("aliased_client.py")
    command = [sys.executable, str(program), proxy.url, "a torn:2,reset:3,eof:1"]

    done = subprocess.run(command, capture_output=True, timeout=50, check=False)

    assert done.stderr.decode() == ""
    assert done.stdout.decode() == ANSWER
    assert (proxy.cuts, site.starts) == (3, {"a": 1})
