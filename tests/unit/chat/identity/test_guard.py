"""Which pages may have a browser ask for what."""

import pytest
from starlette.requests import Request

from tailrace.chat.identity.anonymous import Anonymous
from tailrace.chat.identity.contract import LOCAL, identity_of
from tailrace.chat.identity.errors import CrossSiteError, HostUnknownError, IdentitySetupError
from tailrace.chat.identity.guard import Origins, Proof, check_same_site, host_of, is_loopback

CHANGES = ("POST", "PUT", "PATCH", "DELETE", "ANYTHING")
APP = "https://app.example"


def request(method: str = "GET", host: str | None = "localhost:8000", **headers: str) -> Request:
    fields = {**({} if host is None else {"host": host}), **headers}
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return Request({"type": "http", "method": method, "path": "/", "headers": raw})


# Origins -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://app.example", "https://app.example"),
        ("HTTPS://App.Example/", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:80", "http://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("http://[::1]:5173", "http://[::1]:5173"),
        ("capacitor://localhost", "capacitor://localhost"),
    ],
)
def test_an_origin_is_kept_as_browsers_write_it(text: str, origin: str) -> None:
    assert Origins.parse([text], proof="cookie").allowed == {origin}


@pytest.mark.parametrize(
    "text", ["", "app.example", "https://", "null", "https://a.example/path", "https://*.example", "https://a b"]
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(IdentitySetupError):
        Origins.parse([text], proof="bearer")


@pytest.mark.parametrize("proof", ["cookie", "none"])
def test_everybody_is_not_allowed_what_browsers_do_by_themselves(proof: Proof) -> None:
    with pytest.raises(IdentitySetupError, match=r"\*"):
        Origins.parse([APP, "*"], proof=proof)


def test_everybody_may_use_a_bearer_token() -> None:
    assert Origins.parse(["*"], proof="bearer") == Origins(frozenset({"*"}), credentials=False)


# Changes -------------------------------------------------------------------------------------------------------------


def passes(asked: Request, *, lenient: bool = False) -> bool:
    try:
        check_same_site(asked, Origins.parse([APP], proof="cookie"), lenient=lenient)
    except CrossSiteError:
        return False
    return True


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_whoever_only_reads_may_come_from_anywhere(method: str) -> None:
    assert passes(request(method, origin="https://evil.example", sec_fetch_site="cross-site"))


@pytest.mark.parametrize("method", CHANGES)
@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "anything"])
def test_a_browser_that_names_another_site_is_believed(method: str, site: str) -> None:
    assert not passes(request(method, sec_fetch_site=site), lenient=True)
    assert not passes(request(method, sec_fetch_site=site, origin="http://localhost:8000"), lenient=True)
    assert passes(request(method, sec_fetch_site=site, origin=APP))


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_a_browser_that_names_its_own_site_is_believed(site: str) -> None:
    assert passes(request("POST", sec_fetch_site=site, origin="https://whatever.example"))


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8000", "localhost:8000"),
        ("http://localhost:8000", "LOCALHOST:8000"),
        ("https://chat.example", "chat.example"),
        ("https://chat.example", "chat.example:443"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_an_older_browser_names_its_origin(origin: str, host: str) -> None:
    assert passes(request("POST", host, origin=origin))


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8001", "localhost:8000"),
        ("http://localhost", "localhost:8000"),
        ("https://evil.example", "chat.example"),
        ("https://chat.example.evil.example", "chat.example"),
        ("https://evilchat.example", "chat.example"),
        ("https://chat.example:99999999", "chat.example"),
        ("https://chat.example@evil.example", "chat.example"),
        ("null", "chat.example"),
        ("", "chat.example"),
        ("https://", ""),
        ("https://chat.example", None),
    ],
)
def test_another_origin_is_another_site(origin: str, host: str | None) -> None:
    assert not passes(request("POST", host, origin=origin), lenient=True)


def test_a_request_that_says_nothing_is_trusted_only_where_programs_ask() -> None:
    assert passes(request("POST"), lenient=True)
    assert not passes(request("POST"))


# Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authority", "name"),
    [("a.example:80", "a.example"), ("A.Example", "a.example"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("", "")],
)
def test_the_name_in_a_host_header(authority: str, name: str) -> None:
    assert host_of(authority) == name


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "127.8.8.8", "::1", "chat.localhost"])
def test_names_of_this_machine(name: str) -> None:
    assert is_loopback(name)


@pytest.mark.parametrize("name", ["", "evil.example", "localhost.evil.example", "0.0.0.0", "10.0.0.1", "evillocalhost"])  # noqa: S104
def test_names_of_other_machines(name: str) -> None:
    assert not is_loopback(name)


@pytest.mark.parametrize(
    "host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "box.lan:8000", "10.0.0.1", "[fd00::1]"]
)
async def test_a_server_without_identities_answers_to_its_names(host: str) -> None:
    asked = request("POST", host)

    identity = await Anonymous(hosts=["Box.lan"]).identify(asked)

    assert identity == LOCAL
    assert identity_of(asked) == LOCAL


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "[", None])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_name_that_another_site_has_pointed_here_is_refused(method: str, host: str | None) -> None:
    with pytest.raises(HostUnknownError) as caught:
        await Anonymous().identify(request(method, host))

    assert (caught.value.status, caught.value.code) == (421, "host_unknown")


async def test_a_page_elsewhere_cannot_change_anything_at_a_local_server() -> None:
    with pytest.raises(CrossSiteError):
        await Anonymous().identify(request("POST", origin="https://evil.example"))
