"""Runs that are made of real SDKs' streams: whatever the provider does, the run ends once, in the right words.

The SDKs read a provider that fails when it is told to, and its journal says what it sent, what it was asked, and when
its client left. Each stream becomes a run in each way that there is: by its adapter, as it is, or chunk by chunk, out
of a generator of the application.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote_plus

import anthropic
import groq
import ollama
import openai
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from tailrace import EventStream, Runs, Tailrace
from tailrace.adapters import from_anthropic, from_ollama, from_openai, from_responses
from tailrace.events import TextDelta, ToolOutput
from tailrace.fold import ReasoningPart, Reduced
from tests.fake_provider.provider import FakeProvider
from tests.fake_provider.script import FAULTS, REFUSALS, parse_model
from tests.fake_provider.turn import turn_of
from tests.integration.support.client import fetch
from tests.integration.support.server import AppServer
from tests.interop.test_fake_provider import (
    QUESTION,
    TOKENS,
    TOOLS,
    TOOLS_OF_ANTHROPIC,
    TOOLS_OF_RESPONSES,
    Asking,
    anthropic_at,
    groq_at,
    ollama_at,
    openai_at,
)

LEAVING_SECONDS = 0.5
SILENT_SECONDS = 0.5
#: What the provider counts for every question.
ASKED_TOKENS = 11

#: Makes a request for a model by its name; what it returns is what the SDK gives.
Ask: TypeAlias = Callable[[str], Any]
Record: TypeAlias = Callable[[str, object], None]


class Sdk(NamedTuple):
    """An SDK's client, how it is asked, and what reads its stream."""

    client: Callable[[str, float], Any]
    ask: Callable[[Any, str], Any]
    adapter: Callable[..., Any]


def ask_chat(client: Any, model: str) -> Any:  # noqa: ANN401  of an async or a blocking client, as the next ones
    options = {"include_usage": True}
    create = client.chat.completions.create
    return create(model=model, messages=QUESTION, tools=TOOLS, stream=True, stream_options=options)


def ask_responses(client: Any, model: str) -> Any:  # noqa: ANN401
    return client.responses.create(model=model, input=QUESTION, tools=TOOLS_OF_RESPONSES, stream=True)


def ask_anthropic(client: Any, model: str) -> Any:  # noqa: ANN401
    create = client.messages.create
    return create(model=model, messages=QUESTION, tools=TOOLS_OF_ANTHROPIC, max_tokens=1000, stream=True)


def ask_groq(client: Any, model: str) -> Any:  # noqa: ANN401
    return client.chat.completions.create(model=model, messages=QUESTION, tools=TOOLS, stream=True)


def ask_ollama(client: Any, model: str) -> Any:  # noqa: ANN401
    return client.chat(model=model, messages=QUESTION, tools=TOOLS, stream=True)


def async_openai(url: str, seconds: float) -> Any:  # noqa: ANN401
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=seconds)


def async_anthropic(url: str, seconds: float) -> Any:  # noqa: ANN401
    return anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0, timeout=seconds)


def async_groq(url: str, seconds: float) -> Any:  # noqa: ANN401
    return groq.AsyncGroq(base_url=url, api_key="none", max_retries=0, timeout=seconds)


def async_ollama(url: str, seconds: float) -> Any:  # noqa: ANN401
    return ollama.AsyncClient(host=url, timeout=seconds)


SDKS: dict[str, Sdk] = {
    "chat": Sdk(async_openai, ask_chat, from_openai),
    "responses": Sdk(async_openai, ask_responses, from_responses),
    "anthropic": Sdk(async_anthropic, ask_anthropic, from_anthropic),
    "groq": Sdk(async_groq, ask_groq, from_openai),
    "ollama": Sdk(async_ollama, ask_ollama, from_ollama),
}
BLOCKING: dict[str, Callable[[Asking], Any]] = {
    "chat": openai_at,
    "responses": openai_at,
    "anthropic": anthropic_at,
    "groq": groq_at,
    "ollama": ollama_at,
}
#: The ways of a stream into a run.
WAYS = ("adapter", "direct", "chunks")

every_sdk = pytest.mark.parametrize("sdk", SDKS)
every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.fixture
async def runs() -> AsyncIterator[Runs]:
    async with Runs() as runs:
        yield runs


