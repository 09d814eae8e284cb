"""Adapters: a model provider's stream as events. They import no SDK: what they read is told by its shape."""

from tailrace.adapters.anthropic import from_anthropic
from tailrace.adapters.contract import ProviderStream
from tailrace.adapters.openai import from_openai

__all__ = ["ProviderStream", "from_anthropic", "from_openai"]
