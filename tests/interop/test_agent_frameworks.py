"""Agent frameworks as they are, reading the fake provider: the same run from all of them, and no fault that passes.

`FAULTY` is what a run ends in where the framework itself says that all went well, or raises whatever it has.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple, TypeAlias, cast

import agents
import anthropic
import httpx2
import openai
import pytest
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph  # pyright: ignore[reportMissingTypeStubs]
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic_ai import Agent
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from tailrace import Runs
from tailrace.adapters import ProviderStream, from_langchain, from_openai_agents, from_pydantic_ai
from tailrace.events import Event, ReasoningDelta, RunCompleted, RunFailed, TextDelta, ToolReady, Usage
from tailrace.fold import Reduced
from tests.fake_provider.provider import FakeProvider
from tests.fake_provider.script import FAULTS
from tests.unit.adapters.streams import read

TOKENS = ("the ", "run ", "keeps ", "a ", "log ", "so ", "any ", "reader ", "may ", "join ")
QUESTION = "What is it like there?"
LEAVING_SECONDS = 0.5
SILENT_SECONDS = 0.3


class Site(NamedTuple):
    """Where the provider is, and the connections to it: those of an SDK's own are closed by nobody."""

    provider: FakeProvider
    http: httpx2.AsyncClient


Ask: TypeAlias = Callable[[Site, str], Any]


async def get_weather(city: str) -> dict[str, str]:
    """The weather."""
    return {"weather": f"rain in {city}"}


async def get_news(city: str) -> str:
    """The news."""
    return f"nothing in {city}"


# Frameworks ----------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_tracing() -> None:
    agents.set_tracing_disabled(True)


def openai_at(site: Site) -> openai.AsyncOpenAI:
    url = f"{site.provider.url}/v1"
    return openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, http_client=site.http)


def pydantic_chat(site: Site, model: str) -> Any:  # noqa: ANN401  the run of an agent
    return pydantic(OpenAIChatModel(model, provider=OpenAIProvider(openai_client=openai_at(site))))


def pydantic_responses(site: Site, model: str) -> Any:  # noqa: ANN401  as above
    return pydantic(OpenAIResponsesModel(model, provider=OpenAIProvider(openai_client=openai_at(site))))


def pydantic_anthropic(site: Site, model: str) -> Any:  # noqa: ANN401  as above
    client = anthropic.AsyncAnthropic(base_url=site.provider.url, api_key="none", max_retries=0, http_client=site.http)
    return pydantic(AnthropicModel(model, provider=AnthropicProvider(anthropic_client=client)))


def pydantic(model: Model[Any]) -> Any:  # noqa: ANN401  as above
    agent = Agent(model, tools=[get_weather, get_news])
    return agent.run_stream_events(QUESTION)


def langchain_model(site: Site, model: str, *, responses: bool) -> ChatOpenAI:
    options: dict[str, Any] = {"base_url": f"{site.provider.url}/v1", "api_key": "none", "stream_usage": True}
    options |= {"http_async_client": site.http, "use_responses_api": responses}
    return ChatOpenAI(model=model, max_retries=0, **options)


def langchain_chat(site: Site, model: str) -> AsyncIterator[Any]:
    return langchain_model(site, model, responses=False).astream(QUESTION)


def langchain_responses(site: Site, model: str) -> AsyncIterator[Any]:
    return langchain_model(site, model, responses=True).astream(QUESTION)


def langgraph_chat(site: Site, model: str) -> AsyncIterator[Any]:
    return langgraph(langchain_model(site, model, responses=False))


def langgraph_responses(site: Site, model: str) -> AsyncIterator[Any]:
    return langgraph(langchain_model(site, model, responses=True))


def langgraph(model: ChatOpenAI) -> AsyncIterator[Any]:
    tools = [tool(get_weather), tool(get_news)]
    calling = cast("Any", model).bind_tools(tools)

    async def ask(state: MessagesState) -> dict[str, list[BaseMessage]]:
        answer: AIMessage = await calling.ainvoke(state["messages"])
        return {"messages": [answer]}

    graph: Any = StateGraph(MessagesState)
    graph.add_node("agent", ask)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "agent")
    graph.add_conditional_edges("agent", tools_condition)
    graph.add_edge("tools", "agent")
    stream: AsyncIterator[Any] = graph.compile().astream({"messages": [("user", QUESTION)]}, stream_mode="messages")
    return stream


