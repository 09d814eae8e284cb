"""How requests are refused before anything is done for them, and what a server cannot be started with.

What is wrong with a token is told to nobody who could learn from it: it is expired, or it is not valid.
"""

from typing import ClassVar

from tailrace.errors import TailraceError
from tailrace.web.errors import RefusedError

__all__ = [
    "CrossSiteError",
    "ForbiddenError",
    "HostUnknownError",
    "IdentitySetupError",
    "KeysUnavailableError",
    "TokenInvalidError",
    "UnauthenticatedError",
]


class IdentitySetupError(TailraceError):
    """Nobody can be identified safely as it is set up; `reason` says what to change."""

    code: ClassVar[str] = "identity_setup"

    def __init__(self, reason: str) -> None:
        """Say what is wrong, in words for whoever starts the server."""
        self.reason = reason
        super().__init__(reason)


class UnauthenticatedError(RefusedError):
    """The request says nothing about who asks."""

    code: ClassVar[str] = "unauthenticated"

    def __init__(self) -> None:
        """RFC 6750, section 3: without any credential the challenge has no error in it."""
        super().__init__("An access token is needed.", status=401, headers={"www-authenticate": "Bearer"})


class TokenInvalidError(RefusedError):
    """The token is not valid here, for whatever reason but its age."""

    code: ClassVar[str] = "token_invalid"

    def __init__(self) -> None:
        """The reason is for nobody."""
        challenge = 'Bearer error="invalid_token"'
        super().__init__("The access token is not valid.", status=401, headers={"www-authenticate": challenge})


class ForbiddenError(RefusedError):
    """The token is valid and names no tenant that it could be for."""

    code: ClassVar[str] = "forbidden"

    def __init__(self) -> None:
        """A new token of the same kind would not help."""
        super().__init__("The access token names no tenant.", status=403)


class CrossSiteError(RefusedError):
    """A page of another site has made the user's browser ask for a change."""

    code: ClassVar[str] = "cross_site"

    def __init__(self) -> None:
        """What to do about it is in the manual: name the page's origin."""
        super().__init__("This request came from a page of another site.", status=403)


class HostUnknownError(RefusedError):
    """The request was meant for a name that this server does not go by, as after DNS rebinding."""

    code: ClassVar[str] = "host_unknown"

    def __init__(self) -> None:
        """RFC 9110, section 15.5.20, has a status for it."""
        super().__init__("This server does not go by that name.", status=421)


class KeysUnavailableError(RefusedError):
    """The issuer's keys are not known, so no token can be checked."""

    code: ClassVar[str] = "keys_unavailable"

    def __init__(self, retry_after_seconds: float) -> None:
        """After so long it will be asked again."""
        reason = "Access tokens cannot be checked at the moment."
        super().__init__(reason, status=503, retry_after_seconds=retry_after_seconds)
