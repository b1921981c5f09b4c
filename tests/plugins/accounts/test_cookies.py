"""The cookie's text, and what is read from requests."""

from http.cookies import SimpleCookie

import pytest

from swarmkernel_accounts import cookies

TOKEN = "626f62.0123456789abcdef0123456789abcdef.fedcba9876543210fedcba9876543210"


@pytest.mark.parametrize("secure", [True, False])
def test_given(secure):
    """A browser keeps the token for a year, from scripts and other sites, and over HTTPS sends it over that alone."""
    name, value = cookies.given(TOKEN, secure=secure)
    morsel = SimpleCookie(value)["swarm_token"]

    assert ("set-cookie", TOKEN, "/", "31536000") == (name, morsel.value, morsel["path"], morsel["max-age"])
    assert (True, "Lax", secure) == (morsel["httponly"], morsel["samesite"], bool(morsel["secure"]))
    assert "" == morsel["domain"]


@pytest.mark.parametrize("secure", [True, False])
def test_expired(secure):
    """A browser that logs out forgets the cookie; the flags are the same, or it would keep the other one."""
    morsel = SimpleCookie(cookies.expired(secure=secure)[1])["swarm_token"]

    assert ("", "0", "/", secure) == (
        morsel.value,
        morsel["max-age"],
        morsel["path"],
        bool(morsel["secure"]),
    )


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
    ],
)
def test_presented(expected, headers):
    """One cookie, or the same one twice, carries the token; else the header does; differing ones carry none."""
    assert expected == cookies.presented(headers)


def test_encoded_cookies():
    """A client that sends the cookie URL-encoded is understood."""
    assert "61.b.c" == cookies.presented({"cookie": "swarm_token=61%2Eb%2Ec"})
