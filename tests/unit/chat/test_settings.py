"""The settings: where they come from, what is refused and in which words, and what is never told."""

import inspect
import os
import pickle
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import SecretStr, ValidationError

from tailrace.chat.settings import Settings, SettingsError, load_settings, variable_of, with_database
from tailrace.cli.account import account, listing
from tailrace.cli.options import OPTIONS, ServeOption
from tailrace.cli.serve import serve

SECRET = "a secret of thirty-two bytes, 007"
TOKENS: dict[str, Any] = {"jwt_secret": SECRET, "jwt_audience": "chat", "jwt_issuer": "https://id.example"}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("TAILRACE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "chat.toml"


def refusal(file: Path | None = None, **flags: object) -> str:
    """Why these settings cannot be, on one line."""
    with pytest.raises(SettingsError) as refused:
        load_settings(file, **flags)
    said = str(refused.value)
    assert "\n" not in said
    assert refused.value.__cause__ is None
    return said


# Where they come from ------------------------------------------------------------------------------------------------


def test_flags_go_before_the_environment_before_the_file_before_defaults(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("port = 1\nworkers = 2\nmax_retries = 3\nstore = 'redis://localhost'\n")
    monkeypatch.setenv("TAILRACE_PORT", "10")
    monkeypatch.setenv("TAILRACE_WORKERS", "20")

    settings = load_settings(file, port=100, workers=None)

    assert (settings.port, settings.workers, settings.max_retries, settings.idle_seconds) == (100, 20, 3, 30)


def test_lists_are_lists_in_a_file_and_have_commas_elsewhere(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_TRUSTED_HOSTS", "chat.example, 10.0.0.1,")
    file.write_text('cors_origins = ["https://a.example", "https://b.example"]\ntrusted_hosts = ["unseen"]\n')

    settings = load_settings(file)

    assert settings.trusted_hosts == ("chat.example", "10.0.0.1")
    assert settings.origins.allowed == {"https://a.example", "https://b.example"}


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_JWT_SECRET", "")

    assert not load_settings().has_identities


def test_the_variable_that_kubernetes_sets_for_a_service_of_this_name_is_no_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TAILRACE_PORT", "tcp://10.96.0.12:80")

    assert load_settings().port == 8000


def test_made_directly_they_know_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_MODEL", "openai:gpt-5")

    assert Settings().model == "openai:gpt-5"


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nprot = 1\n", ":2: 'prot' is no setting; port is"),
        ("[server]\nport = 1\n", ":1: 'server' is no setting"),
        ("port = 1\nmodel = demo\n", ": Invalid value (at line 2, column 9)"),
        ("port = 1\nport = 2\n", ": Cannot overwrite a value (at line 2, column 9)"),
        ("model = 'demo'\n\nport = 'many'\n", ":3: port: input should be a valid integer"),
        ("idle_seconds = -1\n", ":1: idle_seconds: input should be greater than 0"),
        ("idle_seconds = nan\n", ":1: idle_seconds: input should be a finite number"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(file: Path, text: str, said: str) -> None:
    file.write_text(text)

    assert refusal(file).startswith(f"{file}{said}")


def test_a_file_that_cannot_be_read_is_told(file: Path) -> None:
    missing = refusal(file)
    file.write_bytes(b"\xff")

    assert missing == f"{file}: No such file or directory"
    assert refusal(file) == f"{file}: is not UTF-8"
    assert refusal(file.parent) == f"{file.parent}: Is a directory"


def test_what_is_wrong_in_the_environment_is_told_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_PORT", "many")
    monkeypatch.setenv("TAILRACE_WORKERS", "0")

    assert refusal() == (
        "TAILRACE_PORT: input should be a valid integer, unable to parse string as an integer; "
        "TAILRACE_WORKERS: input should be greater than 0"
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"port": 65_536}, "--port: input should be less than or equal to 65535"),
        ({"grace_seconds": -1}, "--grace-seconds: input should be greater than or equal to 0"),
        ({"heartbeat_seconds": 0.5}, "--heartbeat-seconds: input should be greater than or equal to 1"),
        ({"run_seconds": 0}, "--run-seconds: input should be greater than 0"),
        ({"user_live_runs": -1}, "--user-live-runs: input should be greater than or equal to 0"),
        ({"model": ""}, "--model: string should have at least 1 character"),
        ({"base_url": "localhost:11434"}, "--base-url: not of the form https://host/path"),
        ({"base_url": "https://me:hunter2@host"}, "--base-url: a URL with a password in it would be shown"),
        ({"jwt_public_key": "no/such.pem"}, "--jwt-public-key: path does not point to a file"),
        ({"retention_seconds": 59}, "retention_seconds: 60 at least, or readers that come back find nothing"),
        ({"workers": 2}, "memory:// cannot be shared: more than one worker needs a store that is"),
        ({"cors_origins": "app.example"}, "cors_origins: 'app.example' is no origin: it should look like https://app"),
        ({"cors_origins": "*"}, "cors_origins: the origin * lets every page"),
        ({**TOKENS, "cors_origins": "*", "jwt_cookie": "token"}, "cors_origins: the origin * lets every page"),
        ({**TOKENS, "jwt_audience": None}, "jwt_audience and jwt_issuer have to be set"),
        ({**TOKENS, "jwt_issuer": ""}, "jwt_audience and jwt_issuer have to be set"),
        ({**TOKENS, "jwt_secret": SECRET[:31]}, "jwt_secret: the secret has to have at least 32 bytes"),
        ({**TOKENS, "jwt_algorithms": "RS256"}, "jwt_secret: HS256 and a secret go together"),
        ({**TOKENS, "jwt_algorithms": "none"}, "jwt_secret: HS256 and a secret go together"),
        ({**TOKENS, "jwt_jwks_url": "https://id.example/keys"}, "set one of jwt_secret, jwt_jwks_url and jwt_public"),
        ({**TOKENS, "jwt_cookie": "a b"}, "jwt_secret: 'a b' is no name of a cookie"),
        ({**TOKENS, "jwt_leeway_seconds": 301}, "jwt_secret: the leeway is between 0 and 300 seconds"),
        ({**TOKENS, "jwt_tenant_claim": ""}, "jwt_secret: issuer, audience and the names of the claims cannot be"),
        ({**TOKENS, "anonymous": True}, "anonymous: not together with a jwt_ key"),
        ({"jwt_audience": "chat"}, "jwt_audience: needs one of jwt_secret, jwt_jwks_url and jwt_public_key"),
        ({"jwt_cookie": "token"}, "jwt_cookie: needs one of jwt_secret, jwt_jwks_url and jwt_public_key"),
        ({"anonymous": False}, "nobody could come in: allow anonymous, or set one of jwt_secret"),
    ],
)
def test_what_cannot_be_is_told_on_one_line(flags: dict[str, Any], said: str) -> None:
    assert refusal(**flags).startswith(said)


def test_a_public_key_alone_means_its_own_signatures(tmp_path: Path) -> None:
    key = generate_private_key(65_537, 2_048).public_key()
    path = tmp_path / "key.pem"
    path.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    rules = load_settings(jwt_public_key=path, jwt_audience="chat", jwt_issuer="id").token_rules

    assert rules is not None
    assert (rules.algorithms, rules.public_key) == (("RS256",), path.read_text())


@pytest.mark.parametrize(
    ("key", "algorithms"), [("jwt_secret", ("HS256",)), ("jwt_jwks_url", ("RS256", "PS256", "ES256", "EdDSA"))]
)
def test_the_kind_of_key_decides_which_signatures_are_taken(key: str, algorithms: tuple[str, ...]) -> None:
    keys: dict[str, Any] = {"jwt_secret": SECRET, "jwt_jwks_url": "https://id.example/keys"}

    rules = load_settings(jwt_audience="chat", jwt_issuer="id", **{key: keys[key]}).token_rules

    assert rules is not None
    assert rules.algorithms == algorithms


# Who may come in -----------------------------------------------------------------------------------------------------

LOCAL_HOSTS = ["127.0.0.1", "127.1.2.3", "localhost", "LocalHost", "::1"]
PUBLIC_HOSTS = ["0.0.0.0", "::", "192.168.1.5", "chat.example"]  # noqa: S104  to be refused


@pytest.mark.parametrize("host", LOCAL_HOSTS)
def test_on_a_host_of_this_machine_everybody_may_come_in(host: str) -> None:
    assert not load_settings(host=host).has_identities


@pytest.mark.parametrize("host", PUBLIC_HOSTS)
def test_on_another_host_nobody_comes_in_unasked_unless_it_was_asked_for(host: str) -> None:
    assert refusal(host=host).startswith(f"others can reach {host}, and nobody is asked who they are")
    assert not load_settings(host=host, anonymous=True).has_identities
    assert load_settings(host=host, **TOKENS).has_identities


def test_the_server_goes_by_the_names_it_was_given() -> None:
    settings = load_settings(host="192.168.1.5", anonymous=True, trusted_hosts="chat.local")

    assert settings.known_hosts == ("chat.local", "192.168.1.5")


# The database --------------------------------------------------------------------------------------------------------


def test_conversations_last_as_long_as_runs() -> None:
    assert load_settings(store="redis://localhost").database_url == "sqlite:///tailrace-chat.db"
    with pytest.raises(SettingsError, match="has to be set"):
        _ = load_settings().database_url


def test_beside_runs_in_memory_there_is_a_database_for_a_while() -> None:
    with with_database(load_settings()) as settings:
        folder = Path(settings.database_url.removeprefix("sqlite:///")).parent
        assert folder.is_dir()

    assert not folder.exists()


@pytest.mark.parametrize(
    "flags", [{"store": "redis://localhost"}, {"database": "sqlite:///mine.db"}, {"database": "postgresql://host/db"}]
)
def test_a_database_that_was_chosen_is_used(flags: dict[str, Any]) -> None:
    with with_database(load_settings(**flags)) as settings:
        assert settings.database_url == flags.get("database", "sqlite:///tailrace-chat.db")


# Secrets -------------------------------------------------------------------------------------------------------------

SECRETS: dict[str, Any] = {
    "jwt_secret": SECRET,
    "store": "redis://user:hunter2@host:6379/0?password=hunter2",
    "database": "postgresql://user:hunter2@host/chat",
}


def holders(settings: Settings) -> Iterator[str]:
    """Everything that settings may be turned into where somebody could read it."""
    yield repr(settings)
    yield str(settings)
    yield settings.model_dump_json()
    yield "\n".join(listing(settings))
    yield str(list(account(settings, target=None)))
    yield repr(settings.token_rules)


def test_secrets_are_told_nobody() -> None:
    settings = load_settings(**{**TOKENS, **SECRETS})

    for text in holders(settings):
        assert "hunter2" not in text
        assert SECRET not in text


@pytest.mark.parametrize(
    "flags", [{"port": -1}, {"workers": 0}, {"jwt_audience": ""}, {"jwt_algorithms": "none"}, {"nothing": "hunter2"}]
)
def test_no_error_quotes_a_secret(flags: dict[str, Any]) -> None:
    values = {**TOKENS, **SECRETS, **flags}

    with pytest.raises((SettingsError, ValidationError)) as refused:
        Settings(**values) if flags.get("port") else load_settings(**values)

    assert "hunter2" not in f"{refused.value}{refused.value!r}"
    assert SECRET not in f"{refused.value}{refused.value!r}"


def test_whatever_may_hold_a_secret_is_one() -> None:
    kinds = {name: str(field.annotation) for name, field in Settings.model_fields.items()}

    secrets = {name for name, kind in kinds.items() if SecretStr.__name__ in kind}

    assert secrets == SECRETS.keys()


def test_a_worker_gets_them_whole() -> None:
    settings = load_settings(**{**TOKENS, **SECRETS})

    copy = pickle.loads(pickle.dumps(settings))  # noqa: S301  our own

    assert copy == settings
    assert copy.jwt_secret.get_secret_value() == SECRET


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (SECRETS["store"], "redis://host:6379/0"),
        ("redis://:hunt/er2@host", "redis://host"),
        ("redis://:hunt@er2?x#y@host/1", "redis://host/1"),
        ("sqlite:///runs.db", "sqlite:///runs.db"),
    ],
)
def test_a_store_is_told_by_its_place(url: str, place: str) -> None:
    assert dict(account(load_settings(store=url), target=None))["runs"] == place


