"""The demo keeps to its script: what each message gives, in which order, and at which pace."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from itertools import pairwise
from typing import cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import DeltaToolCall

from tailrace import Runs
from tailrace.chat.agent.assistant import Assistant
from tailrace.chat.agent.contract import Question
from tailrace.chat.agent.demo_model import MODEL_NAME, PROMPTS, DemoModel, words
from tailrace.chat.identity.contract import LOCAL
from tailrace.events import (
    TERMINALS,
    Event,
    Progress,
    RunCompleted,
    RunFailed,
    Source,
    Status,
    TextDelta,
    Thought,
    ToolArgsDelta,
    ToolError,
    ToolOutput,
    ToolReady,
    ToolStarted,
    UIAction,
    Usage,
    decode,
    encode,
    event_type,
)

TOOLS = {"calculator", "clock", "get_weather", "long_job", "search_docs", "set_theme"}
_NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_ENDING_MESSAGES = [
    *(prompt for prompt in PROMPTS if not prompt.startswith("fail")),
    "slow",
    "What is 1/0?",
    "What time is it in Atlantis?",
    "Why is the sky blue?",
    "",
]


def _noon() -> datetime:
    return _NOON


async def _log(message: str) -> list[Event]:
    """What the log of a run has between its first and its last event, and that one; ids are left out."""
    assistant = Assistant(DemoModel(pace=0), now=_noon)
    async with aclosing(Runs()) as runs:
        run = await runs.start(assistant.answer(Question(text=message, identity=LOCAL)))
        return [_without_ids(entry.event) async for entry in run][1:]


def _without_ids(event: Event) -> Event:
    ids = {name: None for name in ("message_id", "part_id", "call_id", "source_id", "id") if hasattr(event, name)}
    return msgspec.structs.replace(event, **ids) if not isinstance(event, Progress) else event


async def _events(message: str) -> list[Event]:
    *events, terminal = await _log(message)
    assert isinstance(terminal, RunCompleted)
    return events


def _text(events: list[Event]) -> str:
    return "".join(event.delta for event in events if isinstance(event, TextDelta))


def _of(events: list[Event], *types: type[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, types)]


# White space of every kind, a zero-width space (which is none), and letters of one to four bytes.
_TEXTS = st.text(alphabet=" \t\n\r\x1c\x85\u2003\u2028\u200ba.é水🙂")


@given(_TEXTS)
def test_the_words_of_a_text_joined_are_the_text(text: str) -> None:
    assert "".join(words(text)) == text


@given(_TEXTS)
def test_every_piece_but_trailing_white_space_is_one_word(text: str) -> None:
    assert [piece.strip() for piece in words(text) if piece.strip()] == text.split()


@pytest.mark.parametrize("message", _ENDING_MESSAGES)
async def test_an_answer_comes_word_by_word(message: str) -> None:
    events = await _events(message)

    deltas = [event.delta for event in events if isinstance(event, TextDelta)]
    assert deltas == words(_text(events))
    assert all(len(delta.split()) == 1 for delta in deltas)


@pytest.mark.parametrize("message", _ENDING_MESSAGES)
async def test_the_same_message_gives_the_same_events(message: str) -> None:
    assert await _events(message) == await _events(message)


@pytest.mark.parametrize("message", _ENDING_MESSAGES)
async def test_every_event_survives_the_log_and_none_but_the_last_ends_the_run(message: str) -> None:
    events = await _log(message)

    assert [decode(encode(event)) for event in events] == events
    assert [event for event in events if isinstance(event, TERMINALS)] == [RunCompleted(finish_reason="stop")]


@pytest.mark.parametrize("message", _ENDING_MESSAGES)
async def test_usage_comes_last_and_is_estimated(message: str) -> None:
    *_, usage = await _events(message)

    assert isinstance(usage, Usage)
    assert (usage.provider, usage.model, usage.estimated) == ("demo", MODEL_NAME, True)
    assert usage.input_tokens
    assert usage.output_tokens


@pytest.mark.parametrize("message", _ENDING_MESSAGES)
async def test_three_other_prompts_are_suggested_at_once(message: str) -> None:
    suggestions = await Assistant(DemoModel()).suggest(Question(text=message, identity=LOCAL), "")

    assert len(set(suggestions)) == 3
    assert set(suggestions) <= set(PROMPTS) - {message}


@pytest.mark.parametrize("prompt", [prompt for prompt in PROMPTS if not prompt.startswith("fail")])
async def test_every_prompt_is_understood(prompt: str) -> None:
    assert "did not understand" not in _text(await _events(prompt))


@pytest.mark.parametrize("message", ["hello", "Hi!", "  hey there", "Good morning"])
async def test_a_greeting_says_that_it_is_no_model_and_what_to_try(message: str) -> None:
    text = _text(await _events(message))

    assert text.startswith("Hello!")
    assert "not an LLM" in text
    assert all(prompt in text for prompt in PROMPTS)


@pytest.mark.parametrize(
    "message",
    [
        "Why is the sky blue?",
        "What is love?",
        "history",
        "What is 747?",
        "What time is it on Mars?",
        "Is slow food good?",
        "",
        "\ud800",
        "What is 2+2?" + " " * 5000,
    ],
)
async def test_anything_else_is_not_understood_and_said_so(message: str) -> None:
    events = await _events(message)

    assert _text(events).startswith("I did not understand")
    assert "not an LLM" in _text(events)
    assert all(prompt in _text(events) for prompt in PROMPTS)
    assert not _of(events, ToolStarted)


async def test_the_long_answer_is_an_essay_with_a_heading_and_a_list() -> None:
    events = await _events("stream a long answer")

    text = _text(events)
    assert isinstance(events[0], Status)
    assert [(event.step, event.total) for event in events if isinstance(event, Thought)] == [(1, 2), (2, 2)]
    assert text.startswith("## ")
    assert text.count("\n- ") == 4
    assert len(text.split()) >= 200


async def test_arithmetic_is_done_by_the_calculator() -> None:
    events = await _events("What is 17% of 2,340?")

    pieces = [event.delta for event in events if isinstance(event, ToolArgsDelta)]
    kinds = [event_type(event) for event in events]
    assert kinds[:2] == ["thought", "tool.started"]
    assert kinds[2 : 2 + len(pieces)] == ["tool.args.delta"] * len(pieces)
    assert kinds[2 + len(pieces) :][:3] == ["tool.ready", "tool.output", "text.delta"]
    assert _of(events, ToolStarted) == [ToolStarted(name="calculator")]
    assert "".join(pieces) == '{"expression":"17% of 2,340"}'
    assert {len(piece) for piece in pieces[:-1]} == {12}
    assert _of(events, ToolReady) == [ToolReady(name="calculator", input={"expression": "17% of 2,340"})]
    assert _of(events, ToolOutput) == [ToolOutput(output={"result": 397.8})]
    assert "397.8" in _text(events)


@pytest.mark.parametrize(
    ("message", "result"),
    [
        ("2+2", 4),
        ("2 + 2 = ?", 4),
        ("what's (1,000 - 1) / 3?", 333),
        ("How much is 20% of 50, please?", 10),
        ("Calculate 2**10.", 1024),
        ("Hello! What is -3 * -3?", 9),
    ],
)
async def test_a_sum_is_found_in_many_wordings(message: str, result: int) -> None:
    events = await _events(message)

    assert _of(events, ToolOutput) == [ToolOutput(output={"result": result})]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("What is 1/0?", "division_by_zero"),
        ("What is 9**9**9?", "out_of_range"),
        ("calculate __import__('os').getcwd()", "expression_refused"),
        ('What is "a"*9?', "expression_refused"),
        ("What time is it in Atlantis?", "city_unknown"),
    ],
)
async def test_a_tool_that_has_no_answer_fails_the_call_and_not_the_run(message: str, code: str) -> None:
    events = await _events(message)

    errors = [event for event in events if isinstance(event, ToolError)]
    assert [error.code for error in errors] == [code]
    assert not _of(events, ToolOutput)
    assert "has no answer" in _text(events)
    assert errors[0].message in _text(events)


@pytest.mark.parametrize(
    ("message", "time", "shown"),
    [
        ("What time is it in Tokyo?", "2026-03-01T21:00:00+09:00", "**21:00** on Sunday, 1 March 2026"),
        ("what's the time right now in new york?", "2026-03-01T07:00:00-05:00", "**07:00**"),
        ("What time is it in Reykjavík?", "2026-03-01T12:00:00+00:00", "In Reykjavík it is **12:00**"),
        ("What time is it in Paris, France?", "2026-03-01T13:00:00+01:00", "In Paris it is **13:00**"),
        ("What time is it?", "2026-03-01T12:00:00+00:00", "In UTC it is **12:00**"),
    ],
)
async def test_the_clock_tells_the_time_of_a_city(message: str, time: str, shown: str) -> None:
    events = await _events(message)

    (output,) = [event.output for event in events if isinstance(event, ToolOutput)]
    assert output["time"] == time
    assert shown in _text(events)


async def test_without_being_told_the_present_the_clock_takes_that_of_the_machine() -> None:
    before = datetime.now(UTC).replace(microsecond=0)

    assistant = Assistant(DemoModel(pace=0))
    question = Question(text="What time is it in Tokyo?", identity=LOCAL)
    events = [event async for event in assistant.answer(question)]

    (output,) = [event.output for event in events if isinstance(event, ToolOutput)]
    assert before <= datetime.fromisoformat(output["time"]) <= datetime.now(UTC)


async def test_half_a_surrogate_pair_is_replaced_before_it_reaches_an_event() -> None:
    events = await _events("calculate \ud800 + 1")

    assert _of(events, ToolReady) == [ToolReady(name="calculator", input={"expression": "\ufffd" * 3 + " + 1"})]


async def test_two_questions_call_two_tools_at_once_and_get_one_answer() -> None:
    events = await _events("What is 17% of 2,340, and what time is it in Tokyo?")

    order = [event_type(event) for event in events if isinstance(event, ToolStarted | ToolReady | ToolOutput)]
    after = events[max(place for place, event in enumerate(events) if isinstance(event, ToolOutput)) + 1 : -2]
    assert [(event.step, event.total) for event in events if isinstance(event, Thought)] == [(1, 2), (2, 2)]
    assert _of(events, ToolStarted) == [ToolStarted(name="calculator"), ToolStarted(name="clock")]
    assert order == ["tool.started"] * 2 + ["tool.ready"] * 2 + ["tool.output"] * 2
    assert {type(event) for event in after} == {TextDelta}
    assert _text(events).startswith("`17% of 2,340` = **397.8**. In Tokyo it is **21:00**")


async def test_of_two_questions_one_may_have_no_answer() -> None:
    events = await _events("What is 1/0 and what time is it in Paris?")

    assert len(_of(events, ToolError)) == len(_of(events, ToolOutput)) == 1
    assert _text(events).startswith("The calculator has no answer. A division by zero has no result. In Paris it is")


async def test_the_weather_is_sample_data_and_says_so() -> None:
    events = await _events("What is the weather in Paris?")

    (output,) = [event.output for event in events if isinstance(event, ToolOutput)]
    assert output["sample"] is True
    assert "Sample data" in output["label"]
    assert "13 °C" in _text(events)
    assert "Sample data" in _text(events)


async def test_a_question_about_the_software_is_answered_from_its_documentation() -> None:
    events = await _events("How do I stop a run?")

    pages = [event.filename for event in events if isinstance(event, Source)]
    assert _of(events, ToolStarted) == [ToolStarted(name="search_docs")]
    assert "how-to/stop-and-disconnect.md" in pages
    assert "docs/how-to/stop-and-disconnect.md" in _text(events)


async def test_what_the_documentation_does_not_know_is_admitted() -> None:
    text = _text(await _events("How does photosynthesis work?"))

    assert text.startswith("The documentation says nothing about that.")
    assert "not an LLM" in text


async def test_the_part_of_a_question_that_was_not_understood_is_admitted() -> None:
    events = await _events("What is 2+2 and who is the king?")

    assert _text(events) == "`2+2` = **4**. The rest of the question I did not understand."


@pytest.mark.parametrize(
    ("message", "theme"),
    [("switch to dark", "dark"), ("Switch to light!", "light"), ("switch from dark to light", "light")],
)
async def test_the_theme_is_changed_by_an_action_of_the_page(message: str, theme: str) -> None:
    events = await _events(message)

    assert _of(events, ToolStarted) == [ToolStarted(name="set_theme")]
    assert _of(events, UIAction) == [UIAction({"type": "change_theme", "value": theme})]
    assert f"{theme} theme" in _text(events)


async def test_reasoning_comes_before_the_answer() -> None:
    kinds = [event_type(event) for event in await _events("think")]

    runs = [kind for before, kind in pairwise(["", *kinds]) if before != kind]
    assert runs == ["reasoning.delta", "reasoning.done", "text.delta", "text.done", "usage"]


async def test_the_failure_comes_in_the_middle_of_the_text_and_its_secret_stays_in_the_log_of_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    *events, usage, failure = await _log("fail half-way")

    assert {type(event) for event in events} == {TextDelta}
    assert 25 <= len(events) <= 35
    assert isinstance(usage, Usage)
    assert usage.estimated
    assert isinstance(failure, RunFailed)
    assert failure.code == "error"
    assert b"hunter2" not in b"".join(map(encode, [*events, usage, failure]))
    assert "hunter2" in caplog.text


async def test_the_endless_answer_goes_on_until_it_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="tailrace")
    pieces: list[Event] = []

    async with aclosing(Assistant(DemoModel(pace=0)).answer(Question(text="forever", identity=LOCAL))) as events:
        async for event in events:
            pieces.append(event)
            if len(pieces) == 1000:
                break

    assert {type(event) for event in pieces} == {TextDelta}
    assert "the endless answer was stopped" in caplog.messages


async def test_the_endless_answer_lets_others_run_and_can_be_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="tailrace")
    flowing = asyncio.Event()

    async def read() -> None:
        async for _ in Assistant(DemoModel(pace=0)).answer(Question(text="forever", identity=LOCAL)):
            flowing.set()

    task = asyncio.create_task(read())
    await flowing.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert "the endless answer was stopped" in caplog.messages


_FRAGMENTS = [
    "what is ",
    "2+2",
    " and ",
    "time in ",
    "Tokyo",
    "?",
    "17% of 2,340",
    "(",
    "1/0",
    " think ",
    "\n",
    "é",
    ", ",
]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(_FRAGMENTS), max_size=12).map("".join))
async def test_whatever_is_asked_every_call_has_one_outcome_and_the_answer_ends(message: str) -> None:
    events = await _events(message)

    assert len(_of(events, ToolStarted)) == len(_of(events, ToolReady)) == len(_of(events, ToolOutput, ToolError))
    assert _text(events)
    assert isinstance(events[-1], Usage)


# Pace ----------------------------------------------------------------------------------------------------------------

Waits = Callable[[str, float], AsyncIterator[tuple[object, float]]]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """What the model says with the seconds waited before each piece, without the waiting."""
    slept: list[float] = []
    let_others_run = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await let_others_run(0)

    async def run(message: str, pace: float) -> AsyncIterator[tuple[object, float]]:
        asked: list[ModelMessage] = [ModelRequest(parts=[UserPromptPart(message)])]
        async for piece in DemoModel(pace=pace).speak(asked, TOOLS):
            yield piece, sum(slept)
            slept.clear()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return run


async def test_a_word_takes_as_long_as_a_person_needs_to_read_it(waits: Waits) -> None:
    paced = [pair async for pair in waits("stream a long answer", 1)]

    gaps = {seconds for _, seconds in paced[1:]}
    assert min(gaps) >= 0.025
    assert max(gaps) <= 0.040
    assert len(gaps) > 5
    assert sum(seconds for _, seconds in paced) >= 5


async def test_the_pace_scales_every_wait_and_changes_nothing_else(waits: Waits) -> None:
    once = [pair async for pair in waits("What is 17% of 2,340?", 1)]
    twice = [pair async for pair in waits("What is 17% of 2,340?", 2)]

    assert [piece for piece, _ in once] == [piece for piece, _ in twice]
    assert [seconds for _, seconds in twice] == [2 * seconds for _, seconds in once]


@pytest.mark.parametrize("message", _ENDING_MESSAGES)
async def test_at_pace_zero_nothing_waits(message: str, waits: Waits) -> None:
    assert {seconds async for _, seconds in waits(message, 0)} == {0}


async def test_slow_reports_its_progress() -> None:
    events = await _events("slow")

    values = [event.value for event in events if isinstance(event, Progress)]
    assert values == [tenth / 10 for tenth in range(1, 11)]
    assert len(_of(events, Status)) == 2
    assert _of(events, ToolOutput) == [ToolOutput(output={"parts_done": 10})]


# No memory -----------------------------------------------------------------------------------------------------------


async def _said(messages: list[ModelMessage], tools: set[str] = TOOLS) -> list[object]:
    return [piece async for piece in DemoModel(pace=0).speak(messages, tools)]


async def test_where_it_stands_is_told_by_the_messages_alone() -> None:
    asked = ModelRequest(parts=[UserPromptPart("What is 2+2 and what time is it in Paris?")])
    sum_only = ModelRequest(parts=[ToolReturnPart("calculator", {"result": 4}, "a")])

    second_call = await _said([asked, ModelResponse(parts=[]), sum_only])

    assert [name for piece in second_call if (name := _call_in(piece))] == ["clock"]
    assert second_call == await _said([asked, ModelResponse(parts=[]), sum_only])


def _call_in(piece: object) -> str | None:
    deltas = cast("dict[int, object]", piece).values() if isinstance(piece, dict) else ()
    return next((delta.name for delta in deltas if isinstance(delta, DeltaToolCall) and delta.name), None)


async def test_results_before_the_last_question_are_of_another_question() -> None:
    before = ModelRequest(parts=[ToolReturnPart("calculator", {"result": 4}, "a")])
    asked = ModelRequest(parts=[UserPromptPart("What is 3+3?")])

    said = await _said([ModelRequest(parts=[UserPromptPart("What is 2+2?")]), before, asked])

    assert [name for piece in said if (name := _call_in(piece))] == ["calculator"]


async def test_a_tool_that_it_was_not_given_is_not_called() -> None:
    said = await _said([ModelRequest(parts=[UserPromptPart("What is 3+3?")])], tools=set())

    assert "".join(piece for piece in said if isinstance(piece, str)).startswith("I did not understand")
