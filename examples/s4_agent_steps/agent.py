"""The work behind the routes: scripted, so it needs no model and no key, and says the same each time.

Each function is a source: it yields text and events, and what its last `RunCompleted` returns is in `complete`. None
of them knows HTTP, a timeout or a disconnect: the run that they are the source of does.
"""

import asyncio
import os
import re
import time
from collections.abc import AsyncGenerator

from tailrace import Data, Event, Progress, RunCompleted, Status, Thought, ToolOutput, ToolReady, ToolStarted

__all__ = [
    "PACE",
    "PROCESS_STEPS",
    "answer",
    "break_down",
    "count_down",
    "count_up",
    "execute",
    "greet",
    "hang",
    "process",
    "progress",
    "send_messages",
    "think",
]

#: Factor on every wait; 0 waits for nothing.
PACE = float(os.environ.get("PACE", "1"))
PROCESS_STEPS = ("Read the input", "Look things up", "Work it out", "Check the result", "Write it down")

_SECOND = 1.0 * PACE
_STEP_SECONDS = 0.8 * PACE
_WORD_SECONDS = 0.08 * PACE
_PLAN = (
    ("analysis", "What is asked for"),
    ("planning", "Which steps lead there"),
    ("execution", "Take them one by one"),
    ("conclusion", "What came out"),
)

Source = AsyncGenerator[str | Event]


async def send_messages() -> Source:
    """Five messages, one a second."""
    for number in range(1, 6):
        yield Data(name="message", data={"message": f"Message {number}", "number": number})
        await asyncio.sleep(_SECOND)
    yield RunCompleted(result={"message": "All messages were sent."})


async def greet() -> Source:
    """A sentence, word by word; nothing is lost of its spaces."""
    for word in _words("Hello from a stream,  word\nby word. — ¡Olé!"):
        yield word
        await asyncio.sleep(_WORD_SECONDS)
    yield RunCompleted(result={"done": True})


async def progress() -> Source:
    """From nothing to all, in tenths."""
    for tenth in range(11):
        yield Progress(value=tenth / 10, label=f"Part {tenth} of 10")
        await asyncio.sleep(_STEP_SECONDS / 4)
    yield RunCompleted(result={"message": "Everything is done."})


async def count_down(seconds: int) -> Source:
    """The seconds that remain."""
    for remaining in range(seconds, 0, -1):
        yield Data(name="countdown", data={"remaining": remaining})
        await asyncio.sleep(_SECOND)
    yield Data(name="countdown", data={"remaining": 0})
    yield RunCompleted(result={"message": "Time is up."})


async def process() -> Source:
    """Step by step, each with its result."""
    started_at = time.monotonic()
    for number, step in enumerate(PROCESS_STEPS, 1):
        yield Status(step, state="processing")
        await asyncio.sleep(_STEP_SECONDS)
        percent = 100 * number // len(PROCESS_STEPS)
        yield Data(name="result", data={"step": number, "result": f"{step}: done", "progress": percent})
    yield RunCompleted(result={"result": "Processed.", "duration_seconds": _seconds_since(started_at)})


async def execute(operation: str) -> Source:
    """One task: what is done, how far it is, and how it ended."""
    started_at = time.monotonic()
    yield Status(f"Begin to {operation}", state="started")
    for number, step in enumerate(PROCESS_STEPS, 1):
        await asyncio.sleep(_STEP_SECONDS)
        yield Progress(value=number / len(PROCESS_STEPS), label=step)
    yield RunCompleted(
        result={
            "final_status": "completed",
            "result": f"{operation}: done",
            "duration_seconds": _seconds_since(started_at),
        }
    )


async def answer(query: str) -> Source:
    """An agent: it thinks, asks a tool and answers word by word."""
    for number, line in enumerate(("Read the question", "See whether a tool helps"), 1):
        yield Data(name="thinking", data={"step": number, "total": 2, "message": line})
        await asyncio.sleep(_STEP_SECONDS)
    yield ToolStarted(name="word_count")
    yield ToolReady(input={"text": query})
    await asyncio.sleep(_STEP_SECONDS)
    count = len(query.split())
    yield ToolOutput(output={"words": count})
    words = _words(f"You asked: {query}\nThat is {count} words. I am a script and know no more than that.")
    for word in words:
        yield word
        await asyncio.sleep(_WORD_SECONDS)
    yield RunCompleted(result={"done": True, "tokens": len(words)})


async def think(query: str) -> Source:
    """An agent that shows its plan, thought by thought."""
    total = len(_PLAN)
    for number, (kind, line) in enumerate(_PLAN, 1):
        plan = {"plan": [text for _, text in _PLAN]} if kind == "planning" else {}
        if plan:
            yield Data(name="thought", data={"step": number, "total": total, "thought": line, "type": kind, **plan})
        else:
            yield Thought(line, step=number, total=total, kind=kind)
        await asyncio.sleep(_STEP_SECONDS)
    yield RunCompleted(result={"thoughts_count": total, "result": f"Thought about: {query}"})


async def break_down() -> Source:
    """Begins well and breaks, as anything may once the status line is gone.

    Raises:
        RuntimeError: In any case; its text is for the server's log only.
    """
    for number in range(1, 4):
        yield Status(f"Step {number} of 5", state="processing")
        await asyncio.sleep(_STEP_SECONDS / 2)
    raise RuntimeError("agent broke: password=hunter2")


async def count_up() -> Source:
    """Never ends by itself."""
    number = 0
    while True:
        number += 1
        yield Data(name="message", data={"count": number})
        await asyncio.sleep(_SECOND / 2)


async def hang() -> Source:
    """Says two things, and then waits for what never comes."""
    for number in (1, 2):
        yield Status(f"Step {number}", state="processing")
        await asyncio.sleep(_STEP_SECONDS / 2)
    await asyncio.Event().wait()


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+\s*", text)


def _seconds_since(started_at: float) -> float:
    return round(time.monotonic() - started_at, 2)
