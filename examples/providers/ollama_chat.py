"""A chat with a model that Ollama runs, here or at `OLLAMA_HOST`."""

import os
from typing import Annotated, Any

from fastapi import Body, FastAPI, Response
from ollama import AsyncClient

from tailrace import Tailrace

client: Any = AsyncClient()
model = os.environ.get("MODEL", "qwen3:8b")

app = FastAPI()
tail = Tailrace()
tail.install(app, "/runs")


@app.post("/chat")
async def chat(question: Annotated[str, Body(embed=True, max_length=4_000)]) -> Response:
    """Answer by a stream of events."""
    messages = [{"role": "user", "content": question}]
    return tail.stream(lambda: client.chat(model=model, messages=messages, stream=True))
