"""A server without identities: whoever reaches it is the one user there is."""

from collections.abc import Iterable

from starlette.requests import Request

from tailrace.chat.identity.contract import LOCAL, Identity, remember
from tailrace.chat.identity.guard import Origins, check_host, check_same_site

__all__ = ["Anonymous"]

_NOBODY_ELSE = Origins()


class Anonymous:
    """Takes every request for the local user's, unless a page of another site is behind it."""

    def __init__(self, *, hosts: Iterable[str] = (), origins: Origins = _NOBODY_ELSE) -> None:
        """Take what is allowed.

        Args:
            hosts: Names, without ports, that the server goes by beside those of the loopback interface and addresses.
            origins: Other sites whose pages may use it.
        """
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = origins

    async def identify(self, request: Request) -> Identity:
        """The local user.

        Raises:
            HostUnknownError: The request is for a name that the server does not go by.
            CrossSiteError: It would change something, and is from another site.
        """
        check_host(request, self._hosts)
        # A program on this machine says nothing of where its requests are from.
        check_same_site(request, self._origins, lenient=True)
        remember(request, LOCAL)
        return LOCAL
