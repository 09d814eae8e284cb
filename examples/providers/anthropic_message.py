"""A message of Anthropic."""

import os
from typing import Annotated

from anthropic import AsyncAnthropic
from fastapi import Body, FastAPI, Response

from tailrace import Tailrace

client = AsyncAnthropic()
model = os.environ.get("MODEL", "claude-sonnet-5")

app = FastAPI()
tail = Tailrace()
tail.install(app, "/runs")


@app.post("/chat")
async def chat(question: Annotated[str, Body(embed=True, max_length=4_000)]) -> Response:
    """Answer by a stream of events."""
    return tail.stream(
        lambda: client.messages.create(
            model=model, messages=[{"role": "user", "content": question}], max_tokens=4_000, stream=True
        )
    )
