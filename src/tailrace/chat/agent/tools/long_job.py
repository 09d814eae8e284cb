"""A tool that takes its time and tells how far it is, so that reloading, resuming and stopping can be seen."""

import asyncio
from typing import Annotated

from pydantic import Field
from pydantic_ai import RunContext

from tailrace.chat.agent.tools.contract import ToolContext, tell
from tailrace.events import Progress, Status

__all__ = ["long_job"]

_PART_SECONDS = 2.0


async def long_job(ctx: RunContext[ToolContext], parts: Annotated[int, Field(ge=1, le=12)] = 10) -> dict[str, int]:
    """Do nothing useful, slowly, two seconds for each part. Use it only if somebody wants to see a slow tool.

    Args:
        ctx: Has the pace.
        parts: How many.
    """
    tell(Status("Waiting", state="waiting"))
    for part in range(1, parts + 1):
        await asyncio.sleep(ctx.deps.pace * _PART_SECONDS)
        tell(Progress(id="slow", value=part / parts, label=f"Part {part} of {parts}"))
    tell(Status("Done waiting", state="writing"))
    return {"parts_done": parts}
