"""A chat completion of Groq."""

import os
from typing import Annotated

from fastapi import Body, FastAPI, Response
from groq import AsyncGroq

from tailrace import Tailrace

client = AsyncGroq()
model = os.environ.get("MODEL", "openai/gpt-oss-120b")

app = FastAPI()
tail = Tailrace()
tail.install(app, "/runs")


@app.post("/chat")
async def chat(question: Annotated[str, Body(embed=True, max_length=4_000)]) -> Response:
    """Answer by a stream of events."""
    return tail.stream(
        lambda: client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}], stream=True
        )
    )
