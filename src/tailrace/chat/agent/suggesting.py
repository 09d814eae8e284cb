"""Questions to go on with: how a model is asked for them, and how they are read from what it says."""

import re

from pydantic_ai.messages import ModelMessage, ModelRequest, SystemPromptPart, UserPromptPart
from pydantic_ai.settings import ModelSettings

__all__ = ["asking_for_suggestions", "read_suggestions"]

_MOST = 3
_QUESTION_CHARACTERS = 120
#: Of what was asked and answered; more of it makes no better questions.
_EXCERPT_CHARACTERS = 2_000
_TOKENS = 400

_ASKED = """\
Here is a question to an assistant and its answer. Write three short questions that the same user may ask next, in the \
user's language, one in each line, and nothing else."""
_MARKER = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s*")


def asking_for_suggestions(question: str, answer: str) -> tuple[list[ModelMessage], ModelSettings]:
    """The request."""
    told = f"Question:\n{question[-_EXCERPT_CHARACTERS:]}\n\nAnswer:\n{answer[-_EXCERPT_CHARACTERS:]}"
    request = ModelRequest(parts=[SystemPromptPart(_ASKED), UserPromptPart(told)])
    return [request], ModelSettings(max_tokens=_TOKENS)


def read_suggestions(text: str) -> list[str]:
    """The questions in the text: one in each line, lines that are none left out, and the same again too."""
    lines = (_MARKER.sub("", line).strip().strip('"') for line in text.splitlines())
    questions = (
        line for line in lines if line.endswith(("?", "\N{FULLWIDTH QUESTION MARK}", "\N{ARABIC QUESTION MARK}"))
    )
    fitting = [question for question in questions if len(question) <= _QUESTION_CHARACTERS]
    return list(dict.fromkeys(fitting))[:_MOST]
