"""Logging in and out, registering, passwords and tokens, over real servers."""

import hashlib
import itertools
import json
import re
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from importlib.metadata import entry_points

import pytest

from swarmkernel.testing import Client, LiveServer

PLAIN, NEW = "correct horse", "battery staple"
OTHERS = sorted(
    {ep.name for ep in entry_points(group="swarmkernel.v1")} - {"accounts", "basic_api", "store_sql"}
)
QUICK = {"SWARMKERNEL_PLUGINS__DISABLED": json.dumps(OTHERS)}
REQUIRED = {**QUICK, "SWARMKERNEL_ACCOUNTS__REQUIRED": "true"}
#: Tests are clients of addresses of their own, behind a proxy that the server trusts.
PROXIED = {
    **REQUIRED,
    "SWARMKERNEL_ACCOUNTS__ALLOW_REGISTRATION": "true",
    "SWARMKERNEL_ACCOUNTS__FAILED_LOGINS": "100000",
    "SWARMKERNEL_SERVER__TRUSTED_PROXIES": '["127.0.0.1"]',
}
ADDRESSES = (f"10.{n >> 8}.{n & 255}.1" for n in itertools.count())


class Person(Client):
    """A client of an address of its own, who keeps no cookies."""

    def __attrs_post_init__(self):
        super().__attrs_post_init__()
        self.http.headers["X-Forwarded-For"] = next(ADDRESSES)

    def tell(self, route, headers=None, **body):
        """The JSON of an answer to a call without session."""
        self.http.cookies.clear()
        return self.raw(route, body, headers=headers).json()

    def register(self, name, password=PLAIN, **more):
        """Register a user from a new address."""
        return self.tell("RegisterBasic", username=name, password=password, headers=elsewhere(), **more)

    def enter(self, name, password=PLAIN):
        """Log in from a new address, open a session, and return the token."""
        self.http.cookies.clear()
        response = self.raw("Login", {"username": name, "password": password}, headers=elsewhere())
        assert {"success": "true"} == response.json()
        token = response.cookies["swarm_token"]
        self.session_id = self.tell("GetNewSession", bearer(token))["session_id"]
        return token

    def call(self, route, headers=None, **body):
        """The JSON of an answer to a call with the session."""
        return self.tell(route, headers, session_id=self.session_id, **body)

    @property
    def is_in(self):
        """Whether the session is still good."""
        response = self.raw("GetUserSettings", {"session_id": self.session_id})
        return {200: True, 401: False}[response.status_code]


def elsewhere():
    """The headers of a client of another address."""
    return {"X-Forwarded-For": next(ADDRESSES)}


def bearer(token):
    """The header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


def cookie(token):
    """The other one."""
    return {"Cookie": f"swarm_token={token}"}


def setup_token(server):
    """The token on a server's console."""
    return server.wait_for_log("setup_token makes one").split()[-1]


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory):
    """A server with accounts, whose owner is `boss`."""
    with LiveServer(tmp_path_factory.mktemp("data"), env=PROXIED) as server:
        boss = Person(server.url)
        made = boss.register("boss", setup_token=setup_token(server))
        boss.close()
        assert {"success": "true"} == made
        yield server


@pytest.fixture(name="meet")
def _meet():
    """Make people of a server; they leave when the test ends."""
    people = []

    def meet(server):
        people.append(Person(server.url))
        return people[-1]

    yield meet
    for person in people:
        person.close()


@pytest.fixture(name="stranger")
def _stranger(server, meet):
    """Somebody without session."""
    return meet(server)


@pytest.fixture(name="name")
def _name(request):
    """The name of a user that no other test has."""
    digest = hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    return f"user_{digest}"


@pytest.fixture(name="user")
def _user(stranger, name):
    """A registered user, logged in; the token is `user.token`."""
    assert {"success": "true"} == stranger.register(name)
    token = stranger.enter(name)
    return stranger, token


def failure(answer):
    """The error id of a failure, which has a text too and nothing else."""
    assert {"error", "error_id"} == answer.keys()
    assert answer["error"]
    return answer["error_id"]


