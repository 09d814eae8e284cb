"""Adapters: a model provider's stream as events. They import no SDK: what they read is told by its shape."""

from tailrace.adapters.anthropic import from_anthropic
from tailrace.adapters.contract import ProviderStream
from tailrace.adapters.langchain import from_langchain
from tailrace.adapters.ollama import from_ollama
from tailrace.adapters.openai import from_openai
from tailrace.adapters.openai_agents import from_openai_agents
from tailrace.adapters.pydantic_ai import from_pydantic_ai
from tailrace.adapters.responses import from_responses

__all__ = [
    "ProviderStream",
    "from_anthropic",
    "from_langchain",
    "from_ollama",
    "from_openai",
    "from_openai_agents",
    "from_pydantic_ai",
    "from_responses",
]
