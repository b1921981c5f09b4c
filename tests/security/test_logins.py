"""Guessing passwords is slow, whatever headers say; it tells nothing about who exists; nobody gets in unasked."""

import itertools
import json
import statistics
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.security.people import PASSWORD, REQUIRED, People, limited, log_in, login, setup_token
from tests.security.raw import JSON, dial, read, send

ON = {"SWARMKERNEL_ACCOUNTS__REQUIRED": "true"}


FORWARDED = [
    "X-Forwarded-For",
    "Forwarded",
    "X-Real-IP",
    "Via",
    "CF-Connecting-IP",
    "True-Client-IP",
    "X-Client-IP",
]


def test_the_sixth_attempt(start):
    """Five attempts a minute are taken from one address; the sixth is `ratelimit`, whatever any header says."""
    server = start(**ON)
    People(server)  # which is one login, from 127.0.0.1
    found = [login(server, f"user{n}", via="127.0.0.7").error_id for n in range(6)]
    assert ["invalid_login"] * 5 + ["ratelimit"] == found
    for number in range(30):
        spoofed = [(name, f"10.{number}.0.{number}") for name in FORWARDED] + [
            ("User-Agent", f"agent {number}")
        ]
        assert "ratelimit" == login(server, f"another{number}", headers=spoofed, via="127.0.0.7").error_id
    assert "ratelimit" == login(server, "boss", PASSWORD.format("boss"), via="127.0.0.7").error_id
    assert "invalid_login" == login(server, via="127.0.0.8").error_id


@pytest.fixture(name="spoofing", scope="module")
def _spoofing(start):
    """A server whose limit of an address is used up."""
    server = start(**ON)
    People(server)
    for _ in range(5):
        login(server, via="127.0.0.9")
    return server


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    chain=st.lists(
        st.tuples(
            st.sampled_from(FORWARDED), st.one_of(st.ip_addresses().map(str), st.text("0123456789.:, x"))
        )
    )
)
def test_no_header_helps(spoofing, chain):
    """No chain of forwarding headers makes a client another one."""
    assert "ratelimit" == login(spoofing, headers=chain, via="127.0.0.9").error_id


@pytest.fixture(name="proxied", scope="module")
def _proxied(start):
    """A server behind a trusted proxy; each of its tests takes networks of its own."""
    server = start(**ON, SWARMKERNEL_SERVER__TRUSTED_PROXIES='["127.0.0.1"]')
    People(server)
    return server


def test_behind_a_proxy_clients_are_apart(proxied):
    """Behind a trusted proxy each client has its own limit, and cannot choose another by what it sends."""

    def ask(client, spoofed=""):
        said = [("X-Forwarded-For", f"{spoofed}{client}")]
        return login(proxied, f"user{time.monotonic_ns()}", headers=said).error_id

    assert ["invalid_login"] * 5 + ["ratelimit"] == [ask("192.0.2.7") for _ in range(6)]
    assert {"ratelimit"} == {ask("192.0.2.7", f"203.0.113.{n}, ") for n in range(20)}
    assert "invalid_login" == ask("203.0.113.50")


@pytest.mark.parametrize("family", [4, 6])
def test_a_network_has_a_limit(proxied, family):
    """Many addresses of one network share a limit; of IPv6 a /64 is as good as one address."""

    def ask(client):
        return login(proxied, f"user{time.monotonic_ns()}", headers=[("X-Forwarded-For", client)]).error_id

    if family == 6:
        assert ["invalid_login"] * 5 + ["ratelimit"] == [ask(f"2001:db8::{n}") for n in range(6)]
        found = [ask(f"2001:db8:0:{n:x}::1") for n in range(1, 25)]
        assert "invalid_login" == ask("2001:db8:1::1")
    else:
        found = [ask(f"198.51.100.{n}") for n in range(1, 25)]
        assert "invalid_login" == ask("198.51.101.1")
    assert 15 <= found.count("invalid_login") <= 20
    assert "ratelimit" == found[-1]


