"""How each SDK and framework is asked, and what its own loop over the text looks like."""

from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple, TypeAlias

import agents
import anthropic
import groq
import httpx2
import ollama
import openai
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph  # pyright: ignore[reportMissingTypeStubs]
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from tailrace import adapters
from tailrace.adapters import ProviderStream

__all__ = ["PACKAGES", "WAYS", "Ask", "Way"]

#: Asks a model, by its name; gives the stream, or an awaitable that does.
Ask: TypeAlias = Callable[[str], Any]

PACKAGES = (
    "openai",
    "anthropic",
    "groq",
    "ollama",
    "pydantic-ai-slim",
    "langchain-core",
    "langchain-openai",
    "langgraph",
    "openai-agents",
    "httpx2",
    "httpx",
)

_QUESTION = "Say something."
_MESSAGES: list[Any] = [{"role": "user", "content": _QUESTION}]
_LIMITS = httpx2.Limits(max_connections=None)


class Way(NamedTuple):
    """A way to a model.

    Attributes:
        asking: Gives what asks, for a provider at this address.
        loop: The text of a stream, as an application reads it that has no adapter.
        adapter: The stream as events.
    """

    asking: Callable[[str], Ask]
    loop: Callable[[Any], AsyncIterator[str]]
    adapter: Callable[[Any], ProviderStream]


def _openai(url: str) -> openai.AsyncOpenAI:
    http = httpx2.AsyncClient(limits=_LIMITS)
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", http_client=http)


def _anthropic(url: str) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=url, api_key="none", http_client=httpx2.AsyncClient(limits=_LIMITS))


def _chat(url: str) -> Ask:
    client = _openai(url)
    return lambda model: client.chat.completions.create(model=model, messages=_MESSAGES, stream=True)


def _groq(url: str) -> Ask:
    client = groq.AsyncGroq(base_url=url, api_key="none")
    return lambda model: client.chat.completions.create(model=model, messages=_MESSAGES, stream=True)


async def _chat_text(stream: Any) -> AsyncIterator[str]:  # noqa: ANN401  an awaitable of an SDK
    async for chunk in await stream:
        if chunk.choices and (text := chunk.choices[0].delta.content):
            yield text


def _responses(url: str) -> Ask:
    client = _openai(url)
    return lambda model: client.responses.create(model=model, input=_QUESTION, stream=True)


async def _response_text(stream: Any) -> AsyncIterator[str]:  # noqa: ANN401  as above
    async for event in await stream:
        if event.type == "response.output_text.delta":
            yield event.delta


def _messages(url: str) -> Ask:
    client = _anthropic(url)
    return lambda model: client.messages.create(model=model, messages=_MESSAGES, max_tokens=9_000, stream=True)


async def _message_text(stream: Any) -> AsyncIterator[str]:  # noqa: ANN401  as above
    async for event in await stream:
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            yield event.delta.text


def _ollama(url: str) -> Ask:
    client: Any = ollama.AsyncClient(host=url)
    return lambda model: client.chat(model=model, messages=_MESSAGES, stream=True)


async def _ollama_text(stream: Any) -> AsyncIterator[str]:  # noqa: ANN401  as above
    async for part in await stream:
        if part.message.content:
            yield part.message.content


def _pydantic_chat(url: str) -> Ask:
    provider = OpenAIProvider(openai_client=_openai(url))
    return lambda model: Agent(OpenAIChatModel(model, provider=provider)).run_stream_events(_QUESTION)


def _pydantic_anthropic(url: str) -> Ask:
    provider = AnthropicProvider(anthropic_client=_anthropic(url))
    return lambda model: Agent(AnthropicModel(model, provider=provider)).run_stream_events(_QUESTION)


async def _pydantic_text(stream: Any) -> AsyncIterator[str]:  # noqa: ANN401  what gives a stream when it is entered
    async with stream as events:
        async for event in events:
            if event.event_kind == "part_start" and event.part.part_kind == "text":
                yield event.part.content
            elif event.event_kind == "part_delta" and event.delta.part_delta_kind == "text":
                yield event.delta.content_delta


def _langchain_model(url: str, http: httpx2.AsyncClient, model: str) -> ChatOpenAI:
    options: dict[str, Any] = {"base_url": f"{url}/v1", "api_key": "none", "http_async_client": http}
    return ChatOpenAI(model=model, **options)


def _langchain(url: str) -> Ask:
    http = httpx2.AsyncClient(limits=_LIMITS)
    return lambda model: _langchain_model(url, http, model).astream(_QUESTION)


async def _langchain_text(stream: AsyncIterator[Any]) -> AsyncIterator[str]:
    async for chunk in stream:
        if chunk.content:
            yield chunk.content


def _langgraph(url: str) -> Ask:
    http = httpx2.AsyncClient(limits=_LIMITS)

    def ask(model: str) -> AsyncIterator[Any]:
        chat = _langchain_model(url, http, model)

        async def answer(state: MessagesState) -> dict[str, Any]:
            return {"messages": [await chat.ainvoke(state["messages"])]}

        graph: Any = StateGraph(MessagesState)
        graph.add_node("agent", answer)
        graph.add_edge(START, "agent")
        asked = {"messages": [("user", _QUESTION)]}
        stream: AsyncIterator[Any] = graph.compile().astream(asked, stream_mode="messages")
        return stream

    return ask


async def _langgraph_text(stream: AsyncIterator[Any]) -> AsyncIterator[str]:
    async for chunk, _ in stream:
        if chunk.content:
            yield chunk.content


def _agents(url: str) -> Ask:
    client = _openai(url)
    agents.set_tracing_disabled(disabled=True)

    def ask(model: str) -> agents.RunResultStreaming:
        chat = agents.OpenAIChatCompletionsModel(model, client)
        return agents.Runner.run_streamed(agents.Agent(name="one", model=chat), _QUESTION)

    return ask


async def _agents_text(run: Any) -> AsyncIterator[str]:  # noqa: ANN401  what has a stream
    async for event in run.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            yield event.data.delta


WAYS: dict[str, Way] = {
    "openai chat": Way(_chat, _chat_text, adapters.from_openai),
    "openai responses": Way(_responses, _response_text, adapters.from_responses),
    "groq": Way(_groq, _chat_text, adapters.from_openai),
    "anthropic": Way(_messages, _message_text, adapters.from_anthropic),
    "ollama": Way(_ollama, _ollama_text, adapters.from_ollama),
    "langchain": Way(_langchain, _langchain_text, adapters.from_langchain),
    "langgraph": Way(_langgraph, _langgraph_text, adapters.from_langchain),
    "openai-agents": Way(_agents, _agents_text, adapters.from_openai_agents),
    "pydantic-ai + openai": Way(_pydantic_chat, _pydantic_text, adapters.from_pydantic_ai),
    "pydantic-ai + anthropic": Way(_pydantic_anthropic, _pydantic_text, adapters.from_pydantic_ai),
}
