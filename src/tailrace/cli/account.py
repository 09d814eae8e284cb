"""What `tailrace serve` says of its settings, none of which is a secret."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
from pydantic import SecretStr

if TYPE_CHECKING:
    from tailrace.chat.settings import Settings

__all__ = ["account", "listing"]


def account(settings: "Settings", *, target: str | None) -> Iterator[tuple[str, str]]:
    """What somebody who starts a server wants to see of it, by what it is called."""
    if target is None:
        model = f"{settings.model} at {settings.base_url}" if settings.base_url else settings.model
        yield "model", f"{model}, which is scripted and not an LLM" if settings.model == "demo" else model
    lasting = settings.store_scheme != "memory"
    yield "runs", _place(settings.store.get_secret_value()) if lasting else "in memory, until the server stops"
    kept = settings.database is not None or lasting
    yield "conversations", _place(settings.database_url) if kept else "in a temporary database, until the server stops"
    yield (
        "callers",
        (
            f"whoever has a token of {settings.jwt_issuer} for {settings.jwt_audience}"
            if settings.has_identities
            else f"everybody who can reach {settings.host}, all as one user"
        ),
    )
    if settings.port:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        yield "page", f"http://{host}:{settings.port}"


def listing(settings: "Settings") -> Iterator[str]:
    """All settings, as a file would have them."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            yield f"# {name} is secret"
        elif value is None:
            yield f"# {name} is not set"
        else:
            # JSON is TOML, but for objects and null.
            yield f"{name} = {msgspec.json.encode(value, enc_hook=str).decode()}"


def _place(url: str) -> str:
    """A URL without user, password and options, in whatever characters they are written."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"
