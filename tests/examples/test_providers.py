"""The examples of all SDKs and frameworks, each a real server, against the fake provider."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from tests.examples.serving import post_json, serving
from tests.fake_provider.provider import FakeProvider
from tests.integration.support.frames import events_of

TEXT = "the run keeps a log so any reader may join "
TOOLS = "tools;parallel=2;n=10"

#: By file: what it asks its model for.
MODELS: dict[str, str] = {
    "openai_chat": "text;n=10",
    "openai_responses": "text;n=10",
    "groq_chat": "text;n=10",
    "anthropic_message": "text;n=10",
    "ollama_chat": "text;n=10",
    "langchain_model": "text;n=10",
    "langgraph_agent": TOOLS,
    "pydantic_agent": TOOLS,
    "openai_agent": TOOLS,
}


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


def environment_of(url: str, model: str) -> Mapping[str, str]:
    """What every SDK reads from its environment."""
    return {
        "MODEL": model,
        "OPENAI_API_KEY": "none",
        "OPENAI_BASE_URL": f"{url}/v1",
        "GROQ_API_KEY": "none",
        "GROQ_BASE_URL": url,
        "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": url,
        "OLLAMA_HOST": url,
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
    }


def ask(provider: FakeProvider, name: str, model: str) -> list[dict[str, Any]]:
    """The events of one answer."""
    with serving(f"providers.{name}:app", environment_of(provider.url, model)) as site:
        reply = post_json(site.port, "/chat", {"question": "What is it like there?"})
    assert (reply.status, reply.whole) == (200, True), reply.body
    return [msgspec.json.decode(event.data) for event in events_of(reply.body) if event.data]


@pytest.mark.parametrize("name", MODELS)
def test_the_answer_is_told_as_it_comes(provider: FakeProvider, name: str) -> None:
    events = ask(provider, name, MODELS[name])

    kinds = [event["type"] for event in events]
    assert (kinds[0], kinds[-1]) == ("run.started", "run.completed")
    assert events[-1]["finish_reason"] == "stop"
    assert "".join(event["delta"] for event in events if event["type"] == "text.delta") == TEXT
    if MODELS[name] == TOOLS:
        assert [(event["name"], event["input"]) for event in events if event["type"] == "tool.ready"] == [
            ("get_weather", {"city": "a city"}),
            ("get_news", {"city": "a city"}),
        ]
        assert {"city": "a city", "temperature": 18} in [
            event["output"] for event in events if event["type"] == "tool.output"
        ]


@pytest.mark.parametrize("name", ["openai_chat", "anthropic_message", "pydantic_agent", "langgraph_agent"])
def test_an_answer_that_breaks_off_is_a_failure_that_keeps_its_text(provider: FakeProvider, name: str) -> None:
    events = ask(provider, name, "text;n=10;at=5;fault=truncate")

    assert "".join(event["delta"] for event in events if event["type"] == "text.delta") == "the run keeps a log "
    assert (events[-1]["type"], events[-1]["code"]) == ("run.failed", "provider_truncated")
