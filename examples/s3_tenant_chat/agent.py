"""The agent: asks the model, runs the tools that it wants, asks again, at most `MAX_ITERATIONS` times."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from s3_tenant_chat import model
from s3_tenant_chat.identity import read_token
from s3_tenant_chat.model import Ask, Message
from tailrace import Event, Suggestions, ToolError, ToolOutput, ToolReady, ToolStarted, UIAction, emit

__all__ = ["MAX_ITERATIONS", "Context", "answer", "suggestions"]

MAX_ITERATIONS = 5
#: The answer is there; nobody waits longer than this for what comes after it.
_SUGGESTION_SECONDS = 1.5
_TOOL_SECONDS = 0.8 * model.PACE
_THEMES = {"dark", "light"}


@dataclass(frozen=True, slots=True)
class Context:
    """What tools may know besides what the model tells them.

    Attributes:
        token: The caller's, for services that are asked in the caller's name. No event may hold it: events are kept.
        branch: Which branch of the business the page is looking at; means something to tools only.
    """

    token: SecretStr
    branch: str | None


async def answer(messages: list[Message], context: Context) -> AsyncGenerator[str | Event]:
    """Text, and each tool's call before it runs and its result after."""
    for _ in range(MAX_ITERATIONS):
        asks: list[Ask] = []
        async with aclosing(model.complete(messages)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Ask):
                    asks.append(piece)
                else:
                    yield piece
        if not asks:
            return
        for ask in asks:
            yield ToolStarted(name=ask.name)
            yield ToolReady(input=ask.input)
            result = await _run(ask, context)
            yield result
            output = result.output if isinstance(result, ToolOutput) else {"error": result.message}
            messages.append(Message("tool", name=ask.name, output=output))
    yield f"I have looked {MAX_ITERATIONS} times and stop here without an answer."


async def suggestions(messages: list[Message]) -> AsyncGenerator[Event]:
    """Three questions, unless they take too long: the end of the answer does not wait for them."""
    try:
        async with asyncio.timeout(_SUGGESTION_SECONDS):
            items = await model.suggest(messages)
    except TimeoutError:
        return
    yield Suggestions(items[:3])


# Tools ---------------------------------------------------------------------------------------------------------------


class _ToolFailureError(Exception):
    """A tool has no result; the text is for the user."""


async def _run(ask: Ask, context: Context) -> ToolOutput | ToolError:
    try:
        tool = _TOOLS[ask.name]
    except KeyError:
        return ToolError(code="unknown_tool", message="There is no such tool.")
    try:
        return ToolOutput(output=await tool(ask.input, context))
    except _ToolFailureError as failure:
        return ToolError(code="tool_failed", message=str(failure))


async def _branch_sales(_: dict[str, Any], context: Context) -> dict[str, Any]:
    if context.branch is None:
        raise _ToolFailureError("no branch is chosen")
    return await _sales_service(context.token.get_secret_value(), context.branch)


async def _change_theme(arguments: dict[str, Any], _: Context) -> dict[str, Any]:
    theme = arguments.get("value")
    if theme not in _THEMES:
        raise _ToolFailureError("there is no such theme")
    # The page does it; what it may be asked for is on a list there as well.
    emit(UIAction({"type": "change_theme", "value": theme}))
    return {"theme": theme}


async def _sales_service(token: str, branch: str) -> dict[str, Any]:
    """Another service, which trusts nobody but the token."""
    caller = read_token(token)
    await asyncio.sleep(_TOOL_SECONDS)
    total = zlib.crc32(f"{caller.tenant}/{branch}".encode()) % 1000
    return {"tenant": caller.tenant, "branch": branch, "total": total}


_TOOLS: dict[str, Callable[[dict[str, Any], Context], Awaitable[dict[str, Any]]]] = {
    "branch_sales": _branch_sales,
    "change_theme": _change_theme,
}
