"""The assistant: scripted, so it needs no key and gives the same question the same answer. It looks at the weather.

What a visitor asked is kept by visitor and session, in memory; yours would be in a database.
"""

import asyncio
import os
import re
import zlib
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass

from tailrace import Event, ToolError, ToolOutput, ToolReady, ToolStarted

__all__ = ["Sessions", "answer"]

#: Factor on every wait; 0 waits for nothing.
PACE = float(os.environ.get("PACE", "1"))
_WORD_SECONDS, _TOOL_SECONDS = 0.05 * PACE, 0.6 * PACE
_SESSIONS, _QUERIES = 10_000, 20
_CITIES = ("Amsterdam", "Berlin", "Cairo", "Lima", "Oslo", "San Francisco", "Tokyo")
_HOME = "San Francisco"
_SKIES = ("Sunny", "Cloudy", "Light rain", "Fog")


class Sessions:
    """The last queries of each session. The same id is another session for another visitor."""

    def __init__(self) -> None:
        self._queries: OrderedDict[tuple[str, str], deque[str]] = OrderedDict()

    def add(self, visitor: str, session_id: str, query: str) -> list[str]:
        """Remember a query; those before it. What was not used for longest is forgotten first."""
        queries = self._queries.setdefault((visitor, session_id), deque(maxlen=_QUERIES))
        self._queries.move_to_end((visitor, session_id))
        if len(self._queries) > _SESSIONS:
            self._queries.popitem(last=False)
        before = list(queries)
        queries.append(query)
        return before


async def answer(query: str, before: list[str]) -> AsyncGenerator[str | Event]:
    """Text, each tool's call before it runs, and its result.

    Raises:
        RuntimeError: Asked to fail; its text is for the server's log only.
    """
    cities = [city for city in _CITIES if city.lower() in query.lower()]
    if "weather" in query.lower() or cities:
        async for item in _weather(cities or [_HOME]):
            yield item
    elif "before" in query.lower():
        async for word in _say(f"In this session you asked before: {' / '.join(before) or 'nothing'}."):
            yield word
    else:
        async for word in _say("Welcome to SuperCar! I am a script, not a model.\nAsk me what the weather is like."):
            yield word
    if "fail" in query.lower():
        raise RuntimeError("assistant broke: password=hunter2")


async def _weather(cities: list[str]) -> AsyncGenerator[str | Event]:
    async for word in _say("Let me look at the weather before you take a test drive. "):
        yield word
    calls = [_Call(f"weather_{number}", city) for number, city in enumerate(cities, 1)]
    for call in calls:
        yield ToolStarted(name="get_weather", call_id=call.id)
        yield ToolReady(call_id=call.id, input={"city": call.city})
    # Side by side: whatever is known first comes first, and the ids tell which call it is the result of.
    looks = [asyncio.create_task(_look(call, len(calls) - place)) for place, call in enumerate(calls)]
    try:
        for look in asyncio.as_completed(looks):
            yield await look
    finally:
        for look in looks:
            look.cancel()
    drives = " and ".join(f"{_sky(city).lower()} in {city}" for city in cities)
    async for word in _say(f"It is {drives}. Which car shall I get ready?"):
        yield word


@dataclass(frozen=True, slots=True)
class _Call:
    id: str
    city: str


async def _look(call: _Call, turns: int) -> ToolOutput | ToolError:
    await asyncio.sleep(_TOOL_SECONDS * turns)
    if call.city == "Lima":
        return ToolError(call_id=call.id, code="unavailable", message="The weather service knows nothing of Lima.")
    output = {"temperature": zlib.crc32(call.city.encode()) % 35, "conditions": _sky(call.city), "city": call.city}
    return ToolOutput(call_id=call.id, output=output)


def _sky(city: str) -> str:
    return _SKIES[zlib.crc32(city.encode()) % len(_SKIES)]


async def _say(text: str) -> AsyncGenerator[str]:
    for word in _words(text):
        await asyncio.sleep(_WORD_SECONDS)
        yield word


def _words(text: str) -> Iterable[str]:
    return re.findall(r"\s*\S+\s*", text)
