"""An agent of the OpenAI Agents SDK with two tools."""

import os
from typing import Annotated

from agents import Agent, Runner, function_tool
from fastapi import Body, FastAPI, Response

from tailrace import Tailrace


@function_tool
async def get_weather(city: str) -> dict[str, object]:
    """The weather in a city."""
    return {"city": city, "temperature": 18}


@function_tool
async def get_news(city: str) -> str:
    """The news of a city."""
    return f"All is quiet in {city}."


agent = Agent(name="guide", model=os.environ.get("MODEL", "gpt-5-mini"), tools=[get_weather, get_news])

app = FastAPI()
tail = Tailrace()
tail.install(app, "/runs")


@app.post("/chat")
async def chat(question: Annotated[str, Body(embed=True, max_length=4_000)]) -> Response:
    """Answer by a stream of events."""
    return tail.stream(lambda: Runner.run_streamed(agent, question))
