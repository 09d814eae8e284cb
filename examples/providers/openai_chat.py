"""A chat completion of OpenAI, or of a compatible server at `OPENAI_BASE_URL`."""

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
    return tail.stream(
        lambda: client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": question}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
