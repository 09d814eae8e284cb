"""A chat model of LangChain."""

import os
from typing import Annotated

from fastapi import Body, FastAPI, Response
from langchain_openai import ChatOpenAI

from tailrace import Tailrace

model = ChatOpenAI(model=os.environ.get("MODEL", "gpt-5-mini"))

app = FastAPI()
tail = Tailrace()
tail.install(app, "/runs")


@app.post("/chat")
async def chat(question: Annotated[str, Body(embed=True, max_length=4_000)]) -> Response:
    """Answer by a stream of events."""
    return tail.stream(lambda: model.astream(question))