def test_login(stranger, name):
    """A login is told as text, and sets a cookie that opens sessions, as does the token in the header."""
    stranger.register(name)
    response = stranger.raw("Login", {"username": name, "password": PLAIN})
    morsel = SimpleCookie(response.headers["set-cookie"])["swarm_token"]

    assert (200, {"success": "true"}) == (response.status_code, response.json())
    assert re.fullmatch(r"[0-9a-f]+\.[0-9a-f]{32}\.[0-9a-f]{32}", morsel.value)
    assert ("/", "Lax", True, "31536000") == (
        morsel["path"],
        morsel["samesite"],
        morsel["httponly"],
        morsel["max-age"],
    )
    assert "" == morsel["secure"]
    for headers in (cookie(morsel.value), bearer(morsel.value)):
        assert name == stranger.tell("GetNewSession", headers)["user_id"]
    twice = {"Cookie": f"swarm_token={morsel.value}; swarm_token={morsel.value[::-1]}"}
    for headers in ({}, cookie(morsel.value[:-1]), twice):
        assert "not_logged_in" == failure(stranger.tell("GetNewSession", headers))


def test_secure_cookie(stranger, name):
    """Where the client sees HTTPS the cookies are for that alone, and one is for this host alone."""
    stranger.register(name)
    https = {"X-Forwarded-Proto": "https"}
    response = stranger.raw("Login", {"username": name, "password": PLAIN}, headers=https)

    given = [SimpleCookie(text) for text in response.headers.get_list("set-cookie")]
    assert ["swarm_token", "__Host-swarm_token"] == [name for cookies in given for name in cookies]
    assert all(morsel["secure"] for cookies in given for morsel in cookies.values())


@pytest.mark.parametrize("typed", ["{0}", "{0}!", "  {0}\n", "{1}"])
def test_names_are_cleaned(stranger, name, typed):
    """A name may be typed in any letter case and with characters that names do not have."""
    stranger.register(name)

    assert {"success": "true"} == stranger.tell(
        "Login", username=typed.format(name, name.upper()), password=PLAIN
    )


def test_password_forms(stranger, name):
    """The web client's forms of a password and the plain one are one password."""
    source = f"swarmclientpw:{name}:{PLAIN}"
    digest = hashlib.sha256(source.encode()).hexdigest()
    stranger.register(name, digest)

    for form in (PLAIN, digest, f"__swarmdoprehash:{source}"):
        assert {"success": "true"} == stranger.tell("Login", username=name, password=form)


def test_without_user_agent(stranger, name):
    """A client that does not say what it is can log in."""
    stranger.register(name)
    del stranger.http.headers["User-Agent"]
    stranger.enter(name)

    assert ["unknown"] == [t["user_agent"] for t in stranger.call("ListMyAuthTokens")["tokens"]]


def test_failures_are_alike(stranger, name):
    """A wrong password, an unknown user and texts of impossible lengths have one answer, to the byte."""
    stranger.register(name)
    tries = [
        (name, NEW),
        ("nobody_here", NEW),
        ("ab", PLAIN),
        ("x" * 101, PLAIN),
        (name, "short"),
        (name, "x" * 501),
    ]
    answers = [
        stranger.raw("Login", {"username": who, "password": text}, headers=elsewhere()) for who, text in tries
    ]

    assert 1 == len({(a.status_code, a.content, tuple(sorted(a.headers.keys()))) for a in answers})
    assert "invalid_login" == failure(answers[0].json())
    assert "set-cookie" not in answers[0].headers


def test_sixth_attempt(stranger, name):
    """The sixth attempt of an address within a minute is refused, right or wrong, whoever the others were for."""
    stranger.register(name)
    tries = [(name, PLAIN), (name, NEW), ("nobody1", NEW), ("nobody2", NEW), (name, PLAIN)]
    told = [stranger.tell("Login", username=who, password=text) for who, text in tries]
    assert ["true", None, None, None, "true"] == [t.get("success") for t in told]

    for answer in (
        stranger.tell("Login", username=name, password=PLAIN),
        stranger.tell("RegisterBasic", username="somebody_new", password=PLAIN),
    ):
        assert "ratelimit" == failure(answer)
    assert {"success": "true"} == stranger.tell("Login", username=name, password=PLAIN, headers=elsewhere())