@asynccontextmanager
async def asking(sdk: str, url: str, seconds: float = 20) -> AsyncGenerator[Ask]:
    """An SDK's async client, asked by the name of a model."""
    found = SDKS[sdk]
    async with AsyncExitStack() as leaving:
        client = found.client(url, seconds)
        leaving.push_async_callback(client.close)
        yield lambda model: found.ask(client, model)


def source_of(sdk: str, way: str, ask: Ask, model: str) -> Callable[[], Any]:
    """A source for `start`."""

    async def chunks() -> AsyncGenerator[object]:
        async for chunk in await ask(model):
            yield chunk

    return {
        "adapter": lambda: SDKS[sdk].adapter(ask(model)),
        "direct": lambda: ask(model),
        "chunks": chunks,
    }[way]


async def answered(runs: Runs, sdk: str, way: str, ask: Ask, model: str) -> Reduced:
    run = await runs.start(source_of(sdk, way, ask, model))
    return await run.reduced()


def words(count: int) -> Sequence[str]:
    """The first tokens of every text."""
    return turn_of(parse_model(f"text;n={count}"), {}).text


def reasoning_of(found: Reduced) -> str:
    parts = (part for message in found.messages for part in message.parts)
    return "".join(part.text for part in parts if isinstance(part, ReasoningPart))


def code_of(found: Reduced) -> str | None:
    return found.failure.code if found.failure is not None else None


# Answers


@every_way
@every_sdk
@pytest.mark.parametrize("batch", [1, 7, 100])
async def test_a_text_is_the_same_to_the_byte_in_whatever_pieces_it_comes(
    provider: FakeProvider, runs: Runs, sdk: str, way: str, batch: int
) -> None:
    async with asking(sdk, provider.url) as ask:
        found = await answered(runs, sdk, way, ask, f"think;n=40;batch={batch}")

    tokens = words(40)
    assert (found.status, found.finish_reason) == ("completed", "stop")
    assert found.text == "".join(tokens[20:])
    assert reasoning_of(found) == "".join(tokens[:20])
    (usage,) = found.usage
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (ASKED_TOKENS, 40, None)
    (entry,) = provider.journal.entries
    assert (entry.tokens, entry.outcome) == (40, "completed")


VALUE = {"city": 'Zürich \U0001f3d4 "old" town', "days": [1, 2.5, None], "deep": {"a": {"b": "c" * 200}}}


@every_way
@every_sdk
@pytest.mark.parametrize("piece_characters", [1, 2, 7, 10_000])
async def test_calls_are_the_same_in_whatever_pieces_they_come(
    provider: FakeProvider, runs: Runs, sdk: str, way: str, piece_characters: int
) -> None:
    arguments = quote_plus(json.dumps(VALUE, ensure_ascii=False))
    model = f"tools;parallel=2;frag={piece_characters};args={arguments}"
    async with asking(sdk, provider.url) as ask:
        found = await answered(runs, sdk, way, ask, model)

    assert (found.status, found.finish_reason) == ("completed", "tool_calls")
    assert [(tool.name, tool.input) for tool in found.tools] == [("get_weather", VALUE), ("get_news", VALUE)]
    assert len({tool.call_id for tool in found.tools}) == 2


@every_sdk
@pytest.mark.parametrize(("finish", "reason"), [("length", "length"), ("content_filter", "content_filter")])
async def test_an_answer_that_the_provider_cut_short_says_why(
    provider: FakeProvider, runs: Runs, sdk: str, finish: str, reason: str
) -> None:
    async with asking(sdk, provider.url) as ask:
        found = await answered(runs, sdk, "direct", ask, f"text;n=10;finish={finish}")

    assert found.status == "completed"
    # Ollama has no word for the second.
    assert found.finish_reason == ("stop" if (sdk, reason) == ("ollama", "content_filter") else reason)


def blocking_source(sdk: str, way: str, client: Any, model: str) -> Callable[[], Any]:  # noqa: ANN401
    """A source of a blocking client; as its request blocks too, it is made on a thread."""

    def opened() -> Any:  # noqa: ANN401  what the SDK gives
        return SDKS[sdk].ask(client, model)

    def chunks() -> Iterator[object]:
        # Stopped at its `yield`, a generator closes what it was told to, and nothing else.
        with closing(opened()) as stream:
            yield from stream

    return {
        "adapter": lambda: SDKS[sdk].adapter(asyncio.to_thread(opened)),
        "direct": lambda: asyncio.to_thread(opened),
        "chunks": chunks,
    }[way]


