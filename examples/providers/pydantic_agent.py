"""An agent of Pydantic AI with two tools."""

import os
from typing import Annotated

from fastapi import Body, FastAPI, Response
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel

from tailrace import Tailrace

agent = Agent(OpenAIChatModel(os.environ.get("MODEL", "gpt-5-mini")))


@agent.tool_plain
async def get_weather(city: str) -> dict[str, object]:
    """The weather in a city."""
    return {"city": city, "temperature": 18}


@agent.tool_plain
async def get_news(city: str) -> str:
    """The news of a city."""
    return f"All is quiet in {city}."


app = FastAPI()
tail = Tailrace()
tail.install(app, "/runs")


@app.post("/chat")
async def chat(question: Annotated[str, Body(embed=True, max_length=4_000)]) -> Response:
    """Answer by a stream of events."""
    return tail.stream(lambda: agent.run_stream_events(question))
