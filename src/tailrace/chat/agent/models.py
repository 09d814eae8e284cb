"""Which model answers: a name on the command line becomes a client of a provider, or the demo.

Its one rule: nothing waits longer, or is tried more often, than is said here. No provider's SDK is imported before one
of its models is asked for.
"""

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2
from pydantic_ai.models import Model

from tailrace.chat.agent.demo_model import DemoModel

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["DEMO", "Calling", "ModelSetupError", "close_model", "open_model"]

#: The model without a provider.
DEMO = "demo"


class ModelSetupError(Exception):
    """There is no such model, or something it needs is not set. The text may be shown to anyone: it has no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calling:
    """How a provider is called.

    Attributes:
        max_retries: Further attempts at a request that failed before its answer began; after that there are none.
        connect_seconds: How long a connection may take to be made.
        read_seconds: How long a provider may send nothing at all, pings included.
    """

    max_retries: int = 2
    connect_seconds: float = 5.0
    read_seconds: float = 300.0

    @property
    def timeout(self) -> httpx2.Timeout:
        """The same for an HTTP client."""
        return httpx2.Timeout(self.read_seconds, connect=self.connect_seconds)


def open_model(
    name: str,
    *,
    base_url: str | None = None,
    environment: Mapping[str, str] | None = None,
    calling: Calling | None = None,
) -> Model:
    """The model of this name, with an HTTP client of its own: open it once per process, and end it by `close_model`.

    Args:
        name: `demo`, `PROVIDER:NAME`, or, with a base URL, the name of a model on a server that speaks OpenAI's
            protocol.
        base_url: Where the provider is, if not where everybody finds it.
        environment: Has the keys, and base URLs, under their usual names; by default the process's.
        calling: How it is called.

    Raises:
        ModelSetupError: The provider is not known, or a key, a URL or its SDK is missing.
    """
    if name == DEMO:
        return DemoModel()
    environment = os.environ if environment is None else environment
    prefix, _, rest = name.partition(":")
    provider = _PROVIDERS.get(prefix)
    if provider is None or not rest:
        provider, rest = _ANY_SERVER, name
        if not (base_url or environment.get(_ANY_SERVER.url_variable)):
            raise ModelSetupError(f"There is no model {name[:80]!r}. {_KNOWN}")
    try:
        return provider.build(
            _Place(
                model=rest,
                provider=provider.name,
                base_url=_base_url(provider, base_url, environment),
                key=_key(provider, base_url, environment),
                calling=calling or Calling(),
            )
        )
    except ImportError as error:
        raise ModelSetupError(f"{name[:80]!r} needs more packages: pip install 'tailrace[chat]'.") from error


async def close_model(model: Model) -> None:
    """Close the model's connections. The model is of no use after that."""
    client = getattr(model, "client", None)
    if client is not None:
        await client.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a model is, and what opens its door."""

    model: str
    provider: str
    base_url: str | None
    key: str = field(repr=False)
    calling: Calling


def _openai_client(place: _Place) -> "AsyncOpenAI":
    from openai import AsyncOpenAI

    return AsyncOpenAI(
        api_key=place.key, base_url=place.base_url, max_retries=place.calling.max_retries, timeout=place.calling.timeout
    )


def _openai_chat(place: _Place) -> Model:
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.profiles.openai import OpenAIModelProfile
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    client = _openai_client(place)
    # Whatever is OpenAI's own is not asked of other servers.
    provider = (
        OpenAIProvider(openai_client=client)
        if place.provider == "openai"
        else OpenAICompatibleProvider(place.provider, openai_client=client)
    )
    # Without it an answer that was cut off counts as complete.
    profile = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)
    return OpenAIChatModel(place.model, provider=provider, profile=profile)


def _openai_responses(place: _Place) -> Model:
    from pydantic_ai.models.openai import OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    return OpenAIResponsesModel(place.model, provider=OpenAIProvider(openai_client=_openai_client(place)))


def _anthropic(place: _Place) -> Model:
    from anthropic import AsyncAnthropic
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    client = AsyncAnthropic(
        api_key=place.key, base_url=place.base_url, max_retries=place.calling.max_retries, timeout=place.calling.timeout
    )
    return AnthropicModel(place.model, provider=AnthropicProvider(anthropic_client=client))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Provider:
    """What everybody knows of a provider.

    Attributes:
        key_needed: Whether it answers nobody without a key; a server at another URL may.
        read_url: What a base URL has to become.
    """

    name: str
    build: Callable[[_Place], Model]
    key_variable: str
    url_variable: str
    default_url: str | None = None
    key_needed: bool = True
    read_url: Callable[[str], str] = str


def _ollama_url(text: str) -> str:
    """Ollama's own way to write an address, `HOST`, `HOST:PORT` or a URL, as the base URL of its OpenAI protocol."""
    url = httpx2.URL(text if "://" in text else f"http://{text}")
    # A server's address for "everywhere" is not one to connect to.
    host = "127.0.0.1" if url.host in {"0.0.0.0", "::", ""} else url.host  # noqa: S104  not bound, but replaced
    port = url.port or (None if "://" in text else 11434)
    path = url.path if url.path.strip("/") else "/v1"
    return str(url.copy_with(host=host, port=port, path=path))


