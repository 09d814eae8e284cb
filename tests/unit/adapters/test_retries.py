"""A request is made again while nothing of its answer was given out, if that may help, and not without end."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tailrace.adapters import from_anthropic, from_ollama, from_openai, from_responses
from tailrace.adapters.retries import retry_seconds
from tailrace.events import Event, RunCompleted, RunFailed, TextDelta, Usage
from tests.unit.adapters.streams import STOPPED, ProviderScript, chunk, read

HELLO, STOP = chunk({"content": "Hello"}), chunk({}, finish_reason="stop")
OVERLOADED = {"error": {"type": "overloaded_error", "message": "secret"}}
START = {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 5}}}


def failed(code: str = "provider_unavailable", *, retryable: bool = True, **details: object) -> RunFailed:
    return RunFailed(code=code, message="Sorry.", retryable=retryable or None, details=details or None)


# When ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("attempts", "seconds"), [(0, 0.5), (1, 1.0), (2, 2.0), (4, 8.0), (60, 8.0)])
def test_each_wait_is_twice_as_long_up_to_a_bound(attempts: int, seconds: float) -> None:
    waits = [retry_seconds(failed(), attempts) for _ in range(50)]

    assert all(wait is not None and seconds / 2 <= wait <= seconds for wait in waits)
    assert len(set(waits)) > 1


@pytest.mark.parametrize(("told", "seconds"), [(0.0, 0.0), (3.5, 3.5), (30.0, 30.0), (30.5, None)])
def test_what_the_provider_says_goes_before_as_long_as_somebody_may_wait(told: float, seconds: float | None) -> None:
    assert retry_seconds(failed(retry_after_seconds=told), 3) == seconds


@pytest.mark.parametrize("ending", [failed("provider_auth", retryable=False), RunCompleted(), TextDelta("a")])
def test_what_would_not_help_is_not_done(ending: Event) -> None:
    assert retry_seconds(ending, 0) is None


# Whether -------------------------------------------------------------------------------------------------------------


class Requests:
    """Answers each request by the next script."""

    def __init__(self, *scripts: tuple[object, ...]) -> None:
        self.answers = [ProviderScript(*script) for script in scripts]
        self.made: list[ProviderScript] = []

    async def __call__(self) -> ProviderScript:
        answer = self.answers[len(self.made)]
        self.made.append(answer)
        return answer


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(ending: Event, attempts: int) -> float | None:
        return None if retry_seconds(ending, attempts) is None else 0.0

    monkeypatch.setattr("tailrace.adapters.contract.retry_seconds", at_once)


@pytest.mark.parametrize(
    "first",
    [(), (ConnectionResetError(),), (TimeoutError(),), (OVERLOADED,), (chunk({"role": "assistant"}), OVERLOADED)],
    ids=["nothing", "dropped", "late", "reported", "reported after a chunk that says nothing"],
)
async def test_a_request_is_made_again_while_nothing_was_said(first: tuple[object, ...]) -> None:
    requests = Requests(first, (HELLO, STOP))

    content = await read(from_openai(requests, retries=1))

    assert content == [TextDelta("Hello"), STOPPED]
    assert [script.closed for script in requests.made] == [1, 1]


async def test_a_count_of_tokens_is_nothing_that_was_said() -> None:
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}
    stop = {"type": "message_stop"}
    requests = Requests((START, ConnectionResetError()), (START, text, stop))

    content = await read(from_anthropic(requests, retries=3))

    # Of the first attempt nothing is left.
    assert [type(event) for event in content] == [Usage, TextDelta, Usage, RunCompleted]


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ((HELLO, ConnectionResetError()), "provider_unavailable"),
        ((HELLO,), "provider_truncated"),
        (({"error": {"code": "401"}},), "provider_auth"),
    ],
    ids=["dropped after a word", "truncated after a word", "would not help"],
)
async def test_a_request_is_not_made_again_otherwise(script: tuple[object, ...], code: str) -> None:
    requests = Requests(script)

    failure = (await read(from_openai(requests, retries=5)))[-1]

    assert isinstance(failure, RunFailed)
    assert (failure.code, len(requests.made)) == (code, 1)


@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_attempts_are_counted(retries: int) -> None:
    requests = Requests(*[(ConnectionResetError(),)] * 9)

    content = await read(from_openai(requests, retries=retries))

    assert len(requests.made) == retries + 1
    assert [type(event) for event in content] == [RunFailed]


async def test_what_is_not_the_providers_doing_is_not_tried_again() -> None:
    requests = Requests((LookupError("mine"),))

    with pytest.raises(LookupError, match="mine"):
        await read(from_openai(requests, retries=3))
    assert len(requests.made) == 1


async def test_nothing_is_asked_for_after_its_reader_was_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.adapters.contract.retry_seconds", retry_seconds)
    requests = Requests((ConnectionResetError(),))
    reader = asyncio.create_task(read(from_openai(requests, retries=3)))
    await requests.answers[0].is_closed.wait()

    reader.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reader
    assert [script.closed for script in requests.made] == [1]


@pytest.mark.parametrize("adapter", [from_openai, from_responses, from_anthropic, from_ollama])
async def test_only_a_callable_can_be_called_again(adapter: Callable[..., Any]) -> None:
    script = ProviderScript()

    with pytest.raises(ValueError, match="a callable that makes the request anew"):
        adapter(script, retries=1)
    assert len(await read(adapter(lambda: script))) == 1
