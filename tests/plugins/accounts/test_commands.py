"""The commands ``users`` and ``tokens``, beside a server that runs and without one."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
from importlib.metadata import entry_points

import pytest
from click.testing import CliRunner
from websockets.exceptions import ConnectionClosed

from swarmkernel import Audit, with_store
from swarmkernel.cli import main
from swarmkernel.testing import FakeDistributions, LiveServer

SECRET = "correct horse battery"
#: Read once, before a test adds plugins of its own.
OTHERS = sorted(
    {ep.name for ep in entry_points(group="swarmkernel.v1")} - {"accounts", "basic_api", "store_sql"}
)
ENV = {"SWARMKERNEL_PLUGINS__DISABLED": json.dumps(OTHERS), "SWARMKERNEL_ACCOUNTS__REQUIRED": "true"}
WAITING = '''
import asyncio

from swarmkernel import Level, Permission, Route, hookimpl

FUNDAMENTAL = Permission("fundamental", "Fundamental", group="User", default=Level.GUEST)


async def wait(call):
    """Stay open for as long as the session lives."""
    yield {"waiting": True}
    await asyncio.sleep(600)


@hookimpl
def swarm_routes():
    return [Route("Wait", wait, permission=FUNDAMENTAL)]
'''


class Box:
    """A data folder, and the command on it."""

    def __init__(self, data_dir, env):
        self.data_dir, self.env = data_dir, env

    def run(self, *args, given=None):
        """Run the command: exit code, output, errors."""
        done = CliRunner().invoke(main, [*args, "--data-dir", str(self.data_dir)], input=given, env=self.env)
        return done.exit_code, done.stdout, done.stderr

    def do(self, *args, given=None):
        """Run the command, which succeeds without a word on standard error, and give what it prints."""
        code, out, err = self.run(*args, given=given)
        assert (0, "") == (code, err)
        return out

    def add(self, name, role="user"):
        """Add a user, and give their name."""
        self.do("users", "add", name, "--role", role, "--password-stdin", given=f"{SECRET}\n")
        return name

    def token(self, name):
        """Make a token."""
        return self.do("tokens", "create", name, "--reason", "a test").strip()

    def listed(self, *what):
        """What a list says, by the key that tells its rows apart."""
        key = "name" if what[0] == "users" else "id"
        return {row[key]: row for row in json.loads(self.do(*what, "--json"))}


@pytest.fixture(name="box")
def _box(tmp_path):
    """A data folder that no server uses."""
    return Box(tmp_path / "data", ENV)


@pytest.fixture(name="running", scope="module")
def _running(tmp_path_factory):
    """One running server with an owner, and the command beside it."""
    folder = tmp_path_factory.mktemp("dists")
    FakeDistributions(folder).add("waiting", WAITING)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    box = Box(tmp_path_factory.mktemp("data"), ENV | {"PYTHONPATH": os.pathsep.join(paths)})
    box.add("boss", "owner")
    with LiveServer(box.data_dir, env=box.env) as server:
        box.server = server
        yield box


@pytest.fixture(name="connect")
def _connect(running):
    """Open a session with a token."""

    def connect(token):
        client = running.server.client(login=False)
        client.http.headers["Authorization"] = f"Bearer {token}"
        return client.login()

    return connect


def is_over(client):
    """Whether the client's session has ended."""
    return "invalid_session_id" == client.post("GetCurrentStatus").get("error_id")


def ends_within_a_second(client):
    """Whether the client's session ends in that time."""
    until = time.monotonic() + 1
    while not (over := is_over(client)) and time.monotonic() < until:
        time.sleep(0.05)
    return over


