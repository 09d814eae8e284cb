"""All tools as one toolset, in which no tool can end a run, hang, or tell a stranger what went wrong inside it."""

import asyncio
import logging
import secrets
from dataclasses import dataclass
from typing import Any

from pydantic_ai import FunctionToolset, ModelRetry, RunContext, ToolFailed
from pydantic_ai.toolsets import ToolsetTool, WrapperToolset

from tailrace.chat.agent.tools.calculator import calculator
from tailrace.chat.agent.tools.clock import clock
from tailrace.chat.agent.tools.contract import ToolContext, ToolRefusedError
from tailrace.chat.agent.tools.docs import search_docs
from tailrace.chat.agent.tools.long_job import long_job
from tailrace.chat.agent.tools.page import set_theme
from tailrace.chat.agent.tools.weather import get_weather

__all__ = ["GuardedTools", "own_tools"]

_logger = logging.getLogger("tailrace")


def own_tools() -> FunctionToolset[ToolContext]:
    """The tools that come with the chat server."""
    return FunctionToolset([calculator, clock, get_weather, long_job, search_docs, set_theme])


@dataclass
class GuardedTools(WrapperToolset[ToolContext]):
    """Lets a tool's failure be the failure of its call, of which the model and the page get one sentence.

    Attributes:
        timeout_seconds: How long a call may take.
    """

    timeout_seconds: float = 60.0

    async def call_tool(
        self,
        name: str,
        tool_args: dict[str, Any],
        ctx: RunContext[ToolContext],
        tool: ToolsetTool[ToolContext],
    ) -> Any:  # noqa: ANN401  any JSON value
        """What the tool returns.

        Raises:
            ToolFailed: It has no answer.
            ModelRetry: It wants other arguments.
        """
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await super().call_tool(name, tool_args, ctx, tool)
        except (ModelRetry, ToolFailed):
            raise
        except Exception as error:
            code, message = _refusal(name, error)
            if ctx.tool_call_id is not None:
                ctx.deps.refusals[ctx.tool_call_id] = code, message
            raise ToolFailed(message) from error


def _refusal(name: str, error: Exception) -> tuple[str, str]:
    match error:
        case ToolRefusedError():
            return error.code, str(error)
        case TimeoutError():
            _logger.warning("the tool %s took too long", name)
            return "tool_timeout", "The tool took too long."
        case _:
            correlation_id = secrets.token_hex(6)
            _logger.error("the tool %s failed (correlation id %s)", name, correlation_id, exc_info=error)
            return "tool_error", f"The tool failed (correlation id {correlation_id})."
