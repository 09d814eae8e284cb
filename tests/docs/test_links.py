"""A reader is never sent to a page or a heading that is not there, and every page can be found."""

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, blocks, links

#: What blocks are written in; those in `python`, `sh`, `console` and `text` are tried, see `test_examples`.
LANGUAGES = {"", "console", "html", "js", "nginx", "python", "sh", "text", "toml", "ts", "tsx"}


def targets(page: str) -> list[tuple[str, str]]:
    """The pages of this repository that a page links to, with the anchor or ""."""
    found: list[tuple[str, str]] = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        if "://" not in link:
            target = (ROOT / page).parent / path if path else ROOT / page
            found.append((str(Path(target).resolve().relative_to(ROOT.resolve())), anchor))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    broken = [
        f"{path}#{anchor}"
        for path, anchor in targets(page)
        if not (ROOT / path).is_file() or (anchor and anchor not in anchors(path))
    ]

    assert broken == []


def test_every_page_is_reached_from_the_readme() -> None:
    found = {"README.md"}
    waiting = ["README.md"]
    while waiting:
        new = {path for path, _ in targets(waiting.pop()) if path in PAGES} - found
        found |= new
        waiting += new

    assert found == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_in_languages_that_the_tests_know(page: str) -> None:
    unknown = [block.place for block in blocks(page) if block.language not in LANGUAGES]

    assert unknown == []