@pytest.mark.parametrize(
    ("route", "expected", "body"),
    [
        ("Login", "invalid_login", {"username": "ab", "password": PLAIN}),
        ("RegisterBasic", "invalid_input", {"username": "ab", "password": PLAIN}),
    ],
)
def test_hopeless_attempts(stranger, name, route, expected, body):
    """Attempts that cannot succeed are limited as well, but cost those that can nothing."""
    stranger.register(name)
    told = [stranger.tell(route, **body) for _ in range(6)]

    assert [expected] * 5 + ["ratelimit"] == [failure(t) for t in told]
    assert {"success": "true"} == stranger.tell("Login", username=name, password=PLAIN)


def test_a_name_waits(user, name):
    """After five failures from anywhere, a name waits, be it a user's or nobody's; who is in stays in."""
    person, _ = user
    told = {
        who: [
            person.raw("Login", {"username": who, "password": NEW}, headers=elsewhere()).json()
            for _ in range(6)
        ]
        for who in (name, "nobody_of_that_name")
    }
    assert told[name] == told["nobody_of_that_name"]
    assert ["invalid_login"] * 5 + ["ratelimit"] == [failure(t) for t in told[name]]

    right = person.raw("Login", {"username": name, "password": PLAIN}, headers=elsewhere()).json()
    assert "ratelimit" == failure(right)
    assert person.is_in


def test_logout(user):
    """Logging out ends the token and its sessions, and takes the cookie back."""
    person, token = user
    response = person.raw("Logout", {"session_id": person.session_id}, headers=cookie(token))
    morsel = SimpleCookie(response.headers["set-cookie"])["swarm_token"]

    assert {"success": "true"} == response.json()
    assert ("", "0", "/") == (morsel.value, morsel["max-age"], morsel["path"])
    assert not person.is_in
    assert "not_logged_in" == failure(person.tell("GetNewSession", cookie(token)))


def test_logout_of_a_session_of_another_login(user, name):
    """The session's own login ends too, where the browser has logged in again meanwhile."""
    person, first = user
    session, second = person.session_id, person.enter(name)
    person.session_id = session

    assert {"success": "true"} == person.call("Logout", cookie(second))
    assert not person.is_in
    for token in (first, second):
        assert "not_logged_in" == failure(person.tell("GetNewSession", cookie(token)))


def test_logout_without_token(user):
    """A request without a good token cannot log out, and nothing happens."""
    person, token = user

    for headers in ({}, cookie("x.y.z"), cookie(token[:-1] + "x")):
        assert {"error"} == person.call("Logout", headers).keys()
    assert person.is_in


def test_register(stranger, name):
    """Who registers gets no cookie, and may do what the role for newcomers allows."""
    response = stranger.raw("RegisterBasic", {"username": name, "password": PLAIN})
    assert {"success": "true"} == response.json()
    assert "set-cookie" not in response.headers
    token = stranger.enter(name)
    held = stranger.tell("GetNewSession", bearer(token))["permissions"]
    assert "edit_user_settings" in held
    assert not {"*", "manage_users", "view_logs"} & set(held)


@pytest.mark.parametrize(
    ("expected", "username", "password"),
    [
        ("username_exists", "boss", PLAIN),
        ("username_exists", "B.O.S.S", PLAIN),
        ("username_exists", "admin", PLAIN),
        ("username_exists", "local", PLAIN),
        ("username_exists", "1st_user", PLAIN),
        ("username_exists", "__shared", PLAIN),
        ("invalid_input", "ab", PLAIN),
        ("invalid_input", "äöü!", PLAIN),
        ("invalid_input", "x" * 101, PLAIN),
        ("invalid_input", "fine_name", "short"),
        ("invalid_input", "fine_name", "x" * 501),
    ],
)
def test_registrations_that_fail(stranger, expected, username, password):
    """Lengths, and names that are taken, reserved or begin with no letter, are told apart."""
    assert expected == failure(stranger.register(username, password))


