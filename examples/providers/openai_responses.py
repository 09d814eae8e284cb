"""A response of OpenAI."""

import os
from typing import Annotated

from fastapi import Body, FastAPI, Response
from openai import AsyncOpenAI

from tailrace import Tailrace

client = AsyncOpenAI()
model = os.environ.get("MODEL", "gpt-5-mini")

app = FastAPI()
tail = Tailrace()
tail.install(app, "/runs")


@app.post("/chat")
async def chat(question: Annotated[str, Body(embed=True, max_length=4_000)]) -> Response:
    """Answer by a stream of events."""
    return tail.stream(lambda: client.responses.create(model=model, input=question, stream=True))