def test_a_name_has_a_limit(start):
    """Many addresses cannot guess the password of one user, and the limit does not tell whether there is one."""
    server = start(**REQUIRED)
    people = People(server)
    name = people.add()

    def tries(of):
        return [login(server, of, via=f"127.0.{n}.1").error_id for n in range(1, 12)]

    found = tries(name)
    assert found == tries("nobody_at_all")
    assert "ratelimit" == found[-1]
    assert found.count("invalid_login") <= 5
    assert 200 == people.owner.raw("GetCurrentStatus", {"session_id": people.owner.session_id}).status_code


def test_everybody_together_has_a_limit(start):
    """Failures of all addresses and names together are bounded, which keeps nobody from a session they have."""
    server = start(**limited(failed_logins=10))
    people = People(server)
    found = [login(server, f"user{n}", via=f"127.1.{n}.1").error_id for n in range(20)]

    assert ["invalid_login"] * 10 + ["ratelimit"] * 10 == found
    assert "status" in people.owner.post("GetCurrentStatus")


def test_limits_are_for_registration_too(start):
    """Registration counts like logging in."""
    server = start(**ON, SWARMKERNEL_ACCOUNTS__ALLOW_REGISTRATION="true")
    People(server)

    def register(number):
        body = json.dumps({"username": f"newcomer{number}", "password": "long enough"}).encode()
        return send(server, "POST", "/API/RegisterBasic", JSON, body, via="127.0.0.4").error_id

    found = [register(n) for n in range(7)]
    assert [None] * 5 + ["ratelimit"] * 2 == found
    assert "ratelimit" == login(server, "newcomer1", "long enough", via="127.0.0.4").error_id


@pytest.fixture(name="people", scope="module")
def _people(start):
    """A server without limits, and everybody on it."""
    return People(start(**REQUIRED))


CASES = {
    "unknown": ("nobody_here", "a wrong password"),
    "wrong": ("{name}", "a wrong password"),
    "no password": ("{cleared}", "a wrong password"),
    "prehashed": ("{name}", "0" * 64),
    "marked": ("{name}", "__swarmdoprehash:swarmclientpw:{name}:wrong"),
}


def test_answers_are_uniform(people):
    """Unknown user, wrong password and no password get the same bytes, status and headers."""
    name, cleared = people.add(), people.add()
    people.done("AdminSetUserPassword", name=cleared, password="")
    found = {}
    for case, (user, password) in CASES.items():
        names = {"name": name, "cleared": cleared}
        reply = login(people.server, user.format(**names), password.format(**names))
        headers = sorted((k.lower(), v) for k, v in reply.headers if k.lower() != "date")
        found[case] = (reply.status, reply.body, headers)
    assert 1 == len({str(value) for value in found.values()}), found
    assert 200 == found["wrong"][0]
    assert b"invalid_login" in found["wrong"][1]
    assert "set-cookie" not in str(found["wrong"][2])


def test_times_are_uniform(people):
    """An unknown user takes as long as a wrong password, each asked for in turns, and no name too often."""
    names = [people.add() for _ in range(10)]
    taken = {"unknown": [], "known": []}
    for number in range(40):
        pair = [("known", names[number % 10]), ("unknown", f"nobody{number % 10}")]
        for kind, name in pair if number % 2 else reversed(pair):
            began = time.perf_counter()
            reply = login(people.server, name, f"a wrong password {number}")
            taken[kind].append(time.perf_counter() - began)
            assert "invalid_login" == reply.error_id
    quick, slow = sorted(statistics.median(times) for times in taken.values())
    assert slow < 1.3 * quick, taken


def test_no_login(start):
    """Where logging in by password is off, the right password is as wrong as any other."""
    server = start(**REQUIRED, SWARMKERNEL_ACCOUNTS__ALLOW_LOGIN="false")
    body = {"username": "boss", "password": PASSWORD.format("boss"), "setup_token": setup_token(server)}
    assert {"success": "true"} == server.client(login=False).raw("RegisterBasic", body).json()
    right, wrong = login(server, "boss", PASSWORD.format("boss")), login(server, "boss")
    assert (right.status, right.body) == (wrong.status, wrong.body)
    assert [] == right.all("set-cookie")


