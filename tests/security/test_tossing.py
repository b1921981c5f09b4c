"""Another site of the same domain can set cookies for this one; it gains nothing by that over HTTPS."""

import json

import pytest

from tests.security.people import PASSWORD, REQUIRED, People, login
from tests.security.raw import JSON, send

HTTPS = [("X-Forwarded-Proto", "https")]


@pytest.fixture(name="people", scope="module")
def _people(start):
    """A server behind a proxy that says what the client sees."""
    return People(start(**REQUIRED, SWARMKERNEL_SERVER__TRUSTED_PROXIES='["127.0.0.1"]'))


def cookies(people, name: str) -> dict[str, str]:
    """The cookies of somebody who logs in over HTTPS."""
    given = login(people.server, name, PASSWORD.format(name), HTTPS).all("set-cookie")
    return dict(cookie.partition(";")[0].split("=", 1) for cookie in given)


def who(people, *pairs: tuple[str, str], route="GetNewSession", body=None):
    """What a browser with these cookies is told."""
    cookie = ("Cookie", "; ".join(f"{name}={value}" for name, value in pairs))
    text = json.dumps(body or {}).encode()
    reply = send(people.server, "POST", f"/API/{route}", [*JSON, *HTTPS, cookie], text)
    return json.loads(reply.body), reply


def test_a_tossed_cookie_does_not_count(people):
    """Beside the cookie that only this host can set, none under the other name counts, wherever it stands."""
    hers, his = (cookies(people, people.add()) for _ in range(2))
    own, other = ("__Host-swarm_token", hers["__Host-swarm_token"]), ("swarm_token", his["swarm_token"])
    name = who(people, own)[0]["user_id"]

    for pairs in ([other, own], [own, other], [other, own, ("swarm_token", "x")], [own, ("swarm_token", "")]):
        assert name == who(people, *pairs)[0]["user_id"]
    assert "not_logged_in" == who(people, own, (own[0], his["swarm_token"]))[0]["error_id"]


def test_clients_that_know_the_old_name_come_in(people):
    """The cookie under the name that clients know carries the same token, and alone is as good."""
    name = people.add()
    given = cookies(people, name)

    assert {"swarm_token", "__Host-swarm_token"} == given.keys()
    assert 1 == len(set(given.values()))
    assert name == who(people, ("swarm_token", given["swarm_token"]))[0]["user_id"]


def test_a_logout_takes_both_back(people):
    """A logout expires both cookies, and neither is worth anything any more."""
    pairs = list(cookies(people, people.add()).items())
    session = who(people, *pairs)[0]["session_id"]

    answer, reply = who(people, *pairs, route="Logout", body={"session_id": session})

    assert {"success": "true"} == answer
    gone = [cookie for cookie in reply.all("set-cookie") if "Max-Age=0" in cookie and "; Secure" in cookie]
    assert ["swarm_token=", "__Host-swarm_token="] == [cookie.partition(";")[0] for cookie in gone]
    for pair in pairs:
        assert "not_logged_in" == who(people, pair)[0]["error_id"]
