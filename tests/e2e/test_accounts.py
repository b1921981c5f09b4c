"""The black-box checks that need accounts, numbered as in the specification, on the installed command."""

import json
import re
import time

import pytest

from swarmkernel.testing import LiveServer

ON = {"SWARMKERNEL_ACCOUNTS__REQUIRED": "true"}
PASSWORD = "correct horse battery"
LIGHT = ["--disable", "backends_torch", "--disable", "backends_onnx", "--disable", "starter_model"]


def first_owner(server):
    """Make the first owner with the token on the console, and log in."""
    line = server.wait_for_log("setup_token")
    token = re.search(r"\b([0-9a-f]{20,})\b", line)[1]
    body = {"username": "Boss", "password": PASSWORD, "setup_token": token}
    assert {"success": "true"} == server.client(login=False).raw("RegisterBasic", body).json()
    return log_in(server, "boss")


def log_in(server, name, password=PASSWORD):
    """Log in, and open a session."""
    client = server.client(login=False)
    answer = client.raw("Login", {"username": name, "password": password})
    assert {"success": "true"} == answer.json()
    return client.login()


def told(response):
    """Status and error id."""
    return response.status_code, response.json().get("error_id")


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory):
    """A server with accounts."""
    env = ON | {f"SWARMKERNEL_ACCOUNTS__LOGINS_PER_{n}": "1000" for n in ("ADDRESS", "NETWORK", "NAME")}
    with LiveServer(tmp_path_factory.mktemp("data"), LIGHT, env) as server:
        yield server


@pytest.fixture(name="boss", scope="module")
def _boss(server):
    """The owner."""
    return first_owner(server)


@pytest.fixture(name="add")
def _add(boss):
    """Add users."""

    def add(name, role):
        assert {"success": True} == boss.post("AdminAddUser", name=name, password=PASSWORD, role=role)

    return add


def test_26_logging_in(swarm_serve):
    """26: uniform failures, a limit of five a minute, a cookie of three parts, and nothing without it."""
    server = swarm_serve(*LIGHT, **ON)
    first_owner(server)  # one attempt to register, and one to log in
    stranger = server.client(login=False)
    wrong = [
        stranger.raw("Login", {"username": name, "password": "a wrong password"})
        for name in ("boss", "nobody")
    ]
    assert wrong[0].content == wrong[1].content
    assert [(200, "invalid_login")] * 2 == [told(r) for r in wrong]
    good = server.client(login=False)
    answer = good.raw("Login", {"username": "BOSS", "password": PASSWORD})
    assert {"success": "true"} == answer.json()
    cookie = good.http.cookies["swarm_token"]
    assert ["boss", 32, 32] == [
        bytes.fromhex(cookie.split(".")[0]).decode(),
        *map(len, cookie.split(".")[1:]),
    ]
    session = good.raw("GetNewSession").json()
    assert ("boss", 40) == (session["user_id"], len(session["session_id"]))
    sixth = stranger.raw("Login", {"username": "someone_else", "password": "a wrong password"})
    assert (200, "ratelimit") == told(sixth)
    assert "error" in stranger.raw("GetNewSession").json()
    assert "session_id" not in stranger.raw("GetNewSession", {"session_id": session["session_id"]}).json()


def test_27_guests(server, add):
    """27: a guest may see the status and may not add a backend."""
    add("visitor", "guest")
    guest = log_in(server, "visitor")
    body = {"session_id": guest.session_id, "type_id": "torch"}
    assert (400, "bad_permissions") == told(guest.raw("AddNewBackend", body))
    assert "status" in guest.post("GetCurrentStatus")


def test_28_impersonation(server, boss, add):
    """28: who manages users acts as another; for anybody else that is `bad_impersonate`."""
    add("somebody", "user")
    assert (
        "bad_impersonate"
        == log_in(server, "somebody").raw("GetNewSession", {"impersonateUser": "boss"}).json()["error_id"]
    )
    assert "bad_impersonate" == boss.raw("GetNewSession", {"impersonateUser": "nobody"}).json()["error_id"]
    acting = boss.raw("GetNewSession", {"impersonateUser": "Somebody"}).json()
    assert "somebody" == acting["user_id"]
    assert "*" not in acting["permissions"]
    for nobody in (None, "", "boss"):
        assert "boss" == boss.raw("GetNewSession", {"impersonateUser": nobody}).json()["user_id"]


