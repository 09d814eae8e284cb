"""Whose request it is, and for how long. One opaque string per identity; without them a run's id is its only key."""

from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeAlias, cast

from starlette.requests import Request
from starlette.types import Scope

from tailrace.runtime.clock import Clock
from tailrace.web.errors import RefusedError

__all__ = ["IdentityExpiredError", "OwnerOf", "expires", "expires_at", "identify", "seconds_left"]

OwnerOf: TypeAlias = Callable[[Request], Awaitable[str | None] | str | None]

_EXPIRES = "tailrace.expires_at"


class IdentityExpiredError(RefusedError):
    """What proved whose request it is holds no longer."""

    code: ClassVar[str] = "token_expired"

    def __init__(self) -> None:
        """Say no more than that: RFC 6750, section 3.1, has the words for clients."""
        challenge = 'Bearer error="invalid_token", error_description="The access token expired"'
        super().__init__("The access token expired.", status=401, headers={"www-authenticate": challenge})


async def identify(owner_of: OwnerOf | None, request: Request) -> str | None:
    """The owner that the application's function names; `None` for everybody if there is no function.

    Raises:
        HTTPException: Whatever the function raises, such as 401.
    """
    if owner_of is None:
        return None
    owner = owner_of(request)
    if isinstance(owner, Awaitable):
        owner = await owner
    return owner


def expires(request: Request, at_seconds: float) -> None:
    """Say until when the request's identity holds; called by an `owner` function, or before it.

    Every stream and every wait of this request ends then; the run goes on, for whoever comes back with a new proof. Of
    several such times the first one counts.

    Args:
        request: The request.
        at_seconds: Unix seconds, such as the `exp` of a token.
    """
    request.scope[_EXPIRES] = min(at_seconds, request.scope.get(_EXPIRES, at_seconds))


def expires_at(scope: Scope) -> float | None:
    """Until when the request's identity holds, in Unix seconds; `None` is as long as the request does."""
    return cast("float | None", scope.get(_EXPIRES))


def seconds_left(scope: Scope, clock: Clock) -> float | None:
    """How long the request's identity still holds, 0 if it is over; `None` is as long as the request does."""
    at_seconds = expires_at(scope)
    return None if at_seconds is None else max(0.0, at_seconds - clock.time_ms() / 1_000)
