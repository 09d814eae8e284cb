"""What clients of OpenAI's two protocols send, as a conversation.

What a message has no part for, such as an image, is left out: an agent that wants it finds it in `AgentRequest.body`.
"""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec

from tailrace.fold import Message, ReasoningPart, TextPart, ToolPart

__all__ = ["ChatBody", "ResponseBody", "chat_messages", "input_messages", "newest_text"]

#: Of one conversation: a body has room for millions of empty ones, each of which costs a hundred times its bytes.
_MOST = msgspec.Meta(max_length=10_000)
_TEXT_TYPES = frozenset({"text", "input_text", "output_text", "refusal", "reasoning_text", "summary_text"})
#: `developer` is what OpenAI calls the system's role since its reasoning models.
_ROLES = {"developer": "system", "function": "tool"}


class _Function(msgspec.Struct):
    name: str = ""
    arguments: str = ""


class _ToolCall(msgspec.Struct):
    id: str
    function: _Function | None = None


class _ChatMessage(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Body(msgspec.Struct, kw_only=True):
    """What both protocols send; whatever else a body has is the agent's business."""

    model: str | None = None
    stream: bool | None = None
    tools: list[dict[str, Any]] | None = None


class ChatBody(_Body, kw_only=True):
    """The body of `POST /chat/completions`."""

    messages: Annotated[list[_ChatMessage], _MOST]
    stream_options: _StreamOptions | None = None


class _Item(msgspec.Struct):
    """Any item of an `input`, by the fields that some kinds have; of kinds that are left out they may hold anything."""

    type: str = "message"
    id: str | None = None
    role: str = "user"
    content: Any = None
    summary: Any = None
    encrypted_content: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Any = None
    output: Any = None


class _Conversation(msgspec.Struct):
    id: str


class ResponseBody(_Body, kw_only=True):
    """The body of `POST /responses`."""

    input: str | Annotated[list[_Item], _MOST] = []
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | _Conversation | None = None
    background: bool | None = None
    store: bool | None = None

    @property
    def thread(self) -> str | None:
        """The id of the conversation."""
        return self.conversation.id if isinstance(self.conversation, _Conversation) else self.conversation


def chat_messages(messages: Iterable[_ChatMessage]) -> list[Message]:
    """The messages of a chat completion; what a tool returned is put to its call."""
    talk = _Talk()
    for message in messages:
        if message.tool_call_id is not None:
            talk.answer(message.tool_call_id, _text(message.content))
            continue
        role = _ROLES.get(message.role, message.role)
        if message.reasoning_content:
            talk.add(role, ReasoningPart(text=message.reasoning_content, done=True), name=message.name)
        talk.add(role, *_texts(message.content), name=message.name)
        for call in message.tool_calls or []:
            function = call.function or _Function()
            talk.call(call.id, function.name, function.arguments)
        talk.close()
    return talk.messages


def input_messages(given: str | Iterable[_Item]) -> list[Message]:
    """The `input` of a response; consecutive items of the assistant are one message."""
    talk = _Talk()
    if isinstance(given, str):
        talk.add("user", TextPart(text=given, done=True))
        return talk.messages
    for item in given:
        match item.type:
            case "message":
                if item.role != "assistant":
                    talk.close()
                talk.add(_ROLES.get(item.role, item.role), *_texts(item.content), message_id=item.id)
            case "reasoning":
                text = _text(item.content or item.summary)
                talk.add("assistant", ReasoningPart(text=text, done=True, signature=item.encrypted_content))
            case "function_call" | "mcp_call":
                call_id = item.call_id or item.id or ""
                talk.call(call_id, item.name or "", item.arguments)
                if item.type == "mcp_call" and item.output is not None:
                    talk.answer(call_id, item.output)
            case "function_call_output":
                talk.answer(item.call_id or "", _text(item.output))
            case _:
                pass
    return talk.messages


def newest_text(messages: list[Message]) -> str:
    """What the user said last; nothing if somebody else had the last word."""
    return messages[-1].text if messages and messages[-1].role == "user" else ""


class _Talk:
    """Puts messages together, part by part."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._calls: dict[str, ToolPart] = {}
        self._open: Message | None = None

    def add(
        self, role: str, *parts: TextPart | ReasoningPart, message_id: str | None = None, name: str | None = None
    ) -> None:
        """Add to the open message if it is of this role, else begin one."""
        if self._open is None or self._open.role != role:
            self._open = Message(id=message_id, role=role, name=name)
            self.messages.append(self._open)
        self._open.parts.extend(parts)

    def close(self) -> None:
        self._open = None

    def call(self, call_id: str, name: str, arguments: object) -> None:
        self.add("assistant")
        text = arguments if isinstance(arguments, str) else ""
        part = self._calls[call_id] = ToolPart(call_id=call_id, name=name, state="ready")
        try:
            part.input = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            part.state, part.args = "started", text
        self.messages[-1].parts.append(part)

    def answer(self, call_id: str, output: object) -> None:
        """Put an output to its call, or to one that nobody has told of."""
        part = self._calls.get(call_id)
        if part is None:
            part = ToolPart(call_id=call_id, state="done")
            self.messages.append(Message(role="tool", parts=[part]))
            self.close()
        part.state, part.output = "done", output


def _texts(content: object) -> list[TextPart | ReasoningPart]:
    """The texts of a content: text, a list of parts of which some are text, or something of which nothing is."""
    if isinstance(content, str):
        return [TextPart(text=content, done=True)]
    try:
        pieces = msgspec.convert(content, list[dict[str, Any]])
    except msgspec.ValidationError:
        return []
    return [TextPart(text=text, done=True) for piece in pieces if (text := _piece(piece)) is not None]


def _text(content: object) -> str:
    return "".join(part.text for part in _texts(content))


def _piece(piece: dict[str, Any]) -> str | None:
    """The text of a part of a content, if it is text."""
    if piece.get("type") not in _TEXT_TYPES:
        return None
    text = piece.get("refusal" if piece["type"] == "refusal" else "text")
    return text if isinstance(text, str) else None
