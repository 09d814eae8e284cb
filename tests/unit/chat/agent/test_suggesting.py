"""Suggestions are what is a question in what the model says, and three at most."""

import pytest

from tailrace.chat.agent.suggesting import asking_for_suggestions, read_suggestions


@pytest.mark.parametrize(
    ("text", "questions"),
    [
        ("How warm is it?\nWill it rain?", ["How warm is it?", "Will it rain?"]),
        ("1. How warm?\n2) And then?\n- Why?\n* Who?", ["How warm?", "And then?", "Why?"]),
        ('Here are three:\n\n"How warm?"\n', ["How warm?"]),
        ("3 days or 4?", ["3 days or 4?"]),
        ("何度ですか\uff1f", ["何度ですか\uff1f"]),
        ("Why?\nWhy?", ["Why?"]),
        ("x" * 200 + "?", []),
        ("", []),
    ],
)
def test_each_line_that_asks_is_one(text: str, questions: list[str]) -> None:
    assert read_suggestions(text) == questions


def test_the_request_is_small_however_long_the_answer_is() -> None:
    messages, settings = asking_for_suggestions("q" * 100_000, "a" * 100_000)

    assert len(str(messages)) < 6_000
    assert settings.get("max_tokens") == 400
