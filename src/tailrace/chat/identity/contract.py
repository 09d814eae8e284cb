"""An identity: one user of one tenant, for as long as a request's proof of it lasts."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias, cast

import msgspec
from pydantic import SecretStr
from starlette.requests import Request

__all__ = ["LOCAL", "Identify", "Identity", "identity_of", "owner_by", "remember"]

_STATE = "tailrace_identity"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks.

    Attributes:
        tenant: The tenant; nobody else's users see anything of it.
        subject: The user, unique in the tenant.
        token: What the caller proved it with, for tools that ask other services in the caller's name. It prints as
            stars, and no event, row or log line may hold it.
        expires_at: Until when the proof holds, in Unix seconds; `None` is as long as the request does.
    """

    tenant: str
    subject: str
    token: SecretStr | None = None
    expires_at: float | None = None

    @property
    def owner(self) -> str:
        """Tenant and subject in one string, so joined that no tenant can pretend to be another."""
        return msgspec.json.encode([self.tenant, self.subject]).decode()


#: Everybody who can reach a server without identities, which therefore listens on the loopback interface only.
LOCAL = Identity(tenant="local", subject="local")

#: Finds out whose request it is; raises RefusedError (401, 403) if that is not proven.
Identify: TypeAlias = Callable[[Request], Awaitable[Identity]]


def remember(request: Request, identity: Identity) -> None:
    """Keep the identity with the request, for whatever handles it."""
    setattr(request.state, _STATE, identity)


def identity_of(request: Request) -> Identity | None:
    """The identity that was found out for this request, if one was."""
    return cast("Identity | None", getattr(request.state, _STATE, None))


def owner_by(identify: Identify) -> Callable[[Request], Awaitable[str]]:
    """What `Tailrace(owner=…)` takes: the owner that an identity is."""

    async def owner(request: Request) -> str:
        return (await identify(request)).owner

    return owner