@every_way
@every_sdk
async def test_a_blocking_client_is_read_just_so(provider: FakeProvider, runs: Runs, sdk: str, way: str) -> None:
    with BLOCKING[sdk](Asking(provider.url, "")) as client:
        found = await (await runs.start(blocking_source(sdk, way, client, "text;n=10"))).reduced()

    assert (found.status, found.text, found.finish_reason) == ("completed", "".join(TOKENS), "stop")


@every_way
@every_sdk
@pytest.mark.parametrize(("fault", "code"), [("truncate", "provider_truncated"), ("close", "provider_unavailable")])
async def test_a_blocking_client_fails_just_so(
    provider: FakeProvider, runs: Runs, sdk: str, way: str, fault: str, code: str
) -> None:
    with BLOCKING[sdk](Asking(provider.url, "")) as client:
        found = await (await runs.start(blocking_source(sdk, way, client, f"text;n=10;fault={fault}"))).reduced()

    assert code_of(found) == code
    assert found.text == "".join(TOKENS[:5])
    assert len(provider.journal.entries) == 1


# Faults

_CUT_OFF, _LOST, _ILLEGIBLE, _LATE = (
    "provider_truncated",
    "provider_unavailable",
    "provider_error",
    "provider_timeout",
)
#: How a run ends, by fault, for all but those SDKs that are named; None is a complete answer.
ENDINGS: dict[str, tuple[str | None, dict[str, str | None]]] = {
    "error": (_LOST, {"anthropic": "provider_rate_limited", "ollama": _ILLEGIBLE}),
    "close": (_LOST, {}),
    "cut": (_CUT_OFF, {"ollama": _ILLEGIBLE}),
    "truncate": (_CUT_OFF, {}),
    "stall": (_LATE, {}),
    # Anthropic's SDK leaves the line out.
    "garbage": (_ILLEGIBLE, {"anthropic": None}),
    # These have said why the answer ends before they say that it has ended.
    "nodone": (None, {"responses": _CUT_OFF, "ollama": _CUT_OFF}),
    "empty": (_CUT_OFF, {}),
}


@every_way
@every_sdk
@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_ends_the_run_in_its_own_word_and_keeps_the_text(
    provider: FakeProvider, runs: Runs, sdk: str, way: str, fault: str
) -> None:
    async with asking(sdk, provider.url, SILENT_SECONDS if fault == "stall" else 20) as ask:
        found = await answered(runs, sdk, way, ask, f"text;n=10;at=5;fault={fault}")

    usual, exceptions = ENDINGS[fault]
    expected = exceptions.get(sdk, usual)
    if (fault, way) == ("empty", "chunks"):
        # A generator that has yielded nothing may have meant that.
        expected = None
    (entry,) = provider.journal.entries
    assert code_of(found) == expected
    assert found.status == ("completed" if expected is None else "failed")
    # `garbage` comes after the fifth token, and what follows it is never read.
    heard = 5 if expected == _ILLEGIBLE else entry.tokens
    assert found.text == "".join(TOKENS[:heard])


@every_sdk
@pytest.mark.parametrize("way", ["adapter", "chunks"])
@pytest.mark.parametrize("at", [0, 9, 20])
async def test_the_text_that_was_sent_is_kept_wherever_the_stream_breaks(
    provider: FakeProvider, runs: Runs, sdk: str, way: str, at: int
) -> None:
    async with asking(sdk, provider.url) as ask:
        found = await answered(runs, sdk, way, ask, f"text;n=10;at={at};fault=close;batch=3")

    (entry,) = provider.journal.entries
    assert found.text == "".join(TOKENS[: entry.tokens])
    assert code_of(found) == ("provider_unavailable" if found.status == "failed" else None)


