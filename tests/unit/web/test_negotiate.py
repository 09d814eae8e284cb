"""Real clients get what they can read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.web.negotiate import wants_json

NAVIGATION = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"

#: What a client sends, then whether it gets JSON: if JSON has to outrank the stream, and unless the stream is named.
CLIENTS: list[tuple[str, str | None, bool, bool]] = [
    ("no header", None, False, True),
    ("an empty header", "", False, True),
    ("fetch, curl, requests", "*/*", False, True),
    ("EventSource", "text/event-stream", False, False),
    ("axios", "application/json, text/plain, */*", True, True),
    ("an OpenAI SDK", "application/json", True, True),
    ("a page", NAVIGATION, False, True),
    ("fetch that knows both", "application/json, text/event-stream", False, False),
    ("fetch that knows both, turned", "text/event-stream, application/json", False, False),
]

#: Likewise, for what the header may say.
HEADERS: list[tuple[str, bool, bool]] = [
    # Quality decides,
    ("text/event-stream;q=0.9, application/json", True, False),
    ("text/event-stream, application/json;q=0.9", False, False),
    ("application/json;q=0.2, */*;q=0.1", True, True),
    ("application/json;q=0.5, */*", False, True),
    ("application/json;q=0.001", True, True),
    ("application/json;q=1.000, text/event-stream;q=0.999", True, False),
    # then who is named more exactly.
    ("application/*", True, True),
    ("application/*, */*", True, True),
    ("application/*, text/*", False, True),
    ("application/*, text/event-stream", False, False),
    ("text/*, application/json", True, True),
    ("text/*", False, True),
    # Zero means: not this one.
    ("application/json;q=0", False, True),
    ("application/json;q=0, */*", False, True),
    ("application/json;q=0.0, text/event-stream;q=0.1", False, False),
    ("text/event-stream;q=0", False, True),
    ("text/event-stream;q=0, */*", True, True),
    ("text/event-stream;q=0, application/json;q=0.1", True, True),
    ("*/*;q=0", False, True),
    # Case, spaces and parameters do not matter.
    ("APPLICATION/JSON", True, True),
    ("Text/Event-Stream", False, False),
    ("  application/json ; Q=0.4 ,text/event-stream; q=0.3 ", True, False),
    ("application/json;charset=utf-8;q=0.5", True, True),
    ("text/event-stream;charset=utf-8", False, False),
    # Other types are other types.
    ("application/vnd.api+json", False, True),
    ("application/problem+json, text/plain", False, True),
    ("application/x-ndjson", False, True),
    # What cannot be read counts for nothing.
    ("json", False, True),
    (",;,;q=1,", False, True),
    ("application/json/text/event-stream", False, True),
    ("application/json;q=high", False, True),
    ("application/json;q=", False, True),
    ("application/json;q=-1", False, True),
    ("application/json;q=nan", False, True),
    ("nonsense, application/json", True, True),
]


@pytest.mark.parametrize(
    ("accept", "by_rank", "unless_named"),
    [pytest.param(*row, id=client) for client, *row in CLIENTS] + [pytest.param(*row, id=row[0]) for row in HEADERS],
)
def test_a_header_decides_between_one_document_and_a_stream(
    accept: str | None, by_rank: bool, unless_named: bool
) -> None:
    assert wants_json(accept, "accept") is by_rank
    assert wants_json(accept, "unless-sse") is unless_named
    assert wants_json(accept, "never") is False


@given(st.text(st.sampled_from("ajt/*;,q=.01 "), max_size=40) | st.text(max_size=40))
def test_any_header_at_all_has_an_answer(accept: str) -> None:
    for when in ("accept", "unless-sse", "never"):
        assert wants_json(accept, when) in {True, False}


def test_a_header_is_read_up_to_a_bound() -> None:
    long = "text/plain," * 1_000

    assert wants_json(f"application/json,{long}", "accept")
    assert not wants_json(f"{long}application/json", "accept")
