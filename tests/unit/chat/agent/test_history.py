"""A conversation told again is one that every provider takes, whatever became of it."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from tailrace import fold
from tailrace.chat.agent.history import model_messages, newest


def user(text: str) -> fold.Message:
    return fold.Message(role="user", parts=[fold.TextPart(text=text, done=True)])


def answer(*parts: fold.Part, finish_reason: str | None = "stop") -> fold.Message:
    return fold.Message(role="assistant", parts=list(parts), finish_reason=finish_reason)


def said(text: str, *, done: bool = True) -> fold.TextPart:
    return fold.TextPart(text=text, done=done)


def call(call_id: str, **fields: Any) -> fold.ToolPart:  # noqa: ANN401  the fields of a part
    given: dict[str, Any] = {"call_id": call_id, "name": "look", "state": "done", "input": {"at": 1}, **fields}
    return fold.ToolPart(**given)


def shape(messages: list[ModelMessage]) -> list[list[str]]:
    return [[part.part_kind for part in message.parts] for message in messages]


def returns(messages: list[ModelMessage]) -> list[tuple[str, object, str]]:
    parts = [part for message in messages for part in message.parts]
    return [(part.tool_call_id, part.content, part.outcome) for part in parts if isinstance(part, ToolReturnPart)]


def test_text_is_told_by_who_said_it() -> None:
    system = fold.Message(role="system", parts=[said("Be brief.")])

    told = model_messages([system, user("Hi"), answer(said("Hello"))], system="openai")

    assert [type(message) for message in told] == [ModelRequest, ModelRequest, ModelResponse]
    parts = [message.parts[0] for message in told]
    assert [type(part) for part in parts] == [SystemPromptPart, UserPromptPart, TextPart]
    assert [getattr(part, "content", "") for part in parts] == ["Be brief.", "Hi", "Hello"]


def test_what_follows_results_is_an_answer_of_its_own() -> None:
    told = model_messages([answer(said("Wait."), call("a"), call("b"), said("So.")), user("Thanks")], system="openai")

    assert shape(told) == [
        ["text", "tool-call", "tool-call"],
        ["tool-return", "tool-return"],
        ["text"],
        ["user-prompt"],
    ]


def test_results_are_what_the_tools_gave() -> None:
    parts = [
        call("a", output={"x": 1}),
        call("b", state="error", error={"code": "no", "message": "No such place."}),
        call("c", state="error"),
        call("d", state="ready"),
        call("e", state="running", output="half"),
    ]

    told = model_messages([answer(*parts)], system="openai")

    interrupted = "The call was interrupted before it gave anything."
    assert returns(told) == [
        ("a", {"x": 1}, "success"),
        ("b", "No such place.", "failed"),
        ("c", "The tool failed.", "failed"),
        ("d", interrupted, "interrupted"),
        ("e", interrupted, "interrupted"),
    ]


@pytest.mark.parametrize(
    "part", [call("a", state="started", args='{"a'), call("a", name=None), fold.ToolPart(name="look", state="done")]
)
def test_what_never_became_a_call_is_left_out(part: fold.ToolPart) -> None:
    assert shape(model_messages([answer(part, said("Well."))], system="openai")) == [["text"]]
    assert model_messages([answer(part)], system="openai") == []


def test_a_result_that_belongs_to_no_call_is_left_out() -> None:
    told = model_messages([fold.Message(role="tool", parts=[call("a")])], system="openai")

    assert told == []


def test_only_who_signs_reasoning_gets_it_back() -> None:
    reasoning = [fold.ReasoningPart(text="Hm.", done=True, signature="s"), fold.ReasoningPart(text="So", done=True)]
    message = answer(*reasoning, said("Yes."))

    signed = model_messages([message], system="anthropic")
    unsigned = model_messages([message], system="openai")

    assert shape(signed) == [["thinking", "text"]]
    assert signed[0].parts[0] == ThinkingPart("Hm.", signature="s", provider_name="anthropic")
    assert shape(unsigned) == [["text"]]


@pytest.mark.parametrize(
    ("message", "is_marked"),
    [
        (answer(said("It is", done=False), finish_reason=None), True),
        (answer(fold.ReasoningPart(text="Hm"), finish_reason=None), True),
        (answer(said("It is warm", done=False), finish_reason="stop"), False),
        (answer(said("A client says so"), finish_reason=None), False),
        (answer(call("a"), finish_reason=None), False),
    ],
)
def test_an_answer_that_was_cut_off_says_so(message: fold.Message, is_marked: bool) -> None:
    told = model_messages([message], system="openai")

    texts = [part.content for message in told for part in message.parts if isinstance(part, TextPart)]
    assert ("[This answer was cut off here.]" in texts) == is_marked


def test_half_a_surrogate_pair_is_replaced() -> None:
    told = model_messages([user("\ud800"), answer(said("\udc00"))], system="openai")

    assert "\ufffd" in str(told[0].parts[0])
    str(told).encode()


def test_arguments_that_are_no_object_are_told_as_they_are() -> None:
    told = model_messages([answer(call("a", input=[1]), call("b", input=None))], system="openai")

    calls = [part.args for part in told[0].parts if isinstance(part, ToolCallPart)]
    assert calls == ["[1]", {}]


def test_of_a_long_conversation_the_newest_is_told_from_a_question_on() -> None:
    system = fold.Message(role="system", parts=[said("Be brief.")])
    talk = [system, user("1"), answer(said("one")), user("2"), answer(said("two")), user("3")]

    assert newest(talk, 100) is talk
    assert [message.text for message in newest(talk, 4)] == ["Be brief.", "2", "two", "3"]
    assert [message.text for message in newest(talk, 3)] == ["Be brief.", "2", "two", "3"]
    assert [message.text for message in newest(talk, 1)] == ["Be brief.", "3"]


_PARTS = st.one_of(
    st.builds(fold.TextPart, text=st.sampled_from(["", "x"]), done=st.booleans()),
    st.builds(fold.ReasoningPart, text=st.just("r"), signature=st.sampled_from([None, "s"])),
    st.builds(
        fold.ToolPart,
        call_id=st.uuids().map(str),
        name=st.sampled_from([None, "look"]),
        state=st.sampled_from(["started", "ready", "running", "done", "error"]),
    ),
)
_MESSAGES = st.builds(
    fold.Message,
    role=st.sampled_from(["user", "assistant", "system", "tool", "?"]),
    parts=st.lists(_PARTS, max_size=6),
    finish_reason=st.sampled_from([None, "stop"]),
)


@given(st.lists(_MESSAGES, max_size=6), st.sampled_from(["openai", "anthropic"]))
def test_every_call_is_answered_right_after_it_and_no_message_is_empty(
    conversation: list[fold.Message], system: str
) -> None:
    told = model_messages(conversation, system=system)

    assert all(message.parts for message in told)
    for message, following in pairwise([*told, ModelRequest(parts=[])]):
        calls = [part.tool_call_id for part in message.parts if isinstance(part, ToolCallPart)]
        answers = [part.tool_call_id for part in following.parts if isinstance(part, ToolReturnPart)]
        assert calls == answers
