"""The secret that the whole server may be locked with, and who needs none."""

import pytest

from tests.security.raw import JSON, send, upgrade
from tests.security.test_forwarding import NAMES

SECRET = "Bearer canary-secret"
TARGETS = (
    ("POST", "/API/GetNewSession"),
    ("GET", "/"),
    ("GET", "/health/live"),
    ("GET", "/View/local/x.png"),
    ("GET", "/openapi.json"),
    ("OPTIONS", "/API/GetNewSession"),
    ("GET", "/nothing"),
)
WRONG = ("", "canary-secret", "bearer canary-secret", SECRET + " ", SECRET + "x", SECRET[:-1], "Bearer ", "é")


@pytest.fixture(name="server", scope="module")
def _server(start):
    """A server with a secret, which a proxy makes reachable."""
    return start(SWARMKERNEL_SERVER__AUTHORIZATION=SECRET)


def ask(server, method="POST", target="/API/GetNewSession", headers=(), **kwargs) -> int:
    return send(
        server, method, target, [*JSON, *headers], b"{}" if method == "POST" else b"", **kwargs
    ).status


@pytest.mark.parametrize("name", NAMES)
def test_through_a_proxy(server, name):
    """Whatever header says that a call came through a proxy, it needs the secret, everywhere, and no other will do."""
    came = (name, "127.0.0.1")
    for method, target in TARGETS:
        assert 401 == ask(server, method, target, [came]), (method, target)
        assert 401 != ask(server, method, target, [came, ("Authorization", SECRET)]), (method, target)
    assert 401 == upgrade(server, headers=[came]).status
    assert 101 == upgrade(server, headers=[came, ("Authorization", SECRET)]).status


def test_other_secrets(server):
    """Nothing but the secret itself is taken, and the refusal does not tell it."""
    for wrong in WRONG:
        reply = send(
            server, "POST", "/API/GetNewSession", [*JSON, ("Via", "1"), ("Authorization", wrong)], b"{}"
        )
        expected = 200 if wrong == SECRET + " " else 401  # blanks around a value are no part of it
        assert (expected, False) == (reply.status, b"canary" in reply.body), wrong


def test_from_this_machine(server):
    """A program on this machine needs none."""
    assert 200 == ask(server)
    assert 101 == upgrade(server).status


def test_an_unnamed_proxy_is_told_of_once(server):
    """Whoever forwards and is not named in the settings is in the log, one time only."""
    for number in range(5):
        ask(server, headers=[("X-Forwarded-For", f"10.0.0.{number}"), ("Authorization", SECRET)])
    assert 1 == sum("trusted_proxies" in line for line in server.log)
