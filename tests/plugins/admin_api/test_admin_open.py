"""The admin routes while accounts are not required: everybody is the owner, and may prepare users and roles."""

import pytest

from swarmkernel.testing import LiveServer

SUCCESS = {"success": True}


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory, env):
    """A server without accounts, where a header chooses the user."""
    env = env | {
        "SWARMKERNEL_ACCOUNTS__REQUIRED": "false",
        "SWARMKERNEL_SERVER__TRUST_USER_HEADER": "true",
    }
    with LiveServer(tmp_path_factory.mktemp("data"), env=env) as server:
        yield server


@pytest.fixture(name="client", scope="module")
def _client(server):
    """A client of the user that everybody is."""
    return server.client()


def test_users_and_roles_can_be_prepared(client, edit):
    """Users and roles are made, changed and deleted as with accounts."""
    assert SUCCESS == client.post("AdminAddRole", name="clerk")
    assert SUCCESS == edit(client, "clerk", permissions="*")
    assert SUCCESS == client.post("AdminAddUser", name="ada", password="a password", role="owner")
    assert SUCCESS == client.post("AdminSetUserPassword", name="ada", password="another password")
    answer = client.post("AdminChangeUserSettings", name="ada", settings={"roles": ["clerk", "owner"]})
    assert {"success": True, "skipped": []} == answer
    assert "clerk || owner" == client.post("AdminGetUserInfo", name="ada")["settings"]["roles"]["value"]
    assert "full control" in client.post("AdminDeleteUser", name="ada")["error"]
    assert SUCCESS == client.post("AdminAddUser", name="bob", password="a password", role="owner")
    assert SUCCESS == client.post("AdminDeleteUser", name="ada")
    assert ["bob"] == client.post("AdminListUsers")["users"]
    assert SUCCESS == client.post("AdminDeleteRole", name="clerk")


def test_deletion_ends_sessions(client, server):
    """Sessions of a deleted user end here too."""
    other = server.client(login=False)
    other.session_id = other.raw("GetNewSession", headers={"X-SWARM-USER_ID": "carol"}).json()["session_id"]
    assert "carol" == other.post("GetMyUserData")["user_name"]
    client.post("AdminAddUser", name="carol", password="a password", role="user")

    assert SUCCESS == client.post("AdminDeleteUser", name="carol")

    assert "invalid_session_id" == other.post("GetMyUserData")["error_id"]
    assert "user_name" in client.post("GetMyUserData")


def test_everybody_can_be_interrupted(client, server):
    """Work is interrupted for users that only sessions know; and one nobody knows is refused."""
    assert SUCCESS == client.post("AdminInterruptUser", name="local")
    server.wait_for_log("interrupt local True")
    assert "no user 'nobody'" in client.post("AdminInterruptUser", name="nobody")["error"]


def test_the_log_names_everybody(client):
    """What everybody did is in the audit log, under the one name that they share."""
    client.post("AdminInterruptUser", name="local")

    assert {"local"} == {row["user"] for row in client.post("ListAuditLog")["entries"]}