def agents_chat(site: Site, model: str) -> agents.RunResultStreaming:
    return runner(agents.OpenAIChatCompletionsModel(model, openai_at(site)))


def agents_responses(site: Site, model: str) -> agents.RunResultStreaming:
    return runner(agents.OpenAIResponsesModel(model, openai_at(site)))


def runner(model: agents.Model) -> agents.RunResultStreaming:
    tools: list[agents.Tool] = [agents.function_tool(get_weather), agents.function_tool(get_news)]
    settings = agents.ModelSettings(include_usage=True)
    agent = agents.Agent(name="one", model=model, tools=tools, model_settings=settings)
    return agents.Runner.run_streamed(agent, QUESTION)


FRAMEWORKS: dict[str, tuple[Ask, Callable[..., ProviderStream]]] = {
    "pydantic-chat": (pydantic_chat, from_pydantic_ai),
    "pydantic-responses": (pydantic_responses, from_pydantic_ai),
    "pydantic-anthropic": (pydantic_anthropic, from_pydantic_ai),
    "langchain-chat": (langchain_chat, from_langchain),
    "langchain-responses": (langchain_responses, from_langchain),
    "langgraph-chat": (langgraph_chat, from_langchain),
    "langgraph-responses": (langgraph_responses, from_langchain),
    "agents-chat": (agents_chat, from_openai_agents),
    "agents-responses": (agents_responses, from_openai_agents),
}
WITH_TOOLS = [name for name in FRAMEWORKS if not name.startswith("langchain")]

every_framework = pytest.mark.parametrize("name", FRAMEWORKS)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    with FakeProvider() as provider:
        async with httpx2.AsyncClient() as http:
            yield Site(provider, http)


async def run(ask: Ask, site: Site, model: str) -> Reduced:
    """A run of what the framework gives, as it is."""
    async with Runs() as runs:
        handle = await runs.start(lambda: ask(site, model))
        return await handle.reduced()


def text_of(content: list[Event]) -> str:
    return "".join(event.delta for event in content if isinstance(event, TextDelta))


# Whole answers -------------------------------------------------------------------------------------------------------


@every_framework
async def test_text_is_the_same_to_the_byte(site: Site, name: str) -> None:
    found = await run(FRAMEWORKS[name][0], site, "text;n=10")

    assert (found.status, found.finish_reason, found.text) == ("completed", "stop", "".join(TOKENS))
    assert [entry.outcome for entry in site.provider.journal.entries] == ["completed"]


@pytest.mark.parametrize("name", WITH_TOOLS)
async def test_two_tools_at_a_time_are_called_and_answered(site: Site, name: str) -> None:
    found = await run(FRAMEWORKS[name][0], site, "tools;parallel=2;n=10;frag=3")

    assert (found.status, found.text) == ("completed", "".join(TOKENS))
    assert [(call.name, call.input, call.output) for call in found.tools] == [
        ("get_weather", {"city": "a city"}, {"weather": "rain in a city"}),
        ("get_news", {"city": "a city"}, "nothing in a city"),
    ]
    assert len({call.call_id for call in found.tools}) == 2
    assert len(site.provider.journal.entries) == 2


@pytest.mark.parametrize("name", WITH_TOOLS)
async def test_a_tool_is_ready_once_and_before_it_has_given_anything(site: Site, name: str) -> None:
    ask, adapter = FRAMEWORKS[name]

    content = await read(adapter(ask(site, "tools;rounds=2;parallel=2;n=3")))

    ready = [event.call_id for event in content if isinstance(event, ToolReady)]
    assert len(ready) == len(set(ready)) == 4
    for call_id in ready:
        kinds = [type(event).__name__ for event in content if getattr(event, "call_id", None) == call_id]
        assert kinds == ["ToolStarted", *["ToolArgsDelta"] * (len(kinds) - 3), "ToolReady", "ToolOutput"]


@pytest.mark.parametrize("name", [name for name in FRAMEWORKS if not name.startswith("agents")])
async def test_thinking_is_read_before_the_text(site: Site, name: str) -> None:
    ask, adapter = FRAMEWORKS[name]

    content = await read(adapter(ask(site, "think;n=10")))

    assert text_of(content) == "".join(TOKENS[5:])
    if name not in {"langchain-chat", "langgraph-chat"}:
        # That class of LangChain leaves out what is not OpenAI's own.
        assert "".join(event.delta for event in content if isinstance(event, ReasoningDelta)) == "".join(TOKENS[:5])


