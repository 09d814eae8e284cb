"""Reading what servers say beside events: where, when and why, and where an id stands."""

import email.utils
from typing import Final
from urllib.parse import parse_qs, urljoin, urlsplit

import msgspec

from tailrace.errors import CursorInvalidError
from tailrace.wire.cursor import Cursor

__all__ = [
    "UNREADABLE",
    "after_in",
    "cursor_of",
    "is_control",
    "origin_of",
    "refusal_in",
    "retry_after_seconds",
    "seq_of",
    "target_of",
]

_PORTS = {"http": 80, "https": 443}
_MAX_RETRY_AFTER_SECONDS = 300.0

#: What JSON may turn out to be: none, not in UTF-8, or nested deeper than anybody reads.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def origin_of(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def target_of(location: str, url: str) -> str | None:
    """Where a `Location` leads from there, absolute; `None` if that is nowhere that HTTP goes."""
    try:
        target = urljoin(url, location)
        scheme, host, _ = origin_of(target)
    except ValueError:
        return None
    return target if location and host and scheme in _PORTS else None


def cursor_of(event_id: str) -> Cursor | None:
    """An SSE id in one of our forms, or `None`."""
    try:
        return Cursor.parse(event_id)
    except CursorInvalidError:
        return None


def seq_of(event_id: str) -> int | None:
    """Its number, or `None`."""
    cursor = cursor_of(event_id)
    return None if cursor is None else cursor.seq


def after_in(url: str) -> str:
    """Where a URL asks to begin."""
    return next(iter(parse_qs(urlsplit(url).query).get("after", ())), "")


class _Control(msgspec.Struct, forbid_unknown_fields=True):
    reason: str = ""


def is_control(data: str) -> bool:
    """Whether these are the words of the protocol, and not of an application that names its data as it does."""
    try:
        msgspec.json.decode(data, type=_Control)
    except msgspec.DecodeError:
        return False
    return True


def retry_after_seconds(value: str, now: float) -> float | None:
    """Seconds, or the date until which to wait."""
    if value.isascii() and value.isdigit():
        seconds = float(value)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return min(max(0.0, seconds), _MAX_RETRY_AFTER_SECONDS)


def refusal_in(body: bytes) -> tuple[str, str | None]:
    """The message and the code of a refusal, as far as its body has them in one of the usual places."""
    try:
        told = msgspec.json.decode(body, type=dict[str, object])
    except UNREADABLE:
        return "", None
    fields = _fields_of(told.get("error")) or told
    message = _first_text(fields.get("message"), told.get("error"), told.get("detail"))
    return message or "", _first_text(fields.get("code"), fields.get("type"))


def _fields_of(value: object) -> dict[str, object]:
    try:
        return msgspec.convert(value, dict[str, object])
    except msgspec.ValidationError:
        return {}


def _first_text(*values: object) -> str | None:
    return next((value for value in values if isinstance(value, str)), None)
