"""The documentation is found by its words."""

import pytest

from tailrace.chat.agent.tools.docs import Section, search, sections

PAGE = """\
# The page

What it is about, in one sentence, and then some more of it, so that this section is long enough to be an answer to
somebody.

<!-- run: demo -->
```sh
# no heading
curl nothing
```

## A part

It has a [link](elsewhere.md) in it, and quite a few words beside that, because a section that is shorter than this
one answers nothing.

## Too short

Really.
"""


def test_a_page_is_cut_at_its_headings_and_its_code_is_left_out() -> None:
    found = list(sections("how-to/page.md", PAGE))

    assert [(section.title, section.heading) for section in found] == [
        ("The page", "The page"),
        ("A part", "The page: A part"),
    ]
    assert all("curl" not in section.text for section in found)
    assert "a link in it" in found[1].text


def test_a_long_section_is_cut() -> None:
    (section,) = sections("page.md", f"# Long\n\n{'word ' * 10_000}")

    assert len(section.text) <= 1200


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("How do I stop a run?", "how-to/stop-and-disconnect.md"),
        ("keep runs in Redis", "how-to/stores.md"),
        ("testing", "how-to/test-your-stream.md"),
        ("useChat resuming", "how-to/use-chat.md"),
    ],
)
def test_a_question_finds_the_page_about_it(query: str, page: str) -> None:
    assert page in {section.page for section in search(query)}


@pytest.mark.parametrize("query", ["", "?", "the and", "xyzzy", "How does photosynthesis work?", "x" * 10_000])
def test_what_is_not_in_it_is_not_found(query: str) -> None:
    assert search(query) == []


@pytest.mark.parametrize("query", ['"', '" OR page:x', "redis NEAR(a b", "stop*", "title : redis -runs ^"])
def test_signs_of_the_query_language_are_none(query: str) -> None:
    assert all(isinstance(section, Section) for section in search(query))


def test_a_long_query_is_no_burden() -> None:
    found = search(" ".join(["redis", "stream", *(f"word{number}" for number in range(5_000))]))

    assert all(isinstance(section, Section) for section in found)
