"""What AG-UI's clients send, as a conversation; and a conversation as TanStack AI's client shows one.

What a message has no part for, such as an image, is left out: an agent that wants it finds it in `AgentRequest.body`.
"""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec

from tailrace.fold import Message, Part, ReasoningPart, TextPart, ToolPart
from tailrace.web.errors import RequestInvalidError

__all__ = ["ID_CHARACTERS", "RunAgentInput", "conversation", "run_agent_input", "ui_messages"]

#: The longest id that a client may choose.
ID_CHARACTERS = 128

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=ID_CHARACTERS)]
_Raw = dict[str, Any]

_ROLES = {"developer": "system", "system": "system", "user": "user"}
_TANSTACK_ROLES = frozenset({"system", "user"})
_TANSTACK_STATES = {"started": "input-streaming", "done": "complete", "error": "error"}


class _Function(msgspec.Struct):
    name: str
    arguments: str = ""


class _ToolCall(msgspec.Struct):
    id: str
    function: _Function


class _Message(msgspec.Struct, rename="camel"):
    """Any message, by the fields that some roles have."""

    role: str
    id: str | None = None
    content: Any = None
    name: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    error: str | None = None
    encrypted_value: str | None = None


class _Join(msgspec.Struct, frozen=True):
    join: bool = False


class _ForwardedProps(msgspec.Struct, frozen=True):
    tailrace: _Join = _Join()


class RunAgentInput(msgspec.Struct, rename="camel"):
    """The body of a POST, as far as it is looked at here; all of it is the agent's to read."""

    thread_id: _Id
    run_id: _Id
    messages: Annotated[list[_Raw], msgspec.Meta(max_length=2_000)] = []
    protocol_version: Annotated[str, msgspec.Meta(max_length=16)] | None = None
    parent_run_id: _Id | None = None
    state: Any = None
    tools: list[_Raw] | None = None
    forwarded_props: Any = None

    @property
    def joins(self) -> bool:
        """Whether the client wants to read a run that it has not read so far: `{"tailrace": {"join": true}}`."""
        try:
            return msgspec.convert(self.forwarded_props or {}, _ForwardedProps).tailrace.join
        except (msgspec.ValidationError, RecursionError):
            return False


def run_agent_input(body: _Raw) -> tuple[RunAgentInput, list[Message]]:
    """A body, and its messages as a conversation.

    Raises:
        RequestInvalidError: It lacks an id, or something in it has another type than AG-UI gives it.
    """
    try:
        asked = msgspec.convert(body, RunAgentInput)
        messages = conversation(asked.messages)
    except msgspec.ValidationError as error:
        raise RequestInvalidError(f"The body is not what this route takes: {error}.", status=422) from None
    except RecursionError:
        raise RequestInvalidError("The body is nested too deeply.", status=422) from None
    if not (asked.run_id.isprintable() and asked.thread_id.isprintable()):
        raise RequestInvalidError("An id is printable text.", status=422)
    return asked, messages


def conversation(raw: Iterable[_Raw]) -> list[Message]:
    """AG-UI messages as a conversation: reasoning with the answer it led to, a tool's result with its call.

    Raises:
        ValidationError: A message has a field of another type than AG-UI gives it.
    """
    messages: list[Message] = []
    calls: dict[str, ToolPart] = {}
    for told in msgspec.convert(list(raw), list[_Message]):
        match told.role:
            case "assistant":
                message = _answer(told, messages)
                calls.update((part.call_id or "", part) for part in message.parts if isinstance(part, ToolPart))
            case "reasoning":
                reasoning = ReasoningPart(text=_text(told.content), done=True, signature=told.encrypted_value)
                messages.append(Message(id=told.id, role="assistant", parts=[reasoning]))
            case "tool":
                _answered(told, messages, calls)
            case role if role in _ROLES:
                parts: list[Part] = [TextPart(text=_text(told.content), done=True)]
                messages.append(Message(id=told.id, role=_ROLES[role], name=told.name, parts=parts))
            case _:
                # Activities are what the page shows beside the conversation.
                pass
    return messages


def _answer(told: _Message, messages: list[Message]) -> Message:
    """The assistant's message, with the reasoning right before it."""
    message = Message(id=told.id, role="assistant", name=told.name, parts=[])
    while messages and messages[-1].role == "assistant" and _is_reasoning(messages[-1]):
        message.parts[:0] = messages.pop().parts
    if text := _text(told.content):
        message.parts.append(TextPart(text=text, done=True))
    message.parts.extend(_call(call) for call in told.tool_calls or ())
    messages.append(message)
    return message


def _is_reasoning(message: Message) -> bool:
    return bool(message.parts) and all(isinstance(part, ReasoningPart) for part in message.parts)


def _call(told: _ToolCall) -> ToolPart:
    call = ToolPart(call_id=told.id, name=told.function.name, state="ready")
    try:
        call.input = msgspec.json.decode(told.function.arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        # Cut off while the model wrote them.
        call.state, call.args = "started", told.function.arguments
    return call


def _answered(told: _Message, messages: list[Message], calls: dict[str, ToolPart]) -> None:
    call = calls.get(told.tool_call_id or "")
    if call is None:
        call = ToolPart(call_id=told.tool_call_id, state="ready")
        messages.append(Message(id=told.id, role="tool", parts=[call]))
    content = _text(told.content)
    if told.error is not None:
        call.state, call.error = "error", {"code": "error", "message": told.error or content}
        return
    call.state = "done"
    try:
        call.output = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        call.output = content


def _text(content: object) -> str:
    """A message's text: its content, or the parts of it that are text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part for part in msgspec.convert(content, list[_Raw]) if part.get("type") == "text"]
    return "".join(text for part in parts if isinstance(text := part.get("text"), str))


def ui_messages(messages: Iterable[Message]) -> list[_Raw]:
    """Messages as TanStack AI's `UIMessage`; one without an id is named after its place."""
    return [
        {
            "id": message.id or f"message-{place}",
            "role": message.role if message.role in _TANSTACK_ROLES else "assistant",
            "parts": [told for part in message.parts for told in _ui_parts(part)],
        }
        for place, message in enumerate(messages, 1)
    ]


def _ui_parts(part: Part) -> list[_Raw]:
    match part:
        case TextPart():
            return [{"type": "text", "content": part.text}]
        case ReasoningPart():
            signed = {"signature": part.signature} if part.signature else {}
            return [{"type": "thinking", "content": part.text, **signed}]
        case ToolPart():
            return _ui_call(part)


def _ui_call(part: ToolPart) -> list[_Raw]:
    call_id = part.call_id or "call"
    arguments = part.args if part.state == "started" else msgspec.json.encode(part.input or {}).decode()
    call: _Raw = {"type": "tool-call", "id": call_id, "name": part.name or "tool", "arguments": arguments}
    call["state"] = _TANSTACK_STATES.get(part.state, "input-complete")
    if part.state != "started":
        call["input"] = part.input
    if part.state not in {"done", "error"}:
        return [call]
    message = (part.error or {}).get("message", "")
    call["output"] = {"error": message} if part.error else part.output
    output = part.output if isinstance(part.output, str) else msgspec.json.encode(part.output).decode()
    result: _Raw = {"type": "tool-result", "toolCallId": call_id, "state": call["state"]}
    return [call, result | ({"content": message, "error": message} if part.error else {"content": output})]
