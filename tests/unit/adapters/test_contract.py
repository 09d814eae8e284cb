"""The rules of reading, which hold for every provider: complete or not, alive or not, and always closed."""

import asyncio
import contextlib
import gc
import logging
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, cast

import pytest

from tailrace import Runs, events
from tailrace.adapters import ProviderStream, from_anthropic, from_openai
from tailrace.adapters.contract import StreamLike
from tailrace.errors import SourceInvalidError
from tailrace.events import RunFailed, TextDelta
from tests.unit.adapters.streams import STOPPED, ProviderScript, chunk, forever, read, said

HELLO = chunk({"content": "Hello"})
STOP = chunk({}, finish_reason="stop")
#: A chunk in which the model says nothing.
PING = chunk({"role": "assistant", "content": ""})


def failure(content: list[events.Event]) -> RunFailed:
    """The last event, which is one."""
    last = content[-1]
    assert isinstance(last, RunFailed)
    return last


# Complete or not -----------------------------------------------------------------------------------------------------


async def test_an_answer_that_was_cut_off_keeps_its_text_and_is_no_success() -> None:
    content = await said(from_openai, HELLO)

    assert content[0] == TextDelta("Hello")
    assert failure(content).code == "provider_truncated"
    assert failure(content).retryable


@pytest.mark.parametrize("adapter", [from_openai, from_anthropic])
async def test_an_empty_stream_is_no_answer(adapter: Callable[..., ProviderStream]) -> None:
    content = await said(adapter)

    assert [failure(content).code, len(content)] == ["provider_truncated", 1]


async def test_what_was_used_by_then_is_an_estimate() -> None:
    content = await said(from_openai, HELLO | {"usage": {"prompt_tokens": 5, "completion_tokens": 1}})

    assert content[1] == events.Usage(input_tokens=5, output_tokens=1, model="m", estimated=True)


async def test_a_connection_that_drops_after_the_answer_takes_nothing_from_it() -> None:
    assert await said(from_openai, HELLO, STOP, ConnectionResetError()) == [TextDelta("Hello"), STOPPED]


async def test_nothing_follows_the_terminal_event() -> None:
    stream = from_openai(ProviderScript({"error": {"message": "no"}}, HELLO, STOP))

    content = await read(stream)

    assert [type(event) for event in content] == [RunFailed]
    assert await read(stream) == []


# Alive or not --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Callable[[], None]]:
    """`pass_time(seconds)` is a step of a script after which it is so much later."""
    loop = asyncio.get_running_loop()
    real, ahead = loop.time, 0.0

    def passing(seconds: float) -> Callable[[], None]:
        def step() -> None:
            nonlocal ahead
            ahead += seconds

        return step

    monkeypatch.setattr(loop, "time", lambda: real() + ahead)
    return passing