# The command line ----------------------------------------------------------------------------------------------------


def test_every_setting_but_the_secret_is_an_option() -> None:
    options = [option.name for option in OPTIONS]

    assert sorted([*options, "jwt_secret"]) == sorted(Settings.model_fields)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_an_option_tells_the_default(option: ServeOption) -> None:
    default = Settings.model_fields[option.name].default

    match default:
        case bool():
            said = "yes" if default else "no"
        case int() | float():
            said = f"{default:g}" if default < 1e5 else str(default)
        case SecretStr():
            said = default.get_secret_value()
        case str():
            said = default
        case _:
            # It depends, or there is none.
            said = option.default
    assert option.default == said


def test_options_are_not_said_unless_they_are_typed() -> None:
    parameters = inspect.signature(serve).parameters

    assert all(parameters[option.name].default is None for option in OPTIONS)


def test_what_is_listed_can_be_a_file(file: Path) -> None:
    settings = load_settings(user_live_runs=3, cors_origins="https://a.example", jwt_tenant_claim='a "claim"')

    file.write_text("\n".join(listing(settings)))

    assert load_settings(file) == settings
    assert tomllib.loads(file.read_text())["user_live_runs"] == 3


def test_a_variable_is_called_like_its_setting() -> None:
    assert variable_of("user_live_runs") == "TAILRACE_USER_LIVE_RUNS"
