"""An answer fits where it is kept, and what it cost is counted or estimated."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.chat.conversations.answers import encoded, encoded_parts, usage_of
from tailrace.events import Usage
from tailrace.fold import Message, Part, ReasoningPart, Reduced, RunStatus, TextPart, ToolPart

TEXTS = st.text(max_size=300)
PARTS = st.lists(
    st.one_of(
        st.builds(TextPart, id=st.none() | st.just("p"), text=TEXTS, done=st.booleans()),
        st.builds(ReasoningPart, text=TEXTS),
        st.builds(ToolPart, call_id=st.just("t"), state=st.just("done"), args=TEXTS, input=TEXTS, output=TEXTS),
    ),
    max_size=8,
)


def run(text: str, *, status: RunStatus = "completed", usage: list[Usage] | None = None) -> Reduced:
    message = Message(role="assistant", parts=[TextPart(text=text)])
    return Reduced(status=status, messages=[message], usage=usage or [])


@given(parts=PARTS, limit=st.integers(200, 3_000))
def test_parts_never_take_more_room_than_there_is(parts: list[Part], limit: int) -> None:
    text = encoded_parts(parts, limit_bytes=limit)

    assert len(text.encode()) <= limit
    kept = msgspec.json.decode(text, type=list[Part])
    if len(encoded(parts).encode()) <= limit:
        assert kept == parts
    for part, whole_part in zip(kept, parts, strict=False):
        if isinstance(part, TextPart) and isinstance(whole_part, TextPart):
            assert whole_part.text.startswith(part.text)


def test_what_tools_gave_goes_before_reasoning_and_reasoning_before_text() -> None:
    tool = ToolPart(call_id="t", name="search", state="done", output="x" * 500)
    parts: list[Part] = [TextPart(text="t" * 500), tool, ReasoningPart(text="r" * 500)]

    def sizes(limit: int) -> list[int]:
        kept = msgspec.json.decode(encoded_parts(parts, limit_bytes=limit), type=list[Part])
        return [len(part.output or "") if isinstance(part, ToolPart) else len(part.text) for part in kept]

    assert sizes(10_000) == [500, 500, 500]
    assert sizes(1_300) == [500, 0, 500]
    assert sizes(800)[:2] == [500, 0]
    assert 0 < sizes(800)[2] < 500
    assert 0 < sizes(400)[0] < 500
    assert sizes(400)[1:] == [0, 0]


def test_half_of_a_character_deep_inside_is_replaced() -> None:
    tool = ToolPart(call_id="t", state="done", output={"\ud800": ["a\udfff", "🧵\0"]})

    assert msgspec.json.decode(encoded([tool]))[0]["output"] == {"\ufffd": ["a\ufffd", "🧵\0"]}


def test_what_a_provider_has_counted_holds() -> None:
    usage = [Usage(input_tokens=1, output_tokens=2, model="m")]

    assert usage_of(run("x" * 1_000, usage=usage), input_characters=1_000, model="m") == usage


@pytest.mark.parametrize("status", ["completed", "cancelled", "interrupted"])
def test_what_nobody_has_counted_is_estimated(status: RunStatus) -> None:
    (usage,) = usage_of(run("x" * 10, status=status), input_characters=5, model="m")

    assert usage == Usage(input_tokens=2, output_tokens=3, model="m", estimated=True)


def test_of_a_run_that_was_stopped_what_is_missing_is_estimated() -> None:
    counted = Usage(input_tokens=7, output_tokens=10, model="m")

    usage = usage_of(run("x" * 100, status="cancelled", usage=[counted]), input_characters=400, model="m")

    assert usage == [counted, Usage(input_tokens=0, output_tokens=15, model="m", estimated=True)]


def test_of_a_run_that_was_stopped_nothing_is_counted_twice() -> None:
    counted = [Usage(input_tokens=7, output_tokens=25, model="m")]

    assert usage_of(run("x" * 100, status="cancelled", usage=counted), input_characters=400, model="m") == counted


def test_arguments_of_tools_are_tokens_too() -> None:
    tool = ToolPart(call_id="t", state="done", input={"q": "12345678"})
    reduced = Reduced(status="cancelled", messages=[Message(role="assistant", parts=[tool])])

    (usage,) = usage_of(reduced, input_characters=0, model=None)

    assert usage.output_tokens == 4
