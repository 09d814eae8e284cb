"""The demo keeps to its script: what each message gives, in which order, and at which pace."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.chat.demo import MODEL_NAME, PROMPTS, demo, words
from tailrace.events import (
    TERMINAL_TYPES,
    Event,
    Progress,
    ReasoningDelta,
    Status,
    Suggestions,
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


async def _events(message: str) -> list[Event]:
    return [event async for event in demo(message, pace=0, now=_noon)]


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
async def test_every_event_survives_the_log_and_none_ends_the_run(message: str) -> None:
    events = await _events(message)

    assert [decode(encode(event)) for event in events] == events
    assert not TERMINAL_TYPES & {event_type(event) for event in events}


@pytest.mark.parametrize("message", _ENDING_MESSAGES)
async def test_usage_and_suggestions_come_last(message: str) -> None:
    *answer, usage, suggestions = await _events(message)

    spoken = [event for event in answer if isinstance(event, TextDelta | ReasoningDelta)]
    assert usage == Usage(
        provider="demo",
        model=MODEL_NAME,
        input_tokens=len(message.split()),
        output_tokens=sum(len(event.delta.split()) for event in spoken),
        estimated=True,
    )
    assert isinstance(suggestions, Suggestions)
    assert len(set(suggestions.items)) == 3
    assert set(suggestions.items) <= set(PROMPTS) - {message}


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

    events = [event async for event in demo("What time is it in Tokyo?", pace=0)]

    (output,) = [event.output for event in events if isinstance(event, ToolOutput)]
    assert before <= datetime.fromisoformat(output["time"]) <= datetime.now(UTC)


async def test_half_a_surrogate_pair_is_replaced_before_it_reaches_an_event() -> None:
    events = await _events("calculate \ud800 + 1")

    assert _of(events, ToolReady) == [ToolReady(name="calculator", input={"expression": "\ufffd" * 3 + " + 1"})]


async def test_two_questions_call_two_tools_and_get_one_answer() -> None:
    events = await _events("What is 2+2 and what time is it in Paris?")

    order = [event_type(event) for event in events if isinstance(event, ToolStarted | ToolOutput | TextDelta)]
    assert [(event.step, event.total) for event in events if isinstance(event, Thought)] == [(1, 2), (2, 2)]
    assert _of(events, ToolStarted) == [ToolStarted(name="calculator"), ToolStarted(name="clock")]
    assert order[:5] == ["tool.started", "tool.output", "tool.started", "tool.output", "text.delta"]
    assert set(order[4:]) == {"text.delta"}
    assert _text(events).startswith("`2+2` = **4**. In Paris it is **13:00**")


async def test_the_part_of_a_question_that_was_not_understood_is_admitted() -> None:
    events = await _events("What is 2+2 and who is the king?")

    assert _text(events) == "`2+2` = **4**. The rest of the question I did not understand."


@pytest.mark.parametrize(
    ("message", "theme"),
    [("switch to dark", "dark"), ("Switch to light!", "light"), ("switch from dark to light", "light")],
)
async def test_the_theme_is_changed_by_an_action_of_the_page(message: str, theme: str) -> None:
    events = await _events(message)

    assert events[0] == UIAction({"type": "change_theme", "value": theme})
    assert f"{theme} theme" in _text(events)


async def test_reasoning_comes_before_the_answer() -> None:
    kinds = [event_type(event) for event in await _events("think")]

    runs = [kind for before, kind in pairwise(["", *kinds]) if before != kind]
    assert runs == ["reasoning.delta", "reasoning.done", "text.delta", "usage", "suggestions"]


async def test_the_failure_comes_in_the_middle_of_the_text_with_a_secret() -> None:
    events: list[Event] = []

    async def read() -> None:
        async for event in demo("fail half-way", pace=0):
            events.append(event)  # noqa: PERF401 - a comprehension would lose what came before the failure

    with pytest.raises(RuntimeError, match="password="):
        await read()

    assert {type(event) for event in events} == {TextDelta}
    assert 25 <= len(events) <= 35
    assert "hunter2" not in _text(events)


async def test_the_endless_answer_goes_on_until_it_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="tailrace.chat.demo")
    pieces: list[Event] = []

    async with aclosing(demo("forever", pace=0)) as events:
        async for event in events:
            pieces.append(event)
            if len(pieces) == 1000:
                break

    assert {type(event) for event in pieces} == {TextDelta}
    assert "the endless answer was stopped" in caplog.messages


async def test_the_endless_answer_lets_others_run_and_can_be_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="tailrace.chat.demo")
    flowing = asyncio.Event()

    async def read() -> None:
        async for _ in demo("forever", pace=0):
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
    assert isinstance(events[-1], Suggestions)


# Pace ----------------------------------------------------------------------------------------------------------------

Waits = Callable[[str, float], AsyncIterator[tuple[Event, float]]]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """Events with the seconds waited before each, without the waiting."""
    slept: list[float] = []
    let_others_run = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await let_others_run(0)

    async def run(message: str, pace: float) -> AsyncIterator[tuple[Event, float]]:
        async for event in demo(message, pace=pace, now=_noon):
            yield event, sum(slept)
            slept.clear()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return run


async def test_a_word_takes_as_long_as_a_person_needs_to_read_it(waits: Waits) -> None:
    paced = [pair async for pair in waits("stream a long answer", 1)]

    gaps = {after for (before, _), (_, after) in pairwise(paced[:-2]) if isinstance(before, TextDelta)}
    assert min(gaps) >= 0.025
    assert max(gaps) <= 0.040
    assert len(gaps) > 5
    assert sum(seconds for _, seconds in paced) >= 5


async def test_the_pace_scales_every_wait_and_changes_no_event(waits: Waits) -> None:
    once = [pair async for pair in waits("What is 17% of 2,340?", 1)]
    twice = [pair async for pair in waits("What is 17% of 2,340?", 2)]

    assert [event for event, _ in once] == [event for event, _ in twice]
    assert [seconds for _, seconds in twice] == [2 * seconds for _, seconds in once]


@pytest.mark.parametrize("message", _ENDING_MESSAGES)
async def test_at_pace_zero_nothing_waits(message: str, waits: Waits) -> None:
    assert {seconds async for _, seconds in waits(message, 0)} == {0}


async def test_slow_pauses_for_twenty_seconds_and_reports_its_progress(waits: Waits) -> None:
    paced = [pair async for pair in waits("slow", 1)]

    gaps = [after for (before, _), (_, after) in pairwise(paced) if isinstance(before, Progress)]
    values = [event.value for event, _ in paced if isinstance(event, Progress)]
    states = [event for event, _ in paced if isinstance(event, Status)]
    assert sum(gaps) == pytest.approx(20)
    assert values == [tenth / 10 for tenth in range(1, 11)]
    assert len(states) == 2
