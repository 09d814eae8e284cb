"""The model: OpenAI's client if there is a key in the environment, and otherwise a script that speaks like one."""

import os
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["APOLOGY_FOR", "MODEL", "ModelError", "Scripted", "model"]

MODEL = os.environ.get("OPENAI_MODEL", "gpt-5-mini")
#: Seconds between two chunks of the script.
PACE = float(os.environ.get("PACE", "0.05"))


class ModelError(Exception):
    """The script was asked to fail, and says what nobody outside should read."""


@dataclass
class Delta:
    """What a chunk adds to the message."""

    content: str | None = None
    role: str | None = None


@dataclass
class Choice:
    """The only choice."""

    delta: Delta = field(default_factory=Delta)
    finish_reason: str | None = None


@dataclass
class Chunk:
    """A `chat.completion.chunk`, as far as anybody here reads it."""

    choices: list[Choice]
    usage: dict[str, int] | None = None


class Completions:
    """`chat.completions`, called as that of OpenAI's client."""

    def create(self, *, messages: list[dict[str, Any]], **options: Any) -> Generator[Chunk]:  # noqa: ANN401  many kinds
        """The chunks of one answer.

        Raises:
            ModelError: The last message asks for it.
        """
        question = str(messages[-1]["content"])
        if "fail at once" in question:
            raise ModelError("503 from upstream, key sk-secret")
        return self._chunks(question, int(options.get("max_tokens", 256)))

    def _chunks(self, question: str, max_tokens: int) -> Generator[Chunk]:
        yield Chunk([Choice(Delta(role="assistant", content=""))])
        words = f"You asked: {question} — 34°C, 日本語, 😀. A script says this; with a key a model would."
        for number, word in enumerate(words.split(" ")):
            if number == max_tokens:
                break
            if number == 4 and "fail half-way" in question:
                raise ModelError("connection reset, key sk-secret")
            time.sleep(PACE)
            yield Chunk([Choice(Delta(content=word if number == 0 else f" {word}"))])
        yield Chunk([Choice(finish_reason="stop")])
        yield Chunk([], usage={"total_tokens": 42})


class Chat:
    """`chat`."""

    completions = Completions()


class Scripted:
    """In place of `openai.OpenAI()`."""

    chat = Chat()


def _open() -> tuple[Any, tuple[type[Exception], ...]]:
    if "OPENAI_API_KEY" not in os.environ:
        return Scripted(), (ModelError,)
    import openai

    return openai.OpenAI(timeout=30), (openai.OpenAIError,)


#: The client, and what it raises when a call fails.
model, APOLOGY_FOR = _open()
