"""A server with accounts, and clients of users with various roles on it."""

import json
import os
from importlib.metadata import entry_points

import pytest
from click.testing import CliRunner

from swarmkernel.cli import main
from swarmkernel.testing import FakeDistributions, LiveServer

#: Read once, before a test adds plugins of its own.
OTHERS = sorted(
    {ep.name for ep in entry_points(group="swarmkernel.v1")}
    - {"accounts", "admin_api", "basic_api", "store_sql"}
)
PASSWORD = "the password of {}"
#: Accounts, and no limit on logins: these tests all come from one address.
ENV = {"SWARMKERNEL_PLUGINS__DISABLED": json.dumps(OTHERS)} | {
    f"SWARMKERNEL_ACCOUNTS__{key}": value
    for key, value in {
        "REQUIRED": "true",
        "LOGINS_PER_ADDRESS": "9999",
        "LOGINS_PER_NETWORK": "9999",
        "LOGINS_PER_NAME": "9999",
    }.items()
}
WORKER = '''
import logging

from swarmkernel import hookimpl


@hookimpl(optionalhook=True)
def basic_interrupt(session, other_sessions):
    """Say whose work is to be interrupted."""
    logging.getLogger("worker").warning("interrupt %s %s", session.user_id, other_sessions)
'''


@pytest.fixture(name="env", scope="module")
def _env(tmp_path_factory):
    """The environment of the server: accounts, and a plugin that tells what it is asked to interrupt."""
    folder = tmp_path_factory.mktemp("dists")
    FakeDistributions(folder).add("worker", WORKER)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return ENV | {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory, env):
    """One server for the tests of a module; its first owner is `boss`."""
    data_dir = tmp_path_factory.mktemp("data")
    args = ["users", "add", "boss", "--role", "owner", "--password-stdin", "--data-dir", str(data_dir)]
    made = CliRunner().invoke(main, args, input=PASSWORD.format("boss"), env=env)
    assert 0 == made.exit_code, made.output
    with LiveServer(data_dir, env=env) as server:
        yield server


@pytest.fixture(name="log_in", scope="module")
def _log_in(server):
    """Open sessions of users, by name and password, or as another user."""

    def log_in(name, password=None, **body):
        client = server.client(login=False)
        answer = client.raw("Login", {"username": name, "password": password or PASSWORD.format(name)})
        assert {"success": "true"} == answer.json()
        client.session_id = client.raw("GetNewSession", body).json()["session_id"]
        return client

    return log_in


@pytest.fixture(name="boss", scope="module")
def _boss(log_in):
    """The first owner's client."""
    return log_in("boss")


@pytest.fixture(name="add", scope="module")
def _add(boss):
    """Add a user, and give their name."""

    def add(name, role="user"):
        answer = boss.post("AdminAddUser", name=name, password=PASSWORD.format(name), role=role)
        assert {"success": True} == answer
        return name

    return add


@pytest.fixture(name="manager", scope="module")
def _manager(boss, add, log_in):
    """Return a client of somebody who manages users and roles, but does not have full control."""
    roles = boss.post("AdminListRoles")["roles"]
    held = [*roles["admin"]["permissions"], "manage_users", "configure_roles"]
    boss.post("AdminAddRole", name="manager")
    assert {"success": True} == edit(boss, "manager", permissions=",".join(held))
    return log_in(add("maude", "manager"))


def edit(client, name, **changes):
    """Replace a role by a plain one with these *changes*."""
    plain = {
        "description": "",
        "max_outpath_depth": 5,
        "max_t2i_simultaneous": 32,
        "allow_unsafe_outpaths": False,
        "model_whitelist": "",
        "model_blacklist": "",
        "permissions": "",
    }
    return client.post("AdminEditRole", name=name, **{**plain, **changes})


@pytest.fixture(name="edit", scope="session")
def _edit():
    """Replace a role, given a client, its id and what is not plain about it."""
    return edit
