"""The fake provider is one for the real SDKs: they read its answers, and fail where their own code fails.

`FAULTY` is what the SDKs make of each fault today; an adapter has to tell a broken answer from a whole one by itself
wherever it says None.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import anthropic
import groq
import httpx
import httpx2
import ollama
import openai
import pytest
from starlette.types import Message

from tests.fake_provider.contract import Frame
from tests.fake_provider.journal import Entry, Journal
from tests.fake_provider.playback import Playback, Reply
from tests.fake_provider.provider import FakeProvider
from tests.fake_provider.script import FAULTS, REFUSALS, parse_model

TOKENS = ("the ", "run ", "keeps ", "a ", "log ", "so ", "any ", "reader ", "may ", "join ")
LEAVING_SECONDS = 0.5

#: After which a client gives a silent provider up. Long, for a client that is not silent but slow.
SILENT_SECONDS = 1.0

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
}
FUNCTIONS: list[Any] = [{"name": name, "parameters": SCHEMA} for name in ("get_weather", "get_news")]
TOOLS: list[Any] = [{"type": "function", "function": function} for function in FUNCTIONS]
QUESTION: list[Any] = [{"role": "user", "content": "What is it like there?"}]
TOOLS_OF_RESPONSES: list[Any] = [{"type": "function", "strict": False, **function} for function in FUNCTIONS]
TOOLS_OF_ANTHROPIC: list[Any] = [{"name": function["name"], "input_schema": SCHEMA} for function in FUNCTIONS]
ARGUMENTS = {"city": "a city", "days": 1, "unit": "celsius"}


@dataclass(frozen=True)
class Asking:
    """What a client is made of and asks."""

    url: str
    model: str
    messages: list[Any] = field(default_factory=lambda: QUESTION)
    max_retries: int = 0
    timeout_seconds: float = 20.0


@dataclass
class Heard:
    """What a client has been told, up to where it broke."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    ending: str | None = None


Reader: TypeAlias = Callable[[Asking], Generator[Heard]]


def openai_at(asking: Asking) -> openai.OpenAI:
    url, seconds = f"{asking.url}/v1", asking.timeout_seconds
    return openai.OpenAI(base_url=url, api_key="none", max_retries=asking.max_retries, timeout=seconds)


def groq_at(asking: Asking) -> groq.Groq:
    seconds = asking.timeout_seconds
    return groq.Groq(base_url=asking.url, api_key="none", max_retries=asking.max_retries, timeout=seconds)


def anthropic_at(asking: Asking) -> anthropic.Anthropic:
    seconds = asking.timeout_seconds
    return anthropic.Anthropic(base_url=asking.url, api_key="none", max_retries=asking.max_retries, timeout=seconds)


def ollama_at(asking: Asking) -> Any:  # noqa: ANN401  its own types are not complete
    return ollama.Client(host=asking.url, timeout=asking.timeout_seconds)


# Streams


def chat(asking: Asking) -> Generator[Heard]:
    with (
        openai_at(asking) as client,
        client.chat.completions.create(
            model=asking.model,
            messages=asking.messages,
            tools=TOOLS,
            stream=True,
            stream_options={"include_usage": True},
        ) as stream,
    ):
        yield from of_chunks(stream)


def groq_chat(asking: Asking) -> Generator[Heard]:
    with (
        groq_at(asking) as client,
        client.chat.completions.create(
            model=asking.model, messages=asking.messages, tools=TOOLS, stream=True
        ) as stream,
    ):
        yield from of_chunks(stream)


def of_chunks(chunks: Iterable[Any]) -> Generator[Heard]:
    """What both flavours of chat completions tell."""
    heard, calls = Heard(), dict[int, tuple[str, str]]()
    for chunk in chunks:
        for choice in chunk.choices:
            delta = choice.delta
            heard.text += delta.content or ""
            heard.reasoning += getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None) or ""
            for call in delta.tool_calls or ():
                name, pieces = calls.get(call.index, ("", ""))
                calls[call.index] = (name + (call.function.name or ""), pieces + (call.function.arguments or ""))
            heard.calls = list(calls.values())
            heard.ending = choice.finish_reason
        yield heard


