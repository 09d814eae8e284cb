"""The pages: every Markdown file a reader is sent to, cut into its fenced blocks, links, headings and tables.

A comment on the line above a block says how it is tested, and readers never see it:

- `<!-- run: fragment -->` on Python: the block is a part of an application and uses the names of `fragment.py`.
  Without it the block is a whole module.
- `<!-- run: demo -->` on a shell block: its requests go to the chat server of `make run`.
- `<!-- run: served -->` on Python: a program beside that server, which it reaches by its address.
- `<!-- run: node -->` on TypeScript: the same, run by Node.js.
- `<!-- file: NAME -->` on any block: it is written to that file first, for the blocks and commands after it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PAGES", "ROOT", "Block", "anchors", "blocks", "links", "prose", "rows", "section"]

ROOT = Path(__file__).parents[2]
PAGES = [
    *(path.name for path in sorted(ROOT.glob("*.md"))),
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md"))),
]

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>\w+: [^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_ROW = re.compile(r"^\| (.+) \|$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block of `page`; its text begins after line number `line`."""

    page: str
    line: int
    language: str
    text: str
    mark: str

    @property
    def place(self) -> str:
        """Where it is, for a message."""
        return f"{self.page}:{self.line}"


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    text = _text(page)
    for match in _BLOCK.finditer(text):
        yield Block(
            page=page,
            line=text.count("\n", 0, match.start("text")),
            language=match["language"],
            text=match["text"],
            mark=match["mark"] or "",
        )


def prose(page: str) -> str:
    """The page without its blocks, in which `#` begins a comment and brackets are code."""
    return _BLOCK.sub("", _text(page))


def links(page: str) -> Iterator[str]:
    """The targets of a page's links, as written."""
    return (match[1] for match in _LINK.finditer(prose(page)))


def anchors(page: str) -> set[str]:
    """What a link to a heading of the page may have after `#`."""
    return {_anchor(title) for title in _HEADING.findall(prose(page))}


def section(page: str, title: str) -> str:
    """The text under the heading `title`, up to the next heading."""
    _, _, rest = prose(page).partition(f"# {title}\n")
    assert rest, f"{page} has no heading {title!r}"
    return _HEADING.split(rest, maxsplit=1)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of all rows of all tables, the lines between head and body left out."""
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in _ROW.findall(text)]
    return [row for row in cells if not all(set(cell) <= {"-", ":"} for cell in row)]


def _text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def _anchor(title: str) -> str:
    """As GitHub makes it: lower case, no punctuation, spaces as hyphens."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