@every_sdk
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", [*REFUSALS, "404"])
async def test_a_refusal_is_a_failed_run_after_one_request(
    provider: FakeProvider, runs: Runs, sdk: str, way: str, status: str
) -> None:
    codes = {
        "400": "provider_bad_request",
        "401": "provider_auth",
        "404": "provider_bad_request",
        "429": "provider_rate_limited",
        "500": "provider_unavailable",
        "503": "provider_unavailable",
        "529": "provider_rate_limited",
    }
    async with asking(sdk, provider.url) as ask:
        found = await answered(runs, sdk, way, ask, f"text;fault={status}" if status != "404" else "no-such-model")

    assert code_of(found) == codes[status]
    assert len(provider.journal.entries) == 1


@every_sdk
async def test_a_model_that_only_pings_is_given_up(
    provider: FakeProvider, runs: Runs, sdk: str, record_property: Record
) -> None:
    # Ollama has no pings, only silence.
    pings = "" if sdk == "ollama" else ";ping=0.02"
    async with asking(sdk, provider.url) as ask:
        began = time.perf_counter()
        model = f"text;n=10;at=5;fault=stall{pings}"
        run = await runs.start(lambda: SDKS[sdk].adapter(ask(model), idle_seconds=0.3))
        found = await run.reduced()
        took = time.perf_counter() - began

    record_property("seconds", round(took, 3))
    assert (code_of(found), found.text) == ("provider_timeout", "".join(TOKENS[:5]))
    entry = await asyncio.to_thread(provider.journal.wait_for, lambda entry: entry.outcome)
    assert entry.outcome == "client_left"


# Stop


@every_way
@every_sdk
async def test_stopping_a_run_stops_its_provider(
    provider: FakeProvider, runs: Runs, sdk: str, way: str, record_property: Record
) -> None:
    async with asking(sdk, provider.url) as ask:
        run = await runs.start(source_of(sdk, way, ask, "text;n=2000;delay=0.01"))
        async for entry in run:
            if isinstance(entry.event, TextDelta):
                break
        stopped = time.perf_counter()
        await run.cancel()
        seen = await asyncio.to_thread(
            provider.journal.wait_for, lambda entry: entry.outcome, within_seconds=LEAVING_SECONDS
        )
        took = time.perf_counter() - stopped
        found = await run.reduced()

    record_property("seconds", round(took, 3))
    assert (seen.outcome, found.status) == ("client_left", "cancelled")
    assert "".join(words(seen.tokens)).startswith(found.text)


@every_way
@every_sdk
async def test_stopping_a_run_stops_the_provider_of_a_blocking_client(
    provider: FakeProvider, runs: Runs, sdk: str, way: str, record_property: Record
) -> None:
    with BLOCKING[sdk](Asking(provider.url, "")) as client:
        run = await runs.start(blocking_source(sdk, way, client, "text;n=2000;delay=0.01"))
        async for entry in run:
            if isinstance(entry.event, TextDelta):
                break
        stopped = time.perf_counter()
        await run.cancel()
        seen = await asyncio.to_thread(
            provider.journal.wait_for, lambda entry: entry.outcome, within_seconds=LEAVING_SECONDS
        )
        took = time.perf_counter() - stopped

    record_property("seconds", round(took, 3))
    assert seen.outcome == "client_left"


# An agent's loop in a generator


@every_sdk
async def test_completions_one_after_the_other_are_one_run(provider: FakeProvider, runs: Runs, sdk: str) -> None:
    async def loop() -> AsyncGenerator[object]:
        yield "First. "
        async for chunk in await ask("tools;n=3"):
            yield chunk
        yield ToolOutput(output="sunny")
        async for chunk in await ask("text;n=10"):
            yield chunk
        yield "Last."

    async with asking(sdk, provider.url) as ask:
        found = await (await runs.start(loop)).reduced()

    first, second = provider.journal.entries
    assert (found.status, found.finish_reason) == ("completed", "stop")
    assert found.text == f"First. {''.join(TOKENS)}Last."
    assert [(tool.name, tool.output) for tool in found.tools] == [("get_weather", "sunny")]
    # Both models have names of their own, and so counts of their own.
    counts = [(usage.input_tokens, usage.output_tokens) for usage in found.usage]
    assert counts == [(ASKED_TOKENS, first.tokens), (ASKED_TOKENS, second.tokens)]


