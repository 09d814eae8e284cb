"""The project's own documentation, searched: SQLite's full-text index over the sections of its pages.

The pages are in the wheel, beside this package; in a checkout they are where they are written.
"""

import asyncio
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from tailrace.chat.agent.tools.contract import ToolRefusedError, tell
from tailrace.events import Source, Status

__all__ = ["Section", "search", "search_docs", "sections"]

_PACKAGED = Path(__file__).parents[1] / "docs"
_CHECKOUT = Path(__file__).parents[5] / "docs"
#: Of a section, as it is found; the rest is on the page.
_SECTION_CHARACTERS = 1200
#: A shorter one answers nothing.
_LEAST_CHARACTERS = 120
#: Why it was built so is not what somebody asks who uses it.
_LEFT_OUT = "decisions"
_QUERY_TERMS = 12
_RESULTS = 3

_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```.*?^```$|^<!--.*?-->$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
#: Too short, or in every question.
_EMPTY = frozenset(
    re.findall(
        r"\w+",
        "and are can could does doc docs documentation for from happens have how into its should tailrace that the "
        "there this was what when where which why with would you your",
    )
)


class Section(NamedTuple):
    """A part of a page under one heading; the page is a path below `docs`."""

    page: str
    name: str
    title: str
    text: str

    @property
    def heading(self) -> str:
        """The page's name and the section's title; the first section has both in one."""
        return self.name if self.title == self.name else f"{self.name}: {self.title}"


async def search_docs(query: str) -> dict[str, list[dict[str, str]]]:
    """Search the documentation of tailrace, the software that streams this chat.

    It is about runs, resuming, stopping, stores, dialects and deployment. Answer questions about them from here.

    Args:
        query: A few words.

    Raises:
        ToolRefusedError: The documentation is not installed.
    """
    tell(Status("Searching the documentation", state="searching"))
    found = await asyncio.to_thread(search, query)
    for section in found:
        tell(Source(kind="document", title=section.heading, filename=section.page, media_type="text/markdown"))
    return {"results": [{"page": section.page, "title": section.heading, "text": section.text} for section in found]}


def search(query: str) -> list[Section]:
    """The sections that go best with the words of the query: those with all of them, or else with any two.

    Reads files the first time, hence blocks; do not call it on an event loop.

    Raises:
        ToolRefusedError: The documentation is not installed.
    """
    terms = [f'"{term}"' for term in re.findall(r"\w{3,}", query.casefold()) if term not in _EMPTY][:_QUERY_TERMS]
    if not terms:
        return []
    index = _index()
    pairs = [f"({one} AND {other})" for one, other in combinations(terms, 2)]
    return index.find(" AND ".join(terms)) or (index.find(" OR ".join(pairs)) if pairs else [])


def sections(page: str, text: str) -> Iterator[Section]:
    """The sections of a page, without its code."""
    pieces = _HEADING.split(_BLOCK.sub("", text))
    name = pieces[1] if len(pieces) > 1 else page
    for title, body in zip(pieces[1::2], pieces[2::2], strict=True):
        plain = _LINK.sub(r"\1", body).strip()
        if len(plain) >= _LEAST_CHARACTERS:
            yield Section(page, name, title, plain[:_SECTION_CHARACTERS])


class _Index:
    """All sections in a database in memory, which any thread may ask."""

    def __init__(self, found: Iterable[Section]) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._database.execute(
            "CREATE VIRTUAL TABLE section USING fts5(page UNINDEXED, name, title, text, tokenize='porter')"
        )
        self._database.executemany("INSERT INTO section VALUES (?, ?, ?, ?)", found)

    def find(self, match: str) -> list[Section]:
        # A word in a title weighs more than one in the text.
        query = "SELECT * FROM section WHERE section MATCH ? ORDER BY bm25(section, 0, 2, 4, 1) LIMIT ?"
        with self._lock:
            return [Section(*row) for row in self._database.execute(query, (match, _RESULTS))]


@cache
def _index() -> _Index:
    folder = next((folder for folder in (_PACKAGED, _CHECKOUT) if folder.is_dir()), None)
    if folder is None:
        raise ToolRefusedError("docs_missing", "The documentation is not installed here.")
    pages = sorted(page for page in folder.glob("*/*.md") if page.parent.name != _LEFT_OUT)
    return _Index(
        section
        for page in pages
        for section in sections(str(page.relative_to(folder)), page.read_text(encoding="utf-8"))
    )