def responses(asking: Asking) -> Generator[Heard]:
    heard = Heard()
    with (
        openai_at(asking) as client,
        client.responses.create(
            model=asking.model, input=asking.messages, tools=TOOLS_OF_RESPONSES, stream=True
        ) as stream,
    ):
        for event in stream:
            if event.type == "response.output_text.delta":
                heard.text += event.delta
            elif event.type == "response.reasoning_summary_text.delta":
                heard.reasoning += event.delta
            elif event.type == "response.output_item.done" and event.item.type == "function_call":
                heard.calls.append((event.item.name, event.item.arguments))
            elif event.type in {"response.completed", "response.incomplete", "error"}:
                heard.ending = event.type
            yield heard


def messages(asking: Asking) -> Generator[Heard]:
    heard = Heard()
    with (
        anthropic_at(asking) as client,
        client.messages.create(
            model=asking.model, messages=asking.messages, tools=TOOLS_OF_ANTHROPIC, max_tokens=1000, stream=True
        ) as stream,
    ):
        for event in stream:
            if event.type == "content_block_start" and event.content_block.type == "tool_use":
                heard.calls.append((event.content_block.name, ""))
            elif event.type == "content_block_delta":
                hear_delta(heard, event.delta)
            elif event.type == "message_delta":
                heard.ending = event.delta.stop_reason
            yield heard


def hear_delta(heard: Heard, delta: anthropic.types.RawContentBlockDelta) -> None:
    if delta.type == "text_delta":
        heard.text += delta.text
    elif delta.type == "thinking_delta":
        heard.reasoning += delta.thinking
    elif delta.type == "input_json_delta":
        name, pieces = heard.calls[-1]
        heard.calls[-1] = (name, pieces + delta.partial_json)


def ollama_chat(asking: Asking) -> Generator[Heard]:
    heard = Heard()
    with (
        ollama_at(asking) as client,
        closing(client.chat(model=asking.model, messages=asking.messages, tools=TOOLS, stream=True)) as parts,
    ):
        for part in parts:
            heard.text += part.message.content or ""
            heard.reasoning += part.message.thinking or ""
            for call in part.message.tool_calls or ():
                heard.calls.append((call.function.name, json.dumps(dict(call.function.arguments))))
            heard.ending = part.done_reason
            yield heard


# Documents


def chat_document(asking: Asking) -> Heard:
    with openai_at(asking) as client:
        return of_message(client.chat.completions.create(model=asking.model, messages=asking.messages, tools=TOOLS))


def groq_document(asking: Asking) -> Heard:
    with groq_at(asking) as client:
        return of_message(client.chat.completions.create(model=asking.model, messages=asking.messages, tools=TOOLS))


def of_message(completion: Any) -> Heard:  # noqa: ANN401  one of two flavours
    message = completion.choices[0].message
    calls = [(call.function.name, call.function.arguments) for call in message.tool_calls or ()]
    return Heard(text=message.content or "", calls=calls)


def response_document(asking: Asking) -> Heard:
    with openai_at(asking) as client:
        response = client.responses.create(model=asking.model, input=asking.messages, tools=TOOLS_OF_RESPONSES)
    calls = [(item.name, item.arguments) for item in response.output if item.type == "function_call"]
    return Heard(text=response.output_text, calls=calls)


def message_document(asking: Asking) -> Heard:
    with anthropic_at(asking) as client:
        message = client.messages.create(
            model=asking.model, messages=asking.messages, tools=TOOLS_OF_ANTHROPIC, max_tokens=1000
        )
    text = "".join(block.text for block in message.content if block.type == "text")
    calls = [(block.name, json.dumps(block.input)) for block in message.content if block.type == "tool_use"]
    return Heard(text=text, calls=calls)


def ollama_document(asking: Asking) -> Heard:
    with ollama_at(asking) as client:
        message = client.chat(model=asking.model, messages=asking.messages, tools=TOOLS).message
    calls = [(call.function.name, json.dumps(dict(call.function.arguments))) for call in message.tool_calls or ()]
    return Heard(text=message.content, calls=calls)


SDKS: dict[str, Reader] = {
    "chat": chat,
    "responses": responses,
    "anthropic": messages,
    "groq": groq_chat,
    "ollama": ollama_chat,
}
DOCUMENTS: dict[str, Callable[[Asking], Heard]] = {
    "chat": chat_document,
    "responses": response_document,
    "anthropic": message_document,
    "groq": groq_document,
    "ollama": ollama_document,
}
STOPPED = {**dict.fromkeys(SDKS, "stop"), "responses": "response.completed", "anthropic": "end_turn"}
CALLED = {**STOPPED, "chat": "tool_calls", "anthropic": "tool_use", "groq": "tool_calls"}

