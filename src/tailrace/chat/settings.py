"""The settings of the chat server: from the command line, the environment, a file, and defaults, in this order.

A setting has one name everywhere: `user_live_runs` in the file, `TAILRACE_USER_LIVE_RUNS` in the environment,
`--user-live-runs` on the command line. What may hold a secret prints as stars.
"""

import contextlib
import re
import tempfile
import tomllib
from collections.abc import Callable, Generator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FilePath,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, SettingsConfigDict

from tailrace.chat.identity.algorithms import PUBLIC, SHARED
from tailrace.chat.identity.errors import IdentitySetupError
from tailrace.chat.identity.guard import Origins, Proof, is_loopback
from tailrace.chat.identity.tokens import TokenRules

__all__ = ["Settings", "SettingsError", "load_settings", "variable_of", "with_database"]

_PREFIX = "TAILRACE_"
_PORT = 8000
#: Where conversations are, if runs outlive the process.
_DATABASE = "sqlite:///tailrace-chat.db"
_RETENTION_SECONDS = 60

#: The settings that name a key, and the signatures that are taken if nothing else is set.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "jwt_secret": (SHARED,),
    "jwt_jwks_url": tuple(PUBLIC),
    # A key is of one kind, so this is a guess at the most common one.
    "jwt_public_key": ("RS256",),
}
_ONE_OF = "jwt_secret, jwt_jwks_url and jwt_public_key"
#: What means nothing without a key.
_OF_KEYS = ("jwt_audience", "jwt_issuer", "jwt_cookie", "jwt_algorithms")


class SettingsError(Exception):
    """The server cannot run with these settings; the text is one line and quotes no value that may be secret."""


def _comma_separated(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("not of the form https://host/path")
    if parts.username or parts.password:
        raise ValueError("a URL with a password in it would be shown")
    return value


def _no_service_link(value: object) -> object:
    # Kubernetes tells every container where a service called "tailrace" is, in a variable that is called TAILRACE_PORT.
    return _PORT if str(value).startswith("tcp://") else value


_Port: TypeAlias = Annotated[int, Field(ge=0, le=65_535), BeforeValidator(_no_service_link)]
_Names: TypeAlias = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_separated)]
_HttpUrl: TypeAlias = Annotated[str, AfterValidator(_http_url)]