@every_sdk
async def test_the_counts_of_several_completions_of_a_model_are_summed_up(
    provider: FakeProvider, runs: Runs, sdk: str
) -> None:
    async def loop() -> AsyncGenerator[object]:
        for _ in range(3):
            async for chunk in await ask("text;n=10"):
                yield chunk

    async with asking(sdk, provider.url) as ask:
        found = await (await runs.start(loop)).reduced()

    assert found.text == "".join(TOKENS) * 3
    (usage,) = found.usage
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (3 * ASKED_TOKENS, 30, None)


@every_sdk
@pytest.mark.parametrize(
    ("second", "code"),
    [
        ("text;n=10;fault=truncate", "provider_truncated"),
        ("text;n=10;fault=close", "provider_unavailable"),
        ("text;fault=429", "provider_rate_limited"),
        ("text;fault=500", "provider_unavailable"),
    ],
)
async def test_a_loop_whose_second_completion_fails_is_a_failed_run_with_all_its_text(
    provider: FakeProvider, runs: Runs, sdk: str, second: str, code: str
) -> None:
    async def loop() -> AsyncGenerator[object]:
        for model in ("text;n=10", second):
            async for chunk in await ask(model):
                yield chunk

    async with asking(sdk, provider.url) as ask:
        found = await (await runs.start(loop)).reduced()

    sent = [entry.tokens for entry in provider.journal.entries]
    assert code_of(found) == code
    assert found.text == "".join(TOKENS) + "".join(TOKENS[: sent[1]])
    assert found.usage[0].output_tokens == 10


async def test_a_network_error_of_a_tool_is_no_failure_of_the_model(provider: FakeProvider, runs: Runs) -> None:
    async def loop() -> AsyncGenerator[object]:
        async for chunk in await ask("text;n=10"):
            yield chunk
        raise ConnectionResetError

    async with asking("chat", provider.url) as ask:
        found = await (await runs.start(loop)).reduced()

    assert (code_of(found), found.text) == ("error", "".join(TOKENS))


@every_sdk
@pytest.mark.parametrize("fault", ["close", "stall"])
async def test_what_an_sdk_raises_in_a_generator_of_text_is_the_models_failure(
    provider: FakeProvider, runs: Runs, sdk: str, fault: str
) -> None:
    async def text() -> AsyncGenerator[str]:
        async for _ in await ask(f"text;n=10;fault={fault}"):
            yield "word "

    async with asking(sdk, provider.url, SILENT_SECONDS if fault == "stall" else 20) as ask:
        found = await (await runs.start(text)).reduced()

    assert code_of(found) == {"close": "provider_unavailable", "stall": "provider_timeout"}[fault]
    assert found.text.startswith("word ")


# Another attempt


@every_sdk
@pytest.mark.parametrize("fault", ["close", "error", "truncate", "empty", "429", "503", "529"])
async def test_a_request_is_made_again_while_nothing_was_said(
    provider: FakeProvider, runs: Runs, sdk: str, fault: str
) -> None:
    model = f"text;n=10;at=0;times=1;retry=0.01;fault={fault}"
    async with asking(sdk, provider.url) as ask:
        found = await (await runs.start(lambda: SDKS[sdk].adapter(lambda: ask(model), retries=2))).reduced()

    # Of an error inside a stream Ollama does not say whether another attempt may help.
    attempts = 1 if (sdk, fault) == ("ollama", "error") else 2
    assert (found.status, found.text) == (("failed", "") if attempts == 1 else ("completed", "".join(TOKENS)))
    assert len(provider.journal.entries) == attempts


@every_sdk
@pytest.mark.parametrize(
    ("model", "requests"),
    [("text;n=10;at=1;fault=close", 1), ("text;fault=401", 1), ("text;fault=429;retry=0.01", 3)],
    ids=["something was said", "it would not help", "often enough"],
)
async def test_a_request_is_not_made_again_without_end_or_use(
    provider: FakeProvider, runs: Runs, sdk: str, model: str, requests: int
) -> None:
    async with asking(sdk, provider.url) as ask:
        found = await (await runs.start(lambda: SDKS[sdk].adapter(lambda: ask(model), retries=2))).reduced()

    assert found.status == "failed"
    assert len(provider.journal.entries) == requests


