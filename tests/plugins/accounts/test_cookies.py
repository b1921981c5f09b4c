"""The cookie's text, and what is read from requests."""

from http.cookies import SimpleCookie

import pytest

from swarmkernel_accounts import cookies

TOKEN = "626f62.0123456789abcdef0123456789abcdef.fedcba9876543210fedcba9876543210"


NAMES = {False: ["swarm_token"], True: ["swarm_token", "__Host-swarm_token"]}


def parsed(headers):
    found = [(name, *SimpleCookie(value).items()) for name, value in headers]
    assert {"set-cookie"} == {name for name, _ in found}
    return [item for _, item in found]


@pytest.mark.parametrize("secure", [True, False])
def test_given(secure):
    """A browser keeps the token for a year, from scripts and other sites; over HTTPS under its own host's name too."""
    morsels = parsed(cookies.given(TOKEN, secure=secure))

    assert NAMES[secure] == [name for name, _ in morsels]
    for _, morsel in morsels:
        assert (TOKEN, "/", "31536000") == (morsel.value, morsel["path"], morsel["max-age"])
        assert (True, "Lax", secure) == (morsel["httponly"], morsel["samesite"], bool(morsel["secure"]))
        assert "" == morsel["domain"]


@pytest.mark.parametrize("secure", [True, False])
def test_expired(secure):
    """A browser that logs out forgets each cookie; the flags are the same, or it would keep the other one."""
    morsels = parsed(cookies.expired(secure=secure))

    assert NAMES[secure] == [name for name, _ in morsels]
    for _, morsel in morsels:
        assert ("", "0", "/") == (morsel.value, morsel["max-age"], morsel["path"])
        assert secure == bool(morsel["secure"])


@pytest.mark.parametrize(
    ("expected", "headers"),
    [
        (None, {}),
        (None, {"cookie": ""}),
        (None, {"cookie": ";;; =; a=b; swarm_tokens=x; xswarm_token=y; Swarm_Token=z"}),
        ("x.y.z", {"cookie": "swarm_token=x.y.z"}),
        ("x.y.z", {"cookie": " a=b;swarm_token = x.y.z ; c"}),
        ("x.y.z", {"cookie": 'swarm_token="x.y.z"'}),
        ("x=y", {"cookie": "swarm_token=x=y"}),
        ("x", {"cookie": "swarm_token=x; swarm_token=x"}),
        (None, {"cookie": "swarm_token=x; swarm_token=y"}),
        (None, {"cookie": "swarm_token=x; a=b; swarm_token="}),
        (None, {"cookie": "swarm_token=x; swarm_token=y", "authorization": "Bearer x"}),
        ("x.y.z", {"authorization": "Bearer x.y.z"}),
        ("x.y.z", {"authorization": "bearer  x.y.z ", "cookie": "a=b"}),
        (None, {"authorization": "Basic x.y.z"}),
        ("c", {"authorization": "Bearer x", "cookie": "swarm_token=c"}),
        ("x", {"cookie": "__Host-swarm_token=x"}),
        ("x", {"cookie": "swarm_token=y; __Host-swarm_token=x; swarm_token=z"}),
        (None, {"cookie": "__Host-swarm_token=x; __Host-swarm_token=y; swarm_token=x"}),
        ("x", {"cookie": "__host-swarm_token=y; __Secure-swarm_token=z; swarm_token=x"}),
    ],
)
def test_presented(expected, headers):
    """A host's own cookie carries the token, else the other one, else the header; differing ones of a name carry none."""
    assert expected == cookies.presented(headers)


def test_encoded_cookies():
    """A client that sends the cookie URL-encoded is understood."""
    assert "61.b.c" == cookies.presented({"cookie": "swarm_token=61%2Eb%2Ec"})
