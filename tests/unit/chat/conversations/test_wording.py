"""Text is kept whole, shown in one line, and found whatever its case."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tailrace.chat.conversations.wording import (
    TITLE_CHARACTERS,
    markdown_escaped,
    one_line,
    plain,
    searchable,
    title_of,
    whole,
)

ANY_TEXT = st.text(alphabet=st.characters())


@given(text=ANY_TEXT)
def test_what_is_kept_can_be_encoded_and_has_no_null(text: str) -> None:
    assert whole(text).encode().decode() == whole(text)
    assert "\0" not in plain(text)
    assert len(plain(text)) == len(whole(text)) == len(text)


@given(text=ANY_TEXT, limit=st.integers(1, 50))
def test_a_line_is_one_line_within_its_limit(text: str, limit: int) -> None:
    line = one_line(text, limit=limit)

    assert len(line) <= limit
    assert line == line.strip()
    assert len(line.splitlines()) <= 1
    assert line.isprintable() or any(not character.isprintable() for character in text)


@given(text=ANY_TEXT)
def test_a_title_is_short(text: str) -> None:
    title = title_of(text * 20)

    assert len(title) <= TITLE_CHARACTERS
    assert bool(title) == bool(one_line(text, limit=100))


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("", ""),
        ("Hello", "Hello"),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 59 + "…"),
        ("Why does it rain so often in the month of April, and why not in May?",
         "Why does it rain so often in the month of April, and why…"),
        ("First line\r\nsecond\tline\0end", "First line second line end"),
        ("a " + "x" * 100, "a " + "x" * 57 + "…"),
        ("a\u202eb", "a b"),
    ],
)  # fmt: skip
def test_a_title_is_cut_at_a_word(text: str, title: str) -> None:
    assert title_of(text) == title


@given(text=ANY_TEXT)
def test_a_text_finds_itself_in_any_case(text: str) -> None:
    assert searchable(searchable(text)) == searchable(text)
    assert "\0" not in searchable(text)


@given(line=ANY_TEXT.map(lambda text: one_line(text, limit=100)))
def test_escaped_markdown_means_these_characters(line: str) -> None:
    tokens = MarkdownIt("commonmark").parse(f"# {markdown_escaped(line)}")

    assert [token.type for token in tokens] == ["heading_open", "inline", "heading_close"]
    assert {child.type for child in tokens[1].children or []} <= {"text", "text_special"}
    assert "".join(child.content for child in tokens[1].children or []) == line
