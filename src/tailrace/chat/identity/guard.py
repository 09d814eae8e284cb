"""Whether a page of another site is behind a request.

A cookie, and the mere way to a server on the same machine, are used by a browser for whatever page asks it to. So a
request that is identified by nothing better must not come from another site if it changes something, and one to a
server without identities must name it as its user would: a name that another site has pointed at this machine
(DNS rebinding) is none of ours. A request with a bearer token needs none of this: no page can add that of another.
"""

import ipaddress
import re
from collections.abc import Collection, Iterable
from typing import Literal, Self, TypeAlias

import msgspec
from starlette.requests import Request

from tailrace.chat.identity.errors import CrossSiteError, HostUnknownError, IdentitySetupError

__all__ = ["Origins", "Proof", "check_host", "check_same_site", "host_of", "is_loopback"]

#: How requests prove who asks: by a bearer token only, by a cookie too, or not at all.
Proof: TypeAlias = Literal["bearer", "cookie", "none"]

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://((?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?)", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}
#: RFC 9110, section 9.2.1.
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: W3C Fetch Metadata: the page itself, or the user, who typed an address.
_OWN_SITES = frozenset({"same-origin", "none"})


class Origins(msgspec.Struct, frozen=True):
    """The origins of other sites whose pages may use this server as its own page does.

    Attributes:
        allowed: As browsers write them; `*` alone is everybody.
        credentials: Whether browsers may send cookies along.
    """

    allowed: frozenset[str] = frozenset()
    credentials: bool = False

    @classmethod
    def parse(cls, texts: Iterable[str], *, proof: Proof) -> Self:
        """Take a list such as `["https://app.example"]`.

        Raises:
            IdentitySetupError: One is no origin, or everybody is allowed where a browser identifies its user by itself.
        """
        allowed = frozenset(_normal(text) for text in texts)
        if "*" in allowed and proof != "bearer":
            raise IdentitySetupError(
                "the origin * lets every page that somebody visits read that person's conversations; name the origins, "
                "or accept bearer tokens only"
            )
        return cls(allowed, credentials=proof == "cookie")


def check_same_site(request: Request, origins: Origins, *, lenient: bool = False) -> None:
    """Refuse a change that a page of another site has asked the browser for.

    Args:
        request: Identified by something that a browser adds by itself.
        origins: Other sites that may.
        lenient: Whether to trust a request that says nothing of where it is from. Browsers say so; programs do not.

    Raises:
        CrossSiteError: It comes from there, or may.
    """
    if request.method in _SAFE_METHODS:
        return
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site")
    if origin is not None and origin in origins.allowed:
        return
    if site is not None:
        own = site in _OWN_SITES
    elif origin is not None:
        own = _is_own(origin, request)
    else:
        own = lenient
    if not own:
        raise CrossSiteError


def check_host(request: Request, names: Collection[str]) -> None:
    """Refuse a request for a name that is neither one of these nor of this machine; addresses cannot be pointed here.

    Raises:
        HostUnknownError: It is for such a name, or for none.
    """
    hosts = request.headers.getlist("host")
    name = host_of(hosts[0]) if len(hosts) == 1 else ""
    if name not in names and not is_loopback(name) and _address_of(name) is None:
        raise HostUnknownError


def host_of(authority: str) -> str:
    """The name in `name:port`, in lower case; the address in `[address]:port`."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower()


def is_loopback(name: str) -> bool:
    """Whether a host's name is this machine to whoever uses it: RFC 6761, section 6.3."""
    address = _address_of(name)
    return name == "localhost" or name.endswith(".localhost") if address is None else address.is_loopback


def _address_of(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host's name is, which no DNS server is asked for."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _normal(text: str) -> str:
    """An origin as browsers write it.

    Raises:
        IdentitySetupError: It is none.
    """
    if text == "*":
        return text
    match = _ORIGIN.fullmatch(text.lower().removesuffix("/"))
    if match is None:
        raise IdentitySetupError(f"{text!r} is no origin: it should look like https://app.example")
    scheme, authority = match.groups()
    default_port = f":{_DEFAULT_PORTS.get(scheme)}"
    return f"{scheme}://{authority.removesuffix(default_port)}"


def _is_own(origin: str, request: Request) -> bool:
    """Whether the origin is that of this server, as far as a server behind a proxy can know: its scheme may differ."""
    match = _ORIGIN.fullmatch(origin)
    host = request.headers.get("host", "").lower()
    return match is not None and match[2] == host.removesuffix(f":{_DEFAULT_PORTS.get(match[1])}")