async def turns() -> None:
    """Give the loop the time to notice what is due."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_model_may_be_slow_as_long_as_it_says_something(
    pass_time: Callable[[float], Callable[[], None]],
) -> None:
    slow = [step for _ in range(5) for step in (pass_time(25), turns, HELLO)]

    content = await said(from_openai, pass_time(55), turns, HELLO, *slow, pass_time(25), turns, STOP)

    assert content[-1] == STOPPED


async def test_pings_do_not_make_up_for_a_first_word(pass_time: Callable[[float], Callable[[], None]]) -> None:
    content = await said(from_openai, pass_time(40), PING, pass_time(25), turns, HELLO, STOP)

    assert failure(content).code == "provider_timeout"


async def test_pings_do_not_make_up_for_the_next_word(pass_time: Callable[[float], Callable[[], None]]) -> None:
    content = await said(from_openai, HELLO, pass_time(20), PING, pass_time(15), turns, HELLO, STOP)

    assert [content[0], failure(content).code] == [TextDelta("Hello"), "provider_timeout"]


async def test_a_count_of_tokens_is_no_word(pass_time: Callable[[float], Callable[[], None]]) -> None:
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 5}}}
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}
    stop = {"type": "message_stop"}

    content = await said(from_anthropic, start, pass_time(45), turns, text, stop)

    assert isinstance(content[0], events.Usage)
    assert content[1] == TextDelta("Hello")
    assert content[-1] == events.RunCompleted()


async def test_nobody_waits_for_a_count_that_does_not_come(
    pass_time: Callable[[float], Callable[[], None]],
) -> None:
    content = await said(from_openai, HELLO, STOP, pass_time(6), turns, chunk({"content": "too late"}))

    assert content == [TextDelta("Hello"), STOPPED]


async def test_what_a_slow_reader_takes_is_not_the_models_silence(
    pass_time: Callable[[float], Callable[[], None]],
) -> None:
    stream = from_openai(ProviderScript(HELLO, turns, HELLO, turns, STOP))
    content: list[events.Event] = []

    async for event in stream:
        content.append(event)
        pass_time(100)()

    assert content == [TextDelta("Hello"), TextDelta("Hello"), STOPPED]


@pytest.mark.parametrize("bounds", [{"first_delta_seconds": 0.01}, {"idle_seconds": 0.01}])
async def test_the_bounds_can_be_chosen(bounds: dict[str, Any]) -> None:
    async def answer() -> AsyncGenerator[object]:
        if "idle_seconds" in bounds:
            yield HELLO
        async for ping in forever(PING):
            yield ping

    assert failure(await read(from_openai(answer(), **bounds))).code == "provider_timeout"


async def test_the_first_bound_holds_for_the_opening_too() -> None:
    async def create() -> ProviderScript:
        await asyncio.Event().wait()
        return ProviderScript()

    assert failure(await read(from_openai(create(), first_delta_seconds=0.01))).code == "provider_timeout"


# What it reads -------------------------------------------------------------------------------------------------------


async def test_a_request_that_is_still_to_be_made_is_awaited() -> None:
    async def create() -> ProviderScript:
        return ProviderScript(HELLO, STOP)

    assert await read(from_openai(create())) == [TextDelta("Hello"), STOPPED]


async def test_a_request_that_is_refused_is_a_failed_run() -> None:
    async def create() -> ProviderScript:
        raise ConnectionRefusedError

    assert failure(await read(from_openai(create()))).code == "provider_unavailable"


async def test_what_is_not_the_providers_doing_passes() -> None:
    with pytest.raises(LookupError, match="mine"):
        await said(from_openai, HELLO, LookupError("mine"))


class Whole:
    """An answer that was not streamed, as SDKs have it."""

    def __iter__(self) -> Iterator[tuple[str, object]]:
        yield "choices", []

    def model_dump(self) -> dict[str, object]:
        return {}


@pytest.mark.parametrize("stream", [Whole(), {"choices": []}, "text", b"data: {}", None, 5])
async def test_what_is_no_stream_is_refused_by_its_type(stream: object) -> None:
    with pytest.raises(SourceInvalidError, match=f"got {type(stream).__name__}, expected .*stream=True"):
        await read(from_openai(cast("StreamLike", stream)))


class Blocking:
    """The stream of a blocking client."""

    def __init__(self, *items: object) -> None:
        self._items = items
        self.threads: list[int] = []
        self.closed = 0

    def __iter__(self) -> Iterator[object]:
        for item in self._items:
            self.threads.append(threading.get_ident())
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        self.threads.append(threading.get_ident())
        self.closed += 1


async def test_a_blocking_stream_is_stepped_and_closed_on_one_thread_of_its_own() -> None:
    stream = Blocking(HELLO, STOP)

    assert await read(from_openai(stream)) == [TextDelta("Hello"), STOPPED]
    assert stream.closed == 1
    assert len(set(stream.threads)) == 1
    assert threading.get_ident() not in stream.threads


async def test_what_a_blocking_stream_raises_is_told_as_well() -> None:
    stream = Blocking(HELLO, ConnectionResetError())

    assert failure(await read(from_openai(stream))).code == "provider_unavailable"
    assert stream.closed == 1


async def test_a_blocking_stream_that_stands_still_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.adapters.contract._CLOSE_SECONDS", 0.01)
    go_on, over = threading.Event(), threading.Event()

    def stream() -> Iterator[object]:
        try:
            go_on.wait(10)
            yield HELLO
        finally:
            over.set()

    content = await read(from_openai(stream(), first_delta_seconds=0.01))
    go_on.set()

    assert failure(content).code == "provider_timeout"
    assert await asyncio.to_thread(over.wait, 10)


# Always closed -------------------------------------------------------------------------------------------------------


async def waits() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    "items",
    [(HELLO, STOP), (HELLO,), (HELLO, ConnectionResetError()), ({"error": "no"},), (HELLO, KeyError("mine"))],
    ids=["complete", "truncated", "dropped", "reported", "raised"],
)
async def test_a_stream_is_closed_once_however_it_ends(items: tuple[object, ...]) -> None:
    script = ProviderScript(*items)

    with contextlib.suppress(KeyError):
        await read(from_openai(script))

    assert script.closed == 1


async def test_a_stream_is_closed_when_its_reader_stops() -> None:
    script = ProviderScript(HELLO, HELLO, waits)

    async with contextlib.aclosing(from_openai(script)) as stream:
        async for _ in stream:
            break

    assert script.closed == 1


async def test_a_stream_is_closed_when_its_reader_just_leaves() -> None:
    script = ProviderScript(HELLO, HELLO, waits)

    async for _ in from_openai(script):
        break
    gc.collect()
    await script.is_closed.wait()

    assert script.closed == 1


async def test_a_stream_is_closed_when_its_reader_is_cancelled() -> None:
    waiting = asyncio.Event()

    async def wait() -> None:
        waiting.set()
        await waits()

    script = ProviderScript(HELLO, wait)
    reader = asyncio.create_task(read(from_openai(script)))
    await waiting.wait()
    reader.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reader
    assert script.closed == 1


async def test_a_stream_that_nobody_read_is_closed_and_stays_closed() -> None:
    script = ProviderScript(HELLO, STOP)
    stream = from_openai(script)

    await stream.aclose()
    await stream.aclose()

    assert script.closed == 1
    assert await read(stream) == []


async def test_a_request_that_nobody_needs_is_never_made() -> None:
    made = False

    async def create() -> ProviderScript:
        nonlocal made
        made = True
        return ProviderScript()

    await from_openai(create()).aclose()

    assert not made


async def test_a_stream_that_does_not_close_is_left_to_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tailrace.adapters.contract._CLOSE_SECONDS", 0.01)
    script = ProviderScript(HELLO, STOP)
    monkeypatch.setattr(script, "close", waits)

    assert await read(from_openai(script)) == [TextDelta("Hello"), STOPPED]
    assert "took more than 0.01 s to close" in caplog.text


async def test_what_closing_raises_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Awaitable[None]:
        raise RuntimeError("cannot")

    script = ProviderScript(HELLO, STOP)
    monkeypatch.setattr(script, "close", fail)

    assert await read(from_openai(script)) == [TextDelta("Hello"), STOPPED]
    assert "failed while it was being closed" in caplog.text


# In a run ------------------------------------------------------------------------------------------------------------


async def test_a_run_ends_as_its_provider_did(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "tailrace")
    async with Runs() as runs:
        run = await runs.start(lambda: from_openai(ProviderScript(HELLO, ConnectionResetError("secret"))))
        found = await run.reduced()

    assert (found.status, found.text) == ("failed", "Hello")
    assert found.failure is not None
    assert found.failure.code == "provider_unavailable"
    assert "secret" not in found.failure.message
    assert found.failure.correlation_id
    assert found.failure.correlation_id in caplog.text
    assert "secret" in caplog.text


async def test_cancelling_a_run_stops_its_provider() -> None:
    script = ProviderScript(HELLO, waits)
    async with Runs() as runs:
        run = await runs.start(lambda: from_openai(script))
        async for entry in run:
            if isinstance(entry.event, TextDelta):
                await run.cancel()
        found = await run.reduced()

    assert (found.status, found.text, script.closed) == ("cancelled", "Hello", 1)
