"""A name becomes a model, or a sentence on what is missing; nothing is imported that was not asked for."""

import subprocess
import sys
from typing import Any, cast

import pytest

from tailrace.chat.agent.demo_model import DemoModel
from tailrace.chat.agent.models import Calling, ModelSetupError, close_model, open_model

KEYS = {name: f"secret of {name}" for name in ("OPENAI_API_KEY", "GROQ_API_KEY", "ANTHROPIC_API_KEY")}


def client_of(*args: str, **options: Any) -> Any:  # noqa: ANN401  a client of one of two SDKs
    return cast("Any", open_model(*args, **options)).client


def test_the_demo_needs_nothing() -> None:
    assert isinstance(open_model("demo", environment={}), DemoModel)


@pytest.mark.parametrize(
    ("name", "system", "url", "key"),
    [
        ("openai:gpt-x", "openai", "https://api.openai.com/v1/", KEYS["OPENAI_API_KEY"]),
        ("openai-responses:gpt-x", "openai", "https://api.openai.com/v1/", KEYS["OPENAI_API_KEY"]),
        ("groq:org/gpt-x", "groq", "https://api.groq.com/openai/v1/", KEYS["GROQ_API_KEY"]),
        ("anthropic:claude-x", "anthropic", "https://api.anthropic.com", KEYS["ANTHROPIC_API_KEY"]),
        ("ollama:qwen:8b", "ollama", "http://127.0.0.1:11434/v1/", "none"),
    ],
)
async def test_a_prefix_names_the_provider(name: str, system: str, url: str, key: str) -> None:
    model = open_model(name, environment=KEYS)

    client = cast("Any", model).client
    assert (model.system, model.model_name) == (system, name.partition(":")[2])
    assert (str(client.base_url), client.api_key) == (url, key)
    await close_model(model)
    assert client.is_closed()


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("openai:gpt-x", "OPENAI_API_KEY"),
        ("openai-responses:gpt-x", "OPENAI_API_KEY"),
        ("groq:gpt-x", "GROQ_API_KEY"),
        ("anthropic:claude-x", "ANTHROPIC_API_KEY"),
    ],
)
@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_key_that_is_missing_is_named(name: str, variable: str, value: str | None) -> None:
    environment = {**KEYS, variable: value} if value is not None else {k: v for k, v in KEYS.items() if k != variable}

    with pytest.raises(ModelSetupError, match=variable) as caught:
        open_model(name, environment=environment)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["gpt-x", "mistral:large", "openai:", ":", "", "x" * 1000])
def test_a_name_that_nobody_knows_is_told_those_that_are_known(name: str) -> None:
    with pytest.raises(ModelSetupError) as caught:
        open_model(name, environment=KEYS)

    told = str(caught.value)
    assert all(known in told for known in ("demo", "openai:NAME", "groq:NAME", "anthropic:NAME", "ollama:NAME"))
    assert len(told) < 500


@pytest.mark.parametrize("name", ["qwen3:8b", "org/model", "openai:x", "groq:x", "anthropic:x", "openai-responses:x"])
def test_a_server_of_ones_own_needs_no_key(name: str) -> None:
    client = client_of(name, base_url="http://box:8080/v1", environment={})

    assert str(client.base_url).rstrip("/") == "http://box:8080/v1"
    assert client.api_key == "none"


def test_any_name_is_one_of_a_server_whose_url_is_set() -> None:
    model = open_model("qwen3:8b", environment={"OPENAI_BASE_URL": "http://box:8080/v1", **KEYS})

    assert (model.model_name, model.system) == ("qwen3:8b", "openai-compatible")
    assert cast("Any", model).client.api_key == KEYS["OPENAI_API_KEY"]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("box", "http://box:11434/v1/"),
        ("box:1234", "http://box:1234/v1/"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1/"),  # noqa: S104  a variable's value
        ("0.0.0.0:1234", "http://127.0.0.1:1234/v1/"),
        ("http://box:1234", "http://box:1234/v1/"),
        ("https://box/", "https://box/v1/"),
        ("https://box/ollama/v1", "https://box/ollama/v1/"),
    ],
)
def test_ollama_is_where_its_own_variable_says(host: str, url: str) -> None:
    assert str(client_of("ollama:x", environment={"OLLAMA_HOST": host}).base_url) == url


@pytest.mark.parametrize("url", ["box:8080", "ftp://box/v1", "http://", "http://[", "http://u:pass word@:x/"])
@pytest.mark.parametrize("name", ["openai:x", "anthropic:x", "local"])
def test_a_url_that_is_none_is_refused_without_being_shown(name: str, url: str) -> None:
    with pytest.raises(ModelSetupError, match="http") as caught:
        open_model(name, base_url=url, environment=KEYS)

    assert "pass" not in str(caught.value)


@pytest.mark.parametrize("name", ["openai:x", "openai-responses:x", "groq:x", "anthropic:x", "ollama:x"])
def test_how_long_and_how_often_is_as_it_was_said(name: str) -> None:
    calling = Calling(max_retries=1, connect_seconds=3.0, read_seconds=7.0)

    client = client_of(name, environment=KEYS, calling=calling)

    assert client.max_retries == 1
    assert (client.timeout.connect, client.timeout.read) == (3.0, 7.0)


def test_no_sdk_is_imported_before_its_model_is_asked_for() -> None:
    code = (
        "import sys; from tailrace.chat.agent.assistant import Assistant; "
        "from tailrace.chat.agent.models import open_model; Assistant(open_model('demo', environment={})); "
        "print(sorted(sys.modules.keys() & {'openai', 'anthropic', 'groq'}))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    assert done.stdout.strip() == "[]"
