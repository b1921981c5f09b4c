"""Users of a server that requires accounts: made by its own routes, each with a client of their own."""

import json
import os
import re
import subprocess
import sys
import time

import attrs
import orjson

from swarmkernel.testing import Client, LiveServer
from tests.security.raw import JSON, Reply, send

ROLES = ("guest", "user", "poweruser", "admin", "owner")
PASSWORD = "correct horse battery {}"


def limited(**limits: int) -> dict[str, str]:
    """Variables that require accounts, and under which only the named limits of logins count."""
    names = ("logins_per_address", "logins_per_network", "logins_per_name", "failed_logins")
    found = {f"SWARMKERNEL_ACCOUNTS__{name.upper()}": str(limits.get(name, 100_000)) for name in names}
    return {"SWARMKERNEL_ACCOUNTS__REQUIRED": "true"} | found


#: Accounts, and logins without a limit.
REQUIRED = limited()


def setup_token(server: LiveServer) -> str:
    """The one-time token that the server printed for its first owner."""
    return re.search(r"setup_token.*?\b([0-9a-f]{20,})\b", server.wait_for_log("setup_token"))[1]


def log_in(server: LiveServer, name: str, password: str | None = None) -> Client:
    """A client that has logged in and opened a session."""
    client = server.client(login=False)
    answer = client.raw("Login", {"username": name, "password": password or PASSWORD.format(name)})
    assert {"success": "true"} == answer.json(), answer.text
    return client.login()


def login(
    server: LiveServer, name: str = "someone", password: str = "a wrong password", headers=(), **kwargs
) -> Reply:
    """An attempt to log in, from an address of one's choice."""
    body = json.dumps({"username": name, "password": password}).encode()
    return send(server, "POST", "/API/Login", [*JSON, *headers], body, **kwargs)


def command(server: LiveServer, *args: str, given: str = "") -> subprocess.CompletedProcess:
    """Run the installed command on the data of a server."""
    return subprocess.run(
        [sys.executable, "-m", "swarmkernel", *args, "--data-dir", str(server.data_dir)],
        env={**os.environ, **server.env},
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@attrs.define
class People:
    """Everybody on one server; *owner* is the first one's client."""

    server: LiveServer
    owner: Client = attrs.field(init=False)
    _count: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        body = {
            "username": "boss",
            "password": PASSWORD.format("boss"),
            "setup_token": setup_token(self.server),
        }
        answer = self.server.client(login=False).raw("RegisterBasic", body)
        assert {"success": "true"} == answer.json(), answer.text
        self.owner = log_in(self.server, "boss")

    def add(self, role: str = "user", name: str = "") -> str:
        """Add a user, and give the name."""
        self._count += 1
        name = name or f"{role}{self._count}"
        self.done("AdminAddUser", name=name, password=PASSWORD.format(name), role=role)
        return name

    def client(self, role: str = "user") -> Client:
        """A new user's client; its `user_id` is the name."""
        return log_in(self.server, self.add(role))

    def done(self, route: str, **body) -> dict:
        """Something that the owner does, which succeeds."""
        answer = self.owner.post(route, **body)
        assert answer.get("success") in {True, "true"}, (route, body, answer)
        return answer

    def role(self, name: str, permissions, **changes) -> str:
        """Make a role, or change it, to hold exactly these permissions."""
        if name not in self.owner.post("AdminListRoles")["roles"]:
            self.done("AdminAddRole", name=name)
        facts = {"max_outpath_depth": 5, "max_t2i_simultaneous": 32, "allow_unsafe_outpaths": False}
        facts |= {"model_whitelist": "", "model_blacklist": "", "description": "", **changes}
        self.done("AdminEditRole", name=name, permissions=",".join(permissions), **facts)
        return name


def routes_of(server: LiveServer) -> dict[str, dict]:
    """The whole route table of an installation: by name its transport, permission, and named parameters with a type."""
    listed = json.loads(command(server, "routes", "--format", "json").stdout)
    return {
        row["name"]: {
            "streams": row["transport"] == "websocket",
            "permission": None if row["permission"] == "public" else row["permission"],
            "parameters": dict(
                re.findall(r"(\w+): (string|integer|number|boolean|array)", row["parameters"])
            ),
        }
        for row in listed
    }


def ask(client: Client, route: str, facts: dict, body: dict) -> dict:
    """The first answer of a route, over whichever transport it has."""
    if not facts["streams"]:
        return client.post(route, **body)
    with client.socket(route, **body) as ws:
        return orjson.loads(ws.recv(timeout=20))


def within(seconds: float, condition) -> float:
    """How long it took until something was true, or an error if it is not after that long."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "still not so"
        time.sleep(0.02)
    return time.monotonic() - began
