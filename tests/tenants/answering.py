"""The agent that these tests serve: it repeats the user's message word by word, and waits where it is told to.

At a word such as `gate:one` it stands at the gate `one` of the test's process, and says nothing of that word. At one
such as `call:pick` it leaves the rest to the page, whose tool `pick` it calls. Where it is asked nothing it goes on.
"""

import asyncio
import os
from collections.abc import AsyncGenerator

from tailrace.events import Event, RunCompleted, ToolReady, ToolStarted

__all__ = ["answer"]


async def answer(message: str) -> AsyncGenerator[str | Event]:
    for word in message.split(" ") if message else ["so be it"]:
        kind, _, name = word.partition(":")
        if kind == "gate":
            await _pass(name)
        elif kind == "call":
            yield ToolStarted(call_id=f"call-of-{name}", name=name)
            yield ToolReady(call_id=f"call-of-{name}", input={"from": [1, 2]})
            yield RunCompleted(finish_reason="tool_calls")
        else:
            yield f"{word}! "


async def _pass(name: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(os.environ["SITE_GATES"]))
    try:
        writer.write(f"{name}\n".encode())
        await reader.read()
    finally:
        writer.close()