@pytest.mark.parametrize("open_", [False, True], ids=["closed", "open"])
@pytest.mark.parametrize("required", [False, True], ids=["without accounts", "with accounts"])
def test_registration(start, required, open_):
    """Registration makes a user only where there are accounts and it is allowed; else it answers uniformly."""
    server = start(
        **REQUIRED | {"SWARMKERNEL_ACCOUNTS__REQUIRED": str(required).lower()},
        SWARMKERNEL_ACCOUNTS__ALLOW_REGISTRATION=str(open_).lower(),
    )
    owner = People(server).owner if required else server.client()
    before = owner.post("AdminListUsers")["users"]
    bodies = set()
    names = ["newcomer", "boss", "local", "admin", "_x_y_", "1abc", "newcomer"]
    for name in names:
        body = json.dumps({"username": name, "password": "long enough"}).encode()
        bodies.add(send(server, "POST", "/API/RegisterBasic", JSON, body).body)
    after = owner.post("AdminListUsers")["users"]

    if required and open_:
        assert ["newcomer"] == sorted(set(after) - set(before))
        roles = owner.post("AdminGetUserInfo", name="newcomer")["settings"]["roles"]["value"]
        assert "user" in roles
        assert "owner" not in roles
    else:
        assert before == after
        assert 1 == len(bodies), bodies
        assert "registration_failed" == json.loads(bodies.pop())["error_id"]


def test_registration_grants_nothing_that_is_asked_for(start):
    """No extra key of a registration makes a user more than the settings say."""
    server = start(**REQUIRED, SWARMKERNEL_ACCOUNTS__ALLOW_REGISTRATION="true")
    people = People(server)
    more = {"role": "owner", "roles": ["owner"], "permissions": ["*"], "setup_token": "0" * 32}
    for number, extra in enumerate([{}, *({k: v} for k, v in more.items()), more]):
        body = {"username": f"newcomer{number}", "password": "long enough", **extra}
        server.client(login=False).raw("RegisterBasic", body)
    users = people.owner.post("AdminListUsers")["users"]
    assert "newcomer0" in users
    for name in users:
        if name != "boss":
            assert "*" not in log_in(server, name, "long enough").raw("GetNewSession").json()["permissions"]


def test_others_are_served_meanwhile(people):
    """While more wrong logins come than can be checked, light calls wait for a fraction of one login."""
    stop, light, alone = threading.Event(), [], []

    def guess(number):
        for turn in itertools.count():
            if stop.is_set():
                return
            login(people.server, f"guess{number}_{turn}")

    def ask(until, taken):
        while time.monotonic() < until:
            began = time.monotonic()
            assert "status" in people.owner.post("GetCurrentStatus")
            taken.append(time.monotonic() - began)
            time.sleep(0.03)

    for number in range(20):
        began = time.monotonic()
        login(people.server, f"alone{number}")
        alone.append(time.monotonic() - began)
    threads = [threading.Thread(target=guess, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    try:
        ask(time.monotonic() + 3, light)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert statistics.mean(light) < 0.55 * statistics.median(alone)


def test_the_queue_of_guesses_is_bounded(people):
    """More guesses at a time than wait are told to come again, instead of piling up."""
    bodies = [
        json.dumps({"username": f"flood{n}", "password": "a wrong password"}).encode() for n in range(80)
    ]
    head = "POST /API/Login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connections = [dial(people.server) for _ in bodies]
    try:
        for connection, body in zip(connections, bodies, strict=True):
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        found = [read(connection).error_id for connection in connections]
    finally:
        for connection in connections:
            connection.close()
    assert {"invalid_login", "ratelimit"} == set(found)
    assert found.count("ratelimit") > 10