@every_framework
async def test_tokens_are_counted_over_all_answers(site: Site, name: str) -> None:
    ask, adapter = FRAMEWORKS[name]
    model = "text;n=10" if name.startswith("langchain") else "tools;n=10;args=%7B%22city%22%3A+%22x%22%7D"

    content = await read(adapter(ask(site, model)))

    (usage,) = [event for event in content if isinstance(event, Usage)]
    requests = len(site.provider.journal.entries)
    assert usage.input_tokens == 11 * requests
    assert usage.output_tokens == sum(entry.tokens for entry in site.provider.journal.entries)
    assert usage.model == model


# Faults --------------------------------------------------------------------------------------------------------------

#: What a run ends in: a code, or `stop` where it is whole.
FAULTY: dict[str, str] = {
    "error": "provider_unavailable",
    "close": "provider_unavailable",
    "cut": "provider_truncated",
    "truncate": "provider_truncated",
    "stall": "provider_timeout",
    "garbage": "provider_error",
    "nodone": "stop",
    "empty": "provider_truncated",
}
#: Where it differs: Anthropic's own words, its SDK, which skips what it cannot read, Responses, whose last event is all
#: that ends them, and what a framework makes up.
ELSEWHERE: dict[tuple[str, str], str] = {
    ("pydantic-anthropic", "error"): "provider_rate_limited",
    ("pydantic-anthropic", "garbage"): "stop",
    **{(name, "nodone"): "provider_truncated" for name in FRAMEWORKS if name.endswith("responses")},
    ("agents-chat", "cut"): "stop",
    ("agents-chat", "truncate"): "stop",
}
HEARD_WHOLE = {("pydantic-anthropic", "garbage"), *((name, "nodone") for name in FRAMEWORKS)}


@every_framework
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_ends_the_run_as_what_it_is_and_keeps_the_text(site: Site, name: str, fault: str) -> None:
    ask, adapter = FRAMEWORKS[name]
    stream = adapter(ask(site, f"text;n=10;at=5;fault={fault}"), idle_seconds=SILENT_SECONDS)

    content = await read(stream)

    heard = TOKENS if (name, fault) in HEARD_WHOLE else () if fault == "empty" else TOKENS[:5]
    assert text_of(content) == "".join(heard)
    last = content[-1]
    assert isinstance(last, RunCompleted | RunFailed)
    found = last.code if isinstance(last, RunFailed) else last.finish_reason
    assert found == ELSEWHERE.get((name, fault), FAULTY[fault])
    assert len(site.provider.journal.entries) == 1


@every_framework
@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("400", "provider_bad_request"),
        ("401", "provider_auth"),
        ("429", "provider_rate_limited"),
        ("500", "provider_unavailable"),
        ("529", "provider_rate_limited"),
    ],
)
async def test_a_refusal_is_a_failed_run_and_one_request(site: Site, name: str, status: str, code: str) -> None:
    found = await run(FRAMEWORKS[name][0], site, f"text;fault={status}")

    assert found.failure is not None
    assert found.failure.code == code
    assert [entry.outcome for entry in site.provider.journal.entries] == ["fault"]


# Stop ----------------------------------------------------------------------------------------------------------------


@every_framework
async def test_stopping_a_run_stops_the_provider_at_once(site: Site, name: str) -> None:
    ask = FRAMEWORKS[name][0]
    async with Runs() as runs:
        handle = await runs.start(lambda: ask(site, "text;n=1000;delay=0.02"))
        async for entry in handle:
            if isinstance(entry.event, TextDelta):
                await handle.cancel()
        left = await asyncio.to_thread(
            site.provider.journal.wait_for, lambda entry: entry.outcome, within_seconds=LEAVING_SECONDS
        )
        found = await handle.reduced()

    assert (found.status, left.outcome) == ("cancelled", "client_left")
    assert found.text.startswith(TOKENS[0])
    assert left.tokens < 100


@every_framework
async def test_a_reader_that_closes_the_stream_stops_the_provider_at_once(site: Site, name: str) -> None:
    ask, adapter = FRAMEWORKS[name]
    stream = adapter(ask(site, "text;n=1000;delay=0.02"))
    await anext(stream)
    await stream.aclose()

    left = await asyncio.to_thread(
        site.provider.journal.wait_for, lambda entry: entry.outcome, within_seconds=LEAVING_SECONDS
    )

    assert left.outcome == "client_left"