@pytest.mark.parametrize("token", ["x", "0" * 32])
def test_no_second_owner(stranger, name, token):
    """Once there is an owner no setup token makes another, and it is no way around a failed registration either."""
    assert "registration_failed" == failure(stranger.register(name, setup_token=token))
    assert "invalid_login" == failure(stranger.tell("Login", username=name, password=PLAIN))


def test_the_used_setup_token(server, stranger, name):
    """The token that made the owner is worth nothing afterwards."""
    assert "registration_failed" == failure(stranger.register(name, setup_token=setup_token(server)))


def test_change_password(user, name, meet, server):
    """A new password ends the old one and the user's other logins, and keeps the session that set it."""
    person, token = user
    other = meet(server)
    others = other.enter(name)
    bot = person.call("CreateAuthToken", reason="bot")["token"]

    assert {"success": True} == person.call("ChangePassword", oldPassword=PLAIN, newPassword=NEW)
    assert (True, False) == (person.is_in, other.is_in)
    assert name == person.tell("GetNewSession", bearer(token))["user_id"]
    for ended in (others, bot):
        assert "not_logged_in" == failure(person.tell("GetNewSession", bearer(ended)))
    assert "invalid_login" == failure(person.tell("Login", elsewhere(), username=name, password=PLAIN))
    person.enter(name, NEW)


@pytest.mark.parametrize(("old", "new"), [(PLAIN, "short"), (PLAIN, "x" * 501), (NEW, NEW), ("", NEW)])
def test_password_changes_that_fail(user, old, new, name):
    """A new password of a bad length, and a wrong old one, are told in words, and change nothing."""
    person, _ = user

    assert {"error"} == person.call("ChangePassword", oldPassword=old, newPassword=new).keys()
    assert person.is_in
    person.enter(name)


def test_guesses_of_the_old_password(user):
    """A session gives five guesses a minute at its user's password."""
    person, _ = user
    told = [person.call("ChangePassword", oldPassword=f"guess {n} more", newPassword=NEW) for n in range(6)]

    assert [None] * 5 + ["ratelimit"] == [t.get("error_id") for t in told]
    assert "error" in person.call("ChangePassword", oldPassword=PLAIN, newPassword=NEW)


def test_tokens(user, name):
    """A user lists, makes and revokes tokens of their own; one that was made works, and its text is shown once."""
    person, token = user
    text = person.call("CreateAuthToken", reason="my bot")["token"]
    login, made = person.call("ListMyAuthTokens", cookie(token))["tokens"]

    assert [b"%b" % name.encode(), made["id"]] == [bytes.fromhex(text.split(".")[0]), text.split(".")[1]]
    assert ("my bot", False, True) == (made["user_agent"], made["is_current"], login["is_current"])
    assert login["user_agent"].startswith("python-httpx")
    assert login["origin_address"].startswith("127.0.0.1")
    assert all(isinstance(made[key], int) and made[key] > 10**9 for key in ("created", "last_active"))
    assert {"id", "created", "last_active", "user_agent", "origin_address", "is_current"} == made.keys()
    assert [False, True] == [t["is_current"] for t in person.call("ListMyAuthTokens", bearer(text))["tokens"]]
    assert name == person.tell("GetNewSession", bearer(text))["user_id"]


def test_revoke(user, meet, server):
    """A revoked token ends with its sessions; those of other tokens go on."""
    person, _ = user
    bot = meet(server)
    text = person.call("CreateAuthToken", reason="bot")["token"]
    bot.session_id = bot.tell("GetNewSession", bearer(text))["session_id"]
    assert bot.is_in

    assert {"success": True} == person.call("RevokeMyAuthToken", tokenId=text.split(".")[1])
    assert (True, False) == (person.is_in, bot.is_in)
    assert "not_logged_in" == failure(bot.tell("GetNewSession", bearer(text)))
    assert {"error"} == person.call("RevokeMyAuthToken", tokenId=text.split(".")[1]).keys()


def test_revoking_the_current_token(user):
    """The token that a session was made with may be revoked by it."""
    person, token = user

    assert {"success": True} == person.call("RevokeMyAuthToken", tokenId=token.split(".")[1])
    assert not person.is_in


