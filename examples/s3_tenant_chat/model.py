"""A scripted stand-in for a language model: it needs no key, and the same conversation gets the same answer.

It has the shape of a real one: it is given the conversation and what tools returned, and gives text or asks for tools.
"""

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["PACE", "Ask", "Message", "complete", "suggest"]

#: Factor on every wait; 0 waits for nothing.
PACE = float(os.environ.get("PACE", "1"))
_WORD_SECONDS = 0.04 * PACE
_SUGGEST_SECONDS = 0.2 * PACE
_NEVER_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Message:
    """`role` is `user`, `assistant` or `tool`; of a tool, `name` says which and `output` what it returned."""

    role: str
    text: str = ""
    name: str = ""
    output: Any = None


@dataclass(frozen=True, slots=True)
class Ask:
    """The model wants a tool to be run."""

    name: str
    input: dict[str, Any] = field(default_factory=dict[str, Any])


async def complete(messages: Sequence[Message]) -> AsyncGenerator[str | Ask]:
    """Go on with the conversation: words, and requests for tools.

    Raises:
        RuntimeError: Asked to fail; its text is for the server's log only.
    """
    question = next(message.text for message in reversed(messages) if message.role == "user")
    results = _since_question(messages)
    asks = _asks(question.lower(), results)
    for ask in asks:
        yield ask
    if asks:
        return
    for word in re.findall(r"\s*\S+\s*", _answer(question, messages, results)):
        await asyncio.sleep(_WORD_SECONDS)
        yield word
    if "fail" in question.lower():
        raise RuntimeError("model broke: password=hunter2")


async def suggest(messages: Sequence[Message]) -> list[str]:
    """What the user may want to ask next; a second call of the model, which may take its time."""
    question = next(message.text for message in reversed(messages) if message.role == "user")
    await asyncio.sleep(_NEVER_SECONDS if "slow suggestions" in question else _SUGGEST_SECONDS)
    return ["How are sales at this branch?", "Switch to the dark theme", "What did I ask before?"]


def _since_question(messages: Sequence[Message]) -> list[Message]:
    results: list[Message] = []
    for message in reversed(messages):
        if message.role == "user":
            break
        if message.role == "tool":
            results.insert(0, message)
    return results


def _asks(question: str, results: Sequence[Message]) -> list[Ask]:
    """What it still wants to know before it answers."""
    if "keep looking" in question:
        return [Ask("branch_sales")]
    if results:
        return []
    theme = re.search(r"\b(dark|light)\b", question)
    asks = [Ask("branch_sales")] if "sales" in question else []
    return [*asks, Ask("change_theme", {"value": theme[1]})] if theme else asks


def _answer(question: str, messages: Sequence[Message], results: Sequence[Message]) -> str:
    if results:
        return " ".join(_SAID_OF[result.name](result.output) for result in results)
    lowered = question.lower()
    if "before" in lowered:
        earlier = [message.text for message in messages if message.role == "user"][:-1]
        return f"Before this you asked: {' / '.join(earlier) or 'nothing'}."
    return next((text for word, text in _TEXTS.items() if word in lowered), _GREETING)


def _said_of_sales(output: Any) -> str:  # noqa: ANN401  JSON
    if "error" in output:
        return f"I could not look: {output['error']}."
    return f"Branch **{output['branch']}** of {output['tenant']} sold **{output['total']}** things today."


def _said_of_theme(output: Any) -> str:  # noqa: ANN401  JSON
    return f"I asked the page for its {output['theme']} theme."


_SAID_OF = {"branch_sales": _said_of_sales, "change_theme": _said_of_theme}

_GREETING = "Hello 👋, I am a **script**, not a language model. Ask me about sales, for a dark theme, or a long answer."
_TEXTS = {
    "long": " ".join(f"Sentence {number} of a long answer, which costs a déjà vu — 日本." for number in range(1, 26)),
    "markup": 'Text is **bold**, *soft* or `code`:\n\n- <img src=x onerror="window.hacked = true">\n'
    "- [a link](https://example.com) and [a trap](javascript:window.hacked=true)\n\n```\n<script>1</script>\n```\n",
    "fail": "This answer begins well and breaks in the middle of a ",
}