class Settings(BaseSettings):
    """Everything that an operator may decide. Each setting is explained in `docs/how-to/settings.md`.

    Made directly it knows the environment and the defaults; `load_settings` knows all four places, and tells in which
    of them something is wrong. Where 0 is allowed as a limit it means: none.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_ignore_empty=True,
        allow_inf_nan=False,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    host: str = Field(default="127.0.0.1", min_length=1)
    port: _Port = _PORT
    workers: PositiveInt = 1
    grace_seconds: NonNegativeFloat = 10.0
    heartbeat_seconds: float = Field(default=15.0, ge=1)
    trusted_hosts: _Names = ()
    cors_origins: _Names = ()
    body_bytes: PositiveInt = 256 * 1024
    message_characters: PositiveInt = 32_000

    store: SecretStr = SecretStr("memory://")
    retention_seconds: float = 900.0
    database: SecretStr | None = None

    model: str = Field(default="demo", min_length=1)
    base_url: _HttpUrl | None = None
    max_retries: NonNegativeInt = 2
    first_delta_seconds: PositiveFloat = 60.0
    idle_seconds: PositiveFloat = 30.0
    max_iterations: PositiveInt = 10
    max_output_tokens: NonNegativeInt = 32_000
    max_cost_usd: NonNegativeFloat = 0.0
    tool_seconds: PositiveFloat = 30.0
    run_seconds: PositiveFloat = 600.0
    suggestions: bool = True
    suggestion_seconds: PositiveFloat = 3.0

    anonymous: bool | None = None
    jwt_secret: SecretStr | None = None
    jwt_jwks_url: _HttpUrl | None = None
    jwt_public_key: FilePath | None = None
    jwt_algorithms: _Names = ()
    jwt_audience: str | None = None
    jwt_issuer: str | None = None
    jwt_tenant_claim: str = "tenant"
    jwt_subject_claim: str = "sub"
    jwt_cookie: str | None = None
    jwt_leeway_seconds: NonNegativeFloat = 5.0

    user_runs_per_minute: NonNegativeInt = 60
    tenant_runs_per_minute: NonNegativeInt = 600
    user_live_runs: NonNegativeInt = 20
    tenant_live_runs: NonNegativeInt = 200
    tenant_monthly_tokens: NonNegativeInt = 0

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """See that the settings go together.

        Raises:
            ValueError: They do not.
        """
        for check in _CHECKS:
            if problem := check(self):
                raise ValueError(problem)
        return self

    @property
    def store_scheme(self) -> str:
        """What the store's URL begins with, which is no secret."""
        return self.store.get_secret_value().partition("://")[0]

    @property
    def database_url(self) -> str:
        """The URL of the database, secrets included.

        Raises:
            SettingsError: Runs are in memory and no database is set; see `with_database`.
        """
        if self.database is not None:
            return self.database.get_secret_value()
        if self.store_scheme == "memory":
            raise SettingsError("database: has to be set, as runs in memory leave no place for one")
        return _DATABASE

    @property
    def has_identities(self) -> bool:
        """Whether callers are asked who they are; otherwise they are all one local user."""
        return bool(self.keys)

    @property
    def keys(self) -> tuple[str, ...]:
        """Which of the settings that name a key are set; valid settings have one or none."""
        return tuple(name for name in _KEYS if getattr(self, name) is not None)

    @property
    def token_rules(self) -> TokenRules | None:
        """Which tokens prove who asks; `None` if nobody is asked. Reads the file of the public key.

        Raises:
            SettingsError: The file cannot be read.
            IdentitySetupError: With these rules anybody could come in, or nobody.
        """
        if not self.keys:
            return None
        return TokenRules(
            algorithms=self.jwt_algorithms or _KEYS[self.keys[0]],
            issuer=self.jwt_issuer or "",
            audience=self.jwt_audience or "",
            secret=self.jwt_secret,
            public_key=None if self.jwt_public_key is None else _read(self.jwt_public_key),
            jwks_url=self.jwt_jwks_url,
            tenant_claim=self.jwt_tenant_claim,
            subject_claim=self.jwt_subject_claim,
            leeway_seconds=self.jwt_leeway_seconds,
            cookie=self.jwt_cookie,
        )

    @property
    def origins(self) -> Origins:
        """Other sites whose pages may use the server.

        Raises:
            IdentitySetupError: One is no origin, or everybody may where browsers identify their users by themselves.
        """
        proof: Proof = "none" if not self.has_identities else "bearer" if self.jwt_cookie is None else "cookie"
        return Origins.parse(self.cors_origins, proof=proof)

    @property
    def known_hosts(self) -> tuple[str, ...]:
        """The names and addresses that the server goes by, beside those of the loopback interface."""
        return (*self.trusted_hosts, self.host)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host.lower())


# What has to go together ---------------------------------------------------------------------------------------------


def _check_workers(settings: Settings) -> str | None:
    if settings.workers > 1 and settings.store_scheme == "memory":
        # Each process would have logs of its own, and a reload would find its run in one of them only.
        return "memory:// cannot be shared: more than one worker needs a store that is"
    return None


def _check_retention(settings: Settings) -> str | None:
    if settings.retention_seconds < _RETENTION_SECONDS:
        return f"retention_seconds: {_RETENTION_SECONDS} at least, or readers that come back find nothing"
    return None


def _check_keys(settings: Settings) -> str | None:
    if len(settings.keys) > 1:
        return f"set one of {_ONE_OF}, not several"
    if not settings.keys:
        unused = [name for name in _OF_KEYS if getattr(settings, name)]
        return f"{unused[0]}: needs one of {_ONE_OF}" if unused else None
    if not settings.jwt_audience or not settings.jwt_issuer:
        return "jwt_audience and jwt_issuer have to be set: else a token for anything else would do"
    return None


