"""The agent that the browser tests talk to: words at a steady pace, and a mark on disk for each thing it did.

The server runs in a process of its own, so what its sources did is told by files: one line per fact in `$E2E_MARKS`.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from tailrace.chat.agent.assistant import Assistant
from tailrace.chat.agent.contract import Question
from tailrace.chat.agent.demo_model import DemoModel
from tailrace.chat.identity.contract import LOCAL
from tailrace.events import Event

__all__ = ["agent"]

_MARKS = Path(os.environ["E2E_MARKS"])
_ASSISTANT = Assistant(DemoModel(pace=0.2))


async def agent(message: str) -> AsyncIterator[str | Event]:
    """`count N` counts to N, ten a second; `endless` never ends; anything else is the assistant's."""
    _mark(f"opened {message}")
    try:
        if message.startswith("count "):
            for number in range(1, int(message.removeprefix("count ")) + 1):
                yield f"{number} "
                await asyncio.sleep(0.05)
        elif message == "endless":
            while True:
                yield "and on "
                await asyncio.sleep(0.05)
        else:
            async for event in _ASSISTANT.answer(Question(text=message, identity=LOCAL)):
                yield event
    finally:
        _mark(f"closed {message}")


def _mark(fact: str) -> None:
    with _MARKS.open("a", encoding="utf-8") as file:
        file.write(f"{fact}\n")