every_sdk = pytest.mark.parametrize("sdk", SDKS)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


def read(sdk: str, asking: Asking) -> tuple[Heard, Exception | None]:
    """Read to the end, or to where it broke."""
    heard = Heard()
    try:
        for heard in SDKS[sdk](asking):  # noqa: B007  what was heard last
            pass
    except Exception as error:  # noqa: BLE001  what it is differs between the SDKs
        return heard, error
    return heard, None


# Answers


@every_sdk
def test_text_is_read(provider: FakeProvider, sdk: str) -> None:
    heard, error = read(sdk, Asking(provider.url, "text;n=10"))

    (entry,) = provider.journal.entries
    assert error is None
    assert heard == Heard(text="".join(TOKENS), ending=STOPPED[sdk])
    assert (entry.tokens, entry.outcome) == (10, "completed")


@every_sdk
def test_reasoning_is_read_before_the_text(provider: FakeProvider, sdk: str) -> None:
    heard, error = read(sdk, Asking(provider.url, "think;n=10"))

    assert error is None
    assert (heard.reasoning, heard.text) == ("".join(TOKENS[:5]), "".join(TOKENS[5:]))


@every_sdk
def test_two_parallel_calls_are_read(provider: FakeProvider, sdk: str) -> None:
    heard, error = read(sdk, Asking(provider.url, "tools;parallel=2;frag=3"))

    # The SDK of Ollama leaves `anyOf` out of a schema, so that the provider takes days for text.
    arguments = {**ARGUMENTS, "days": "a days"} if sdk == "ollama" else ARGUMENTS
    assert error is None
    assert [(name, json.loads(told)) for name, told in heard.calls] == [
        ("get_weather", arguments),
        ("get_news", arguments),
    ]
    assert (heard.text, heard.ending) == ("", CALLED[sdk])


def test_calls_come_in_as_many_rounds_as_were_told(provider: FakeProvider) -> None:
    said = list(QUESTION)
    told: list[Heard] = []
    for _ in range(3):
        heard, _error = read("chat", Asking(provider.url, "tools;rounds=2;n=2;args=%7B%22a%22%3A+1%7D", said))
        told.append(heard)
        said += [{"role": "assistant", "content": None}, {"role": "tool", "tool_call_id": "call", "content": "fine"}]

    assert told == [
        Heard(calls=[("get_weather", '{"a": 1}')], ending="tool_calls"),
        Heard(calls=[("get_news", '{"a": 1}')], ending="tool_calls"),
        Heard(text="the run ", ending="stop"),
    ]


@every_sdk
def test_the_last_question_is_told_back(provider: FakeProvider, sdk: str) -> None:
    heard, error = read(sdk, Asking(provider.url, "echo;finish=length;delay=0.001"))

    assert error is None
    assert heard.text == "What is it like there? "
    assert heard.ending == {"responses": "response.incomplete", "anthropic": "max_tokens"}.get(sdk, "length")


@every_sdk
@pytest.mark.parametrize("says", ["text", "tools"])
def test_an_answer_comes_in_one_piece_to_whoever_asks_for_no_stream(
    provider: FakeProvider, sdk: str, says: str
) -> None:
    heard = DOCUMENTS[sdk](Asking(provider.url, f"{says};n=10;args=%7B%7D"))

    (entry,) = provider.journal.entries
    assert heard == (Heard(text="".join(TOKENS)) if says == "text" else Heard(calls=[("get_weather", "{}")]))
    assert (entry.tokens, entry.outcome) == (10 if says == "text" else 1, "completed")


def test_there_is_a_list_of_models(provider: FakeProvider) -> None:
    with openai_at(Asking(provider.url, "")) as client:
        assert [model.id for model in client.models.list()] == ["text"]


# Faults