def _check_tokens(settings: Settings) -> str | None:
    try:
        settings.token_rules  # noqa: B018  made, it is checked
    except (IdentitySetupError, SettingsError) as error:
        return f"{settings.keys[0]}: {error}"
    return None


def _check_origins(settings: Settings) -> str | None:
    try:
        settings.origins  # noqa: B018  likewise
    except IdentitySetupError as error:
        return f"cors_origins: {error}"
    return None


def _check_anonymous(settings: Settings) -> str | None:
    if settings.has_identities:
        return "anonymous: not together with a jwt_ key, which asks who comes" if settings.anonymous else None
    if settings.anonymous is False:
        return f"nobody could come in: allow anonymous, or set one of {_ONE_OF}"
    if settings.anonymous is None and not settings.is_local:
        return (
            f"others can reach {settings.host}, and nobody is asked who they are: "
            "set up identities (jwt_…), or let everybody in by --anonymous"
        )
    return None


_CHECKS = (
    _check_workers,
    _check_retention,
    _check_keys,
    _check_tokens,
    _check_origins,
    _check_anonymous,
)

# Where they come from ------------------------------------------------------------------------------------------------


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return f"{_PREFIX}{name.upper()}"


def load_settings(file: Path | None = None, **flags: Any) -> Settings:  # noqa: ANN401  values of any setting
    """The settings of this process: flags above the environment above the file above defaults.

    Args:
        file: A TOML file.
        **flags: What the command line says, by the names of settings; `None` is not said.

    Raises:
        SettingsError: Something cannot be, in one of these places or altogether; the text names it and the place.
    """
    text = "" if file is None else _read(file)
    written = {} if file is None else _parse(file, text)
    environment: dict[str, Any] = EnvSettingsSource(Settings)()
    said = {name: value for name, value in flags.items() if value is not None}

    def place_of(name: str) -> str:
        if name in said:
            return f"--{name.replace('_', '-')}"
        return variable_of(name) if name in environment else f"{file}:{_line_of(text, name)}: {name}"

    try:
        return Settings(**{**written, **environment, **said})
    except ValidationError as error:
        raise SettingsError("; ".join(dict.fromkeys(_sentences(error, place_of)))) from None


def _sentences(error: ValidationError, place_of: Callable[[str], str]) -> Generator[str]:
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        said = problem["msg"].removeprefix("Value error, ")
        yield f"{place_of(str(problem['loc'][0]))}: {said[:1].lower()}{said[1:]}" if problem["loc"] else said


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{file}: is not UTF-8") from None


def _parse(file: Path, text: str) -> dict[str, Any]:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Says what was expected and where, not what was found, which may be a secret without its quotes.
        raise SettingsError(f"{file}: {error}") from None
    for name in values:
        if name not in Settings.model_fields:
            hint = "".join(f"; {meant} is" for meant in get_close_matches(name, Settings.model_fields, 1))
            raise SettingsError(f"{file}:{_line_of(text, name)}: {name[:64]!r} is no setting{hint}")
    return values


def _line_of(text: str, name: str) -> int:
    """The line on which a top-level name of a TOML text stands; 1 if it is written in an unusual way."""
    match = re.search(rf"""^[ \t\[]*["']?{re.escape(name)}["']?[ \t]*[=.\]]""", text, re.MULTILINE)
    return text.count("\n", 0, match.start()) + 1 if match else 1


@contextlib.contextmanager
def with_database(settings: Settings) -> Generator[Settings]:
    """The settings with a database in any case: beside runs in memory, a temporary one that goes with the block."""
    if settings.database is not None or settings.store_scheme != "memory":
        yield settings
        return
    with tempfile.TemporaryDirectory(prefix="tailrace-", ignore_cleanup_errors=True) as folder:
        yield settings.model_copy(update={"database": SecretStr(f"sqlite:///{folder}/chat.db")})