def test_30_deleted_users(swarm_serve, tmp_path):
    """30: a session survives a restart; that of a deleted user ends, and is not back after a restart."""
    server = swarm_serve(*LIGHT, data_dir=tmp_path / "kept", **ON)
    boss = first_owner(server)
    assert {"success": True} == boss.post("AdminAddUser", name="leaver", password=PASSWORD, role="user")
    leaver = log_in(server, "leaver")
    sessions = {"boss": boss.session_id, "leaver": leaver.session_id}

    def valid():
        found = {}
        for name, session in sessions.items():
            client = server.client(login=False)
            client.session_id = session
            found[name] = "status" in client.post("GetCurrentStatus")
        return found

    server.stop()
    server.start()
    assert {"boss": True, "leaver": True} == valid()
    boss = server.client(login=False)
    boss.session_id = sessions["boss"]
    assert {"success": True} == boss.post("AdminDeleteUser", name="leaver")
    until = time.monotonic() + 5
    while valid()["leaver"]:
        assert time.monotonic() < until
    for _ in range(2):
        assert {"boss": True, "leaver": False} == valid()
        server.stop()
        server.start()
    assert {"boss": True, "leaver": False} == valid()


def test_tokens_of_programs(server, boss, add):
    """A program comes in with a token made for it, by header or cookie, until that is revoked."""
    add("robot", "user")
    robot = log_in(server, "robot")
    token = robot.post("CreateAuthToken", reason="a program")["token"]
    program = server.client(login=False)
    for headers in ({"authorization": f"Bearer {token}"}, {"cookie": f"swarm_token={token}"}):
        assert "robot" == program.raw("GetNewSession", headers=headers).json()["user_id"]
    listed = robot.post("ListMyAuthTokens")["tokens"]
    assert ["a program"] == [t["user_agent"] for t in listed if t["id"] == token.split(".")[1]]
    assert [True] == [t["is_current"] for t in listed if t["id"] != token.split(".")[1]]
    assert {"id", "created", "last_active", "user_agent", "origin_address", "is_current"} == listed[0].keys()
    assert {"success": True} == robot.post("RevokeMyAuthToken", tokenId=token.split(".")[1])
    answer = program.raw("GetNewSession", headers={"authorization": f"Bearer {token}"}).json()
    assert "not_logged_in" == answer["error_id"]
    assert "error" in boss.post("RevokeMyAuthToken", tokenId=token.split(".")[1])


def test_passwords(server, add):
    """A user chooses another password; the forms of one password that clients send are equal."""
    import hashlib

    add("chooser", "user")
    client = log_in(server, "chooser")
    for old, new in (("wrong password", "long enough"), (PASSWORD, "short"), (PASSWORD, "x" * 501)):
        assert "error" in client.post("ChangePassword", oldPassword=old, newPassword=new)
    assert {"success": True} == client.post("ChangePassword", oldPassword=PASSWORD, newPassword="long enough")
    assert "status" in client.post("GetCurrentStatus")
    source = "swarmclientpw:chooser:long enough"
    for form in ("long enough", hashlib.sha256(source.encode()).hexdigest(), f"__swarmdoprehash:{source}"):
        assert "user_id" in log_in(server, "chooser", form).raw("GetNewSession").json()
    logged_out = log_in(server, "chooser", "long enough")
    assert {"success": "true"} == logged_out.post("Logout")
    assert "not_logged_in" == logged_out.raw("GetNewSession").json()["error_id"]
    assert (
        "error"
        in server.client(login=False).raw("Login", {"username": "chooser", "password": PASSWORD}).json()
    )


def test_the_audit_log(server, boss, add):
    """Who did what to whom can be read by those who may, and holds no secret."""
    add("watched", "user")
    boss.post("AdminChangeUserSettings", name="watched", settings={"roles": ["guest"]})
    boss.post("AdminDeleteUser", name="nobody_there")
    answer = boss.post("ListAuditLog", limit=50)
    rows = answer["entries"]
    assert answer["intact"] is True
    shown = [(r["user"], r["action"], r["subject"].get("name"), r["result"] == "ok") for r in rows]
    for wanted in (
        ("boss", "AdminAddUser", "watched", True),
        ("boss", "AdminChangeUserSettings", "watched", True),
        ("boss", "AdminDeleteUser", "nobody_there", False),
    ):
        assert wanted in shown, shown
    assert PASSWORD not in json.dumps(rows)
    watched = log_in(server, "watched")
    assert "bad_permissions" == watched.post("ListAuditLog")["error_id"]