#: What reading comes to, by fault and SDK: the reason the answer ends with (None: it ends as if it were whole, without
#: one), or what is raised. Ten tokens, the fault after the fifth.
FAULTY: dict[str, dict[str, str | type[Exception] | None]] = {
    "error": {
        "chat": openai.APIError,
        "responses": "error",
        "anthropic": anthropic.APIStatusError,
        "groq": groq.APIError,
        "ollama": ollama.ResponseError,
    },
    "close": {
        "chat": openai.APIConnectionError,
        "responses": openai.APIConnectionError,
        "anthropic": httpx2.RemoteProtocolError,
        "groq": httpx.RemoteProtocolError,
        "ollama": httpx.RemoteProtocolError,
    },
    "cut": {"chat": None, "responses": None, "anthropic": None, "groq": None, "ollama": json.JSONDecodeError},
    "truncate": {"chat": None, "responses": None, "anthropic": None, "groq": None, "ollama": None},
    "stall": {
        "chat": openai.APITimeoutError,
        "responses": openai.APITimeoutError,
        "anthropic": httpx2.ReadTimeout,
        "groq": httpx.ReadTimeout,
        "ollama": httpx.ReadTimeout,
    },
    "garbage": {
        "chat": json.JSONDecodeError,
        "responses": json.JSONDecodeError,
        "anthropic": "end_turn",
        "groq": json.JSONDecodeError,
        "ollama": json.JSONDecodeError,
    },
    "nodone": {"chat": "stop", "responses": None, "anthropic": "end_turn", "groq": "stop", "ollama": None},
    "empty": {"chat": None, "responses": None, "anthropic": None, "groq": None, "ollama": None},
}
HEARD_WHOLE = {("garbage", "anthropic"), *(("nodone", sdk) for sdk in SDKS)}


@every_sdk
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_shows_as_it_does_with_the_real_provider(provider: FakeProvider, sdk: str, fault: str) -> None:
    timeout = SILENT_SECONDS if fault == "stall" else 20

    heard, error = read(sdk, Asking(provider.url, f"text;n=10;at=5;fault={fault}", timeout_seconds=timeout))

    expected = FAULTY[fault][sdk]
    said = TOKENS if (fault, sdk) in HEARD_WHOLE else () if fault == "empty" else TOKENS[:5]
    assert (type(error) if error else heard.ending) == expected
    assert heard.text == "".join(said)
    outcome = "client_left" if fault == "stall" else "fault"
    entry = provider.journal.wait_for(lambda entry: entry.outcome)
    assert (entry.outcome, entry.tokens) == (outcome, 10 if fault in {"garbage", "nodone"} else len(said))
    assert len(provider.journal.entries) == 1


def test_an_error_in_the_middle_of_a_stream_has_no_status_or_one_that_is_none(provider: FakeProvider) -> None:
    errors = {sdk: read(sdk, Asking(provider.url, "text;fault=error"))[1] for sdk in SDKS}

    told: Any = errors["anthropic"]
    assert (told.status_code, told.body["error"]["type"]) == (200, "overloaded_error")
    assert [getattr(errors[sdk], "status_code", None) for sdk in ("chat", "groq", "ollama")] == [None, None, -1]


def test_the_helpers_of_two_sdks_cannot_do_without_any_event(provider: FakeProvider) -> None:
    asking = Asking(provider.url, "text;fault=empty")

    with (
        openai_at(asking) as client,
        client.chat.completions.stream(model=asking.model, messages=QUESTION) as completion,
        pytest.raises(AssertionError),
    ):
        completion.get_final_completion()
    with (
        anthropic_at(asking) as other,
        other.messages.stream(model=asking.model, messages=QUESTION, max_tokens=1000) as message,
        pytest.raises(AssertionError),
    ):
        message.get_final_message()


@pytest.mark.parametrize("fault", ["error", "truncate", "close"])
def test_a_fault_comes_even_if_there_are_fewer_tokens_than_it_waits_for(provider: FakeProvider, fault: str) -> None:
    heard, error = read("chat", Asking(provider.url, f"text;n=3;at=5;fault={fault}"))

    assert heard == Heard(text="".join(TOKENS[:3]))
    assert (error is None) == (fault == "truncate")


@every_sdk
def test_nobody_asks_again_once_an_answer_has_begun(provider: FakeProvider, sdk: str) -> None:
    read(sdk, Asking(provider.url, "text;fault=error;at=0", max_retries=2))

    assert len(provider.journal.entries) == 1


async def wait_by_openai(url: str, model: str) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=SILENT_SECONDS
    ) as client:
        async for _ in await client.chat.completions.create(model=model, messages=QUESTION, stream=True):
            pass


async def wait_by_anthropic(url: str, model: str) -> None:
    async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0, timeout=SILENT_SECONDS) as client:
        async for _ in await client.messages.create(model=model, messages=QUESTION, max_tokens=1000, stream=True):
            pass