def test_users(box):
    """Users are added, listed, changed and deleted while no server runs."""
    assert "" == box.do("users", "list")
    assert "Added ada.\n" == box.do(
        "users", "add", "Ada", "--role", "Owner", "--password-stdin", given=SECRET
    )
    box.add("bob")

    ada, bob = box.do("users", "list").splitlines()
    assert ["ada", "owner", "password"] == ada.split("\t")[:3]
    assert ["bob", "user", "password"] == bob.split("\t")[:3]
    assert "user\n" == box.do("users", "roles", "bob")
    assert "guest\nadmin\n" == box.do("users", "roles", "BOB", "guest", "Admin", "guest")
    found = box.listed("users", "list")["bob"]
    assert {"name", "roles", "has_password", "email", "created"} == found.keys()
    assert ["guest", "admin"] == found["roles"]
    assert "Set the password of bob.\n" == box.do(
        "users", "set-password", "bob", "--password-stdin", given="another password\n"
    )
    assert "Deleted bob.\n" == box.do("users", "delete", "bob")
    assert ["ada"] == list(box.listed("users", "list"))


def test_tokens(box):
    """A token is printed once and alone; lists show all about it but its secret; revoking ends it."""
    box.add("ada")
    box.add("bob")
    first, second = box.token("ada"), box.token("bob")

    assert 3 == len(first.split("."))
    assert {first.split(".")[1], second.split(".")[1]} == box.listed("tokens", "list").keys()
    found = box.listed("tokens", "list", "Ada")
    assert [first.split(".")[1]] == list(found)
    assert "secret" not in found[first.split(".")[1]]
    shown = box.do("tokens", "list")
    assert ["ada", first.split(".")[1], "made"] == shown.split("\t")[:3]
    assert first.split(".")[2] not in shown
    box.do("tokens", "revoke", "ada", first.split(".")[1])
    assert [second.split(".")[1]] == list(box.listed("tokens", "list"))
    box.do("users", "set-password", "bob", "--password-stdin", given=SECRET)
    assert {} == box.listed("tokens", "list")


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("users", "add", "x", "--role", "user"), "3 to 70 characters"),
        (("users", "add", "o'hara", "--role", "user"), "a-z, 0-9 and _"),
        (("users", "add", "carl", "--role", "king"), "There is no role 'king'; the roles are: admin"),
        (("users", "add", "boss", "--role", "user"), "There is a user boss already"),
        (("users", "set-password", "nobody"), "There is no user 'nobody'"),
        (("users", "roles", "nobody"), "There is no user 'nobody'"),
        (("users", "roles", "boss", "king"), "There is no role 'king'"),
        (("users", "roles", "boss", "user"), "nobody with full control"),
        (("users", "delete", "boss"), "nobody with full control"),
        (("users", "delete", "nobody"), "There is no user 'nobody'"),
        (("tokens", "create", "nobody", "--reason", "x"), "There is no user 'nobody'"),
        (("tokens", "list", "nobody"), "There is no user 'nobody'"),
        (("tokens", "revoke", "boss", "0123"), "boss has no token '0123'"),
    ],
)
def test_refusals(running, args, text):
    """What cannot be is said in one line, with exit code 1, and nothing changes."""
    needs_password = args[1] in {"add", "set-password"}
    before = running.listed("users", "list")

    code, out, err = running.run(*args, *["--password-stdin"] * needs_password, given=SECRET)

    assert (1, "") == (code, out)
    assert text in err
    assert err.startswith("swarmkernel: ")
    assert 1 == err.count("\n")
    assert before == running.listed("users", "list")


def test_nothing_is_done_in_vain(box):
    """Without a store that keeps what is written, a command fails instead of pretending."""
    args = ("users", "add", "ada", "--role", "user", "--password-stdin")
    without = [word for name in (*OTHERS, "store_sql") for word in ("--disable", name)]

    code, out, err = box.run(*args, *without, given=SECRET)

    assert (1, "") == (code, out)
    assert "nothing would be kept" in err


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (b"", "8 to 500 characters"),
        (b"\n", "8 to 500 characters"),
        (b"2 short\n", "8 to 500 characters"),
        (b"x" * 501, "8 to 500 characters"),
        (b"\xff" * 9, "not UTF-8"),
    ],
    ids=["none", "empty", "short", "long", "binary"],
)
def test_bad_passwords(running, given, text):
    """A password on standard input that is missing, too short, too long or not text is refused."""
    code, _, err = running.run("users", "add", "carl", "--role", "user", "--password-stdin", given=given)

    assert 1 == code
    assert text in err
    assert 1 == err.count("\n")
    assert "carl" not in running.listed("users", "list")