def test_others_tokens(user, name, meet, server):
    """Another user's token is answered as one that does not exist, and lives on."""
    person, token = user
    eve = meet(server)
    eve.register(f"{name}_eve")
    eve.enter(f"{name}_eve")
    told = [eve.call("RevokeMyAuthToken", tokenId=t) for t in (token.split(".")[1], "0" * 32, "")]

    assert 1 == len({json.dumps(t) for t in told})
    assert {"error"} == told[0].keys()
    assert 1 == len(eve.call("ListMyAuthTokens")["tokens"])
    assert person.is_in


@pytest.mark.parametrize(
    ("expected", "reason"), [(False, ""), (False, " \n"), (False, "x" * 501), (True, "x" * 500)]
)
def test_reasons(user, expected, reason):
    """A token needs a reason of 1 to 500 characters."""
    person, _ = user

    assert expected == ("token" in person.call("CreateAuthToken", reason=reason))


def test_acting_as_another_user(user, name, meet, server):
    """Who acts as another user can neither set their password nor make a token that would outlast it."""
    boss = meet(server)
    token = boss.enter("boss")
    boss.session_id = boss.tell("GetNewSession", bearer(token), impersonateUser=name)["session_id"]

    assert name == boss.call("GetMyUserData")["user_name"]
    assert {"error"} == boss.call("ChangePassword", oldPassword=PLAIN, newPassword=NEW).keys()
    assert {"error"} == boss.call("CreateAuthToken", reason="later").keys()
    assert 1 == len(boss.call("ListMyAuthTokens")["tokens"])


def test_secrets_stay_secret(user, name, server):
    """No file of the data folder and no line of the log holds a password, a token's secret or a session id."""
    person, token = user
    bot = person.call("CreateAuthToken", reason="bot")["token"]
    person.tell("Login", elsewhere(), username=name, password="Wrong canary 1")
    person.register(f"{name}_new", "Wrong canary 2", setup_token="Wrong canary 3")
    person.call("ChangePassword", oldPassword="Wrong canary 4", newPassword="Wrong canary 5")
    person.tell("GetNewSession", cookie(token[:-4] + "0000"))
    secrets = [PLAIN, "Wrong canary", token.split(".")[2], bot.split(".")[2], person.session_id]
    kept = b"".join(p.read_bytes() for p in server.data_dir.rglob("*") if p.is_file())
    kept += "".join(server.log).encode()

    assert name.encode() in kept
    assert [] == [secret for secret in secrets if secret.encode() in kept]


def test_first_owner(swarm_serve, meet):
    """Before there is an owner nobody comes in without the token on the console; with it, one does, once."""
    server = swarm_serve(**PROXIED)
    person, token = meet(server), setup_token(server)
    for route, body in (
        ("GetNewSession", {}),
        ("Login", {"username": "anna", "password": PLAIN}),
        ("RegisterBasic", {"username": "anna", "password": PLAIN}),
    ):
        response = person.raw(route, body, headers=elsewhere())
        assert (403, "setup_required") == (response.status_code, failure(response.json()))
    assert "registration_failed" == failure(person.register("anna", setup_token=token[::-1]))
    assert "username_exists" == failure(person.register("admin", setup_token=token))
    assert "invalid_input" == failure(person.register("anna", "short", setup_token=token))
    names = ["anna", "ben", "cleo", "dan"]
    with ThreadPoolExecutor() as pool:
        told = list(pool.map(lambda n: meet(server).register(n, setup_token=token), names))
    assert ["registration_failed"] * 3 == [failure(t) for t in told if "error" in t]
    (owner,) = (n for n, t in zip(names, told, strict=True) if t == {"success": "true"})
    assert "registration_failed" == failure(person.register("eve", setup_token=token))
    assert {"success": "true"} == person.register("eve")
    assert "*" in person.tell("GetNewSession", bearer(person.enter(owner)))["permissions"]
    assert "*" not in person.tell("GetNewSession", bearer(person.enter("eve")))["permissions"]
    server.stop()
    server.start()
    assert [] == [line for line in server.log if "setup_token" in line]