_PROVIDERS = {
    "openai": _Provider(
        name="openai", build=_openai_chat, key_variable="OPENAI_API_KEY", url_variable="OPENAI_BASE_URL"
    ),
    "openai-responses": _Provider(
        name="openai", build=_openai_responses, key_variable="OPENAI_API_KEY", url_variable="OPENAI_BASE_URL"
    ),
    "groq": _Provider(
        name="groq",
        build=_openai_chat,
        key_variable="GROQ_API_KEY",
        url_variable="GROQ_BASE_URL",
        default_url="https://api.groq.com/openai/v1",
    ),
    "anthropic": _Provider(
        name="anthropic", build=_anthropic, key_variable="ANTHROPIC_API_KEY", url_variable="ANTHROPIC_BASE_URL"
    ),
    "ollama": _Provider(
        name="ollama",
        build=_openai_chat,
        key_variable="OLLAMA_API_KEY",
        url_variable="OLLAMA_HOST",
        default_url="127.0.0.1:11434",
        key_needed=False,
        read_url=_ollama_url,
    ),
}
_ANY_SERVER = _Provider(
    name="openai-compatible",
    build=_openai_chat,
    key_variable="OPENAI_API_KEY",
    url_variable="OPENAI_BASE_URL",
    key_needed=False,
)
_KNOWN = (
    f"Known are {DEMO}, {', '.join(f'{prefix}:NAME' for prefix in _PROVIDERS)}, "
    "and any name of a model on an OpenAI-compatible server, together with its base URL."
)
#: The SDKs refuse to go without a key, to servers that ask for none as well.
_NO_KEY = "none"


def _base_url(provider: _Provider, base_url: str | None, environment: Mapping[str, str]) -> str | None:
    found = base_url or environment.get(provider.url_variable) or provider.default_url
    if found is None:
        return None
    with contextlib.suppress(httpx2.InvalidURL, ValueError):
        read = provider.read_url(found)
        parts = urlsplit(read)
        if parts.hostname and parts.scheme in {"http", "https"}:
            return read
    # It is not shown: it may have a password in it.
    raise ModelSetupError(f"The base URL, given or in {provider.url_variable}, is no http(s) URL.")


def _key(provider: _Provider, base_url: str | None, environment: Mapping[str, str]) -> str:
    key = environment.get(provider.key_variable, "").strip()
    elsewhere = base_url or environment.get(provider.url_variable)
    if not key and provider.key_needed and not elsewhere:
        raise ModelSetupError(f"Set {provider.key_variable} to the key for {provider.name}.")
    return key or _NO_KEY
