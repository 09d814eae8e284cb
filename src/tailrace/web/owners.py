"""Whose request it is. One opaque string per identity; without an `owner` function a run's id is its only key."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.requests import Request

__all__ = ["OwnerOf", "identify"]

OwnerOf: TypeAlias = Callable[[Request], Awaitable[str | None] | str | None]


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
