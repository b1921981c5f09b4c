"""Sessions, data and the installation where accounts are required."""

import time

import pytest
from click.testing import CliRunner

from swarmkernel.cli import main
from swarmkernel.testing import LiveServer

from .conftest import enabled
from .test_install import GOOD

pytest.importorskip("swarmkernel_accounts")

PASSWORD = "a long enough password of {}"
REQUIRED = {
    "SWARMKERNEL_ACCOUNTS__REQUIRED": "true",
    "SWARMKERNEL_ACCOUNTS__LOGINS_PER_ADDRESS": "1000",
    "SWARMKERNEL_ACCOUNTS__LOGINS_PER_NETWORK": "1000",
    **enabled("accounts", "admin_api"),
}


def add(server, name, role):
    """Add a user with the command."""
    args = ["users", "add", name, "--role", role, "--password-stdin", "--data-dir", str(server.data_dir)]
    done = CliRunner().invoke(main, args, input=PASSWORD.format(name), env=server.env)
    assert 0 == done.exit_code, done.output


def users_of(folder):
    server = LiveServer(folder, env=REQUIRED).start()
    for name, role in (("boss", "owner"), ("helper", "admin"), ("bob", "user")):
        add(server, name, role)
    client, until = server.client(login=False), time.monotonic() + 10
    while client.raw("GetNewSession").json()["error_id"] == "setup_required" and time.monotonic() < until:
        time.sleep(0.1)  # it hears within a second of the users that the command added
    return server


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory):
    """A server with an owner, an admin and a user."""
    server = users_of(tmp_path_factory.mktemp("data"))
    yield server
    server.kill()


def log_in(server, name):
    """A client of that user; a server hears within a second of users that the command adds."""
    client = server.client(login=False)
    for _ in range(30):
        answer = client.raw("Login", {"username": name, "password": PASSWORD.format(name)}).json()
        if answer == {"success": "true"}:
            return client.login()
        time.sleep(0.1)
    raise AssertionError(answer)


def test_nobody_without_a_login(server):
    """Who is not logged in gets no session and no files, whatever user a header names."""
    client = server.client(login=False)
    for headers in ({}, {"X-SWARM-USER_ID": "boss"}, {"Cookie": "swarm_token=x.y.z"}):
        answer = client.raw("GetNewSession", headers=headers)
        assert (200, "not_logged_in") == (answer.status_code, answer.json()["error_id"])
        assert "invalid_user" == client.http.get("/Audio/x.wav", headers=headers).json()["error_id"]


def test_impersonation_downwards(server):
    """An owner acts as a user with that one's data and rights, and the log says who really did; never upwards."""
    bob, boss = log_in(server, "bob"), log_in(server, "boss")
    bob.post("ChangeUserSettings", settings={"language": "fr"})
    acting = server.client(login=False)
    answer = boss.raw("GetNewSession", {"impersonateUser": "Bob"}).json()
    acting.session_id = answer["session_id"]
    data = acting.post("GetMyUserData")
    assert ("bob", "bob", "fr") == (answer["user_id"], data["user_name"], data["language"])
    assert "install" not in answer["permissions"]
    acting.post("SetAPIKey", keyType="civitai_api", key="sk-canary-17")
    rows = boss.post("ListAuditLog", limit=20)
    assert "canary" not in str(rows)
    told = [(r["user"], r["impersonator"], r["action"]) for r in rows["entries"]]
    assert [("bob", "boss", "SetAPIKey"), ("boss", None, "Impersonate")] == told[:2]

    refused = bob.raw("GetNewSession", {"impersonateUser": "boss"}).json()
    unknown = bob.raw("GetNewSession", {"impersonateUser": "nobody"}).json()
    assert "bad_impersonate" == refused["error_id"]
    assert unknown == refused


def test_pictures_of_others(server, jpeg):
    """A preset's picture is its owner's alone, by session and by cookie; to others it is missing."""
    bob, boss = log_in(server, "bob"), log_in(server, "boss")
    bob.post("AddNewPreset", title="Mine", description="", param_map={}, preview_image=jpeg())
    path = "/ViewSpecial/Preset/Mine"

    assert 200 == bob.http.get(path).status_code
    mine = server.client(login=False).http.get(path, headers={"X-Session-ID": bob.session_id})
    assert 200 == mine.status_code
    missing = boss.http.get("/ViewSpecial/Preset/None")
    others = boss.http.get(path)
    assert (404, missing.json()) == (others.status_code, others.json())
    boss.post("AdminDeleteUser", name="bob")
    add(server, "bob", "user")
    assert 404 == log_in(server, "bob").http.get(path).status_code


def test_only_an_owner_installs(server):
    """The installation is for who holds the right to it, and what was chosen is in the audit log."""
    for name in ("bob", "helper"):
        (answer,) = log_in(server, name).stream("InstallConfirmWS", **GOOD)
        assert "bad_permissions" == answer["error_id"]
    assert not (server.data_dir / "swarmkernel.toml").exists()
    boss = log_in(server, "boss")
    choices = {**GOOD, "installed_for": "just_self_lan", "stability_api_key": "sk-canary-18"}
    frames = boss.stream("InstallConfirmWS", **choices)

    assert {"success": True} == frames[-1]
    assert "first owner" not in str(frames)
    rows = boss.post("ListAuditLog", limit=1, action="InstallConfirmWS")["entries"]
    chosen = {key: choices[key] for key in ("installed_for", "backend", "models", "language", "theme")}
    assert [("boss", "InstallConfirmWS", "ok", chosen)] == [
        (r["user"], r["action"], r["result"], r["subject"]) for r in rows
    ]