def test_registration_is_off_by_default(swarm_serve, meet):
    """Nobody registers where that is not allowed, and spoofed headers give nobody more attempts."""
    server = swarm_serve(**REQUIRED)
    person = meet(server)
    assert {"success": "true"} == person.register("anna", setup_token=setup_token(server))
    assert "registration_failed" == failure(person.register("bob"))
    names = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "CF-Connecting-IP", "True-Client-IP")
    told = [
        person.tell("Login", dict.fromkeys(names, f"9.9.{n}.9"), username="bob", password=PLAIN)
        for n in range(6)
    ]

    assert ["invalid_login"] * 4 + ["ratelimit"] * 2 == [failure(t) for t in told]


def test_login_can_be_off(swarm_serve, meet):
    """Where login by password is off, a right password is answered like a wrong one."""
    server = swarm_serve(**PROXIED, SWARMKERNEL_ACCOUNTS__ALLOW_LOGIN="false")
    person = meet(server)
    assert {"success": "true"} == person.register("anna", setup_token=setup_token(server))
    told = [person.tell("Login", username="anna", password=text) for text in (PLAIN, NEW)]

    assert told[0] == told[1]
    assert "invalid_login" == failure(told[0])


def test_without_accounts(swarm_serve, meet):
    """Without accounts there are no tokens to manage; the password set now is the owner's once they are required."""
    server = swarm_serve(**QUICK, SWARMKERNEL_ACCOUNTS__ALLOW_REGISTRATION="true")
    person = meet(server)
    person.session_id = person.tell("GetNewSession")["session_id"]
    for route, body in (
        ("Logout", {}),
        ("ListMyAuthTokens", {}),
        ("CreateAuthToken", {"reason": "bot"}),
        ("RevokeMyAuthToken", {"tokenId": "x"}),
    ):
        assert {"error"} == person.call(route, **body).keys()
    assert "registration_failed" == failure(person.register("bob"))
    assert "registration_failed" == failure(person.register("bob", setup_token="x"))
    assert "invalid_login" == failure(person.tell("Login", username="local", password=PLAIN))
    assert {"error"} == person.call("ChangePassword", oldPassword="", newPassword="short").keys()
    assert {"success": True} == person.call("ChangePassword", oldPassword="", newPassword=PLAIN)
    assert {"error"} == person.call("ChangePassword", oldPassword=NEW, newPassword=NEW).keys()
    assert person.is_in
    server.stop()

    server = swarm_serve(**PROXIED)
    after = meet(server)
    after.session_id = person.session_id
    assert not after.is_in
    assert "*" in after.tell("GetNewSession", bearer(after.enter("local")))["permissions"]


def test_the_trusted_local_user(swarm_serve, meet):
    """Who is trusted for calling from this machine has no account till they set a password, and so no tokens."""
    server = swarm_serve(**REQUIRED, SWARMKERNEL_ACCOUNTS__TRUST_LOCALHOST="true")
    person = meet(server)
    del person.http.headers["X-Forwarded-For"]
    person.session_id = person.tell("GetNewSession")["session_id"]
    assert {"error"} == person.call("Logout").keys()
    assert {"error"} == person.call("CreateAuthToken", reason="bot").keys()
    assert {"success": True} == person.call("ChangePassword", oldPassword="", newPassword=PLAIN)
    token = person.call("CreateAuthToken", reason="bot")["token"]
    proxied = elsewhere() | bearer(token)
    assert "not_logged_in" == failure(person.tell("GetNewSession", elsewhere()))
    assert "local" == person.tell("GetNewSession", proxied)["user_id"]


def test_a_password_on_an_open_network(swarm_serve, meet):
    """Without accounts, nobody sets the owner's password over a network."""
    server = swarm_serve("--host", "0.0.0.0", "--allow-open-network", **QUICK)
    person = meet(server)
    person.http.base_url = person.url = server.url.replace("0.0.0.0", "127.0.0.1")
    person.session_id = person.tell("GetNewSession")["session_id"]

    assert "listens" in person.call("ChangePassword", oldPassword="", newPassword=PLAIN)["error"]
