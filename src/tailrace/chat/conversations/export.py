"""A conversation as a file: JSON with everything, or Markdown of the branch that is shown. Pure."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from tailrace.chat.conversations.records import ConversationDocument, StoredMessage
from tailrace.chat.conversations.wording import markdown_escaped, one_line

__all__ = ["as_json", "as_markdown", "disposition"]

_NAMES = {"user": "You", "assistant": "Assistant"}
_ENDINGS = {"failed": "The answer failed", "cancelled": "Stopped", "interrupted": "The answer was interrupted"}
_BACKTICKS = re.compile("`+")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_FILE_NAME_CHARACTERS = 80


def as_json(document: ConversationDocument) -> bytes:
    """All there is; read back as a `ConversationDocument` it is equal."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def as_markdown(document: ConversationDocument) -> str:
    """Headings of our own, and each text in a fence that nothing in it can close: as it was written, to the letter.

    Source: CommonMark 0.31, sections 2.4 and 4.5.
    """
    return "\n".join(_lines(document)) + "\n"


def _lines(document: ConversationDocument) -> Iterator[str]:
    yield f"# {markdown_escaped(document.title) or 'Conversation'}"
    for message in document.messages:
        at = datetime.fromtimestamp(message.created_at_ms / 1000, UTC)
        yield f"\n## {_NAMES.get(message.role, 'Message')}, {at:%Y-%m-%d %H:%M} UTC"
        yield from _fenced(message.text)
        if note := _ending(message):
            yield f"\n{note}."


def _fenced(text: str) -> Iterator[str]:
    if not text:
        return
    longest = max(map(len, _BACKTICKS.findall(text)), default=0) if "`" in text else 0
    fence = "`" * max(3, longest + 1)
    yield f"\n{fence}markdown"
    yield text
    yield fence


def _ending(message: StoredMessage) -> str:
    ending = _ENDINGS.get(message.status, "")
    reason = message.failure.message or message.failure.code if ending and message.failure is not None else ""
    return f"{ending}: {markdown_escaped(one_line(reason, limit=200))}" if reason else ending


def disposition(title: str, suffix: str) -> str:
    """The header that names a download. Source: RFC 6266, with the encoding of RFC 8187."""
    line = one_line(title, limit=_FILE_NAME_CHARACTERS).replace("/", "-").replace("\\", "-").strip(". ")
    name = f"{line or 'conversation'}.{suffix}"
    stem = _UNSAFE.sub("-", line).strip("-.") or "conversation"
    return f"attachment; filename=\"{stem}.{suffix}\"; filename*=UTF-8''{quote(name, safe='')}"
