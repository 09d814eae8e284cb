"""What a block marked `run: fragment` may use without showing it: the application that the tutorial ends with."""

from collections.abc import AsyncGenerator

from fastapi import FastAPI
from pydantic import BaseModel

from tailrace import Tailrace

app = FastAPI()
tail = Tailrace()
tail.install(app, "/runs")


class Question(BaseModel):
    """What the page sends."""

    text: str


async def answer(text: str) -> AsyncGenerator[str]:
    """An agent that needs no model."""
    for word in f"You asked: {text}".split(" "):
        yield f"{word} "
