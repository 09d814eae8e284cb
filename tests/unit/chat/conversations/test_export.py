"""A conversation as a file says what was said, to the letter, and a message stays where it belongs."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tailrace.chat.conversations.export import as_json, as_markdown, disposition
from tailrace.chat.conversations.records import ConversationDocument, StoredMessage
from tailrace.events import Usage
from tailrace.fold import Failure, TextPart, ToolPart

# What CommonMark takes for a line's end is one in every text, and a null character is none of its characters.
TEXTS = st.one_of(
    st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=60),
    st.lists(st.sampled_from(["```", "````", "~~~", "# ", "\n", "<!--", "> ", "x", "`", " ", "    ", "- "])).map(
        "".join
    ),
)


def message(number: int, text: str) -> StoredMessage:
    return StoredMessage(
        id=f"m{number}",
        role="assistant" if number % 2 else "user",
        siblings=[f"m{number}"],
        status="completed",
        parts=[TextPart(text=text)],
        text=text,
        created_at_ms=1_700_000_000_000,
    )


def document(*messages: StoredMessage, title: str = "A title") -> ConversationDocument:
    return ConversationDocument(
        id="c1", title=title, revision=1, created_at_ms=1, updated_at_ms=2, messages=list(messages), head_id="m1"
    )


@given(texts=st.lists(TEXTS, max_size=4))
def test_no_text_leaves_its_place_in_markdown(texts: list[str]) -> None:
    messages = [message(number, text) for number, text in enumerate(texts)]

    tokens = MarkdownIt("commonmark").parse(as_markdown(document(*messages)))

    assert {token.type for token in tokens} <= {"heading_open", "inline", "heading_close", "fence"}
    assert [token.content for token in tokens if token.type == "fence"] == [f"{text}\n" for text in texts if text]
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h1", *["h2"] * len(texts)]


def test_markdown_says_who_said_what_and_how_it_ended() -> None:
    failure = Failure(code="error", message="It *broke*.\n# No heading")
    answer = msgspec.structs.replace(message(1, "Hi"), status="failed", failure=failure)

    text = as_markdown(document(message(0, "Hello"), answer, title="A *title*"))

    assert text == (
        "# A \\*title\\*\n"
        "\n## You, 2023-11-14 22:13 UTC\n\n```markdown\nHello\n```\n"
        "\n## Assistant, 2023-11-14 22:13 UTC\n\n```markdown\nHi\n```\n"
        "\nThe answer failed: It \\*broke\\*\\. \\# No heading.\n"
    )


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])), title=TEXTS)
def test_json_read_back_is_equal(text: str, title: str) -> None:
    answer = msgspec.structs.replace(
        message(1, text),
        parts=[ToolPart(call_id=text, state="done", input={text: [text, 1.5, None]}), TextPart(text=text)],
        failure=Failure(code=text),
        usage=[Usage(input_tokens=1)],
        suggestions=[text],
    )
    whole = document(message(0, text), answer, title=title)

    assert msgspec.json.decode(as_json(whole), type=ConversationDocument) == whole


@pytest.mark.parametrize(
    ("title", "header"),
    [
        ("My chat", "attachment; filename=\"My-chat.md\"; filename*=UTF-8''My%20chat.md"),
        ("Größe", "attachment; filename=\"Gr-e.md\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe.md"),
        ("", "attachment; filename=\"conversation.md\"; filename*=UTF-8''conversation.md"),
        ("日本", "attachment; filename=\"conversation.md\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.md"),
        ("../../etc/passwd", "attachment; filename=\"etc-passwd.md\"; filename*=UTF-8''-..-etc-passwd.md"),
        ('a"b\r\nset-cookie: x', "attachment; filename=\"a-b-set-cookie-x.md\"; "
         "filename*=UTF-8''a%22b%20set-cookie%3A%20x.md"),
    ],
)  # fmt: skip
def test_a_file_is_named_after_the_title(title: str, header: str) -> None:
    assert disposition(title, "md") == header


@given(title=st.text(alphabet=st.characters()))
def test_the_name_of_a_file_is_always_a_header(title: str) -> None:
    header = disposition(title, "json")

    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
    assert len(header) < 2_000
