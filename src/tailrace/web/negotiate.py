"""What the client wants: a stream or one JSON document, by its `Accept` header (RFC 9110, section 12.5.1)."""

import msgspec

__all__ = ["JsonWhen", "wants_json"]

from typing import Literal, TypeAlias

#: `accept`: if JSON outranks an event stream. `unless-sse`: unless an event stream is named. `never`: always stream.
#: `always`: the request said so in its own way.
JsonWhen: TypeAlias = Literal["accept", "unless-sse", "never", "always"]

_STREAM = "text/event-stream"
_JSON = "application/json"
_LONGEST_HEADER = 1024


class _Range(msgspec.Struct, frozen=True):
    """One media range: `quality` from 0 to 1, `specificity` 0 for `*/*` to 2 for a full type."""

    media_type: str
    quality: float

    @property
    def specificity(self) -> int:
        return 2 - self.media_type.count("*")

    def covers(self, media_type: str) -> bool:
        kind, _, subtype = self.media_type.partition("/")
        wanted_kind, _, wanted_subtype = media_type.partition("/")
        return kind in {"*", wanted_kind} and subtype in {"*", wanted_subtype}


def wants_json(accept: str | None, when: JsonWhen) -> bool:
    """Whether to answer with one document. Without the header, and for `*/*`, the answer is a stream.

    Quality decides; at equal quality the type that is named beats the one that a wildcard covers, and a stream beats
    JSON.
    """
    if when in {"always", "never"}:
        return when == "always"
    ranges = _parse(accept or "*/*")
    if when == "unless-sse":
        return not any(entry.media_type == _STREAM and entry.quality > 0 for entry in ranges)
    json_rank = _rank(ranges, _JSON)
    return json_rank[0] > 0 and json_rank > _rank(ranges, _STREAM)


def _rank(ranges: list[_Range], media_type: str) -> tuple[float, int]:
    """Quality and specificity of the most specific range that covers the type."""
    covering = [entry for entry in ranges if entry.covers(media_type)]
    if not covering:
        return (0.0, 0)
    best = max(covering, key=lambda entry: entry.specificity)
    return (best.quality, best.specificity)


def _parse(accept: str) -> list[_Range]:
    """The media ranges; what cannot be read is left out."""
    ranges: list[_Range] = []
    for item in accept[:_LONGEST_HEADER].lower().split(","):
        media_type, *parameters = (part.strip() for part in item.split(";"))
        if media_type.count("/") != 1:
            continue
        quality = next((_quality(text) for text in parameters if text.startswith("q=")), 1.0)
        ranges.append(_Range(media_type, quality))
    return ranges


def _quality(parameter: str) -> float:
    try:
        return min(1.0, max(0.0, float(parameter.removeprefix("q="))))
    except ValueError:
        return 0.0