def test_passwords_are_no_arguments(running):
    """There is no way to give a password as an argument, where every process of the machine could read it."""
    for command in ("add", "set-password"):
        names = ["--password", SECRET]
        assert 2 == running.run("users", command, "carl", *names)[0]


def test_the_prompt_does_not_echo(box):
    """On a terminal the password is asked for twice, and what is typed is not shown."""
    command = [sys.executable, "-m", "swarmkernel", "users", "add", "ada", "--role", "user"]
    spawn = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    terminal = subprocess.Popen(
        [sys.executable, "-c", spawn, *command, "--data-dir", str(box.data_dir)],
        env={**os.environ, **box.env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    shown = b""
    with terminal:
        for prompt in (b"Password: ", b"confirmation: "):
            while not shown.endswith(prompt):
                letter = terminal.stdout.read(1)
                assert letter, shown
                shown += letter
            terminal.stdin.write(f"{SECRET}\n".encode())
            terminal.stdin.flush()
        shown += terminal.stdout.read()

    assert b"Added ada." in shown
    assert SECRET.encode() not in shown
    assert box.listed("users", "list")["ada"]["has_password"]


def test_a_running_server_follows(running, connect):
    """Users and tokens that were just made are good at once."""
    client = connect(running.token(running.add("fred")))

    assert "fred" == client.post("GetMyUserData")["user_name"]


@pytest.mark.parametrize(
    ("args", "has_more"),
    [
        (("users", "set-password", "{}", "--password-stdin"), False),
        (("users", "roles", "{}", "poweruser"), True),
        (("tokens", "revoke", "{}", "{token}"), False),
        (("users", "delete", "{}"), False),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_sessions_end_within_a_second(running, connect, args, has_more):
    """A running server ends the sessions that a command takes the ground from, and closes their WebSockets."""
    name = running.add(f"{args[0]}_{args[1]}".replace("-", "_"))
    token = running.token(name)
    client, other = connect(token), connect(running.token("boss"))
    with client.socket("Wait") as ws:
        assert '{"waiting":true}' == ws.recv(timeout=10).replace(" ", "")
        running.do(*(arg.format(name, token=token.split(".")[1]) for arg in args), given=SECRET)
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(timeout=1)
        assert 4401 == closed.value.rcvd.code

    assert is_over(client)
    assert not is_over(other)
    assert has_more is ("session_id" in client.raw("GetNewSession").json())


def test_the_first_owner(tmp_path):
    """A server that waits for its first owner opens as soon as the command has made one."""
    box = Box(tmp_path, ENV)
    with LiveServer(box.data_dir, env=box.env) as server:
        client = server.client(login=False)
        assert "setup_required" == client.raw("GetNewSession").json()["error_id"]
        box.add("boss", "owner")

        until = time.monotonic() + 1
        while "setup_required" == (found := client.raw("GetNewSession").json()["error_id"]):
            assert time.monotonic() < until
        assert "not_logged_in" == found


def add_again(box, name):
    """Add a user whose name another may have had, as soon as nothing of theirs is left."""
    until = time.monotonic() + 15
    while True:
        code, _, err = box.run(
            "users", "add", name, "--role", "user", "--password-stdin", given=f"{SECRET}\n"
        )
        if code == 0:
            return name
        assert "former user" in err
        assert time.monotonic() < until
        time.sleep(0.1)


def test_deleted_users_leave_nothing(running, connect):
    """What other plugins keep for a user is deleted with them, whether the server runs then or not."""
    preset = {"title": "mine", "description": "", "param_map": {"prompt": "a secret"}}
    for is_running in (True, False):
        client = connect(running.token(add_again(running, "dora")))
        assert {"success": True} == client.post("AddNewPreset", **preset)
        if not is_running:
            running.server.stop()
        running.do("users", "delete", "dora")
        if not is_running:
            running.server.start()
        else:
            assert ends_within_a_second(client)

        again = connect(running.token(add_again(running, "dora")))
        assert [] == again.post("GetMyUserData")["presets"]
        running.do("users", "delete", "dora")


def test_every_change_is_one_row(running):
    """A command that changes something leaves exactly one row by `console`, one that does not leaves none."""
    name = running.add("rita")
    token = running.token(name)
    changes = {
        ("users", "add", "ruth", "--role", "guest", "--password-stdin"): {"name": "ruth", "role": "guest"},
        ("users", "set-password", "rita", "--password-stdin"): {"name": "rita"},
        ("users", "roles", "rita", "guest"): {"name": "rita", "roles": '["guest"]'},
        ("tokens", "create", "rita", "--reason", "bot"): {"name": "rita", "reason": "bot"},
        ("tokens", "revoke", "rita", "{}"): {"name": "rita", "token": "{}"},
        ("users", "delete", "rita"): {"name": "rita"},
    }
    for args, subject in changes.items():
        token = next(iter(running.listed("tokens", "list", "rita")), token)
        before = rows(running)
        running.do(*(arg.format(token) for arg in args), given=SECRET)
        running.do("users", "list")
        running.run("users", "roles", "rita", "king")

        found = rows(running)[len(before) :]
        assert [("console", " ".join(args[:2]), "ok")] == [row[:3] for row in found]
        assert {key: value.format(token) for key, value in subject.items()} == found[0][3]
        assert SECRET not in str(found)


def rows(box):
    """The audit log of a data folder, oldest row first: who, what, how it went, on whom."""
    found = with_store(
        lambda services: services.get(Audit).entries(limit=1000),
        config=None,
        data_dir=box.data_dir,
        disable=tuple(OTHERS),
    )
    return [(row.user_id, row.action, row.result, row.subject) for row in reversed(found)]


def test_without_accounts(tmp_path):
    """Users and tokens can be prepared, beside a running server too, while accounts are not required."""
    box = Box(tmp_path, {**ENV, "SWARMKERNEL_ACCOUNTS__REQUIRED": "false"})
    with LiveServer(box.data_dir, env=box.env) as server:
        box.add("boss", "owner")
        token = box.token("boss")
        assert "local" == server.client().post("GetMyUserData")["user_name"]

    with LiveServer(box.data_dir, env=ENV) as server:
        client = server.client(login=False)
        assert "not_logged_in" == client.raw("GetNewSession").json()["error_id"]
        client.http.headers["Authorization"] = f"Bearer {token}"
        assert "boss" == client.login().post("GetMyUserData")["user_name"]


def test_import(box, tmp_path):
    """Users of another server come over with their hashes; one that is wrong keeps all of them out."""
    salt = base64.b64encode(b"0123456789abcdef").decode()
    made = hashlib.pbkdf2_hmac(
        "sha256", f"*SwarmHashedPw:cleo:{SECRET}*".encode(), b"0123456789abcdef", 10_000
    )
    hashed = f"swarmpw_v1:{salt}:{base64.b64encode(made).decode()}"
    cleo = {"name": "Cleo", "roles": ["user", "guest"], "password": hashed}
    file = tmp_path / "users.json"
    for wrong in (
        [cleo, {"name": "dan", "roles": ["user"], "password": "hunter22"}],
        [cleo, {"name": "d-n", "roles": ["user"], "password": None}],
        [cleo, {"name": "dan", "roles": ["nosuch"], "password": None}],
        [cleo, {"name": "dan", "roles": "user", "password": None}],
        [cleo, {"name": "dan"}],
        [cleo, cleo],
        {"users": []},
    ):
        file.write_text(json.dumps(wrong))
        code, _, err = box.run("users", "import", str(file))
        assert (1, 1) == (code, len(err.splitlines())), err
        assert "hunter22" not in err
        assert {} == box.listed("users", "list")

    assert "Added 1 users.\n" == box.do("users", "import", "-", given=json.dumps([cleo]))
    assert (["user", "guest"], True) == tuple(
        box.listed("users", "list")["cleo"][key] for key in ("roles", "has_password")
    )
    box.add("ann", "owner")
    with LiveServer(box.data_dir, env=ENV) as server:
        client = server.client(login=False)
        answers = [client.post("Login", username="cleo", password=p) for p in ("wrong password", SECRET)]

    assert ["invalid_login", None] == [answer.get("error_id") for answer in answers]
