"""What OpenAI's clients send, as a conversation."""

from typing import Any

import msgspec
import pytest

from tailrace.fold import Message, ReasoningPart, TextPart, ToolPart
from tailrace.web.mounts.openai_input import ChatBody, ResponseBody, chat_messages, input_messages, newest_text

HELLO = TextPart(text="Hello", done=True)


def chat(*messages: dict[str, Any]) -> list[Message]:
    return chat_messages(msgspec.convert({"messages": messages}, ChatBody).messages)


def given(value: str | list[dict[str, Any]]) -> list[Message]:
    return input_messages(msgspec.convert({"input": value}, ResponseBody).input)


def test_texts_are_messages() -> None:
    assert chat(
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Hello", "name": "ada"},
        {"role": "assistant", "content": "Hello"},
    ) == [
        Message(role="system", parts=[TextPart(text="Be brief.", done=True)]),
        Message(role="user", name="ada", parts=[HELLO]),
        Message(role="assistant", parts=[HELLO]),
    ]


def test_messages_of_one_role_in_a_row_stay_messages_of_their_own() -> None:
    assert [message.text for message in chat({"role": "user", "content": "a"}, {"role": "user", "content": "b"})] == [
        "a",
        "b",
    ]


def test_of_parts_those_that_are_text_are_kept() -> None:
    (message,) = chat(
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Hello"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}},
                {"type": "text", "text": 7},
                {"type": "refusal", "refusal": "No."},
            ],
        }
    )

    assert message.parts == [HELLO, TextPart(text="No.", done=True)]


def test_what_a_tool_returned_is_put_to_its_call() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}

    (message,) = chat(
        {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    )

    assert message.parts == [
        ReasoningPart(text="Hm.", done=True),
        ToolPart(call_id="c1", name="add", state="done", input={"a": 1}, output="2"),
    ]


def test_arguments_that_are_no_json_are_kept_as_they_are() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a"'}}

    (message,) = chat({"role": "assistant", "tool_calls": [call]})

    assert message.parts == [ToolPart(call_id="c1", name="add", state="started", args='{"a"')]


def test_what_a_tool_returned_to_nobodys_call_is_a_message_of_its_own() -> None:
    assert chat({"role": "tool", "tool_call_id": "c1", "content": "2"}) == [
        Message(role="tool", parts=[ToolPart(call_id="c1", state="done", output="2")])
    ]


def test_an_input_can_be_just_text() -> None:
    assert given("Hello") == [Message(role="user", parts=[HELLO])]


def test_items_of_the_assistant_are_one_message() -> None:
    assert given(
        [
            {"role": "user", "content": "Hello"},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
            {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a":1}'},
            {"type": "function_call_output", "call_id": "c1", "output": "2"},
            {"type": "mcp_call", "id": "mcp_1", "name": "look", "arguments": "{}", "output": "seen"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]},
        ]
    ) == [
        Message(role="user", parts=[HELLO]),
        Message(
            role="assistant",
            parts=[
                ReasoningPart(text="Hm.", done=True),
                ToolPart(call_id="c1", name="add", state="done", input={"a": 1}, output="2"),
                ToolPart(call_id="mcp_1", name="look", state="done", input={}, output="seen"),
                HELLO,
            ],
        ),
    ]


@pytest.mark.parametrize(
    "item",
    [
        {"type": "item_reference", "id": "msg_1"},
        {"type": "computer_call_output", "call_id": "c1", "output": {"type": "computer_screenshot"}},
        {"type": "custom_tool_call", "call_id": "c1", "name": "x", "arguments": {"not": "text"}},
    ],
)
def test_items_that_are_nothing_to_a_conversation_are_left_out(item: dict[str, Any]) -> None:
    assert given([item]) == []


@pytest.mark.parametrize(("role", "text"), [("user", "Hello"), ("assistant", ""), ("tool", "")])
def test_the_newest_text_is_the_users(role: str, text: str) -> None:
    assert newest_text([Message(role=role, parts=[HELLO])]) == text
    assert newest_text([]) == ""


@pytest.mark.parametrize(
    ("conversation", "thread"), [("conv_1", "conv_1"), ({"id": "conv_2", "object": "conversation"}, "conv_2")]
)
def test_a_conversation_is_the_thread(conversation: object, thread: str) -> None:
    assert msgspec.convert({"input": "x", "conversation": conversation}, ResponseBody).thread == thread
