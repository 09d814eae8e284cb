"""What AG-UI's clients send, as a conversation, and a conversation as TanStack's client shows one."""

from typing import Any

import pytest

from tailrace.fold import Message, ReasoningPart, TextPart, ToolPart
from tailrace.web.errors import RequestInvalidError
from tailrace.web.mounts.ag_ui_input import conversation, run_agent_input, ui_messages
from tailrace.wire.ag_ui_messages import messages_of

HELLO = TextPart(text="Hello", done=True)
IDS: dict[str, Any] = {"threadId": "t", "runId": "r"}


def call(arguments: str, call_id: str = "c") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "look", "arguments": arguments}}


def test_texts_are_messages() -> None:
    told = [
        {"id": "s", "role": "system", "content": "Be brief."},
        {"id": "d", "role": "developer", "content": "Be polite."},
        {"id": "u", "role": "user", "name": "ada", "content": "Hello"},
        {"id": "a", "role": "assistant", "content": "Hello"},
    ]

    assert conversation(told) == [
        Message(id="s", role="system", parts=[TextPart(text="Be brief.", done=True)]),
        Message(id="d", role="system", parts=[TextPart(text="Be polite.", done=True)]),
        Message(id="u", role="user", name="ada", parts=[HELLO]),
        Message(id="a", role="assistant", parts=[HELLO]),
    ]


CONTENTS: list[tuple[object, str]] = [
    ([{"type": "text", "text": "Hel"}, {"type": "image", "source": {}}, {"type": "text", "text": "lo"}], "Hello"),
    ([{"type": "text"}, {"type": "text", "text": 7}], ""),
    ({"text": "Hello"}, ""),
    (None, ""),
]


@pytest.mark.parametrize(("content", "text"), CONTENTS)
def test_of_content_in_parts_the_text_is_taken(content: object, text: str) -> None:
    assert [message.text for message in conversation([{"role": "user", "content": content}])] == [text]


def test_reasoning_belongs_to_the_answer_after_it() -> None:
    told = [
        {"id": "r1", "role": "reasoning", "content": "Hm.", "encryptedValue": "sig"},
        {"id": "r2", "role": "reasoning", "content": "Well."},
        {"id": "a", "role": "assistant", "content": "Hello"},
        {"id": "r3", "role": "reasoning", "content": "Left alone."},
    ]

    assert conversation(told) == [
        Message(
            id="a",
            role="assistant",
            parts=[
                ReasoningPart(text="Hm.", done=True, signature="sig"),
                ReasoningPart(text="Well.", done=True),
                HELLO,
            ],
        ),
        Message(id="r3", role="assistant", parts=[ReasoningPart(text="Left alone.", done=True)]),
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"x": 1}', ToolPart(call_id="c", name="look", state="ready", input={"x": 1})),
        ("", ToolPart(call_id="c", name="look", state="ready", input={})),
        ('{"x": ', ToolPart(call_id="c", name="look", state="started", args='{"x": ')),
    ],
)
def test_a_call_has_its_arguments_as_far_as_they_came(arguments: str, expected: ToolPart) -> None:
    assert conversation([{"role": "assistant", "toolCalls": [call(arguments)]}])[0].parts == [expected]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"content": '{"y": 2}'}, {"state": "done", "output": {"y": 2}}),
        ({"content": "plain"}, {"state": "done", "output": "plain"}),
        ({"content": [{"type": "text", "text": "in parts"}]}, {"state": "done", "output": "in parts"}),
        (
            {"content": "It broke.", "error": ""},
            {"state": "error", "error": {"code": "error", "message": "It broke."}},
        ),
    ],
)
def test_an_answer_belongs_to_its_call(answer: dict[str, Any], expected: dict[str, Any]) -> None:
    (message,) = conversation(
        [
            {"role": "assistant", "toolCalls": [call("{}"), call("{}", "d")]},
            {"role": "tool", "toolCallId": "c", **answer},
        ]
    )

    assert message.parts[0] == ToolPart(call_id="c", name="look", input={}, **expected)


def test_activities_and_unknown_roles_are_not_said() -> None:
    assert conversation([{"role": "activity", "content": {"text": "x"}}, {"role": "narrator", "content": "x"}]) == []


def test_what_was_told_comes_back_as_it_was() -> None:
    messages = [
        Message(id="q", role="user", parts=[HELLO]),
        Message(
            id="a",
            role="assistant",
            parts=[
                ReasoningPart(text="Hm.", done=True, signature="sig"),
                HELLO,
                ToolPart(call_id="c", name="look", state="done", input={"x": 1}, output=[1, 2]),
                ToolPart(call_id="d", name="wait", state="ready", input={}),
            ],
        ),
    ]

    assert conversation(messages_of(messages)) == messages


WRONG: list[dict[str, Any]] = [
    {"runId": "r"},
    {"threadId": "t"},
    IDS | {"runId": ""},
    IDS | {"runId": "r" * 129},
    IDS | {"threadId": 7},
    IDS | {"threadId": "a\nb"},
    IDS | {"messages": {}},
    IDS | {"messages": [{"content": "nobody's"}]},
    IDS | {"messages": [{"role": "assistant", "toolCalls": [{"id": "c"}]}]},
    IDS | {"parentRunId": "p" * 129},
    IDS | {"protocolVersion": 1},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_body_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestInvalidError):
        run_agent_input(wrong)


@pytest.mark.parametrize(
    ("props", "joins"),
    [
        (None, False),
        ({}, False),
        ([], False),
        ({"tailrace": None}, False),
        ({"tailrace": {"join": 1}}, False),
        ({"tailrace": {"join": True}, "other": 1}, True),
    ],
)
def test_a_client_joins_only_if_it_says_so(props: object, joins: bool) -> None:
    asked, _ = run_agent_input(IDS | {"forwardedProps": props})

    assert asked.joins is joins


def test_a_call_under_way_is_shown_as_far_as_it_is() -> None:
    started = ToolPart(call_id="c", name="look", state="started", args='{"x":')
    running = ToolPart(name="look", state="running", input={"x": 1}, output="so far")

    (shown,) = ui_messages([Message(role="tool", parts=[started, running])])

    assert (shown["id"], shown["role"]) == ("message-1", "assistant")
    assert shown["parts"] == [
        {"type": "tool-call", "id": "c", "name": "look", "arguments": '{"x":', "state": "input-streaming"},
        {
            "type": "tool-call",
            "id": "call",
            "name": "look",
            "arguments": '{"x":1}',
            "state": "input-complete",
            "input": {"x": 1},
        },
    ]