@pytest.mark.parametrize(("retry_after", "least_seconds"), [("0.3", 0.3), ("0", 0.0)])
async def test_a_provider_is_given_the_time_that_it_asks_for(
    provider: FakeProvider, runs: Runs, retry_after: str, least_seconds: float, record_property: Record
) -> None:
    async with asking("chat", provider.url) as ask:
        began = time.perf_counter()
        model = f"text;n=10;fault=429;times=1;retry={retry_after}"
        found = await (await runs.start(lambda: from_openai(lambda: ask(model), retries=1))).reduced()
        took = time.perf_counter() - began

    record_property("seconds", round(took, 3))
    assert found.status == "completed"
    assert took >= least_seconds


@pytest.mark.parametrize(
    ("retry_after", "requests"), [("3600", 1), ("20", 1)], ids=["longer than anybody waits", "stopped meanwhile"]
)
async def test_nothing_is_asked_for_after_a_stop_or_a_long_time(
    provider: FakeProvider, runs: Runs, retry_after: str, requests: int
) -> None:
    async with asking("chat", provider.url) as ask:
        model = f"text;fault=429;retry={retry_after}"
        run = await runs.start(lambda: from_openai(lambda: ask(model), retries=3))
        await asyncio.to_thread(provider.journal.wait_for, lambda entry: entry.outcome)
        await run.cancel()
        found = await run.reduced()

    assert found.status in {"cancelled", "failed"}
    assert len(provider.journal.entries) == requests


# Over HTTP


def application(ask: Ask) -> Starlette:
    app = Starlette()
    tail = Tailrace()
    tail.install(app, "/runs")

    async def start(request: Request) -> Response:
        sdk, way, model = (request.query_params[name] for name in ("sdk", "way", "model"))
        return tail.stream(source_of(sdk, way, ask, model))

    async def feed(request: Request) -> Response:
        return EventStream(source_of("chat", "chunks", ask, request.query_params["model"]))

    app.add_route("/start", start, methods=["POST"])
    app.add_route("/feed", feed)
    return app


def start(server: AppServer, way: str, model: str, accept: str = "text/event-stream") -> Any:  # noqa: ANN401  a reply
    target = f"/start?sdk=chat&way={way}&model={quote_plus(model)}"
    return fetch(server.port, "POST", target, {"accept": accept})


@pytest.fixture
def server(provider: FakeProvider, serve: Callable[..., AppServer]) -> Iterator[AppServer]:
    """An application that asks by OpenAI's SDK."""
    client = async_openai(provider.url, 20)
    server = serve(application(lambda model: ask_chat(client, model)))
    yield server
    server.call(client.close())


@every_way
def test_a_client_reads_the_text_that_the_provider_sent(server: AppServer, way: str) -> None:
    reply = start(server, way, "text;n=10", "application/json")

    assert (reply.head.status, json.loads(reply.body)["text"]) == (200, "".join(TOKENS))


@every_way
def test_a_refusal_has_the_same_status_in_every_document(server: AppServer, way: str) -> None:
    statuses = {
        fault: start(server, way, f"text;fault={fault}", "application/json").head.status
        for fault in ("401", "429", "503")
    }

    assert statuses == {"401": 502, "429": 429, "503": 502}


@pytest.mark.parametrize("way", ["adapter", "direct"])
def test_a_stream_tells_a_refusal_as_its_last_event(server: AppServer, way: str) -> None:
    reply = start(server, way, "text;fault=401")

    assert reply.head.status == 200
    assert b'"code":"provider_auth"' in reply.body
    assert reply.body.count(b"event: run.failed") == 1


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [("401", 502, "provider_auth"), ("429", 429, "provider_rate_limited"), ("503", 502, "provider_unavailable")],
)
def test_what_a_generator_raises_at_once_has_a_status_and_a_code(
    server: AppServer, fault: str, status: int, code: str
) -> None:
    reply = start(server, "chunks", f"text;retry=3;fault={fault}")

    assert (reply.head.status, json.loads(reply.body)["error"]["code"]) == (status, code)
    assert reply.head["retry-after"] == "3"
    assert b"This provider answers" not in reply.body


def test_a_stream_without_a_log_answers_so_too(server: AppServer) -> None:
    reply = fetch(server.port, "GET", f"/feed?model={quote_plus('text;fault=429')}")

    assert (reply.head.status, json.loads(reply.body)["error"]["code"]) == (429, "provider_rate_limited")
