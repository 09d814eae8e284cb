"""Text as it can be kept, shown in one line, and searched. Pure.

UTF-8 has no lone surrogates, so no database keeps one, and U+FFFD stands for each. PostgreSQL's text has no null
character: in what users and models say it is an escape in JSON and is kept; elsewhere U+FFFD stands for it too.
"""

import re
import unicodedata

__all__ = ["TITLE_CHARACTERS", "markdown_escaped", "one_line", "plain", "searchable", "title_of", "whole"]

#: A title that nobody chose is cut here.
TITLE_CHARACTERS = 60

#: Of longer texts only the beginning is searched.
_SEARCHED_CHARACTERS = 32_768

_SURROGATES = re.compile("[\ud800-\udfff]")
#: Control characters, and those that turn the direction of what follows.
_UNPRINTED = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_REPLACEMENT = "\ufffd"


def whole(text: str) -> str:
    """The text without lone surrogates."""
    return _SURROGATES.sub(_REPLACEMENT, text)


def plain(text: str) -> str:
    """The text as any database keeps it."""
    return whole(text).replace("\0", _REPLACEMENT)


def one_line(text: str, *, limit: int) -> str:
    """The text without what is not printed, its white space single, and cut to `limit` characters."""
    return " ".join(_UNPRINTED.sub(" ", whole(text)).split())[:limit].rstrip()


def title_of(text: str) -> str:
    """A title for a conversation that begins with this text: its first words in one line."""
    line = one_line(text[: 10 * TITLE_CHARACTERS], limit=2 * TITLE_CHARACTERS)
    if len(line) <= TITLE_CHARACTERS:
        return line
    words, _, _ = line[:TITLE_CHARACTERS].rpartition(" ")
    # A cut in the middle of a word is better than half of the room left empty.
    kept = words if len(words) > TITLE_CHARACTERS // 2 else line[: TITLE_CHARACTERS - 1]
    return f"{kept.rstrip(' ,.;:-')}…"


def searchable(text: str) -> str:
    """The text as it is compared: without case, and without regard to white space and ways of writing a character."""
    folded = unicodedata.normalize("NFKC", whole(text[:_SEARCHED_CHARACTERS])).casefold()
    return one_line(unicodedata.normalize("NFKC", folded), limit=_SEARCHED_CHARACTERS)


def markdown_escaped(line: str) -> str:
    """The line as Markdown that means these characters. Source: CommonMark 0.31, section 2.4."""
    return _PUNCTUATION.sub(r"\\\1", line)