@pytest.mark.parametrize("wait", [wait_by_openai, wait_by_anthropic])
async def test_keep_alives_outlast_the_timeout_of_a_client(
    provider: FakeProvider, wait: Callable[[str, str], Awaitable[None]]
) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wait(provider.url, "text;fault=stall;at=1;ping=0.02"), 1.5 * SILENT_SECONDS)

    (entry,) = provider.journal.entries
    assert entry.tokens == 1


# Refusals

OF_OPENAI: dict[str, str] = dict(
    zip(REFUSALS, ["BadRequestError", "AuthenticationError", "RateLimitError"], strict=False)
)
REFUSED = {
    "chat": OF_OPENAI,
    "responses": OF_OPENAI,
    "anthropic": {**OF_OPENAI, "503": "ServiceUnavailableError", "529": "OverloadedError"},
    "groq": OF_OPENAI,
    "ollama": dict.fromkeys(map(str, REFUSALS), "ResponseError"),
}


@every_sdk
@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_is_raised_by_its_type(provider: FakeProvider, sdk: str, status: str) -> None:
    heard, error = read(sdk, Asking(provider.url, f"text;fault={status}"))

    assert heard == Heard()
    assert type(error).__name__ == REFUSED[sdk].get(status, "InternalServerError")
    assert getattr(error, "status_code", None) == int(status)
    assert [entry.outcome for entry in provider.journal.entries] == ["fault"]


@every_sdk
def test_a_refusal_is_got_over_by_asking_again_but_not_by_ollama(provider: FakeProvider, sdk: str) -> None:
    heard, error = read(sdk, Asking(provider.url, "text;n=10;fault=429;times=1;retry=0.01", max_retries=2))

    outcomes = [entry.outcome for entry in provider.journal.entries]
    if sdk == "ollama":
        assert isinstance(error, ollama.ResponseError)
        assert outcomes == ["fault"]
    else:
        assert (error, heard.text) == (None, "".join(TOKENS))
        assert outcomes == ["fault", "completed"]


@pytest.mark.parametrize("model", ["gpt-5", "text;m=5", "text;n=many", "text;fault=418", "text;batch=0", "text;n"])
def test_a_model_name_that_is_no_script_is_a_model_that_does_not_exist(provider: FakeProvider, model: str) -> None:
    _, error = read("chat", Asking(provider.url, model))

    assert isinstance(error, openai.NotFoundError)


# Leaving


@every_sdk
def test_the_journal_tells_at_once_that_a_client_has_left(provider: FakeProvider, sdk: str) -> None:
    with closing(SDKS[sdk](Asking(provider.url, "text;n=1000;delay=0.02"))) as reading:
        next(heard for heard in reading if heard.text)

    entry = provider.journal.wait_for(lambda entry: entry.outcome, within_seconds=LEAVING_SECONDS)

    assert entry.outcome == "client_left"
    assert 1 <= entry.tokens < 1000


def test_a_client_may_leave_before_the_answer_begins(provider: FakeProvider) -> None:
    _, error = read("chat", Asking(provider.url, "text;start=50", timeout_seconds=SILENT_SECONDS))

    entry = provider.journal.wait_for(lambda entry: entry.outcome)

    assert isinstance(error, openai.APITimeoutError)
    assert (entry.outcome, entry.tokens) == ("client_left", 0)


def test_waiting_for_an_entry_that_never_comes_fails() -> None:
    with pytest.raises(AssertionError, match="not within"):
        Journal().wait_for(lambda _: True, within_seconds=0.01)


# Pace


@pytest.mark.parametrize(
    ("model", "writes"),
    [
        ("text", [b"0", b"1", b"2", b"3", b"4"]),
        ("text;batch=2", [b"01", b"23", b"4"]),
        ("text;batch=9;delay=0.001", [b"0", b"1", b"2", b"3", b"4"]),
    ],
)
async def test_events_are_written_in_batches_unless_they_are_paced(model: str, writes: list[bytes]) -> None:
    sent: list[Message] = []
    reply = Reply(200, "text/event-stream", [Frame(str(number).encode(), 1) for number in range(5)])
    entry, journal = Entry("/", {}, {"model": model}), Journal()

    async def receive() -> Message:
        return await asyncio.Future()

    async def send(message: Message) -> None:
        sent.append(message)

    await Playback(reply, parse_model(model), entry, journal)({}, receive, send)

    assert [message["body"] for message in sent[1:]] == writes
    assert [message["more_body"] for message in sent[1:]] == [True] * (len(writes) - 1) + [False]
    assert entry.outcome == "completed"
